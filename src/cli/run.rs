//! `sessionip run`: the daemon, in the foreground.

use super::Failure;
use std::path::Path;
use std::process::ExitCode;

pub(super) fn run(config: &Path) -> Result<ExitCode, Failure> {
    crate::observe::log::init()?;
    crate::daemon::run(config)?;
    Ok(ExitCode::SUCCESS)
}
