//! Which addresses are listened at in a network namespace, as the kernel has it?

use super::{LabError, network::Namespace};
use crate::packet::Protocol;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// Every address in `namespace` at which `port` is listened at (TCP), or that is
/// bound and not connected (UDP). IPv4-mapped addresses are given as IPv4 ones.
///
/// # Errors
/// The kernel does not say.
pub fn listeners(
    namespace: &Namespace,
    protocol: Protocol,
    port: u16,
) -> Result<Vec<SocketAddr>, LabError> {
    let mut found = Vec::new();
    for family in ["", "6"] {
        // `self` would be the main thread's namespace.
        let path = format!("/proc/thread-self/net/{}{family}", protocol.word());
        let table = namespace.within(|| std::fs::read_to_string(&path))?;
        let table = table.map_err(|source| LabError::io(path, source))?;
        found.extend(
            listening(&table, protocol).into_iter().filter(|address| address.port() == port),
        );
    }
    found.sort_unstable();
    // A table that changes while it is read may show a socket twice.
    found.dedup();
    Ok(found)
}

/// Reads one table of /proc/net: proc(5), net/ipv4/tcp_ipv4.c `get_tcp4_sock`.
fn listening(table: &str, protocol: Protocol) -> Vec<SocketAddr> {
    // TCP_LISTEN, and TCP_CLOSE for a socket of UDP or ping without a peer.
    let state = match protocol {
        Protocol::Tcp => "0A",
        Protocol::Udp | Protocol::Icmp => "07",
    };
    let rows = table.lines().skip(1).map(|row| row.split_ascii_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.get(3) == Some(&state)).filter_map(|row| endpoint(row.get(1)?)).collect()
}

/// `0100007F:1F90`: each 32-bit word as the machine has it, the port in hex.
fn endpoint(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = address.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    if address.len() == 8 {
        return Some((Ipv4Addr::from(word(0)?), port).into());
    }
    let mut octets = [0; 16];
    for (at, chunk) in octets.chunks_exact_mut(4).enumerate() {
        chunk.copy_from_slice(&word(at)?);
    }
    Some(SocketAddr::new(Ipv6Addr::from(octets).to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn proc_tables_are_read() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid
   0: 6502A8C0:1451 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0
   1: 0100007F:1451 0100007F:C350 01 00000000:00000000 00:00000000 00000000  0
   2: 0000000000000000FFFF000065004D0A:1451 00000000000000000000000000000000:0000 0A 0
   3: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0
";
        let expected: Vec<SocketAddr> = ["192.168.2.101:5201", "10.77.0.101:5201", "[::]:80"]
            .map(|a| a.parse().unwrap())
            .into();
        assert_eq!(listening(table, Protocol::Tcp), expected);
        assert!(listening(table, Protocol::Udp).is_empty());
    }

    #[test]
    fn nonsense_is_no_address() {
        for text in ["", ":", "12:zz", "0100007F", "0100:0050", "0100007F0100007F:0050"] {
            assert_eq!(endpoint(text), None, "{text}");
        }
    }
}
