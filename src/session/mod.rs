//! Who is logged on?
//!
//! A platform supplies [`Sessions`], [`Watcher`], which tells of logons and
//! logoffs, [`UserId`], and [`Scope`]: what a session is to the system.

#[cfg(target_os = "linux")]
pub mod linux;

#[cfg(target_os = "linux")]
pub use linux::{Scope, Sessions, SessionsError, UserId, Watcher};

#[cfg(windows)]
pub mod windows;

#[cfg(windows)]
pub use windows::{Scope, Sessions, SessionsError, UserId, Watcher};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;

/// A login session's number: logind's, or the one `exec --session N` was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub u32);

impl SessionId {
    /// The session loopback (L): 127.0.0.0 + the number + 1, so that session 7
    /// has 127.0.0.8. `None`: it would lie beyond 127.255.255.254.
    pub fn loopback(self) -> Option<Ipv4Addr> {
        const LAST: u32 = 0x7fff_fffe;
        let address = 0x7f00_0000_u32.checked_add(self.0)?.checked_add(1)?;
        (address <= LAST).then(|| Ipv4Addr::from_bits(address))
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

    #[test]
    fn session_loopbacks_carry_and_end() {
        let of = |id| SessionId(id).loopback();
        assert_eq!(of(7), Some(Ipv4Addr::new(127, 0, 0, 8)));
        assert_eq!(of(254), Some(Ipv4Addr::new(127, 0, 0, 255)));
        assert_eq!(of(255), Some(Ipv4Addr::new(127, 0, 1, 0)));
        assert_eq!(of(16_777_213), Some(Ipv4Addr::new(127, 255, 255, 254)));
        assert_eq!(of(16_777_214), None);
        assert_eq!(of(u32::MAX), None);
    }
}
