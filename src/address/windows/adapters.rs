//! Which network cards are there?

use super::is_ours;
use super::table;
use crate::address::Adapter;
use crate::config::machine::AdapterView;
use crate::guard::windows::narrow;
use ipnet::IpNet;
use std::io;
use std::ptr;
use windows_sys::Win32::Foundation::{ERROR_BUFFER_OVERFLOW, ERROR_NO_DATA, ERROR_SUCCESS};
use windows_sys::Win32::NetworkManagement::IpHelper::{
    GAA_FLAG_SKIP_ANYCAST, GAA_FLAG_SKIP_DNS_SERVER, GAA_FLAG_SKIP_MULTICAST, GetAdaptersAddresses,
    IF_TYPE_ETHERNET_CSMACD, IF_TYPE_IEEE80211, IP_ADAPTER_ADDRESSES_LH,
    IP_ADAPTER_UNICAST_ADDRESS_LH,
};
use windows_sys::Win32::Networking::WinSock::{
    AF_INET, AF_INET6, AF_UNSPEC, SOCKADDR, SOCKADDR_IN, SOCKADDR_IN6, SOCKADDR_INET,
};

/// How often a list that has grown while it was read is read again.
const ATTEMPTS: usize = 8;
/// What its documentation advises to begin with.
const USUAL: usize = 16_384;
/// A friendly name has at most so many units (`IF_MAX_STRING_SIZE`).
const LONGEST_NAME: usize = 257;

/// The network cards of this machine, the loopback among them, without virtual
/// addresses.
///
/// # Errors
/// The system does not list them.
pub fn cards() -> io::Result<Vec<AdapterView>> {
    let ours: Vec<_> = table::rows()?.into_iter().filter(is_ours).map(|row| row.address).collect();
    let cards = adapters()?.into_iter().map(|Adapter { name, mut addresses, .. }| {
        addresses.retain(|net| !ours.contains(&net.addr()));
        AdapterView { name, addresses }
    });
    Ok(cards.collect())
}

/// All interfaces with all their addresses.
pub(super) fn adapters() -> io::Result<Vec<Adapter>> {
    Ok(list()?.into_iter().map(|card| card.adapter).collect())
}

/// An interface, and what a route by it costs beyond its own metric.
pub(super) struct Card {
    pub(super) adapter: Adapter,
    pub(super) ipv4_metric: u32,
    pub(super) ipv6_metric: u32,
}

/// All interfaces.
#[expect(unsafe_code, reason = "iphlpapi writes a list into a buffer of ours")]
pub(super) fn list() -> io::Result<Vec<Card>> {
    // Aligned as the structures that are written there.
    let mut buffer: Vec<u64> = vec![0; USUAL / size_of::<u64>()];
    for _ in 0..ATTEMPTS {
        let mut size = u32::try_from(size_of_val(buffer.as_slice())).unwrap_or(u32::MAX);
        let first = buffer.as_mut_ptr().cast::<IP_ADAPTER_ADDRESSES_LH>();
        let flags = GAA_FLAG_SKIP_ANYCAST | GAA_FLAG_SKIP_MULTICAST | GAA_FLAG_SKIP_DNS_SERVER;
        // SAFETY: the buffer is as long as said.
        let status = unsafe {
            GetAdaptersAddresses(AF_UNSPEC.into(), flags, ptr::null(), first, &raw mut size)
        };
        match status {
            // SAFETY: the call has written the list, which lives in the buffer.
            ERROR_SUCCESS => return Ok(unsafe { read_list(first) }),
            ERROR_NO_DATA => return Ok(Vec::new()),
            ERROR_BUFFER_OVERFLOW => buffer = vec![0; (size as usize).div_ceil(size_of::<u64>())],
            error => return Err(io::Error::from_raw_os_error(error.cast_signed())),
        }
    }
    Err(io::Error::other("the list changes faster than it can be read"))
}

/// # Safety
/// `entry` is null, or the head of a list that `GetAdaptersAddresses` wrote and that
/// lives as long as the call.
#[expect(unsafe_code, reason = "a list of pointers")]
unsafe fn read_list(mut entry: *const IP_ADAPTER_ADDRESSES_LH) -> Vec<Card> {
    let mut cards = Vec::new();
    // SAFETY: as the caller promises; the list ends with a null pointer.
    while let Some(card) = unsafe { entry.as_ref() } {
        // SAFETY: both members of the union are numbers, of which one is the index.
        let v4_index = unsafe { card.Anonymous1.Anonymous.IfIndex };
        // Where IPv4 is turned off the index of IPv6 is the same, and there.
        let index = if v4_index == 0 { card.Ipv6IfIndex } else { v4_index };
        let speaks_arp = [IF_TYPE_ETHERNET_CSMACD, IF_TYPE_IEEE80211].contains(&card.IfType);
        let mac = (speaks_arp && card.PhysicalAddressLength == 6)
            .then(|| card.PhysicalAddress.first_chunk().copied())
            .flatten();
        let adapter = Adapter {
            index,
            // SAFETY: the name is in the buffer, and ends with a zero.
            name: unsafe { text(card.FriendlyName) },
            // SAFETY: its list is in the same buffer.
            addresses: unsafe { nets(card.FirstUnicastAddress) },
            mac,
        };
        let (ipv4_metric, ipv6_metric) = (card.Ipv4Metric, card.Ipv6Metric);
        cards.push(Card { adapter, ipv4_metric, ipv6_metric });
        entry = card.Next;
    }
    cards
}

/// # Safety
/// `entry` is null, or the head of a list that lives as long as the call.
#[expect(unsafe_code, reason = "a list of pointers")]
unsafe fn nets(mut entry: *const IP_ADAPTER_UNICAST_ADDRESS_LH) -> Vec<IpNet> {
    let mut nets = Vec::new();
    // SAFETY: as the caller promises; the list ends with a null pointer.
    while let Some(unicast) = unsafe { entry.as_ref() } {
        let length = unicast.Address.iSockaddrLength;
        // SAFETY: the system says how many bytes are there.
        let inet = unsafe { socket_address(unicast.Address.lpSockaddr, length) };
        let net =
            inet.and_then(|inet| IpNet::new(table::ip(&inet)?, unicast.OnLinkPrefixLength).ok());
        nets.extend(net);
        entry = unicast.Next;
    }
    nets
}

/// A socket address of either family, copied. `None`: of another, or cut.
///
/// # Safety
/// `address` is null, or points to `length` bytes.
#[expect(unsafe_code, reason = "a pointer of the system's")]
unsafe fn socket_address(address: *const SOCKADDR, length: i32) -> Option<SOCKADDR_INET> {
    let length = usize::try_from(length).ok()?;
    if address.is_null() || length < size_of::<SOCKADDR>() {
        return None;
    }
    let mut inet = SOCKADDR_INET::default();
    // SAFETY: so many bytes are there, as was just looked at; they are numbers.
    unsafe {
        match (*address).sa_family {
            AF_INET if length >= size_of::<SOCKADDR_IN>() => {
                inet.Ipv4 = address.cast::<SOCKADDR_IN>().read_unaligned();
            }
            AF_INET6 if length >= size_of::<SOCKADDR_IN6>() => {
                inet.Ipv6 = address.cast::<SOCKADDR_IN6>().read_unaligned();
            }
            _ => return None,
        }
    }
    Some(inet)
}

/// # Safety
/// `start` is null, or a text that ends with a zero.
#[expect(unsafe_code, reason = "a pointer of the system's")]
unsafe fn text(start: *const u16) -> String {
    if start.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises; never past the zero.
    let units = (0..LONGEST_NAME).map(|at| unsafe { *start.add(at) });
    narrow(&units.take_while(|unit| *unit != 0).collect::<Vec<u16>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_a_card() {
        let loopback: IpNet = "127.0.0.1/8".parse().unwrap();
        let all = cards().unwrap();
        assert!(all.iter().any(|card| card.addresses.contains(&loopback)), "{all:?}");
        assert!(all.iter().all(|card| !card.name.is_empty()), "{all:?}");
    }
}
