//! Which packets wait for their owner to be known?

use crate::engine::Facts;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How many packets may be held; one more is shown again at once, with
/// [`Duration::MAX`] as the time it was held.
pub(super) const LIMIT: usize = 1024;

/// How long a held packet rests before it is shown again.
pub(super) const REST: Duration = Duration::from_millis(1);

/// A packet put aside.
#[derive(Debug)]
pub(super) struct HeldPacket<P> {
    /// What the platform needs to send it on.
    pub(super) packet: P,
    pub(super) facts: Facts,
    pub(super) bytes: Vec<u8>,
    since: Instant,
}

/// The packets that wait, oldest first.
#[derive(Debug)]
pub(super) struct Held<P> {
    packets: VecDeque<HeldPacket<P>>,
    shown: Option<Instant>,
}

impl<P> Default for Held<P> {
    fn default() -> Self {
        Self { packets: VecDeque::new(), shown: None }
    }
}

impl<P: Clone> Held<P> {
    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Puts a copy of a packet aside, unless there are too many already.
    pub(super) fn keep(&mut self, now: Instant, packet: &P, facts: Facts, bytes: &[u8]) -> bool {
        let room = self.packets.len() < LIMIT;
        if room {
            let (packet, bytes) = (packet.clone(), bytes.to_vec());
            self.packets.push_back(HeldPacket { packet, facts, bytes, since: now });
        }
        room
    }

    /// Puts a packet that was taken to be shown aside once more.
    pub(super) fn keep_on(&mut self, held: HeldPacket<P>) {
        self.packets.push_back(held);
    }

    /// Takes all packets to be shown at `now`, with the time they have been held
    /// by then; none if they were shown just before.
    pub(super) fn due(&mut self, now: Instant) -> VecDeque<HeldPacket<P>> {
        if self.shown.is_some_and(|shown| now.saturating_duration_since(shown) < REST) {
            return VecDeque::new();
        }
        self.shown = Some(now);
        let mut packets = std::mem::take(&mut self.packets);
        for held in &mut packets {
            held.facts.held = now.saturating_duration_since(held.since);
        }
        packets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Begun, Checksum, Direction};

    const FACTS: Facts = Facts {
        direction: Direction::Out,
        loopback: false,
        interface: 0,
        checksum: Checksum::Absent,
        begun: Begun::Unknown,
        held: Duration::ZERO,
    };

    #[test]
    #[expect(clippy::disallowed_methods, reason = "time has to begin somewhere")]
    fn held_packets_rest_and_come_back_in_order_until_there_are_too_many() {
        let start = Instant::now();
        let mut held = Held::default();
        for id in 0..LIMIT {
            assert!(held.keep(start, &id, FACTS, b"bytes"));
        }
        assert!(!held.keep(start, &LIMIT, FACTS, b"bytes"));
        let shown = held.due(start + REST);
        assert!(shown.iter().enumerate().all(|(at, held)| held.packet == at));
        assert!(shown.iter().all(|held| held.facts.held == REST && held.bytes == b"bytes"));
        shown.into_iter().for_each(|packet| held.keep_on(packet));
        assert!(held.due(start + REST).is_empty() && !held.is_empty());
        assert_eq!(held.due(start + REST * 2).len(), LIMIT);
    }
}
