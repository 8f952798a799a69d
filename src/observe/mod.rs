//! What do administrators see of it? Logs, events and numbers; nothing here
//! decides.
//!
//! A platform supplies `lines`, where lines of the log go, and `record`, which
//! puts an [`event`] into the system's own log.

pub mod event;
pub mod log;
pub mod metrics;
mod serve;

#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod platform;
#[cfg(windows)]
#[path = "windows/mod.rs"]
mod platform;

#[cfg(windows)]
pub use platform::source;
pub use serve::serve;
