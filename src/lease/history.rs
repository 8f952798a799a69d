//! Who had which address last?

use super::Returned;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// How many returned addresses are remembered once they have rested.
const REMEMBERED: usize = 4096;

/// The returned addresses, in order of time, and by user.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    by_address: BTreeMap<IpAddr, (String, Timestamp)>,
    by_time: BTreeSet<(Timestamp, IpAddr)>,
    by_user: BTreeMap<String, BTreeSet<(Timestamp, IpAddr)>>,
}

impl History {
    /// Remembers a return. When that is more than enough, the oldest is forgotten,
    /// if it was returned at `rested` or before: one that rests is never.
    pub(super) fn note(&mut self, past: Returned, rested: Timestamp) {
        self.forget(past.address);
        self.by_time.insert((past.at, past.address));
        self.by_user.entry(past.user.clone()).or_default().insert((past.at, past.address));
        self.by_address.insert(past.address, (past.user, past.at));
        if self.by_address.len() > REMEMBERED {
            let oldest = self.until(rested).next();
            oldest.into_iter().for_each(|address| self.forget(address));
        }
    }

    /// Forgets an address.
    pub(super) fn forget(&mut self, address: IpAddr) {
        let Some((user, at)) = self.by_address.remove(&address) else { return };
        self.by_time.remove(&(at, address));
        if let Some(addresses) = self.by_user.get_mut(&user) {
            addresses.remove(&(at, address));
            if addresses.is_empty() {
                self.by_user.remove(&user);
            }
        }
    }

    /// Forgets all addresses but those that `keep` says.
    pub(super) fn retain(&mut self, keep: impl Fn(IpAddr) -> bool) {
        let gone: Vec<IpAddr> =
            self.by_address.keys().copied().filter(|address| !keep(*address)).collect();
        gone.into_iter().for_each(|address| self.forget(address));
    }

    pub(super) fn knows(&self, address: IpAddr) -> bool {
        self.by_address.contains_key(&address)
    }

    /// What a user had, the last returned first.
    pub(super) fn of_user(&self, user: &str) -> impl Iterator<Item = IpAddr> {
        let returned = self.by_user.get(user).into_iter().flatten();
        returned.rev().map(|(_, address)| *address)
    }

    /// What was returned at `time` or before, the longest ago first.
    pub(super) fn until(&self, time: Timestamp) -> impl Iterator<Item = IpAddr> {
        let returned = self.by_time.iter().map(|(at, address)| (*at, *address));
        returned.take_while(move |(at, _)| *at <= time).map(|(_, address)| address)
    }

    /// What was returned after `time`, the last returned first.
    pub(super) fn after(&self, time: Timestamp) -> impl Iterator<Item = IpAddr> {
        let returned = self.by_time.iter().rev().map(|(at, address)| (*at, *address));
        returned.take_while(move |(at, _)| *at > time).map(|(_, address)| address)
    }

    /// All of it, the longest ago first.
    pub(super) fn oldest_first(&self) -> impl Iterator<Item = Returned> {
        self.by_time.iter().filter_map(|(at, address)| {
            let (user, _) = self.by_address.get(address)?;
            Some(Returned { address: *address, user: user.clone(), at: *at })
        })
    }
}
