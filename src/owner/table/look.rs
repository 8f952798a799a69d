//! Whose is a packet, who takes it, and who is bound to a virtual address?

use super::entry::{BoundSocket, Fit, Life, Stage};
use super::{Moment, SocketTable};
use crate::owner::{Bound, Owner, Receiver};
use crate::packet::{Endpoint, Protocol};
use crate::session::SessionId;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;

/// A session's socket at a virtual address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtPool {
    /// Its protocol.
    pub protocol: Protocol,
    /// Where it is bound.
    pub bound: Endpoint,
    /// Whose it is; never of no session.
    pub owner: Owner,
}

/// A socket that fits, and how well: one that is there before one that is gone,
/// the exact address before the wildcard, the newest before older ones.
struct Candidate {
    rank: (bool, Fit, Moment),
    owner: Owner,
}

impl SocketTable {
    /// Who owns the socket that sends from `local` to `remote`; one that closed a
    /// moment ago counts, after those that are there.
    pub fn owner(&self, protocol: Protocol, local: Endpoint, remote: Endpoint) -> Option<Owner> {
        let pair = self.pair(protocol, local, remote);
        if let Some(Life { closed: None, holder, .. }) = pair {
            return Some(holder.owner);
        }
        let bound = self.best(protocol, local, |_| true);
        match (pair, bound) {
            (_, Some(Candidate { rank: (true, ..), owner })) => Some(owner),
            (Some(pair), _) => Some(pair.holder.owner),
            (None, bound) => Some(bound?.owner),
        }
    }

    /// The socket that would take a packet from `remote` to `local`.
    pub fn receiver(
        &self,
        protocol: Protocol,
        local: Endpoint,
        remote: Endpoint,
    ) -> Option<Receiver> {
        if let Some(Life { closed: None, holder, .. }) = self.pair(protocol, local, remote) {
            return Some(Receiver { bound: Bound::Address, owner: holder.owner });
        }
        let takes = |socket: &BoundSocket| socket.stage == Stage::Receives && socket.life.is_open();
        let Candidate { rank: (_, fit, _), owner } = self.best(protocol, local, takes)?;
        let bound = if fit == Fit::Address { Bound::Address } else { Bound::Wildcard };
        Some(Receiver { bound, owner })
    }

    /// Every socket of a session that takes what is sent to it. Not for the packet
    /// line: it looks at all of them.
    pub fn receivers(&self) -> Vec<AtPool> {
        self.bound_where(|_, socket| {
            let owner = &socket.life.holder.owner;
            socket.stage == Stage::Receives && owner.session.is_some()
        })
    }

    /// Those of them that are bound to a virtual address.
    pub fn at_pool(&self) -> Vec<AtPool> {
        let mut rows = self.receivers();
        rows.retain(|row| self.is_in_pool(row.bound.address));
        rows
    }

    /// Those that are bound to a loopback address of their own session.
    pub fn at_loopbacks(&self, holders: &HashMap<IpAddr, SessionId>) -> Vec<AtPool> {
        let mut rows = self.receivers();
        rows.retain(|row| {
            let holder = holders.get(&row.bound.address).copied();
            holder.is_some() && holder == row.owner.session
        });
        rows
    }

    /// O5: where somebody uses a virtual address that its session does not hold,
    /// services and the kernel excepted. What a listener accepted there is not
    /// meant: that is row I5. A session's loopback address is kept from other
    /// sessions only: whoever has none may use all of 127.0.0.0/8.
    pub fn foreign(
        &self,
        holders: &HashMap<IpAddr, SessionId>,
        loopbacks: &HashMap<IpAddr, SessionId>,
    ) -> Vec<(Protocol, Endpoint)> {
        let is_foreign = |local: Endpoint, life: &Life| {
            let session = life.holder.owner.session;
            let at_pool = self.is_in_pool(local.address)
                && (session.is_none() || session != holders.get(&local.address).copied());
            let at_loopback = loopbacks
                .get(&local.address)
                .is_some_and(|holder| session.is_some_and(|session| session != *holder));
            life.is_open() && !life.holder.is_the_systems() && (at_pool || at_loopback)
        };
        let mut found = Vec::new();
        for sockets in &self.0.bound {
            let protocol = sockets.key().0;
            let foreign = sockets.iter().filter(|socket| is_foreign(socket.local, &socket.life));
            found.extend(foreign.map(|socket| (protocol, socket.local)));
        }
        for socket in &self.0.pairs {
            let (protocol, local, _) = *socket.key();
            if !socket.accepted && is_foreign(local, &socket.life) {
                found.push((protocol, local));
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn bound_where(&self, is_it: impl Fn(Protocol, &BoundSocket) -> bool) -> Vec<AtPool> {
        let mut rows = Vec::new();
        for sockets in &self.0.bound {
            let protocol = sockets.key().0;
            for socket in sockets.iter() {
                if socket.life.is_open() && is_it(protocol, socket) {
                    let owner = socket.life.holder.owner.clone();
                    rows.push(AtPool { protocol, bound: socket.local, owner });
                }
            }
        }
        rows.sort_by_key(|row| (row.owner.session, row.protocol, row.bound, row.owner.pid));
        rows.dedup();
        rows
    }

    fn pair(&self, protocol: Protocol, local: Endpoint, remote: Endpoint) -> Option<Life> {
        self.0.pairs.get(&(protocol, local, remote)).map(|socket| socket.life.clone())
    }

    /// The best of those bound to that port.
    fn best(
        &self,
        protocol: Protocol,
        local: Endpoint,
        may_be: impl Fn(&BoundSocket) -> bool,
    ) -> Option<Candidate> {
        let sockets = self.0.bound.get(&(protocol, local.port))?;
        let ranked = sockets.iter().filter(|socket| may_be(socket)).filter_map(|socket| {
            let fit = Fit::of(socket.local.address, local.address)?;
            Some(((socket.life.is_open(), fit, socket.life.since), socket))
        });
        let (rank, best) = ranked.min_by_key(|(rank, _)| Reverse(*rank))?;
        Some(Candidate { rank, owner: best.life.holder.owner.clone() })
    }
}
