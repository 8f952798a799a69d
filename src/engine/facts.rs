//! What does the engine have to be told?

use crate::packet::{Endpoint, Protocol};
use crate::session::SessionId;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// What the divert knows of a packet beyond its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Seen from this host.
    pub direction: Direction,
    /// It travels between two sockets of this host.
    pub loopback: bool,
    /// The index of the interface it leaves by or came in by, 0 if unknown.
    pub interface: u32,
    /// What stands in its transport checksum.
    pub checksum: Checksum,
    /// What outlived the engine about its flow.
    pub begun: Begun,
    /// How long it has been held already; zero the first time.
    pub held: Duration,
}

/// Which way a packet goes, seen from this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// A socket of this host sent it.
    Out,
    /// A socket of this host is to get it.
    In,
}

/// What stands in a packet's transport checksum field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// The real checksum: corrected incrementally (RFC 1624).
    Real,
    /// The sum of the pseudo-header only, and the rest is filled in after us.
    Partial,
    /// Nothing to build on, and nobody fills it in after us: computed in full.
    Absent,
}

/// What outlived a restart of the engine about a packet's flow (on Linux the
/// conntrack mark). The engine's own table always wins over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// Nothing is known: the flow may be new.
    Unknown,
    /// The flow has been translated from its first packet on.
    Translated,
}

/// The addresses of this host and who holds them. Replaced whole when a session
/// comes or goes, which bumps the engine's epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// The index of the pool's NIC.
    pub interface: u32,
    /// The host addresses on the pool's NIC, the preferred one first.
    pub addresses: Vec<IpAddr>,
    /// The directed broadcast addresses of its subnets.
    pub broadcast: Vec<IpAddr>,
    /// Every session that is logged on, with or without a lease.
    pub sessions: HashMap<SessionId, Addresses>,
    /// Who holds a virtual address.
    pub holders: HashMap<IpAddr, SessionId>,
    /// The loopback addresses of sessions: IPv4's, where programs have such, and
    /// the session's private IPv6 address.
    pub loopbacks: HashMap<SessionId, Addresses>,
    /// The whole pool: first and last of each range.
    pub pool: Vec<(IpAddr, IpAddr)>,
    /// Listeners that were moved to these endpoints, and that nobody but the
    /// packet line makes found at localhost (O3, O4). Empty where the hook does.
    pub moved: HashSet<(Protocol, Endpoint)>,
}

impl Host {
    /// Is this an address of the pool, leased or not?
    pub fn in_pool(&self, address: IpAddr) -> bool {
        let family = address.is_ipv4();
        let holds = |(first, last): &(IpAddr, IpAddr)| {
            first.is_ipv4() == family && (*first..=*last).contains(&address)
        };
        self.pool.iter().any(holds)
    }

    /// Is this a host address of the pool's NIC?
    pub fn is_host_address(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }

    /// The host addresses of the same IP version as `address`.
    pub fn host_addresses_like(&self, address: IpAddr) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().copied().filter(move |host| host.is_ipv4() == address.is_ipv4())
    }

    /// The session whose loopback address this is.
    pub fn loopback_holder(&self, address: IpAddr) -> Option<SessionId> {
        let is_it = |its: &&SessionId| {
            self.loopbacks.get(its).is_some_and(|its| its.like(address) == Some(address))
        };
        self.loopbacks.keys().find(is_it).copied()
    }

    /// The session that holds this virtual address and is logged on.
    pub fn holder(&self, address: IpAddr) -> Option<SessionId> {
        self.holders.get(&address).copied().filter(|session| self.sessions.contains_key(session))
    }
}

/// What one session was leased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Its virtual IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its virtual IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
}

impl Addresses {
    /// The virtual address of the same IP version as `address`.
    pub fn like(&self, address: IpAddr) -> Option<IpAddr> {
        match address {
            IpAddr::V4(_) => self.ipv4.map(IpAddr::V4),
            IpAddr::V6(_) => self.ipv6.map(IpAddr::V6),
        }
    }
}

/// A packet as a divert shows it to the engine.
#[derive(Debug)]
pub struct Diverted<'a> {
    /// The whole packet, from its IP header on; changed in place.
    pub bytes: &'a mut [u8],
    /// What is known of it beyond its bytes.
    pub facts: Facts,
}
