//! What becomes of the first packet that arrives: the I rows.

use super::{Conversation, Decision, Question};
use crate::flow::{Face, Pair};
use crate::owner::{Bound, Owner, Receiver, Sockets};
use crate::packet::{Endpoint, Protocol};
use crate::session::SessionId;
use crate::verdict::Reason;

impl<S: Sockets> Question<'_, S> {
    pub(super) fn inward(&mut self, packet: &Conversation) -> Decision {
        let Pair { local, remote } = packet.pair;
        if self.host.in_pool(local.address) {
            return match self.host.holder(local.address) {
                Some(holder) => self.at_virtual_address(packet, holder),
                None => Decision::Pass(Reason::Closed),
            };
        }
        if !self.host.is_host_address(local.address) {
            return self.unchanged(packet, Reason::OtherInterface, None);
        }
        match self.sockets.receiver(packet.protocol, local, remote) {
            // I6
            Some(Receiver { owner, .. }) => {
                let asked =
                    if owner.session.is_some() { Reason::AskedHost } else { Reason::NoSession };
                self.unchanged(packet, asked, Some(owner))
            }
            None => Decision::Pass(Reason::Closed),
        }
    }

    /// I2 to I5 and I7. What nobody listens to is not recorded: a scan of closed
    /// ports shall not fill the table.
    fn at_virtual_address(&mut self, packet: &Conversation, holder: SessionId) -> Decision {
        let Pair { local, remote } = packet.pair;
        let guarded = self.policy.isolation.listeners;
        let of_another = |owner: &Owner| owner.session.is_some_and(|session| session != holder);
        let wildcard = match self.sockets.receiver(packet.protocol, local, remote) {
            Some(Receiver { bound: Bound::Address, owner }) => {
                if guarded && of_another(&owner) {
                    return Decision::Drop(Reason::ForeignListener);
                }
                return self.unchanged(packet, Reason::Bound, Some(owner)); // I2
            }
            Some(Receiver { bound: Bound::Wildcard, owner }) => Some(owner),
            None => None,
        };
        match wildcard {
            // I4
            Some(owner) if packet.opens() && !of_another(&owner) => self.at_wildcard(packet, owner),
            // I3. What does not open a connection is looked for here first: it is
            // one that began translated, before this table did.
            wildcard => match (self.at_host_address(packet, holder), wildcard) {
                (Some((inside, owner)), _) => {
                    self.turned(packet, inside, Reason::ListenAddress, owner)
                }
                (None, Some(owner)) if guarded && of_another(&owner) => {
                    Decision::Drop(Reason::ForeignListener) // I5
                }
                (None, Some(owner)) => self.at_wildcard(packet, owner),
                (None, None) => Decision::Pass(Reason::Closed), // I7
            },
        }
    }

    /// The holder's own socket at a host address.
    fn at_host_address(
        &mut self,
        packet: &Conversation,
        holder: SessionId,
    ) -> Option<(Endpoint, Owner)> {
        let Pair { local, remote } = packet.pair;
        self.host.host_addresses_like(local.address).find_map(|address| {
            let inside = Endpoint::new(address, local.port);
            let receiver = self.bound_by(holder, packet.protocol, inside, remote)?;
            Some((inside, receiver.owner))
        })
    }

    /// I4. A TCP listener's connection is bound to the address that was asked. A
    /// UDP answer would leave from the host address, and from the virtual one
    /// only where the question is turned as well: by that its answers are known
    /// again, a host service's too.
    fn at_wildcard(&mut self, packet: &Conversation, owner: Owner) -> Decision {
        let Pair { local, remote } = packet.pair;
        let host_address = self.host.host_addresses_like(local.address).next();
        match host_address.map(|address| Endpoint::new(address, local.port)) {
            Some(inside)
                if packet.protocol == Protocol::Udp
                    && self.bound(packet.protocol, inside, remote).is_none() =>
            {
                self.turned(packet, inside, Reason::Wildcard, owner)
            }
            _ => self.unchanged(packet, Reason::Wildcard, Some(owner)),
        }
    }

    /// A flow that arrives at `inside`. Where the same two ends talk there
    /// already, its answers could not be told apart: it goes on as it is.
    fn turned(
        &self,
        packet: &Conversation,
        inside: Endpoint,
        reason: Reason,
        owner: Owner,
    ) -> Decision {
        let inside = Pair { local: inside, remote: packet.pair.remote };
        if self.is_known(Face::Inside, packet.protocol, &inside) {
            return Decision::Pass(reason);
        }
        Decision::Begin(self.begin(packet, inside, packet.pair, reason, Some(owner)))
    }
}
