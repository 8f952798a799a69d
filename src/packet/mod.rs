//! What is in this packet?
//!
//! [`parse`] reads a packet once, decides explicitly what it is, and remembers
//! where things stand, so that [`crate::translate`] need not look for them again.

#![warn(clippy::indexing_slicing, reason = "nothing that strangers send may panic")]

pub(crate) mod checksum;
mod content;
mod header;
pub(crate) mod icmp;
mod transport;

pub use content::{Content, TcpFlags};

use etherparse::IpNumber;
use header::{Header, Part};
use icmp::Message;
use std::fmt;
use std::net::IpAddr;
use transport::{Tcp, Udp};

/// The protocols that are translated. Of ICMP it is echo, where the id stands in
/// place of the port of who asks, and the other end's port is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Protocol {
    /// RFC 9293.
    Tcp = 6,
    /// RFC 768.
    Udp = 17,
    /// RFC 792, and RFC 4443 for IPv6.
    Icmp = 1,
}

impl Protocol {
    /// `tcp`, `udp` or `icmp`, as in `flows --json`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }
}

/// One end of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// IPv4 addresses are never written as IPv4-mapped IPv6 ones.
    pub address: IpAddr,
    /// The port, in host order.
    pub port: u16,
}

impl Endpoint {
    /// `address:port`.
    pub const fn new(address: IpAddr, port: u16) -> Self {
        Self { address, port }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::net::SocketAddr::new(self.address, self.port).fmt(f)
    }
}

/// A packet that was read: what it is, and where things stand in it. It goes on
/// being right about offsets when ends of that packet are set.
#[derive(Clone, Copy, Debug)]
pub struct Parsed {
    content: Content,
    length: usize,
    /// Where the TCP, UDP or ICMP header begins.
    pub(crate) transport: usize,
    /// Where what its checksum covers ends: an IP packet may go on behind a UDP
    /// datagram.
    pub(crate) end: usize,
    /// Where the transport header begins in the packet that an ICMP error quotes.
    pub(crate) quoted_transport: usize,
}

/// Why bytes are not a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Of no IP version there is.
    #[error("the IP version is {0}, neither 4 nor 6")]
    Version(u8),
    /// It ends too early.
    #[error("the {part} is cut: it needs {needed} bytes, and {there} are there")]
    Cut {
        /// What is cut.
        part: &'static str,
        /// How long it says it is, or has to be.
        needed: usize,
        /// How many bytes there are of it.
        there: usize,
    },
    /// It says it is shorter than it can be.
    #[error("the {part} says it is {says} bytes long, which is shorter than it can be")]
    Short {
        /// What says so.
        part: &'static str,
        /// How long it says it is.
        says: usize,
    },
    /// It has more IPv6 extension headers than anybody needs.
    #[error("there are too many IPv6 extension headers")]
    Extensions,
}

/// Reads a packet that begins with its IP header. Bytes behind its end are let
/// be. Checksums are not looked at: a wrong one stays as wrong as it is.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    match bytes.first().map(|first| first >> 4) {
        Some(4) => read_on(Header::ipv4(bytes)?, bytes),
        Some(6) => read_on(Header::ipv6(bytes)?, bytes),
        Some(version) => Err(Malformed::Version(version)),
        None => Err(Malformed::Cut { part: "IP header", needed: 1, there: 0 }),
    }
}

/// Reads on behind the IP header.
#[inline]
fn read_on<A: Into<IpAddr>>(header: Header<A>, bytes: &[u8]) -> Result<Parsed, Malformed> {
    let Header { length, carried, .. } = header;
    let transport = carried.at;
    let Some(packet) = bytes.get(..length) else {
        return Err(Malformed::Cut { part: "IP packet", needed: length, there: bytes.len() });
    };
    let Some(payload) = packet.get(transport..) else {
        return Err(Malformed::Short { part: "IP packet", says: length });
    };
    let (source, destination) = (header.source.into(), header.destination.into());
    let (mut end, mut quoted_transport) = (length, 0);
    let content = match carried.protocol {
        _ if carried.part != Part::Whole => Content::Fragment { source, destination },
        IpNumber::AUTHENTICATION_HEADER | IpNumber::ENCAPSULATING_SECURITY_PAYLOAD => {
            Content::Authenticated { source, destination }
        }
        _ if carried.routed => Content::Other { source, destination },
        IpNumber::TCP => match Tcp::read(payload)? {
            Tcp { signed: true, .. } => Content::Authenticated { source, destination },
            tcp => Content::Transport {
                protocol: Protocol::Tcp,
                source: Endpoint::new(source, tcp.source),
                destination: Endpoint::new(destination, tcp.destination),
                tcp: tcp.flags,
            },
        },
        IpNumber::UDP => {
            let udp = Udp::read(payload)?;
            end = transport + udp.length;
            Content::Transport {
                protocol: Protocol::Udp,
                source: Endpoint::new(source, udp.source),
                destination: Endpoint::new(destination, udp.destination),
                tcp: TcpFlags::default(),
            }
        }
        IpNumber::ICMP | IpNumber::IPV6_ICMP => {
            let message = match (carried.protocol, source) {
                (IpNumber::ICMP, IpAddr::V4(_)) => icmp::ipv4(payload)?,
                (IpNumber::IPV6_ICMP, IpAddr::V6(_)) => icmp::ipv6(payload)?,
                // One version's ICMP in the other's packet goes nowhere.
                _ => Message::Other,
            };
            match message {
                Message::Error(quote) => {
                    quoted_transport = quote.transport;
                    Content::IcmpError {
                        source,
                        destination,
                        protocol: quote.protocol,
                        quoted_source: quote.source,
                        quoted_destination: quote.destination,
                    }
                }
                Message::Echo { id, request } => Content::Echo { source, destination, id, request },
                Message::Other => Content::Other { source, destination },
            }
        }
        _ => Content::Other { source, destination },
    };
    Ok(Parsed { content, length, transport, end, quoted_transport })
}

impl Parsed {
    /// What it is.
    pub const fn content(&self) -> Content {
        self.content
    }

    /// Who sent it, as its IP header had it when it was read.
    pub const fn source(&self) -> IpAddr {
        self.content.ends().0
    }

    /// Who is to get it, as its IP header had it when it was read.
    pub const fn destination(&self) -> IpAddr {
        self.content.ends().1
    }

    /// The length of the IP packet, all headers included.
    pub const fn length(&self) -> usize {
        self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    const A: [u8; 4] = [10, 77, 0, 101];
    const B: [u8; 4] = [10, 77, 0, 2];
    const A6: [u8; 16] = [0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    const B6: [u8; 16] = [0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

    fn tcp_packet(options: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        let builder = PacketBuilder::ipv4(A, B, 64).tcp(40_000, 443, 1, 1000).syn();
        builder.options_raw(options).unwrap().write(&mut packet, b"hello").unwrap();
        packet
    }

    fn udp_packet(payload: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        PacketBuilder::ipv6(A6, B6, 64).udp(40_000, 53).write(&mut packet, payload).unwrap();
        packet
    }

    /// A packet of a protocol, with an IP header and 40 zeros behind it.
    fn carrying(protocol: u8, ipv6: bool) -> Vec<u8> {
        let mut packet = if ipv6 { vec![0; 80] } else { vec![0; 60] };
        if ipv6 {
            packet[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 40, protocol, 64]);
        } else {
            packet[..4].copy_from_slice(&[0x45, 0, 0, 60]);
            packet[9] = protocol;
        }
        packet
    }

    #[test]
    fn tcp_over_ipv4() {
        let mut packet = tcp_packet(&[]);
        let length = packet.len();
        packet.extend([0xff; 6]); // Ethernet's padding
        let parsed = parse(&packet).unwrap();
        let expected = Content::Transport {
            protocol: Protocol::Tcp,
            source: Endpoint::new(A.into(), 40_000),
            destination: Endpoint::new(B.into(), 443),
            tcp: TcpFlags { syn: true, ..TcpFlags::default() },
        };
        assert_eq!(parsed.content(), expected);
        assert_eq!(parsed.source(), IpAddr::from(A));
        assert_eq!(parsed.destination(), IpAddr::from(B));
        assert_eq!((parsed.length(), parsed.end), (length, length));
    }

    #[test]
    fn udp_over_ipv6_shorter_than_its_packet() {
        let mut packet = udp_packet(b"hello");
        packet[45] = 11;
        let parsed = parse(&packet).unwrap();
        let expected = Content::Transport {
            protocol: Protocol::Udp,
            source: Endpoint::new(A6.into(), 40_000),
            destination: Endpoint::new(B6.into(), 53),
            tcp: TcpFlags::default(),
        };
        assert_eq!(parsed.content(), expected);
        assert_eq!((parsed.length(), parsed.end), (53, 51));
    }

    #[test]
    fn every_protocol() {
        for ipv6 in [false, true] {
            for protocol in 0..=255 {
                let parsed = parse(&carrying(protocol, ipv6));
                let found = match parsed.map(|parsed| parsed.content()) {
                    Ok(Content::Authenticated { .. }) => "authenticated",
                    Ok(Content::Other { .. }) => "other",
                    Ok(Content::Echo { .. }) => "echo",
                    Err(Malformed::Short { .. }) => "malformed",
                    found => panic!("{protocol}: {found:?}"),
                };
                let expected = match (protocol, ipv6) {
                    (6 | 17, _) => "malformed",
                    (50 | 51, _) => "authenticated",
                    (1, false) => "echo",
                    _ => "other",
                };
                assert_eq!(found, expected, "protocol {protocol}, IPv6 {ipv6}");
            }
        }
    }

    #[test]
    fn fragments_of_any_kind() {
        let fragment = Content::Fragment { source: A.into(), destination: B.into() };
        for field in [[0x20, 0], [0x20, 1], [0, 1]] {
            let mut packet = tcp_packet(&[]);
            packet[6..8].copy_from_slice(&field);
            assert_eq!(parse(&packet).unwrap().content(), fragment, "{field:?}");
        }
    }

    #[test]
    fn source_routed_packets_are_left_alone() {
        let mut packet = udp_packet(&[]);
        packet[6] = 43; // a routing header, which has the UDP header behind it
        packet.splice(40..40, [17, 0, 4, 1, 0, 0, 0, 0]);
        packet[5] += 8;
        assert!(matches!(parse(&packet).unwrap().content(), Content::Other { .. }));
        packet[43] = 0; // no segments left: it is where it goes
        assert!(matches!(parse(&packet).unwrap().content(), Content::Transport { .. }));
    }

    #[test]
    fn cut_anywhere() {
        for packet in [tcp_packet(&[2, 4, 5, 180]), udp_packet(b"hello"), carrying(58, true)] {
            for end in 0..packet.len() {
                let error = parse(&packet[..end]).unwrap_err();
                assert!(matches!(error, Malformed::Cut { .. }), "{end}: {error}");
            }
        }
    }

    #[test]
    fn lengths_that_cannot_be() {
        let message = |at: usize, value: u8| {
            let mut packet = tcp_packet(&[]);
            packet[at] = value;
            parse(&packet).unwrap_err().to_string()
        };
        let short = "bytes long, which is shorter than it can be";
        assert_eq!(message(0, 0x44), format!("the IPv4 header says it is 16 {short}"));
        assert_eq!(message(3, 19), format!("the IP packet says it is 19 {short}"));
        assert_eq!(message(3, 46), "the IP packet is cut: it needs 46 bytes, and 45 are there");
        assert_eq!(message(0, 0x50), "the IP version is 5, neither 4 nor 6");
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        /// Bytes that pass for a packet far enough to be looked at.
        #[test]
        fn any_payload(
            protocol in prop::sample::select(vec![0u8, 1, 6, 17, 43, 44, 50, 51, 58, 60]),
            ipv6: bool,
            payload: [u8; 40],
        ) {
            let mut packet = carrying(protocol, ipv6);
            let at = packet.len() - payload.len();
            packet[at..].copy_from_slice(&payload);
            if let Ok(parsed) = parse(&packet) {
                prop_assert!(parsed.transport <= parsed.end);
                prop_assert!(parsed.end <= parsed.length());
            }
        }
    }
}
