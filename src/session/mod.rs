//! Who is logged on?
//!
//! The platform watches for sessions ([`linux::Watcher`]) and says which one a
//! socket's cgroup belongs to ([`linux::Scopes`]).

pub mod linux;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;

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
    /// Its cgroup's id: the inode number of its scope's folder.
    pub cgroup: u64,
    /// The folder of its scope.
    pub path: PathBuf,
}

/// A user of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The number.
    pub uid: u32,
    /// The name; the number in digits where nobody knows a name.
    pub name: String,
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
