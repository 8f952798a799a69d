//! What do the kernel's routes and rules say, and have they changed?

use super::netlink::Netlink;
use super::{Addresses, ListError, PROTOCOL};
use crate::address::Leading;
use crate::address::leading::{self, Route};
use ipnet::IpNet;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHopFlags, RouteProtocol,
    RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `RTNLGRP_*` of include/uapi/linux/rtnetlink.h: links, and routes and rules of
/// both families.
const GROUPS: [u32; 5] = [1, 7, 8, 11, 19];

/// Hears of changes of the routes.
#[derive(Debug)]
pub struct RouteNews {
    socket: Socket,
    /// Say so at the next question, whatever has come.
    anew: bool,
}

impl RouteNews {
    /// Of the calling thread's network namespace.
    ///
    /// # Errors
    /// The kernel gives no netlink socket.
    pub fn listen() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        socket.set_non_blocking(true)?;
        Ok(Self { socket, anew: true })
    }

    /// Has something changed since this was asked last?
    pub fn any(&mut self) -> bool {
        let mut any = std::mem::replace(&mut self.anew, false);
        let mut buffer = Vec::with_capacity(65_536);
        // Bounded: what keeps coming is read at the next question.
        for _ in 0..1024 {
            buffer.clear();
            match self.socket.recv(&mut buffer, 0) {
                Ok(_) => any = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // More came than the socket holds.
                Err(_) => any = true,
            }
        }
        any
    }

    /// What was to follow from the last answer has failed.
    pub fn ask_again(&mut self) {
        self.anew = true;
    }
}

impl Addresses {
    /// Where packets go over `interface`, and where not. `pool`: what the sources of
    /// sessions will be. `None`: there are too many routes.
    ///
    /// # Errors
    /// The kernel does not list them.
    pub fn leading(
        &mut self,
        interface: u32,
        pool: &[(IpAddr, IpAddr)],
    ) -> Result<Option<Vec<Leading>>, ListError> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            read(&mut self.netlink, family, interface, pool, &mut routes)
                .map_err(|source| ListError { what: "routes", source })?;
        }
        Ok(leading::leading(&routes))
    }
}

fn read(
    netlink: &mut Netlink,
    family: AddressFamily,
    interface: u32,
    pool: &[(IpAddr, IpAddr)],
    routes: &mut Vec<Route>,
) -> io::Result<()> {
    let mut every_rule = RuleMessage::default();
    every_rule.header.family = family;
    let rules = match netlink.list(&RouteNetlinkMessage::GetRule(every_rule)) {
        // No rules, no IPv6: then there is but the main table, or nothing.
        Err(error) if super::says_no_ipv6(&error) => return Ok(()),
        rules => rules?,
    };
    let tables: BTreeSet<u32> =
        rules.into_iter().filter_map(|rule| table_of(rule, family, pool)).collect();
    let mut every_route = RouteMessage::default();
    every_route.header.address_family = family;
    let listed = netlink.list(&RouteNetlinkMessage::GetRoute(every_route))?.into_iter();
    routes.extend(
        listed
            .filter_map(|message| route(message, interface))
            .filter(|route| tables.contains(&route.table)),
    );
    Ok(())
}

/// The table that a rule leads packets of sessions to.
fn table_of(
    message: RouteNetlinkMessage,
    family: AddressFamily,
    pool: &[(IpAddr, IpAddr)],
) -> Option<u32> {
    let RouteNetlinkMessage::NewRule(rule) = message else { return None };
    if rule.header.action != RuleAction::ToTable || rule.header.family != family {
        return None;
    }
    let mut table = u32::from(rule.header.table);
    let mut elsewhere = false;
    for attribute in rule.attributes {
        if let RuleAttribute::Table(it) = attribute {
            table = it;
        } else if let RuleAttribute::Source(source) = attribute {
            let source = IpNet::new(source, rule.header.src_len).ok()?;
            elsewhere |= !concerns(source, pool);
        } else if let RuleAttribute::Iifname(from) = attribute {
            // What this host sends comes from `lo`.
            elsewhere |= from != "lo";
        }
    }
    // One that is turned round holds for all others.
    (!elsewhere || rule.header.flags.contains(RuleFlags::Invert)).then_some(table)
}

fn route(message: RouteNetlinkMessage, interface: u32) -> Option<Route> {
    let RouteNetlinkMessage::NewRoute(route) = message else { return None };
    let header = &route.header;
    let ours = header.kind == RouteType::Local && header.protocol == RouteProtocol::Other(PROTOCOL);
    // The cache, and what is down: the kernel does not look at them.
    if ours || header.flags.intersects(RouteFlags::Cloned | RouteFlags::Dead) {
        return None;
    }
    let mut to = if header.address_family == AddressFamily::Inet {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    let mut table = u32::from(header.table);
    let mut metric = 0;
    // Encapsulated, it leaves inside another packet.
    let mut plain = true;
    let mut by = Vec::new();
    let mut weak = header.flags.contains(RouteFlags::Linkdown);
    for attribute in route.attributes {
        if let RouteAttribute::Destination(RouteAddress::Inet(address)) = attribute {
            to = address.into();
        } else if let RouteAttribute::Destination(RouteAddress::Inet6(address)) = attribute {
            to = address.into();
        } else if let RouteAttribute::Table(it) = attribute {
            table = it;
        } else if let RouteAttribute::Priority(it) = attribute {
            metric = it;
        } else if let RouteAttribute::Oif(it) = attribute {
            by.push(it);
        } else if let RouteAttribute::MultiPath(hops) = attribute {
            weak |= hops.iter().any(|hop| hop.flags.contains(RouteNextHopFlags::Linkdown));
            plain &= !hops.iter().any(|hop| hop.attributes.iter().any(is_encapsulation));
            by.extend(hops.iter().map(|hop| hop.interface_index));
        } else {
            plain &= !is_encapsulation(&attribute);
        }
    }
    let leads = header.kind == RouteType::Unicast && plain && !by.is_empty();
    Some(Route {
        table,
        to: IpNet::new(to, header.destination_prefix_length).ok()?,
        metric,
        over: leads && by.iter().all(|index| *index == interface),
        weak,
        special: header.tos != 0 || header.source_prefix_length != 0,
    })
}

fn is_encapsulation(attribute: &RouteAttribute) -> bool {
    matches!(attribute, RouteAttribute::EncapType(_) | RouteAttribute::Encap(_))
}

/// Can packets of the pool's sessions meet a rule for this source? They have none
/// yet, or a virtual one.
fn concerns(source: IpNet, pool: &[(IpAddr, IpAddr)]) -> bool {
    let unspecified = match source {
        IpNet::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpNet::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let (first, last) = (source.network(), source.broadcast());
    let overlaps = |range: &(IpAddr, IpAddr)| {
        range.0.is_ipv4() == first.is_ipv4() && range.0 <= last && first <= range.1
    };
    source.contains(&unspecified) || pool.iter().any(overlaps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_for_other_sources_do_not_concern_sessions() {
        let pool = [("10.77.0.100".parse().unwrap(), "10.77.0.199".parse().unwrap())];
        for (source, concerned) in [
            ("10.88.0.1/32", false),
            ("10.77.0.1/32", false),
            ("10.77.0.0/24", true),
            ("10.77.0.150/32", true),
            ("0.0.0.0/1", true),
            ("fd77::/64", false),
        ] {
            assert_eq!(concerns(source.parse().unwrap(), &pool), concerned, "{source}");
        }
    }
}
