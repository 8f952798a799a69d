//! What does an IP header say: from where, to where, carrying what, and is it all?

use super::Malformed;
use etherparse::{
    IpNumber, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice, Ipv6RawExtHeaderSlice, err,
};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The options of RFC 791 that send a packet by way of others.
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

/// Real packets have one or two; RFC 8504, section 5.3, lets a node set a limit.
const MOST_EXTENSIONS: usize = 8;

/// An IP header and what follows from it, with IPv6 extension headers walked
/// through to the last. What it says of lengths is not yet held against the
/// bytes that are there: the packet in an ICMP error is cut by design.
///
/// `A` is the address type of the IP version: what is read stays in registers
/// until it is known to be wanted as an [`IpAddr`](std::net::IpAddr).
pub(super) struct Header<A> {
    pub(super) source: A,
    pub(super) destination: A,
    /// The length of the whole packet.
    pub(super) length: usize,
    pub(super) carried: Carried,
}

/// What an IP header leads to.
pub(super) struct Carried {
    pub(super) protocol: IpNumber,
    /// Where it begins.
    pub(super) at: usize,
    pub(super) part: Part,
    /// It travels by way of others: the header's destination is the next stop,
    /// and the pseudo-header has the last (RFC 8200, section 8.1).
    pub(super) routed: bool,
}

/// How much of a datagram a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it. So is an IPv6 "atomic fragment" (RFC 6946).
    Whole,
    /// The first fragment, which has the ports.
    First,
    /// A later fragment, which has none.
    Later,
}

impl Part {
    const fn new(offset: u16, more: bool) -> Self {
        match (offset, more) {
            (0, false) => Self::Whole,
            (0, true) => Self::First,
            _ => Self::Later,
        }
    }
}

impl Header<Ipv4Addr> {
    #[inline]
    pub(super) fn ipv4(bytes: &[u8]) -> Result<Self, Malformed> {
        let header = Ipv4HeaderSlice::from_slice(bytes).map_err(|error| match error {
            err::ipv4::HeaderSliceError::Len(error) => cut("IPv4 header", &error),
            err::ipv4::HeaderSliceError::Content(
                err::ipv4::HeaderError::HeaderLengthSmallerThanHeader { ihl },
            ) => Malformed::Short { part: "IPv4 header", says: usize::from(ihl) * 4 },
            err::ipv4::HeaderSliceError::Content(err::ipv4::HeaderError::UnexpectedVersion {
                version_number,
            }) => Malformed::Version(version_number),
        })?;
        Ok(Self {
            source: header.source_addr(),
            destination: header.destination_addr(),
            length: header.total_len().into(),
            carried: Carried {
                protocol: header.protocol(),
                at: header.slice().len(),
                part: Part::new(header.fragments_offset().value(), header.more_fragments()),
                routed: option_kinds(header.options())
                    .any(|kind| matches!(kind, LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE)),
            },
        })
    }
}

impl Header<Ipv6Addr> {
    #[inline]
    pub(super) fn ipv6(bytes: &[u8]) -> Result<Self, Malformed> {
        let header = Ipv6HeaderSlice::from_slice(bytes).map_err(|error| match error {
            err::ipv6::HeaderSliceError::Len(error) => cut("IPv6 header", &error),
            err::ipv6::HeaderSliceError::Content(err::ipv6::HeaderError::UnexpectedVersion {
                version_number,
            }) => Malformed::Version(version_number),
        })?;
        let at = header.slice().len();
        let carried =
            Carried { protocol: header.next_header(), at, part: Part::Whole, routed: false };
        Ok(Self {
            source: header.source_addr(),
            destination: header.destination_addr(),
            length: at + usize::from(header.payload_length()),
            carried: carried.past_extensions(bytes)?,
        })
    }
}

impl Carried {
    /// Walks on to what the extension headers (RFC 8200, section 4) lead to.
    /// AH and ESP are not walked through: what they carry is not ours to change.
    #[inline]
    fn past_extensions(mut self, bytes: &[u8]) -> Result<Self, Malformed> {
        let first = self.at;
        for _ in 0..=MOST_EXTENSIONS {
            let rest = bytes.get(self.at..).unwrap_or_default();
            match self.protocol {
                // Anywhere but first it is refused by who receives it (section
                // 4.1), and is as unknown as any other protocol here.
                IpNumber::IPV6_HEADER_HOP_BY_HOP if self.at != first => return Ok(self),
                IpNumber::IPV6_HEADER_HOP_BY_HOP
                | IpNumber::IPV6_DESTINATION_OPTIONS
                | IpNumber::IPV6_ROUTE_HEADER => {
                    let extension = Ipv6RawExtHeaderSlice::from_slice(rest)
                        .map_err(|error| cut("IPv6 extension header", &error))?;
                    if self.protocol == IpNumber::IPV6_ROUTE_HEADER {
                        let segments_left = extension.payload().get(1);
                        self.routed |= segments_left != Some(&0);
                    }
                    self.protocol = extension.next_header();
                    self.at += extension.slice().len();
                }
                IpNumber::IPV6_FRAGMENTATION_HEADER => {
                    let fragment = Ipv6FragmentHeaderSlice::from_slice(rest)
                        .map_err(|error| cut("IPv6 fragment header", &error))?;
                    self.protocol = fragment.next_header();
                    self.at += fragment.slice().len();
                    match Part::new(fragment.fragment_offset().value(), fragment.more_fragments()) {
                        // Inside a first fragment it is a part all the same.
                        Part::Whole => {}
                        Part::First => self.part = Part::First,
                        Part::Later => return Ok(Self { part: Part::Later, ..self }),
                    }
                }
                _ => return Ok(self),
            }
        }
        Err(Malformed::Extensions)
    }
}

/// The kinds of the options in a TCP or IPv4 header, which are laid out alike
/// (RFC 9293, section 3.1; RFC 791, section 3.1). Options that are cut end the
/// list, as they do in the kernel (`tcp_parse_options`).
pub(super) fn option_kinds(mut options: &[u8]) -> impl Iterator<Item = u8> {
    const END: u8 = 0;
    const NOTHING: u8 = 1;
    std::iter::from_fn(move || {
        let (&kind, after) = options.split_first()?;
        options = match kind {
            END => return None,
            NOTHING => after,
            _ => match *after.first()? {
                0 | 1 => return None,
                length => options.get(length.into()..)?,
            },
        };
        Some(kind)
    })
}

pub(super) fn cut(part: &'static str, error: &err::LenError) -> Malformed {
    Malformed::Cut { part, needed: error.required_len, there: error.len }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An IPv6 header and the extension headers after it, each of eight bytes:
    /// (kind, bytes two and three of it); the last leads to `protocol`.
    fn ipv6(extensions: &[(u8, [u8; 2])], protocol: u8) -> Vec<u8> {
        let length = extensions.len() as u16 * 8;
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend(length.to_be_bytes());
        packet.extend([extensions.first().map_or(protocol, |first| first.0), 64]);
        packet.extend([0xfd; 32]);
        for (index, (_, at_two)) in extensions.iter().enumerate() {
            let next = extensions.get(index + 1).map_or(protocol, |next| next.0);
            packet.extend([next, 0, at_two[0], at_two[1], 0, 0, 0, 0]);
        }
        packet
    }

    const HOP_BY_HOP: (u8, [u8; 2]) = (0, [1, 4]);
    const DESTINATION_OPTIONS: (u8, [u8; 2]) = (60, [1, 4]);
    const ROUTING_DONE: (u8, [u8; 2]) = (43, [4, 0]);
    const ROUTING: (u8, [u8; 2]) = (43, [4, 1]);
    const ATOMIC: (u8, [u8; 2]) = (44, [0, 0]);
    const FIRST: (u8, [u8; 2]) = (44, [0, 1]);
    const LATER: (u8, [u8; 2]) = (44, [0, 8]);
    const AH: (u8, [u8; 2]) = (51, [0, 0]);

    #[test]
    fn extension_headers() {
        // (extensions, protocol found, where, part, routed)
        for (extensions, protocol, at, part, routed) in [
            (&[][..], 6, 40, Part::Whole, false),
            (&[HOP_BY_HOP, DESTINATION_OPTIONS], 6, 56, Part::Whole, false),
            (&[DESTINATION_OPTIONS, HOP_BY_HOP], 0, 48, Part::Whole, false),
            (&[ROUTING_DONE], 6, 48, Part::Whole, false),
            (&[HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS], 6, 64, Part::Whole, true),
            (&[ATOMIC], 6, 48, Part::Whole, false),
            (&[FIRST, DESTINATION_OPTIONS], 6, 56, Part::First, false),
            (&[FIRST, ATOMIC], 6, 56, Part::First, false),
            (&[HOP_BY_HOP, LATER], 6, 56, Part::Later, false),
            (&[DESTINATION_OPTIONS, AH], 51, 48, Part::Whole, false),
            (&[DESTINATION_OPTIONS; 8], 6, 104, Part::Whole, false),
        ] {
            let carried = Header::ipv6(&ipv6(extensions, 6)).unwrap().carried;
            let found = (carried.protocol.0, carried.at, carried.part, carried.routed);
            assert_eq!(found, (protocol, at, part, routed), "{extensions:?}");
        }
    }

    #[test]
    fn extension_headers_that_are_cut_or_too_many() {
        let packet = ipv6(&[HOP_BY_HOP, DESTINATION_OPTIONS], 6);
        for end in 41..56 {
            assert!(matches!(Header::ipv6(&packet[..end]), Err(Malformed::Cut { .. })), "{end}");
        }
        let packet = ipv6(&[DESTINATION_OPTIONS; 9], 6);
        assert_eq!(Header::ipv6(&packet).err(), Some(Malformed::Extensions));
    }

    #[test]
    fn ipv4_fragments() {
        for (field, part) in [
            ([0x40, 0], Part::Whole), // don't fragment
            ([0x20, 0], Part::First),
            ([0x20, 1], Part::Later),
            ([0x00, 1], Part::Later),
            ([0x1f, 0], Part::Later),
        ] {
            let mut packet = [0; 20];
            packet[0] = 0x45;
            packet[6..8].copy_from_slice(&field);
            assert_eq!(Header::ipv4(&packet).unwrap().carried.part, part, "{field:?}");
        }
    }

    #[test]
    fn ipv4_source_route() {
        for (option, routed) in
            [([1, 131, 3, 4], true), ([137, 3, 4, 0], true), ([148, 4, 0, 0], false)]
        {
            let mut packet = [0; 24];
            packet[0] = 0x46;
            packet[20..].copy_from_slice(&option);
            assert_eq!(Header::ipv4(&packet).unwrap().carried.routed, routed, "{option:?}");
        }
    }

    #[test]
    fn options() {
        let kinds = |options: &[u8]| option_kinds(options).collect::<Vec<_>>();
        assert_eq!(kinds(&[1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0]), [1, 1, 8]);
        assert_eq!(kinds(&[2, 4, 5, 180, 0, 19, 18]), [2], "nothing counts after the end");
        assert_eq!(kinds(&[1, 19]), [1], "no length");
        assert!(kinds(&[19, 1, 1]).is_empty(), "a length shorter than itself");
        assert_eq!(kinds(&[1, 19, 18, 0]), [1], "longer than what is left");
    }

    proptest! {
        #[test]
        fn any_bytes(mut bytes in prop::collection::vec(any::<u8>(), 1..200), ipv6: bool) {
            bytes[0] = bytes[0] & 0x0f | if ipv6 { 0x60 } else { 0x40 };
            let at = if ipv6 {
                Header::ipv6(&bytes).map(|header| header.carried.at)
            } else {
                Header::ipv4(&bytes).map(|header| header.carried.at)
            };
            prop_assert!(at.is_err() || at.is_ok_and(|at| at <= bytes.len()));
        }
    }
}
