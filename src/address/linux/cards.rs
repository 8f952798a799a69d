//! Which network cards does a configuration file meet here?

use super::messages::listed;
use super::netlink::Netlink;
use crate::config::machine::AdapterView;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use std::io;

/// The network cards of this machine, in this network namespace, without the
/// addresses that are ours.
///
/// # Errors
/// The kernel does not list them.
pub fn cards() -> io::Result<Vec<AdapterView>> {
    let mut netlink = Netlink::open()?;
    let links = netlink.list(&RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    let nets = netlink.list(&RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
    let nets: Vec<_> = nets.into_iter().filter_map(listed).filter(|it| !it.ours).collect();
    let cards = links.into_iter().filter_map(named).map(|(index, name)| {
        let own = nets.iter().filter(|it| it.interface == index);
        AdapterView { name, addresses: own.map(|it| it.net).collect() }
    });
    Ok(cards.collect())
}

fn named(message: RouteNetlinkMessage) -> Option<(u32, String)> {
    let RouteNetlinkMessage::NewLink(link) = message else { return None };
    let index = link.header.index;
    let name = link.attributes.into_iter().find_map(|attribute| {
        if let LinkAttribute::IfName(name) = attribute { Some(name) } else { None }
    });
    Some((index, name?))
}
