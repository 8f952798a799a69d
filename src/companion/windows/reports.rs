//! What do programs say that the hook did in them?

use crate::companion::Counters;
use crate::packet::{Endpoint, Protocol};
use crate::session::SessionId;
use sessionip_hook::report::{Done, Report};
use sessionip_hook::section::Content;
use sessionip_hook::windows::mailslot::{Mailslot, NAME};
use sessionip_hook::windows::process;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::time::Duration;

/// A bind that the hook moved, as its program says: to be believed only where a
/// socket of that process is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The session that the process is in.
    pub session: SessionId,
    /// The process.
    pub pid: u32,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// What the program asked for.
    pub asked: Endpoint,
    /// What it was given.
    pub bound: Endpoint,
}

/// How many reports are read at once: whoever sends more waits for his turn.
const AT_ONCE: usize = 4096;
/// How many are kept.
const LIMIT: usize = 65_536;

/// What was reported.
#[derive(Debug)]
pub(super) struct Reports {
    slot: Option<Mailslot>,
    moved: HashMap<(Protocol, Endpoint, u32), Moved>,
    counters: Counters,
    warned: bool,
}

impl Reports {
    pub(super) fn open() -> Self {
        let mut reports = Self {
            slot: None,
            moved: HashMap::new(),
            counters: Counters::default(),
            warned: false,
        };
        reports.open_if_closed();
        reports
    }

    /// Somebody may have taken the name. The hook works without it; what it moved
    /// is not listed meanwhile.
    pub(super) fn open_if_closed(&mut self) {
        if self.slot.is_some() {
            return;
        }
        match Mailslot::create(NAME) {
            Ok(slot) => {
                self.slot = Some(slot);
                self.warned = false;
            }
            Err(error) if !self.warned => {
                self.warned = true;
                tracing::warn!(
                    "what programs asked for before the hook moved them cannot be listed: \
                     the mailslot {NAME} cannot be made ({error}); is it another program's?"
                );
            }
            Err(_) => {}
        }
    }

    /// Takes what has come.
    pub(super) fn read(&mut self, content: &Content) {
        if self.moved.len() >= LIMIT {
            self.forget_the_dead();
        }
        for _ in 0..AT_ONCE {
            let Some(slot) = &self.slot else { return };
            match slot.receive(Duration::ZERO) {
                Ok(Some(report)) => self.note(&report, content, process::session_of(report.pid)),
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(%error, "the hook's mailslot is gone");
                    self.slot = None;
                }
            }
        }
    }

    /// Believes a report that fits what is known: its process is in a session that
    /// has the address it says it was given.
    fn note(&mut self, report: &Report, content: &Content, session: Option<u32>) {
        let Some(session) = session.and_then(|id| content.sessions.iter().find(|s| s.id == id))
        else {
            return;
        };
        match report.done {
            Done::Refused => self.counters.refused_binds += 1,
            Done::Moved if session.holds(report.given) => {
                let Some(protocol) = protocol(report.protocol) else { return };
                self.counters.moved_binds += 1;
                let endpoint = |address: std::net::Ipv6Addr| {
                    Endpoint::new(IpAddr::V6(address).to_canonical(), report.port)
                };
                let moved = Moved {
                    session: SessionId(session.id),
                    pid: report.pid,
                    protocol,
                    asked: endpoint(report.asked),
                    bound: endpoint(report.given),
                };
                self.keep(moved);
            }
            Done::Moved => {}
        }
    }

    fn keep(&mut self, moved: Moved) {
        let full = self.moved.len() >= LIMIT;
        match self.moved.entry((moved.protocol, moved.bound, moved.pid)) {
            Entry::Occupied(mut known) => *known.get_mut() = moved,
            Entry::Vacant(_) if full => self.counters.lost_events += 1,
            Entry::Vacant(place) => {
                place.insert(moved);
            }
        }
    }

    /// What was moved by processes that are there still.
    pub(super) fn moved(&mut self) -> Vec<Moved> {
        self.forget_the_dead();
        let mut moved: Vec<_> = self.moved.values().copied().collect();
        moved.sort_by_key(|moved| (moved.session, moved.pid, moved.bound.port));
        moved
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    pub(super) fn forget(&mut self, id: SessionId) {
        self.moved.retain(|_, moved| moved.session != id);
    }

    fn forget_the_dead(&mut self) {
        let mut asked: HashMap<u32, bool> = HashMap::new();
        self.moved.retain(|_, moved| {
            *asked.entry(moved.pid).or_insert_with(|| process::is_there(moved.pid))
        });
    }
}

fn protocol(number: u16) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp].into_iter().find(|protocol| *protocol as u16 == number)
}
