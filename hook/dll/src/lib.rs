//! The companion hook in a program of a session.
//!
//! Two functions of the system are detoured: `bind`, which may go on with
//! another address, and the one that makes processes, so that children carry
//! the hook too; with `scope = "connect"` those of [`scope`] as well. Nothing here waits for the daemon, writes to the program's
//! output, or lets a failure of ours become the program's: on any doubt a call
//! goes on as it was made.

#![cfg(windows)]
#![warn(clippy::indexing_slicing, reason = "it runs inside other people's programs")]

mod bind;
mod caller;
mod children;
mod connect;
mod datagram;
mod detour;
mod entry;
mod identity;
mod ioctl;
mod name;
mod names;
mod own_mark;
mod published;
mod scope;
mod socket;
mod told;
