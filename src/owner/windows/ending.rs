//! How do the connections from an address end that is taken away?

use super::clock::Clock;
use super::list::List;
use crate::owner::table::State;
use crate::packet::{Endpoint, Protocol};
use std::io;
use std::net::IpAddr;
use windows_sys::Win32::Foundation::NO_ERROR;
use windows_sys::Win32::NetworkManagement::IpHelper::{
    MIB_TCP_STATE_DELETE_TCB, MIB_TCPROW_LH, MIB_TCPROW_LH_0, SetTcpEntry,
};

/// Ends the TCP connections from `address`, and says how many. Windows has no way
/// to end another program's listener or UDP socket, nor an IPv6 connection: those
/// stay, at an address that is gone.
///
/// # Errors
/// The system gives no list of them.
pub fn end_bound_to(address: IpAddr) -> io::Result<usize> {
    let mut list = List::default();
    let rows = list.read(&Clock::new())?;
    let ended = rows.iter().filter(|row| {
        let State::TalksTo(remote) = row.state else { return false };
        row.protocol == Protocol::Tcp && row.local.address == address && end(row.local, remote)
    });
    Ok(ended.count())
}

fn end(local: Endpoint, remote: Endpoint) -> bool {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (local.address, remote.address) else { return false };
    // Addresses and ports in network order, as they lie in memory.
    let port = |port: u16| u32::from(u16::from_ne_bytes(port.to_be_bytes()));
    let row = MIB_TCPROW_LH {
        Anonymous: MIB_TCPROW_LH_0 { dwState: MIB_TCP_STATE_DELETE_TCB.cast_unsigned() },
        dwLocalAddr: u32::from_ne_bytes(from.octets()),
        dwLocalPort: port(local.port),
        dwRemoteAddr: u32::from_ne_bytes(to.octets()),
        dwRemotePort: port(remote.port),
    };
    // SAFETY: the row is only read.
    #[expect(unsafe_code, reason = "a call into iphlpapi")]
    let status = unsafe { SetTcpEntry(&raw const row) };
    status == NO_ERROR
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn connections_of_an_address_are_ended_and_not_those_of_others() {
        let [address, other] = ["127.0.0.77", "127.0.0.78"].map(|text| text.parse().unwrap());
        let listener = TcpListener::bind((address, 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert_eq!(end_bound_to(other).unwrap(), 0);
        // What was accepted has that address, and the client may.
        let ends = [&client, &accepted].map(|end| end.local_addr().unwrap().ip());
        let own = ends.iter().filter(|&&end| end == address).count();
        assert!(own > 0);
        assert_eq!(end_bound_to(address).unwrap(), own);
    }
}
