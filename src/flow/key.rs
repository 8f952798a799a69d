//! By what is a flow found?

use crate::packet::{Endpoint, Protocol};
use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Both ends of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The end on this host.
    pub local: Endpoint,
    /// The other one; on this host too where two of its sockets talk.
    pub remote: Endpoint,
}

impl Pair {
    /// The same conversation as the other end has it.
    pub(crate) const fn turned(self) -> Self {
        Self { local: self.remote, remote: self.local }
    }
}

/// Both ends as numbers, which are compared and hashed without ever leaving the
/// registers. An IPv4 address is a number below 2^32, so that this is not
/// comparable without the [`Kind`], which tells the families apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) local: u128,
    pub(super) remote: u128,
    /// The local port in the upper half, the remote one in the lower.
    pub(super) ports: u32,
}

/// Protocol and address family: the protocol's number, with a bit above all of
/// them for IPv6. It is made for every packet, and so without a branch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind(u8);

impl Kind {
    const IPV6: u8 = 0x80;

    #[inline]
    pub(super) const fn new(protocol: Protocol, address: IpAddr) -> Self {
        let family = if address.is_ipv6() { Self::IPV6 } else { 0 };
        Self(protocol as u8 | family)
    }

    pub(super) const fn protocol(self) -> Protocol {
        const TCP: u8 = Protocol::Tcp as u8;
        const UDP: u8 = Protocol::Udp as u8;
        match self.0 & !Self::IPV6 {
            TCP => Protocol::Tcp,
            UDP => Protocol::Udp,
            _ => Protocol::Icmp,
        }
    }

    #[inline]
    const fn address(self, bits: u128) -> IpAddr {
        match self.0 & Self::IPV6 {
            0 => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
            _ => IpAddr::V6(Ipv6Addr::from_bits(bits)),
        }
    }
}

impl Ends {
    #[inline]
    pub(super) const fn new(pair: &Pair) -> Self {
        Self {
            local: bits(pair.local.address),
            remote: bits(pair.remote.address),
            ports: (pair.local.port as u32) << 16 | pair.remote.port as u32,
        }
    }

    #[inline]
    pub(super) const fn local(&self, kind: Kind) -> Endpoint {
        Endpoint::new(kind.address(self.local), (self.ports >> 16) as u16)
    }

    #[inline]
    pub(super) const fn remote(&self, kind: Kind) -> Endpoint {
        Endpoint::new(kind.address(self.remote), self.ports as u16)
    }

    /// A hash under which `what` this is entered is told apart.
    #[inline]
    fn hash(&self, kind: Kind, what: Entered, mut hasher: impl Hasher) -> u32 {
        hasher.write_u128(self.local);
        hasher.write_u128(self.remote);
        hasher.write_u64(u64::from(self.ports) | u64::from(kind.0) << 32 | (what as u64) << 40);
        hasher.finish() as u32
    }
}

#[inline]
const fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits() as u128,
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// What a flow can be found by.
#[derive(Clone, Copy)]
enum Entered {
    Inside,
    Outside,
    /// Inside local endpoint and outside local address.
    Socket,
    /// Outside local endpoint.
    Endpoint,
}

/// Which of its two pairs a flow is looked for by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    /// As the program's socket has it: what goes out is found by this.
    Inside,
    /// As the wire has it: what comes in is found by this.
    Outside,
}

impl Face {
    #[inline]
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Inside => Self::Outside,
            Self::Outside => Self::Inside,
        }
    }
}

/// What a flow is looked for by, ready to be compared.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    pub(super) face: Face,
    pub(super) kind: Kind,
    pub(super) ends: Ends,
}

impl Key {
    #[inline]
    pub(crate) fn new(face: Face, protocol: Protocol, pair: &Pair) -> Self {
        Self { face, kind: Kind::new(protocol, pair.local.address), ends: Ends::new(pair) }
    }

    #[inline]
    pub(crate) const fn face(&self) -> Face {
        self.face
    }

    #[inline]
    pub(super) fn hash(&self, hasher: impl Hasher) -> u32 {
        let entered = match self.face {
            Face::Inside => Entered::Inside,
            Face::Outside => Entered::Outside,
        };
        self.ends.hash(self.kind, entered, hasher)
    }
}

/// Where a UDP socket's flows are found, by its inside endpoint and the address
/// it has on the wire.
pub(super) fn socket_hash(inside: Endpoint, outside: IpAddr, hasher: impl Hasher) -> u32 {
    let pair = Pair { local: inside, remote: Endpoint::new(outside, 0) };
    Ends::new(&pair).hash(Kind::new(Protocol::Udp, outside), Entered::Socket, hasher)
}

/// Where the UDP flows of one endpoint on the wire are found.
pub(super) fn endpoint_hash(outside: Endpoint, hasher: impl Hasher) -> u32 {
    let nowhere = Endpoint::new(Ipv6Addr::UNSPECIFIED.into(), 0);
    let pair = Pair { local: outside, remote: nowhere };
    Ends::new(&pair).hash(Kind::new(Protocol::Udp, outside.address), Entered::Endpoint, hasher)
}
