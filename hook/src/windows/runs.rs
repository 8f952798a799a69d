//! What does a process run? Its program, and the script if that is an interpreter.
//!
//! What its command names is taken by its letters: no file is looked for, as SYSTEM
//! asks this of every user's processes, and a user says where the path leads.

use super::command::{Command, command_of};
use super::deadline::Deadline;
use super::process::open;
use crate::script::{absolute, is_interpreter, script_in};
use crate::section::{Runs, fold};
use std::os::windows::io::AsHandle;
use std::time::Duration;
use windows_sys::Win32::System::Threading::{PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_VM_READ};

/// How long a user's process may keep the daemon: memory is read in no time, but a
/// user says what stands behind his.
const PATIENCE: Duration = Duration::from_secs(1);

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
    let folded = |text: &str| fold(&text.encode_utf16().collect::<Vec<_>>());
    let script = command.and_then(|command| script_by(path, command));
    Runs { program: folded(path), script: script.as_deref().map(folded) }
}

/// The same of the process of that number.
pub fn of(pid: u32, path: &str) -> Runs {
    runs(path, command(pid, path).as_ref())
}

/// The same for the daemon, which must wait for no user. While a process is being
/// read that does not answer, of others only the program is known.
pub fn soon_of(pid: u32, path: &str) -> Runs {
    runs(path, command_soon(pid, path).as_ref())
}

/// The script of the process of that number, for the daemon too.
pub fn script_soon(pid: u32, path: &str) -> Option<String> {
    script_by(path, &command_soon(pid, path)?)
}

fn command_soon(pid: u32, path: &str) -> Option<Command> {
    static READ: Deadline<Option<Command>> = Deadline::new();
    if !is_interpreter(name(path)) {
        return None;
    }
    let path = path.to_owned();
    READ.ask(PATIENCE, move || command(pid, &path)).flatten()
}

/// The script that the program at `path` was started for: its full path, or its name
/// where that is all that is known.
pub fn script_by(path: &str, command: &Command) -> Option<String> {
    let script = script_in(name(path), &command.line)?;
    Some(absolute(&command.folder, &script).unwrap_or(script))
}

fn name(path: &str) -> &str {
    path.rsplit(['\\', '/']).next().unwrap_or(path)
}
