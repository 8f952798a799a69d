//! `sessionip exec`: run a command in a session.
//!
//! A platform supplies [`exec`].

#[cfg(target_os = "linux")]
mod linux;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
pub(super) use linux::exec;
#[cfg(windows)]
pub(super) use windows::exec;

use super::{Failure, daemon};
use std::ffi::OsString;

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The session's number (Linux: it is opened if there is none).
    #[arg(long, value_name = "N")]
    session: u32,
    /// Whose session it is, and who the command runs as; else the caller.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}
