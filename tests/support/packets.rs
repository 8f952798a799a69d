//! Packets written as text: `tcp 10.77.0.1:40000 > 10.77.0.2:5201 syn`.
//!
//! | text | packet |
//! |---|---|
//! | `tcp A:P > B:P [syn] [ack] [fin] [rst] [md5 or ao]` | a segment; the last: signed |
//! | `udp A:P > B:P [unsummed]` | a datagram; `unsummed`: without a checksum |
//! | `icmp A > B about (packet)` | a port that cannot be reached |
//! | `exceeded A > B about (packet)` | it was forwarded too often |
//! | `toobig A > B about (packet)` | the next link takes 1200 bytes |
//! | `ping A > B [id N]`, `pong A > B [id N]` | an echo request, and the answer |
//! | `fragment A > B` | the first part of a UDP datagram |
//! | `esp A > B`, `ah A > B`, `gre A > B` | a packet of that protocol |
//! | `bytes 45 00 ...` | just these |
//!
//! Every checksum is computed in full, by nothing that the product uses.

use std::net::{IpAddr, SocketAddr};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Options that sign a segment: RFC 2385, RFC 5925.
const MD5: &[u8] = &[19, 18, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7];
const AO: &[u8] = &[29, 16, 1, 1, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7];

/// The packet that `text` describes.
pub(crate) fn build(text: &str) -> Vec<u8> {
    if let Some(hex) = text.strip_prefix("bytes") {
        let byte = |byte| u8::from_str_radix(byte, 16).expect("bytes are in hexadecimal");
        return hex.split_whitespace().map(byte).collect();
    }
    let (text, quoted) = match text.split_once(" about ") {
        Some((text, quoted)) => (text, Some(build(quoted))),
        None => (text, None),
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let [kind, source, ">", destination, rest @ ..] = words.as_slice() else {
        panic!("a packet is `PROTOCOL SOURCE > DESTINATION`: {text}");
    };
    let has = |word| rest.contains(&word);
    match *kind {
        "tcp" => {
            let flags = [("fin", 1), ("syn", 2), ("rst", 4), ("ack", 16)];
            let flags = flags.iter().filter(|(word, _)| has(word)).map(|(_, bit)| bit).sum();
            let signed = match (has("md5"), has("ao")) {
                (true, _) => MD5,
                (_, true) => AO,
                (false, false) => &[],
            };
            transport(TCP, end(source), end(destination), flags, signed, true)
        }
        "udp" => transport(UDP, end(source), end(destination), 0, &[], !has("unsummed")),
        "icmp" | "exceeded" | "toobig" => {
            let quoted = quoted.expect("an ICMP error is about a packet");
            let (ipv4, ipv6, more) = match *kind {
                "icmp" => ([3, 3], [1, 4], 0),
                "exceeded" => ([11, 0], [3, 0], 0),
                _ => ([3, 4], [2, 0], 1200_u32),
            };
            icmp(address(source), address(destination), ipv4, ipv6, more, &quoted)
        }
        "ping" | "pong" => {
            let id = rest.iter().skip_while(|word| **word != "id").nth(1);
            let id = id.map_or(0, |id| id.parse::<u16>().expect("an id is a number"));
            let (ipv4, ipv6) = if *kind == "ping" { (8, 128) } else { (0, 129) };
            let more = u32::from(id) << 16 | 1;
            icmp(address(source), address(destination), [ipv4, 0], [ipv6, 0], more, b"ping")
        }
        "fragment" => {
            let mut packet = transport(UDP, port_9(source), port_9(destination), 0, &[], true);
            packet[6] = 0x20;
            packet[10..12].fill(0);
            let sum = checksum(&[&packet[..20]]);
            packet[10..12].copy_from_slice(&sum);
            packet
        }
        "esp" => ip(address(source), address(destination), 50, &[0; 16]),
        "ah" => ip(address(source), address(destination), 51, &[0; 16]),
        "gre" => ip(address(source), address(destination), 47, &[0; 16]),
        _ => panic!("no packet is of the kind {kind}"),
    }
}

/// The same packet with a transport checksum that offload left partial: that of
/// the pseudo-header, not inverted.
pub(crate) fn left_partial(mut packet: Vec<u8>) -> Vec<u8> {
    let at = if packet[0] >> 4 == 4 { 20 } else { 40 };
    let protocol = if packet[0] >> 4 == 4 { packet[9] } else { packet[6] };
    let addresses = if at == 20 { &packet[12..20] } else { &packet[8..40] };
    let length = (packet.len() - at) as u16;
    let sum = checksum(&[addresses, &[0, protocol], &length.to_be_bytes()]);
    let field = at + if protocol == TCP { 16 } else { 6 };
    packet[field] = !sum[0];
    packet[field + 1] = !sum[1];
    packet
}

/// What people are told of a packet that is not as expected.
pub(crate) fn describe(packet: &[u8]) -> String {
    let Ok(parsed) = sessionip::packet::parse(packet) else { return format!("{packet:02x?}") };
    format!("{:?}\n           {packet:02x?}", parsed.content())
}

fn transport(
    protocol: u8,
    source: SocketAddr,
    destination: SocketAddr,
    flags: u8,
    options: &[u8],
    summed: bool,
) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(source.port().to_be_bytes());
    segment.extend(destination.port().to_be_bytes());
    let field = if protocol == TCP {
        let header = 20 + options.len() as u8;
        segment.extend([0, 0, 0, 1, 0, 0, 0, 2, header << 2, flags, 0xff, 0xff, 0, 0, 0, 0]);
        segment.extend(options);
        segment.extend(b"word");
        16
    } else {
        segment.extend([0, 12, 0, 0]);
        segment.extend(b"word");
        6
    };
    if summed {
        let sum = pseudo_checksum(source.ip(), destination.ip(), protocol, &segment);
        segment[field..field + 2].copy_from_slice(&sum);
    }
    ip(source.ip(), destination.ip(), protocol, &segment)
}

/// `more` is what stands in the second half of the header.
fn icmp(
    source: IpAddr,
    destination: IpAddr,
    ipv4: [u8; 2],
    ipv6: [u8; 2],
    more: u32,
    body: &[u8],
) -> Vec<u8> {
    let kind = if source.is_ipv4() { ipv4 } else { ipv6 };
    let mut message = vec![kind[0], kind[1], 0, 0];
    message.extend(more.to_be_bytes());
    message.extend(body);
    let (protocol, sum) = match source {
        IpAddr::V4(_) => (1, checksum(&[&message])),
        IpAddr::V6(_) => (58, pseudo_checksum(source, destination, 58, &message)),
    };
    message[2..4].copy_from_slice(&sum);
    ip(source, destination, protocol, &message)
}

fn ip(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u16;
    let mut packet = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let [high, low] = (length + 20).to_be_bytes();
            let mut header = vec![0x45, 0, high, low, 0, 7, 0, 0, 64, protocol, 0, 0];
            header.extend(source.octets());
            header.extend(destination.octets());
            let sum = checksum(&[&header]);
            header[10..12].copy_from_slice(&sum);
            header
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let [high, low] = length.to_be_bytes();
            let mut header = vec![0x60, 0, 0, 0, high, low, protocol, 64];
            header.extend(source.octets());
            header.extend(destination.octets());
            header
        }
        _ => panic!("{source} and {destination} are of different IP versions"),
    };
    packet.extend(payload);
    packet
}

fn pseudo_checksum(source: IpAddr, destination: IpAddr, protocol: u8, segment: &[u8]) -> [u8; 2] {
    let octets = |address| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let length = (segment.len() as u16).to_be_bytes();
    let sum = checksum(&[&octets(source), &octets(destination), &[0, protocol], &length, segment]);
    if protocol == UDP && sum == [0, 0] { [0xff, 0xff] } else { sum }
}

/// RFC 1071, straight from its text. All parts but the last are of even length.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let word = |word: &[u8]| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
    let mut sum: u32 = words.map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

fn end(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| panic!("{text} is not ADDRESS:PORT"))
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text} is not an address"))
}

fn port_9(text: &str) -> SocketAddr {
    SocketAddr::new(address(text), 9)
}
