//! How is one conversation led through here, changed, and let go again?
//!
//! By the product's own [`Diverter`], with a filter for that conversation and
//! nothing else: other traffic of the server does not notice.

use super::{Why, in_full, now};
use crate::divert::{self, Counters, Divert, Diverter, OpenError, SelectError, Switch};
use crate::engine::{Direction, Diverted};
use crate::packet::{Content, Endpoint, parse};
use crate::translate::{Side, set_end};
use crate::verdict::{Reason, Verdict};
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a turn waits before it looks whether it is to end.
const LOOK_UP: Duration = Duration::from_millis(100);
/// How many first packets are remembered.
const MOST_SYNS: usize = 4096;

/// Which end of a packet becomes which address; `None`: it stays as it is.
pub(super) type Rewrite = Box<dyn FnMut(&Content) -> Option<(Side, IpAddr)> + Send>;

/// One conversation's packets.
#[derive(Debug)]
pub(super) struct Tap {
    switch: Switch,
    end: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// What came by.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) outward: u64,
    pub(super) inward: u64,
    /// Packets that stayed on this host.
    pub(super) loopback: u64,
    pub(super) rewritten: u64,
    pub(super) largest_outward: usize,
    pub(super) largest_inward: usize,
    /// Local ports of the connections that began, and when they were seen to.
    pub(super) syns: Vec<(u16, Instant)>,
}

/// Packets cannot be led here.
#[derive(Debug, thiserror::Error)]
pub(super) enum TapError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Select(#[from] SelectError),
    #[error("there is no thread for packets")]
    Thread(#[source] io::Error),
}

impl From<TapError> for Why {
    fn from(error: TapError) -> Self {
        Self::failed("packets cannot be diverted", in_full(&error))
    }
}

impl Tap {
    /// Leads what `filter` says here, from now on.
    pub(super) fn open(filter: &str, mut rewrite: Rewrite) -> Result<Self, TapError> {
        let (mut diverter, switch) = divert::open()?;
        let end = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (ends, sees) = (Arc::clone(&end), Arc::clone(&seen));
        let thread = std::thread::Builder::new().name("selftest".into());
        let thread = thread.spawn(move || {
            divert::run_ahead().ok();
            while !ends.load(Ordering::Acquire) {
                turn(&mut diverter, &sees, &mut rewrite)?;
            }
            Ok(())
        });
        let thread = Some(thread.map_err(TapError::Thread)?);
        let tap = Self { switch, end, seen, thread };
        tap.switch.lead(filter)?;
        Ok(tap)
    }

    /// What came by so far.
    pub(super) fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    pub(super) fn counters(&self) -> Arc<Counters> {
        self.switch.counters()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.switch.release().ok();
        self.end.store(true, Ordering::Release);
        self.switch.wake();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => tracing::warn!(%error, "packets came no more"),
            Some(Err(_)) => tracing::warn!("the thread of the packets panicked"),
            Some(Ok(Ok(()))) | None => {}
        }
    }
}

fn turn(diverter: &mut Diverter, seen: &Mutex<Seen>, rewrite: &mut Rewrite) -> io::Result<()> {
    diverter.turn(LOOK_UP, &mut |packets, verdicts| {
        let (mut seen, now) = (lock(seen), now());
        verdicts.extend(packets.iter_mut().map(|packet| decide(packet, &mut seen, now, rewrite)));
    })?;
    Ok(())
}

fn decide(
    packet: &mut Diverted<'_>,
    seen: &mut Seen,
    now: Instant,
    rewrite: &mut Rewrite,
) -> Verdict {
    let length = packet.bytes.len();
    match packet.facts.direction {
        Direction::Out => {
            seen.outward += 1;
            seen.largest_outward = seen.largest_outward.max(length);
        }
        Direction::In => {
            seen.inward += 1;
            seen.largest_inward = seen.largest_inward.max(length);
        }
    }
    seen.loopback += u64::from(packet.facts.loopback);
    let Ok(parsed) = parse(packet.bytes) else { return Verdict::Pass(Reason::Malformed) };
    let content = parsed.content();
    let Content::Transport { source, destination, tcp, .. } = content else {
        return Verdict::Pass(Reason::Bound);
    };
    if tcp.syn && !tcp.ack && seen.syns.len() < MOST_SYNS {
        seen.syns.push((source.port, now));
    }
    let Some((side, address)) = rewrite(&content) else { return Verdict::Pass(Reason::Bound) };
    let port = match side {
        Side::Source => source.port,
        Side::Destination => destination.port,
    };
    let to = Endpoint::new(address, port);
    match set_end(packet.bytes, &parsed, side, to, packet.facts.checksum) {
        Ok(()) => {
            seen.rewritten += 1;
            Verdict::Rewrite(Reason::SessionSource)
        }
        Err(_) => Verdict::Pass(Reason::Bound),
    }
}

/// What goes out from `inside` leaves from `outside`, and what comes back to
/// `outside` goes to `inside`; `port` is of that end, where one is given.
pub(super) fn between(inside: IpAddr, outside: IpAddr, port: Option<u16>) -> Rewrite {
    let is_port = move |end: Endpoint| port.is_none_or(|port| port == end.port);
    Box::new(move |content| {
        let Content::Transport { source, destination, .. } = *content else { return None };
        if source.address == inside && is_port(source) {
            Some((Side::Source, outside))
        } else if destination.address == outside && is_port(destination) {
            Some((Side::Destination, inside))
        } else {
            None
        }
    })
}

/// Everything stays as it is.
pub(super) fn unchanged() -> Rewrite {
    Box::new(|_| None)
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Protocol;

    #[test]
    fn two_ways_are_each_other_s_opposite() {
        let [inside, outside, peer] =
            ["10.77.0.1", "10.77.0.101", "10.77.0.2"].map(|it| it.parse::<IpAddr>().unwrap());
        let packet = |source, destination| {
            let (source, destination) =
                (Endpoint::new(source, 9000), Endpoint::new(destination, 9000));
            Content::Transport {
                protocol: Protocol::Tcp,
                source,
                destination,
                tcp: Default::default(),
            }
        };
        let mut all = between(inside, outside, None);
        assert_eq!(all(&packet(inside, peer)), Some((Side::Source, outside)));
        assert_eq!(all(&packet(peer, outside)), Some((Side::Destination, inside)));
        assert_eq!(all(&packet(peer, inside)), None);
        assert_eq!(all(&packet(outside, peer)), None);
        let mut other_port = between(inside, outside, Some(9001));
        assert_eq!(other_port(&packet(inside, peer)), None);
        assert_eq!(unchanged()(&packet(inside, peer)), None);
    }
}
