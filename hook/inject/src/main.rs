//! Gets the hook into a program of this program's own width, for a daemon or a
//! hooked program of the other: `sessionip_inject32 PID LISTS MILLISECONDS`.
//!
//! Only Windows has two widths of programs; elsewhere it does nothing.
#![cfg_attr(windows, windows_subsystem = "windows")]

use std::process::ExitCode;

#[cfg(windows)]
fn main() -> ExitCode {
    let errand = hook::windows::helper::Errand::parse(std::env::args().skip(1));
    let own = std::env::current_exe().ok();
    let folder = own.as_deref().and_then(std::path::Path::parent);
    match errand.zip(folder) {
        Some((errand, folder)) => errand.run(folder).into(),
        None => ExitCode::FAILURE,
    }
}

#[cfg(not(windows))]
fn main() -> ExitCode {
    ExitCode::FAILURE
}
