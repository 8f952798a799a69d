//! Which handles are open, and how do they change?

use super::counters::{Counters, QUEUE_TIME};
use super::dll::Dll;
use super::error::{OpenError, SelectError};
use super::event::Waker;
use super::handle::Handle;
use super::host_packets::HostPackets;
use super::{Change, FOREIGN, Kind, LOOPBACK, MAIN};
use crate::divert::Selection;
use crate::divert::filter::Filters;
use crate::flow::Pair;
use crate::packet::Protocol;
use crossbeam_channel::{SendTimeoutError, Sender};
use std::ffi::CString;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use windivert::prelude::{WinDivertFlags, WinDivertLayer, WinDivertParam};
use windivert_sys::{WINDIVERT_PARAM_QUEUE_LENGTH_MAX, WINDIVERT_PARAM_QUEUE_SIZE_MAX};

/// How many changes may wait for the packet thread.
pub(super) const CHANGES: usize = 8;

/// How long the packet thread may take to accept a change.
const PATIENCE: Duration = Duration::from_secs(2);

/// Says what is led to the [`Diverter`](super::Diverter), from any thread.
#[derive(Debug)]
pub struct Switch {
    dll: Dll,
    changes: Sender<Change>,
    waker: Waker,
    counters: Arc<Counters>,
    now: Mutex<Now>,
    host: HostPackets,
}

/// What is led there now.
#[derive(Debug, Default)]
struct Now {
    main: Option<String>,
    loopback: Option<String>,
    /// What is cut, by filter. Nobody reads these handles.
    cuts: Vec<(String, Handle)>,
}

impl Switch {
    pub(super) fn new(
        dll: Dll,
        changes: Sender<Change>,
        waker: Waker,
        counters: Arc<Counters>,
    ) -> Self {
        let host = HostPackets::default();
        Self { dll, changes, waker, counters, now: Mutex::default(), host }
    }

    /// Has these packets, and no others, led to the diverter. Handles whose filter
    /// stays the same are left alone. A new one takes packets before the old one
    /// ceases to, so that none passes by in between.
    ///
    /// # Errors
    /// A handle cannot be opened: then everything is led as before. Or the
    /// diverter does not take turns any more.
    pub fn select(&self, selection: &Selection) -> Result<(), SelectError> {
        let Filters { main, loopback, foreign, uncut } = Filters::of(selection);
        if uncut > 0 {
            tracing::debug!(
                uncut,
                "more foreign binds than can be cut: the packet line drops them"
            );
        }
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |filter: &String| now.cuts.iter().any(|(cut, _)| cut == filter);
        let new_cuts = foreign.iter().filter(|filter| !known(filter));
        let new_cuts = new_cuts.map(|filter| Ok((filter.clone(), self.open_cut(filter)?)));
        let new_cuts = new_cuts.collect::<Result<Vec<_>, SelectError>>()?;
        let new_main = self.open_changed(Kind::Main, now.main.as_deref(), main.as_deref())?;
        let new_loopback =
            self.open_changed(Kind::Loopback, now.loopback.as_deref(), loopback.as_deref())?;

        if let Some(change) = new_main {
            self.hand_over(change)?;
            now.main = main;
        }
        if let Some(change) = new_loopback {
            self.hand_over(change)?;
            now.loopback = loopback;
        }
        now.cuts.retain(|(filter, _)| foreign.contains(filter));
        now.cuts.extend(new_cuts);
        Ok(())
    }

    /// Has the packets of one filter, and no others, led to the diverter.
    ///
    /// # Errors
    /// As for [`select`](Self::select).
    pub(crate) fn lead(&self, filter: &str) -> Result<(), SelectError> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let change = self.open_changed(Kind::Main, now.main.as_deref(), Some(filter))?;
        if let Some(change) = change {
            self.hand_over(change)?;
            now.main = Some(filter.to_owned());
        }
        Ok(())
    }

    /// Whether packets are still led here: nobody else takes a handle away.
    ///
    /// # Errors
    /// None. On Linux the firewall is asked.
    pub fn holds(&self, selection: &Selection) -> Result<bool, SelectError> {
        let filters = Filters::of(selection);
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(filters.main == now.main && filters.loopback == now.loopback)
    }

    /// The driver remembers no conversations.
    ///
    /// # Errors
    /// None. On Linux conntrack is asked to forget them.
    pub fn forget(&self, _: &[IpAddr], _: &[(Protocol, Pair)]) -> io::Result<usize> {
        Ok(0)
    }

    /// Forgets which packets the host had so far.
    pub fn count_anew(&self) {
        self.host.count_anew();
    }

    /// The host's IPv4 packets, diverted or not, since the daemon started: WinDivert
    /// does not count what a filter leaves alone.
    ///
    /// # Errors
    /// The system does not count them.
    pub fn met(&self) -> Result<u64, SelectError> {
        self.host.packets().map_err(SelectError::Uncounted)
    }

    /// Packets that were lost here. Those that the driver lost nobody can know:
    /// [`notices`](Self::notices) says when it must have.
    pub fn lost(&self) -> u64 {
        self.counters.refused()
    }

    /// Packets that were no packets, and went nowhere.
    pub fn malformed(&self) -> u64 {
        self.counters.malformed() + self.counters.truncated()
    }

    /// What an administrator should know of it, as sentences.
    pub fn notices(&self) -> Vec<String> {
        let waited = self.counters.waited();
        let mut notices = Vec::new();
        if waited.late > 0 {
            notices.push(format!(
                "packets have waited in the driver for up to {} ms, and it drops them after {}: \
                 the host is overloaded",
                waited.longest.as_millis(),
                QUEUE_TIME.as_millis()
            ));
        }
        notices
    }

    /// The turn that waits now, or else the next one to wait, comes back.
    pub fn wake(&self) {
        self.waker.wake();
    }

    /// Wakes the diverter for others, who select nothing.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// What is counted.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Nothing is led to the diverter any more. Returns once it has read the
    /// packets that waited and closed the handles they came by, and does not wait
    /// for a diverter that takes no turns. After that it can be dropped without
    /// losing a packet.
    ///
    /// # Errors
    /// None: what is gone already is let go of.
    pub fn release(&self) -> Result<(), SelectError> {
        if let Err(error) = self.select(&Selection::default()) {
            tracing::debug!(%error, "the diverter is gone already");
            return Ok(());
        }
        let step = Duration::from_millis(1);
        let steps = PATIENCE.as_millis();
        let closed = (0..steps).any(|_| {
            let open = self.counters.handles() > 0 || !self.changes.is_empty();
            if open {
                std::thread::sleep(step);
            }
            !open
        });
        if !closed {
            tracing::warn!("the diverter did not close its handles: it takes no turns");
        }
        Ok(())
    }

    fn open_changed(
        &self,
        kind: Kind,
        old: Option<&str>,
        new: Option<&str>,
    ) -> Result<Option<Change>, SelectError> {
        if old == new {
            return Ok(None);
        }
        let handle = new.map(|filter| self.open_receiving(kind, filter)).transpose()?;
        Ok(Some(Change { kind, handle }))
    }

    fn open_receiving(&self, kind: Kind, filter: &str) -> Result<Handle, SelectError> {
        let (name, priority) = match kind {
            Kind::Main => ("main", MAIN),
            Kind::Loopback => ("loopback", LOOPBACK),
        };
        let flags = WinDivertFlags::new().set_recv_only();
        let handle = self.open(name, filter, priority, flags)?;
        let queue = [
            (WinDivertParam::QueueLength, WINDIVERT_PARAM_QUEUE_LENGTH_MAX),
            (WinDivertParam::QueueTime, QUEUE_TIME.as_millis() as u64),
            (WinDivertParam::QueueSize, WINDIVERT_PARAM_QUEUE_SIZE_MAX),
        ];
        for (parameter, value) in queue {
            handle
                .set(parameter, value)
                .map_err(|source| SelectError::Queue { handle: name, source })?;
        }
        Ok(handle)
    }

    fn open_cut(&self, filter: &str) -> Result<Handle, SelectError> {
        let flags = WinDivertFlags::new().set_drop().set_recv_only();
        self.open("foreign", filter, FOREIGN, flags)
    }

    fn open(
        &self,
        handle: &'static str,
        filter: &str,
        priority: i16,
        flags: WinDivertFlags,
    ) -> Result<Handle, SelectError> {
        let layer = WinDivertLayer::Network;
        let filter = CString::new(filter).unwrap_or_default();
        Handle::open(self.dll, &filter, layer, priority, flags).map_err(|error| {
            // The driver's word for a bad filter is that for anything that is bad.
            match self.dll.check(&filter, layer) {
                Err(flaw) => SelectError::Filter { handle, flaw: flaw.to_string() },
                Ok(()) => SelectError::Open { handle, source: OpenError::of(&error) },
            }
        })
    }

    fn hand_over(&self, change: Change) -> Result<(), SelectError> {
        let sent = self.changes.send_timeout(change, PATIENCE);
        self.waker.wake();
        sent.map_err(|error| match error {
            SendTimeoutError::Timeout(_) => SelectError::Hangs,
            SendTimeoutError::Disconnected(_) => SelectError::Gone,
        })
    }
}
