//! What is a packet, as far as translation goes?

use super::{Endpoint, Protocol};
use std::net::IpAddr;

/// What a packet is, and between whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// TCP or UDP, whole.
    Transport {
        /// Which of the two.
        protocol: Protocol,
        /// Who sent it.
        source: Endpoint,
        /// Who is to get it.
        destination: Endpoint,
        /// All false for UDP.
        tcp: TcpFlags,
    },
    /// An ICMP error about a TCP or UDP packet or a ping; that packet's ends are
    /// as they were when it was sent.
    IcmpError {
        /// Who reports it: the far end, or a router on the way.
        source: IpAddr,
        /// Who is told: as a rule, who sent the packet quoted.
        destination: IpAddr,
        /// The quoted packet's.
        protocol: Protocol,
        /// Who sent the packet quoted.
        quoted_source: Endpoint,
        /// Who was to get the packet quoted.
        quoted_destination: Endpoint,
    },
    /// A ping or the answer to one.
    Echo {
        /// Who sent it.
        source: IpAddr,
        /// Who is to get it.
        destination: IpAddr,
        /// What the asking process chose, and the answer repeats.
        id: u16,
        /// It asks.
        request: bool,
    },
    /// A packet that is not a whole datagram; first fragments too.
    Fragment {
        /// Who sent it.
        source: IpAddr,
        /// Who is to get it.
        destination: IpAddr,
    },
    /// Its addresses are signed: AH and ESP, TCP with MD5 (RFC 2385) or with the
    /// authentication option (RFC 5925).
    Authenticated {
        /// Who sent it.
        source: IpAddr,
        /// Who is to get it.
        destination: IpAddr,
    },
    /// Every other protocol; ICMP that is neither error nor echo, and errors
    /// about anything but TCP, UDP and echo; source-routed packets, whose
    /// checksum is not over the destination in the header.
    Other {
        /// Who sent it.
        source: IpAddr,
        /// Who is to get it.
        destination: IpAddr,
    },
}

impl Content {
    /// The protocol of what has ends of its own that can be set.
    pub(crate) const fn protocol(self) -> Option<Protocol> {
        match self {
            Self::Transport { protocol, .. } => Some(protocol),
            Self::Echo { .. } => Some(Protocol::Icmp),
            Self::IcmpError { .. }
            | Self::Fragment { .. }
            | Self::Authenticated { .. }
            | Self::Other { .. } => None,
        }
    }

    /// Source and destination in the IP header.
    pub(super) const fn ends(self) -> (IpAddr, IpAddr) {
        match self {
            Self::Transport { source, destination, .. } => (source.address, destination.address),
            Self::IcmpError { source, destination, .. }
            | Self::Echo { source, destination, .. }
            | Self::Fragment { source, destination }
            | Self::Authenticated { source, destination }
            | Self::Other { source, destination } => (source, destination),
        }
    }
}

/// The TCP flags by which a connection begins and ends (RFC 9293, section 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags {
    /// It opens the connection.
    pub syn: bool,
    /// It acknowledges something: set on all but the first packet.
    pub ack: bool,
    /// Its sender has nothing more to say.
    pub fin: bool,
    /// It ends the connection at once.
    pub rst: bool,
}
