//! How does the system speak to the daemon, and what does it hear back?
//!
//! A platform supplies [`host`], inside which the daemon runs, [`Orders`] and
//! [`tell`].

#[cfg(target_os = "linux")]
mod linux;
#[cfg(windows)]
pub mod windows;

#[cfg(target_os = "linux")]
pub use linux::{Orders, host, tell};
#[cfg(windows)]
pub use windows::{Orders, host, tell};

/// What the system asks of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Take everything back and end.
    Stop,
    /// Read the configuration file again.
    Reload,
    /// The machine has slept: neighbours are to be told anew who is where.
    Resumed,
}

/// How the daemon is, for whoever started it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Sessions have their addresses from here on.
    Ready,
    /// It is not stuck; said about once a second.
    Alive,
    /// It is taking everything back.
    Stopping,
}
