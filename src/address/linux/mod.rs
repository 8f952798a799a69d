//! How does Linux come to answer for an address?
//!
//! An IPv4 address is put on as a local route of its own: the kernel then answers
//! ARP for exactly this address and lets sockets bind to it, yet no interface
//! lists it and it is never chosen as source.
//!
//! For IPv6 a route is not enough: nobody could bind to it, and solicitations would
//! go unanswered. So there it is an address of the pool's NIC, a /128 that is
//! deprecated from the start, lest it is chosen as source. Its local route is ours
//! all the same, in place of the kernel's: only so does what this host sends to it
//! come from the host address, and in packets that a queue can carry.
//!
//! A session-private IPv6 address is one of `lo`.

pub mod arp;
mod cards;
mod line;
mod messages;
pub mod nd;
pub(crate) mod netlink;
mod routes;

pub use cards::cards;
pub use routes::RouteNews;

use super::{Adapter, LocalAddress, PRIVATE_IPV6};
use messages::{Listed, adapter, address_of, kernel_route_of, listed, our_destination, route_of};
use netlink::Netlink;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressScope, CacheInfo,
};
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
    RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Marks a route as ours (`ip route show table local proto 83`), and an IPv6 address
/// of the pool (`IFA_PROTO`, Linux 5.18).
const PROTOCOL: u8 = 83;
/// An address of ours tells so by itself.
pub const MARKED: bool = true;

/// `lo` in every network namespace: `LOOPBACK_IFINDEX` of include/net/flow.h.
const LO: u32 = 1;
/// `RT_TABLE_LOCAL` of include/uapi/linux/rtnetlink.h.
const LOCAL_TABLE: u8 = 255;
/// How often and how long a route of the kernel's is waited for, so that no logon
/// waits longer than 200 ms.
const GLANCES: u32 = 50;
const GLANCE: Duration = Duration::from_millis(2);
/// Packets of one host to itself: a NFQUEUE carries at most 65531 bytes, and the
/// MTU of `lo` is 65536.
const MTU: u32 = 65_500;

/// Addresses, and the interfaces that they are on.
type Places = BTreeSet<(IpAddr, u32)>;

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
    Taken(IpAddr),
    /// There is no network card to put it on.
    #[error("cannot put {address} on this machine: no network card has {host_address} any more")]
    NoAdapter {
        /// The virtual address.
        address: IpAddr,
        /// Where it was to be put.
        host_address: IpAddr,
    },
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
        for Listed { interface, net, ours, .. } in self.nets().map_err(failed)? {
            let adapter = adapters.iter_mut().find(|adapter| adapter.index == interface);
            if let Some(adapter) = adapter.filter(|_| !ours) {
                adapter.addresses.push(net);
            }
        }
        Ok(adapters)
    }

    /// The addresses of all interfaces but the virtual ones, and but those that the
    /// kernel lets nobody use yet, or any more: it takes none as source of a route.
    ///
    /// # Errors
    /// The kernel does not list them.
    pub fn local_addresses(&mut self) -> Result<Vec<LocalAddress>, ListError> {
        let nets = self.nets().map_err(|source| ListError { what: "addresses", source })?;
        let local = nets.into_iter().filter(|it| !it.ours && !it.unsettled);
        let local =
            local.map(|it| LocalAddress { address: it.net.addr(), interface: it.interface });
        Ok(local.collect())
    }

    /// Puts a virtual address on, or gives it another host address: what this host
    /// sends to it comes from `host_address` unless a program says otherwise.
    ///
    /// # Errors
    /// It is this machine's already, or the kernel refuses it.
    pub fn put_on(
        &mut self,
        virtual_address: IpAddr,
        host_address: IpAddr,
    ) -> Result<(), PutOnError> {
        let (interface, is_new) = match virtual_address {
            IpAddr::V4(address) => {
                if self.is_a_stranger_s(address)? {
                    return Err(PutOnError::Taken(virtual_address));
                }
                (LO, false)
            }
            IpAddr::V6(address) => self.put_on_card(address, host_address)?,
        };
        self.lead_to(virtual_address, host_address, interface, is_new).map_err(|source| {
            if is_new {
                // Nobody will hold it, so nobody would take it off.
                self.take_off(virtual_address).ok();
            }
            PutOnError::Kernel { address: virtual_address, source }
        })
    }

    /// Makes the local route of a virtual address. `is_new`: the kernel has yet to
    /// make one of its own with it.
    fn lead_to(
        &mut self,
        virtual_address: IpAddr,
        host_address: IpAddr,
        interface: u32,
        is_new: bool,
    ) -> io::Result<()> {
        let mut route = route_of(virtual_address, interface);
        route.header.scope =
            if virtual_address.is_ipv4() { RouteScope::Host } else { RouteScope::Universe };
        route.attributes.extend([
            RouteAttribute::PrefSource(host_address.into()),
            RouteAttribute::Metrics(vec![RouteMetric::Mtu(MTU)]),
        ]);
        self.netlink.change(RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_REPLACE)?;
        if virtual_address.is_ipv6() {
            self.displace_kernel_route(virtual_address, interface, is_new)?;
        }
        Ok(())
    }

    /// Removes the local route that the kernel makes with an IPv6 address: a moment
    /// after the address, in a task of its own.
    fn displace_kernel_route(
        &mut self,
        address: IpAddr,
        interface: u32,
        is_new: bool,
    ) -> io::Result<()> {
        for _ in 0..GLANCES {
            let route = RouteNetlinkMessage::DelRoute(kernel_route_of(address, interface));
            match self.netlink.change(route, 0) {
                Err(error) if says_gone(&error) && is_new => std::thread::sleep(GLANCE),
                Err(error) if says_gone(&error) => return Ok(()),
                done => return done,
            }
        }
        // It is the host address's name that suffers, and nothing else.
        tracing::debug!("the kernel has made no local route yet");
        Ok(())
    }

    /// Puts an IPv6 address on the card that has the host address; says which, and
    /// whether it was not there before.
    fn put_on_card(
        &mut self,
        address: Ipv6Addr,
        host_address: IpAddr,
    ) -> Result<(u32, bool), PutOnError> {
        let virtual_address = IpAddr::V6(address);
        let kernel = |source| PutOnError::Kernel { address: virtual_address, source };
        let nets = self.nets().map_err(kernel)?;
        let home = nets.iter().find(|it| it.net.addr() == host_address && !it.ours);
        let home =
            home.ok_or(PutOnError::NoAdapter { address: virtual_address, host_address })?.interface;
        let there: Vec<_> = nets.iter().filter(|it| it.net.addr() == virtual_address).collect();
        if there.iter().any(|it| !it.ours) {
            return Err(PutOnError::Taken(virtual_address));
        }
        if there.iter().any(|it| it.interface == home) {
            return Ok((home, false));
        }
        let mut message = address_of(address, home);
        // Valid for ever, preferred never.
        let mut lifetime = CacheInfo::default();
        lifetime.ifa_valid = u32::MAX;
        message.attributes.extend([
            AddressAttribute::CacheInfo(lifetime),
            // The neighbours were asked before: nobody waits for the kernel's asking.
            AddressAttribute::Flags(AddressFlags::Nodad | AddressFlags::Noprefixroute),
            AddressAttribute::Protocol(PROTOCOL.into()),
        ]);
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        self.netlink.change(RouteNetlinkMessage::NewAddress(message), flags).map_err(kernel)?;
        Ok((home, true))
    }

    /// Virtual addresses that turned out to be another machine's after they were put
    /// on: none, for the kernel asks nobody about a route, and is told not to about
    /// an IPv6 address.
    ///
    /// # Errors
    /// None here.
    pub fn duplicates(&mut self) -> Result<Vec<IpAddr>, ListError> {
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
        let mut message = address_of(address, LO);
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
        let failed = |source| TakeOffError { address, source };
        let mut messages = Vec::new();
        match address {
            IpAddr::V4(_) => messages.push(RouteNetlinkMessage::DelRoute(route_of(address, LO))),
            IpAddr::V6(six) if PRIVATE_IPV6.contains(&six) => {
                messages.push(RouteNetlinkMessage::DelAddress(address_of(six, LO)));
            }
            IpAddr::V6(six) => {
                // Wherever it is: the pool's NIC may be another one by now.
                let ours = self.nets().map_err(failed)?.into_iter();
                let ours = ours.filter(|it| it.ours && it.net.addr() == address);
                messages.extend(
                    ours.map(|it| RouteNetlinkMessage::DelAddress(address_of(six, it.interface))),
                );
                let routes = self.our_routes(AddressFamily::Inet6).map_err(failed)?.into_iter();
                let routes = routes.filter(|(to, _)| *to == address);
                messages.extend(
                    routes.map(|(to, interface)| {
                        RouteNetlinkMessage::DelRoute(route_of(to, interface))
                    }),
                );
            }
        }
        for message in messages {
            match self.netlink.change(message, 0) {
                Err(error) if says_gone(&error) => {}
                done => done.map_err(failed)?,
            }
        }
        Ok(())
    }

    /// All addresses that were put on and not taken off again, by this daemon or by
    /// one that was killed: routes and addresses of [`PROTOCOL`], and
    /// [`PRIVATE_IPV6`] on `lo`.
    ///
    /// # Errors
    /// The kernel does not list them.
    pub fn ours_on_host(&mut self) -> Result<Vec<IpAddr>, ListError> {
        let (routes, addresses) = self.ours()?;
        let all: BTreeSet<IpAddr> = routes.into_iter().chain(addresses).map(|(it, _)| it).collect();
        Ok(all.into_iter().collect())
    }

    /// Those of [`ours_on_host`](Self::ours_on_host) that lack nothing: an IPv6 address
    /// of a network card has its route there, too.
    ///
    /// # Errors
    /// The kernel does not list them.
    pub fn whole(&mut self) -> Result<Vec<IpAddr>, ListError> {
        let (routes, addresses) = self.ours()?;
        let ipv4 = routes.iter().filter(|(address, _)| address.is_ipv4());
        let ipv6 = addresses.iter().filter(|it| it.1 == LO || routes.contains(it));
        Ok(ipv4.chain(ipv6).map(|(address, _)| *address).collect())
    }

    /// Our routes, and our addresses, each with its interface.
    fn ours(&mut self) -> Result<(Places, Places), ListError> {
        let failed = |source| ListError { what: "local routes", source };
        let mut routes = Places::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            match self.our_routes(family) {
                Ok(ours) => routes.extend(ours),
                Err(error) if family == AddressFamily::Inet6 && says_no_ipv6(&error) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let nets = self.nets().map_err(failed)?.into_iter().filter(|it| it.ours);
        Ok((routes, nets.map(|it| (it.net.addr(), it.interface)).collect()))
    }

    /// Where our routes lead, and by which interface.
    fn our_routes(&mut self, family: AddressFamily) -> io::Result<Vec<(IpAddr, u32)>> {
        let mut filter = RouteMessage::default();
        filter.header.address_family = family;
        filter.header.table = LOCAL_TABLE;
        filter.header.protocol = RouteProtocol::Other(PROTOCOL);
        let routes = self.netlink.list(&RouteNetlinkMessage::GetRoute(filter))?;
        Ok(routes.into_iter().filter_map(our_destination).collect())
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
    fn nets(&mut self) -> io::Result<Vec<Listed>> {
        let all = self.netlink.list(&RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
        Ok(all.into_iter().filter_map(listed).collect())
    }
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
