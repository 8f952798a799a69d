//! Which sockets are there, by what the system told of them?
//!
//! Where the kernel cannot be asked for one socket, its events fill this table
//! and its list of all sockets corrects it. One thread writes ([`SocketTable::apply`],
//! [`SocketTable::reconcile`], [`SocketTable::expire`]), the packet line reads.
//! It knows no system call: it is compiled, and tested, everywhere.

mod entry;
mod look;
mod reconcile;

pub use entry::{Event, Holder, Moment, What};
pub use look::AtPool;
pub use reconcile::{Row, State};

use crate::address::PRIVATE_IPV6;
use crate::packet::{Endpoint, Protocol};
use crate::session::SessionId;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use entry::{BoundSocket, Fit, Life, PairSocket, Stage};
use foldhash::fast::RandomState;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// How long a closed socket is remembered: its last packets (a FIN and what
/// answers it, a datagram that was sent and forgotten) come after its end.
pub const REMEMBERED: Duration = Duration::from_secs(5);

/// How many sockets are known at the most: about 16 MB.
const SOCKETS: usize = 1 << 17;

/// How many may be bound to one port: those that share it for multicast do so
/// once per program and session.
const ON_ONE_PORT: usize = 256;

/// The sockets of this host. A clone is the same table.
#[derive(Clone, Debug, Default)]
pub struct SocketTable(Arc<Tables>);

/// No guard of these maps is held while anything else is called.
#[derive(Debug, Default)]
struct Tables {
    /// By local port, for a packet may be anybody's that is bound there.
    bound: DashMap<(Protocol, u16), Vec<BoundSocket>, RandomState>,
    /// By both ends.
    pairs: DashMap<Ends, PairSocket, RandomState>,
    /// First and last of each range of virtual addresses.
    pool: RwLock<Vec<(IpAddr, IpAddr)>>,
    /// Loopback addresses of sessions are virtual ones, too.
    loopbacks: AtomicBool,
    /// How many sockets are in both maps.
    sockets: AtomicUsize,
    full: AtomicU64,
    unresolved: AtomicU64,
    unread: AtomicU64,
    changes_at_pool: AtomicU64,
}

type Ends = (Protocol, Endpoint, Endpoint);

/// What the table could not do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sockets that found no room.
    pub full: u64,
    /// Sockets whose process was gone before it could be looked at.
    pub unresolved: u64,
    /// How often the system did not give its list.
    pub unread: u64,
}

impl SocketTable {
    /// From now on `pool` is what counts as virtual addresses: first and last of
    /// each range.
    pub fn set_pool(&self, pool: Vec<(IpAddr, IpAddr)>) {
        *self.0.pool.write().unwrap_or_else(PoisonError::into_inner) = pool;
    }

    /// Is this one of them?
    pub fn is_in_pool(&self, address: IpAddr) -> bool {
        let pool = self.0.pool.read().unwrap_or_else(PoisonError::into_inner);
        // Every IPv4 address sorts before every IPv6 one.
        pool.iter().any(|(first, last)| (*first..=*last).contains(&address))
    }

    /// From now on, or no longer, changes at sessions' loopback addresses are
    /// noted, too.
    pub fn watch_loopbacks(&self, on: bool) {
        self.0.loopbacks.store(on, Ordering::Relaxed);
    }

    /// Is what happens there to be noted?
    fn is_watched(&self, address: IpAddr) -> bool {
        let may_be_a_loopback = match address {
            IpAddr::V4(address) => address.is_loopback() && address != Ipv4Addr::LOCALHOST,
            IpAddr::V6(address) => PRIVATE_IPV6.contains(&address),
        };
        may_be_a_loopback && self.0.loopbacks.load(Ordering::Relaxed) || self.is_in_pool(address)
    }

    /// How many sockets are known, those that closed a moment ago included.
    pub fn len(&self) -> usize {
        self.0.sockets.load(Ordering::Relaxed)
    }

    /// None is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it could not do.
    pub fn counters(&self) -> Counters {
        Counters {
            full: self.0.full.load(Ordering::Relaxed),
            unresolved: self.0.unresolved.load(Ordering::Relaxed),
            unread: self.0.unread.load(Ordering::Relaxed),
        }
    }

    /// Counts a list that the system did not give.
    pub fn count_unread(&self) {
        self.0.unread.fetch_add(1, Ordering::Relaxed);
    }

    /// Another number than before: a socket came or went at a virtual address.
    /// What listeners accept there does not count.
    pub fn changes_at_pool(&self) -> u64 {
        self.0.changes_at_pool.load(Ordering::Acquire)
    }

    fn note_change(&self) {
        self.0.changes_at_pool.fetch_add(1, Ordering::Release);
    }

    /// Takes in what happened. `holder` is who did it, `None` where nobody can say
    /// any more; what only ends a socket needs none.
    pub fn apply(&self, event: &Event, holder: Option<Holder>) {
        let holder = match event.what {
            What::Close => {
                self.close(event);
                if event.remote.is_none() && self.is_watched(event.local.address) {
                    self.note_change();
                }
                return;
            }
            // What a listener made is the listener's, whoever accepted it.
            What::Accept => self.listener_of(event).or(holder),
            What::Bind | What::Connect | What::Listen => holder,
        };
        let Some(holder) = holder else {
            self.0.unresolved.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let life = Life::new(event.endpoint, holder, event.at);
        let stage = match (event.what, event.protocol) {
            (What::Bind, Protocol::Tcp) => Some(Stage::Idle),
            (What::Bind, Protocol::Udp) | (What::Listen, _) => Some(Stage::Receives),
            // The driver tells of no others.
            (What::Bind, Protocol::Icmp) | (What::Connect | What::Accept | What::Close, _) => None,
        };
        match stage {
            Some(stage) => {
                self.bind(event.protocol, BoundSocket { local: event.local, stage, life });
            }
            None => self.talk(event, life),
        }
        if event.what != What::Accept && self.is_watched(event.local.address) {
            self.note_change();
        }
    }

    /// Forgets what was closed long ago.
    pub fn expire(&self, now: Moment) {
        let stays =
            |life: &Life| !life.closed.is_some_and(|closed| closed.is_past(REMEMBERED, now));
        self.retain(|socket| stays(&socket.life), |_, socket| stays(&socket.life));
    }

    /// From now on the sockets of this session of the system are those of a login,
    /// or of none.
    pub fn set_login(&self, station: u32, session: Option<SessionId>) {
        let tell = |life: &mut Life| {
            if life.holder.station == station && station != 0 {
                life.holder.owner.session = session;
            }
        };
        self.0.bound.alter_all(|_, mut sockets| {
            sockets.iter_mut().for_each(|socket| tell(&mut socket.life));
            sockets
        });
        self.0.pairs.alter_all(|_, mut socket| {
            tell(&mut socket.life);
            socket
        });
    }

    /// A conversation. Of a UDP socket that is bound anyway nothing is recorded:
    /// it has any number of them.
    fn talk(&self, event: &Event, life: Life) {
        let Some(remote) = event.remote else { return };
        let is_known = |socket: &BoundSocket| {
            let covers = Fit::of(socket.local.address, event.local.address).is_some();
            socket.life.is_open() && covers && socket.life.is_meant_by(event)
        };
        if event.protocol == Protocol::Udp
            && self.find_bound(event.protocol, event.local.port, is_known).is_some()
        {
            return;
        }
        let accepted = event.what == What::Accept;
        self.add_pair((event.protocol, event.local, remote), PairSocket { accepted, life });
    }

    fn listener_of(&self, event: &Event) -> Option<Holder> {
        let made_it =
            |socket: &BoundSocket| event.parent != 0 && socket.life.endpoint == event.parent;
        Some(self.find_bound(event.protocol, event.local.port, made_it)?.life.holder)
    }

    /// The first socket bound to that port of which `is_it` is true.
    fn find_bound(
        &self,
        protocol: Protocol,
        port: u16,
        is_it: impl Fn(&BoundSocket) -> bool,
    ) -> Option<BoundSocket> {
        self.0.bound.get(&(protocol, port))?.iter().find(|socket| is_it(socket)).cloned()
    }

    /// Enters a bound socket, in the place of what it was before.
    fn bind(&self, protocol: Protocol, socket: BoundSocket) {
        let is_full = self.len() >= SOCKETS;
        let mut sockets = self.0.bound.entry((protocol, socket.local.port)).or_default();
        let before = sockets.iter_mut().find(|before| {
            let same = match (before.life.endpoint, socket.life.endpoint) {
                (0, _) | (_, 0) => before.life.holder.owner.pid == socket.life.holder.owner.pid,
                (before, now) => before == now,
            };
            same && before.life.is_open() && before.local == socket.local
        });
        if let Some(before) = before {
            let was = before.stage;
            let since = before.life.since.min(socket.life.since);
            *before = socket;
            before.life.since = since;
            if was == Stage::Receives {
                before.stage = was;
            }
            return;
        }
        let gone = |it: &BoundSocket| !it.life.is_open();
        if is_full || sockets.len() >= ON_ONE_PORT {
            // One that is gone makes room, the oldest first: the newest are behind.
            match sockets.iter().position(gone) {
                Some(oldest) => drop(sockets.remove(oldest)),
                None => {
                    self.0.full.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
        } else {
            self.0.sockets.fetch_add(1, Ordering::Relaxed);
        }
        sockets.push(socket);
    }

    fn add_pair(&self, ends: Ends, socket: PairSocket) {
        let is_full = self.len() >= SOCKETS;
        match self.0.pairs.entry(ends) {
            // A late event does not undo a newer one.
            Entry::Occupied(there) if there.get().life.since > socket.life.since => {}
            Entry::Occupied(mut there) => {
                there.insert(socket);
            }
            Entry::Vacant(_) if is_full => {
                self.0.full.fetch_add(1, Ordering::Relaxed);
            }
            Entry::Vacant(place) => {
                place.insert(socket);
                self.0.sockets.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// An end of a socket, or of one of its conversations only: the system tells
    /// both, each without the other's half.
    fn close(&self, event: &Event) {
        let Event { protocol, local, remote, at, .. } = *event;
        if let Some(remote) = remote
            && let Some(mut pair) = self.0.pairs.get_mut(&(protocol, local, remote))
            && pair.life.is_open()
            && pair.life.is_meant_by(event)
        {
            pair.life.closed = Some(at);
        }
        let Some(mut sockets) = self.0.bound.get_mut(&(protocol, local.port)) else { return };
        let open = |socket: &&mut BoundSocket| socket.life.is_open();
        let mut known = false;
        // One socket may be bound for IPv4 and for IPv6.
        for socket in sockets.iter_mut().filter(open) {
            if event.endpoint != 0 && socket.life.endpoint == event.endpoint {
                socket.life.closed = Some(at);
                known = true;
            }
        }
        if known || remote.is_some() {
            return;
        }
        let mut open = sockets.iter_mut().filter(open);
        let is_it = |it: &&mut BoundSocket| it.local == local && it.life.is_meant_by(event);
        if let Some(socket) = open.find(is_it) {
            socket.life.closed = Some(at);
        }
    }

    /// Keeps what both functions agree to keep, and counts.
    fn retain(
        &self,
        mut bound: impl FnMut(&mut BoundSocket) -> bool,
        mut pair: impl FnMut(&Ends, &mut PairSocket) -> bool,
    ) {
        let mut gone = 0;
        self.0.bound.retain(|_, sockets| {
            let before = sockets.len();
            sockets.retain_mut(&mut bound);
            gone += before - sockets.len();
            !sockets.is_empty()
        });
        self.0.pairs.retain(|ends, socket| {
            let stays = pair(ends, socket);
            gone += usize::from(!stays);
            stays
        });
        self.0.sockets.fetch_sub(gone, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
