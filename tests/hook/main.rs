//! The companion hook in a real kernel: what do programs of sessions get?
//!
//! Needs root, a cgroup2 hierarchy, BTF and iproute2. Each test has a network
//! namespace, cgroups and pins of its own, and removes them.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where it fails")]

/// A host with two sessions, and programs in them.
mod lab;

/// Which address does a bind get?
mod bind;
/// Does the kernel answer the table of cases?
mod cases;
/// Which source does a connection get?
mod connect;
mod full;
/// Who may use which address?
mod isolation;
/// What happens when the daemon is killed, restarted, stopped?
mod life;
/// Do programs find the servers of their own session?
mod localhost;
/// Has every session a localhost of its own?
mod loopback;
/// Whose is a socket?
mod owner;
/// Which programs are meant?
mod programs;
/// Does the kernel choose sources by the table of cases?
mod sources;
/// The table of sources.
#[path = "../../hook/tests/sources/table.rs"]
mod sources_table;
/// The table of cases.
#[path = "../../hook/tests/cases/table.rs"]
mod table;
