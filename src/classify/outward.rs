//! What becomes of the first packet that leaves: the O rows.

use super::{Conversation, Decision, Question};
use crate::config::{Ipv6WithoutLease, WhenExhausted};
use crate::flow::{Face, Pair};
use crate::owner::{Owner, Sockets};
use crate::packet::{Endpoint, Protocol};
use crate::policy::Listing;
use crate::session::SessionId;
use crate::verdict::Reason;
use std::net::IpAddr;

/// How many ports are tried on the wire. Each costs a look at the host's sockets.
const PORTS_TRIED: usize = 64;

/// The last port that only privileged programs may use.
const LAST_PRIVILEGED: u16 = 1023;

impl<S: Sockets> Question<'_, S> {
    pub(super) fn outward(&mut self, packet: &Conversation) -> Decision {
        let local = packet.pair.local;
        let from_pool = self.host.in_pool(local.address);
        if !from_pool && !self.host.is_host_address(local.address) {
            if local.address.is_ipv6() && self.blocks_ipv6() && packet.opens() {
                return self.with_other_address(packet);
            }
            return self.unchanged(packet, Reason::OtherInterface, None); // O8
        }
        let Some(owner) = self.sender(packet) else {
            return self.ownerless(packet);
        };
        match owner.session {
            // O8. What was translated for a host service (I4) is not recorded as
            // anything else: its next question will say from where to answer.
            None if self.is_rebuilt(packet) => Decision::Pass(Reason::NoSession),
            None => self.opened(packet, Reason::NoSession, owner),
            Some(session) if from_pool => self.with_virtual_address(packet, session, owner),
            Some(session) => self.with_host_address(packet, session, owner),
        }
    }

    /// O5, and a socket that is bound to its session's own address.
    fn with_virtual_address(
        &self,
        packet: &Conversation,
        session: SessionId,
        owner: Owner,
    ) -> Decision {
        let own = self.host.holder(packet.pair.local.address) == Some(session);
        if !own && self.policy.isolation.sources {
            return Decision::Drop(Reason::ForeignSource);
        }
        self.opened(packet, Reason::Bound, owner)
    }

    fn with_host_address(
        &mut self,
        packet: &Conversation,
        session: SessionId,
        owner: Owner,
    ) -> Decision {
        let Pair { remote, .. } = packet.pair;
        let rebuilt = self.is_rebuilt(packet);
        let to_host_address = self.host.is_host_address(remote.address);
        // A flow that began translated is not judged by today's list.
        let listing = if rebuilt { Listing::Listed } else { self.policy.program(&owner) };

        if listing == Listing::Excepted {
            return self.opened(packet, Reason::Excepted, owner); // O8
        }
        if to_host_address
            && (packet.opens() || rebuilt)
            && self.policy.is_enabled()
            && let Some(server) = self.own_server(packet, session)
        {
            return self.translated(packet, server.address, server, Reason::OwnServer, owner); // O2
        }
        if listing == Listing::NotListed {
            return self.opened(packet, Reason::NotListed, owner); // O8
        }
        if to_host_address {
            return self.opened(packet, Reason::HostLocal, owner); // O8
        }
        if !packet.opens() && !rebuilt {
            // It began unchanged, before this table did: an answer to who asked
            // the host address (I6), or what would be translated today.
            let reason = if packet.tcp.syn { Reason::AskedHost } else { Reason::SessionSource };
            return self.opened(packet, reason, owner);
        }
        let address = match self.host.sessions.get(&session) {
            Some(addresses) => addresses.like(packet.pair.local.address),
            // Its logon may be on its way to us.
            None if self.facts.held < self.policy.hold => return Decision::Hold,
            None => None,
        };
        match address {
            Some(address) => {
                // O1, O7, and O2 where the session's own address was asked.
                let own = address == remote.address
                    && self.bound_by(session, packet.protocol, remote, packet.pair.local).is_some();
                let reason = if own { Reason::OwnServer } else { Reason::SessionSource };
                self.translated(packet, address, remote, reason, owner)
            }
            // The address it began with is its own no longer.
            None if rebuilt => Decision::Drop(Reason::ForeignSource),
            None => self.without_address(packet, owner),
        }
    }

    fn blocks_ipv6(&self) -> bool {
        self.policy.ipv6_without_lease == Ipv6WithoutLease::Block
    }

    /// X8 goes before O8: what is blocked does not leave by another network card
    /// either, nor from an address that is too new to be known here.
    fn with_other_address(&mut self, packet: &Conversation) -> Decision {
        let Some(owner) = self.sender(packet) else {
            return self.ownerless(packet);
        };
        let addresses = owner.session.map(|session| self.host.sessions.get(&session));
        let has_none = addresses.is_some_and(|it| it.is_none_or(|it| it.ipv6.is_none()));
        if has_none && self.policy.program(&owner) == Listing::Listed {
            return Decision::Drop(Reason::NoIpv6);
        }
        self.opened(packet, Reason::OtherInterface, owner) // O8
    }

    /// X7 and X8: the session was given no address of this IP version.
    fn without_address(&self, packet: &Conversation, owner: Owner) -> Decision {
        if packet.pair.local.address.is_ipv6() {
            if self.blocks_ipv6() {
                return Decision::Drop(Reason::NoIpv6);
            }
            return self.opened(packet, Reason::NoIpv6, owner);
        }
        match self.policy.when_exhausted {
            WhenExhausted::HostAddress => self.opened(packet, Reason::Exhausted, owner),
            WhenExhausted::Block => Decision::Drop(Reason::Exhausted),
        }
    }

    /// Where the session itself listens on the port that was asked for at a host
    /// address.
    fn own_server(&mut self, packet: &Conversation, session: SessionId) -> Option<Endpoint> {
        let Pair { local, remote } = packet.pair;
        let address = self.host.sessions.get(&session)?.like(remote.address)?;
        let server = Endpoint::new(address, remote.port);
        let client = Endpoint::new(address, local.port);
        self.bound_by(session, packet.protocol, server, client)?;
        Some(server)
    }

    /// A flow that goes on as it came, opened by a socket of this host.
    pub(super) fn opened(&self, packet: &Conversation, reason: Reason, owner: Owner) -> Decision {
        let mut begin = self.begin(packet, packet.pair, packet.pair, reason, Some(owner));
        begin.opened_here = true;
        Decision::Begin(begin)
    }

    /// A flow that leaves from `address`, to `remote`.
    pub(super) fn translated(
        &mut self,
        packet: &Conversation,
        address: IpAddr,
        remote: Endpoint,
        reason: Reason,
        owner: Owner,
    ) -> Decision {
        let inside = packet.pair.local;
        let Some(port) = self.port_on_the_wire(packet.protocol, inside, address, remote) else {
            return Decision::NoPort;
        };
        let outside = Pair { local: Endpoint::new(address, port), remote };
        let mut begin = self.begin(packet, packet.pair, outside, reason, Some(owner));
        begin.opened_here = true;
        Decision::Begin(begin)
    }

    /// The inside port where it is free, else the next that is; for UDP the one
    /// by which the socket is known already.
    fn port_on_the_wire(
        &mut self,
        protocol: Protocol,
        inside: Endpoint,
        address: IpAddr,
        remote: Endpoint,
    ) -> Option<u16> {
        if protocol == Protocol::Udp
            && let Some(port) = self.flows.port_of_socket(inside, address)
        {
            return Some(port);
        }
        std::iter::successors(Some(inside.port), |port| Some(port_after(*port)))
            .take(PORTS_TRIED)
            .find(|port| self.is_free(protocol, Endpoint::new(address, *port), inside, remote))
    }

    /// Neither a flow nor a socket uses this endpoint towards `remote`.
    fn is_free(
        &mut self,
        protocol: Protocol,
        outside: Endpoint,
        inside: Endpoint,
        remote: Endpoint,
    ) -> bool {
        let in_use = match protocol {
            Protocol::Tcp | Protocol::Icmp => {
                self.is_known(Face::Outside, protocol, &Pair { local: outside, remote })
            }
            Protocol::Udp => self.flows.is_of_another(outside, inside),
        };
        !in_use && outside != remote && self.bound(protocol, outside, remote).is_none()
    }
}

/// The next port; privileged ones stay among themselves (RFC 4787, REQ-3).
const fn port_after(port: u16) -> u16 {
    match port {
        LAST_PRIVILEGED => 1,
        u16::MAX => LAST_PRIVILEGED + 1,
        port => port + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_stay_on_their_side() {
        let after: Vec<u16> = [1, 1022, 1023, 1024, 40_000, 65_535].map(port_after).into();
        assert_eq!(after, [2, 1023, 1, 1025, 40_001, 1024]);
    }
}
