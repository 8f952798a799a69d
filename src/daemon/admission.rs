//! Which addresses does a session get, and when are they on the host?

use super::RunError;
use super::keeper::{Keeper, in_full, now, warn_on};
use crate::address::{self, PutOnError, arp, nd};
use crate::flow::Pair;
use crate::lease::{Family, Refused};
use crate::observe::event::Event as Record;
use crate::owner;
use crate::packet::Protocol;
use crate::session::{Session, SessionId};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A session that is logged on, and what it holds.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) session: Session,
    pub(super) ipv4: Option<Ipv4Addr>,
    pub(super) ipv6: Option<Ipv6Addr>,
    /// Its IPv6 address is not on the host, which has none there that it could
    /// stand for: it is kept, and given to nobody until then.
    pub(super) ipv6_withheld: bool,
    pub(super) private_ipv6: Option<Ipv6Addr>,
    /// Its loopback address, whether or not programs use it; `None`: taken.
    pub(super) loopback: Option<Ipv4Addr>,
    /// Of which families it asked for an address and got none.
    pub(super) lacks: Vec<Family>,
    /// It was told that there is none, which is told once.
    pub(super) told: bool,
    /// The host's own addresses have changed since its own were put on.
    pub(super) behind: bool,
}

impl Held {
    /// Its virtual addresses.
    pub(super) fn leased(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let ipv6 = self.ipv6.map(IpAddr::V6);
        self.ipv4.map(IpAddr::V4).into_iter().chain(ipv6)
    }

    /// The IPv6 address that its programs have now.
    pub(super) fn given_ipv6(&self) -> Option<Ipv6Addr> {
        self.ipv6.filter(|_| !self.ipv6_withheld)
    }

    /// What is on the host for it.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.leased().chain(self.private_ipv6.map(IpAddr::V6))
    }

    /// It found the pool empty where it is missed: of IPv6 only if it has nothing.
    pub(super) fn is_exhausted(&self) -> bool {
        self.lacks.contains(&Family::Ipv4) || !self.lacks.is_empty() && self.ipv4.is_none()
    }
}

impl Keeper {
    pub(super) fn admit(&mut self, session: Session) -> Result<(), RunError> {
        let id = session.id;
        if let Some(held) = self.sessions.get(&id) {
            if held.session.scope == session.scope {
                return Ok(());
            }
            // The number was used again before its end was seen.
            self.dismiss(id)?;
        }
        let (mut ipv4, mut ipv6, mut lacks, mut told) = (None, None, Vec::new(), false);
        for family in Family::ALL {
            if !self.config.pool.has(family) {
                continue;
            }
            match self.lease(&session, family, &mut told) {
                Some(IpAddr::V4(address)) => ipv4 = Some(address),
                Some(IpAddr::V6(address)) => ipv6 = Some(address),
                None => lacks.push(family),
            }
        }
        let private = address::private_ipv6(id);
        let private_ipv6 = match self.addresses.put_on_private_ipv6(private) {
            Ok(there) => there.then_some(private),
            Err(error) => {
                tracing::warn!(session = %id, "no private IPv6 address: {}", in_full(&error));
                None
            }
        };
        let loopback = self.loopback(id);
        let held = Held {
            session,
            ipv4,
            ipv6,
            ipv6_withheld: false,
            private_ipv6,
            loopback,
            lacks,
            told,
            behind: false,
        };
        let entry = self.entry(&held);
        if let Err(error) = self.companion.admit(&held.session, &entry) {
            self.take_from_host(&held);
            self.leases.give_back(now(), id);
            return Err(error.into());
        }
        self.watch.admit(&held.session);
        self.sessions.insert(id, held);
        self.line.set_host(self.host())?;
        self.save();
        Ok(())
    }

    /// Gives a session what it lacks, if there is something by now. Where that fails
    /// it goes on with what it has. The packet line and the store are to be told.
    pub(super) fn complete(&mut self, id: SessionId) -> Result<(), RunError> {
        let Some(mut held) = self.sessions.get(&id).cloned() else { return Ok(()) };
        let mut added = Vec::new();
        held.lacks.clear();
        for family in Family::ALL {
            let has = held.leased().any(|address| Family::of(address) == family);
            if has || !self.config.pool.has(family) {
                continue;
            }
            match self.lease(&held.session, family, &mut held.told) {
                Some(address) => {
                    match address {
                        IpAddr::V4(address) => held.ipv4 = Some(address),
                        IpAddr::V6(address) => held.ipv6 = Some(address),
                    }
                    added.push(address);
                }
                None => held.lacks.push(family),
            }
        }
        let has_more = !added.is_empty();
        if has_more {
            let entry = self.entry(&held);
            if let Err(error) = self.companion.admit(&held.session, &entry) {
                for address in added {
                    warn_on("take off a session's address", self.addresses.take_off(address));
                    self.leases.give_back_one(now(), id, Family::of(address));
                }
                return Err(error.into());
            }
        }
        self.sessions.insert(id, held);
        if has_more {
            self.found = false;
        }
        Ok(())
    }

    /// A lease that is on the host; `None`: the pool has none for this session.
    /// `told`: somebody has heard already that this session lacks something.
    fn lease(&mut self, session: &Session, family: Family, told: &mut bool) -> Option<IpAddr> {
        let id = session.id;
        loop {
            let address = match self.leases.grant(now(), id, &session.user.name, family) {
                Ok(lease) => lease.address,
                Err(refused) => {
                    let why = match refused {
                        Refused::Exhausted => String::new(),
                        Refused::PerUser { .. } => format!(" {refused}"),
                    };
                    if !std::mem::replace(told, true) {
                        tracing::warn!(session = %id, %family, "{}{why}", Refused::Exhausted);
                        Record::NoAddress { session: id, user: &session.user.name }.record();
                    }
                    return None;
                }
            };
            match self.put_on(address) {
                Ok(()) => {
                    tracing::info!(session = %id, %family, "session has its address");
                    tracing::debug!(session = %id, user = session.user.name, %address);
                    return Some(address);
                }
                Err(RunError::PutOn(taken @ PutOnError::Taken(_))) => {
                    // Each turn takes one address out of the pool: it ends.
                    tracing::warn!(session = %id, "{taken}");
                    self.leases.give_back_one(now(), id, family);
                    self.leases.avoid(address, "this machine uses it itself");
                    Record::AddressOfThisHost { address }.record();
                }
                Err(error) => {
                    tracing::warn!(session = %id, "no address for now: {}", in_full(&error));
                    self.leases.give_back_one(now(), id, family);
                    return None;
                }
            }
        }
    }

    fn put_on(&mut self, address: IpAddr) -> Result<(), RunError> {
        self.addresses.put_on(address, self.host_address(address)?)?;
        self.announce(address);
        Ok(())
    }

    pub(super) fn dismiss(&mut self, id: SessionId) -> Result<(), RunError> {
        let Some(held) = self.sessions.remove(&id) else { return Ok(()) };
        // The line first: from here on no packet leaves with its address.
        self.line.set_host(self.host())?;
        let translated = self.translated(id)?;
        self.take_from_host(&held);
        let addresses: Vec<IpAddr> = held.leased().collect();
        let forgotten = self.switch.forget(&addresses, &translated);
        warn_on("have the kernel forget a session's conversations", forgotten);
        self.leases.give_back(now(), id);
        tracing::info!(session = %id, "session ended");
        self.save();
        // An address that a reload had taken out of the pool leaves it now.
        let left = held.leased().any(|address| !self.is_configured(address));
        if left { self.apply() } else { Ok(()) }
    }

    /// The conversations of a session that go on with other ends than its programs
    /// know.
    fn translated(&self, id: SessionId) -> Result<Vec<(Protocol, Pair)>, RunError> {
        let (mut translated, mut page) = (Vec::new(), Some(0));
        while let Some(from) = page {
            let (flows, next) = self.line.flows(from)?;
            let own = flows.iter().filter(|it| it.session == Some(id) && it.inside != it.outside);
            translated.extend(own.map(|it| (it.protocol, it.inside)));
            page = next;
        }
        Ok(translated)
    }

    /// Hook, sockets and addresses of a session that is over.
    fn take_from_host(&mut self, held: &Held) {
        self.watch.dismiss(&held.session);
        let forgotten = self.companion.dismiss(&held.session);
        warn_on("take a session from the hook", forgotten);
        for address in held.leased() {
            warn_on("end a session's sockets", owner::end_bound_to(address));
        }
        for address in held.addresses() {
            warn_on("take off a session's address", self.addresses.take_off(address));
        }
    }

    /// Tells the neighbours of every lease again: they may have forgotten, or
    /// slept.
    pub(super) fn announce_all(&self) {
        self.held_addresses().into_iter().for_each(|address| self.announce(address));
    }

    /// Tells the neighbours who has the address now. It is a courtesy: they find
    /// out by themselves when their entry is old.
    fn announce(&self, address: IpAddr) {
        let failed = match address {
            IpAddr::V4(address) => arp::announce(&self.adapter, address).err().map(|e| in_full(&e)),
            IpAddr::V6(address) => nd::announce(&self.adapter, address).err().map(|e| in_full(&e)),
        };
        if let Some(error) = failed {
            tracing::debug!(error, "a lease was not announced");
        }
    }
}
