//! What did the events leave out?
//!
//! Events are lost without a word when their queue is full, and there are none
//! of sockets that were there before. The system's list of all sockets adds what
//! is missing, and ends what is there no more.

use super::entry::{BoundSocket, Fit, Life, PairSocket, Stage};
use super::{Holder, Moment, SocketTable};
use crate::packet::{Endpoint, Protocol};
use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Events and the list are not of the same instant: what happened so shortly
/// before the list was taken may be missing in it, or still be there.
const SETTLING: Duration = Duration::from_millis(100);

/// A TCP socket that neither listens nor talks is in no list. It is forgotten
/// after a while; it comes back with whatever it does next.
const IDLE: Duration = Duration::from_secs(60);

/// A line of the system's list of sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Its own end.
    pub local: Endpoint,
    /// What it does.
    pub state: State,
    /// Its process; 0 where there is none any more.
    pub pid: u32,
    /// When it was made, where the list says so.
    pub since: Option<Moment>,
}

/// What a socket in the system's list does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A TCP listener, or a UDP socket.
    Receives,
    /// It talks to that peer.
    TalksTo(Endpoint),
}

impl SocketTable {
    /// Compares with the whole list of the system's sockets, begun to be taken at
    /// `taken`. `resolve` says who a process is; it is asked about sockets that
    /// were not known only.
    pub fn reconcile(
        &self,
        rows: &[Row],
        taken: Moment,
        mut resolve: impl FnMut(u32) -> Option<Holder>,
    ) {
        let listening: HashSet<(u32, Protocol, u16)> = rows
            .iter()
            .filter(|row| row.state == State::Receives)
            .map(|row| (row.pid, row.protocol, row.local.port))
            .collect();
        // Process 0 owns what is left of connections that nobody has any more.
        for row in rows.iter().filter(|row| row.pid != 0) {
            if self.confirm(row, taken) {
                continue;
            }
            let talks = row.state != State::Receives;
            let accepted = talks && listening.contains(&(row.pid, row.protocol, row.local.port));
            match resolve(row.pid) {
                Some(holder) => self.add(row, accepted, taken, holder),
                None => self.count_unresolved(),
            }
        }
        let is_missing = |life: &Life, allowance: Duration| {
            life.is_open() && life.confirmed.is_past(allowance, taken)
        };
        let mut at_pool = false;
        self.retain(
            |BoundSocket { local, stage, life }| {
                let allowance = if *stage == Stage::Idle { IDLE } else { SETTLING };
                if is_missing(life, allowance) {
                    life.closed = Some(taken);
                    at_pool |= self.is_watched(local.address);
                }
                true
            },
            |_, PairSocket { life, .. }| {
                if is_missing(life, SETTLING) {
                    life.closed = Some(taken);
                }
                true
            },
        );
        if at_pool {
            self.note_change();
        }
    }

    /// Is this socket known? Then it is there.
    fn confirm(&self, row: &Row, taken: Moment) -> bool {
        match row.state {
            State::Receives => self.confirm_bound(row, taken),
            State::TalksTo(remote) => {
                self.confirm_idle(row, taken);
                self.confirm_pair(row, remote, taken)
            }
        }
    }

    fn confirm_bound(&self, row: &Row, taken: Moment) -> bool {
        let Some(mut sockets) = self.0.bound.get_mut(&(row.protocol, row.local.port)) else {
            return false;
        };
        let mut known = false;
        let same =
            |it: &&mut BoundSocket| it.local == row.local && it.life.holder.owner.pid == row.pid;
        for socket in sockets.iter_mut().filter(same) {
            if socket.life.is_open() {
                socket.stage = Stage::Receives;
                socket.life.confirmed = socket.life.confirmed.max(taken);
                known = true;
            } else {
                known |= has_just_closed(&socket.life, taken);
            }
        }
        known
    }

    /// A socket that talks was bound first, and still is.
    fn confirm_idle(&self, row: &Row, taken: Moment) {
        let Some(mut sockets) = self.0.bound.get_mut(&(row.protocol, row.local.port)) else {
            return;
        };
        for socket in sockets.iter_mut() {
            let covers = Fit::of(socket.local.address, row.local.address).is_some();
            let same = socket.life.is_open() && socket.life.holder.owner.pid == row.pid;
            if socket.stage == Stage::Idle && covers && same {
                socket.life.confirmed = socket.life.confirmed.max(taken);
            }
        }
    }

    fn confirm_pair(&self, row: &Row, remote: Endpoint, taken: Moment) -> bool {
        let Some(mut pair) = self.0.pairs.get_mut(&(row.protocol, row.local, remote)) else {
            return false;
        };
        let life = &mut pair.life;
        // Another socket with the same ends: the end of the one before was missed.
        let another = row.pid != life.holder.owner.pid
            && row.since.is_some_and(|since| life.since.is_past(SETTLING, since));
        if another {
            return false;
        }
        if life.is_open() {
            life.confirmed = life.confirmed.max(taken);
            return true;
        }
        has_just_closed(life, taken)
    }

    fn add(&self, row: &Row, accepted: bool, taken: Moment, holder: Holder) {
        let mut life = Life::new(0, holder, row.since.unwrap_or(taken).min(taken));
        life.confirmed = taken;
        if !accepted && self.is_watched(row.local.address) {
            self.note_change();
        }
        match row.state {
            State::Receives => {
                let socket = BoundSocket { local: row.local, stage: Stage::Receives, life };
                self.bind(row.protocol, socket);
            }
            State::TalksTo(remote) => {
                let ends = (row.protocol, row.local, remote);
                // What is there under these ends is of before.
                if self.0.pairs.remove(&ends).is_some() {
                    self.0.sockets.fetch_sub(1, Ordering::Relaxed);
                }
                self.add_pair(ends, PairSocket { accepted, life });
            }
        }
    }

    fn count_unresolved(&self) {
        self.0.unresolved.fetch_add(1, Ordering::Relaxed);
    }
}

fn has_just_closed(life: &Life, taken: Moment) -> bool {
    life.closed.is_some_and(|closed| !closed.is_past(SETTLING, taken))
}
