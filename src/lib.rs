//! sessionip gives every login session on a multi-user host an IP address of
//! its own, by diverting packets.
//!
//! The line is `divert -> engine { classify -> flow -> translate } -> inject`.
//! Everything else feeds tables that this line reads, or only looks at them.

pub mod address;
pub mod classify;
pub mod cli;
pub mod companion;
pub mod config;
pub mod control;
pub mod daemon;
pub mod divert;
pub mod engine;
pub mod flow;
pub mod guard;
pub mod import;
#[cfg(target_os = "linux")]
pub mod lab;
pub mod lease;
pub mod observe;
pub mod owner;
pub mod packet;
pub mod peer;
pub mod places;
pub mod policy;
pub mod selftest;
pub mod service;
pub mod session;
pub mod translate;
pub mod verdict;
