//! Which sockets does the system list, and whose?

use super::clock::Clock;
use crate::owner::table::{Row, State};
use crate::packet::{Endpoint, Protocol};
use std::ffi::c_void;
use std::io;
use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use windows_sys::Win32::Foundation::{
    ERROR_INSUFFICIENT_BUFFER, ERROR_NO_DATA, ERROR_NOT_SUPPORTED, NO_ERROR,
};
use windows_sys::Win32::NetworkManagement::IpHelper::{
    GetExtendedTcpTable, GetExtendedUdpTable, MIB_TCP_STATE_LISTEN, MIB_TCP6ROW_OWNER_MODULE,
    MIB_TCP6TABLE_OWNER_MODULE, MIB_TCPROW_OWNER_MODULE, MIB_TCPTABLE_OWNER_MODULE,
    MIB_UDP6ROW_OWNER_MODULE, MIB_UDP6TABLE_OWNER_MODULE, MIB_UDPROW_OWNER_MODULE,
    MIB_UDPTABLE_OWNER_MODULE, TCP_TABLE_OWNER_MODULE_ALL, UDP_TABLE_OWNER_MODULE,
};
use windows_sys::Win32::Networking::WinSock::{AF_INET, AF_INET6};

/// How often a list that has grown meanwhile is asked for again.
const ATTEMPTS: usize = 8;
/// No list is longer: a quarter of a million sockets.
const LONGEST: usize = 64 << 20;

/// Reads the owner tables, into a buffer that is used again.
#[derive(Debug, Default)]
pub(super) struct List {
    /// Numbers of 64 bits, for the tables hold such.
    buffer: Vec<u64>,
    rows: Vec<Row>,
}

/// `GetExtendedTcpTable` and `GetExtendedUdpTable`, without what differs.
type Ask = fn(*mut c_void, &mut u32, u32) -> u32;

impl List {
    /// Every TCP and UDP socket that has a local port, except for TCP sockets that
    /// neither listen nor talk.
    ///
    /// # Errors
    /// The system did not give one of the lists.
    pub(super) fn read(&mut self, clock: &Clock) -> io::Result<&[Row]> {
        let mut rows = std::mem::take(&mut self.rows);
        rows.clear();
        let (v4, v6) = (u32::from(AF_INET), u32::from(AF_INET6));
        self.fill(tcp, v4)?;
        let first = offset_of!(MIB_TCPTABLE_OWNER_MODULE, table);
        rows.extend(self.each(first).map(|row| tcp4(&row, clock)));
        self.fill(tcp, v6)?;
        let first = offset_of!(MIB_TCP6TABLE_OWNER_MODULE, table);
        rows.extend(self.each(first).map(|row| tcp6(&row, clock)));
        self.fill(udp, v4)?;
        let first = offset_of!(MIB_UDPTABLE_OWNER_MODULE, table);
        rows.extend(self.each(first).map(|row| udp4(&row, clock)));
        self.fill(udp, v6)?;
        let first = offset_of!(MIB_UDP6TABLE_OWNER_MODULE, table);
        rows.extend(self.each(first).map(|row| udp6(&row, clock)));
        self.rows = rows;
        Ok(&self.rows)
    }

    /// Reads one table into the buffer.
    fn fill(&mut self, ask: Ask, family: u32) -> io::Result<()> {
        if self.buffer.is_empty() {
            self.buffer.resize(8192, 0);
        }
        let mut status = ERROR_INSUFFICIENT_BUFFER;
        for _ in 0..ATTEMPTS {
            let there = size_of_val(self.buffer.as_slice());
            let mut size = u32::try_from(there).unwrap_or(u32::MAX);
            status = ask(self.buffer.as_mut_ptr().cast(), &mut size, family);
            let needed = usize::try_from(size).unwrap_or(LONGEST);
            match status {
                // With some room, for it grows on.
                ERROR_INSUFFICIENT_BUFFER if needed <= LONGEST => {
                    self.buffer.resize(needed.max(there).div_ceil(8) * 5 / 4, 0);
                }
                NO_ERROR => return Ok(()),
                // A host without this IP version.
                ERROR_NOT_SUPPORTED | ERROR_NO_DATA => {
                    self.buffer.fill(0);
                    return Ok(());
                }
                _ => break,
            }
        }
        Err(io::Error::from_raw_os_error(status.cast_signed()))
    }

    /// The rows of the table in the buffer, which begin at `first`, behind their
    /// number.
    fn each<T: Copy>(&self, first: usize) -> impl Iterator<Item = T> {
        let there = size_of_val(self.buffer.as_slice()).saturating_sub(first) / size_of::<T>();
        let count = self.buffer.first().map_or(0, |word| *word & u64::from(u32::MAX));
        let count = usize::try_from(count).unwrap_or(0).min(there);
        let start = self.buffer.as_ptr().cast::<u8>();
        (0..count).map(move |index| {
            // SAFETY: `count` rows of plain numbers fit into the buffer behind
            // `first`; the buffer outlives this iterator, which borrows it.
            #[expect(unsafe_code, reason = "tables of C structures")]
            unsafe {
                start.add(first + index * size_of::<T>()).cast::<T>().read_unaligned()
            }
        })
    }
}

fn tcp(table: *mut c_void, size: &mut u32, family: u32) -> u32 {
    // SAFETY: the table is as long as `size` says, or it is not written to.
    #[expect(unsafe_code, reason = "a call into iphlpapi")]
    unsafe {
        GetExtendedTcpTable(table, &raw mut *size, 0, family, TCP_TABLE_OWNER_MODULE_ALL, 0)
    }
}

fn udp(table: *mut c_void, size: &mut u32, family: u32) -> u32 {
    // SAFETY: the table is as long as `size` says, or it is not written to.
    #[expect(unsafe_code, reason = "a call into iphlpapi")]
    unsafe {
        GetExtendedUdpTable(table, &raw mut *size, 0, family, UDP_TABLE_OWNER_MODULE, 0)
    }
}

fn tcp4(row: &MIB_TCPROW_OWNER_MODULE, clock: &Clock) -> Row {
    let local = endpoint(v4(row.dwLocalAddr), row.dwLocalPort);
    let remote = endpoint(v4(row.dwRemoteAddr), row.dwRemotePort);
    tcp_row(local, remote, row.dwState, row.dwOwningPid, since(row.liCreateTimestamp, clock))
}

fn tcp6(row: &MIB_TCP6ROW_OWNER_MODULE, clock: &Clock) -> Row {
    let local = endpoint(v6(row.ucLocalAddr), row.dwLocalPort);
    let remote = endpoint(v6(row.ucRemoteAddr), row.dwRemotePort);
    tcp_row(local, remote, row.dwState, row.dwOwningPid, since(row.liCreateTimestamp, clock))
}

fn tcp_row(
    local: Endpoint,
    remote: Endpoint,
    state: u32,
    pid: u32,
    since: Option<crate::owner::table::Moment>,
) -> Row {
    let listens = state == MIB_TCP_STATE_LISTEN.cast_unsigned();
    let state = if listens { State::Receives } else { State::TalksTo(remote) };
    Row { protocol: Protocol::Tcp, local, state, pid, since }
}

fn udp4(row: &MIB_UDPROW_OWNER_MODULE, clock: &Clock) -> Row {
    Row {
        protocol: Protocol::Udp,
        local: endpoint(v4(row.dwLocalAddr), row.dwLocalPort),
        state: State::Receives,
        pid: row.dwOwningPid,
        since: since(row.liCreateTimestamp, clock),
    }
}

fn udp6(row: &MIB_UDP6ROW_OWNER_MODULE, clock: &Clock) -> Row {
    Row {
        protocol: Protocol::Udp,
        local: endpoint(v6(row.ucLocalAddr), row.dwLocalPort),
        state: State::Receives,
        pid: row.dwOwningPid,
        since: since(row.liCreateTimestamp, clock),
    }
}

/// The tables have addresses in network order, byte by byte.
fn v4(address: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(address.to_ne_bytes()))
}

/// An IPv4 address that an IPv6 socket uses is one.
fn v6(address: [u8; 16]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(address)).to_canonical()
}

/// The tables have ports in network order, in the lower half.
fn endpoint(address: IpAddr, port: u32) -> Endpoint {
    let [high, low, ..] = port.to_le_bytes();
    Endpoint::new(address, u16::from_be_bytes([high, low]))
}

fn since(time: i64, clock: &Clock) -> Option<crate::owner::table::Moment> {
    let time = u64::try_from(time).ok().filter(|time| *time != 0)?;
    clock.of_time(time)
}
