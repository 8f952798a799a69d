//! `sessionip run`: the daemon, in the foreground or as a service.

use super::Failure;
use crate::daemon::{self, RunError};
use crate::{observe, service};
use std::path::Path;
use std::process::ExitCode;

pub(super) fn run(config: &Path) -> Result<ExitCode, Failure> {
    let config = config.to_owned();
    service::host(move || -> Result<(), RunError> {
        observe::log::init()?;
        daemon::run(&config)
    })??;
    Ok(ExitCode::SUCCESS)
}
