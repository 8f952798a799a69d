//! Does somebody else on the network have that IPv6 address?
//!
//! Neighbour discovery (RFC 4861), in the part that matters here: one question
//! before an address is given, as duplicate address detection asks it (RFC 4862,
//! section 5.4), one announcement after. Only root has packet sockets.

use super::line::Line;
use crate::address::Adapter;
use crate::packet::checksum::Sum;
use std::io;
use std::net::Ipv6Addr;
use std::time::Duration;

/// No logon waits longer for its address.
pub const LONGEST_PROBE: Duration = Duration::from_millis(200);

/// The neighbours cannot be asked or told.
#[derive(Debug, thiserror::Error)]
#[error("cannot speak neighbour discovery on {adapter}")]
pub struct NdError {
    adapter: String,
    #[source]
    source: io::Error,
}

/// Asks whether another host has `address` or is about to take it, for at most
/// `timeout` and never longer than [`LONGEST_PROBE`]. Nobody answers on an adapter
/// without hardware addresses. To be asked before the address is put on.
///
/// # Errors
/// The adapter is gone or down, or the caller is not root.
pub fn probe(adapter: &Adapter, address: Ipv6Addr, timeout: Duration) -> Result<bool, NdError> {
    let Some(mac) = adapter.mac else { return Ok(false) };
    let ask = || {
        let line = line(adapter)?;
        // Others that ask about it ask those who listen there.
        let asked = solicited_node(address);
        line.listen_to(hardware(asked))?;
        let question = solicitation(address, mac);
        let claims = |bytes: &[u8]| claims(bytes, address, mac);
        // Twice, because a packet may be lost.
        for _ in 0..2 {
            line.send(&question, hardware(asked))?;
            if line.hears(timeout.min(LONGEST_PROBE) / 2, claims)? {
                return Ok(true);
            }
        }
        Ok(false)
    };
    ask().map_err(|source| NdError { adapter: adapter.name.clone(), source })
}

/// Tells all neighbours that `address` is here now, so that those who knew it
/// elsewhere learn it at once (RFC 4861, section 7.2.6).
///
/// # Errors
/// The adapter is gone or down, or the caller is not root.
pub fn announce(adapter: &Adapter, address: Ipv6Addr) -> Result<(), NdError> {
    let Some(mac) = adapter.mac else { return Ok(()) };
    line(adapter)
        .and_then(|line| line.send(&advertisement(address, mac), hardware(ALL_NODES)))
        .map_err(|source| NdError { adapter: adapter.name.clone(), source })
}

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The IPv6 header, then ICMPv6.
const HEADER: usize = 40;
const ICMPV6: u8 = 58;
/// It has not been forwarded (RFC 4861, section 7.1).
const HOP_LIMIT: u8 = 255;

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// It replaces what the neighbours know.
const OVERRIDE: u8 = 0x20;
/// The options, each of eight bytes here.
const TARGET_HARDWARE: [u8; 2] = [2, 1];
const NONCE: [u8; 2] = [14, 1];

/// RFC 4291, section 2.7.1.
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    const PREFIX: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;
    Ipv6Addr::from_bits(PREFIX | address.to_bits() & 0xff_ffff)
}

/// Where a group is on Ethernet (RFC 2464, section 7).
fn hardware(group: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// A question that puts nothing into anybody's table: the sender has no address. So
/// that we know it where it comes back to us, as from a bridge, it has a number as
/// RFC 7527 has it; the card's own, which no other card has.
fn solicitation(address: Ipv6Addr, mac: [u8; 6]) -> Vec<u8> {
    let to = solicited_node(address);
    message(Ipv6Addr::UNSPECIFIED, to, SOLICITATION, 0, address, NONCE, mac)
}

fn advertisement(address: Ipv6Addr, mac: [u8; 6]) -> Vec<u8> {
    message(address, ALL_NODES, ADVERTISEMENT, OVERRIDE, address, TARGET_HARDWARE, mac)
}

fn message(
    from: Ipv6Addr,
    to: Ipv6Addr,
    kind: u8,
    flags: u8,
    target: Ipv6Addr,
    option: [u8; 2],
    value: [u8; 6],
) -> Vec<u8> {
    let mut icmp = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    icmp.extend(target.octets());
    icmp.extend(option);
    icmp.extend(value);
    let length = icmp.len() as u16;
    // RFC 4443, section 2.3: with the pseudo-header of RFC 8200, section 8.1.
    let pseudo_header = [&from.octets()[..], &to.octets(), &[0, 0], &length.to_be_bytes()];
    let pseudo_header = [&pseudo_header.concat()[..], &[0, 0, 0, ICMPV6]].concat();
    let sum = (Sum::of(&pseudo_header) + Sum::of(&icmp)).checksum();
    for (place, byte) in icmp.iter_mut().skip(2).zip(sum) {
        *place = byte;
    }
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([ICMPV6, HOP_LIMIT]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(icmp);
    packet
}

/// Does it say that another host has `address`, or is asking for it in order to
/// take it?
fn claims(packet: &[u8], address: Ipv6Addr, mac: [u8; 6]) -> bool {
    let heard = || {
        let (header, icmp) = packet.split_first_chunk::<HEADER>()?;
        let (head, rest) = icmp.split_first_chunk::<8>()?;
        let (target, options) = rest.split_first_chunk::<16>()?;
        let from = header.get(8..24)?;
        let sound = header.get(6..8)? == [ICMPV6, HOP_LIMIT] && head.get(1) == Some(&0);
        let about_it = Ipv6Addr::from(*target) == address;
        let claimed = match *head.first()? {
            ADVERTISEMENT => true,
            // From nobody: who asks from an address wants to talk to whoever has it.
            SOLICITATION => from == [0; 16] && !is_from(options, mac),
            _ => false,
        };
        Some(sound && about_it && claimed)
    };
    heard().unwrap_or(false)
}

/// Is the question ours, by its number?
fn is_from(mut options: &[u8], mac: [u8; 6]) -> bool {
    while let Some((&[kind, eights], _)) = options.split_first_chunk::<2>() {
        let length = usize::from(eights) * 8;
        let Some(option) = options.get(..length).filter(|option| !option.is_empty()) else {
            return false;
        };
        if [kind, eights] == NONCE && option.get(2..8) == Some(&mac) {
            return true;
        }
        options = options.get(length..).unwrap_or_default();
    }
    false
}

fn line(adapter: &Adapter) -> io::Result<Line> {
    Line::open(adapter, libc::ETH_P_IPV6 as u16, &NEIGHBOUR_DISCOVERY)
}

/// ICMPv6 right behind the IPv6 header, of the two kinds: what else the card hears
/// meanwhile is none of ours (bpf(4) of the BSDs; linux/filter.h).
const NEIGHBOUR_DISCOVERY: [libc::sock_filter; 7] = [
    load_byte(6),
    unless_equal(ICMPV6 as u32, 4),
    load_byte(HEADER as u32),
    if_equal(SOLICITATION as u32, 1),
    unless_equal(ADVERTISEMENT as u32, 1),
    give(u32::MAX),
    give(0),
];

const fn load_byte(at: u32) -> libc::sock_filter {
    let code = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    libc::sock_filter { code, jt: 0, jf: 0, k: at }
}

const fn if_equal(value: u32, skip: u8) -> libc::sock_filter {
    let code = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    libc::sock_filter { code, jt: skip, jf: 0, k: value }
}

const fn unless_equal(value: u32, skip: u8) -> libc::sock_filter {
    let code = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    libc::sock_filter { code, jt: 0, jf: skip, k: value }
}

const fn give(bytes: u32) -> libc::sock_filter {
    let code = (libc::BPF_RET | libc::BPF_K) as u16;
    libc::sock_filter { code, jt: 0, jf: 0, k: bytes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Content, parse};
    use proptest::prelude::*;

    const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0x12, 0x3456);

    #[test]
    fn groups_are_where_the_rfcs_have_them() {
        let group = solicited_node(ADDRESS);
        assert_eq!(group.to_string(), "ff02::1:ff12:3456");
        assert_eq!(hardware(group), [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        assert_eq!(hardware(ALL_NODES), [0x33, 0x33, 0, 0, 0, 1]);
    }

    #[test]
    fn messages_are_whole_and_have_the_right_sum() {
        for packet in [solicitation(ADDRESS, OURS), advertisement(ADDRESS, OURS)] {
            assert_eq!(packet.len(), HEADER + 32);
            let parsed = parse(&packet).unwrap();
            assert!(matches!(parsed.content(), Content::Other { .. }), "nothing to translate");
            let [from, to] = [8, 24]
                .map(|at| Ipv6Addr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).unwrap()));
            let icmp = etherparse::Icmpv6Slice::from_slice(&packet[HEADER..]).unwrap();
            assert!(icmp.is_checksum_valid(from.octets(), to.octets()));
        }
    }

    #[test]
    fn who_else_has_or_wants_the_address_is_heard() {
        let mut asked = solicitation(ADDRESS, THEIRS);
        // Somebody who has an address of his own asks for its hardware address.
        asked[8..24].copy_from_slice(&Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2).octets());
        let mut forwarded = advertisement(ADDRESS, THEIRS);
        forwarded[7] = 64;
        let other = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0x12, 0x3457);
        for (packet, expected) in [
            (advertisement(ADDRESS, THEIRS), true),
            (solicitation(ADDRESS, THEIRS), true),
            (solicitation(ADDRESS, OURS), false),
            (asked, false),
            (forwarded, false),
            (advertisement(other, THEIRS), false),
        ] {
            assert_eq!(claims(&packet, ADDRESS, OURS), expected, "{packet:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_claim_nothing_or_something(bytes in prop::collection::vec(any::<u8>(), 0..128)) {
            claims(&bytes, ADDRESS, OURS);
            is_from(&bytes, OURS);
        }
    }
}
