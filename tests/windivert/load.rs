//! Packets of many live flows, through the diverter and the engine.

use crate::crowd::{self, Crowd, LENGTH};
use crate::fake::{CHECKSUMS, Fake, OUTBOUND, Packets};
use sessionip::divert::{Divert, Diverter, Selection, Switch};
use sessionip::engine::{Direction, Engine};
use sessionip::packet::Protocol;
use sessionip::verdict::Verdict;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// The priority of the main handle.
pub(crate) const MAIN: i16 = 1020;

pub(crate) struct Load {
    pub(crate) diverter: Diverter,
    pub(crate) switch: Switch,
    pub(crate) fake: Fake,
    engine: Engine<Crowd>,
    known: Packets,
    flows: u32,
}

impl Load {
    pub(crate) fn new(flows: u32) -> Self {
        let fake = Fake::new();
        let (diverter, switch) = fake.open();
        switch.select(&selection()).expect("a handle");
        let mut known = Packets::default();
        for number in 0..flows {
            for direction in [Direction::Out, Direction::In] {
                known.add(
                    &packet(protocol(number), number, direction, false),
                    flags(number, direction),
                );
            }
        }
        let engine = crowd::engine(flows as usize * 4);
        Self { diverter, switch, fake, engine, known, flows }
    }

    /// Each flow's first packet goes out.
    pub(crate) fn open_flows(&mut self) {
        let mut opening = Packets::default();
        for number in 0..self.flows {
            let packet = packet(protocol(number), number, Direction::Out, true);
            opening.add(&packet, flags(number, Direction::Out));
        }
        let count = u64::from(self.flows);
        assert_eq!(self.pass(&opening, count), count, "every flow is translated");
    }

    /// Packets of known flows, out and in; all are rewritten.
    pub(crate) fn pass_known(&mut self, count: u64) {
        let known = std::mem::take(&mut self.known);
        assert_eq!(self.pass(&known, count), count, "all are rewritten");
        self.known = known;
    }

    /// Hands out `count` packets and takes turns until all were shown or were no
    /// packets; says how many were rewritten.
    #[expect(clippy::disallowed_methods, reason = "time has to begin somewhere")]
    pub(crate) fn pass(&mut self, packets: &Packets, count: u64) -> u64 {
        let Self { diverter, fake, engine, .. } = self;
        let counters = diverter.counters();
        let until = counters.received() + count;
        let mut rewritten = 0;
        fake.feed(MAIN, packets, count);
        while counters.received() < until {
            let turn = diverter.turn(Duration::from_secs(5), &mut |batch, verdicts| {
                engine.process_batch(Instant::now(), batch, verdicts);
                let rewrites = verdicts.iter().filter(|one| matches!(one, Verdict::Rewrite(_)));
                rewritten += rewrites.count() as u64;
            });
            turn.expect("the stand-in is there");
        }
        rewritten
    }
}

pub(crate) fn selection() -> Selection {
    let v4 = |a, b, c, d| Ipv4Addr::new(a, b, c, d).into();
    Selection {
        pool: vec![(v4(10, 77, 1, 0), v4(10, 77, 1, 255))],
        host_addresses: (0..20).map(|session| v4(10, 77, 0, session)).collect(),
        ..Selection::default()
    }
}

pub(crate) const fn protocol(number: u32) -> Protocol {
    if number.is_multiple_of(2) { Protocol::Tcp } else { Protocol::Udp }
}

/// Half of the flows have their checksums left to the card.
pub(crate) const fn flags(number: u32, direction: Direction) -> u32 {
    let checksums = if number % 4 < 2 { CHECKSUMS } else { 0 };
    match direction {
        Direction::Out => checksums | OUTBOUND,
        Direction::In => checksums,
    }
}

/// A packet of the crowd, with checksums.
pub(crate) fn packet(
    protocol: Protocol,
    number: u32,
    direction: Direction,
    opens: bool,
) -> [u8; LENGTH] {
    let mut packet = crowd::packet(protocol, number, direction, opens);
    let sum = checksum(&[&packet[..20]]);
    packet[10..12].copy_from_slice(&sum);
    let field = if protocol == Protocol::Tcp { 36 } else { 26 };
    let length = (LENGTH as u16 - 20).to_be_bytes();
    let pseudo = [&packet[12..20], &[0, packet[9]], &length, &packet[20..]];
    let sum = checksum(&pseudo);
    packet[field..field + 2].copy_from_slice(&sum);
    packet
}

/// RFC 1071, straight from its text.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words.map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}
