//! Does this packet's flow go on, is it looked at again, or does one begin?

use super::{Direction, Engine, Facts, Find, Host, Ready};
use crate::classify::{Conversation, Decision, Question};
use crate::config::UnknownOwner;
use crate::flow::{Face, Flow, Key, Pair, Refused};
use crate::owner::Sockets;
use crate::packet::{Parsed, TcpFlags};
use crate::verdict::{Reason, Verdict};

/// How many slots are looked through for room when the table is full: few, for
/// it is most likely a flood that has filled it.
const SWEEP_WHEN_FULL: u32 = 64;

/// A packet of TCP or UDP, or a ping, and when.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) packet: Conversation,
    pub(super) parsed: &'a Parsed,
    pub(super) now: u32,
}

/// How a packet goes on by one row of the table.
pub(super) enum Step {
    /// With these ends.
    On(Pair, Reason),
    /// Not, or not now.
    Stop(Verdict),
}

/// What becomes of a flow that was looked at again.
pub(super) enum Standing {
    /// It goes on.
    On,
    /// It may not: its address is its session's no longer.
    Gone,
    /// The packet is of another conversation between the same ends.
    Another,
}

impl<S: Sockets> Engine<S> {
    /// The first tier, whole: the packet of a flow that is not to be looked at
    /// again. `None`: it is for the others.
    #[inline]
    pub(super) fn known(
        &mut self,
        now: u32,
        bytes: &mut [u8],
        facts: &Facts,
        parsed: &Parsed,
        ready: &Ready,
    ) -> Option<Verdict> {
        let Find { key, tcp, .. } = ready.find.as_ref()?;
        let slot = self.found(ready)?;
        let flow = self.flows.flow_mut(slot)?;
        let direction = facts.direction;
        if facts.loopback || is_to_be_looked_at(flow, self.epoch, direction, *tcp, now) {
            return None;
        }
        flow.follow(direction, *tcp, now);
        flow.count(parsed.length());
        let face = key.face().other();
        let (local, remote) = (flow.turned_local(face), flow.turned_remote(face));
        let reason = flow.reason();
        Some(self.turned(bytes, facts, parsed, local, remote, reason))
    }

    /// The flow of a packet that was read.
    #[inline]
    pub(super) fn found(&self, ready: &Ready) -> Option<u32> {
        let Find { key, hash, .. } = ready.find.as_ref()?;
        let is_it = |slot: &u32| self.flows.flow(*slot).is_some_and(|flow| flow.is(key));
        ready.guess.filter(is_it).or_else(|| self.flows.find_hashed(key, *hash))
    }

    /// What leaves goes on with the outside ends of its flow.
    pub(super) fn leave(&mut self, facts: &Facts, seen: &Seen<'_>, found: Option<u32>) -> Step {
        if let Some(slot) = found {
            match self.standing(Direction::Out, seen, slot) {
                Standing::On => return self.go_on(Direction::Out, seen, slot, true),
                Standing::Gone => return Step::Stop(Verdict::Drop(Reason::ForeignSource)),
                Standing::Another => self.flows.remove(slot),
            }
        }
        let decision = self.question(facts).leaving(&seen.packet);
        self.begin(Direction::Out, facts, seen, decision)
    }

    /// What arrives goes on with the inside ends of its flow.
    pub(super) fn arrive(&mut self, facts: &Facts, seen: &Seen<'_>, found: Option<u32>) -> Step {
        let Conversation { protocol, pair, .. } = seen.packet;
        if let Some(slot) = found {
            match self.standing(Direction::In, seen, slot) {
                Standing::On => {
                    let counts = facts.direction == Direction::Out
                        || !facts.loopback
                        || !self.was_seen_leaving(&seen.packet);
                    return self.go_on(Direction::In, seen, slot, counts);
                }
                Standing::Gone => return Step::Stop(Verdict::Drop(Reason::ForeignSource)),
                Standing::Another => self.flows.remove(slot),
            }
        }
        // It has its inside ends already: it was turned when it left.
        let inside = self.flows.find(&Key::new(Face::Inside, protocol, &pair));
        if let Some(flow) = inside.and_then(|slot| self.flows.flow(slot)) {
            return Step::On(pair, flow.reason());
        }
        let decision = self.question(facts).arriving(&seen.packet);
        self.begin(Direction::In, facts, seen, decision)
    }

    /// Between sockets of this host a packet may be seen, and counted, as it
    /// leaves and again as it arrives. What leaves from a virtual address as it
    /// is, is seen as it arrives only.
    fn was_seen_leaving(&self, arriving: &Conversation) -> bool {
        let sender = Key::new(Face::Outside, arriving.protocol, &arriving.pair.turned());
        let flow = self.flows.find(&sender).and_then(|slot| self.flows.flow(slot));
        flow.is_some_and(|flow| !self.host.in_pool(flow.inside().local.address))
    }

    pub(super) fn question<'a>(&'a mut self, facts: &'a Facts) -> Question<'a, S> {
        Question {
            host: &self.host,
            policy: &self.policy,
            flows: &self.flows,
            sockets: &mut self.sockets,
            facts,
            pinger: None,
        }
    }

    /// Does this flow go on with this packet?
    pub(super) fn standing(
        &mut self,
        direction: Direction,
        seen: &Seen<'_>,
        slot: u32,
    ) -> Standing {
        match self.flows.flow(slot) {
            None => Standing::Another,
            Some(flow)
                if is_to_be_looked_at(flow, self.epoch, direction, seen.packet.tcp, seen.now) =>
            {
                self.look_again(direction, seen, slot)
            }
            Some(_) => Standing::On,
        }
    }

    /// The second tier.
    fn look_again(&mut self, direction: Direction, seen: &Seen<'_>, slot: u32) -> Standing {
        let Some(flow) = self.flows.flow_mut(slot) else { return Standing::Another };
        let Conversation { protocol, pair, tcp } = seen.packet;
        let opens = tcp.syn && !tcp.ack;
        let asks = opens || flow.owner_is_stale(seen.now);
        match direction {
            // A socket of ours never opens a connection that it has. The same
            // port may be another session's by now, or another program's: of a
            // connection that went on unchanged only the SYN was seen.
            Direction::Out if opens && !flow.is_opening() => return Standing::Another,
            Direction::Out if asks && flow.opened_here() => {
                match self.sockets.owner(protocol, pair.local, pair.remote) {
                    Some(owner)
                        if owner.session != flow.session()
                            || opens && !flow.was_begun_by(&owner) =>
                    {
                        return Standing::Another;
                    }
                    _ => flow.owner_confirmed(seen.now),
                }
            }
            // Whoever is not ours may forge one: only what is over is begun anew.
            Direction::In if opens && flow.is_closed() => return Standing::Another,
            Direction::Out | Direction::In => {}
        }
        if !is_own(&self.host, flow) {
            let holder = self.host.holder(flow.outside().local.address);
            if direction == Direction::In && holder.is_some() {
                return Standing::Another;
            }
            flow.retire();
            return Standing::Gone;
        }
        flow.epoch = self.epoch;
        Standing::On
    }

    /// The packet goes on as its flow does.
    pub(super) fn go_on(
        &mut self,
        direction: Direction,
        seen: &Seen<'_>,
        slot: u32,
        counts: bool,
    ) -> Step {
        let Some(flow) = self.flows.flow_mut(slot) else {
            return Step::Stop(self.unaccounted(Reason::TableFull));
        };
        flow.follow(direction, seen.packet.tcp, seen.now);
        if counts {
            flow.count(seen.parsed.length());
        }
        let pair = match direction {
            Direction::Out => flow.outside(),
            Direction::In => flow.inside(),
        };
        Step::On(pair, flow.reason())
    }

    /// The third tier's end: what was decided is recorded.
    pub(super) fn begin(
        &mut self,
        direction: Direction,
        facts: &Facts,
        seen: &Seen<'_>,
        decision: Decision,
    ) -> Step {
        let begin = match decision {
            Decision::Begin(begin) => begin,
            Decision::Pass(reason) => return Step::On(seen.packet.pair, reason),
            Decision::Drop(reason) => return Step::Stop(Verdict::Drop(reason)),
            Decision::Hold => return Step::Stop(Verdict::Hold),
            Decision::NoPort => return Step::Stop(self.unaccounted(Reason::TableFull)),
            Decision::Unowned => match self.policy.unknown_owner {
                UnknownOwner::Drop => return Step::Stop(Verdict::Drop(Reason::UnknownOwner)),
                // It stays unchanged, even if its owner turns up later.
                UnknownOwner::Pass => {
                    let packet = &seen.packet;
                    let decision =
                        self.question(facts).unchanged(packet, Reason::UnknownOwner, None);
                    return self.begin(direction, facts, seen, decision);
                }
            },
        };
        let unchanged = (begin.inside == begin.outside).then_some(begin.reason);
        if self.flows.is_full() {
            self.flows.expire(seen.now, SWEEP_WHEN_FULL);
        }
        match self.flows.insert(begin, self.epoch, seen.now) {
            Ok(slot) => self.go_on(direction, seen, slot, true),
            Err(refused) => match (refused, unchanged) {
                (Refused::Taken, Some(reason)) => Step::On(seen.packet.pair, reason),
                _ => Step::Stop(self.unaccounted(Reason::TableFull)),
            },
        }
    }
}

/// What the first tier leaves to the second: the epoch has changed, or another
/// conversation may have taken over the flow's ends.
#[inline]
fn is_to_be_looked_at(
    flow: &Flow,
    epoch: u32,
    direction: Direction,
    tcp: TcpFlags,
    now: u32,
) -> bool {
    let opens = tcp.syn && !tcp.ack;
    flow.epoch != epoch || opens || direction == Direction::Out && flow.owner_is_stale(now)
}

/// The address a flow has on the wire is no virtual one, or still its session's.
pub(super) fn is_own(host: &Host, flow: &Flow) -> bool {
    let address = flow.outside().local.address;
    !host.in_pool(address) || host.holder(address) == flow.session()
}
