//! Which network cards does a configuration file meet here?

use crate::config::machine::AdapterView;
use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{SockaddrLike, SockaddrStorage};
use std::io;
use std::net::IpAddr;

/// The network cards of this machine, in this network namespace.
///
/// # Errors
/// The kernel does not list them.
pub fn cards() -> io::Result<Vec<AdapterView>> {
    let mut adapters: Vec<AdapterView> = Vec::new();
    for entry in getifaddrs()? {
        let address = entry.address.as_ref().and_then(ip).zip(entry.netmask.as_ref().and_then(ip));
        let net = address.and_then(|(address, mask)| IpNet::with_netmask(address, mask).ok());
        match adapters.iter_mut().find(|adapter| adapter.name == entry.interface_name) {
            Some(adapter) => adapter.addresses.extend(net),
            None => adapters.push(AdapterView {
                name: entry.interface_name,
                addresses: net.into_iter().collect(),
            }),
        }
    }
    Ok(adapters)
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    address.family()?;
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}
