//! Who decides in these tests? A translation between one host address and one
//! virtual address, without memory; and a thread that takes its turns.

use crate::network::{P, V, Wire};
use sessionip::divert::Divert;
use sessionip::divert::linux::rules::{self, RuleSet};
use sessionip::divert::linux::{Counters, Nfqueue, Waker, run_ahead};
use sessionip::engine::{Direction, Diverted};
use sessionip::packet::{Content, Endpoint, parse};
use sessionip::translate::{Side, set_end, set_end_of_error};
use sessionip::verdict::{Reason, Verdict};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) const BASE: u16 = 7770;

pub(crate) fn rules(wire: &Wire) -> RuleSet {
    RuleSet {
        base_queue: BASE,
        pool: vec![(IpAddr::V4(V), Ipv4Addr::new(10, 77, 0, 199).into())],
        scope_parents: vec![wire.scopes()],
        ping_programs: None,
        ipv6: false,
    }
}

/// Out: from P becomes from V. In: to V becomes to P.
pub(crate) fn translate(packet: &mut Diverted<'_>) -> Verdict {
    let (side, from, to) = match packet.facts.direction {
        Direction::Out => (Side::Source, P, V),
        Direction::In => (Side::Destination, V, P),
    };
    set(packet, side, from, to)
}

/// Sets the end at `side` to `to`, where it is `from`.
pub(crate) fn set(packet: &mut Diverted<'_>, side: Side, from: Ipv4Addr, to: Ipv4Addr) -> Verdict {
    let parsed = parse(packet.bytes).expect("a packet");
    let end = |source, destination| match side {
        Side::Source => source,
        Side::Destination => destination,
    };
    let checksum = packet.facts.checksum;
    let done = match parsed.content() {
        Content::Transport { source, destination, .. } => {
            let Endpoint { address, port } = end(source, destination);
            if address != from {
                return Verdict::Pass(Reason::NoSession);
            }
            set_end(packet.bytes, &parsed, side, Endpoint::new(to.into(), port), checksum)
        }
        Content::IcmpError { quoted_source, quoted_destination, .. } => {
            let Endpoint { address, port } = end(quoted_destination, quoted_source);
            if address != from {
                return Verdict::Pass(Reason::NoSession);
            }
            let to = Endpoint::new(to.into(), port);
            set_end_of_error(packet.bytes, &parsed, side, IpAddr::V4(from), to, checksum)
        }
        Content::Echo { .. }
        | Content::Fragment { .. }
        | Content::Authenticated { .. }
        | Content::Other { .. } => return Verdict::Pass(Reason::Excluded),
    };
    done.expect("the packet just parsed");
    Verdict::Rewrite(Reason::SessionSource)
}

/// A thread that takes turns until it is dropped.
pub(crate) struct Daemon {
    pub(crate) counters: Arc<Counters>,
    waker: Waker,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Opens the queues on the host of `wire` and asks `decide` of each packet.
    pub(crate) fn start(
        wire: &Wire,
        mut decide: impl FnMut(&mut Diverted<'_>) -> Verdict + Send + 'static,
    ) -> Self {
        let (mut queues, waker) = wire.host(|| Nfqueue::open(BASE)).expect("queues");
        let over = Arc::new(AtomicBool::new(false));
        let counters = queues.counters();
        let ends = Arc::clone(&over);
        let thread = std::thread::Builder::new().name("daemon".to_owned()).spawn(move || {
            let mut decide = |batch: &mut [Diverted<'_>], verdicts: &mut Vec<Verdict>| {
                verdicts.extend(batch.iter_mut().map(&mut decide));
            };
            run_ahead().expect("root may run ahead");
            while !ends.load(Ordering::Relaxed) {
                queues.turn(Duration::from_secs(60), &mut decide).expect("a turn");
            }
        });
        Self { counters, waker, over, thread: thread.ok() }
    }

    /// With rules, and the translation of [`translate`].
    pub(crate) fn translating(wire: &Wire) -> Self {
        let daemon = Self::start(wire, translate);
        let rules = rules(wire);
        wire.host(|| rules::install(&rules)).expect("rules");
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.waker.wake();
        let ended = self.thread.take().map(JoinHandle::join);
        // One panic is enough to see what failed.
        assert!(std::thread::panicking() || ended.is_none_or(|ended| ended.is_ok()));
    }
}
