//! What is to be done with a packet of a conversation that nobody has met yet?
//!
//! DESIGN.md's table, row by row: what is left alone whatever its owner here,
//! what goes out in [`outward`], what comes in in [`inward`]. Pure: it asks the
//! tables it is given, and changes none of them.

#![warn(clippy::indexing_slicing, reason = "nothing that strangers send may panic")]

mod inward;
mod outward;

use crate::address::PRIVATE_IPV6;
use crate::engine::{Begun, Facts, Host};
use crate::flow::{Begin, Face, FlowTable, Key, Pair};
use crate::owner::{Bound, Owner, Receiver, Sockets};
use crate::packet::{Endpoint, Protocol, TcpFlags};
use crate::policy::Policy;
use crate::session::SessionId;
use crate::verdict::Reason;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A packet of TCP or UDP, or a ping, seen from this host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conversation {
    pub(crate) protocol: Protocol,
    pub(crate) pair: Pair,
    pub(crate) tcp: TcpFlags,
}

impl Conversation {
    /// It may be the first packet of its conversation.
    fn opens(&self) -> bool {
        self.protocol != Protocol::Tcp || self.tcp.syn && !self.tcp.ack
    }

    /// One of its ends is a loopback address.
    fn is_of_localhost(&self) -> bool {
        self.pair.local.address.is_loopback() || self.pair.remote.address.is_loopback()
    }

    /// It may have no socket: a reset, or the kernel's own answer in the name
    /// of a socket that is not there yet or not any more.
    fn may_be_sockless(&self) -> bool {
        !self.opens() || self.tcp.rst
    }
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Decision {
    /// A flow begins, and its packets go on as it says.
    Begin(Begin),
    /// It goes on as it is, and nothing is recorded: its next packet will be
    /// seen in the same light.
    Pass(Reason),
    /// It goes nowhere.
    Drop(Reason),
    /// Its owner may be known in a moment.
    Hold,
    /// Nobody can say whose it is.
    Unowned,
    /// No port is left for it on the wire.
    NoPort,
}

/// What may be asked about a packet.
pub(crate) struct Question<'a, S> {
    pub(crate) host: &'a Host,
    pub(crate) policy: &'a Policy,
    pub(crate) flows: &'a FlowTable,
    pub(crate) sockets: &'a mut S,
    pub(crate) facts: &'a Facts,
    /// Whose ping the packet is, if it is one.
    pub(crate) pinger: Option<Owner>,
}

impl<S: Sockets> Question<'_, S> {
    /// A packet that leaves a socket of this host: the X rows, then the O rows.
    pub(crate) fn leaving(&mut self, packet: &Conversation) -> Decision {
        let left_alone = self.left_alone(packet);
        // Who asks for a private IPv6 address may do so from one.
        let asks_private = is_private(packet.pair.remote.address);
        if left_alone.is_none() && (packet.is_of_localhost() || asks_private) {
            return self.localhost(packet);
        }
        left_alone.unwrap_or_else(|| self.outward(packet))
    }

    /// A packet that a socket of this host is to get: the X rows, then the I rows.
    pub(crate) fn arriving(&mut self, packet: &Conversation) -> Decision {
        let left_alone = self.left_alone(packet);
        if left_alone.is_none() && packet.is_of_localhost() {
            return Decision::Pass(Reason::HostLocal);
        }
        left_alone.unwrap_or_else(|| self.inward(packet))
    }

    /// X4.
    fn left_alone(&self, packet: &Conversation) -> Option<Decision> {
        let Pair { local, remote } = packet.pair;
        if is_for_many(self.host, local.address)
            || is_for_many(self.host, remote.address)
            || is_link_local(local.address)
            || is_link_local(remote.address)
            || packet.protocol == Protocol::Udp && DHCP.contains(&local.port)
        {
            return Some(Decision::Pass(Reason::Excluded));
        }
        if self.policy.excludes(packet.protocol, local.port) {
            return Some(self.unchanged(packet, Reason::Excluded, None));
        }
        None
    }

    /// Among the loopback addresses: the place of O3, O4 and O6.
    fn localhost(&mut self, packet: &Conversation) -> Decision {
        let Pair { local, remote } = packet.pair;
        let left = Decision::Pass(Reason::HostLocal);
        let asked = LOCALHOST.contains(&remote.address);
        let is_on = self.policy.is_enabled() || !self.host.loopbacks.is_empty();
        if self.host.moved.is_empty() || !packet.opens() || !is_on {
            return left;
        }
        if !asked {
            return self.at_a_loopback(packet).unwrap_or(left);
        }
        // An answer of a session's server, which its flow leads on.
        if self.is_known(Face::Outside, packet.protocol, &packet.pair.turned()) {
            return left;
        }
        let Some(owner) = self.sockets.owner(packet.protocol, local, remote) else {
            return self.ownerless(packet);
        };
        // O3, and O4 whatever the program: localhost stays intact.
        let reason = match self.policy.has_own_loopback(&owner) {
            true => Reason::SessionLoopback,
            false => Reason::OwnServer,
        };
        match owner.session.and_then(|session| self.moved_server(packet, session)) {
            // The server sees localhost, as it would without us.
            Some(server) if server.address.is_loopback() => self.led(packet, server, reason, owner),
            Some(server) => self.translated(packet, server.address, server, reason, owner),
            None => self.opened(packet, Reason::HostLocal, owner),
        }
    }

    /// Where the hook moved the session's server to that is asked for at
    /// localhost: the session's loopback goes before its virtual address.
    fn moved_server(&self, packet: &Conversation, session: SessionId) -> Option<Endpoint> {
        let Endpoint { address, port } = packet.pair.remote;
        let tables = [self.host.loopbacks.get(&session), self.host.sessions.get(&session)];
        let addresses = tables.into_iter().flatten().filter_map(|its| its.like(address));
        addresses
            .map(|address| Endpoint::new(address, port))
            .find(|server| self.host.moved.contains(&(packet.protocol, *server)))
    }

    /// O6. `None`: nobody's loopback is asked for, or nobody listens there.
    fn at_a_loopback(&mut self, packet: &Conversation) -> Option<Decision> {
        let Pair { local, remote } = packet.pair;
        if !self.policy.isolation.loopback || !self.host.moved.contains(&(packet.protocol, remote))
        {
            return None;
        }
        let holder = self.host.loopback_holder(remote.address)?;
        let Some(owner) = self.sockets.owner(packet.protocol, local, remote) else {
            return Some(self.ownerless(packet));
        };
        let foreign = owner.session.is_some_and(|session| session != holder);
        foreign.then_some(Decision::Drop(Reason::ForeignLoopback))
    }

    /// A flow that goes to `server`, and keeps its source.
    fn led(
        &self,
        packet: &Conversation,
        server: Endpoint,
        reason: Reason,
        owner: Owner,
    ) -> Decision {
        let outside = Pair { local: packet.pair.local, remote: server };
        if self.is_known(Face::Outside, packet.protocol, &outside) {
            return Decision::NoPort;
        }
        let mut begin = self.begin(packet, packet.pair, outside, reason, Some(owner));
        begin.opened_here = true;
        Decision::Begin(begin)
    }

    /// It has been translated from its first packet on, which is long gone. What
    /// is known of an echo id may be another session's.
    fn is_rebuilt(&self, packet: &Conversation) -> bool {
        let told = self.facts.begun == Begun::Translated && !packet.tcp.syn;
        told && packet.protocol != Protocol::Icmp
    }

    /// Who owns the socket that sent it.
    fn sender(&mut self, packet: &Conversation) -> Option<Owner> {
        let Pair { local, remote } = packet.pair;
        match packet.protocol {
            Protocol::Tcp | Protocol::Udp => self.sockets.owner(packet.protocol, local, remote),
            Protocol::Icmp => self.pinger.take(),
        }
    }

    /// X6: nobody knows the owner yet.
    fn ownerless(&self, packet: &Conversation) -> Decision {
        if packet.may_be_sockless() {
            Decision::Pass(Reason::UnknownOwner)
        } else if packet.protocol != Protocol::Icmp && self.facts.held < self.policy.hold {
            Decision::Hold
        } else {
            Decision::Unowned
        }
    }

    /// A flow that goes on as it came, to its end.
    pub(crate) fn unchanged(
        &self,
        packet: &Conversation,
        reason: Reason,
        owner: Option<Owner>,
    ) -> Decision {
        Decision::Begin(self.begin(packet, packet.pair, packet.pair, reason, owner))
    }

    fn begin(
        &self,
        packet: &Conversation,
        inside: Pair,
        outside: Pair,
        reason: Reason,
        owner: Option<Owner>,
    ) -> Begin {
        let address = outside.local.address;
        let session = match self.host.in_pool(address) {
            true => self.host.holder(address),
            false => owner.as_ref().and_then(|owner| owner.session),
        };
        let rebuilt = !packet.opens();
        Begin {
            protocol: packet.protocol,
            inside,
            outside,
            reason,
            owner,
            session,
            opened_here: false,
            rebuilt,
        }
    }

    /// The socket bound to exactly `local` that would take a packet from `remote`.
    /// Pings are the host's own to answer.
    fn bound(&mut self, protocol: Protocol, local: Endpoint, remote: Endpoint) -> Option<Receiver> {
        if protocol == Protocol::Icmp {
            return None;
        }
        let receiver = self.sockets.receiver(protocol, local, remote)?;
        (receiver.bound == Bound::Address).then_some(receiver)
    }

    /// As [`bound`](Self::bound), where it is of that session.
    fn bound_by(
        &mut self,
        session: SessionId,
        protocol: Protocol,
        local: Endpoint,
        remote: Endpoint,
    ) -> Option<Receiver> {
        let receiver = self.bound(protocol, local, remote)?;
        (receiver.owner.session == Some(session)).then_some(receiver)
    }

    fn is_known(&self, face: Face, protocol: Protocol, pair: &Pair) -> bool {
        self.flows.find(&Key::new(face, protocol, pair)).is_some()
    }
}

/// What programs mean by this host.
const LOCALHOST: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// DHCP talks before there are addresses (RFC 2131, section 4.1; RFC 8415,
/// section 7.2): clients and servers, IPv4 and IPv6.
const DHCP: [u16; 4] = [67, 68, 546, 547];

/// Multicast, broadcast, or nobody at all.
pub(crate) fn is_for_many(host: &Host, address: IpAddr) -> bool {
    let limited = match address {
        IpAddr::V4(address) => address.is_broadcast(),
        IpAddr::V6(_) => false,
    };
    limited
        || address.is_multicast()
        || address.is_unspecified()
        || host.broadcast.contains(&address)
}

/// A session's own IPv6 loopback, which leads nowhere else.
fn is_private(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if PRIVATE_IPV6.contains(&address))
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}
