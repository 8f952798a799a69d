//! Who owned a socket that was closed a moment ago?
//!
//! A program may send a datagram and close its socket before the packet is
//! looked at. Closed sockets are remembered for a few seconds, in bounded
//! number; the newest that fits a packet is its sender.

use crate::owner::Owner;
use crate::packet::{Endpoint, Protocol};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// How long a closed socket is remembered: longer than any packet waits.
pub(super) const REMEMBERED: Duration = Duration::from_secs(5);

/// How many are remembered; the oldest makes room for the newest.
const LIMIT: usize = 8192;

/// The sockets that were closed a moment ago.
#[derive(Debug, Default)]
pub(super) struct Closed {
    entries: VecDeque<Entry>,
    /// The number of the first in `entries`; they are numbered on from it.
    first: u64,
    /// The newest of each port. Each entry names the one before it, so that a
    /// look-up sees the sockets of one port only, newest first.
    newest: HashMap<(Protocol, u16), u64>,
}

#[derive(Debug)]
struct Entry {
    since: Instant,
    protocol: Protocol,
    local: Endpoint,
    remote: Option<Endpoint>,
    before: Option<u64>,
    owner: Owner,
}

impl Closed {
    /// Remembers one. `remote` is what it was connected to, if it was.
    pub(super) fn insert(
        &mut self,
        now: Instant,
        protocol: Protocol,
        local: Endpoint,
        remote: Option<Endpoint>,
        owner: Owner,
    ) {
        if self.entries.len() >= LIMIT {
            self.forget_first();
        }
        let number = self.first + self.entries.len() as u64;
        let before = self.newest.insert((protocol, local.port), number);
        self.entries.push_back(Entry { since: now, protocol, local, remote, before, owner });
    }

    /// Who sent from `local` to `remote`.
    pub(super) fn owner(
        &self,
        protocol: Protocol,
        local: Endpoint,
        remote: Endpoint,
    ) -> Option<&Owner> {
        let mut number = self.newest.get(&(protocol, local.port)).copied();
        while let Some(entry) = number.and_then(|number| self.entry(number)) {
            if entry.sent(local, remote) {
                return Some(&entry.owner);
            }
            number = entry.before;
        }
        None
    }

    /// Forgets what is older than [`REMEMBERED`].
    pub(super) fn expire(&mut self, now: Instant) {
        let old = |entry: &Entry| now.saturating_duration_since(entry.since) > REMEMBERED;
        while self.entries.front().is_some_and(old) {
            self.forget_first();
        }
    }

    fn entry(&self, number: u64) -> Option<&Entry> {
        let index = number.checked_sub(self.first)?;
        self.entries.get(usize::try_from(index).ok()?)
    }

    fn forget_first(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            let key = (entry.protocol, entry.local.port);
            if self.newest.get(&key) == Some(&self.first) {
                self.newest.remove(&key);
            }
            self.first += 1;
        }
    }
}

impl Entry {
    /// May a packet from `local` to `remote` be this socket's? A dual-stack
    /// wildcard sends IPv4 as well.
    fn sent(&self, local: Endpoint, remote: Endpoint) -> bool {
        let from_here = match self.local.address {
            any if any.is_unspecified() => any.is_ipv6() || local.address.is_ipv4(),
            address => address == local.address,
        };
        from_here && self.remote.is_none_or(|connected| connected == remote)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REMOTE: Endpoint = endpoint([10, 77, 0, 2], 53);

    const fn endpoint([a, b, c, d]: [u8; 4], port: u16) -> Endpoint {
        Endpoint::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(a, b, c, d)), port)
    }

    fn owned_by(pid: u32) -> Owner {
        Owner {
            session: None,
            pid,
            program: Default::default(),
            marks: Default::default(),
            lineage: None,
        }
    }

    struct Table(Closed, Instant);

    impl Table {
        #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
        fn new() -> Self {
            Self(Closed::default(), Instant::now())
        }

        fn insert(&mut self, pid: u32, local: Endpoint, remote: Option<Endpoint>) {
            self.0.insert(self.1, Protocol::Udp, local, remote, owned_by(pid));
        }

        fn pid(&self, local: Endpoint) -> Option<u32> {
            self.0.owner(Protocol::Udp, local, REMOTE).map(|owner| owner.pid)
        }
    }

    #[test]
    fn the_newest_that_fits_is_the_sender() {
        let mut table = Table::new();
        table.insert(1, endpoint([0, 0, 0, 0], 4000), None);
        table.insert(2, endpoint([10, 77, 0, 101], 4000), None);
        table.insert(3, endpoint([10, 77, 0, 1], 4000), Some(endpoint([10, 77, 0, 3], 53)));
        assert_eq!(table.pid(endpoint([10, 77, 0, 101], 4000)), Some(2));
        assert_eq!(table.pid(endpoint([10, 77, 0, 1], 4000)), Some(1), "3 was connected elsewhere");
        table.insert(4, endpoint([10, 77, 0, 1], 4000), Some(REMOTE));
        assert_eq!(table.pid(endpoint([10, 77, 0, 1], 4000)), Some(4));
        assert_eq!(table.pid(endpoint([10, 77, 0, 1], 4001)), None);
        assert!(table.0.owner(Protocol::Tcp, endpoint([10, 77, 0, 1], 4000), REMOTE).is_none());
    }

    #[test]
    fn a_dual_stack_socket_sends_both_and_an_ipv4_one_does_not() {
        let mut table = Table::new();
        table.insert(1, Endpoint::new("::".parse().unwrap(), 4000), None);
        table.insert(2, endpoint([0, 0, 0, 0], 4001), None);
        assert_eq!(table.pid(endpoint([10, 77, 0, 1], 4000)), Some(1));
        assert_eq!(table.pid(Endpoint::new("fd77::1".parse().unwrap(), 4000)), Some(1));
        assert_eq!(table.pid(Endpoint::new("fd77::1".parse().unwrap(), 4001)), None);
    }

    #[test]
    fn it_forgets_in_time_and_in_number() {
        let mut table = Table::new();
        let local = endpoint([10, 77, 0, 1], 4000);
        table.insert(1, local, None);
        table.0.expire(table.1 + REMEMBERED);
        assert_eq!(table.pid(local), Some(1));
        table.0.expire(table.1 + REMEMBERED + Duration::from_millis(1));
        assert_eq!(table.pid(local), None);
        assert!(table.0.newest.is_empty());

        table.insert(2, local, None);
        for port in 0..LIMIT as u16 {
            table.insert(3, endpoint([10, 77, 0, 1], 10_000 + port), None);
        }
        assert_eq!(table.pid(local), None);
        assert_eq!((table.0.entries.len(), table.0.newest.len()), (LIMIT, LIMIT));
    }

    #[test]
    fn a_port_that_was_used_again_and_again_is_found() {
        let mut table = Table::new();
        let local = endpoint([10, 77, 0, 1], 4000);
        for pid in 0..2 * LIMIT as u32 {
            table.insert(pid, local, None);
        }
        assert_eq!(table.pid(local), Some(2 * LIMIT as u32 - 1));
        let elsewhere = endpoint([10, 77, 0, 9], 4000);
        assert_eq!(table.pid(elsewhere), None, "the chain ends at what was forgotten");
    }
}
