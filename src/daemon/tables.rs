//! What do hook, rules and packet line need to know, and is it still so?

use super::RunError;
use super::admission::Held;
use super::keeper::Keeper;
use crate::address::{self, PutOnError};
use crate::companion::PolicyView;
use crate::config::{Ipv6WithoutLease, Scope};
use crate::divert::Selection;
use crate::engine::{self, Host};
use crate::lease::Family;
use crate::session::SessionId;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long rules and routes may be gone before they are laid again.
const UNMENDED: Duration = Duration::from_secs(5);

impl Keeper {
    /// Tells everybody everything. What fails is tried again by [`mend`](Self::mend).
    pub(super) fn apply(&mut self) -> Result<(), RunError> {
        self.tell_hook_all()?;
        self.lead()
    }

    /// The half of [`apply`](Self::apply) that is the hook's.
    pub(super) fn tell_hook_all(&mut self) -> Result<(), RunError> {
        self.untold = true;
        self.watch.set_pool(&self.pool());
        self.tell_hook()?;
        self.turn_loopback()
    }

    /// The other half: what packets meet.
    pub(super) fn lead(&mut self) -> Result<(), RunError> {
        self.line.set_policy(self.policy.clone())?;
        self.line.set_host(self.host())?;
        self.untold = false;
        self.select()
    }

    /// Has led here what is to be led here now. What fails is tried again by
    /// [`mend`](Self::mend).
    pub(super) fn select(&mut self) -> Result<(), RunError> {
        let selected = self.switch.select(&self.selection());
        self.unselected = selected.is_err();
        Ok(selected?)
    }

    /// Lays again what somebody else took along: `nft flush ruleset` takes our
    /// rules, and the kernel takes routes whose source address goes.
    pub(super) fn mend(&mut self, now: Instant) -> Result<(), RunError> {
        if self.mended.is_some_and(|at| now.duration_since(at) < UNMENDED) {
            return Ok(());
        }
        self.mended = Some(now);
        let told = self.mend_rules();
        // Whatever became of that.
        told.and(self.mend_addresses())
    }

    fn mend_rules(&mut self) -> Result<(), RunError> {
        if self.untold {
            self.apply()?;
        } else if self.unselected {
            self.select()?;
        } else {
            if !self.switch.holds(&self.selection())? {
                tracing::warn!("rules of ours were gone, and are laid again: who flushed them?");
                self.select()?;
            }
            return Ok(());
        }
        tracing::info!("what could not be told to hook, packet line and rules is told now");
        Ok(())
    }

    fn mend_addresses(&mut self) -> Result<(), RunError> {
        let whole: BTreeSet<IpAddr> = self.addresses.whole()?.into_iter().collect();
        let mut failed = None;
        let held = self.sessions.values().flat_map(Held::addresses);
        for address in held.filter(|it| !whole.contains(it)).collect::<Vec<_>>() {
            match self.mend_address(address) {
                Ok(true) => tracing::warn!("a session's address was gone, and is put on again"),
                // Without IPv6, or a host address: its return is followed.
                Ok(false) => {}
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    fn mend_address(&mut self, address: IpAddr) -> Result<bool, PutOnError> {
        match (address, self.host_address(address)) {
            (IpAddr::V6(six), _) if address::PRIVATE_IPV6.contains(&six) => {
                self.addresses.put_on_private_ipv6(six)
            }
            (_, Ok(host_address)) => self.addresses.put_on(address, host_address).map(|()| true),
            (_, Err(_)) => Ok(false),
        }
    }

    /// Sockets have come or gone at addresses of the pool: the packet line hears of
    /// those that concern it.
    pub(super) fn follow_sockets(&mut self) -> Result<(), RunError> {
        let at_pool = self.watch.at_pool(&self.host());
        if at_pool != self.at_pool {
            self.at_pool = at_pool;
            self.line.set_host(self.host())?;
            self.select()?;
        }
        Ok(())
    }

    /// Tells the hook all but the sessions.
    pub(super) fn tell_hook(&mut self) -> Result<(), RunError> {
        self.read_host_addresses()?;
        self.companion.set_policy(&PolicyView::from(&self.config))?;
        self.companion.set_host_addresses(&self.host_addresses)?;
        let private = address::PRIVATE_IPV6;
        let mut pool: Vec<_> = self.pool().into_iter().map(|(first, last)| first..=last).collect();
        pool.push(IpAddr::V6(private.network())..=IpAddr::V6(private.broadcast()));
        self.companion.set_pool(&pool)?;
        self.tell_hook_of_routes()
    }

    /// Sources are chosen only where packets leave by the pool's NIC: a tunnel that
    /// comes up takes its destinations away.
    pub(super) fn follow_routes(&mut self) -> Result<(), RunError> {
        if self.config.hook_scope != Scope::Connect || !self.route_news.any() {
            return Ok(());
        }
        let told = self.tell_hook_of_routes();
        if told.is_err() {
            self.route_news.ask_again();
        }
        told
    }

    fn tell_hook_of_routes(&mut self) -> Result<(), RunError> {
        if self.config.hook_scope != Scope::Connect {
            return Ok(());
        }
        let read = self.addresses.leading(self.adapter.index, &self.pool());
        let leading = match read {
            Ok(Some(leading)) => leading,
            Ok(None) => {
                tracing::warn!("too many routes for scope = \"connect\": no source is chosen");
                Vec::new()
            }
            Err(error) => {
                // What is not known to lead over the NIC is left to the engine.
                self.companion.set_leading(&[])?;
                return Err(error.into());
            }
        };
        Ok(self.companion.set_leading(&leading)?)
    }

    /// The addresses as the packet line needs them.
    pub(super) fn host(&self) -> Arc<Host> {
        let addresses =
            |held: &Held| engine::Addresses { ipv4: held.ipv4, ipv6: held.given_ipv6() };
        let held = self.sessions.values();
        let holders =
            held.clone().flat_map(|held| held.leased().map(|address| (address, held.session.id)));
        let on_nic = self.host_addresses.iter().filter(|host| host.pool_nic);
        Arc::new(Host {
            interface: self.adapter.index,
            addresses: on_nic.map(|host| host.address).collect(),
            broadcast: self.adapter.broadcasts().map(IpAddr::V4).collect(),
            holders: holders.collect(),
            sessions: held.map(|held| (held.session.id, addresses(held))).collect(),
            loopbacks: self.loopbacks(),
            pool: self.pool(),
            moved: self.at_pool.moved.iter().copied().collect(),
        })
    }

    /// Where programs of sessions have a localhost of their own. Where that is off,
    /// a V6ONLY listener of a session without a lease is at the private address all
    /// the same, and is looked for at `::1`.
    fn loopbacks(&self) -> HashMap<SessionId, engine::Addresses> {
        let on = self.config.loopback.enabled;
        let held = self.sessions.values().filter(|_| on || self.config.virtual_ip.enabled);
        let of = |held: &Held| engine::Addresses {
            ipv4: held.loopback.filter(|_| on),
            ipv6: held.private_ipv6,
        };
        held.map(|held| (held.session.id, of(held))).collect()
    }

    /// Is this one of the addresses that the configuration gives?
    pub(super) fn is_configured(&self, address: IpAddr) -> bool {
        self.config.pool.ranges.iter().any(|range| range.contains(&address))
    }

    /// The configured ranges, and leases from before a reload that lie outside.
    fn pool(&self) -> Vec<(IpAddr, IpAddr)> {
        let ranges = self.config.pool.ranges.iter().map(|range| (*range.start(), *range.end()));
        let held = self.held_addresses().into_iter();
        let outside = held.filter(|address| !self.is_configured(*address));
        ranges.chain(outside.map(|address| (address, address))).collect()
    }

    /// All virtual addresses that sessions hold.
    pub(super) fn held_addresses(&self) -> Vec<IpAddr> {
        self.sessions.values().flat_map(Held::leased).collect()
    }

    pub(super) fn selection(&self) -> Selection {
        let on_nic = self.host_addresses.iter().filter(|host| host.pool_nic);
        let listed = &self.config.virtual_ip;
        let blocks = listed.enabled && listed.ipv6_without_lease == Ipv6WithoutLease::Block;
        Selection {
            pool: self.pool(),
            host_addresses: on_nic.map(|host| host.address).collect(),
            broadcast: self.adapter.broadcasts().map(IpAddr::V4).collect(),
            parents: self.logins.parents(),
            ping_programs: self.companion.ping_programs(),
            needs_ipv6: blocks || self.config.pool.has(Family::Ipv6),
            exclude_ports: self.config.divert.exclude_ports.clone(),
            moved: self.at_pool.moved.clone(),
            foreign: if self.config.isolation.sources {
                self.at_pool.foreign.clone()
            } else {
                Vec::new()
            },
        }
    }
}
