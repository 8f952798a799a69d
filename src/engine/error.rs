//! What becomes of an ICMP error about a packet of a flow? (X1)

use super::tiers::is_own;
use super::{Direction, Engine, Facts};
use crate::flow::{Face, Flow, Key, Pair};
use crate::owner::Sockets;
use crate::packet::{Content, Endpoint, Parsed};
use crate::translate::{Mismatch, Side, set_end_of_error};
use crate::verdict::{Reason, Verdict};

impl<S: Sockets> Engine<S> {
    /// An error follows the flow of the packet it quotes, both ways, and is
    /// turned outside and in: so path-MTU discovery and port-unreachable reach
    /// the socket. It makes no flow, keeps none alive, and has no owner to ask for.
    pub(super) fn error(&self, bytes: &mut [u8], facts: &Facts, parsed: &Parsed) -> Verdict {
        let Content::IcmpError { protocol, quoted_source, quoted_destination, .. } =
            parsed.content()
        else {
            return Verdict::Pass(Reason::NoSession);
        };
        // Who reports the error was to get the packet quoted, or is on its way.
        let mut reported = Pair { local: quoted_destination, remote: quoted_source };
        let mut verdict = None;
        if facts.direction == Direction::Out {
            let found = self.flows.find(&Key::new(Face::Inside, protocol, &reported));
            if let Some(flow) = found.and_then(|slot| self.flows.flow(slot)) {
                let ends = (flow.inside(), flow.outside());
                verdict = Some(self.turn(bytes, facts, parsed, Side::Source, flow, ends));
                reported = flow.outside();
            }
        }
        if facts.direction == Direction::In || facts.loopback {
            let told = Key::new(Face::Outside, protocol, &reported.turned());
            let found = self.flows.find(&told);
            if let Some(flow) = found.and_then(|slot| self.flows.flow(slot)) {
                let ends = (flow.outside(), flow.inside());
                let turned = self.turn(bytes, facts, parsed, Side::Destination, flow, ends);
                verdict = match verdict {
                    Some(first @ Verdict::Rewrite(_)) if !matches!(turned, Verdict::Drop(_)) => {
                        Some(first)
                    }
                    _ => Some(turned),
                };
            }
        }
        verdict.unwrap_or(match facts.direction {
            Direction::Out => Verdict::Pass(Reason::NoSession),
            Direction::In => Verdict::Pass(Reason::Closed),
        })
    }

    /// Turns both ends of the conversation from `ends.0` to `ends.1`, where the
    /// flow may still go on; `side` is that of the error at which its local end is.
    fn turn(
        &self,
        bytes: &mut [u8],
        facts: &Facts,
        parsed: &Parsed,
        side: Side,
        flow: &Flow,
        ends: (Pair, Pair),
    ) -> Verdict {
        if !is_own(&self.host, flow) {
            return Verdict::Drop(Reason::ForeignSource);
        }
        let (from, to) = ends;
        let other = match side {
            Side::Source => Side::Destination,
            Side::Destination => Side::Source,
        };
        let mut set = |side: Side, from: Endpoint, to: Endpoint| {
            if from == to {
                return Ok(());
            }
            set_end_of_error(bytes, parsed, side, from.address, to, facts.checksum)
        };
        match set(side, from.local, to.local).and_then(|()| set(other, from.remote, to.remote)) {
            Ok(()) if from == to => Verdict::Pass(flow.reason()),
            Ok(()) => Verdict::Rewrite(flow.reason()),
            Err(Mismatch) => self.unaccounted(Reason::Malformed),
        }
    }
}
