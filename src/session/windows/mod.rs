//! Which Windows sessions are logins?
//!
//! A session counts from its logon on, connected or not, until it is logged off.
//! Session 0, where services are, does not, nor does the console, nor a listener.
//! The service's session-change controls ([`poke()`]) say when to look; the sessions
//! themselves are always read from the system (WTS).

mod account;
mod poke;
mod sessions;
#[cfg(test)]
mod stood_in;
mod watcher;
mod wts;

pub use poke::poke;
pub use sessions::Sessions;
pub use watcher::{WatchError as SessionsError, Watcher};

use std::net::Ipv4Addr;

/// The last of 127.0.0.0/8.
pub const LAST_LOOPBACK: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 255);

/// A user's security identifier, as text: `S-1-5-21-...`.
pub type UserId = String;

/// What tells two logins apart that had one session id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// When the user logged on: 100 nanoseconds since 1601 (FILETIME).
    pub logon: i64,
}
