//! The hook on Windows: what the daemon and the DLL share.
//!
//! [`shared`] is the published section, [`inject`] gets the DLL into a process,
//! [`helper`] into one of the other width, [`mark`] tells a process that it
//! descends from a listed one, [`mailslot`] is how processes report, [`process`]
//! what is known of one, [`command`] how it was started and [`runs`] what lists may
//! know it by, [`names`] how the system's answers lie in memory.
//!
//! The DLL itself is the package in `hook/dll`, the helper the one in
//! `hook/inject`. Each is built for 64-bit and for 32-bit programs, from the same
//! sources; the section is the same for both, made of 32-bit words.

pub mod command;
pub mod deadline;
pub mod helper;
pub mod inject;
pub mod mailslot;
pub mod mark;
pub mod names;
pub mod process;
pub mod runs;
pub mod shared;
pub mod trust;

/// The name of the DLL for programs as wide as the caller; all of them lie beside
/// the daemon's executable.
pub const DLL: &str =
    if cfg!(target_pointer_width = "64") { "sessionip_hook.dll" } else { "sessionip_hook32.dll" };

/// The name of the helper for programs of the other width.
pub const HELPER: &str = if cfg!(target_pointer_width = "64") {
    "sessionip_inject32.exe"
} else {
    "sessionip_inject64.exe"
};

/// Text as Windows takes it: UTF-16 that ends in a zero.
pub fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}
