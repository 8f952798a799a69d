//! Which addresses does the hook know, and whose are they?

use super::Companion;
use super::prefixes;
use crate::address::Leading;
use crate::companion::{HostAddress, SessionEntry, TableError};
use crate::session::SessionId;
use sessionip_hook::layout::{self, Address};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

impl Companion {
    /// A session has come, or has other addresses now, which must be on the
    /// host already. `cgroup` is the inode of its folder.
    ///
    /// # Errors
    /// The map is full.
    pub fn set_session(&mut self, cgroup: u64, entry: &SessionEntry) -> Result<(), TableError> {
        let session = to_layout(entry);
        let mut sessions = self.sessions.all()?;
        sessions.insert(cgroup, session);
        self.holders.add(&holders(&sessions))?;
        self.sessions.set(&cgroup, &session)?;
        self.holders.replace(&holders(&sessions))
    }

    /// A session has ended. Its sockets stay where they are.
    ///
    /// # Errors
    /// The map could not be written.
    pub fn remove_session(&mut self, cgroup: u64) -> Result<(), TableError> {
        self.sessions.remove(&cgroup)?;
        self.holders.replace(&holders(&self.sessions.all()?))
    }

    /// The sessions that the hook knows, by cgroup.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn sessions(&self) -> Result<Vec<(u64, SessionEntry)>, TableError> {
        let sessions = self.sessions.all()?;
        Ok(sessions.into_iter().map(|(cgroup, session)| (cgroup, from_layout(session))).collect())
    }

    /// Removes the sessions for which `keep` says no.
    ///
    /// # Errors
    /// A map could not be read or written.
    pub fn retain(
        &mut self,
        mut keep: impl FnMut(u64, &SessionEntry) -> bool,
    ) -> Result<(), TableError> {
        for (cgroup, entry) in self.sessions()? {
            if !keep(cgroup, &entry) {
                self.sessions.remove(&cgroup)?;
            }
        }
        self.holders.replace(&holders(&self.sessions.all()?))
    }

    /// The host's own addresses, all of them.
    ///
    /// # Errors
    /// The map is full.
    pub fn set_host_addresses(&mut self, addresses: &[HostAddress]) -> Result<(), TableError> {
        let wanted = addresses.iter().map(|host| {
            (Address::from(host.address), if host.pool_nic { layout::POOL_NIC } else { 0 })
        });
        self.host.replace(&wanted.collect())
    }

    /// The addresses that only a lease makes anybody's. Add the prefix of the
    /// session-private IPv6 addresses.
    ///
    /// # Errors
    /// The map is full.
    pub fn set_pool(&mut self, ranges: &[RangeInclusive<IpAddr>]) -> Result<(), TableError> {
        let prefixes = ranges.iter().flat_map(prefixes::of_range);
        self.pool.replace(&prefixes.map(|prefix| (prefix, 1)).collect())
    }

    /// Where packets leave by the pool's NIC, and where not: there sources are
    /// chosen, if the policy says so.
    ///
    /// # Errors
    /// The map is full.
    pub fn set_leading(&mut self, leading: &[Leading]) -> Result<(), TableError> {
        let wanted = leading
            .iter()
            .map(|it| (prefixes::of_net(it.net), if it.over { layout::OVER_POOL_NIC } else { 0 }));
        self.routes.replace(&wanted.collect())
    }
}

/// What SESSIONS says of who holds what.
fn holders(sessions: &BTreeMap<u64, layout::Session>) -> BTreeMap<Address, u32> {
    by_address(sessions).map(|(address, session)| (address, session.id)).collect()
}

/// Each address with the session that holds it.
pub(super) fn by_address(
    sessions: &BTreeMap<u64, layout::Session>,
) -> impl Iterator<Item = (Address, &layout::Session)> {
    sessions.values().flat_map(|session| {
        let ipv4 = [session.ipv4, session.loopback].into_iter().filter(|it| *it != [0; 4]);
        let ipv4 = ipv4.map(|octets| Address::from(IpAddr::from(octets)));
        let ipv6 = [session.ipv6, session.private_ipv6];
        let ipv6 = ipv6.into_iter().filter(|it| *it != Address::default());
        ipv4.chain(ipv6).map(move |address| (address, session))
    })
}

fn to_layout(entry: &SessionEntry) -> layout::Session {
    let ipv4 = |address: Option<Ipv4Addr>| address.map_or([0; 4], |a| a.octets());
    let ipv6 = |address: Option<Ipv6Addr>| Address(address.map_or([0; 16], |a| a.octets()));
    layout::Session {
        id: entry.id.0,
        ipv4: ipv4(entry.ipv4),
        ipv6: ipv6(entry.ipv6),
        private_ipv6: ipv6(entry.private_ipv6),
        loopback: ipv4(entry.loopback),
    }
}

fn from_layout(session: layout::Session) -> SessionEntry {
    let ipv4 = |octets: [u8; 4]| (octets != [0; 4]).then(|| Ipv4Addr::from(octets));
    let ipv6 = |address: Address| (address.0 != [0; 16]).then(|| Ipv6Addr::from(address.0));
    SessionEntry {
        id: SessionId(session.id),
        ipv4: ipv4(session.ipv4),
        ipv6: ipv6(session.ipv6),
        private_ipv6: ipv6(session.private_ipv6),
        loopback: ipv4(session.loopback),
    }
}
