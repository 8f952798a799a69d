//! The companion hook: how two sessions can listen on the same port.
//!
//! [`decide`] says which address a bind gets, and [`source`] which one a conversation
//! leaves from, on every platform alike.
//!
//! On Linux the hook is an eBPF object, compiled from `bpf/` when the crate is
//! built, and the layout of the maps through which the daemon talks to it.
//!
//! On Windows it is this crate as a DLL in the programs of the sessions. It
//! reads what the daemon publishes in [`section`] and tells by a [`report`]
//! what it did. What the host's own name stands for in a program is in [`names`].

#![warn(clippy::indexing_slicing, reason = "it runs inside other people's programs")]

pub mod decide;
pub mod digest;
pub mod guard;
#[cfg(target_os = "linux")]
pub mod layout;
pub mod names;
pub mod refusal;
pub mod report;
pub mod script;
pub mod section;
pub mod source;
#[cfg(windows)]
pub mod windows;

/// The eBPF object: an ELF file with BTF, CO-RE relocations and maps.
#[cfg(target_os = "linux")]
pub static OBJECT: &[u8] = &ALIGNED.0;

/// Changes whenever the layout of the maps does.
#[cfg(target_os = "linux")]
pub const LAYOUT: &str = env!("SESSIONIP_HOOK_LAYOUT");

/// ELF is read in place, which takes the alignment of its widest field.
#[cfg(target_os = "linux")]
#[repr(align(8))]
struct Aligned<T: ?Sized>(T);

#[cfg(target_os = "linux")]
static ALIGNED: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/hook.bpf.o")));
