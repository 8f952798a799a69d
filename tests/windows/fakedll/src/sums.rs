//! Are the checksums of a packet right, computed by nothing that the product uses?

use crate::shape::Address;

/// Where the flags for IP, TCP and UDP are in an address: `IPChecksum` and so on.
const FLAGS: usize = 10;
const IP: u8 = 1 << 5;
const TCP: u8 = 1 << 6;
const UDP: u8 = 1 << 7;

/// The packet in front, by the length that it says.
pub(crate) fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let word =
        |at: usize| Some(usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?])));
    let length = match bytes.first()? >> 4 {
        4 => word(2)?,
        6 => word(4)? + 40,
        _ => return None,
    };
    bytes.split_at_checked(length)
}

/// Those that the driver would not compute: IPv4's own, where the flag says so
/// TCP's and UDP's.
pub(crate) fn are_right(packet: &[u8], address: &Address) -> bool {
    if packet.first().is_none_or(|first| first >> 4 != 4) {
        return true;
    }
    let header = usize::from(packet[0] & 0xf) * 4;
    let Some((ip, segment)) = packet.split_at_checked(header) else { return true };
    let flags = address[FLAGS];
    if flags & IP != 0 && sum(&[ip]) != 0xffff {
        return false;
    }
    let covered = match ip[9] {
        6 => flags & TCP != 0,
        17 => flags & UDP != 0 && segment.get(6..8).is_some_and(|field| field != [0, 0]),
        _ => false,
    };
    let pseudo = [&ip[12..20], &[0, ip[9]], &(segment.len() as u16).to_be_bytes(), segment];
    !covered || sum(&pseudo) == 0xffff
}

/// Of 16-bit words, with the carries added (RFC 1071). Every part but the last is
/// of whole words.
fn sum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let word = |bytes: &[u8]| u64::from(bytes[0]) << 8 | u64::from(*bytes.get(1).unwrap_or(&0));
    let mut sum: u64 = words.map(word).sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}
