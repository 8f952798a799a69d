//! Who is logged on?
//!
//! A platform supplies [`Sessions`], [`Watcher`], which tells of logons and
//! logoffs, [`UserId`], [`Scope`]: what a session is to the system, and
//! [`LAST_LOOPBACK`], the last loopback address that a session can have.

#[cfg(target_os = "linux")]
pub mod linux;

#[cfg(target_os = "linux")]
pub use linux::{LAST_LOOPBACK, Scope, Sessions, SessionsError, UserId, Watcher};

#[cfg(windows)]
pub mod windows;

#[cfg(windows)]
pub use windows::{LAST_LOOPBACK, Scope, Sessions, SessionsError, UserId, Watcher};

use crate::config::Mapping;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;

/// A login session's number: logind's, or the one `exec --session N` was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub u32);

impl SessionId {
    /// The session loopback (L), another one for each session: 127.0.0.8 for
    /// session 7. `None`: it would be 127.0.0.1 itself, or lie beyond
    /// [`LAST_LOOPBACK`].
    pub fn loopback(self, mapping: Mapping) -> Option<Ipv4Addr> {
        let host = match mapping {
            Mapping::SessionPlusOne => self.0.checked_add(1)?,
            // Its last octet is never 0.
            Mapping::Microsoft => (self.0 / 255).checked_mul(256)? + self.0 % 255 + 1,
        };
        let address = Ipv4Addr::from_bits(0x7f00_0000_u32.checked_add(host)?);
        (address > Ipv4Addr::LOCALHOST && address <= LAST_LOOPBACK).then_some(address)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A login session of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its number, its own while it lives.
    pub id: SessionId,
    /// Whose it is.
    pub user: User,
    /// When it began; the same after a restart of the daemon.
    pub since: Timestamp,
    /// What it is to the system; tells two sessions apart that had one number.
    pub scope: Scope,
}

/// A user of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// As the system knows him.
    pub id: UserId,
    /// The name; the id in text where nobody knows a name.
    pub name: String,
}

impl User {
    /// Is this his name, with or without the domain? Windows' names are the same in
    /// any case, and Linux' have no domain.
    pub fn is_called(&self, name: &str) -> bool {
        let alone = self.name.rsplit('\\').next();
        [Some(self.name.as_str()), alone].iter().flatten().any(|its| its.eq_ignore_ascii_case(name))
    }
}

/// What happened to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is logged on.
    Started(Session),
    /// It is over.
    Ended(SessionId),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Id, 127.0.0.0 + id + 1, and as RD IP Virtualization counts.
    const LOOPBACKS: [(u32, &str, &str); 19] = [
        (0, "-", "-"),
        (1, "127.0.0.2", "127.0.0.2"),
        (7, "127.0.0.8", "127.0.0.8"),
        (51, "127.0.0.52", "127.0.0.52"),
        (52, "127.0.0.53", "127.0.0.53"),
        (53, "127.0.0.54", "127.0.0.54"),
        (253, "127.0.0.254", "127.0.0.254"),
        (254, "127.0.0.255", "127.0.0.255"),
        (255, "127.0.1.0", "127.0.1.1"),
        (256, "127.0.1.1", "127.0.1.2"),
        (510, "127.0.1.255", "127.0.2.1"),
        (511, "127.0.2.0", "127.0.2.2"),
        (65_534, "127.0.255.255", "127.1.0.255"),
        (65_535, "127.1.0.0", "127.1.1.1"),
        (65_536, "127.1.0.1", "127.1.1.2"),
        (16_711_679, "127.255.0.0", "127.255.255.255"),
        (16_777_213, "127.255.255.254", "-"),
        (16_777_214, "127.255.255.255", "-"),
        (16_777_215, "-", "-"),
    ];

    #[test]
    fn session_loopbacks_carry_and_end() {
        for (id, plus_one, microsoft) in LOOPBACKS {
            for (mapping, expected) in
                [(Mapping::SessionPlusOne, plus_one), (Mapping::Microsoft, microsoft)]
            {
                let expected = expected.parse::<Ipv4Addr>().ok();
                let expected = expected.filter(|address| *address <= LAST_LOOPBACK);
                assert_eq!(SessionId(id).loopback(mapping), expected, "{id} {mapping:?}");
            }
        }
        for mapping in [Mapping::SessionPlusOne, Mapping::Microsoft] {
            assert_eq!(SessionId(u32::MAX).loopback(mapping), None);
            assert_eq!(SessionId(16_777_213 + (1 << 24)).loopback(mapping), None);
        }
    }

    #[test]
    fn no_two_sessions_share_a_loopback() {
        for mapping in [Mapping::SessionPlusOne, Mapping::Microsoft] {
            let given = (0..1 << 24).filter_map(|id| SessionId(id).loopback(mapping));
            assert!(given.is_sorted_by(|one, next| one < next), "{mapping:?}");
        }
    }
}
