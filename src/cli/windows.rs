//! Commands that only Windows has.

use super::{Failure, selftest, service};
use clap::Subcommand;
use std::path::Path;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Install, remove, start or stop the daemon as a service.
    #[command(subcommand)]
    Service(service::Change),
    /// Does this server do what sessionip builds on? Takes less than a minute.
    Selftest(selftest::Options),
}

/// What `run` does.
pub(super) const RUN: &str =
    "Run the daemon, as a service or in the foreground, until it is told to stop";

pub(super) fn dispatch(config: &Path, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Service(change) => service::change(config, *change),
        Command::Selftest(options) => selftest::selftest(config, options),
    }
}
