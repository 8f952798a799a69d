//! Which address for which session?
//!
//! Pure: time is an argument, and nothing here touches the machine. Every session
//! holds at most one lease of each IP version. A grant costs the logarithm of what
//! is held and remembered, not of the pool's size.

mod history;
pub mod store;

use crate::config::{Pool, length};
use crate::session::SessionId;
use history::History;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// A version of IP. A pool may have addresses of either or of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// RFC 791.
    Ipv4,
    /// RFC 8200.
    Ipv6,
}

impl Family {
    /// Both, the one that a pool rather has first.
    pub const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// That of an address.
    pub const fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        })
    }
}

/// One session's hold on one address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// Who holds it.
    pub session: SessionId,
    /// The session's user.
    pub user: String,
    /// What is held.
    pub address: IpAddr,
    /// Since when.
    pub since: Timestamp,
}

/// An address that was returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Returned {
    /// What was returned.
    pub address: IpAddr,
    /// Who held it last.
    pub user: String,
    /// When he gave it back.
    pub at: Timestamp,
}

/// What outlives a restart of the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// What is held.
    pub leases: Vec<Lease>,
    /// What was returned, the longest ago first.
    pub returned: Vec<Returned>,
}

/// A session gets no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Every address of the pool is held, rests, or may not be given.
    #[error(
        "No virtual IP address is available for this session, \
         please contact your administrator."
    )]
    Exhausted,
    /// The user has as many as one may have (`pool.per-user`).
    #[error("This user holds {limit} virtual IP addresses already, and may not have more.")]
    PerUser {
        /// How many one may have.
        limit: usize,
    },
}

/// How the pool's addresses are used, as in `status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Leases.
    pub used: u64,
    /// Addresses that any session could have now.
    pub free: u64,
    /// Returned addresses that only their last user could have now.
    pub resting: u64,
}

/// The pool, and who holds what of it.
#[derive(Clone, Debug)]
pub struct Leases {
    pool: Pool,
    /// Addresses of the pool that are never given.
    reserved: BTreeSet<IpAddr>,
    /// Addresses that somebody else answers for, and what is known of it.
    avoided: BTreeMap<IpAddr, String>,
    leases: BTreeMap<(SessionId, Family), Lease>,
    holders: BTreeMap<IpAddr, SessionId>,
    /// How many leases of a family each user holds; no entry for none.
    held_by: BTreeMap<(String, Family), usize>,
    history: History,
    /// Before this place of the pool nothing was never given: a hint, so that a
    /// grant need not walk over what is held. For each family its own.
    fresh_from: BTreeMap<Family, (usize, IpAddr)>,
}

impl Lease {
    /// A session has at most one with the same.
    fn key(&self) -> (SessionId, Family) {
        (self.session, Family::of(self.address))
    }
}

impl Leases {
    /// A pool that nobody holds anything of. `reserved` is never given: the
    /// network and broadcast addresses of the NIC's subnets, the host's own.
    pub fn new(pool: &Pool, reserved: impl IntoIterator<Item = IpAddr>) -> Self {
        Self {
            pool: pool.clone(),
            reserved: reserved.into_iter().collect(),
            avoided: BTreeMap::new(),
            leases: BTreeMap::new(),
            holders: BTreeMap::new(),
            held_by: BTreeMap::new(),
            history: History::default(),
            fresh_from: BTreeMap::new(),
        }
    }

    /// A pool with what was saved before a restart. Its leases are held until
    /// [`give_back_all_but`](Self::give_back_all_but) hears which sessions live.
    /// Times that have not come yet count as `now`, lest a clock that was set
    /// back makes addresses rest for years.
    pub fn restore(
        now: Timestamp,
        pool: &Pool,
        reserved: impl IntoIterator<Item = IpAddr>,
        saved: Saved,
    ) -> Self {
        let mut restored = Self::new(pool, reserved);
        for lease in saved.leases {
            let is_new = !restored.leases.contains_key(&lease.key());
            if is_new && !restored.holders.contains_key(&lease.address) {
                restored.hold(Lease { since: lease.since.min(now), ..lease });
            }
        }
        for past in saved.returned {
            if !restored.holders.contains_key(&past.address) {
                let at = past.at.min(now);
                restored.history.note(Returned { at, ..past }, restored.rested_before(now));
            }
        }
        restored.forget_outside();
        restored
    }

    /// The address of a session: the one it holds, also from before a restart, or
    /// a new lease; of one family. A new one is, in this order, the one that the user gave back
    /// last (`pool.sticky`; he need not let it rest), the next that was never
    /// given, the one that was given back longest ago.
    ///
    /// # Errors
    /// There is none for this session.
    pub fn grant(
        &mut self,
        now: Timestamp,
        session: SessionId,
        user: &str,
        family: Family,
    ) -> Result<Lease, Refused> {
        match self.leases.get(&(session, family)) {
            Some(lease) if lease.user == user => return Ok(lease.clone()),
            // Its number was another user's session's before the machine restarted.
            Some(_) => drop(self.give_back(now, session)),
            None => {}
        }
        let limit = self.pool.per_user;
        if self.held_by.get(&(user.to_owned(), family)).is_some_and(|held| *held >= limit) {
            return Err(Refused::PerUser { limit });
        }
        let address = self.choose(now, user, family).ok_or(Refused::Exhausted)?;
        let lease = Lease { session, user: user.to_owned(), address, since: now };
        self.hold(lease.clone());
        Ok(lease)
    }

    /// A session has ended: its addresses rest.
    pub fn give_back(&mut self, now: Timestamp, session: SessionId) -> Vec<Lease> {
        let families = Family::ALL.into_iter();
        families.filter_map(|family| self.give_back_one(now, session, family)).collect()
    }

    /// A session has no use for its address of that family: it rests.
    pub fn give_back_one(
        &mut self,
        now: Timestamp,
        session: SessionId,
        family: Family,
    ) -> Option<Lease> {
        let lease = self.leases.remove(&(session, family))?;
        self.holders.remove(&lease.address);
        let holder = (lease.user.clone(), family);
        if let Some(held) = self.held_by.get_mut(&holder) {
            *held -= 1;
            if *held == 0 {
                self.held_by.remove(&holder);
            }
        }
        if self.in_pool(lease.address) {
            let past = Returned { address: lease.address, user: lease.user.clone(), at: now };
            self.history.note(past, self.rested_before(now));
        }
        Some(lease)
    }

    /// Gives back the leases of all sessions that are not logged on: after a
    /// restart, once the sessions that live are known.
    pub fn give_back_all_but(&mut self, now: Timestamp, live: &BTreeSet<SessionId>) -> Vec<Lease> {
        let held = self.leases.keys().map(|(session, _)| *session);
        let over: BTreeSet<SessionId> = held.filter(|session| !live.contains(session)).collect();
        over.into_iter().flat_map(|session| self.give_back(now, session)).collect()
    }

    /// Somebody else answers for `address`: it is not given until the pool is set
    /// again. A session that holds it keeps it.
    pub fn avoid(&mut self, address: IpAddr, why: impl Into<String>) {
        self.avoided.insert(address, why.into());
    }

    /// Up to `count` of the addresses of each family that are given next, for
    /// whoever asks the neighbours about them beforehand.
    pub fn upcoming(&self, now: Timestamp, count: usize) -> Vec<IpAddr> {
        let of_family = |family| {
            let ranges = self.pool.ranges.iter().filter(move |range| is_of(range, family));
            let all = ranges.flat_map(|range| addresses(range.clone()));
            let fresh = all.filter(|a| self.is_free(*a) && !self.history.knows(*a));
            let rested = self.history.until(self.rested_before(now));
            let rested = rested.filter(move |a| Family::of(*a) == family && self.is_free(*a));
            fresh.chain(rested).take(count)
        };
        Family::ALL.into_iter().flat_map(of_family).collect()
    }

    /// The addresses that are avoided, and why.
    pub fn avoided(&self) -> impl Iterator<Item = (IpAddr, &str)> {
        self.avoided.iter().map(|(address, why)| (*address, why.as_str()))
    }

    /// Takes another pool. A lease outside it stays until its session ends.
    pub fn set_pool(&mut self, pool: &Pool, reserved: impl IntoIterator<Item = IpAddr>) {
        self.pool = pool.clone();
        self.reserved = reserved.into_iter().collect();
        self.avoided.clear();
        self.fresh_from.clear();
        self.forget_outside();
    }

    /// What a session holds of a family.
    pub fn lease_of(&self, session: SessionId, family: Family) -> Option<&Lease> {
        self.leases.get(&(session, family))
    }

    /// The session that holds an address.
    pub fn holder_of(&self, address: IpAddr) -> Option<SessionId> {
        self.holders.get(&address).copied()
    }

    /// All leases, by session.
    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values()
    }

    /// How the pool is used: of its IP versions the one with the fewest addresses
    /// left, for that one is the first to be missed.
    pub fn usage(&self, now: Timestamp) -> Usage {
        let there = Family::ALL.into_iter().filter(|family| self.pool.has(*family));
        there.map(|family| self.usage_of(now, family)).min_by_key(|it| it.free).unwrap_or_default()
    }

    fn usage_of(&self, now: Timestamp, family: Family) -> Usage {
        let ranges = self.pool.ranges.iter().filter(|range| is_of(range, family));
        let size: u128 = ranges.map(length).fold(0, u128::saturating_add);
        let in_pool =
            |address: &&IpAddr| Family::of(**address) == family && self.in_pool(**address);
        let not_given = self.reserved.iter().chain(self.avoided.keys()).collect::<BTreeSet<_>>();
        let not_given = not_given.into_iter().filter(in_pool);
        let not_given = not_given.filter(|address| !self.holders.contains_key(address)).count();
        let held = self.holders.keys().filter(in_pool).count();
        let resting = self.history.after(self.rested_before(now));
        let resting = resting.filter(|address| Family::of(*address) == family);
        let resting = resting.filter(|address| self.is_free(*address)).count();
        let gone = (not_given + held + resting) as u128;
        Usage {
            used: self.leases.keys().filter(|(_, of)| *of == family).count() as u64,
            free: size.saturating_sub(gone).try_into().unwrap_or(u64::MAX),
            resting: resting as u64,
        }
    }

    /// What a restart must not lose.
    pub fn saved(&self) -> Saved {
        Saved {
            leases: self.leases.values().cloned().collect(),
            returned: self.history.oldest_first().collect(),
        }
    }

    fn hold(&mut self, lease: Lease) {
        self.history.forget(lease.address);
        *self.held_by.entry((lease.user.clone(), Family::of(lease.address))).or_default() += 1;
        self.holders.insert(lease.address, lease.session);
        self.leases.insert(lease.key(), lease);
    }

    fn choose(&mut self, now: Timestamp, user: &str, family: Family) -> Option<IpAddr> {
        let may_be =
            |leases: &Self, address| Family::of(address) == family && leases.is_free(address);
        let own = self.history.of_user(user).find(|address| may_be(self, *address));
        if self.pool.sticky && own.is_some() {
            return own;
        }
        let rested = self.rested_before(now);
        let fresh = self.next_fresh(family);
        fresh.or_else(|| self.history.until(rested).find(|a| may_be(self, *a))).or(own)
    }

    /// The next address, in the pool's order, that was never given, or so long ago
    /// that nobody remembers.
    fn next_fresh(&mut self, family: Family) -> Option<IpAddr> {
        let hint = self.fresh_from.get(&family).copied();
        let after_hint = hint.and_then(|(range, from)| self.fresh_after(family, range, Some(from)));
        let found = after_hint.or_else(|| self.fresh_after(family, 0, None))?;
        self.fresh_from.insert(family, found);
        Some(found.1)
    }

    /// Every step passes an address that is held, remembered, avoided or reserved,
    /// so their number bounds the walk, however large the pool.
    fn fresh_after(
        &self,
        family: Family,
        first: usize,
        from: Option<IpAddr>,
    ) -> Option<(usize, IpAddr)> {
        let ranges = self.pool.ranges.iter().enumerate().skip(first);
        ranges.filter(|(_, range)| is_of(range, family)).find_map(|(index, range)| {
            let from = from.filter(|_| index == first).unwrap_or(*range.start());
            addresses(from..=*range.end())
                .find(|address| self.is_free(*address) && !self.history.knows(*address))
                .map(|address| (index, address))
        })
    }

    fn is_free(&self, address: IpAddr) -> bool {
        !self.holders.contains_key(&address)
            && !self.avoided.contains_key(&address)
            && !self.reserved.contains(&address)
    }

    fn in_pool(&self, address: IpAddr) -> bool {
        self.pool.ranges.iter().any(|range| range.contains(&address))
    }

    fn forget_outside(&mut self) {
        let Self { history, pool, .. } = self;
        history.retain(|address| pool.ranges.iter().any(|range| range.contains(&address)));
    }

    /// What was returned before this time, or at it, has rested long enough.
    fn rested_before(&self, now: Timestamp) -> Timestamp {
        now.checked_sub(self.pool.quarantine).unwrap_or(Timestamp::MIN)
    }
}

/// The addresses from first to last, of one family.
fn addresses(range: RangeInclusive<IpAddr>) -> impl Iterator<Item = IpAddr> {
    let (start, end) = range.into_inner();
    let next = |address: &IpAddr| match address {
        IpAddr::V4(v4) => v4.to_bits().checked_add(1).map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(v6) => v6.to_bits().checked_add(1).map(|bits| IpAddr::V6(bits.into())),
    };
    std::iter::successors(Some(start), next).take_while(move |address| *address <= end)
}

fn is_of(range: &RangeInclusive<IpAddr>, family: Family) -> bool {
    Family::of(*range.start()) == family
}

#[cfg(test)]
mod tests;
