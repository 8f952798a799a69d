//! `sessionip reload`: make the daemon read its configuration again.

use super::{Failure, complain, daemon};
use crate::control::Request;
use std::path::Path;
use std::process::ExitCode;

pub(super) fn reload(config: &Path) -> Result<ExitCode, Failure> {
    let notes: Vec<String> = daemon(config)?.ask(&Request::Reload {})?;
    for note in notes {
        complain(&note);
    }
    Ok(ExitCode::SUCCESS)
}
