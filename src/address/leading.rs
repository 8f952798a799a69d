//! Which destinations lead over one network card, whatever rule applies?
//!
//! Linux: rules (ip-rule(8)) choose a table by marks, users and ports that nobody
//! knows beforehand. So a destination leads over the card only if it does in every
//! table that a rule names, as far as the table has a route for it. Windows has one
//! table.

use super::Leading;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

/// A route of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) table: u32,
    pub(super) to: IpNet,
    /// The lowest is taken first.
    pub(super) metric: u32,
    /// It leads to another host, by the card and no other.
    pub(super) over: bool,
    /// It is passed over while the link is down, on some hosts.
    pub(super) weak: bool,
    /// It is only for some packets: a type of service, a source.
    pub(super) special: bool,
}

/// As many as the hook keeps. A router with the Internet's whole table is no host
/// for sessions.
const MOST: usize = 16_384;

/// Never another host's own address, whatever the routes say: multicast, broadcast,
/// link-local, loopback, and "this network" (RFC 6890).
const NEVER: [IpNet; 9] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(0, 0, 0, 0), 8)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 3)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8)),
];

type Table = BTreeMap<IpNet, bool>;

/// The prefixes that differ from the one around them, which begins with "no".
/// `None`: more than [`MOST`].
pub(super) fn leading(routes: &[Route]) -> Option<Vec<Leading>> {
    let mut by_end: BTreeMap<(u32, IpNet), Vec<&Route>> = BTreeMap::new();
    for route in routes {
        by_end.entry((route.table, route.to.trunc())).or_default().push(route);
    }
    let mut tables: BTreeMap<u32, Table> = BTreeMap::new();
    for ((table, to), routes) in by_end {
        tables.entry(table).or_default().insert(to, takes_card(routes));
    }
    let prefixes: BTreeSet<IpNet> =
        tables.values().flat_map(|table| table.keys().copied()).chain(NEVER).collect();
    if prefixes.len() > MOST {
        return None;
    }
    let mut leading: Vec<Leading> = Vec::new();
    // Each prefix comes after those that hold it, so those still open are a stack.
    let mut around: Vec<Leading> = Vec::new();
    for net in prefixes {
        around.retain(|outer| outer.net.contains(&net));
        let over = !NEVER.iter().any(|never| never.contains(&net)) && leads(&tables, net);
        let outer = around.iter().rev().find(|outer| outer.net.contains(&net));
        if over != outer.is_some_and(|outer| outer.over) {
            leading.push(Leading { net, over });
            around.push(Leading { net, over });
        }
    }
    Some(leading)
}

/// Of several routes to one prefix: those up to the first that is taken for sure.
fn takes_card(mut routes: Vec<&Route>) -> bool {
    routes.sort_by_key(|route| (!route.special, route.metric));
    let sure = routes.iter().find(|route| !route.special && !route.weak).map(|sure| sure.metric);
    let mut taken = routes
        .iter()
        .filter(|route| route.special || sure.is_none_or(|metric| route.metric <= metric));
    taken.all(|route| route.over)
}

/// Do all tables that have a route for it lead over the card?
fn leads(tables: &BTreeMap<u32, Table>, net: IpNet) -> bool {
    let mut found = tables.values().filter_map(|table| longest(table, net)).peekable();
    found.peek().is_some() && found.all(|over| over)
}

fn longest(table: &Table, net: IpNet) -> Option<bool> {
    let outer = std::iter::successors(Some(net), IpNet::supernet);
    outer.filter_map(|net| table.get(&net).copied()).next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::IpAddr;

    const MAIN: u32 = 254;
    const LOCAL: u32 = 255;

    fn route(table: u32, to: &str, over: bool) -> Route {
        let to = to.parse().unwrap();
        Route { table, to, metric: 0, over, weak: false, special: false }
    }

    /// As the hook's map answers.
    fn asked(routes: &[Route], to: &str) -> bool {
        let to: IpAddr = to.parse().unwrap();
        let leading = leading(routes).unwrap();
        let holding = leading.iter().filter(|it| it.net.contains(&to));
        holding.max_by_key(|it| it.net.prefix_len()).is_some_and(|it| it.over)
    }

    #[test]
    fn an_ordinary_host() {
        let routes = [
            route(MAIN, "0.0.0.0/0", true),
            route(MAIN, "10.77.0.0/16", true),
            route(MAIN, "10.88.0.0/16", false),
            route(LOCAL, "10.77.0.1/32", false),
            route(LOCAL, "10.77.255.255/32", false),
            route(LOCAL, "127.0.0.0/8", false),
        ];
        for (to, over) in [
            ("8.8.8.8", true),
            ("10.77.0.2", true),
            ("10.88.0.2", false),
            ("10.77.0.1", false),
            ("10.77.255.255", false),
            ("255.255.255.255", false),
            ("224.0.0.251", false),
            ("169.254.169.254", false),
            ("127.0.0.1", false),
            ("0.0.0.0", false),
            ("2001:db8::1", false),
            ("fe80::1", false),
        ] {
            assert_eq!(asked(&routes, to), over, "{to}");
        }
    }

    #[test]
    fn a_tunnel_takes_what_it_takes() {
        let split = [
            route(MAIN, "0.0.0.0/0", true),
            route(MAIN, "10.0.0.0/8", false),
            route(MAIN, "10.77.0.0/16", true),
        ];
        assert!(asked(&split, "8.8.8.8") && asked(&split, "10.77.0.2"));
        assert!(!asked(&split, "10.1.2.3"));
        // OpenVPN's redirect-gateway def1.
        let halves = [
            route(MAIN, "0.0.0.0/0", true),
            route(MAIN, "0.0.0.0/1", false),
            route(MAIN, "128.0.0.0/1", false),
            route(MAIN, "203.0.113.9/32", true),
        ];
        assert!(!asked(&halves, "8.8.8.8") && !asked(&halves, "200.1.1.1"));
        assert!(asked(&halves, "203.0.113.9"));
        // WireGuard's table of its own, which a rule names.
        let ruled = [route(MAIN, "0.0.0.0/0", true), route(51820, "0.0.0.0/0", false)];
        assert!(!asked(&ruled, "8.8.8.8"));
    }

    #[test]
    fn of_two_default_routes_the_better_one_counts() {
        let metric = |metric, over| Route { metric, ..route(MAIN, "0.0.0.0/0", over) };
        assert!(asked(&[metric(600, false), metric(100, true)], "8.8.8.8"));
        assert!(!asked(&[metric(600, true), metric(100, false)], "8.8.8.8"));
        assert!(!asked(&[metric(100, true), metric(100, false)], "8.8.8.8"));
        let down = Route { weak: true, ..metric(100, true) };
        assert!(!asked(&[down.clone(), metric(600, false)], "8.8.8.8"));
        assert!(asked(&[down, metric(600, true)], "8.8.8.8"));
        let special = Route { special: true, ..metric(900, false) };
        assert!(!asked(&[metric(100, true), special], "8.8.8.8"));
    }

    #[test]
    fn nothing_in_the_multicast_range_counts() {
        let routes = [route(MAIN, "224.0.1.0/24", true), route(MAIN, "0.0.0.0/0", true)];
        assert!(!asked(&routes, "224.0.1.9"));
    }

    #[test]
    fn too_many_are_none() {
        let many: Vec<_> = (0..=u32::try_from(MOST).unwrap())
            .map(|n| Route {
                to: IpNet::new(Ipv4Addr::from_bits(n << 8).into(), 24).unwrap(),
                ..route(MAIN, "0.0.0.0/0", true)
            })
            .collect();
        assert_eq!(leading(&many), None);
    }

    fn some_route() -> impl Strategy<Value = Route> {
        (0_u32..3, any::<[u8; 2]>(), 0_u8..=16, 0_u32..3, any::<bool>()).prop_map(
            |(table, [a, b], length, metric, over)| Route {
                table,
                to: IpNet::new(Ipv4Addr::new(a, b, 0, 0).into(), length).unwrap().trunc(),
                metric,
                over,
                weak: false,
                special: false,
            },
        )
    }

    proptest! {
        /// The pruned list answers as a look-up in each table does.
        #[test]
        fn it_answers_as_the_tables_do(
            routes in prop::collection::vec(some_route(), 0..12),
            to in any::<[u8; 4]>(),
        ) {
            let to = Ipv4Addr::from(to);
            let in_table = |table| {
                let holding = routes.iter().filter(|r| r.table == table && r.to.contains(&IpAddr::V4(to)));
                let longest = holding.clone().map(|r| r.to.prefix_len()).max()?;
                let best = holding.filter(|r| r.to.prefix_len() == longest);
                let metric = best.clone().map(|r| r.metric).min()?;
                Some(best.filter(|r| r.metric == metric).all(|r| r.over))
            };
            let found: Vec<bool> = (0..3).filter_map(in_table).collect();
            let never = NEVER.iter().any(|never| never.contains(&IpAddr::V4(to)));
            let expected = !never && !found.is_empty() && found.iter().all(|over| *over);
            prop_assert_eq!(asked(&routes, &to.to_string()), expected);
        }
    }
}
