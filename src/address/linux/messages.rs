//! What names an address or a route of ours to the kernel, and how is it known again?

use super::{LO, LOCAL_TABLE, PROTOCOL};
use crate::address::{Adapter, PRIVATE_IPV6};
use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::net::{IpAddr, Ipv6Addr};

/// An address of an interface.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listed {
    pub(super) interface: u32,
    pub(super) net: IpNet,
    /// We put it on.
    pub(super) ours: bool,
    /// Nothing can be sent from it: the kernel has yet to hear whether another
    /// machine has it, or has heard that one does (RFC 4862, section 5.4).
    pub(super) unsettled: bool,
}

/// A route of ours, to make it and to remove it.
pub(super) fn route_of(address: IpAddr, interface: u32) -> RouteMessage {
    local_route_of(address, interface, RouteProtocol::Other(PROTOCOL))
}

/// The local route that the kernel makes with an IPv6 address.
pub(super) fn kernel_route_of(address: IpAddr, interface: u32) -> RouteMessage {
    local_route_of(address, interface, RouteProtocol::Kernel)
}

fn local_route_of(address: IpAddr, interface: u32, protocol: RouteProtocol) -> RouteMessage {
    let (family, length) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    let mut route = RouteMessage::default();
    route.header = RouteHeader {
        address_family: family,
        destination_prefix_length: length,
        table: LOCAL_TABLE,
        protocol,
        // When it is removed: whatever the scope.
        scope: RouteScope::NoWhere,
        kind: RouteType::Local,
        ..RouteHeader::default()
    };
    route.attributes =
        vec![RouteAttribute::Destination(address.into()), RouteAttribute::Oif(interface)];
    route
}

/// An IPv6 address of ours, to put it on and to take it off.
pub(super) fn address_of(address: Ipv6Addr, interface: u32) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.prefix_len = 128;
    message.header.index = interface;
    message.attributes = vec![AddressAttribute::Local(address.into())];
    message
}

pub(super) fn adapter(message: RouteNetlinkMessage) -> Option<Adapter> {
    let RouteNetlinkMessage::NewLink(link) = message else { return None };
    let flags = link.header.flags;
    if flags.contains(LinkFlags::Loopback) {
        return None;
    }
    let speaks_arp =
        link.header.link_layer_type == LinkLayerType::Ether && !flags.contains(LinkFlags::Noarp);
    let (mut name, mut mac) = (None, None);
    for attribute in link.attributes {
        if let LinkAttribute::IfName(text) = attribute {
            name = Some(text);
        } else if let LinkAttribute::Address(bytes) = attribute {
            mac = bytes.try_into().ok();
        }
    }
    let mac = mac.filter(|_| speaks_arp);
    Some(Adapter { index: link.header.index, name: name?, addresses: Vec::new(), mac })
}

pub(super) fn listed(message: RouteNetlinkMessage) -> Option<Listed> {
    let RouteNetlinkMessage::NewAddress(message) = message else { return None };
    let (mut local, mut address, mut marked) = (None, None, false);
    for attribute in message.attributes {
        if let AddressAttribute::Local(it) = attribute {
            local = Some(it);
        } else if let AddressAttribute::Address(it) = attribute {
            address = Some(it);
        } else if let AddressAttribute::Protocol(it) = attribute {
            marked = u8::from(it) == PROTOCOL;
        }
    }
    // Where both are there and differ, the latter is the peer's.
    let net = IpNet::new(local.or(address)?, message.header.prefix_len).ok()?;
    let interface = message.header.index;
    let ours = match net.addr() {
        IpAddr::V4(_) => false,
        IpAddr::V6(six) => marked || interface == LO && PRIVATE_IPV6.contains(&six),
    };
    let flags = message.header.flags;
    let tentative = flags.contains(AddressHeaderFlags::Tentative)
        // Those are used in the meantime (RFC 4429).
        && !flags.contains(AddressHeaderFlags::Optimistic);
    let unsettled = tentative || flags.contains(AddressHeaderFlags::Dadfailed);
    Some(Listed { interface, net, ours, unsettled })
}

/// Where a route of ours leads, and by which interface.
pub(super) fn our_destination(message: RouteNetlinkMessage) -> Option<(IpAddr, u32)> {
    let RouteNetlinkMessage::NewRoute(route) = message else { return None };
    // The kernel has filtered already; a stranger's route is not for us to remove.
    if route.header.protocol != RouteProtocol::Other(PROTOCOL) || route.header.table != LOCAL_TABLE
    {
        return None;
    }
    let (mut to, mut interface) = (None, LO);
    for attribute in route.attributes {
        if let RouteAttribute::Destination(RouteAddress::Inet(address)) = attribute {
            to = Some(IpAddr::V4(address));
        } else if let RouteAttribute::Destination(RouteAddress::Inet6(address)) = attribute {
            to = Some(IpAddr::V6(address));
        } else if let RouteAttribute::Oif(index) = attribute {
            interface = index;
        }
    }
    Some((to?, interface))
}
