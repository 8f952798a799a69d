//! Commands that only Linux has.

use super::Failure;
use clap::Subcommand;
use std::path::Path;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the product at work on a network of its own.
    Lab(crate::lab::Options),
}

/// What `run` does.
pub(super) const RUN: &str = "Run the daemon, in the foreground, until SIGTERM or SIGINT";

pub(super) fn dispatch(_config: &Path, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Lab(options) => Ok(crate::lab::main(options)?),
    }
}
