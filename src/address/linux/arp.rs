//! Does somebody else on the network have that address?
//!
//! RFC 5227, in the part that matters here: one question before an address is
//! given, one announcement after. Only root has packet sockets.

use super::line::Line;
use crate::address::Adapter;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

/// No logon waits longer for its address.
pub const LONGEST_PROBE: Duration = Duration::from_millis(200);

/// The neighbours cannot be asked or told.
#[derive(Debug, thiserror::Error)]
#[error("cannot speak ARP on {adapter}")]
pub struct ArpError {
    adapter: String,
    #[source]
    source: io::Error,
}

/// Asks whether another host has `address` or is about to take it, for at most
/// `timeout` and never longer than [`LONGEST_PROBE`]. Nobody answers on an adapter
/// that does not speak ARP. To be asked before the address is put on.
///
/// # Errors
/// The adapter is gone or down, or the caller is not root.
pub fn probe(adapter: &Adapter, address: Ipv4Addr, timeout: Duration) -> Result<bool, ArpError> {
    let Some(mac) = adapter.mac else { return Ok(false) };
    let ask = || {
        let line = line(adapter)?;
        let claims = |bytes: &[u8]| {
            Packet::from_bytes(bytes).is_some_and(|packet| packet.claims(address, mac))
        };
        // Twice, because a packet may be lost.
        for _ in 0..2 {
            line.broadcast(&Packet::probe(mac, address).to_bytes())?;
            if line.hears(timeout.min(LONGEST_PROBE) / 2, claims)? {
                return Ok(true);
            }
        }
        Ok(false)
    };
    ask().map_err(|source| ArpError { adapter: adapter.name.clone(), source })
}

/// Tells all neighbours that `address` is here now, so that those who knew it
/// elsewhere learn it at once (gratuitous ARP).
///
/// # Errors
/// The adapter is gone or down, or the caller is not root.
pub fn announce(adapter: &Adapter, address: Ipv4Addr) -> Result<(), ArpError> {
    let Some(mac) = adapter.mac else { return Ok(()) };
    line(adapter)
        .and_then(|line| line.broadcast(&Packet::announcement(mac, address).to_bytes()))
        .map_err(|source| ArpError { adapter: adapter.name.clone(), source })
}

/// An ARP packet for IPv4 over Ethernet (RFC 826).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packet {
    operation: u16,
    sender: ([u8; 6], Ipv4Addr),
    target: ([u8; 6], Ipv4Addr),
}

const REQUEST: u16 = 1;
/// Ethernet, IPv4, and how long their addresses are.
const HEAD: [u8; 6] = [0, 1, 8, 0, 6, 4];
const LENGTH: usize = 28;

impl Packet {
    /// A question that puts nothing into anybody's table: the sender has no
    /// address (RFC 5227, section 2.1.1).
    fn probe(mac: [u8; 6], address: Ipv4Addr) -> Self {
        let sender = (mac, Ipv4Addr::UNSPECIFIED);
        Self { operation: REQUEST, sender, target: ([0; 6], address) }
    }

    /// RFC 5227, section 2.3.
    fn announcement(mac: [u8; 6], address: Ipv4Addr) -> Self {
        Self { operation: REQUEST, sender: (mac, address), target: ([0; 6], address) }
    }

    /// Does it say that another host than `mac` has `address`, or is asking for it
    /// in order to take it?
    fn claims(&self, address: Ipv4Addr, mac: [u8; 6]) -> bool {
        let has = self.sender.1 == address;
        let probes =
            self.operation == REQUEST && self.sender.1.is_unspecified() && self.target.1 == address;
        self.sender.0 != mac && (has || probes)
    }

    fn to_bytes(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..6].copy_from_slice(&HEAD);
        bytes[6..8].copy_from_slice(&self.operation.to_be_bytes());
        for (at, (mac, address)) in [(8, self.sender), (18, self.target)] {
            bytes[at..at + 6].copy_from_slice(&mac);
            bytes[at + 6..at + 10].copy_from_slice(&address.octets());
        }
        bytes
    }

    /// `None`: no such packet.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<6>()?;
        let (operation, rest) = rest.split_first_chunk::<2>()?;
        let (sender_mac, rest) = rest.split_first_chunk::<6>()?;
        let (sender, rest) = rest.split_first_chunk::<4>()?;
        let (target_mac, rest) = rest.split_first_chunk::<6>()?;
        let target = rest.first_chunk::<4>()?;
        (*head == HEAD).then(|| Self {
            operation: u16::from_be_bytes(*operation),
            sender: (*sender_mac, Ipv4Addr::from(*sender)),
            target: (*target_mac, Ipv4Addr::from(*target)),
        })
    }
}

fn line(adapter: &Adapter) -> io::Result<Line> {
    Line::open(adapter, libc::ETH_P_ARP as u16, &[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 101);

    #[test]
    fn a_probe_is_as_rfc_5227_has_it() {
        let bytes = Packet::probe(OURS, ADDRESS).to_bytes();
        let expected = [
            0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 77, 0, 101,
        ];
        assert_eq!(bytes, expected);
    }

    #[test]
    fn who_else_has_or_wants_the_address_is_heard() {
        let asker = Ipv4Addr::new(10, 77, 0, 2);
        let ask = Packet { operation: REQUEST, sender: (THEIRS, asker), target: ([0; 6], ADDRESS) };
        for (packet, expected) in [
            (Packet::announcement(THEIRS, ADDRESS), true),
            (Packet { operation: 2, ..Packet::announcement(THEIRS, ADDRESS) }, true),
            (Packet::probe(THEIRS, ADDRESS), true),
            (Packet::probe(OURS, ADDRESS), false),
            (Packet::announcement(OURS, ADDRESS), false),
            (ask, false),
        ] {
            assert_eq!(packet.claims(ADDRESS, OURS), expected, "{packet:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(packet) = Packet::from_bytes(&bytes) {
                prop_assert_eq!(&packet.to_bytes()[..], &bytes[..LENGTH]);
            }
        }
    }
}
