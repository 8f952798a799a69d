//! How do the system's answers about names and addresses lie in memory?
//!
//! Each kind is a [`List`](crate::names::List), made from what a function of the
//! system has just written for the caller. Nothing is allocated or freed in it: rows
//! change places and addresses, and lists end sooner. Structs need not be aligned:
//! in 32-bit programs buffers often are not.

mod adapters;
mod address;
mod hosts;
mod infos;
mod sockets;
mod tables;

pub use adapters::{Chain, adapters};
pub use address::{address_at, give_at};
pub use hosts::Host;
pub use infos::{Infos, Shape};
pub use sockets::{Addresses, Interfaces, One, addresses, interfaces};
pub use tables::{Strings, Table, adapter_infos, ip_addresses, unicast_addresses};

/// A list of the system's with more rows than this is not edited further: it has no
/// end.
const MOST: usize = 65_536;
