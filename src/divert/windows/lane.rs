//! In which order are the handles of one kind read?
//!
//! One at a time. A handle that is replaced takes no new packets, is read to its
//! end and closed; only then the next one is read, so that the packets of a flow
//! keep their order. What the next one has taken meanwhile waits in the driver.

use super::error::{INSUFFICIENT_BUFFER, NO_DATA, NO_RESOURCES, gone};
use super::event::Event;
use super::facts::Address;
use super::handle::Handle;
use super::slot::Slot;
use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};
use windivert::prelude::WinDivertShutdownMode;

/// How many calls for packets are under way on a handle. While its queue is empty
/// the driver answers each with a single packet.
const CALLS: usize = 8;

/// How long a handle may take to be read to its end: longer than a packet may
/// wait in its queue.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often to look whether it took too long.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// How many calls in a row the driver may be short of memory for.
const SHORTAGES: u32 = 10_000;

/// The handles of one kind, the one that is read first.
#[derive(Debug, Default)]
pub(super) struct Lane {
    sources: VecDeque<Source>,
    /// Calls in a row that the driver was short of memory for.
    shortages: u32,
}

/// What a call for packets has brought.
#[derive(Debug)]
pub(super) enum Taken<'a> {
    /// Packets, one behind the other, and an address for each.
    Batch {
        /// The packets.
        bytes: &'a mut [u8],
        /// Their addresses.
        addresses: &'a mut [Address],
    },
    /// A packet longer than WinDivert's longest, cut: it is lost.
    Truncated,
    /// No packet.
    Nothing,
}

impl Lane {
    /// How many handles are not closed yet.
    pub(super) fn handles(&self) -> usize {
        self.sources.len()
    }

    /// From now on packets come by `handle` alone.
    pub(super) fn replace(&mut self, handle: Option<Handle>, now: Instant) -> io::Result<()> {
        for source in &mut self.sources {
            source.leave(now);
        }
        if let Some(handle) = handle {
            self.sources.push_back(Source::new(handle)?);
        }
        self.settle(now);
        Ok(())
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.sources.front().is_some_and(|source| source.until.is_some())
    }

    /// Is there something to [`take`](Self::take)?
    pub(super) fn is_ready(&self) -> bool {
        self.sources.front().is_some_and(Source::is_ready)
    }

    /// Signalled when there is something to take.
    pub(super) fn event(&self) -> Option<&Event> {
        self.sources.front().and_then(Source::event)
    }

    /// What the oldest call has brought; [`go_on`](Self::go_on) follows.
    ///
    /// # Errors
    /// The driver is gone.
    pub(super) fn take(&mut self, now: Instant) -> io::Result<Taken<'_>> {
        let Some(source) = self.sources.front_mut() else { return Ok(Taken::Nothing) };
        let leaving = source.until.is_some_and(|until| now < until);
        let Source { slots, handle, ends, .. } = source;
        let Some(slot) = slots.front_mut() else { return Ok(Taken::Nothing) };
        match slot.take(handle) {
            Ok((bytes, addresses)) => {
                self.shortages = 0;
                Ok(Taken::Batch { bytes, addresses })
            }
            Err(error) => match error.raw_os_error() {
                Some(NO_DATA) if leaving => {
                    *ends = true;
                    Ok(Taken::Nothing)
                }
                Some(INSUFFICIENT_BUFFER) => Ok(Taken::Truncated),
                Some(code) if NO_RESOURCES.contains(&code) && self.shortages < SHORTAGES => {
                    self.shortages += 1;
                    tracing::debug!(%error, "the driver is short of memory");
                    Ok(Taken::Nothing)
                }
                _ => Err(gone(&error)),
            },
        }
    }

    /// Makes the call anew whose packets were taken, unless its handle has ended.
    pub(super) fn go_on(&mut self, now: Instant) -> io::Result<()> {
        if let Some(source) = self.sources.front_mut() {
            source.go_on();
        }
        self.settle(now);
        Ok(())
    }

    /// Closes what has come to its end, and reads what comes next.
    pub(super) fn settle(&mut self, now: Instant) {
        while let Some(source) = self.sources.front_mut() {
            if !source.started {
                source.start();
            }
            match source.until {
                Some(until) if source.is_idle() || now >= until => {
                    if !source.is_idle() {
                        tracing::warn!("a replaced WinDivert handle was not read to its end");
                    }
                    self.sources.pop_front();
                }
                _ => return,
            }
        }
    }
}

/// A handle that packets come by, and the calls for them, the oldest first: the
/// driver answers them in the order in which they were made.
#[derive(Debug)]
struct Source {
    slots: VecDeque<Slot>,
    handle: Handle,
    started: bool,
    /// Its queue is empty, and nothing comes any more.
    ends: bool,
    /// Until when it may be read, once it is replaced.
    until: Option<Instant>,
}

impl Source {
    fn new(handle: Handle) -> io::Result<Self> {
        let slots = (0..CALLS).map(|_| Slot::new()).collect::<io::Result<_>>()?;
        Ok(Self { slots, handle, started: false, ends: false, until: None })
    }

    fn start(&mut self) {
        self.started = true;
        for slot in &mut self.slots {
            slot.issue(&self.handle);
        }
    }

    fn leave(&mut self, now: Instant) {
        if self.until.is_none() {
            self.until = Some(now + PATIENCE);
            if let Err(error) = self.handle.shutdown(WinDivertShutdownMode::Recv) {
                tracing::debug!(%error, "a WinDivert handle does not stop taking packets");
                self.until = Some(now);
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.started && self.slots.iter().all(Slot::is_idle)
    }

    fn is_ready(&self) -> bool {
        self.slots.front().is_some_and(Slot::is_done)
    }

    fn event(&self) -> Option<&Event> {
        let slot = self.slots.front().filter(|slot| !slot.is_idle())?;
        Some(slot.event())
    }

    fn go_on(&mut self) {
        if let Some(mut slot) = self.slots.pop_front() {
            if !self.ends && slot.is_idle() {
                slot.issue(&self.handle);
            }
            self.slots.push_back(slot);
        }
        if self.ends {
            // The calls behind one that ended so have ended so, too.
            for slot in self.slots.iter_mut().filter(|slot| slot.is_done()) {
                slot.take(&self.handle).map_or_else(drop, drop);
            }
        }
    }
}

impl Drop for Source {
    /// Nobody decides about these packets any more. They are dropped: closing a
    /// handle while some wait would have the driver send them on as they came,
    /// from the host address.
    fn drop(&mut self) {
        if let Err(error) = self.handle.shutdown(WinDivertShutdownMode::Both) {
            tracing::debug!(%error, "a WinDivert handle does not stop taking packets");
        } else if self.started {
            self.drain();
        }
        for slot in &mut self.slots {
            slot.cancel(&self.handle);
        }
    }
}

impl Source {
    /// Reads and drops what waits, in bounded number and time: more than a queue
    /// holds does not come after the shutdown.
    fn drain(&mut self) {
        const QUEUE: usize = 16_384;

        for _ in 0..QUEUE {
            let Some(slot) = self.slots.front_mut().filter(|slot| !slot.is_idle()) else { return };
            if !slot.is_done() {
                slot.event().wait(LOOK);
            }
            if !slot.is_done() {
                return;
            }
            match slot.take(&self.handle).map(drop) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(INSUFFICIENT_BUFFER) => {}
                Err(_) => self.ends = true,
            }
            self.go_on();
        }
    }
}
