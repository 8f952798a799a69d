//! `%ProgramData%\sessionip`.
//!
//! Everybody may read the configuration there: commands find the daemon by it.
//! Leases and log lie in a folder of their own below, which only SYSTEM and
//! administrators can open.

use std::path::PathBuf;

/// The folder of everything that is not a program.
pub fn folder() -> PathBuf {
    // The system sets it for every process; it has been here since Windows Vista.
    let data = std::env::var_os("ProgramData").map(PathBuf::from);
    let data = data.filter(|folder| folder.is_absolute());
    data.unwrap_or_else(|| r"C:\ProgramData".into()).join("sessionip")
}

/// The configuration.
pub fn config_file() -> PathBuf {
    folder().join("sessionip.toml")
}

/// The folder of the leases and the journal.
pub fn state_directory() -> String {
    folder().join("state").to_string_lossy().into_owned()
}

/// The log of a daemon that runs as a service.
pub fn log_file() -> PathBuf {
    folder().join("state").join("sessionip.log")
}

/// The control pipe.
pub fn control() -> String {
    r"\\.\pipe\sessionip".into()
}

/// How the daemon is started.
pub const START: &str = "sessionip service start";
