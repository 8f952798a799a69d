//! Sessions in a real cgroup tree, virtual addresses in real network namespaces.
//!
//! As root, on a machine with cgroup v2 and iproute2. Everything is made in
//! a folder and in namespaces of the test's own.

#![cfg(target_os = "linux")]
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test: it waits in real time, and panics when something is wrong"
)]

#[path = "session/address.rs"]
mod address;
#[path = "session/namespace.rs"]
mod namespace;
#[path = "session/scopes.rs"]
mod scopes;
