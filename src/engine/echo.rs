//! What becomes of a ping, and of the answer to one? (X2)

use super::tiers::{Seen, Standing, Step};
use super::{Direction, Engine, Facts};
use crate::classify::{Conversation, Question, is_for_many};
use crate::flow::{Face, Key, Pair};
use crate::owner::{Owner, Ping, Pinger, Sockets};
use crate::packet::{Content, Endpoint, Parsed, Protocol, TcpFlags};
use crate::verdict::{Reason, Verdict};

impl<S: Sockets> Engine<S> {
    /// A request of this host is treated like a datagram, by its id; an answer
    /// follows its flow. What others ask is the host's to answer.
    ///
    /// Who asks is asked for with every request: pings are few, and an id may be
    /// used by more than one socket.
    pub(super) fn echo(
        &mut self,
        now: u32,
        bytes: &mut [u8],
        facts: &Facts,
        parsed: &Parsed,
    ) -> Verdict {
        let Content::Echo { source, destination, id, request } = parsed.content() else {
            return Verdict::Pass(Reason::NoSession);
        };
        if is_for_many(&self.host, destination) {
            return Verdict::Pass(Reason::Excluded); // X4
        }
        if source.is_loopback() || destination.is_loopback() {
            return Verdict::Pass(Reason::HostLocal);
        }
        let (local, remote) = match request {
            true => (Endpoint::new(source, id), Endpoint::new(destination, 0)),
            false => (Endpoint::new(destination, id), Endpoint::new(source, 0)),
        };
        let packet = Conversation {
            protocol: Protocol::Icmp,
            pair: Pair { local, remote },
            tcp: TcpFlags::default(),
        };
        let seen = Seen { packet, parsed, now };
        let step = match (facts.direction, request) {
            (Direction::Out, true) => match self.pinger(bytes, parsed) {
                Pinger::Known(owner) => self.asks(facts, &seen, Some(owner)),
                Pinger::Unknown => self.asks(facts, &seen, None),
                Pinger::OnBehalf => return Verdict::Pass(Reason::HostService), // X9
            },
            (Direction::In, false) => self.is_answered(&seen),
            (Direction::Out, false) | (Direction::In, true) => {
                return Verdict::Pass(Reason::NoSession);
            }
        };
        match step {
            Step::On(pair, reason) => {
                let turned = (pair.local != local).then_some(pair.local);
                self.turned(bytes, facts, parsed, turned, None, reason)
            }
            Step::Stop(verdict) => verdict,
        }
    }

    fn pinger(&mut self, bytes: &[u8], parsed: &Parsed) -> Pinger {
        let header = bytes.get(parsed.transport..).and_then(<[u8]>::first_chunk);
        header.map_or(Pinger::Unknown, |header| {
            let (source, destination) = (parsed.source(), parsed.destination());
            self.sockets.pinger(&Ping { source, destination, header: *header })
        })
    }

    /// A request goes on with the outside ends of its session's flow.
    fn asks(&mut self, facts: &Facts, seen: &Seen<'_>, owner: Option<Owner>) -> Step {
        let key = Key::new(Face::Inside, Protocol::Icmp, &seen.packet.pair);
        let session = owner.as_ref().and_then(|owner| owner.session);
        if let Some(slot) = self.flows.find_of(&key, session) {
            let begun_by = |owner| self.flows.flow(slot).is_some_and(|it| it.was_begun_by(owner));
            let same = owner.as_ref().is_none_or(begun_by);
            match self.standing(Direction::Out, seen, slot) {
                Standing::On if same => return self.go_on(Direction::Out, seen, slot, true),
                Standing::Gone => return Step::Stop(Verdict::Drop(Reason::ForeignSource)),
                // The id is another process's by now.
                Standing::On | Standing::Another => self.flows.remove(slot),
            }
        }
        let mut question = Question { pinger: owner, ..self.question(facts) };
        let decision = question.leaving(&seen.packet);
        self.begin(Direction::Out, facts, seen, decision)
    }

    /// An answer goes on with the inside ends of its flow.
    fn is_answered(&mut self, seen: &Seen<'_>) -> Step {
        let pair = seen.packet.pair;
        let key = Key::new(Face::Outside, Protocol::Icmp, &pair);
        if let Some(slot) = self.flows.find(&key) {
            match self.standing(Direction::In, seen, slot) {
                Standing::On => return self.go_on(Direction::In, seen, slot, true),
                Standing::Gone => return Step::Stop(Verdict::Drop(Reason::ForeignSource)),
                Standing::Another => self.flows.remove(slot),
            }
        }
        let nobody_asked = self.host.in_pool(pair.local.address);
        Step::On(pair, if nobody_asked { Reason::Closed } else { Reason::NoSession })
    }
}
