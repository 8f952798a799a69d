//! `sessionip service`: sessionip as a Windows service.

use super::{Failure, complain};
use crate::service::windows::{install, start, stop, uninstall};
use std::path::Path;
use std::process::ExitCode;

/// What is to become of the service.
#[derive(Clone, Copy, Debug, clap::Subcommand)]
pub(super) enum Change {
    /// Make sessionip a service that starts with the machine; --config goes with it.
    Install,
    /// Stop the service and take it out; configuration and leases stay.
    Uninstall,
    /// Start it, and wait until sessions have their addresses.
    Start,
    /// Stop it, and wait until everything is taken back.
    Stop,
}

pub(super) fn change(config: &Path, change: Change) -> Result<ExitCode, Failure> {
    let (done, so_already) = match change {
        Change::Install => {
            (install(config)?, "it was installed already, and is now as this command says")
        }
        Change::Uninstall => (uninstall()?, "it was not installed"),
        Change::Start => (start()?, "it runs already"),
        Change::Stop => (stop()?, "it did not run"),
    };
    if !done {
        complain(so_already);
    }
    Ok(ExitCode::SUCCESS)
}
