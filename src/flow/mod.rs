//! Which conversations are going on, and as what?
//!
//! One slab of flows and one index. Each flow is entered under its inside and
//! its outside pair; the UDP flows of one socket, which share one port on the
//! wire, form a list whose first is entered under the socket and under that
//! port as well. At a million flows this is at most 205 bytes for each of them.

#![warn(clippy::indexing_slicing, reason = "nothing that strangers send may panic")]

mod entry;
mod index;
mod key;
mod slab;

pub use entry::FlowView;
pub(crate) use entry::{Begin, Flow};
pub use key::Pair;
pub(crate) use key::{Face, Key};

use crate::owner::Program;
use crate::packet::{Endpoint, Protocol};
use crate::session::SessionId;

use index::Index;
use key::{endpoint_hash, socket_hash};
use slab::{END, Slab};
use std::net::IpAddr;
use std::sync::Arc;

/// How many slots a regular call of [`FlowTable::expire`] should look at: well
/// under a millisecond. At ten calls a second a million flows are gone through in
/// thirteen seconds.
pub(crate) const SWEEP: u32 = 8192;

/// All flows. It has a hard limit, and never moves a flow.
pub(crate) struct FlowTable {
    slab: Slab,
    index: Index,
    limit: usize,
    /// Where the next call of [`expire`](Self::expire) goes on.
    swept: u32,
    nobody: Arc<Program>,
}

/// Why a flow was not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There are as many as may be.
    Full,
    /// Another flow has the same two ends.
    Taken,
}

impl FlowTable {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            slab: Slab::new(),
            index: Index::new(),
            limit: limit.min(END as usize - 1),
            swept: 0,
            nobody: Arc::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.limit
    }

    #[inline]
    pub(crate) fn flow(&self, slot: u32) -> Option<&Flow> {
        self.slab.flow(slot)
    }

    #[inline]
    pub(crate) fn flow_mut(&mut self, slot: u32) -> Option<&mut Flow> {
        self.slab.flow_mut(slot)
    }

    /// The hash under which `key` is found: to be asked for once a packet.
    #[inline]
    pub(crate) fn hash(&self, key: &Key) -> u32 {
        key.hash(self.index.hasher())
    }

    /// The flow that has this key.
    #[inline]
    pub(crate) fn find(&self, key: &Key) -> Option<u32> {
        self.find_hashed(key, self.hash(key))
    }

    /// As [`find`](Self::find), where the hash is known already.
    #[inline]
    pub(crate) fn find_hashed(&self, key: &Key, hash: u32) -> Option<u32> {
        self.index.find(hash, |slot| self.slab.flow(slot).is_some_and(|flow| flow.is(key)))
    }

    /// The flow of that session that has this key. Raw sockets of two sessions may
    /// ask the same target by the same id, and only their owners tell them apart.
    pub(crate) fn find_of(&self, key: &Key, session: Option<SessionId>) -> Option<u32> {
        let is_it = |flow: &Flow| flow.is(key) && flow.session() == session;
        self.index.find(self.hash(key), |slot| self.slab.flow(slot).is_some_and(is_it))
    }

    /// Most likely the flow with a key of this hash; it has not been looked at.
    #[inline]
    pub(crate) fn guess(&self, hash: u32) -> Option<u32> {
        self.index.find(hash, |_| true)
    }

    /// Records a flow that begins.
    ///
    /// # Errors
    /// The table is full, or the flow's ends are another's already; then
    /// nothing has changed.
    pub(crate) fn insert(&mut self, begin: Begin, epoch: u32, now: u32) -> Result<u32, Refused> {
        let inside = Key::new(Face::Inside, begin.protocol, &begin.inside);
        let outside = Key::new(Face::Outside, begin.protocol, &begin.outside);
        let (inside_hash, outside_hash) = (self.hash(&inside), self.hash(&outside));
        let taken = match begin.protocol {
            Protocol::Tcp | Protocol::Udp => self.find_hashed(&inside, inside_hash),
            Protocol::Icmp => self.find_of(&inside, begin.session),
        };
        if taken.or_else(|| self.find_hashed(&outside, outside_hash)).is_some() {
            return Err(Refused::Taken);
        }
        if self.is_full() {
            return Err(Refused::Full);
        }
        let flow = Flow::new(begin, &self.nobody, epoch, now);
        let of_socket = flow.is_of_socket();
        let slot = self.slab.insert(flow);
        self.index.insert(inside_hash, slot);
        self.index.insert(outside_hash, slot);
        if of_socket {
            self.join(slot);
        }
        Ok(slot)
    }

    pub(crate) fn remove(&mut self, slot: u32) {
        let Some(flow) = self.slab.flow(slot) else { return };
        let protocol = flow.protocol();
        let inside = self.hash(&Key::new(Face::Inside, protocol, &flow.inside()));
        let outside = self.hash(&Key::new(Face::Outside, protocol, &flow.outside()));
        if flow.is_of_socket() {
            self.leave(slot);
        }
        self.index.remove(inside, slot);
        self.index.remove(outside, slot);
        self.slab.remove(slot);
    }

    /// The port by which a UDP socket is known already where it has `address`
    /// on the wire: the same for whomever it talks to (RFC 4787, REQ-1).
    pub(crate) fn port_of_socket(&self, inside: Endpoint, address: IpAddr) -> Option<u16> {
        let hash = socket_hash(inside, address, self.index.hasher());
        let slot = self.index.find(hash, |slot| {
            self.socket_flow(slot).is_some_and(|flow| {
                flow.inside().local == inside && flow.outside().local.address == address
            })
        })?;
        Some(self.slab.flow(slot)?.outside().local.port)
    }

    /// Another UDP socket than the one at `inside` has `endpoint` on the wire.
    pub(crate) fn is_of_another(&self, endpoint: Endpoint, inside: Endpoint) -> bool {
        let hash = endpoint_hash(endpoint, self.index.hasher());
        let other = |flow: &Flow| flow.outside().local == endpoint && flow.inside().local != inside;
        self.index.find(hash, |slot| self.socket_flow(slot).is_some_and(other)).is_some()
    }

    /// Removes flows that have been silent for too long, and says how many. It
    /// looks at no more than `slots` slots, and the next call goes on from there.
    pub(crate) fn expire(&mut self, now: u32, slots: u32) -> usize {
        let before = self.len();
        let bound = self.slab.bound();
        for _ in 0..slots.min(bound) {
            self.swept = if self.swept + 1 < bound { self.swept + 1 } else { 0 };
            if self.slab.flow(self.swept).is_some_and(|flow| flow.is_over(now)) {
                self.remove(self.swept);
            }
        }
        before - self.len()
    }

    /// Up to `max` flows from number `from` on, and the number to go on with;
    /// `None` after the last.
    pub(crate) fn list(&self, from: u32, max: usize) -> (Vec<FlowView>, Option<u32>) {
        let mut views = Vec::with_capacity(max.min(self.len()));
        let last = self.slab.bound().min(from.saturating_add(SWEEP));
        for slot in from..last {
            if views.len() >= max {
                return (views, Some(slot));
            }
            views.extend(self.slab.flow(slot).map(Flow::view));
        }
        (views, (last < self.slab.bound()).then_some(last))
    }

    fn socket_flow(&self, slot: u32) -> Option<&Flow> {
        self.slab.flow(slot).filter(|flow| flow.is_of_socket())
    }

    /// Enters a flow with its socket, second in the list so that the index
    /// stays as it is, or first where there is none.
    fn join(&mut self, slot: u32) {
        let Some(flow) = self.slab.flow(slot) else { return };
        let (inside, outside) = (flow.inside().local, flow.outside().local);
        let socket = socket_hash(inside, outside.address, self.index.hasher());
        let first = self.index.find(socket, |other| {
            other != slot
                && self.socket_flow(other).is_some_and(|flow| {
                    flow.inside().local == inside && flow.outside().local == outside
                })
        });
        match first {
            Some(first) => {
                let second = self.slab.flow(first).map_or(END, |flow| flow.next);
                self.link(first, slot);
                self.link(slot, second);
            }
            None => {
                self.index.insert(socket, slot);
                self.index.insert(endpoint_hash(outside, self.index.hasher()), slot);
            }
        }
    }

    /// Takes a flow out of its socket's list; the index follows if it was first.
    fn leave(&mut self, slot: u32) {
        let Some(flow) = self.slab.flow(slot) else { return };
        let (previous, next) = (flow.previous, flow.next);
        if previous == END {
            let (inside, outside) = (flow.inside().local, flow.outside().local);
            let socket = socket_hash(inside, outside.address, self.index.hasher());
            let endpoint = endpoint_hash(outside, self.index.hasher());
            for hash in [socket, endpoint] {
                match next {
                    END => self.index.remove(hash, slot),
                    next => self.index.replace(hash, slot, next),
                }
            }
        }
        self.link(previous, next);
    }

    /// Lets `second` follow `first`; either may be [`END`].
    fn link(&mut self, first: u32, second: u32) {
        if let Some(flow) = self.slab.flow_mut(first) {
            flow.next = second;
        }
        if let Some(flow) = self.slab.flow_mut(second) {
            flow.previous = first;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Reason;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    const SILENT: u32 = 10_000;

    fn endpoint(last: u8, port: u16) -> Endpoint {
        Endpoint::new(Ipv4Addr::new(10, 77, 0, last).into(), port)
    }

    /// A flow of the socket at `port`, translated, to a far end of that number.
    fn begin(protocol: Protocol, port: u16, outside: u16, far: u16) -> Begin {
        let remote = endpoint(2, far);
        Begin {
            protocol,
            inside: Pair { local: endpoint(1, port), remote },
            outside: Pair { local: endpoint(101, outside), remote },
            reason: Reason::SessionSource,
            owner: None,
            session: None,
            opened_here: true,
            rebuilt: false,
        }
    }

    fn key(face: Face, pair: Pair) -> Key {
        Key::new(face, Protocol::Tcp, &pair)
    }

    #[test]
    fn found_by_either_pair_and_by_nothing_else() {
        let mut table = FlowTable::new(10);
        let begin = begin(Protocol::Tcp, 5000, 5001, 80);
        let (inside, outside) = (begin.inside, begin.outside);
        let slot = table.insert(begin, 0, 0).unwrap();
        assert_eq!(table.find(&key(Face::Inside, inside)), Some(slot));
        assert_eq!(table.find(&key(Face::Outside, outside)), Some(slot));
        assert_eq!(table.find(&key(Face::Outside, inside)), None);
        assert_eq!(table.find(&key(Face::Inside, inside.turned())), None);
        assert_eq!(table.find(&Key::new(Face::Inside, Protocol::Udp, &inside)), None);
        table.remove(slot);
        assert_eq!(table.find(&key(Face::Inside, inside)), None);
        assert_eq!(table.find(&key(Face::Outside, outside)), None);
    }

    #[test]
    fn refused_where_it_is_full_or_taken() {
        let mut table = FlowTable::new(2);
        table.insert(begin(Protocol::Tcp, 1, 1, 80), 0, 0).unwrap();
        let refused = |table: &mut FlowTable, begin| table.insert(begin, 0, 0).unwrap_err();
        assert_eq!(refused(&mut table, begin(Protocol::Tcp, 1, 2, 80)), Refused::Taken);
        assert_eq!(refused(&mut table, begin(Protocol::Tcp, 2, 1, 80)), Refused::Taken);
        table.insert(begin(Protocol::Udp, 1, 1, 80), 0, 0).unwrap();
        assert_eq!(refused(&mut table, begin(Protocol::Tcp, 2, 2, 80)), Refused::Full);
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn expiry_goes_on_where_it_stopped() {
        let mut table = FlowTable::new(20_000);
        for far in 1..=10_000 {
            table.insert(begin(Protocol::Tcp, 5000, 5000, far), 0, 0).unwrap();
        }
        assert_eq!(table.expire(60, SWEEP), 0);
        let (first, second) = (table.expire(SILENT, SWEEP), table.expire(SILENT, SWEEP));
        assert_eq!((first + second, table.len()), (10_000, 0));
        assert!(first <= SWEEP as usize && second > 0, "{first} and {second}");
    }

    #[test]
    fn pages_have_every_flow_once() {
        let mut table = FlowTable::new(20_000);
        for far in 1..=9_000 {
            table.insert(begin(Protocol::Tcp, 5000, 5000, far), 0, 0).unwrap();
        }
        let mut ports = Vec::new();
        let mut cursor = Some(0);
        while let Some(from) = cursor {
            let (page, next) = table.list(from, 700);
            assert!(page.len() <= 700, "{}", page.len());
            ports.extend(page.iter().map(|flow| flow.inside.remote.port));
            cursor = next;
        }
        ports.sort_unstable();
        assert_eq!(ports, (1..=9_000).collect::<Vec<u16>>());
    }

    proptest! {
        /// A socket is known by its port as long as it has a flow, whichever of
        /// them ends first.
        #[test]
        fn a_sockets_port(order in Just((0..12usize).collect::<Vec<_>>()).prop_shuffle()) {
            let mut table = FlowTable::new(100);
            let mut slots = Vec::new();
            for far in 0..12 {
                let port = 5000 + far % 3;
                let begin = begin(Protocol::Udp, port, port + 1000, far);
                slots.push(table.insert(begin, 0, 0).unwrap());
            }
            let mut left = [4; 3];
            let address = endpoint(101, 0).address;
            for ended in order {
                table.remove(slots[ended]);
                left[ended % 3] -= 1;
                for (socket, flows) in left.iter().enumerate() {
                    let port = 5000 + socket as u16;
                    let known = (*flows > 0).then_some(port + 1000);
                    prop_assert_eq!(table.port_of_socket(endpoint(1, port), address), known);
                    let outside = endpoint(101, port + 1000);
                    let other = table.is_of_another(outside, endpoint(1, 9));
                    prop_assert_eq!(other, *flows > 0);
                    prop_assert!(!table.is_of_another(outside, endpoint(1, port)));
                }
            }
        }
    }
}
