//! What does a process run? Its program, and the script if that is an interpreter,
//! each by every spelling that is known of it.

use super::command::{Command, command_of};
use super::process::open;
use crate::script::{absolute, is_interpreter, script_in};
use crate::section::{Runs, fold};
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::AsHandle;
use std::path::Path;
use windows_sys::Win32::Storage::FileSystem::GetDriveTypeW;
use windows_sys::Win32::System::Threading::{PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_VM_READ};
use windows_sys::Win32::System::WindowsProgramming::{DRIVE_FIXED, DRIVE_RAMDISK};

/// How the process of that number was started, if its program, at `path`, is an
/// interpreter. `None`, too: it has gone, or may not be read.
pub fn command(pid: u32, path: &str) -> Option<Command> {
    if !is_interpreter(name(path)) {
        return None;
    }
    let process = open(pid, PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_VM_READ).ok()?;
    command_of(process.as_handle())
}

/// What lists look for: the program at `path`, started by that command.
pub fn runs(path: &str, command: Option<&Command>) -> Runs {
    let folded = |text: &String| fold(&text.encode_utf16().collect::<Vec<_>>());
    Runs {
        program: programs(path).iter().map(folded).collect(),
        script: command
            .map(|it| scripts(path, it))
            .unwrap_or_default()
            .iter()
            .map(folded)
            .collect(),
    }
}

/// The same of the process of that number.
pub fn of(pid: u32, path: &str) -> Runs {
    runs(path, command(pid, path).as_ref())
}

/// The spellings of a program's path, as the system has it first.
pub fn programs(path: &str) -> Vec<String> {
    // One that was started by a short name (8.3) may be known by that.
    let long = path.contains('~').then(|| real(path)).flatten();
    std::iter::once(path.to_owned()).chain(long).collect()
}

/// The spellings of the script that the program at `path` was started for: as the
/// command has it, and where that leads to.
pub fn scripts(path: &str, command: &Command) -> Vec<String> {
    let Some(script) = script_in(name(path), &command.line) else { return Vec::new() };
    match absolute(&command.folder, &script) {
        Some(full) => {
            let real = real(&full);
            std::iter::once(full).chain(real).collect()
        }
        // Its name is known, at least.
        None => vec![script],
    }
}

fn name(path: &str) -> &str {
    path.rsplit(['\\', '/']).next().unwrap_or(path)
}

/// Where a path leads to: without links and short names. `None`: to itself; or it
/// is not to be looked at, for what lies on another machine may make one wait, and
/// a user's drives are not the daemon's.
fn real(path: &str) -> Option<String> {
    let root = path.get(..3).filter(|root| root.ends_with(r":\"))?;
    let root: Vec<u16> = root.encode_utf16().chain([0]).collect();
    // SAFETY: the text ends in a zero.
    #[expect(unsafe_code, reason = "a call of the system")]
    let kind = unsafe { GetDriveTypeW(root.as_ptr()) };
    if !matches!(kind, DRIVE_FIXED | DRIVE_RAMDISK) {
        return None;
    }
    let real = Path::new(path).canonicalize().ok()?;
    let folded = fold(&real.as_os_str().encode_wide().collect::<Vec<_>>());
    let is_another = folded != fold(&path.encode_utf16().collect::<Vec<_>>());
    is_another.then(|| real.to_string_lossy().into_owned())
}
