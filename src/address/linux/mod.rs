//! How does Linux come to answer for an address?
//!
//! An IPv4 address is put on as a local route of its own: the kernel then answers
//! ARP for exactly this address and lets sockets bind to it, yet no interface
//! lists it and it is never chosen as source. For IPv6 a route is not enough, so
//! there it is an address of `lo` that is deprecated from the start.

pub mod arp;
mod cards;
mod leading;
mod netlink;
mod routes;

pub use cards::cards;
pub use routes::RouteNews;

use super::{Adapter, LocalAddress, PRIVATE_IPV6};
use ipnet::IpNet;
use netlink::Netlink;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressScope, CacheInfo,
};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric,
    RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Marks a route as ours (`ip route show table local proto 83`).
const PROTOCOL: u8 = 83;
/// An address of ours tells so by itself.
pub const MARKED: bool = true;

/// `lo` in every network namespace: `LOOPBACK_IFINDEX` of include/net/flow.h.
const LO: u32 = 1;
/// `RT_TABLE_LOCAL` of include/uapi/linux/rtnetlink.h.
const LOCAL_TABLE: u8 = 255;
/// Packets of one host to itself: a NFQUEUE carries at most 65531 bytes, and the
/// MTU of `lo` is 65536.
const MTU: u32 = 65_500;

/// The addresses and routes of the calling thread's network namespace.
#[derive(Debug)]
pub struct Addresses {
    netlink: Netlink,
}

/// The kernel's addresses are out of reach.
#[derive(Debug, thiserror::Error)]
#[error("cannot open a netlink socket")]
pub struct OpenError(#[source] io::Error);

/// Something cannot be listed.
#[derive(Debug, thiserror::Error)]
#[error("cannot list the {what} of this machine")]
pub struct ListError {
    what: &'static str,
    #[source]
    source: io::Error,
}

/// An address cannot be put on.
#[derive(Debug, thiserror::Error)]
pub enum PutOnError {
    /// This machine answers for it already, and not by us.
    #[error("{0} is an address of this machine already")]
    Taken(Ipv4Addr),
    /// The kernel refuses it.
    #[error("cannot put {address} on this machine{}", hint(source))]
    Kernel {
        /// The virtual address.
        address: IpAddr,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
}

/// An address cannot be taken off.
#[derive(Debug, thiserror::Error)]
#[error("cannot take {address} off this machine")]
pub struct TakeOffError {
    address: IpAddr,
    #[source]
    source: io::Error,
}

impl Addresses {
    /// # Errors
    /// The kernel gives no netlink socket.
    pub fn open() -> Result<Self, OpenError> {
        Netlink::open().map(|netlink| Self { netlink }).map_err(OpenError)
    }

    /// The network interfaces but `lo`, by index.
    ///
    /// # Errors
    /// The kernel does not list them.
    pub fn adapters(&mut self) -> Result<Vec<Adapter>, ListError> {
        let failed = |source| ListError { what: "network interfaces", source };
        let links = self.netlink.list(&RouteNetlinkMessage::GetLink(LinkMessage::default()));
        let mut adapters: Vec<Adapter> =
            links.map_err(failed)?.into_iter().filter_map(adapter).collect();
        adapters.sort_by_key(|adapter| adapter.index);
        for (index, net) in self.nets().map_err(failed)? {
            if let Some(adapter) = adapters.iter_mut().find(|adapter| adapter.index == index) {
                adapter.addresses.push(net);
            }
        }
        Ok(adapters)
    }

    /// The IPv4 addresses of all interfaces; virtual addresses are on none.
    ///
    /// # Errors
    /// The kernel does not list them.
    pub fn local_addresses(&mut self) -> Result<Vec<LocalAddress>, ListError> {
        let nets = self.nets().map_err(|source| ListError { what: "addresses", source })?;
        let local = nets.into_iter().filter_map(|(interface, net)| match net {
            IpNet::V4(net) => Some(LocalAddress { address: net.addr(), interface }),
            IpNet::V6(_) => None,
        });
        Ok(local.collect())
    }

    /// Puts a virtual address on, or gives it another host address: what this host
    /// sends to it comes from `host_address` unless a program says otherwise.
    ///
    /// # Errors
    /// It is this machine's already, or the kernel refuses it.
    pub fn put_on(
        &mut self,
        virtual_address: Ipv4Addr,
        host_address: Ipv4Addr,
    ) -> Result<(), PutOnError> {
        if self.is_a_stranger_s(virtual_address)? {
            return Err(PutOnError::Taken(virtual_address));
        }
        let mut route = route_of(virtual_address);
        route.header.scope = RouteScope::Host;
        route.attributes.extend([
            RouteAttribute::PrefSource(RouteAddress::Inet(host_address)),
            RouteAttribute::Metrics(vec![RouteMetric::Mtu(MTU)]),
        ]);
        self.netlink
            .change(RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_REPLACE)
            .map_err(|source| PutOnError::Kernel { address: virtual_address.into(), source })
    }

    /// Virtual addresses that turned out to be another machine's after they were put
    /// on: none, for the kernel asks nobody about a route.
    ///
    /// # Errors
    /// None here.
    pub fn duplicates(&mut self) -> Result<Vec<Ipv4Addr>, ListError> {
        Ok(Vec::new())
    }

    /// Puts a session-private IPv6 address on. It can be bound, and is deprecated,
    /// so that no other is passed over for it as source. (But scope counts more than
    /// deprecation, RFC 6724 section 5: on a host that has routes to the IPv6 Internet
    /// and no address of its own there but link-local ones, the kernel does take it.)
    /// Returns whether it is there: not where IPv6 is turned off.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn put_on_private_ipv6(&mut self, address: Ipv6Addr) -> Result<bool, PutOnError> {
        let mut message = address_of(address);
        message.header.scope = AddressScope::Host;
        let mut lifetime = CacheInfo::default();
        lifetime.ifa_valid = u32::MAX;
        message.attributes.extend([
            AddressAttribute::CacheInfo(lifetime),
            AddressAttribute::Flags(AddressFlags::Nodad | AddressFlags::Noprefixroute),
        ]);
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        match self.netlink.change(RouteNetlinkMessage::NewAddress(message), flags) {
            Ok(()) => Ok(true),
            Err(error) if says_no_ipv6(&error) => Ok(false),
            Err(source) => Err(PutOnError::Kernel { address: address.into(), source }),
        }
    }

    /// Takes off what [`put_on`](Self::put_on) or
    /// [`put_on_private_ipv6`](Self::put_on_private_ipv6) put on, and nothing else.
    /// One that is gone already is no error.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn take_off(&mut self, address: IpAddr) -> Result<(), TakeOffError> {
        let message = match address {
            IpAddr::V4(address) => RouteNetlinkMessage::DelRoute(route_of(address)),
            IpAddr::V6(address) => RouteNetlinkMessage::DelAddress(address_of(address)),
        };
        match self.netlink.change(message, 0) {
            Err(error) if says_gone(&error) => Ok(()),
            other => other.map_err(|source| TakeOffError { address, source }),
        }
    }

    /// All addresses that were put on and not taken off again, by this daemon or by
    /// one that was killed: routes of [`PROTOCOL`], and [`PRIVATE_IPV6`] on `lo`.
    ///
    /// # Errors
    /// The kernel does not list them.
    pub fn stale(&mut self) -> Result<Vec<IpAddr>, ListError> {
        let failed = |source| ListError { what: "local routes", source };
        let mut filter = RouteMessage::default();
        filter.header.address_family = AddressFamily::Inet;
        filter.header.table = LOCAL_TABLE;
        filter.header.protocol = RouteProtocol::Other(PROTOCOL);
        let routes = self.netlink.list(&RouteNetlinkMessage::GetRoute(filter)).map_err(failed)?;
        let mut stale: Vec<IpAddr> = routes.into_iter().filter_map(our_destination).collect();
        let nets = self.nets().map_err(failed)?.into_iter();
        stale.extend(nets.filter_map(|(index, net)| match net {
            IpNet::V6(net) if index == LO && PRIVATE_IPV6.contains(&net.addr()) => {
                Some(IpAddr::V6(net.addr()))
            }
            IpNet::V4(_) | IpNet::V6(_) => None,
        }));
        Ok(stale)
    }

    /// Has `address` a local route that is not ours: an interface's own, or one that
    /// the administrator made? To replace it would take it from them.
    fn is_a_stranger_s(&mut self, address: Ipv4Addr) -> Result<bool, PutOnError> {
        let mut question = RouteMessage::default();
        question.header.address_family = AddressFamily::Inet;
        question.header.destination_prefix_length = 32;
        question.header.flags = RouteFlags::FibMatch;
        question.attributes = vec![RouteAttribute::Destination(RouteAddress::Inet(address))];
        match self.netlink.ask(RouteNetlinkMessage::GetRoute(question)) {
            Ok(answers) => Ok(answers.iter().any(|answer| {
                let RouteNetlinkMessage::NewRoute(RouteMessage { header, .. }) = answer else {
                    return false;
                };
                header.kind == RouteType::Local
                    && header.destination_prefix_length == 32
                    && header.protocol != RouteProtocol::Other(PROTOCOL)
            })),
            Err(error) if says_unreachable(&error) => Ok(false),
            Err(source) => Err(PutOnError::Kernel { address: address.into(), source }),
        }
    }

    /// The addresses of all interfaces with their subnets, in the kernel's order:
    /// of each subnet the primary one first.
    fn nets(&mut self) -> io::Result<Vec<(u32, IpNet)>> {
        let listed =
            self.netlink.list(&RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
        Ok(listed.into_iter().filter_map(net).collect())
    }
}

/// What names a route of ours, to make it and to remove it.
fn route_of(address: Ipv4Addr) -> RouteMessage {
    let mut route = RouteMessage::default();
    route.header = RouteHeader {
        address_family: AddressFamily::Inet,
        destination_prefix_length: 32,
        table: LOCAL_TABLE,
        protocol: RouteProtocol::Other(PROTOCOL),
        // When it is removed: whatever the scope.
        scope: RouteScope::NoWhere,
        kind: RouteType::Local,
        ..RouteHeader::default()
    };
    route.attributes =
        vec![RouteAttribute::Destination(RouteAddress::Inet(address)), RouteAttribute::Oif(LO)];
    route
}

fn address_of(address: Ipv6Addr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.prefix_len = 128;
    message.header.index = LO;
    message.attributes = vec![AddressAttribute::Local(address.into())];
    message
}

fn adapter(message: RouteNetlinkMessage) -> Option<Adapter> {
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

fn net(message: RouteNetlinkMessage) -> Option<(u32, IpNet)> {
    let RouteNetlinkMessage::NewAddress(message) = message else { return None };
    let (mut local, mut address) = (None, None);
    for attribute in message.attributes {
        if let AddressAttribute::Local(it) = attribute {
            local = Some(it);
        } else if let AddressAttribute::Address(it) = attribute {
            address = Some(it);
        }
    }
    // Where both are there and differ, the latter is the peer's.
    let net = IpNet::new(local.or(address)?, message.header.prefix_len).ok()?;
    Some((message.header.index, net))
}

fn our_destination(message: RouteNetlinkMessage) -> Option<IpAddr> {
    let RouteNetlinkMessage::NewRoute(route) = message else { return None };
    // The kernel has filtered already; a stranger's route is not for us to remove.
    if route.header.protocol != RouteProtocol::Other(PROTOCOL) || route.header.table != LOCAL_TABLE
    {
        return None;
    }
    route.attributes.iter().find_map(|attribute| {
        let RouteAttribute::Destination(RouteAddress::Inet(address)) = attribute else {
            return None;
        };
        Some(IpAddr::V4(*address))
    })
}

/// IPv6 is not built in, off by `ipv6.disable=1`, or off on `lo` by sysctl.
fn says_no_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP | libc::EACCES | libc::ENODEV)
    )
}

/// There is no route to it, or one that says so.
fn says_unreachable(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL)
    )
}

/// No such route, no such address, or no IPv6 at all.
fn says_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ESRCH | libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT | libc::EOPNOTSUPP)
    )
}

fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EINVAL) => " (is its host address still there?)",
        Some(libc::EPERM) => " (that takes CAP_NET_ADMIN)",
        _ => "",
    }
}
