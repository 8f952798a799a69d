//! How do packets come and go on Windows? By WinDivert.
//!
//! A handle's filter is fixed, so what is led here changes by new handles: the
//! [`Switch`] opens them and hands them over, the [`Diverter`] reads the old ones
//! to their end before it begins with the new.
//!
//! | handle | flags | priority | packets |
//! |---|---|---|---|
//! | foreign | drop | 1040 | to and from binds to another session's address (O5) |
//! | loopback | receive only | 1030 | what looks for a moved listener, and its answers |
//! | main | receive only | 1020 | from a host address out, to the pool in, within the host |
//! | inject | send only | 1010 | goes on: no handle above sees it again |
//!
//! Which exactly, [`filter`](super::filter) says.

mod batch;
mod counters;
mod dll;
mod error;
mod event;
mod facts;
mod handle;
mod host_packets;
mod lane;
mod priority;
mod slot;
mod switch;

pub use counters::{BOUNDS, Counters, Waited};
pub use error::{OpenError, SelectError};
pub use event::Waker;
pub use priority::run_ahead;
pub use switch::Switch;

/// Filters go with their handles: nobody can store one.
pub fn stored_rules() -> Vec<PathBuf> {
    Vec::new()
}

pub(crate) use dll::Dll;
pub(crate) use handle::Handle;

use crate::divert::Divert;
use crate::divert::held::{self, Held};
use crate::engine::Diverted;
use crate::verdict::Verdict;
use batch::{Fate, Packet};
use crossbeam_channel::Receiver;
use event::{Timer, Waits};
use facts::{Address, facts_of};
use lane::{Lane, Taken};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use windivert::prelude::{WinDivertFlags, WinDivertLayer};
use windivert_sys::WINDIVERT_BATCH_MAX;

/// How many packets come and go in one call.
const BATCH: usize = WINDIVERT_BATCH_MAX as usize;

/// Where the handles of one kind stand among all that see a packet, ours and
/// other programs': the highest sees it first.
const FOREIGN: i16 = 1040;
const LOOPBACK: i16 = 1030;
const MAIN: i16 = 1020;
const INJECT: i16 = 1010;
/// On a layer of its own, where the order is only one among listeners.
pub(crate) const SOCKETS: i16 = 1050;

/// The handles that packets are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Main,
    Loopback,
}

/// What the [`Switch`] says to the [`Diverter`].
#[derive(Debug)]
struct Change {
    kind: Kind,
    /// What is read from now on; nothing if there is no such handle any more.
    handle: Option<Handle>,
}

/// Opens what packets are sent by; nothing is led here before [`Switch::select`].
///
/// # Errors
/// Something of WinDivert is missing, blocked, or not permitted.
pub fn open() -> Result<(Diverter, Switch), OpenError> {
    Diverter::open()
}

/// Packets by WinDivert.
#[derive(Debug)]
pub struct Diverter {
    // The lanes come first: nothing is sent once they are gone.
    lanes: [Lane; 2],
    inject: Handle,
    changes: Receiver<Change>,
    waker: Waker,
    timer: Timer,
    counters: Arc<Counters>,
    /// Which lane is looked at first: each in its turn.
    first: usize,
    packets: Vec<Packet>,
    /// Empty between two turns, and kept for its memory.
    shown: Vec<Diverted<'static>>,
    verdicts: Vec<Verdict>,
    held: Held<Address>,
}

impl Diverter {
    /// Loads the WinDivert.dll beside the running program and opens the handle
    /// that packets leave by. Nothing is led here until [`Switch::select`].
    ///
    /// # Errors
    /// Something of WinDivert is missing, blocked, or not permitted.
    pub fn open() -> Result<(Self, Switch), OpenError> {
        Self::open_by(Dll::beside_program()?)
    }

    /// As [`open`](Self::open), with the DLL of this path.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_with(dll: &Path) -> Result<(Self, Switch), OpenError> {
        Self::open_by(Dll::load(dll)?)
    }

    fn open_by(dll: Dll) -> Result<(Self, Switch), OpenError> {
        let flags = WinDivertFlags::new().set_send_only();
        let inject = Handle::open(dll, c"false", WinDivertLayer::Network, INJECT, flags)
            .map_err(|error| OpenError::of(&error))?;
        inject.check_version()?;
        let waker = Waker::new().map_err(OpenError::System)?;
        let counters = Arc::new(Counters::new());
        let (sender, changes) = crossbeam_channel::bounded(switch::CHANGES);
        let diverter = Self {
            lanes: [Lane::default(), Lane::default()],
            inject,
            changes,
            waker: waker.clone(),
            timer: Timer::new().map_err(OpenError::System)?,
            counters: Arc::clone(&counters),
            first: 0,
            packets: Vec::with_capacity(BATCH),
            shown: Vec::with_capacity(BATCH),
            verdicts: Vec::with_capacity(BATCH),
            held: Held::default(),
        };
        Ok((diverter, Switch::new(dll, sender, waker, counters)))
    }

    /// Major and minor of the driver's version.
    ///
    /// # Errors
    /// The driver does not say.
    pub(crate) fn driver_version(&self) -> io::Result<(u64, u64)> {
        self.inject.version()
    }

    /// What is counted, readable from any thread.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }
}

impl Divert for Diverter {
    /// Held packets are shown once a millisecond, as a batch of their own, ahead
    /// of those that arrived. A packet that finds no room among the held ones is
    /// shown a second time at once, with [`Duration::MAX`] as the time it was
    /// held; whoever holds it even then has it dropped. What another driver
    /// injected goes on without being shown; what is no IP packet of the length
    /// it says goes nowhere (see [`Counters`]).
    fn turn(
        &mut self,
        wait: Duration,
        decide: &mut dyn FnMut(&mut [Diverted<'_>], &mut Vec<Verdict>),
    ) -> io::Result<usize> {
        self.take_changes()?;
        let shown = self.show_held(decide);
        let wait = match (shown, self.held.is_empty()) {
            (0, true) => wait,
            (0, false) => wait.min(held::REST),
            _ => Duration::ZERO,
        };
        Ok(shown + self.show_arrived(wait, decide)?)
    }
}

impl Diverter {
    fn take_changes(&mut self) -> io::Result<()> {
        while let Ok(Change { kind, handle }) = self.changes.try_recv() {
            let [main, loopback] = &mut self.lanes;
            let lane = match kind {
                Kind::Main => main,
                Kind::Loopback => loopback,
            };
            lane.replace(handle, now())?;
        }
        for lane in self.lanes.iter_mut().filter(|lane| lane.is_leaving()) {
            lane.settle(now());
        }
        self.counters.set_handles(self.lanes.iter().map(Lane::handles).sum());
        Ok(())
    }

    fn show_held(
        &mut self,
        decide: &mut dyn FnMut(&mut [Diverted<'_>], &mut Vec<Verdict>),
    ) -> usize {
        if self.held.is_empty() {
            return 0;
        }
        let mut packets = self.held.due(now());
        let mut batch: Vec<_> = packets
            .iter_mut()
            .map(|held| Diverted { bytes: &mut held.bytes, facts: held.facts })
            .collect();
        self.verdicts.clear();
        if !batch.is_empty() {
            decide(&mut batch, &mut self.verdicts);
        }
        let shown = packets.len();
        for (at, held) in packets.into_iter().enumerate() {
            match self.verdicts.get(at) {
                Some(Verdict::Hold) => self.held.keep_on(held),
                Some(Verdict::Pass(_) | Verdict::Rewrite(_)) => {
                    send(&self.inject, &self.counters, &held.bytes, &[held.packet]);
                }
                Some(Verdict::Drop(_)) | None => {}
            }
        }
        shown
    }

    fn show_arrived(
        &mut self,
        wait: Duration,
        decide: &mut dyn FnMut(&mut [Diverted<'_>], &mut Vec<Verdict>),
    ) -> io::Result<usize> {
        let lane = match self.ready() {
            Some(lane) => lane,
            None if wait.is_zero() => return Ok(0),
            None => {
                self.sleep(wait)?;
                self.take_changes()?;
                match self.ready() {
                    Some(lane) => lane,
                    None => return Ok(0),
                }
            }
        };
        let Self { lanes, inject, counters, packets, shown, verdicts, held, .. } = self;
        let Some(lane) = lanes.get_mut(lane) else { return Ok(0) };
        let count = match lane.take(now())? {
            Taken::Batch { bytes, addresses } => {
                let malformed = batch::split(bytes, addresses, packets);
                let first = addresses.first().map_or(0, |address| address.event_timestamp());
                counters.count_batch(addresses.len(), malformed, first);
                let batch = Batch { bytes, addresses, packets, verdicts, held, counters };
                let (count, emptied) = batch.show(std::mem::take(shown), decide);
                *shown = emptied;
                for run in batch::runs(packets) {
                    let bytes = bytes.get(run.bytes).unwrap_or_default();
                    send(inject, counters, bytes, addresses.get(run.packets).unwrap_or_default());
                }
                count
            }
            Taken::Truncated => {
                counters.count_truncated();
                0
            }
            Taken::Nothing => 0,
        };
        lane.go_on(now())?;
        Ok(count)
    }

    /// The lane to look at now, each in its turn.
    fn ready(&mut self) -> Option<usize> {
        let lanes = self.lanes.len();
        let ready = (self.first..).take(lanes).map(|at| at % lanes);
        let ready = ready.into_iter().find(|at| self.lanes.get(*at).is_some_and(Lane::is_ready))?;
        self.first = (ready + 1) % lanes;
        Some(ready)
    }

    /// Sleeps until there is a packet, a wake-up, or nothing for as long as
    /// `wait`.
    fn sleep(&self, wait: Duration) -> io::Result<()> {
        let mut waits = Waits::default();
        waits.add(self.waker.event());
        for lane in &self.lanes {
            if let Some(event) = lane.event() {
                waits.add(event);
            }
        }
        let leaves = self.lanes.iter().any(Lane::is_leaving);
        waits.wait(if leaves { wait.min(lane::LOOK) } else { wait }, &self.timer)
    }
}

/// A batch and what is needed to decide about it.
struct Batch<'a> {
    bytes: &'a mut [u8],
    addresses: &'a mut [Address],
    packets: &'a mut [Packet],
    verdicts: &'a mut Vec<Verdict>,
    held: &'a mut Held<Address>,
    counters: &'a Counters,
}

impl Batch<'_> {
    /// Has it decided what becomes of each packet; says how many were shown.
    fn show(
        self,
        shown: Vec<Diverted<'static>>,
        decide: &mut dyn FnMut(&mut [Diverted<'_>], &mut Vec<Verdict>),
    ) -> (usize, Vec<Diverted<'static>>) {
        let Self { bytes, addresses, packets, verdicts, held, counters } = self;
        let mut shown = emptied(shown);
        let mut rest = bytes;
        for (packet, address) in packets.iter_mut().zip(addresses.iter_mut()) {
            let Some((bytes, after)) = rest.split_at_mut_checked(packet.length) else { break };
            rest = after;
            if address.impostor() {
                packet.fate = Fate::Send;
                counters.count_impostor();
            } else {
                packet.fate = Fate::Shown;
                let facts = facts_of(bytes, address);
                shown.push(Diverted { bytes, facts });
            }
        }
        verdicts.clear();
        if !shown.is_empty() {
            decide(&mut shown, verdicts);
        }
        let decided = packets.iter_mut().zip(addresses.iter());
        let decided = decided.filter(|(packet, _)| packet.fate == Fate::Shown);
        for (at, ((packet, address), diverted)) in decided.zip(shown.iter_mut()).enumerate() {
            let mut verdict = verdicts.get(at).copied();
            if verdict == Some(Verdict::Hold) {
                if held.keep(now(), address, diverted.facts, diverted.bytes) {
                    packet.fate = Fate::Leave;
                    continue;
                }
                diverted.facts.held = Duration::MAX;
                let mut alone = Vec::with_capacity(1);
                decide(std::slice::from_mut(diverted), &mut alone);
                verdict = alone.first().copied();
            }
            packet.fate = match verdict {
                Some(Verdict::Pass(_) | Verdict::Rewrite(_)) => Fate::Send,
                Some(Verdict::Drop(_) | Verdict::Hold) | None => Fate::Leave,
            };
        }
        (shown.len(), emptied(shown))
    }
}

/// The memory of a list for packets of another batch.
fn emptied<'a>(mut list: Vec<Diverted<'_>>) -> Vec<Diverted<'a>> {
    list.clear();
    list.into_iter().map(|_| unreachable!("the list is empty")).collect()
}

/// Lets packets that lie one behind the other go on.
fn send(inject: &Handle, counters: &Counters, bytes: &[u8], addresses: &[Address]) {
    if let Err(error) = inject.send(bytes, addresses) {
        // With 1232 (ERROR_HOST_UNREACHABLE) a hop limit ended, and the others of
        // the batch were sent. Otherwise nobody can tell which were.
        let alone = error.raw_os_error() == Some(error::HOST_UNREACHABLE);
        counters.count_refused(if alone { 1 } else { addresses.len() });
        tracing::trace!(%error, packets = addresses.len(), "the driver did not send");
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a packet is held is time on this machine")]
fn now() -> Instant {
    Instant::now()
}
