//! What does the hook tell of sockets, and of what it has done?

use super::Companion;
use crate::companion::{Counters, TableError};
use crate::owner::Marks;
use crate::packet::{Endpoint, Protocol};
use crate::session::SessionId;
use sessionip_hook::layout::Counter;
use std::time::Duration;

/// Whose a socket is, as the kernel saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOwner {
    /// `None`: no session was known when the socket was made; ask `cgroup`.
    pub session: Option<SessionId>,
    /// The process that bound or connected it last, else the one that made it.
    pub pid: u32,
    /// The real user of that process.
    pub uid: u32,
    /// The cgroup that the socket was made in: the inode of its folder.
    pub cgroup: u64,
    /// The executable, as [`file_of`](super::file_of) has it.
    pub file: (u32, u64),
    /// What the lists say of the process beyond its file.
    pub marks: Marks,
}

/// A UDP socket of a session that was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// When, by `CLOCK_MONOTONIC`.
    pub at: Duration,
    /// Its cookie.
    pub cookie: u64,
    /// Whose it was.
    pub owner: SocketOwner,
    /// UDP in this version.
    pub protocol: Protocol,
    /// Its own endpoint; `[::]` stands for IPv4 too.
    pub local: Endpoint,
    /// Its peer, if it was connected.
    pub remote: Option<Endpoint>,
}

/// A socket that is not bound where its program asked. The bind may still have
/// failed: only a socket that is there tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Its cookie.
    pub cookie: u64,
    /// Whose it is.
    pub session: SessionId,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// What the program asked for.
    pub asked: Endpoint,
    /// What it was given.
    pub bound: Endpoint,
}

impl Companion {
    /// The sockets that are not bound where their programs asked.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn moved(&self) -> Result<Vec<Moved>, TableError> {
        let moved = self.moved.all()?.into_iter().filter_map(|(cookie, moved)| {
            Some(Moved {
                cookie,
                session: SessionId(moved.session),
                protocol: protocol(moved.protocol)?,
                asked: Endpoint::new(moved.asked.into(), moved.port),
                bound: Endpoint::new(moved.given.into(), moved.port),
            })
        });
        Ok(moved.collect())
    }

    /// What the hook has done so far.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn counters(&self) -> Result<Counters, TableError> {
        Ok(Counters {
            moved_binds: self.counters.of(Counter::MovedBinds)?,
            refused_binds: self.counters.of(Counter::RefusedBinds)?,
            redirected: self.counters.of(Counter::Redirected)?,
            foreign_source: self.counters.of(Counter::ForeignSource)?,
            foreign_listener: self.counters.of(Counter::ForeignListener)?,
            foreign_loopback: self.counters.of(Counter::ForeignLoopback)?,
            lost_events: self.counters.of(Counter::LostEvents)?,
            full_descendants: self.counters.of(Counter::FullDescendants)? + self.full_descendants,
            full_scripts: self.counters.of(Counter::FullScripts)? + self.full_scripts,
            full_dual: self.counters.of(Counter::FullDual)?,
        })
    }
}

pub(super) fn protocol(number: u16) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp].into_iter().find(|protocol| *protocol as u16 == number)
}
