//! What is known of one socket?

use crate::owner::Owner;
use crate::packet::{Endpoint, Protocol};
use std::net::IpAddr;
use std::time::Duration;

/// A moment of the clock that socket events are stamped by: 100 nanoseconds
/// since the host was started. It is never set back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// That much later.
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(hundreds_of_nanoseconds(span)))
    }

    /// How long after `earlier` it is; nothing if it is before.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0).saturating_mul(100))
    }

    /// Is it over, by more than `span`, at `now`?
    pub fn is_past(self, span: Duration, now: Self) -> bool {
        self.after(span) < now
    }
}

fn hundreds_of_nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos() / 100).unwrap_or(u64::MAX)
}

/// Something that happened to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub what: What,
    /// When.
    pub at: Moment,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Its own end; `0.0.0.0` and `[::]` are the wildcards.
    pub local: Endpoint,
    /// Its peer, where it has one.
    pub remote: Option<Endpoint>,
    /// Which socket, its own while it lives; 0 where that is not known.
    pub endpoint: u64,
    /// Of an accepted one, its listener; 0 where that is not known.
    pub parent: u64,
    /// The process that did it.
    pub pid: u32,
}

/// What may happen to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It has a local end: by bind, or by the first connect or send without one.
    Bind,
    /// It talks to a peer.
    Connect,
    /// It listens.
    Listen,
    /// It was made by a listener, for a peer.
    Accept,
    /// It is gone, or one of its conversations is.
    Close,
}

/// Who holds a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// As the packet line is told.
    pub owner: Owner,
    /// The session as the system counts them, whether it is a login or not; 0 is
    /// that of the services.
    pub station: u32,
}

impl Holder {
    /// A service or the kernel: who may make one may do anything, as root may.
    pub(super) fn is_the_systems(&self) -> bool {
        self.station == 0
    }
}

/// What a socket without a peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// A TCP socket that does not listen: it takes no packets.
    Idle,
    /// A TCP listener, or a UDP socket.
    Receives,
}

/// A socket that is bound to a port.
#[derive(Clone, Debug)]
pub(super) struct BoundSocket {
    pub(super) local: Endpoint,
    pub(super) stage: Stage,
    pub(super) life: Life,
}

/// A conversation's socket. Its ends are its key.
#[derive(Clone, Debug)]
pub(super) struct PairSocket {
    /// A listener made it.
    pub(super) accepted: bool,
    pub(super) life: Life,
}

/// What both kinds have.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) endpoint: u64,
    pub(super) holder: Holder,
    pub(super) since: Moment,
    /// When an event or the system's table said last that it is there.
    pub(super) confirmed: Moment,
    /// It is gone, and remembered for what it may have sent.
    pub(super) closed: Option<Moment>,
}

impl Life {
    pub(super) fn new(endpoint: u64, holder: Holder, since: Moment) -> Self {
        Self { endpoint, holder, since, confirmed: since, closed: None }
    }

    pub(super) fn is_open(&self) -> bool {
        self.closed.is_none()
    }

    /// An event about this socket, as far as anybody can tell: sockets that were
    /// found in the system's table have no number.
    pub(super) fn is_meant_by(&self, event: &Event) -> bool {
        match (self.endpoint, event.endpoint) {
            (0, _) | (_, 0) => self.holder.owner.pid == event.pid && self.since <= event.at,
            (own, meant) => own == meant,
        }
    }
}

/// How well a bound socket fits an address; more is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    /// `[::]`, to an IPv4 address. Which of them are for IPv6 only is not told,
    /// so that all count as dual-stack, after those that are surely meant.
    OtherFamily,
    Wildcard,
    Address,
}

impl Fit {
    pub(super) fn of(bound: IpAddr, address: IpAddr) -> Option<Self> {
        if bound == address {
            Some(Self::Address)
        } else if !bound.is_unspecified() {
            None
        } else if bound.is_ipv4() == address.is_ipv4() {
            Some(Self::Wildcard)
        } else {
            bound.is_ipv6().then_some(Self::OtherFamily)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exact_address_fits_better_than_a_wildcard() {
        let fit =
            |bound: &str, address: &str| Fit::of(bound.parse().unwrap(), address.parse().unwrap());
        assert_eq!(fit("10.0.0.1", "10.0.0.1"), Some(Fit::Address));
        assert_eq!(fit("10.0.0.1", "10.0.0.2"), None);
        assert_eq!(fit("0.0.0.0", "10.0.0.1"), Some(Fit::Wildcard));
        assert_eq!(fit("0.0.0.0", "fd77::1"), None);
        assert_eq!(fit("::", "fd77::1"), Some(Fit::Wildcard));
        assert_eq!(fit("::", "10.0.0.1"), Some(Fit::OtherFamily));
        assert!(Fit::Address > Fit::Wildcard && Fit::Wildcard > Fit::OtherFamily);
    }

    #[test]
    fn moments_do_not_wrap() {
        let end = Moment(u64::MAX);
        assert_eq!(end.after(Duration::MAX), end);
        assert!(!end.is_past(Duration::ZERO, end));
        assert!(Moment(0).is_past(Duration::from_nanos(100), Moment(2)));
        assert!(!Moment(0).is_past(Duration::from_nanos(100), Moment(1)));
    }
}
