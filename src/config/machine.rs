//! Does the configuration fit this machine: its network cards, its programs?

use super::finding::Finding;
use super::{Config, Pool};
use ipnet::IpNet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// A network card, as far as the pool depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterView {
    /// Its name: `eth0`.
    pub name: String,
    /// Its addresses, each with the length of its subnet's prefix.
    pub addresses: Vec<IpNet>,
}

/// Why a machine with these `adapters` cannot give the addresses of the pool.
pub fn findings(config: &Config, adapters: &[AdapterView]) -> Vec<Finding> {
    let pool = &config.pool;
    let mut findings = Vec::new();
    for (index, range) in pool.ranges.iter().enumerate() {
        findings.extend(host_address(range, adapters).map(|finding| finding.item(index)));
    }
    let candidates = match &pool.adapter {
        None => adapters,
        Some(name) => match adapters.iter().position(|adapter| adapter.name == *name) {
            Some(index) => adapters.get(index..=index).unwrap_or_default(),
            None => {
                let message = format!("this machine has no network card {name:?}");
                let names: Vec<_> = adapters.iter().map(|adapter| &*adapter.name).collect();
                let help = format!("write \"auto\" or one of: {}", names.join(", "));
                findings.push(Finding::error("pool.adapter", message, help));
                return findings;
            }
        },
    };
    findings.extend(subnets(pool, candidates));
    findings
}

/// What is wrong with files that hold rules of ours and are restored at boot.
pub(super) fn stored_rules(files: &[PathBuf]) -> Vec<Finding> {
    let finding = |file: &PathBuf| {
        let file = file.display();
        let message = format!(
            "{file} holds rules of sessionip, saved while it ran: at boot they are refused, and \
             the other rules of their table with them"
        );
        let help = format!(
            "run sed -i /SESSIONIP-/d {file}, and save rules only while sessionip is stopped"
        );
        Finding::warning("divert", message, help)
    };
    files.iter().map(finding).collect()
}

/// An address that this machine has itself cannot be a session's.
fn host_address(range: &RangeInclusive<IpAddr>, adapters: &[AdapterView]) -> Option<Finding> {
    let own = |adapter: &AdapterView| {
        adapter.addresses.iter().find(|net| range.contains(&net.addr())).copied()
    };
    let (adapter, net) = adapters.iter().find_map(|adapter| Some((adapter, own(adapter)?)))?;
    let message =
        format!("{} holds {}, the address of {}", written(range), net.addr(), adapter.name);
    let help = format!("leave {} out of the ranges", net.addr());
    Some(Finding::error("pool.ranges", message, help))
}

/// All ranges belong into one subnet each of one network card.
fn subnets(pool: &Pool, candidates: &[AdapterView]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut chosen: Option<&AdapterView> = None;
    for (index, range) in pool.ranges.iter().enumerate() {
        let home = candidates.iter().find_map(|adapter| Some((adapter, subnet(adapter, range)?)));
        let problem = match (home, chosen) {
            (None, _) => Some(no_subnet(range, candidates)),
            (Some((adapter, _)), Some(chosen)) if adapter.name != chosen.name => {
                let message = format!(
                    "{} is in a subnet of {}, the ranges before it in one of {}",
                    written(range),
                    adapter.name,
                    chosen.name
                );
                Some(Finding::error("pool.ranges", message, "take ranges of one network card"))
            }
            (Some((adapter, net)), _) => {
                chosen = Some(adapter);
                network_or_broadcast(range, net)
            }
        };
        findings.extend(problem.map(|finding| finding.item(index)));
    }
    findings
}

/// The subnet of a card that holds all of a range.
fn subnet(adapter: &AdapterView, range: &RangeInclusive<IpAddr>) -> Option<IpNet> {
    let holds = |net: &&IpNet| net.contains(range.start()) && net.contains(range.end());
    adapter.addresses.iter().find(holds).copied()
}

fn no_subnet(range: &RangeInclusive<IpAddr>, candidates: &[AdapterView]) -> Finding {
    let nets = candidates.iter().flat_map(|adapter| {
        let nets = adapter.addresses.iter().filter(|net| !net.addr().is_loopback());
        nets.map(|net| format!("{} on {}", net.trunc(), adapter.name))
    });
    let help = match nets.collect::<Vec<_>>().join(", ") {
        nets if nets.is_empty() => "give a network card an address first".into(),
        nets => format!("the subnets here are: {nets}"),
    };
    let message = format!("{} is in no subnet of a network card", written(range));
    Finding::error("pool.ranges", message, help)
}

/// No host may have the first address of an IPv4 subnet, nor the last (RFC 1122,
/// 3.2.1.3), unless it has only one or two (RFC 3021); the first one of an IPv6
/// subnet is its routers' anycast address (RFC 4291, 2.6.1).
fn network_or_broadcast(range: &RangeInclusive<IpAddr>, net: IpNet) -> Option<Finding> {
    if net.max_prefix_len() - net.prefix_len() < 2 {
        return None;
    }
    let (reserved, what) = if range.contains(&net.network()) {
        (net.network(), if net.addr().is_ipv4() { "network" } else { "routers' anycast" })
    } else if net.addr().is_ipv4() && range.contains(&net.broadcast()) {
        (net.broadcast(), "broadcast")
    } else {
        return None;
    };
    let message =
        format!("{} holds {reserved}, the {what} address of {}", written(range), net.trunc());
    Some(Finding::error("pool.ranges", message, format!("leave {reserved} out of the ranges")))
}

fn written(range: &RangeInclusive<IpAddr>) -> String {
    format!("{}-{}", range.start(), range.end())
}

#[cfg(test)]
mod tests {
    use super::super::value;
    use super::*;

    fn adapter(name: &str, addresses: &[&str]) -> AdapterView {
        let addresses = addresses.iter().map(|net| net.parse().unwrap()).collect();
        AdapterView { name: name.into(), addresses }
    }

    fn host() -> Vec<AdapterView> {
        vec![
            adapter("lo", &["127.0.0.1/8", "::1/128"]),
            adapter("eth0", &["10.77.0.1/24", "fd77::1/64"]),
            adapter("eth1", &["10.78.0.1/16"]),
        ]
    }

    fn messages(pool: &str) -> Vec<String> {
        let (config, _) = Config::parse("test", &format!("[pool]\n{pool}")).unwrap();
        findings(&config, &host()).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn a_range_within_the_subnet_of_a_card_fits() {
        assert_eq!(messages(r#"ranges = ["10.77.0.2-10.77.0.254"]"#), [""; 0]);
        assert_eq!(messages("ranges = [\"10.78.255.128/26\"]\nadapter = \"eth1\""), [""; 0]);
        assert_eq!(messages(r#"ranges = ["fd77::100-fd77::1ff"]"#), [""; 0]);
        assert_eq!(messages(r#"ranges = ["10.77.0.128/26", "fd77::8000/113"]"#), [""; 0]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let cases = [
            (
                r#"ranges = ["10.79.0.0/24"]"#,
                "10.79.0.0-10.79.0.255 is in no subnet of a network card",
            ),
            (
                r#"ranges = ["10.77.0.9-10.77.1.9"]"#,
                "10.77.0.9-10.77.1.9 is in no subnet of a network card",
            ),
            (
                r#"ranges = ["10.77.0.128/25"]"#,
                "10.77.0.128-10.77.0.255 holds 10.77.0.255, the broadcast address of 10.77.0.0/24",
            ),
            (
                r#"ranges = ["10.78.0.0-10.78.0.0"]"#,
                "10.78.0.0-10.78.0.0 holds 10.78.0.0, the network address of 10.78.0.0/16",
            ),
            (
                r#"ranges = ["10.77.0.1-10.77.0.9"]"#,
                "10.77.0.1-10.77.0.9 holds 10.77.0.1, the address of eth0",
            ),
            (
                r#"ranges = ["fd77::1-fd77::ff"]"#,
                "fd77::1-fd77::ff holds fd77::1, the address of eth0",
            ),
            (
                r#"ranges = ["fd77::-fd77::0"]"#,
                "fd77::-fd77:: holds fd77::, the routers' anycast address of fd77::/64",
            ),
            (
                r#"ranges = ["10.77.0.8/29", "fd78::8/125"]"#,
                "fd78::8-fd78::f is in no subnet of a network card",
            ),
            (
                r#"ranges = ["10.77.0.8/29", "10.78.0.8/29"]"#,
                "10.78.0.8-10.78.0.15 is in a subnet of eth1, the ranges before it in one of eth0",
            ),
            (
                "ranges = [\"10.77.0.8/29\"]\nadapter = \"eth1\"",
                "10.77.0.8-10.77.0.15 is in no subnet of a network card",
            ),
            (
                "ranges = [\"10.77.0.8/29\"]\nadapter = \"eth7\"",
                "this machine has no network card \"eth7\"",
            ),
        ];
        for (pool, message) in cases {
            assert_eq!(messages(pool), [message], "{pool}");
        }
    }

    #[test]
    fn a_subnet_of_two_addresses_has_neither_network_nor_broadcast() {
        let range = value::range("10.0.0.1/32").unwrap();
        assert_eq!(network_or_broadcast(&range, "10.0.0.0/31".parse().unwrap()), None);
        assert_eq!(network_or_broadcast(&range, "10.0.0.0/30".parse().unwrap()), None);
    }

    #[test]
    fn this_machine_has_a_loopback_card() {
        let adapters = crate::address::cards().unwrap();
        let loopback: IpNet = "127.0.0.1/8".parse().unwrap();
        assert!(adapters.iter().any(|adapter| adapter.addresses.contains(&loopback)));
    }
}
