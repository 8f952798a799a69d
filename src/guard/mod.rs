//! What keeps everybody else out?
//!
//! A platform supplies [`is_administrator`], [`private_folder`] and
//! [`sync_folder`].

#[cfg(target_os = "linux")]
mod linux;
#[cfg(windows)]
pub(crate) mod windows;

#[cfg(all(test, target_os = "linux"))]
pub(crate) use linux::is_private;
#[cfg(target_os = "linux")]
pub use linux::{is_administrator, private_folder, sync_folder};
#[cfg(all(test, windows))]
pub(crate) use windows::is_private;
#[cfg(windows)]
pub use windows::{is_administrator, private_folder, sync_folder};
