//! Does the host answer for that address?
//!
//! A platform supplies [`Addresses`], which puts leased addresses on and takes
//! them off, [`arp`] and [`nd`], which ask and tell the neighbours, and [`cards`].
//! What is pure is here.

mod leading;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "linux")]
pub(crate) use linux::netlink;
#[cfg(target_os = "linux")]
pub use linux::{
    Addresses, ListError, MARKED, OpenError, PutOnError, RouteNews, TakeOffError, arp, cards, nd,
};

#[cfg(windows)]
mod windows;

#[cfg(windows)]
pub use windows::{
    Addresses, ListError, MARKED, OpenError, PutOnError, RouteNews, TakeOffError, arp, cards, nd,
};
#[cfg(windows)]
pub(crate) use windows::{Spare, mtu};

use crate::config::Pool;
use crate::session::SessionId;
use ipnet::{IpNet, Ipv6Net};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

/// Where session-private IPv6 addresses are (RFC 4193; 73:6970 is "sip"). Nothing
/// else uses this prefix, so an address of it is a stale one of ours.
pub const PRIVATE_IPV6: Ipv6Net =
    Ipv6Net::new_assert(Ipv6Addr::new(0xfd73, 0x6970, 0, 0, 0, 0, 0, 0), 64);

/// A network interface other than `lo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its addresses with their subnets; of each subnet the preferred one first.
    pub addresses: Vec<IpNet>,
    /// Its hardware address; `None`: it does not speak ARP.
    pub mac: Option<[u8; 6]>,
}

impl Adapter {
    /// P for a virtual address: the one in its subnet, else the first of its
    /// family; `None`: the adapter has none of that family.
    pub fn host_address(&self, virtual_address: IpAddr) -> Option<IpAddr> {
        let of_family = || {
            let nets = self.addresses.iter();
            nets.filter(|net| net.addr().is_ipv4() == virtual_address.is_ipv4())
        };
        let near = of_family().find(|net| net.contains(&virtual_address));
        near.or_else(|| of_family().next()).map(IpNet::addr)
    }

    /// The directed broadcast addresses of its subnets (RFC 919, section 7).
    pub fn broadcasts(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.addresses.iter().filter_map(|net| match net {
            // A /31 and a /32 have none (RFC 3021).
            IpNet::V4(net) if net.prefix_len() < 31 => Some(net.broadcast()),
            IpNet::V4(_) | IpNet::V6(_) => None,
        })
    }

    /// What no session may get: its own addresses, the network and broadcast
    /// addresses of its subnets (IPv6: the subnet-router anycast address).
    pub fn reserved(&self) -> impl Iterator<Item = IpAddr> {
        let own = self.addresses.iter().map(IpNet::addr);
        own.chain(self.addresses.iter().flat_map(ends).map(|(address, _)| address))
    }

    fn holds(&self, range: &RangeInclusive<IpAddr>) -> bool {
        let mut nets = self.addresses.iter();
        nets.any(|net| net.contains(range.start()) && net.contains(range.end()))
    }
}

/// A local address of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocalAddress {
    /// The address.
    pub address: IpAddr,
    /// The index of the interface that it is on.
    pub interface: u32,
}

/// What is sent to a prefix: does it leave by the pool's network card?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Leading {
    /// Where to; longer prefixes go before shorter ones, and what none holds does
    /// not leave there.
    pub net: IpNet,
    /// Whether.
    pub over: bool,
}

/// No adapter suits the pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChooseError {
    /// `pool.adapter` is not there.
    #[error("there is no network interface {name}; there are {there}")]
    NoAdapter {
        /// The configured name.
        name: String,
        /// What there is.
        there: String,
    },
    /// No subnet holds the range.
    #[error("the subnet of no network interface holds {range}; there are {there}")]
    NoSubnet {
        /// The first range that nothing holds.
        range: String,
        /// What there is.
        there: String,
    },
    /// More than one would do.
    #[error("the pool fits more than one network interface, {names}; set pool.adapter to one")]
    Ambiguous {
        /// Those that would do.
        names: String,
    },
    /// A range holds an address that cannot be a host's.
    #[error("the pool holds {address}, the {what} address of {subnet} on {name}")]
    Reserved {
        /// The address.
        address: IpAddr,
        /// `network`, `broadcast` or `subnet-router anycast`.
        what: &'static str,
        /// Of which subnet.
        subnet: IpNet,
        /// Of which interface.
        name: String,
    },
}

/// The adapter that answers for the pool: the one that `pool.adapter` names (its
/// subnet need not hold the ranges: they may be routed to this host), else the one
/// whose subnets hold all ranges.
///
/// # Errors
/// There is none, or more than one, or a range holds what can be no host's address.
pub fn choose(pool: &Pool, adapters: &[Adapter]) -> Result<Adapter, ChooseError> {
    let chosen = match &pool.adapter {
        Some(name) => adapters.iter().find(|adapter| adapter.name == *name).ok_or_else(|| {
            ChooseError::NoAdapter { name: name.clone(), there: describe(adapters) }
        })?,
        None => choose_by_subnet(pool, adapters)?,
    };
    for subnet in &chosen.addresses {
        for (address, what) in ends(subnet) {
            if pool.ranges.iter().any(|range| range.contains(&address)) {
                let name = chosen.name.clone();
                return Err(ChooseError::Reserved { address, what, subnet: subnet.trunc(), name });
            }
        }
    }
    Ok(chosen.clone())
}

/// The session-private IPv6 address: local to the host, never routed. It is where
/// an IPv6-only wildcard listener of a session without an IPv6 lease is bound.
pub fn private_ipv6(session: SessionId) -> Ipv6Addr {
    Ipv6Addr::from_bits(PRIVATE_IPV6.network().to_bits() | u128::from(session.0))
}

fn choose_by_subnet<'a>(pool: &Pool, adapters: &'a [Adapter]) -> Result<&'a Adapter, ChooseError> {
    let holds_all = |adapter: &&Adapter| pool.ranges.iter().all(|range| adapter.holds(range));
    let fit: Vec<&Adapter> = adapters.iter().filter(holds_all).collect();
    match fit[..] {
        [only] => Ok(only),
        [] => {
            let alone = |range: &&RangeInclusive<IpAddr>| {
                !adapters.iter().any(|adapter| adapter.holds(range))
            };
            let range = pool.ranges.iter().find(alone);
            let ranges: Vec<String> = match range {
                Some(range) => vec![text(range)],
                None => pool.ranges.iter().map(text).collect(),
            };
            Err(ChooseError::NoSubnet { range: ranges.join(", "), there: describe(adapters) })
        }
        [..] => {
            let names: Vec<&str> = fit.iter().map(|adapter| adapter.name.as_str()).collect();
            Err(ChooseError::Ambiguous { names: names.join(", ") })
        }
    }
}

/// The addresses of a subnet that are no host's.
fn ends(net: &IpNet) -> Vec<(IpAddr, &'static str)> {
    match net {
        IpNet::V4(v4) if v4.prefix_len() < 31 => {
            vec![(v4.network().into(), "network"), (v4.broadcast().into(), "broadcast")]
        }
        // RFC 4291, section 2.6.1; not on a point-to-point /127 (RFC 6164).
        IpNet::V6(v6) if v6.prefix_len() < 127 => {
            vec![(v6.network().into(), "subnet-router anycast")]
        }
        IpNet::V4(_) | IpNet::V6(_) => Vec::new(),
    }
}

fn text(range: &RangeInclusive<IpAddr>) -> String {
    format!("{}-{}", range.start(), range.end())
}

fn describe(adapters: &[Adapter]) -> String {
    let mut all = String::new();
    for Adapter { name, addresses, .. } in adapters {
        let separator = if all.is_empty() { "" } else { ", " };
        let nets: Vec<String> = addresses.iter().map(IpNet::to_string).collect();
        // Writing to a String does not fail.
        let _ = write!(all, "{separator}{name} ({})", nets.join(" "));
    }
    if all.is_empty() { "none but lo".to_owned() } else { all }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn adapter(index: u32, name: &str, nets: &[&str]) -> Adapter {
        let addresses = nets.iter().map(|net| net.parse().unwrap()).collect();
        Adapter { index, name: name.into(), addresses, mac: None }
    }

    fn pool(ranges: &[(&str, &str)], adapter: Option<&str>) -> Pool {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        Pool {
            ranges: ranges.iter().map(|(first, last)| address(first)..=address(last)).collect(),
            adapter: adapter.map(str::to_owned),
            per_user: 8,
            sticky: true,
            quarantine: Duration::ZERO,
        }
    }

    fn two() -> [Adapter; 2] {
        [
            adapter(2, "eth0", &["192.0.2.2/24", "fd00::2/64"]),
            adapter(3, "eth1", &["10.77.0.1/24", "10.78.0.1/24"]),
        ]
    }

    #[test]
    fn the_adapter_whose_subnet_holds_the_pool_is_chosen() {
        let ranges = [("10.77.0.101", "10.77.0.199"), ("10.78.0.9", "10.78.0.9")];
        assert_eq!(choose(&pool(&ranges, None), &two()).unwrap().name, "eth1");
        let ranges = [("192.0.2.9", "192.0.2.10"), ("fd00::100", "fd00::1ff")];
        assert_eq!(choose(&pool(&ranges, None), &two()).unwrap().name, "eth0");
        let routed = [("198.51.100.1", "198.51.100.9")];
        assert_eq!(choose(&pool(&routed, Some("eth0")), &two()).unwrap().index, 2);
    }

    #[test]
    fn what_does_not_fit_is_said_with_what_there_is() {
        let message = |ranges: &[(&str, &str)], name, adapters: &[Adapter]| {
            choose(&pool(ranges, name), adapters).unwrap_err().to_string()
        };
        let there = "there are eth0 (192.0.2.2/24 fd00::2/64), eth1 (10.77.0.1/24 10.78.0.1/24)";
        assert_eq!(
            message(&[("10.77.0.200", "10.77.1.9")], None, &two()),
            format!("the subnet of no network interface holds 10.77.0.200-10.77.1.9; {there}")
        );
        assert_eq!(
            message(&[("10.77.0.9", "10.77.0.9")], Some("eth7"), &two()),
            format!("there is no network interface eth7; {there}")
        );
        let same = [adapter(2, "a", &["10.0.0.1/8"]), adapter(3, "b", &["10.0.0.2/24"])];
        assert_eq!(
            message(&[("10.0.0.9", "10.0.0.10")], None, &same),
            "the pool fits more than one network interface, a, b; set pool.adapter to one"
        );
        assert_eq!(
            message(&[("10.0.0.9", "10.0.0.10")], None, &[]),
            "the subnet of no network interface holds 10.0.0.9-10.0.0.10; there are none but lo"
        );
    }

    #[test]
    fn a_pool_with_a_network_or_broadcast_address_is_refused() {
        let message = |first: &str, last: &str| {
            choose(&pool(&[(first, last)], None), &two()).unwrap_err().to_string()
        };
        assert_eq!(
            message("10.77.0.0", "10.77.0.9"),
            "the pool holds 10.77.0.0, the network address of 10.77.0.0/24 on eth1"
        );
        assert_eq!(
            message("10.78.0.128", "10.78.0.255"),
            "the pool holds 10.78.0.255, the broadcast address of 10.78.0.0/24 on eth1"
        );
        assert_eq!(
            message("fd00::", "fd00::9"),
            "the pool holds fd00::, the subnet-router anycast address of fd00::/64 on eth0"
        );
    }

    #[test]
    fn an_adapter_knows_its_special_addresses() {
        let [eth0, eth1] = two();
        let broadcasts: Vec<String> = eth1.broadcasts().map(|it| it.to_string()).collect();
        assert_eq!(broadcasts, ["10.77.0.255", "10.78.0.255"]);
        let reserved: Vec<String> = eth0.reserved().map(|it| it.to_string()).collect();
        assert_eq!(reserved, ["192.0.2.2", "fd00::2", "192.0.2.0", "192.0.2.255", "fd00::"]);
        let narrow = adapter(4, "ppp0", &["10.9.9.1/32", "10.9.8.1/31"]);
        assert_eq!(narrow.broadcasts().count(), 0);
        let host = |text: &str| eth1.host_address(text.parse().unwrap()).map(|it| it.to_string());
        assert_eq!(host("10.78.0.9").as_deref(), Some("10.78.0.1"));
        assert_eq!(host("198.51.100.9").as_deref(), Some("10.77.0.1"));
        assert_eq!(host("fd00::9"), None);
    }

    #[test]
    fn every_session_has_a_private_address_of_its_own() {
        assert_eq!(private_ipv6(SessionId(7)).to_string(), "fd73:6970::7");
        assert_eq!(private_ipv6(SessionId(u32::MAX)).to_string(), "fd73:6970::ffff:ffff");
        assert!(PRIVATE_IPV6.contains(&private_ipv6(SessionId(u32::MAX))));
    }
}
