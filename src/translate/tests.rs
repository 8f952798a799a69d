//! Does a packet come out as if it had been sent that way?

use super::*;
use crate::packet::parse;
use etherparse::checksum::Sum16BitWords;
use etherparse::{
    IpFragOffset, IpHeaders, IpNumber, Ipv4Header, Ipv6Extensions, Ipv6FragmentHeader, Ipv6Header,
    Ipv6RawExtHeader, PacketBuilder,
};
use proptest::prelude::*;

/// What is said between any two of three ends. Tests build a packet between
/// two of them, set one end to the third, and compare with the packet that
/// etherparse builds from there: byte for byte, all checksums included.
#[derive(Clone, Debug)]
struct Sample {
    ends: [Endpoint; 3],
    protocol: Protocol,
    extended: bool,
    payload: Vec<u8>,
}

fn sample() -> impl Strategy<Value = Sample> {
    let payload = prop::collection::vec(any::<u8>(), 0..200);
    let address = prop_oneof![
        any::<[[u8; 4]; 3]>().prop_map(|octets| octets.map(IpAddr::from)),
        any::<[[u8; 16]; 3]>().prop_map(|octets| octets.map(IpAddr::from)),
    ];
    let protocol = prop::sample::select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Icmp]);
    (address, any::<[u16; 3]>(), protocol, any::<bool>(), payload).prop_map(
        |(address, port, protocol, extended, payload)| Sample {
            ends: [0, 1, 2].map(|end| Endpoint::new(address[end], port[end])),
            protocol,
            extended,
            payload,
        },
    )
}

fn side() -> impl Strategy<Value = Side> {
    prop::sample::select(vec![Side::Source, Side::Destination])
}

fn checksum() -> impl Strategy<Value = Checksum> {
    prop::sample::select(vec![Checksum::Real, Checksum::Partial, Checksum::Absent])
}

impl Sample {
    fn packet(&self, source: Endpoint, destination: Endpoint) -> Vec<u8> {
        let builder = PacketBuilder::ip(ip(source.address, destination.address, self.extended));
        let mut packet = Vec::new();
        match self.protocol {
            Protocol::Tcp => builder
                .tcp(source.port, destination.port, 1, 1000)
                .options_raw(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2])
                .unwrap()
                .write(&mut packet, &self.payload)
                .unwrap(),
            Protocol::Udp => builder
                .udp(source.port, destination.port)
                .write(&mut packet, &self.payload)
                .unwrap(),
            Protocol::Icmp if source.address.is_ipv4() => builder
                .icmpv4_echo_request(source.port, 1)
                .write(&mut packet, &self.payload)
                .unwrap(),
            Protocol::Icmp => builder
                .icmpv6_echo_request(source.port, 1)
                .write(&mut packet, &self.payload)
                .unwrap(),
        }
        packet
    }

    /// The packet from the first end to the second, and the same with one
    /// end set to the third.
    fn before_and_after(&self, side: Side) -> (Vec<u8>, Vec<u8>) {
        let [a, b, to] = self.ends;
        let after = match side {
            Side::Source => self.packet(to, b),
            Side::Destination => self.packet(a, to),
        };
        (self.packet(a, b), after)
    }

    fn checksum<'a>(&self, packet: &'a mut [u8]) -> &'a mut [u8; 2] {
        let at = parse(packet).unwrap().transport;
        field(packet, at + self.checksum_in_header()).unwrap()
    }

    fn checksum_in_header(&self) -> usize {
        match self.protocol {
            Protocol::Tcp => 16,
            Protocol::Udp => 6,
            Protocol::Icmp => 2,
        }
    }
}

/// An IP header, if wanted with options or extension headers behind it.
fn ip(source: IpAddr, destination: IpAddr, extended: bool) -> IpHeaders {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = Ipv4Header {
                source: source.octets(),
                destination: destination.octets(),
                time_to_live: 64,
                ..Ipv4Header::default()
            };
            if extended {
                header.options = [148, 4, 0, 0].into(); // router alert
            }
            IpHeaders::Ipv4(header, Default::default())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = Ipv6Header {
                source: source.octets(),
                destination: destination.octets(),
                hop_limit: 64,
                ..Ipv6Header::default()
            };
            let mut extensions = Ipv6Extensions::default();
            if extended {
                let padding = [1, 4, 0, 0, 0, 0];
                let options = Ipv6RawExtHeader::new_raw(IpNumber::UDP, &padding).unwrap();
                extensions.hop_by_hop_options = Some(options.clone());
                extensions.destination_options = Some(options);
                extensions.fragment =
                    Some(Ipv6FragmentHeader::new(IpNumber::UDP, IpFragOffset::ZERO, false, 1));
            }
            IpHeaders::Ipv6(header, extensions)
        }
        _ => panic!("one packet has addresses of one IP version"),
    }
}

/// Port unreachable, about the packet quoted.
fn error(reporter: IpAddr, told: IpAddr, quoted: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ip(ip(reporter, told, false));
    let mut packet = Vec::new();
    if reporter.is_ipv4() {
        builder.icmpv4_raw(3, 3, [0; 4]).write(&mut packet, quoted).unwrap();
    } else {
        builder.icmpv6_raw(1, 4, [0; 4]).write(&mut packet, quoted).unwrap();
    }
    packet
}

fn set(packet: &mut [u8], side: Side, to: Endpoint, checksum: Checksum) {
    let parsed = parse(packet).unwrap();
    set_end(packet, &parsed, side, to, checksum).unwrap();
}

proptest! {
    #[test]
    fn real(sample in sample(), side in side()) {
        let (mut packet, after) = sample.before_and_after(side);
        set(&mut packet, side, sample.ends[2], Checksum::Real);
        prop_assert_eq!(packet, after);
    }

    #[test]
    fn absent(sample in sample(), side in side(), garbage in 1u16..) {
        let (mut packet, after) = sample.before_and_after(side);
        *sample.checksum(&mut packet) = garbage.to_be_bytes();
        set(&mut packet, side, sample.ends[2], Checksum::Absent);
        prop_assert_eq!(packet, after);
    }

    #[test]
    fn partial(sample in sample(), side in side()) {
        // ICMP is never left partial.
        prop_assume!(sample.protocol != Protocol::Icmp);
        let (mut packet, after) = sample.before_and_after(side);
        let (transport, end) = parse(&packet).map(|parsed| (parsed.transport, parsed.end)).unwrap();
        let addresses = if packet[0] >> 4 == 4 { 12..20 } else { 8..40 };
        let pseudo = Sum16BitWords::new()
            .add_slice(&packet[addresses])
            .add_2bytes([0, sample.protocol as u8])
            .add_4bytes(((end - transport) as u32).to_be_bytes());
        *sample.checksum(&mut packet) = (!pseudo.ones_complement()).to_ne_bytes();
        set(&mut packet, side, sample.ends[2], Checksum::Partial);
        // What the network card makes of it.
        let whole = Sum16BitWords::new().add_slice(&packet[transport..end]);
        let whole = match sample.protocol {
            Protocol::Tcp | Protocol::Icmp => whole.ones_complement(),
            Protocol::Udp => whole.to_ones_complement_with_no_zero(),
        };
        *sample.checksum(&mut packet) = whole.to_ne_bytes();
        prop_assert_eq!(packet, after);
    }

    #[test]
    fn there_and_back(sample in sample(), side in side(), damage: u8) {
        let (mut packet, _) = sample.before_and_after(side);
        // A wrong checksum is to be as wrong afterwards.
        if !sample.payload.is_empty() {
            *packet.last_mut().unwrap() ^= damage;
        }
        let before = packet.clone();
        let from = sample.ends[side as usize];
        set(&mut packet, side, sample.ends[2], Checksum::Real);
        set(&mut packet, side, from, Checksum::Real);
        prop_assert_eq!(packet, before);
    }

    #[test]
    fn udp_without_checksum(mut sample in sample(), side in side()) {
        sample.protocol = Protocol::Udp;
        let (mut packet, mut after) = sample.before_and_after(side);
        *sample.checksum(&mut packet) = [0, 0];
        let before = packet.clone();
        set(&mut packet, side, sample.ends[2], Checksum::Absent);
        if sample.ends[0].address.is_ipv6() {
            prop_assert_eq!(&packet, &after, "IPv6 has to have one");
            packet = before;
            set(&mut packet, side, sample.ends[2], Checksum::Real);
        }
        *sample.checksum(&mut after) = [0, 0];
        prop_assert_eq!(packet, after);
    }

    /// An error about a packet we turned: its addressee, or a router on the
    /// way, tells whoever was said to have sent it; or it is ours, to go out.
    #[test]
    fn errors(
        sample in sample(),
        side in side(),
        router: bool,
        cut in 28usize..300,
        checksum in prop::sample::select(vec![Checksum::Real, Checksum::Absent]),
        back: bool,
    ) {
        let [a, b, to] = sample.ends;
        let elsewhere = if a.address.is_ipv4() {
            IpAddr::from([192, 0, 2, 1])
        } else {
            IpAddr::from([0x20; 16])
        };
        let quoted = |source, destination| {
            let mut packet = sample.packet(source, destination);
            let transport = parse(&packet).unwrap().transport;
            let ends = if sample.protocol == Protocol::Icmp { 6 } else { 4 };
            let mut end = cut.max(transport + ends);
            if end == transport + sample.checksum_in_header() + 1 {
                end += 1; // half a checksum cannot be corrected
            }
            packet.truncate(end);
            packet
        };
        let (mut packet, after, from) = match (side, router) {
            (Side::Destination, false) => (
                error(b.address, a.address, &quoted(a, b)),
                error(b.address, to.address, &quoted(to, b)),
                a,
            ),
            (Side::Destination, true) => (
                error(elsewhere, a.address, &quoted(a, b)),
                error(elsewhere, to.address, &quoted(to, b)),
                a,
            ),
            (Side::Source, false) => (
                error(b.address, a.address, &quoted(a, b)),
                error(to.address, a.address, &quoted(a, to)),
                b,
            ),
            (Side::Source, true) => (
                error(elsewhere, a.address, &quoted(a, b)),
                error(elsewhere, a.address, &quoted(a, to)),
                b,
            ),
        };
        prop_assume!(elsewhere != from.address && elsewhere != to.address);
        let parsed = parse(&packet).unwrap();
        let before = packet.clone();
        set_end_of_error(&mut packet, &parsed, side, from.address, to, checksum).unwrap();
        prop_assert_eq!(&packet, &after);
        if back {
            set_end_of_error(&mut packet, &parsed, side, to.address, from, checksum).unwrap();
            prop_assert_eq!(packet, before);
        }
    }

    /// Whatever passes for a packet is set without a panic; what does not belong
    /// to what was parsed is set or refused, but not left half done.
    #[test]
    fn any_bytes(
        mut bytes in prop::collection::vec(any::<u8>(), 80..200),
        mut other in prop::collection::vec(any::<u8>(), 0..200),
        cut in 0usize..200,
        ipv6: bool,
        protocol in prop::sample::select(vec![6u8, 17, 58]),
        quoted in prop::sample::select(vec![6u8, 17]),
        sample in sample(),
        side in side(),
        checksum in checksum(),
    ) {
        let at = if ipv6 { 40 } else { 20 };
        pose_as_ip(&mut bytes, ipv6, protocol);
        match protocol {
            6 => bytes[at + 12] |= 0x50,
            17 => bytes[at + 4..at + 6].copy_from_slice(&[0, 40]),
            _ => {
                bytes[at] = if ipv6 { 1 } else { 3 };
                pose_as_ip(&mut bytes[at + 8..], ipv6, quoted);
            }
        }
        if let Ok(parsed) = parse(&bytes) {
            let to = sample.ends[2];
            let shorter = bytes[..cut.min(bytes.len())].to_vec();
            if let Some(first) = other.first_mut() {
                *first = *first & 0x0f | if ipv6 { 0x40 } else { 0x60 };
            }
            for mut bytes in [bytes, shorter, other] {
                let before = bytes.clone();
                if set_end(&mut bytes, &parsed, side, to, checksum).is_err() {
                    prop_assert_eq!(&bytes, &before);
                }
                let before = bytes.clone();
                let from = parsed.source();
                if set_end_of_error(&mut bytes, &parsed, side, from, to, checksum).is_err() {
                    prop_assert_eq!(&bytes, &before);
                }
            }
        }
    }
}

/// Makes random bytes a whole IP packet, as far as the header says.
fn pose_as_ip(bytes: &mut [u8], ipv6: bool, protocol: u8) {
    if ipv6 {
        bytes[..7].copy_from_slice(&[0x60, 0, 0, 0, 0, 40, protocol]);
    } else {
        bytes[..4].copy_from_slice(&[0x45, 0, 0, 80]);
        bytes[6..10].copy_from_slice(&[0, 0, 64, if protocol == 58 { 1 } else { protocol }]);
    }
}

fn udp() -> Sample {
    Sample {
        ends: [
            Endpoint::new([10, 77, 0, 1].into(), 40_000),
            Endpoint::new([10, 77, 0, 2].into(), 53),
            Endpoint::new([10, 77, 0, 101].into(), 40_000),
        ],
        protocol: Protocol::Udp,
        extended: false,
        payload: b"hello".to_vec(),
    }
}

#[test]
fn udp_checksum_that_comes_out_as_zero() {
    let sample = udp();
    let (before, _) = sample.before_and_after(Side::Source);
    let parsed = parse(&before).unwrap();
    for checksum in [Checksum::Real, Checksum::Absent] {
        let mut all_ones = 0;
        for port in 0..=u16::MAX {
            let mut packet = before.clone();
            let to = Endpoint::new(sample.ends[2].address, port);
            set_end(&mut packet, &parsed, Side::Source, to, checksum).unwrap();
            let written = *sample.checksum(&mut packet);
            assert_ne!(written, [0, 0], "port {port}");
            all_ones += usize::from(written == [0xff, 0xff]);
        }
        // One port in 65535 makes the sum come out so.
        assert_eq!(all_ones, 1, "{checksum:?}");
    }
}

#[test]
fn bytes_behind_the_packet_are_let_be() {
    let (mut packet, mut after) = udp().before_and_after(Side::Source);
    packet.extend([0xff; 7]);
    after.extend([0xff; 7]);
    set(&mut packet, Side::Source, udp().ends[2], Checksum::Absent);
    assert_eq!(packet, after);
}

#[test]
fn what_does_not_belong_together() {
    let (before, _) = udp().before_and_after(Side::Source);
    let parsed = parse(&before).unwrap();
    let ipv6 = Endpoint::new([0xfd; 16].into(), 1);
    let ipv4 = udp().ends[2];
    let [a, b] = [[10, 77, 0, 2].into(), [10, 77, 0, 1].into()];
    let set_in = |bytes: &[u8], to| {
        let mut bytes = bytes.to_vec();
        set_end(&mut bytes, &parsed, Side::Source, to, Checksum::Real)
    };
    assert_eq!(set_in(&before, ipv4), Ok(()));
    assert_eq!(set_in(&before, ipv6), Err(Mismatch));
    assert_eq!(set_in(&before[..before.len() - 1], ipv4), Err(Mismatch));

    let mut error = error(a, b, &before);
    let before = error.clone();
    let parsed = parse(&error).unwrap();
    for result in [
        set_end(&mut error, &parsed, Side::Source, ipv4, Checksum::Real),
        set_end_of_error(&mut error, &parsed, Side::Source, a, ipv6, Checksum::Real),
    ] {
        assert_eq!(result, Err(Mismatch));
    }
    assert_eq!(error, before);
}
