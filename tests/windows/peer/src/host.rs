//! What of this host changes that the driver has to know?

use nix::ifaddrs::getifaddrs;
use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr};

/// Its addresses, IPv4 ones mapped.
pub(crate) fn addresses() -> BTreeSet<Ipv6Addr> {
    let Ok(found) = getifaddrs() else { return BTreeSet::new() };
    found
        .filter_map(|interface| {
            let address = interface.address?;
            if let Some(v4) = address.as_sockaddr_in() {
                return Some(v4.ip().to_ipv6_mapped());
            }
            address.as_sockaddr_in6().map(|v6| v6.ip())
        })
        .collect()
}

/// Where a packet comes from, as [`addresses`] writes it.
pub(crate) fn source(packet: &[u8]) -> Option<Ipv6Addr> {
    if packet.first()? >> 4 == 4 {
        let bytes: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
        return Some(match IpAddr::from(bytes) {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        });
    }
    let bytes: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
    Some(bytes.into())
}

/// A number that differs when a socket is made, bound, connected, listens, is
/// closed or changes hands (proc(5), `/proc/net/tcp`).
pub(crate) fn sockets() -> u64 {
    let mut sum = 0_u64;
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let Ok(text) = fs::read_to_string(format!("/proc/self/net/{table}")) else { continue };
        for line in text.lines().skip(1) {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            if let [_, local, remote, state, _, _, _, _, _, inode, ..] = words.as_slice() {
                let mut hasher = DefaultHasher::new();
                (table, local, remote, *state == "0A", inode).hash(&mut hasher);
                sum = sum.wrapping_add(hasher.finish()); // in whatever order they stand
            }
        }
    }
    sum
}
