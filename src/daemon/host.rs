//! What follows when the host's own addresses change?

use super::RunError;
use super::admission::Held;
use super::keeper::{Keeper, warn_on};
use crate::companion::HostAddress;
use crate::lease::Family;
use crate::session::SessionId;
use std::net::IpAddr;

impl Keeper {
    /// Takes note of host addresses that came or went. What fails is tried again.
    pub(super) fn follow_host_addresses(&mut self) -> Result<(), RunError> {
        let before = self.host_addresses.clone();
        let changed = self.read_host_addresses()?;
        if changed {
            tracing::info!("the host's own addresses have changed");
            if let Err(error) = self.companion.set_host_addresses(&self.host_addresses) {
                // The next second finds them changed again.
                self.host_addresses = before;
                return Err(error.into());
            }
        }
        let withheld = self.sessions_where(|held| held.ipv6_withheld);
        for id in self.sessions_where(|held| held.behind) {
            let behind = !self.catch_up(id, changed);
            if let Some(held) = self.sessions.get_mut(&id) {
                held.behind = behind;
            }
        }
        if changed {
            // Sessions that came while there was no address to share.
            for id in self.sessions_where(|held| !held.lacks.is_empty()) {
                warn_on("complete a session", self.complete(id));
            }
            self.save();
        }
        // Once for all of them, as each looks at everything: sockets, or flows.
        let found = self.find_again();
        if changed || withheld != self.sessions_where(|held| held.ipv6_withheld) {
            self.line.set_host(self.host())?;
        }
        if changed {
            self.select()?;
        }
        found
    }

    /// Gives the addresses of a session the host address that there is now; says
    /// whether all have it. One that cannot is no other's trouble. `first`: nobody
    /// has heard yet that it cannot.
    fn catch_up(&mut self, id: SessionId, first: bool) -> bool {
        let leased: Vec<IpAddr> =
            self.sessions.get(&id).into_iter().flat_map(Held::leased).collect();
        let mut all = true;
        for address in leased {
            let done = match self.host_address(address) {
                Ok(host_address) => self.return_to_host(id, address, host_address),
                // The only ones of their kind would be taken as source, by everybody.
                Err(_) if address.is_ipv6() => {
                    // The hook first: a bind must not be moved to one that is gone.
                    self.give_ipv6(id, false).map(|()| {
                        let off = self.addresses.take_off(address);
                        warn_on("take off a session's address", off);
                    })
                }
                Err(error) => Err(error),
            };
            all &= done.is_ok();
            if first {
                warn_on("give a session's address its host address", done);
            }
        }
        all
    }

    fn return_to_host(
        &mut self,
        id: SessionId,
        address: IpAddr,
        host_address: IpAddr,
    ) -> Result<(), RunError> {
        self.addresses.put_on(address, host_address)?;
        if address.is_ipv6() { self.give_ipv6(id, true) } else { Ok(()) }
    }

    /// Has the hook give a session's programs its IPv6 address, or, while it is not on
    /// the host, treat them as those of a session that has none. The packet line is
    /// to be told as well.
    fn give_ipv6(&mut self, id: SessionId, given: bool) -> Result<(), RunError> {
        let withheld = !given;
        let Some(held) = self.sessions.get(&id).filter(|held| held.ipv6_withheld != withheld)
        else {
            return Ok(());
        };
        let held = Held { ipv6_withheld: withheld, ..held.clone() };
        self.companion.admit(&held.session, &self.entry(&held))?;
        self.sessions.insert(id, held);
        if given {
            self.found = false;
        }
        Ok(())
    }

    fn sessions_where(&self, is_so: impl Fn(&Held) -> bool) -> Vec<SessionId> {
        self.sessions.values().filter(|held| is_so(held)).map(|held| held.session.id).collect()
    }

    /// Reads the host's own addresses; says whether they have changed.
    pub(super) fn read_host_addresses(&mut self) -> Result<bool, RunError> {
        let local = self.addresses.local_addresses()?.into_iter();
        let local = local.filter(|local| !local.address.is_loopback());
        // What every link has is no session's to take.
        let local = local.filter(|local| !is_link_local(local.address));
        let read: Vec<HostAddress> = local
            .map(|local| HostAddress {
                address: local.address,
                pool_nic: local.interface == self.adapter.index,
            })
            .collect();
        let changed = read != self.host_addresses;
        if changed {
            self.host_addresses = read;
            self.sessions.values_mut().for_each(|held| held.behind = true);
        }
        Ok(changed)
    }

    /// The host address (P) in whose place a virtual address stands.
    pub(super) fn host_address(&self, virtual_address: IpAddr) -> Result<IpAddr, RunError> {
        let family = Family::of(virtual_address);
        let on_nic = self.host_addresses.iter().filter(|host| host.pool_nic);
        let mut addresses =
            on_nic.map(|host| host.address).filter(|host| Family::of(*host) == family);
        let none = || RunError::NoHostAddress { adapter: self.adapter.name.clone(), family };
        addresses.next().ok_or_else(none)
    }
}

/// IPv4's are rare, and then all that a machine has.
fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(six) if six.is_unicast_link_local())
}
