//! Which packets are led here, in WinDivert's filter language?
//!
//! A handle's filter is fixed, evaluated in order for every packet of the host,
//! and limited to 255 tests. What would need more is led here more coarsely:
//! the engine passes what is none of its business, so a wider filter costs
//! time and changes nothing. Only what is cut cannot be widened: it gets more
//! handles.

mod expression;
mod ranges;

use super::Selection;
use crate::address::PRIVATE_IPV6;
use crate::packet::{Endpoint, Protocol};
use expression::{Expression, all, any, test};
use ranges::fit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How many tests the kernel's part of WinDivert takes (`WINDIVERT_FILTER_MAXLEN`
/// is 256, one of which it keeps for itself).
pub(super) const MOST_TESTS: usize = 255;

/// How many handles may cut foreign binds; more binds than fit there are not cut.
const MOST_CUTS: usize = 8;

/// The ports of DHCP: what they send has to leave from the host address.
const DHCP: [u16; 2] = [67, 68];

/// The filters of all handles, none where nothing is to be led there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filters {
    /// Everything but 127.0.0.1 and what the host sends to itself.
    pub(super) main: Option<String>,
    /// What looks for moved listeners, and what they answer.
    pub(super) loopback: Option<String>,
    /// What goes nowhere, a handle each.
    pub(super) foreign: Vec<String>,
    /// Foreign binds for which there was no room.
    pub(super) uncut: usize,
}

impl Filters {
    pub(super) fn of(selection: &Selection) -> Self {
        let (foreign, uncut) = foreign(&selection.foreign);
        Self {
            main: finest(|room| main(selection, uncut > 0, room)),
            loopback: finest(|room| loopback(selection, room)),
            foreign,
            uncut,
        }
    }
}

/// The finest of the filters that `build` makes, given how many tests each of
/// its lists may take: the more, the finer.
fn finest(build: impl Fn(usize) -> Option<Expression>) -> Option<String> {
    let (mut best, mut fits, mut exceeds) = (build(1)?, 1, MOST_TESTS + 1);
    while exceeds - fits > 1 {
        let room = fits.midpoint(exceeds);
        let filter = build(room)?;
        if filter.tests() <= MOST_TESTS {
            (best, fits) = (filter, room);
        } else {
            exceeds = room;
        }
    }
    Some(best.to_string())
}

/// From a host address out; to the pool in; between a pool address and another
/// address of this host, which Windows shows once and as outbound. With more
/// foreign binds than can be cut, from the pool out, too: the engine drops them.
fn main(selection: &Selection, uncut: bool, room: usize) -> Option<Expression> {
    let families = [Family::V4, Family::V6].map(|family| {
        let pool = |end| family.within(end, &selection.pool, room);
        let hosts = selection.host_addresses.iter().map(|host| (*host, *host));
        let pools = selection.pool.iter().copied().filter(|_| uncut);
        let sources: Vec<_> = hosts.chain(pools).collect();
        let own = family.within(Source, &sources, room).map(|own| {
            let broadcast = selection.broadcast.iter().filter(|address| family.has(address));
            let narrower = broadcast.take(room).map(|address| family.is_not(Destination, address));
            all([test("outbound"), own, family.unicast()].into_iter().chain(narrower))
        });
        let outer = any([own, pool(Destination).map(|pool| all([test("inbound"), pool]))]);
        let inner = any([pool(Source), pool(Destination)]);
        (outer, inner)
    });
    let [(outer4, inner4), (outer6, inner6)] = families;
    let (outer, inner) = (any([outer4, outer6]), any([inner4, inner6]));
    let ports = |protocol| ports_but(protocol, &selection.exclude_ports, room);
    let outer = outer.map(|addresses| {
        let transport = any([
            Some(all([Some(test("tcp")), ports(Protocol::Tcp)].into_iter().flatten())),
            Some(all([Some(test("udp")), ports(Protocol::Udp)].into_iter().flatten())),
            Some(icmp_error()),
        ]);
        all([test("not loopback"), addresses].into_iter().chain(transport))
    });
    // No port is excluded here: the answer to one would be, and not be turned back.
    let inner = inner.map(|addresses| {
        let transport = any([Some(test("tcp")), Some(test("udp")), Some(icmp_error())]);
        all([test("loopback"), addresses].into_iter().chain(transport))
    });
    any([outer, inner])
}

/// What looks for a moved listener at localhost or a host address, and what the
/// listener answers. Where listeners were moved to loopback addresses, what is
/// sent there is led here, too, from wherever at this host: it may be another
/// session's (O6).
fn loopback(selection: &Selection, room: usize) -> Option<Expression> {
    let ports = |protocol: Protocol, end| {
        let moved = selection.moved.iter().filter(|(its, _)| *its == protocol);
        let ports: Vec<_> = moved.map(|(_, endpoint)| endpoint.port.into()).collect();
        let name = format!("{}.{}Port", protocol_name(protocol), end_name(end));
        within(&name, &ports.into_iter().map(|port| (port, port)).collect::<Vec<_>>(), room, |n| {
            n.to_string()
        })
    };
    let at = |end| any([ports(Protocol::Tcp, end), ports(Protocol::Udp, end)]);
    let same = |addresses: &[IpAddr]| addresses.iter().map(|one| (*one, *one)).collect::<Vec<_>>();

    let servers: Vec<_> = selection.moved.iter().map(|(_, server)| server.address).collect();
    let at_loopbacks = servers.iter().copied().filter(|server| is_session_loopback(*server));
    let localhost = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
    let asked_for: Vec<_> = at_loopbacks.clone().chain(localhost).collect();
    let pairs = [Family::V4, Family::V6].into_iter().flat_map(|family| {
        let between = |from: &[(IpAddr, IpAddr)], to: &[(IpAddr, IpAddr)]| {
            let source = family.within(Source, from, room)?;
            Some(all([source, family.within(Destination, to, room)?]))
        };
        let here = same(&localhost);
        let localhost = match at_loopbacks.clone().any(|server| family.has(&server)) {
            true => between(&loopbacks(), &same(&asked_for)),
            false if servers.iter().any(|server| family.has(server)) => between(&here, &here),
            false => None,
        };
        let hosts = same(&selection.host_addresses);
        [localhost, between(&hosts, &hosts)]
    });
    let asked = any(pairs);
    let families = [Family::V4, Family::V6];
    let answered = any(families.map(|family| family.within(Source, &same(&servers), room)));
    let questions = asked.zip(at(Destination)).map(|(pair, port)| all([port, pair]));
    let answers = answered.zip(at(Source)).map(|(server, port)| all([port, server]));
    any([questions, answers]).map(|either| all([test("loopback"), either]))
}

/// From where at this host a session's loopback address may be asked.
fn loopbacks() -> [(IpAddr, IpAddr); 3] {
    let (first, last) = (PRIVATE_IPV6.network(), PRIVATE_IPV6.broadcast());
    [
        ([127, 0, 0, 0].into(), [127, 255, 255, 255].into()),
        (Ipv6Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()),
        (first.into(), last.into()),
    ]
}

fn is_session_loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(address) => PRIVATE_IPV6.contains(&address),
    }
}

/// Both directions of each endpoint, as many handles as it takes.
fn foreign(endpoints: &[(Protocol, Endpoint)]) -> (Vec<String>, usize) {
    let cut = |(protocol, endpoint): &(Protocol, Endpoint)| {
        let family = if endpoint.address.is_ipv4() { Family::V4 } else { Family::V6 };
        let of = |end| {
            let port =
                format!("{}.{}Port == {}", protocol_name(*protocol), end_name(end), endpoint.port);
            all([test(port), family.is(end, &endpoint.address)])
        };
        [of(Source), of(Destination)]
    };
    let mut endpoints = endpoints.to_vec();
    endpoints.sort_unstable_by_key(|(protocol, endpoint)| {
        (*protocol as u8, endpoint.address, endpoint.port)
    });
    endpoints.dedup();
    let tests: usize =
        endpoints.first().map_or(1, |one| cut(one).iter().map(Expression::tests).sum());
    let mut handles = endpoints.chunks(MOST_TESTS / tests);
    let cuts = handles.by_ref().take(MOST_CUTS);
    let filters = cuts.filter_map(|some| any(some.iter().flat_map(cut).map(Some)));
    let filters = filters.map(|filter| filter.to_string()).collect();
    (filters, handles.map(<[_]>::len).sum())
}

/// The types of error of which the quoted packet may have been translated.
fn icmp_error() -> Expression {
    let types = [3, 4, 5, 11, 12].map(|number| Some(test(format!("icmp.Type == {number}"))));
    any(types.into_iter().chain([Some(test("icmpv6.Type < 128"))])).unwrap_or(test("false"))
}

/// Every local port but the excluded ones, as far as there is room.
fn ports_but(protocol: Protocol, excluded: &[(Protocol, u16)], room: usize) -> Option<Expression> {
    let dhcp = DHCP.into_iter().filter(|_| protocol == Protocol::Udp);
    let excluded = excluded.iter().filter(|(its, _)| *its == protocol).map(|(_, port)| *port);
    let mut ports: Vec<_> = dhcp.chain(excluded).collect();
    ports.sort_unstable();
    ports.dedup();
    let others = ports.iter().take(room).map(|port| test(format!("localPort != {port}")));
    let others: Vec<_> = others.collect();
    (!others.is_empty()).then(|| all(others))
}

/// `field` lies in one of the ranges, or between two that were joined to fit.
fn within(
    field: &str,
    ranges: &[(u128, u128)],
    room: usize,
    value: impl Fn(u128) -> String,
) -> Option<Expression> {
    any(fit(ranges, room).into_iter().map(|(first, last)| {
        Some(if first == last {
            test(format!("{field} == {}", value(first)))
        } else {
            all([
                test(format!("{field} >= {}", value(first))),
                test(format!("{field} <= {}", value(last))),
            ])
        })
    }))
}

/// Which end of a packet.
#[derive(Clone, Copy)]
enum End {
    Source,
    Destination,
}
use End::{Destination, Source};

const fn end_name(end: End) -> &'static str {
    match end {
        Source => "Src",
        Destination => "Dst",
    }
}

const fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Icmp => "icmp",
    }
}

/// An IP version, as the language calls its fields.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    const fn has(self, address: &IpAddr) -> bool {
        address.is_ipv4() == matches!(self, Self::V4)
    }

    fn field(self, end: End) -> String {
        let family = if self == Self::V4 { "ip" } else { "ipv6" };
        format!("{family}.{}Addr", end_name(end))
    }

    fn is(self, end: End, address: &IpAddr) -> Expression {
        test(format!("{} == {address}", self.field(end)))
    }

    fn is_not(self, end: End, address: &IpAddr) -> Expression {
        test(format!("{} != {address}", self.field(end)))
    }

    /// Neither multicast nor broadcast: what is sent there and injected again is lost.
    fn unicast(self) -> Expression {
        let first = if self == Self::V4 { "224.0.0.0" } else { "ff00::" };
        test(format!("{} < {first}", self.field(Destination)))
    }

    fn within(self, end: End, ranges: &[(IpAddr, IpAddr)], room: usize) -> Option<Expression> {
        let number = |address: IpAddr| match address {
            IpAddr::V4(address) => address.to_bits().into(),
            IpAddr::V6(address) => address.to_bits(),
        };
        let ranges = ranges.iter().filter(|(first, last)| self.has(first) && self.has(last));
        let ranges: Vec<_> = ranges.map(|(first, last)| (number(*first), number(*last))).collect();
        within(&self.field(end), &ranges, room, |number| match self {
            Self::V4 => Ipv4Addr::from_bits(number as u32).to_string(),
            Self::V6 => Ipv6Addr::from_bits(number).to_string(),
        })
    }
}

#[cfg(test)]
pub(super) mod tests;
