//! Which cgroup scopes are sessions?
//!
//! A session is a scope of the cgroup v2 tree: one that `exec --session N`
//! opened (`<own parent>/session-N.scope`), or logind's
//! (`user.slice/user-UID.slice/session-ID.scope`). A process cannot leave it by
//! `fork` or `setsid`, and a socket keeps the cgroup it was made in.

mod attribute;
mod layout;
mod logind;
mod number;
mod scope;
mod scopes;
mod sessions;
mod watcher;

pub use layout::{Layout, LayoutError};
pub use scope::{CloseError, EnterError, close_scope, enter_scope, processes};
pub use scopes::{OpenError, Scopes};
pub use sessions::{Sessions, SessionsError};
pub use watcher::{WatchError, Watcher};

use std::net::Ipv4Addr;
use std::path::PathBuf;

/// After it comes 127.255.255.255, the broadcast address of `lo`.
pub const LAST_LOOPBACK: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 254);

/// A user's number.
pub type UserId = u32;

/// The cgroup scope of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Its id: the inode number of its folder.
    pub cgroup: u64,
    /// Its folder.
    pub path: PathBuf,
}

/// The clock of the two shells here, which wait for the kernel.
#[expect(clippy::disallowed_methods, reason = "sessions and their graces live in real time")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}
