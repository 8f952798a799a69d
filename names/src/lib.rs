//! A service for nsswitch.conf(5): a program of a session that asks for this
//! machine's own name gets the session's address, and the name for the address.
//!
//! Nobody is asked but the kernel, by the way the companion hook works: with
//! `scope = "connect"` a bind to the host's address and port 0 becomes one to the
//! session's address, for exactly the programs that are virtualised. In any doubt
//! nothing is found, and the next service answers.

#![cfg(target_os = "linux")]

mod answer;
mod ask;
mod own;
