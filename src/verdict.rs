//! What happens to a packet, and why.
//!
//! [`Reason`] is the one word of DESIGN.md's packet table for it: metric label,
//! event id, column of `flows`, capture comment and test assertion are this word.

use std::fmt;

/// What is to be done with a packet. The reason always comes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Goes on as it came.
    Pass(Reason),
    /// Its bytes were changed in place; goes on as it is now.
    Rewrite(Reason),
    /// Its owner is not known yet: keep it and ask again, until the deadline.
    Hold,
    /// Goes nowhere.
    Drop(Reason),
}

impl Verdict {
    /// Why.
    pub fn reason(self) -> Reason {
        match self {
            Self::Pass(reason) | Self::Rewrite(reason) | Self::Drop(reason) => reason,
            Self::Hold => Reason::Held,
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $sentence:literal])+ $variant:ident = $word:literal,)+) => {
        /// Why a packet met its verdict: one word each, and a sentence for people.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason { $($(#[doc = $sentence])+ $variant,)+ }

        impl Reason {
            /// Every reason, in the order of their discriminants.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word, as it stands in DESIGN.md, metrics, columns and tests.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// A sentence for an administrator.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => concat!($($sentence),+).trim_ascii()),+ }
            }
        }
    };
}

reasons! {
    /// The session's program opened the conversation: it leaves from the session's virtual address.
    SessionSource = "session-source",
    /// The destination is this host and the session listens there itself: it finds its own server.
    OwnServer = "own-server",
    /// 127.0.0.1 became the session's own loopback.
    SessionLoopback = "session-loopback",
    /// The source is an address that another session, or nobody, holds.
    ForeignSource = "foreign-source",
    /// The destination is another session's loopback.
    ForeignLoopback = "foreign-loopback",
    /// No session owns the socket: services, the kernel, the console.
    NoSession = "no-session",
    /// The program is not on the program list.
    NotListed = "not-listed",
    /// The program is excepted from the program list.
    Excepted = "excepted",
    /// The source belongs to another network card than the pool's.
    OtherInterface = "other-interface",
    /// Between two addresses of this host, and the session does not listen there.
    HostLocal = "host-local",
    /// A socket is bound to the virtual address itself.
    Bound = "bound",
    /// The session listens on the host address only: the packet is led there.
    ListenAddress = "listen-address",
    /// A listener of the session or of the host accepts every address.
    Wildcard = "wildcard",
    /// Only another session's wildcard listener would have taken it.
    ForeignListener = "foreign-listener",
    /// It was sent to the host address and a session listens there.
    AskedHost = "asked-host",
    /// Nobody listens: the host answers as for any closed port.
    Closed = "closed",
    /// A fragment of a datagram to or from a virtual address.
    Fragment = "fragment",
    /// Multicast, broadcast, DHCP, link-local, or an excluded port.
    Excluded = "excluded",
    /// TCP with MD5 or AO, or IPsec: a rewrite would break its signature.
    Authenticated = "authenticated",
    /// The owner is not known yet: the packet waits for it.
    Held = "held",
    /// The owner was still unknown when the deadline passed.
    HeldTooLong = "held-too-long",
    /// Nobody could say whose packet this is.
    UnknownOwner = "unknown-owner",
    /// The session has no address: the pool was empty at its logon.
    Exhausted = "exhausted",
    /// The session has no IPv6 address.
    NoIpv6 = "no-ipv6",
    /// The host did it on behalf of a program: it leaves from the host address.
    HostService = "host-service",
    /// It cannot be parsed.
    Malformed = "malformed",
    /// A table is full.
    TableFull = "table-full",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// How many packets met each reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reasons([u64; Reason::ALL.len()]);

impl Default for Reasons {
    fn default() -> Self {
        Self([0; Reason::ALL.len()])
    }
}

impl Reasons {
    /// One more of `reason`.
    pub fn count(&mut self, reason: Reason) {
        self.add(reason, 1);
    }

    /// So many more of `reason`.
    pub fn add(&mut self, reason: Reason, more: u64) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count += more;
        }
    }

    /// Every reason with its count, zeroes included.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.iter().copied().zip(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_unique_and_indices_are_dense() {
        let mut words: Vec<_> = Reason::ALL.iter().map(|r| r.word()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Reason::ALL.len());
        for (i, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, i);
        }
    }
}
