//! The daemon starts the command, as only the system can start one in another
//! session, and hands back its process.

use super::{Failure, Options, daemon};
use crate::control::{Request, Start, Started};
use crate::session::SessionId;
use std::ffi::OsString;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::Path;
use std::process::ExitCode;
use windows_sys::Win32::Foundation::WAIT_OBJECT_0;
use windows_sys::Win32::System::Console::{
    GetStdHandle, STD_ERROR_HANDLE, STD_INPUT_HANDLE, STD_OUTPUT_HANDLE,
};
use windows_sys::Win32::System::Threading::{GetExitCodeProcess, INFINITE, WaitForSingleObject};

/// Waits for the command: its exit status is this one's.
pub(crate) fn exec(config: &Path, options: &Options) -> Result<ExitCode, Failure> {
    let folder = std::env::current_dir()?;
    let started: Started = daemon(config)?.ask(&Request::Start(Start {
        session: SessionId(options.session),
        user: options.user.clone(),
        command_line: command_line(&options.command)?,
        folder,
        standard: standard_handles(),
    }))?;
    let status = wait_for(&started)?;
    #[expect(clippy::disallowed_methods, reason = "an exit status here has 32 bits, ExitCode 8")]
    std::process::exit(status.cast_signed());
}

fn standard_handles() -> [u64; 3] {
    [STD_INPUT_HANDLE, STD_OUTPUT_HANDLE, STD_ERROR_HANDLE].map(|which| {
        // SAFETY: it only looks up a number in this process.
        #[expect(unsafe_code, reason = "a call into kernel32")]
        let handle = unsafe { GetStdHandle(which) };
        handle.expose_provenance() as u64
    })
}

/// The exit status of the process behind a handle that the daemon gave us.
fn wait_for(started: &Started) -> Result<u32, Failure> {
    let raw = std::ptr::with_exposed_provenance_mut(started.process as usize);
    // SAFETY: the daemon, whose identity was checked, duplicated this handle into
    // this process for us alone.
    #[expect(unsafe_code, reason = "a handle from another process")]
    let process = unsafe { OwnedHandle::from_raw_handle(raw) };
    let mut status = 0;
    // SAFETY: the handle is open until the end of this function, and `status` is
    // written before it returns.
    #[expect(unsafe_code, reason = "calls into kernel32")]
    let done = unsafe {
        WaitForSingleObject(process.as_raw_handle(), INFINITE) == WAIT_OBJECT_0
            && GetExitCodeProcess(process.as_raw_handle(), &raw mut status) != 0
    };
    if done { Ok(status) } else { Err(std::io::Error::last_os_error().into()) }
}

/// One line that a C program takes apart into the same arguments again
/// (CommandLineToArgvW; "Parsing C command-line arguments").
fn command_line(arguments: &[OsString]) -> Result<String, Failure> {
    let mut line = String::new();
    for argument in arguments {
        let text = argument.to_str().filter(|text| !text.contains('\0')).ok_or_else(|| {
            Failure { sentence: format!("{} is not Unicode", argument.display()), status: 2 }
        })?;
        if !line.is_empty() {
            line.push(' ');
        }
        quote(text, &mut line);
    }
    Ok(line)
}

fn quote(argument: &str, line: &mut String) {
    if !argument.is_empty() && !argument.contains([' ', '\t', '\n', '\x0b', '"']) {
        line.push_str(argument);
        return;
    }
    line.push('"');
    let mut backslashes = 0;
    for character in argument.chars() {
        match character {
            '\\' => backslashes += 1,
            '"' => {
                // Backslashes before a quote count double, and one more is its own.
                line.extend(std::iter::repeat_n('\\', backslashes + 1));
                backslashes = 0;
            }
            _ => backslashes = 0,
        }
        line.push(character);
    }
    line.extend(std::iter::repeat_n('\\', backslashes));
    line.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn arguments_survive_a_command_line() {
        let line = |arguments: &[&str]| {
            let arguments: Vec<OsString> =
                arguments.iter().map(|it| OsStr::new(it).into()).collect();
            command_line(&arguments).unwrap_or_default()
        };
        assert_eq!(line(&["a.exe", "-x", "b"]), "a.exe -x b");
        assert_eq!(line(&[r"C:\Program Files\a.exe", ""]), r#""C:\Program Files\a.exe" """#);
        assert_eq!(line(&["say \"hi\""]), r#""say \"hi\"""#);
        assert_eq!(line(&[r"with space\"]), r#""with space\\""#);
        assert_eq!(line(&[r#"a\\" b"#]), r#""a\\\\\" b""#);
        assert_eq!(line(&[r"C:\plain\"]), r"C:\plain\");
    }
}
