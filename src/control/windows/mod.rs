//! How does the daemon take questions, and who puts them? (named pipes)
//!
//! One thread serves all instances of the pipe. A connection that is slow, silent
//! or greedy costs nobody else anything: everything it may use is bounded, and it
//! is closed at its deadline.
//!
//! Who is at the other end is known when he has said something: from then on the
//! system lets the daemon act as him (error 1368 before), for the moment it takes
//! to read his token. Until then a connection is a stranger's, has little time, and
//! is the first to go when there is no room.

mod client;
mod pipe;
mod server;

pub(super) use client::{Stream, connect};
pub use server::Server;

use std::io;
use std::path::Path;

/// Every pipe of this machine has a name that begins so. With any other a command
/// would speak to another machine, and tell it the user's password's hash.
const LOCAL: &str = r"\\.\pipe\";

/// The name of the pipe, as the system takes it.
fn name(path: &Path) -> io::Result<Vec<u16>> {
    let local = path.to_str().and_then(|text| text.get(..LOCAL.len()));
    if local.is_some_and(|start| start.eq_ignore_ascii_case(LOCAL)) {
        return Ok(crate::guard::windows::wide(path.as_os_str()));
    }
    let sentence = format!(r"{} is no pipe of this machine: write \\.\pipe\NAME", path.display());
    Err(io::Error::new(io::ErrorKind::InvalidInput, sentence))
}

#[cfg(test)]
mod tests;
