//! Which unicast addresses are there? Rows of the system's table, one added or
//! removed.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr;
use windows_sys::Win32::NetworkManagement::IpHelper::{
    CreateUnicastIpAddressEntry, DeleteUnicastIpAddressEntry, FreeMibTable,
    GetUnicastIpAddressTable, InitializeUnicastIpAddressEntry, MIB_UNICASTIPADDRESS_ROW,
    MIB_UNICASTIPADDRESS_TABLE,
};
use windows_sys::Win32::Networking::WinSock::{
    AF_INET, AF_INET6, AF_UNSPEC, IpDadStateDeprecated, IpDadStateDuplicate, IpDadStatePreferred,
    SOCKADDR_INET,
};

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) address: IpAddr,
    /// Its interface's index.
    pub(super) interface: u32,
    /// Of the on-link subnet.
    pub(super) prefix_length: u8,
    pub(super) skip_as_source: bool,
    pub(super) standing: Standing,
}

/// What came of asking the neighbours for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// They were not asked to the end.
    Tentative,
    /// Nobody has it: it can be bound.
    Usable,
    /// Somebody has it.
    Duplicate,
}

/// All addresses of all interfaces.
#[expect(unsafe_code, reason = "iphlpapi allocates the table")]
pub(super) fn rows() -> io::Result<Vec<Row>> {
    let mut table: *mut MIB_UNICASTIPADDRESS_TABLE = ptr::null_mut();
    // SAFETY: the call writes the pointer.
    done(unsafe { GetUnicastIpAddressTable(AF_UNSPEC, &raw mut table) })?;
    // SAFETY: the table is there, with as many rows as it says, and is freed once,
    // after the last use.
    unsafe {
        let first = (&raw const (*table).Table).cast::<MIB_UNICASTIPADDRESS_ROW>();
        let all = std::slice::from_raw_parts(first, (*table).NumEntries as usize);
        let rows = all.iter().filter_map(row).collect();
        FreeMibTable(table.cast());
        Ok(rows)
    }
}

/// Puts `address` on an interface: without a subnet, for ever, but not beyond a
/// reboot. `skip_as_source`: nothing is sent from it that does not ask for it.
pub(super) fn add(address: IpAddr, interface: u32, skip_as_source: bool) -> io::Result<()> {
    let mut row = blank();
    row.Address = socket_address(address);
    row.InterfaceIndex = interface;
    row.OnLinkPrefixLength = if address.is_ipv4() { 32 } else { 128 };
    row.SkipAsSource = skip_as_source;
    row.ValidLifetime = u32::MAX;
    row.PreferredLifetime = u32::MAX;
    #[expect(unsafe_code, reason = "a call into iphlpapi")]
    // SAFETY: the row was initialised by the system, and is only read.
    done(unsafe { CreateUnicastIpAddressEntry(&raw const row) })
}

/// Takes it off again.
pub(super) fn remove(row: &Row) -> io::Result<()> {
    let mut wanted = blank();
    wanted.Address = socket_address(row.address);
    wanted.InterfaceIndex = row.interface;
    #[expect(unsafe_code, reason = "a call into iphlpapi")]
    // SAFETY: the row was initialised by the system, and is only read.
    done(unsafe { DeleteUnicastIpAddressEntry(&raw const wanted) })
}

#[expect(unsafe_code, reason = "iphlpapi fills it")]
fn blank() -> MIB_UNICASTIPADDRESS_ROW {
    let mut row = MIB_UNICASTIPADDRESS_ROW::default();
    // SAFETY: the call writes the row.
    unsafe { InitializeUnicastIpAddressEntry(&raw mut row) };
    row
}

/// `None`: neither IPv4 nor IPv6.
fn row(row: &MIB_UNICASTIPADDRESS_ROW) -> Option<Row> {
    let standing = if row.DadState == IpDadStateDuplicate {
        Standing::Duplicate
    } else if [IpDadStatePreferred, IpDadStateDeprecated].contains(&row.DadState) {
        Standing::Usable
    } else {
        Standing::Tentative
    };
    Some(Row {
        address: ip(&row.Address)?,
        interface: row.InterfaceIndex,
        prefix_length: row.OnLinkPrefixLength,
        skip_as_source: row.SkipAsSource,
        standing,
    })
}

#[expect(unsafe_code, reason = "a union of two families")]
pub(super) fn ip(address: &SOCKADDR_INET) -> Option<IpAddr> {
    // SAFETY: both members begin with the family, which says which one is there; all
    // their parts are numbers, for which any bytes are a value.
    unsafe {
        match address.si_family {
            AF_INET => {
                let octets = address.Ipv4.sin_addr.S_un.S_addr.to_ne_bytes();
                Some(Ipv4Addr::from(octets).into())
            }
            AF_INET6 => Some(Ipv6Addr::from(address.Ipv6.sin6_addr.u.Byte).into()),
            _ => None,
        }
    }
}

fn socket_address(address: IpAddr) -> SOCKADDR_INET {
    let mut inet = SOCKADDR_INET::default();
    match address {
        IpAddr::V4(address) => {
            inet.Ipv4.sin_family = AF_INET;
            inet.Ipv4.sin_addr.S_un.S_addr = u32::from_ne_bytes(address.octets());
        }
        IpAddr::V6(address) => {
            inet.Ipv6.sin6_family = AF_INET6;
            inet.Ipv6.sin6_addr.u.Byte = address.octets();
        }
    }
    inet
}

pub(super) fn done(status: u32) -> io::Result<()> {
    match status {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error.cast_signed())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_go_there_and_back() {
        for text in ["10.77.0.101", "fd73:6970::7"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(ip(&socket_address(address)), Some(address));
        }
        assert_eq!(ip(&SOCKADDR_INET::default()), None);
    }

    #[test]
    fn what_the_neighbours_said_is_read() {
        let mut entry = MIB_UNICASTIPADDRESS_ROW {
            Address: socket_address("10.77.0.101".parse().unwrap()),
            ..Default::default()
        };
        for (state, standing) in [
            (IpDadStatePreferred, Standing::Usable),
            (IpDadStateDeprecated, Standing::Usable),
            (IpDadStateDuplicate, Standing::Duplicate),
            (1, Standing::Tentative),
            (0, Standing::Tentative),
        ] {
            entry.DadState = state;
            assert_eq!(row(&entry).unwrap().standing, standing);
        }
    }
}
