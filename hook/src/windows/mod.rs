//! The hook on Windows: what the daemon and the DLL share.
//!
//! [`shared`] is the published section, [`inject`] gets the DLL into a process,
//! [`mark`] tells a process that it descends from a listed one, [`mailslot`] is
//! how processes report, [`process`] what is known of one.
//!
//! The DLL itself is the package in `hook/dll`.

pub mod inject;
pub mod mailslot;
pub mod mark;
pub mod process;
pub mod shared;
pub mod trust;

/// The name of the DLL; it lies beside the daemon's executable.
pub const DLL: &str = "sessionip_hook.dll";

/// Text as Windows takes it: UTF-16 that ends in a zero.
pub fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}
