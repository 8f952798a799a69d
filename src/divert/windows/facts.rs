//! What does WinDivert say of a packet, and which of its checksums are real?

use crate::engine::{Begun, Checksum, Direction, Facts};
use crate::packet::Protocol;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;
use windivert::address::WinDivertAddress;
use windivert::layer::NetworkLayer;

/// What WinDivert says of a packet, and is told of it again when it goes on. It
/// stays as it came but for [`facts_of`]: an outbound packet stays outbound even
/// where both its ends are on this host, an inbound one keeps its interfaces.
#[derive(Clone)]
#[repr(transparent)]
pub(crate) struct Address(WinDivertAddress<NetworkLayer>);

impl fmt::Debug for Address {
    /// The crate's own would have WinDivert.dll linked: see [`dll`](super::dll).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address")
            .field("outbound", &self.outbound())
            .field("interface", &self.interface_index())
            .finish_non_exhaustive()
    }
}

impl Deref for Address {
    type Target = WinDivertAddress<NetworkLayer>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Address {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

/// A checksum flag of 1 says that the packet carries a real checksum; it is
/// corrected with the packet and goes on as real. With 0 it was left to the card
/// on the way out, or checked by it on the way in, and the driver computes
/// whatever is there in full when the packet goes on: nothing is worth computing
/// here, but [`Checksum::Partial`] costs the least.
///
/// Of the two with 0, a UDP checksum of zero in IPv4 is none at all (RFC 768):
/// its flag is set, so that the driver leaves it. An ICMP checksum is always
/// real: there is no offload for it, and the driver computes none.
pub(super) fn facts_of(packet: &[u8], address: &mut Address) -> Facts {
    let real = match protocol_of(packet) {
        Some(Protocol::Tcp) => address.tcp_checksum(),
        Some(Protocol::Udp) => {
            if !address.udp_checksum() && has_no_udp_checksum(packet) {
                address.set_udp_checksum(true);
            }
            address.udp_checksum()
        }
        Some(Protocol::Icmp) | None => true,
    };
    Facts {
        direction: if address.outbound() { Direction::Out } else { Direction::In },
        loopback: address.loopback(),
        interface: address.interface_index(),
        checksum: if real { Checksum::Real } else { Checksum::Partial },
        begun: Begun::Unknown,
        held: Duration::ZERO,
    }
}

/// By the IP header alone. Behind IPv6 extension headers it counts as unknown,
/// and so as real: a wrong checksum stays wrong, and is computed by the driver.
fn protocol_of(packet: &[u8]) -> Option<Protocol> {
    let at = if is_ipv4(packet) { 9 } else { 6 };
    match packet.get(at)? {
        6 => Some(Protocol::Tcp),
        17 => Some(Protocol::Udp),
        _ => None,
    }
}

fn has_no_udp_checksum(packet: &[u8]) -> bool {
    let header = packet.first().map_or(0, |first| usize::from(first & 0xf) * 4);
    is_ipv4(packet) && packet.get(header + 6..header + 8) == Some(&[0, 0])
}

fn is_ipv4(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first >> 4 == 4)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use windivert_sys::address::WINDIVERT_ADDRESS;

    /// As of an outbound packet that is on its way to the card with everything
    /// left to be computed.
    pub(in super::super) fn address(ipv6: bool) -> Address {
        #[expect(unsafe_code, reason = "the crate has no other way to make one")]
        // SAFETY: zeros are valid, and what they stand for is set below.
        let mut address: Address = unsafe { std::mem::zeroed() };
        address.as_mut().set_ipv6(ipv6);
        address.set_outbound(true);
        address.set_interface_index(7);
        address
    }

    fn packet(protocol: u8, checksum: [u8; 2]) -> Vec<u8> {
        let mut packet = vec![0; 48];
        packet[0] = 0x45;
        packet[9] = protocol;
        packet[26..28].copy_from_slice(&checksum);
        packet
    }

    #[test]
    fn an_address_is_windiverts() {
        assert_eq!(size_of::<Address>(), 80);
        assert_eq!(size_of::<Address>(), size_of::<WINDIVERT_ADDRESS>());
        assert_eq!(align_of::<Address>(), align_of::<WINDIVERT_ADDRESS>());
    }

    #[test]
    fn direction_interface_and_loopback_are_those_of_the_address() {
        let mut out = address(false);
        out.as_mut().set_loopback(true);
        let facts = facts_of(&packet(6, [1, 1]), &mut out);
        assert_eq!((facts.direction, facts.interface, facts.loopback), (Direction::Out, 7, true));
        assert!(out.outbound(), "what stays on the host stays outbound");
        let mut inward = address(false);
        inward.set_outbound(false);
        let facts = facts_of(&packet(6, [1, 1]), &mut inward);
        assert_eq!((facts.direction, facts.loopback), (Direction::In, false));
        assert_eq!((facts.begun, facts.held), (Begun::Unknown, Duration::ZERO));
    }

    #[test]
    fn a_checksum_is_real_where_its_flag_says_so() {
        for protocol in [6, 17] {
            let mut address = address(false);
            let packet = packet(protocol, [1, 1]);
            assert_eq!(facts_of(&packet, &mut address).checksum, Checksum::Partial);
            assert!(!address.tcp_checksum() && !address.udp_checksum(), "the driver computes it");
            address.set_tcp_checksum(protocol == 6);
            address.set_udp_checksum(protocol == 17);
            assert_eq!(facts_of(&packet, &mut address).checksum, Checksum::Real);
        }
        assert_eq!(facts_of(&packet(1, [0, 0]), &mut address(false)).checksum, Checksum::Real);
    }

    #[test]
    fn a_udp_checksum_of_zero_is_left_alone_in_ipv4_only() {
        let mut none = address(false);
        assert_eq!(facts_of(&packet(17, [0, 0]), &mut none).checksum, Checksum::Real);
        assert!(none.udp_checksum());
        let mut six = packet(17, [0, 0]);
        (six[0], six[6]) = (0x60, 17);
        let mut address = address(true);
        assert_eq!(facts_of(&six, &mut address).checksum, Checksum::Partial);
        assert!(!address.udp_checksum());
    }

    #[test]
    fn a_cut_packet_has_facts_too() {
        for length in 0..48 {
            facts_of(&packet(17, [0, 0])[..length], &mut address(false));
        }
    }
}
