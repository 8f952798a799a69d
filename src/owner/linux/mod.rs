//! Linux: who owns a socket?
//!
//! The kernel says which socket it is, and of which cgroup ([`diag`]); the
//! cgroup says which session; the companion hook recorded which process made it
//! and with which program. What the hook never saw (sockets older than the
//! daemon) is found among the file descriptors of the session's processes.

mod closed;
pub mod diag;
mod loopback;
mod open;
mod pings;
mod process;
mod wire;

pub use loopback::host_uses;
pub use open::{Opened, OwnerError, Reader, Watch, end_bound_to, open};

use crate::companion::{self, ClosedSockets, Moved, NotedPings, OwnerMap, SocketOwner};
use crate::owner::{Bound, Owner, Ping, Pinger, Program, Receiver, SocketRow, Sockets};
use crate::packet::{Endpoint, Protocol};
use crate::session::linux::{Scopes, processes};
use crate::session::{Session, SessionId};
use closed::Closed;
use diag::{Family, SockDiag, Socket, State, States};
use pings::Pings;
use process::{Found, Holder, Holders, Programs};
use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// The sockets of this network namespace, whose they are, and who listens.
///
/// A look-up of a recorded socket is one question to the kernel and one to the
/// hook's table, a microsecond each at the most; an accepted socket costs one
/// of each more. A closed one costs a drain of the hook's reports. Only a
/// socket that was never recorded costs a search of its session's processes,
/// bounded, and then it is remembered.
#[derive(Debug)]
pub struct KernelSockets {
    diag: SockDiag,
    sources: Sources,
    closed: Closed,
    pings: Pings,
    programs: Programs,
    holders: Holders,
    nobody: Arc<Program>,
    now: Instant,
    unanswered: u64,
}

/// What is asked besides the kernel's table of sockets.
#[derive(Debug)]
pub struct Sources {
    /// Which session a cgroup is of.
    pub scopes: Scopes,
    /// What the companion hook recorded of sockets; `None`: there is no hook.
    pub owners: Option<OwnerMap>,
    /// Its reports of closed sockets, which only one thread can have.
    pub closed: Option<ClosedSockets>,
    /// Its notes of pings on their way out, which only one thread can have.
    pub pings: Option<NotedPings>,
    /// The pool's NIC: sockets that are tied to it (`SO_BINDTODEVICE`) are
    /// found beside those that are tied to none.
    pub interface: u32,
}

/// A program's path or name as it is compared: as it is written.
pub fn one_spelling(text: &str) -> Cow<'_, str> {
    Cow::Borrowed(text)
}

impl KernelSockets {
    /// Looks at the sockets of the network namespace that this thread is in.
    ///
    /// # Errors
    /// The kernel has no sock_diag, or no file descriptor is left.
    pub fn open(sources: Sources, now: Instant) -> io::Result<Self> {
        Ok(Self {
            diag: SockDiag::open()?,
            sources,
            closed: Closed::default(),
            pings: Pings::default(),
            programs: Programs::default(),
            holders: Holders::default(),
            nobody: Arc::default(),
            now,
            unanswered: 0,
        })
    }

    /// Learns who holds the sockets of a session that was there before the
    /// daemon, before the first packet comes.
    pub fn learn(&mut self, session: &Session) {
        self.holders.learn(processes(&session.scope.path));
    }

    /// Moves time on, takes the hook's reports, and forgets what is old. To be
    /// called every few milliseconds while there are packets, and now and then
    /// while there are none.
    pub fn tend(&mut self, now: Instant) {
        self.now = now;
        self.drain();
        self.closed.expire(now);
        self.note_pings();
        self.pings.expire(now);
    }

    /// How often the kernel gave no answer at all.
    pub fn unanswered(&self) -> u64 {
        self.unanswered
    }

    /// Every socket of a session that takes what is sent to it: TCP listeners
    /// and UDP sockets that are not connected. `moved` are those that the hook
    /// has moved. Not for the packet line.
    ///
    /// # Errors
    /// The kernel did not answer.
    pub fn listing(&mut self, moved: &[Moved]) -> io::Result<Vec<SocketRow>> {
        let moved: HashMap<u64, &Moved> = moved.iter().map(|it| (it.cookie, it)).collect();
        let mut rows = Vec::new();
        for (protocol, state) in
            [(Protocol::Tcp, State::LISTEN), (Protocol::Udp, State::UNCONNECTED)]
        {
            for family in [Family::Ipv4, Family::Ipv6] {
                for socket in self.diag.list(protocol, family, States::only(state), None)? {
                    let Some(session) = self.sources.scopes.session_of(socket.cgroup) else {
                        continue;
                    };
                    let bound = socket.bound;
                    // A bind that failed after it was moved says nothing.
                    let moved = moved.get(&socket.cookie).filter(|it| it.bound == bound);
                    let asked = moved.map_or(bound, |it| it.asked);
                    let owner = self.maker(&socket, Some(session));
                    let Owner { pid, program, .. } =
                        owner.unwrap_or_else(|| self.nobody_of(Some(session)));
                    rows.push(SocketRow { protocol, asked, bound, session, pid, program });
                }
            }
        }
        rows.sort_by_key(|row| (row.session, row.protocol, row.bound));
        Ok(rows)
    }

    /// The socket of a conversation; of port 0, what listens. Sockets of no
    /// interface first, then those of the pool's.
    fn find(&mut self, protocol: Protocol, local: Endpoint, remote: Endpoint) -> Option<Socket> {
        for interface in [0, self.sources.interface] {
            match self.diag.find(protocol, local, remote, interface) {
                Ok(None) if interface != self.sources.interface => {}
                Ok(found) => return found,
                Err(error) => {
                    tracing::trace!(%error, "sock_diag");
                    self.unanswered += 1;
                    return None;
                }
            }
        }
        None
    }

    fn listener(&mut self, local: Endpoint) -> Option<Socket> {
        let anywhere = Endpoint::new(Family::of(local.address).wildcard(), 0);
        self.find(Protocol::Tcp, local, anywhere)
    }

    /// Whose socket this is. TCP sockets that were accepted were never recorded
    /// themselves: they are their listener's, if that is of the same cgroup.
    fn owner_of(&mut self, protocol: Protocol, socket: &Socket, local: Endpoint) -> Option<Owner> {
        let session = self.sources.scopes.session_of(socket.cgroup);
        if let Some(record) = self.record(socket) {
            let session = session.or_else(|| self.sources.scopes.session_of(record.cgroup));
            return Some(self.recorded_owner(record, session));
        }
        let may_be_accepted = protocol == Protocol::Tcp
            && socket.state != State::LISTEN
            && socket.state != State::SYN_SENT;
        if may_be_accepted && let Some(listener) = self.listener(local) {
            // A half-open or half-closed socket has no cgroup of its own.
            if socket.cgroup == 0 || listener.cgroup == socket.cgroup {
                let session = self.sources.scopes.session_of(listener.cgroup);
                return self.maker(&listener, session);
            }
        }
        (socket.cgroup != 0).then(|| self.maker(socket, session)).flatten()
    }

    /// Who made exactly this socket; `None` if that may be known later.
    fn maker(&mut self, socket: &Socket, session: Option<SessionId>) -> Option<Owner> {
        if let Some(record) = self.record(socket) {
            return Some(self.recorded_owner(record, session));
        }
        let nobody = self.nobody_of(session);
        let Some(id) = session.filter(|_| socket.inode != 0) else { return Some(nobody) };
        let scopes = &self.sources.scopes;
        let all = || scopes.session(id).map(|it| processes(&it.scope.path)).unwrap_or_default();
        match self.holders.find(self.now, id, socket.inode, all) {
            Found::Holder(Holder { pid, program }) => {
                let marks = self.sources.owners.as_ref().map(|owners| owners.marks_of(pid));
                Some(Owner { pid, program, marks: marks.unwrap_or_default(), ..nobody })
            }
            Found::Nobody => Some(nobody),
            Found::Later => None,
        }
    }

    fn recorded_owner(&mut self, record: SocketOwner, session: Option<SessionId>) -> Owner {
        let name = || self.sources.owners.as_ref()?.name_of(record.file);
        Owner {
            session,
            pid: record.pid,
            program: self.programs.of(record.pid, record.file, name),
            marks: record.marks,
            lineage: None,
        }
    }

    /// A socket of that session, and no more is known.
    fn nobody_of(&self, session: Option<SessionId>) -> Owner {
        Owner {
            session,
            pid: 0,
            program: Arc::clone(&self.nobody),
            marks: Default::default(),
            lineage: None,
        }
    }

    fn record(&self, socket: &Socket) -> Option<SocketOwner> {
        self.sources.owners.as_ref()?.owner(socket.cookie)
    }

    fn note_pings(&mut self) {
        if let Some(noted) = &mut self.sources.pings {
            noted.drain(|ping, owner| self.pings.note(self.now, ping, owner));
        }
    }

    fn drain(&mut self) {
        let Some(closed) = &mut self.sources.closed else { return };
        let mut reports = Vec::new();
        closed.drain(|report| reports.push(report));
        for companion::Closed { protocol, local, remote, owner, .. } in reports {
            let session = self.sources.scopes.session_of(owner.cgroup);
            let owner = self.recorded_owner(owner, session);
            self.closed.insert(self.now, protocol, local, remote, owner);
        }
    }
}

impl Sockets for KernelSockets {
    fn owner(&mut self, protocol: Protocol, local: Endpoint, remote: Endpoint) -> Option<Owner> {
        if let Some(socket) = self.find(protocol, local, remote) {
            return self.owner_of(protocol, &socket, local);
        }
        self.drain();
        self.closed.owner(protocol, local, remote).cloned()
    }

    /// The hook notes a ping before it is queued, so that the note is there.
    fn pinger(&mut self, ping: &Ping) -> Pinger {
        self.note_pings();
        let Some(record) = self.pings.take(ping) else { return Pinger::Unknown };
        let session = self.sources.scopes.session_of(record.cgroup);
        Pinger::Known(match record.pid {
            0 => self.nobody_of(session),
            _ => self.recorded_owner(record, session),
        })
    }

    fn receiver(
        &mut self,
        protocol: Protocol,
        local: Endpoint,
        remote: Endpoint,
    ) -> Option<Receiver> {
        let mut socket = self.find(protocol, local, remote)?;
        if socket.state == State::TIME_WAIT {
            // A new conversation on old ports: the listener takes it.
            socket = self.listener(local)?;
        }
        let owner = match self.owner_of(protocol, &socket, local) {
            Some(owner) => owner,
            None if socket.cgroup == 0 => return None,
            // That it is there counts for more than which program has it.
            None => self.nobody_of(self.sources.scopes.session_of(socket.cgroup)),
        };
        // What the hook's sk_lookup leads to a socket bound elsewhere is as
        // good as bound here.
        let wildcard = socket.bound.address.is_unspecified();
        let bound = if wildcard { Bound::Wildcard } else { Bound::Address };
        Some(Receiver { bound, owner })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_be_given_to_the_packet_line() {
        fn moves_to_a_thread<T: Send>() {}
        moves_to_a_thread::<KernelSockets>();
    }
}
