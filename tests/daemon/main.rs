//! Does the daemon do what it promises when it is stopped, killed, asked, misled
//! and reconfigured? The built executable on a network of its own, with programs
//! in sessions. Needs root, iproute2, iptables and python3.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "sentences and times, for who reads the test's output")]

mod actor;
mod connect;
mod control;
mod exec;
mod ipv6;
mod leases;
mod loopback;
mod mending;
mod missing;
mod names;
mod pings;
mod programs;
mod reload;
mod restart;
mod spoken;
mod table;
mod wire;
mod world;
