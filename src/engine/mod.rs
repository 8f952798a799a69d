//! The line itself: what happens to this packet?

#![warn(clippy::indexing_slicing, reason = "nothing that strangers send may panic")]

mod echo;
mod error;
mod facts;
mod tiers;

pub use facts::{Addresses, Begun, Checksum, Direction, Diverted, Facts, Host};

use crate::classify::{Conversation, is_for_many};
use crate::config::UnknownOwner;
use crate::flow::{Face, FlowTable, FlowView, Key, Pair, SWEEP};
use crate::owner::Sockets;
use crate::packet::{Content, Endpoint, Malformed, Parsed, TcpFlags, parse};
use crate::policy::Policy;
use crate::translate::{Mismatch, Side, set_end};
use crate::verdict::{Reason, Reasons, Verdict};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;
use tiers::{Seen, Step};

/// Decides about packets and changes them. A pure state machine: time, packets,
/// and what is known of host, policy and sockets come in; verdicts go out.
pub struct Engine<S> {
    sockets: S,
    host: Arc<Host>,
    policy: Policy,
    flows: FlowTable,
    /// Bumped when host or policy change. A flow looked at under an older one is
    /// looked at again.
    epoch: u32,
    began: Option<Instant>,
    reasons: Reasons,
    counts: Counts,
    /// The batch at hand; empty between batches.
    ready: Vec<Ready>,
}

/// How many packets there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that the divert showed.
    pub diverted: u64,
    /// Those of them that went on changed.
    pub rewritten: u64,
}

/// A packet that has been read, and what its flow is found by.
struct Ready {
    parsed: Result<Parsed, Malformed>,
    /// `None`: it is neither TCP nor UDP.
    find: Option<Find>,
    /// Most likely its flow.
    guess: Option<u32>,
}

impl Ready {
    #[inline]
    fn parse(packet: &[u8]) -> Self {
        Self { parsed: parse(packet), find: None, guess: None }
    }
}

/// What the flow of a packet of TCP or UDP is found by.
struct Find {
    key: Key,
    hash: u32,
    tcp: TcpFlags,
}

impl<S: Sockets> Engine<S> {
    /// An engine that keeps at most `limit` flows. It passes what it is asked
    /// about by `policy`, and knows of no session until [`set_host`](Self::set_host).
    pub fn new(sockets: S, policy: Policy, limit: usize) -> Self {
        Self {
            sockets,
            host: Arc::default(),
            policy,
            flows: FlowTable::new(limit),
            epoch: 0,
            began: None,
            reasons: Reasons::default(),
            counts: Counts::default(),
            ready: Vec::new(),
        }
    }

    /// A session came or went, or a host address did. Flows of a session that is
    /// gone are dropped from their next packet on; all others stay as they are.
    pub fn set_host(&mut self, host: impl Into<Arc<Host>>) {
        self.host = host.into();
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// The configuration was loaded again: for flows that begin from now on.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// The sockets it asks, for whoever keeps them up to date.
    pub fn sockets(&mut self) -> &mut S {
        &mut self.sockets
    }

    /// Decides about one packet, and changes it in place where the verdict says
    /// [`Rewrite`](Verdict::Rewrite). Three tiers, none of which takes a lock:
    ///
    /// 1. A flow of this epoch: one look-up by hash, one flow of two cache lines.
    ///    No allocation, no question asked.
    /// 2. A flow that is looked at again: because the epoch changed (two more
    ///    look-ups by hash, once an epoch), or because another conversation may
    ///    have taken over its ends (a SYN; UDP once a second: one question to the
    ///    [`Sockets`], a microsecond each).
    /// 3. No flow: the table of rows, with one to five questions to the sockets,
    ///    and a new flow in the table. A new port on the wire may take more.
    ///
    /// A packet between two sockets of this host goes through them twice.
    pub fn process(&mut self, now: Instant, packet: &mut [u8], facts: &Facts) -> Verdict {
        let now = self.seconds(now);
        let mut ready = Ready::parse(packet);
        ready.find = self.find(&ready, facts);
        self.verdict(now, packet, facts, &ready)
    }

    /// Decides about packets in their order, as [`process`](Self::process) does
    /// about each; `verdicts` holds one for each afterwards and nothing else.
    ///
    /// All packets are read first and their flows fetched, so that the processor
    /// waits for memory once and not once a packet.
    pub fn process_batch(
        &mut self,
        now: Instant,
        packets: &mut [Diverted<'_>],
        verdicts: &mut Vec<Verdict>,
    ) {
        let now = self.seconds(now);
        let mut batch = std::mem::take(&mut self.ready);
        batch.extend(packets.iter().map(|packet| Ready::parse(packet.bytes)));
        // Each loop is short and its turns are independent of each other: that is
        // what lets their cache misses overlap.
        for (ready, packet) in batch.iter_mut().zip(packets.iter()) {
            ready.find = self.find(ready, &packet.facts);
        }
        for ready in &mut batch {
            ready.guess = ready.find.as_ref().and_then(|find| self.flows.guess(find.hash));
        }
        for ready in &batch {
            let flow = ready.guess.and_then(|slot| self.flows.flow(slot));
            black_box(flow.map(|flow| flow.touch()));
        }
        verdicts.clear();
        verdicts.extend(
            packets
                .iter_mut()
                .zip(&batch)
                .map(|(packet, ready)| self.verdict(now, packet.bytes, &packet.facts, ready)),
        );
        batch.clear();
        self.ready = batch;
    }

    /// Forgets flows that have been silent for too long, and says how many. Each
    /// call does a bounded piece of the work: call it some ten times a second.
    pub fn expire(&mut self, now: Instant) -> usize {
        let now = self.seconds(now);
        self.flows.expire(now, SWEEP)
    }

    /// How many packets met each reason. A packet that is held is counted as
    /// held the first time.
    pub fn reasons(&self) -> &Reasons {
        &self.reasons
    }

    /// How many packets there were.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many flows are remembered.
    pub fn flow_count(&self) -> usize {
        self.flows.len()
    }

    /// A page of the flows: at most `max`, from `cursor` on (0 first), and where
    /// the next page begins; `None` after the last. A page may be short or empty
    /// before the last: the work for one is bounded. Flows that begin or end
    /// between two pages may be missed.
    pub fn flows_from(&self, cursor: u32, max: usize) -> (Vec<FlowView>, Option<u32>) {
        self.flows.list(cursor, max)
    }

    fn seconds(&mut self, now: Instant) -> u32 {
        let began = *self.began.get_or_insert(now);
        now.saturating_duration_since(began).as_secs() as u32
    }

    #[inline]
    fn find(&self, ready: &Ready, facts: &Facts) -> Option<Find> {
        let Content::Transport { protocol, source, destination, tcp } =
            ready.parsed.as_ref().ok()?.content()
        else {
            return None;
        };
        let key = match facts.direction {
            Direction::Out => {
                let pair = Pair { local: source, remote: destination };
                Key::new(Face::Inside, protocol, &pair)
            }
            Direction::In => {
                let pair = Pair { local: destination, remote: source };
                Key::new(Face::Outside, protocol, &pair)
            }
        };
        Some(Find { hash: self.flows.hash(&key), key, tcp })
    }

    /// The verdict, counted.
    #[inline]
    fn verdict(&mut self, now: u32, packet: &mut [u8], facts: &Facts, ready: &Ready) -> Verdict {
        let verdict = match &ready.parsed {
            Ok(parsed) => self
                .known(now, packet, facts, parsed, ready)
                .unwrap_or_else(|| self.decide(now, packet, facts, parsed, ready)),
            Err(_) => self.unaccounted(Reason::Malformed),
        };
        if facts.held.is_zero() {
            self.counts.diverted += 1;
        }
        if matches!(verdict, Verdict::Rewrite(_)) {
            self.counts.rewritten += 1;
        }
        if verdict != Verdict::Hold || facts.held.is_zero() {
            self.reasons.count(verdict.reason());
        }
        if verdict.reason() == Reason::UnknownOwner && !facts.held.is_zero() {
            self.reasons.count(Reason::HeldTooLong);
        }
        verdict
    }

    /// Everything but the first tier.
    #[inline(never)]
    fn decide(
        &mut self,
        now: u32,
        packet: &mut [u8],
        facts: &Facts,
        parsed: &Parsed,
        ready: &Ready,
    ) -> Verdict {
        match parsed.content() {
            Content::Transport { protocol, source, destination, tcp } => {
                let pair = match facts.direction {
                    Direction::Out => Pair { local: source, remote: destination },
                    Direction::In => Pair { local: destination, remote: source },
                };
                let seen = Seen { packet: Conversation { protocol, pair, tcp }, parsed, now };
                self.transport(packet, facts, &seen, self.found(ready))
            }
            Content::IcmpError { .. } => self.error(packet, facts, parsed),
            // X3. Its other fragments have no ports: they cannot be turned.
            Content::Fragment { source, destination } => {
                let virtual_address = self.host.in_pool(source) || self.host.in_pool(destination);
                match virtual_address {
                    true => Verdict::Drop(Reason::Fragment),
                    false => Verdict::Pass(Reason::Fragment),
                }
            }
            Content::Authenticated { .. } => Verdict::Pass(Reason::Authenticated), // X5
            Content::Echo { .. } => self.echo(now, packet, facts, parsed),
            Content::Other { destination, .. } => {
                match is_for_many(&self.host, destination) {
                    true => Verdict::Pass(Reason::Excluded), // X4
                    false => Verdict::Pass(Reason::NoSession),
                }
            }
        }
    }

    /// One row, or an O row and then the I row of what it made of the packet.
    fn transport(
        &mut self,
        bytes: &mut [u8],
        facts: &Facts,
        seen: &Seen<'_>,
        found: Option<u32>,
    ) -> Verdict {
        let step = match facts.direction {
            Direction::Out => self.leave(facts, seen, found),
            Direction::In => self.arrive(facts, seen, found),
        };
        let (mut pair, mut reason) = match step {
            Step::On(pair, reason) => (pair, reason),
            Step::Stop(verdict) => return verdict,
        };
        let original = seen.packet.pair;
        if facts.direction == Direction::Out && facts.loopback {
            let there = Conversation { pair: pair.turned(), ..seen.packet };
            let key = Key::new(Face::Outside, there.protocol, &there.pair);
            let found = self.flows.find(&key);
            match self.arrive(facts, &Seen { packet: there, ..*seen }, found) {
                Step::On(end, why) => {
                    if pair == original && end.turned() != pair {
                        reason = why;
                    }
                    pair = end.turned();
                }
                Step::Stop(verdict) => return verdict,
            }
        }
        let local = (pair.local != original.local).then_some(pair.local);
        let remote = (pair.remote != original.remote).then_some(pair.remote);
        self.turned(bytes, facts, seen.parsed, local, remote, reason)
    }

    /// The packet with the ends it goes on with, where they are others than it has.
    #[inline]
    fn turned(
        &self,
        bytes: &mut [u8],
        facts: &Facts,
        parsed: &Parsed,
        local: Option<Endpoint>,
        remote: Option<Endpoint>,
        reason: Reason,
    ) -> Verdict {
        let (source, destination) = match facts.direction {
            Direction::Out => (local, remote),
            Direction::In => (remote, local),
        };
        let mut set = |side: Side, to: Option<Endpoint>| {
            to.map_or(Ok(()), |to| set_end(bytes, parsed, side, to, facts.checksum))
        };
        if source.is_none() && destination.is_none() {
            return Verdict::Pass(reason);
        }
        match set(Side::Source, source).and_then(|()| set(Side::Destination, destination)) {
            Ok(()) => Verdict::Rewrite(reason),
            Err(Mismatch) => self.unaccounted(Reason::Malformed),
        }
    }

    /// What cannot be parsed or kept account of goes the way of what has no owner.
    fn unaccounted(&self, reason: Reason) -> Verdict {
        match self.policy.unknown_owner {
            UnknownOwner::Pass => Verdict::Pass(reason),
            UnknownOwner::Drop => Verdict::Drop(reason),
        }
    }
}
