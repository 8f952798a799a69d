//! How is an end of a packet changed so that nobody can tell?
//!
//! Pure and in place. Each address that changes is covered by up to three
//! checksums: the IPv4 header's, the transport's by way of its pseudo-header,
//! and that of an ICMP error which quotes the packet. All are right afterwards
//! if they were right before.

#![warn(clippy::indexing_slicing, reason = "nothing that strangers send may panic")]

use crate::engine::Checksum;
use crate::packet::checksum::{Sum, correct, correct_partial, replace};
use crate::packet::{Content, Endpoint, Parsed, Protocol, icmp};
use std::net::IpAddr;

/// Which end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who sent it.
    Source,
    /// Who is to get it.
    Destination,
}

/// The bytes are not those that were parsed, the packet has no such end, or the
/// address is of the other IP version. The packet is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the packet, what was parsed and the address to set do not belong together")]
pub struct Mismatch;

impl Side {
    const fn opposite(self) -> Self {
        match self {
            Self::Source => Self::Destination,
            Self::Destination => Self::Source,
        }
    }

    /// Where an IPv4 header has this end's address (RFC 791, section 3.1).
    const fn in_ipv4(self) -> usize {
        match self {
            Self::Source => 12,
            Self::Destination => 16,
        }
    }

    /// Where an IPv6 header has this end's address (RFC 8200, section 3).
    const fn in_ipv6(self) -> usize {
        match self {
            Self::Source => 8,
            Self::Destination => 24,
        }
    }

    /// Where TCP and UDP headers have this end's port.
    const fn port(self) -> usize {
        match self {
            Self::Source => 0,
            Self::Destination => 2,
        }
    }

    /// Where echo has this end's id: only who asks has one.
    fn id(self, message: &[u8]) -> Option<usize> {
        const ID: usize = 4;
        let has_one = match self {
            Self::Source => icmp::asks(message),
            Self::Destination => !icmp::asks(message),
        };
        has_one.then_some(ID)
    }
}

/// Sets one end of a TCP or UDP packet, or of a ping. `checksum` says what stands
/// in its transport checksum; one that was absent is real afterwards. A UDP
/// checksum of zero, which is none, stays zero.
#[inline]
pub fn set_end(
    bytes: &mut [u8],
    parsed: &Parsed,
    side: Side,
    to: Endpoint,
    checksum: Checksum,
) -> Result<(), Mismatch> {
    let protocol = parsed.content().protocol().ok_or(Mismatch)?;
    let packet = bytes.get_mut(..parsed.end).ok_or(Mismatch)?;
    let (ip, segment) = packet.split_at_mut_checked(parsed.transport).ok_or(Mismatch)?;
    set_transport_end(ip, segment, protocol, side, to, checksum)
}

/// Sets one end of the conversation that an ICMP error is about: the opposite of
/// `side` in the packet it quotes, because who is told of an error is who sent
/// that packet, and `side` of the error itself where the address there is `from`.
/// It is another one where a router reports, or a host with several addresses.
///
/// `checksum` says what stands in the ICMP checksum. Those of the packet quoted
/// are corrected where they are in the quote.
pub fn set_end_of_error(
    bytes: &mut [u8],
    parsed: &Parsed,
    side: Side,
    from: IpAddr,
    to: Endpoint,
    checksum: Checksum,
) -> Result<(), Mismatch> {
    let Content::IcmpError { protocol, .. } = parsed.content() else { return Err(Mismatch) };
    let packet = bytes.get_mut(..parsed.end).ok_or(Mismatch)?;
    let (ip, message) = packet.split_at_mut_checked(parsed.transport).ok_or(Mismatch)?;
    let outer = address(ip, side).ok_or(Mismatch)?;
    if outer.is_ipv4() != to.address.is_ipv4() {
        return Err(Mismatch);
    }

    // Changes to the quoted packet and to its own checksums mostly cancel out in
    // the sum over the message, but not where the quote is cut before them or
    // UDP has none. Errors are rare and short enough to be added up twice.
    let before = Sum::of(message);
    let quote = message.get_mut(icmp::HEADER..).ok_or(Mismatch)?;
    let (quoted_ip, quoted_segment) =
        quote.split_at_mut_checked(parsed.quoted_transport).ok_or(Mismatch)?;
    let opposite = side.opposite();
    set_transport_end(quoted_ip, quoted_segment, protocol, opposite, to, Checksum::Real)?;
    let own = Sum::of(message) - before;

    let pseudo = if outer == from { set_address(ip, side, to.address)? } else { Sum::default() };
    let covered = if outer.is_ipv4() { Covered::Icmp } else { Covered::Icmpv6 };
    settle(covered, ip, message, pseudo, own, checksum);
    Ok(())
}

/// Every packet that is changed comes by here, and nearly all are TCP or UDP: what
/// only a ping needs stands elsewhere, so that this is small enough to be inlined.
#[inline]
fn set_transport_end(
    ip: &mut [u8],
    segment: &mut [u8],
    protocol: Protocol,
    side: Side,
    to: Endpoint,
    checksum: Checksum,
) -> Result<(), Mismatch> {
    let covered = match protocol {
        Protocol::Tcp => Covered::Tcp,
        Protocol::Udp => Covered::Udp,
        Protocol::Icmp => return set_echo_end(ip, segment, side, to, checksum),
    };
    let port = field(segment, side.port()).ok_or(Mismatch)?;
    let pseudo = set_address(ip, side, to.address)?;
    let own = replace(port, to.port.to_be_bytes());
    settle(covered, ip, segment, pseudo, own, checksum);
    Ok(())
}

#[cold]
fn set_echo_end(
    ip: &mut [u8],
    message: &mut [u8],
    side: Side,
    to: Endpoint,
    checksum: Checksum,
) -> Result<(), Mismatch> {
    let id = match side.id(message) {
        Some(at) => Some(field(message, at).ok_or(Mismatch)?),
        None => None,
    };
    let pseudo = set_address(ip, side, to.address)?;
    let own = id.map(|id| replace(id, to.port.to_be_bytes())).unwrap_or_default();
    let covered = if to.address.is_ipv4() { Covered::Icmp } else { Covered::Icmpv6 };
    settle(covered, ip, message, pseudo, own, checksum);
    Ok(())
}

/// Sets an address and the IPv4 header checksum that covers it; says how the sum
/// over the pseudo-header changed.
fn set_address(ip: &mut [u8], side: Side, to: IpAddr) -> Result<Sum, Mismatch> {
    const IPV4_CHECKSUM: usize = 10;

    match (version(ip), to) {
        (4, IpAddr::V4(to)) => {
            let change = replace(field(ip, side.in_ipv4()).ok_or(Mismatch)?, to.octets());
            correct(field(ip, IPV4_CHECKSUM).ok_or(Mismatch)?, change);
            Ok(change)
        }
        (6, IpAddr::V6(to)) => Ok(replace(field(ip, side.in_ipv6()).ok_or(Mismatch)?, to.octets())),
        _ => Err(Mismatch),
    }
}

fn address(ip: &mut [u8], side: Side) -> Option<IpAddr> {
    match version(ip) {
        4 => field::<4>(ip, side.in_ipv4()).map(|octets| IpAddr::from(*octets)),
        6 => field::<16>(ip, side.in_ipv6()).map(|octets| IpAddr::from(*octets)),
        _ => None,
    }
}

fn version(ip: &[u8]) -> u8 {
    ip.first().map_or(0, |first| first >> 4)
}

fn field<const N: usize>(bytes: &mut [u8], at: usize) -> Option<&mut [u8; N]> {
    bytes.get_mut(at..)?.first_chunk_mut()
}

/// What a transport checksum covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Covered {
    Tcp,
    Udp,
    Icmp,
    Icmpv6,
}

impl Covered {
    /// Where its header has the checksum.
    const fn checksum(self) -> usize {
        match self {
            Self::Tcp => 16,
            Self::Udp => 6,
            Self::Icmp | Self::Icmpv6 => 2,
        }
    }

    /// Its number in the pseudo-header, which ICMP does without.
    const fn number(self) -> Option<u8> {
        match self {
            Self::Tcp => Some(6),
            Self::Udp => Some(17),
            Self::Icmp => None,
            Self::Icmpv6 => Some(58),
        }
    }
}

/// Brings a transport checksum in line with what was set: `pseudo` is the change
/// to the pseudo-header, `own` that to the segment itself.
fn settle(
    covered: Covered,
    ip: &[u8],
    segment: &mut [u8],
    pseudo: Sum,
    own: Sum,
    checksum: Checksum,
) {
    let length = segment.len();
    let pseudo = if covered.number().is_some() { pseudo } else { Sum::default() };
    // A quote may be cut before the checksum.
    let Some((before, rest)) = segment.split_at_mut_checked(covered.checksum()) else { return };
    let Some((field, after)) = rest.split_first_chunk_mut() else { return };
    let none = covered == Covered::Udp && *field == [0, 0];
    match checksum {
        // RFC 768: all zero means that the sender generated none.
        Checksum::Real if none => return,
        // RFC 8200, section 8.1: IPv6 has no such thing.
        Checksum::Absent if none && version(ip) == 4 => return,
        Checksum::Partial => return correct_partial(field, pseudo),
        Checksum::Real => correct(field, pseudo + own),
        Checksum::Absent => {
            let header = covered.number().map(|number| pseudo_header(ip, number, length));
            let whole = header.unwrap_or_default() + Sum::of(before) + Sum::of(after);
            *field = whole.checksum();
        }
    }
    // RFC 768: one that comes out as zero is written as all ones.
    if covered == Covered::Udp && *field == [0, 0] {
        *field = [0xff, 0xff];
    }
}

/// The pseudo-header of RFC 9293, section 3.1, and RFC 8200, section 8.1: both
/// addresses, the protocol's number and the length of the segment.
fn pseudo_header(ip: &[u8], number: u8, length: usize) -> Sum {
    let addresses = if version(ip) == 4 { ip.get(12..20) } else { ip.get(8..40) };
    Sum::of(addresses.unwrap_or_default())
        + Sum::of(&[0, number])
        + Sum::of(&(length as u32).to_be_bytes())
}

#[cfg(test)]
mod tests;
