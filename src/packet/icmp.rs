//! What does an ICMP message say, and about which packet?

use super::header::{Header, Part};
use super::{Endpoint, Malformed, Protocol};
use etherparse::{IpNumber, icmpv4, icmpv6};
use std::net::IpAddr;

/// The header of every ICMP message, after which an error quotes a packet
/// (RFC 792; RFC 4443, section 3).
pub(crate) const HEADER: usize = 8;

/// An ICMP message, as far as translation goes.
pub(super) enum Message {
    /// It could not deliver the packet it quotes.
    Error(Quote),
    /// A ping or the answer to one.
    Echo { id: u16, request: bool },
    /// Everything else, and errors about packets without ports.
    Other,
}

/// The packet that an error is about.
pub(super) struct Quote {
    pub(super) protocol: Protocol,
    pub(super) source: Endpoint,
    pub(super) destination: Endpoint,
    /// Where its transport header begins, counted from its IP header.
    pub(super) transport: usize,
}

/// Reads an ICMP message that came in IPv4.
///
/// A redirect counts as an error: it quotes a packet of the host, and says
/// something about its destination that holds whichever address asked.
pub(super) fn ipv4(message: &[u8]) -> Result<Message, Malformed> {
    let (kind, id, quoted) = split(message)?;
    Ok(match kind {
        icmpv4::TYPE_DEST_UNREACH
        | icmpv4::TYPE_SOURCE_QUENCH
        | icmpv4::TYPE_REDIRECT
        | icmpv4::TYPE_TIME_EXCEEDED
        | icmpv4::TYPE_PARAMETER_PROBLEM => error(Header::ipv4(quoted), quoted),
        icmpv4::TYPE_ECHO_REQUEST => Message::Echo { id, request: true },
        icmpv4::TYPE_ECHO_REPLY => Message::Echo { id, request: false },
        _ => Message::Other,
    })
}

/// Reads an ICMP message that came in IPv6.
pub(super) fn ipv6(message: &[u8]) -> Result<Message, Malformed> {
    let (kind, id, quoted) = split(message)?;
    Ok(match kind {
        icmpv6::TYPE_DST_UNREACH
        | icmpv6::TYPE_PACKET_TOO_BIG
        | icmpv6::TYPE_TIME_EXCEEDED
        | icmpv6::TYPE_PARAMETER_PROBLEM => error(Header::ipv6(quoted), quoted),
        icmpv6::TYPE_ECHO_REQUEST => Message::Echo { id, request: true },
        icmpv6::TYPE_ECHO_REPLY => Message::Echo { id, request: false },
        _ => Message::Other,
    })
}

/// The type, the echo id, and what follows the header.
fn split(message: &[u8]) -> Result<(u8, u16, &[u8]), Malformed> {
    let Some((&[kind, _, _, _, id_high, id_low, _, _], rest)) =
        message.split_first_chunk::<HEADER>()
    else {
        return Err(Malformed::Cut { part: "ICMP header", needed: HEADER, there: message.len() });
    };
    Ok((kind, u16::from_be_bytes([id_high, id_low]), rest))
}

/// An error about the packet quoted, if that is one which could have been
/// translated: TCP or UDP, with its ports, or a ping with its id. Its lengths are
/// not believed: it is cut by design.
fn error<A: Into<IpAddr>>(header: Result<Header<A>, Malformed>, quoted: &[u8]) -> Message {
    header.ok().and_then(|header| quote(header, quoted)).map_or(Message::Other, Message::Error)
}

fn quote<A: Into<IpAddr>>(header: Header<A>, quoted: &[u8]) -> Option<Quote> {
    let carried = header.carried;
    if carried.part == Part::Later || carried.routed {
        return None;
    }
    let (source, destination) = (header.source.into(), header.destination.into());
    let message = quoted.get(carried.at..)?;
    let (protocol, source_port, destination_port) = match carried.protocol {
        IpNumber::TCP => with_ports(Protocol::Tcp, message)?,
        IpNumber::UDP => with_ports(Protocol::Udp, message)?,
        IpNumber::ICMP | IpNumber::IPV6_ICMP => {
            let (id, request) = echo(message)?;
            if request { (Protocol::Icmp, id, 0) } else { (Protocol::Icmp, 0, id) }
        }
        _ => return None,
    };
    Some(Quote {
        protocol,
        source: Endpoint::new(source, source_port),
        destination: Endpoint::new(destination, destination_port),
        transport: carried.at,
    })
}

/// TCP and UDP have their ports first, and may be cut right behind them.
fn with_ports(protocol: Protocol, segment: &[u8]) -> Option<(Protocol, u16, u16)> {
    let &[a, b, c, d] = segment.first_chunk()?;
    Some((protocol, u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// The id of a ping or of the answer to one, and whether it asks. The types of
/// one IP version are nothing of the kind in the other.
fn echo(message: &[u8]) -> Option<(u16, bool)> {
    let &[kind, _, _, _, high, low] = message.first_chunk()?;
    let id = u16::from_be_bytes([high, low]);
    match kind {
        icmpv4::TYPE_ECHO_REQUEST | icmpv6::TYPE_ECHO_REQUEST => Some((id, true)),
        icmpv4::TYPE_ECHO_REPLY | icmpv6::TYPE_ECHO_REPLY => Some((id, false)),
        _ => None,
    }
}

/// Whether a message that was read asks: then its sender has the id.
pub(crate) fn asks(message: &[u8]) -> bool {
    echo(message).is_some_and(|(_, request)| request)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ICMP header of a type, and after it the first bytes of a UDP packet.
    fn about_udp(kind: u8, quoted_ip: &[u8]) -> Vec<u8> {
        let mut message = vec![kind, 0, 0, 0, 0, 7, 0, 0];
        message.extend(quoted_ip);
        message.extend([0x9c, 0x40, 0, 53, 0, 8, 0, 0]);
        message
    }

    const IPV4: [u8; 20] =
        [0x45, 0, 0xff, 0xff, 0, 0, 0, 0, 64, 17, 0, 0, 10, 77, 0, 101, 10, 77, 0, 2];

    fn ipv6_header(protocol: u8) -> [u8; 40] {
        let mut header = [0xfd; 40];
        header[..8].copy_from_slice(&[0x60, 0, 0, 0, 0xff, 0xff, protocol, 64]);
        header
    }

    /// One word for a message, so that a table of them can be read.
    fn word(message: Result<Message, Malformed>) -> &'static str {
        match message {
            Ok(Message::Error(_)) => "error",
            Ok(Message::Echo { id: 7, request: true }) => "request",
            Ok(Message::Echo { id: 7, request: false }) => "reply",
            Ok(Message::Echo { .. }) => "another id",
            Ok(Message::Other) => "other",
            Err(_) => "malformed",
        }
    }

    #[test]
    fn types() {
        for kind in 0..=255 {
            let expected = match kind {
                3 | 4 | 5 | 11 | 12 => "error",
                8 => "request",
                0 => "reply",
                _ => "other",
            };
            assert_eq!(word(ipv4(&about_udp(kind, &IPV4))), expected, "ICMP type {kind}");
            let expected = match kind {
                1..=4 => "error",
                128 => "request",
                129 => "reply",
                _ => "other",
            };
            let message = about_udp(kind, &ipv6_header(17));
            assert_eq!(word(ipv6(&message)), expected, "ICMPv6 type {kind}");
        }
    }

    #[test]
    fn a_quote_is_cut_anywhere() {
        let message = about_udp(3, &IPV4);
        for end in 0..=message.len() {
            let expected = match end {
                ..8 => "malformed",
                8..32 => "other",
                _ => "error",
            };
            assert_eq!(word(ipv4(&message[..end])), expected, "{end} bytes");
        }
    }

    #[test]
    fn both_ends_of_the_quoted_packet() {
        let Ok(Message::Error(quote)) = ipv4(&about_udp(3, &IPV4)) else { panic!("no error") };
        assert_eq!(quote.protocol, Protocol::Udp);
        assert_eq!(quote.source.to_string(), "10.77.0.101:40000");
        assert_eq!(quote.destination.to_string(), "10.77.0.2:53");
        assert_eq!(quote.transport, 20);
    }

    #[test]
    fn quotes_of_something_else() {
        assert_eq!(word(ipv6(&about_udp(1, &IPV4))), "other", "of the other IP version");
        assert_eq!(word(ipv4(&about_udp(3, &ipv6_header(17)))), "other", "of the other IP version");
        assert_eq!(word(ipv6(&about_udp(1, &ipv6_header(58)))), "other", "of a ping");
        let mut later_fragment = IPV4;
        later_fragment[7] = 1;
        assert_eq!(word(ipv4(&about_udp(3, &later_fragment))), "other");
        let mut first_fragment = IPV4;
        first_fragment[6] = 0x20;
        assert_eq!(word(ipv4(&about_udp(3, &first_fragment))), "error");
    }
}
