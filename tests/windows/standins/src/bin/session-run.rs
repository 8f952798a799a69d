//! Runs a program in a session, as logging on does: `session-run N PROGRAM [ARGUMENT..]`.
//!
//! It is the session's first process; the program is its child, and so are, as
//! children of that, all that the program starts. Returns what the program returns.

#[cfg(windows)]
#[path = "../registry.rs"]
mod registry;

#[cfg(windows)]
#[path = "../object_names.rs"]
mod object_names;
#[cfg(windows)]
#[path = "../own_session.rs"]
mod own_session;

#[cfg(windows)]
fn main() -> std::process::ExitCode {
    use std::os::windows::{io::AsRawHandle, process::CommandExt};
    use std::process::{Command, ExitCode, id};
    use windows_sys::Win32::System::Threading::CREATE_SUSPENDED;

    let mut words = std::env::args_os().skip(1);
    let session = words.next().and_then(|word| word.to_str()?.parse().ok());
    let (Some(session), Some(program)) = (session, words.next()) else {
        complain("usage: session-run SESSION PROGRAM [ARGUMENT..]");
        return ExitCode::from(125);
    };
    let _entered = match registry::enter(id(), registry::Entry { session, began: None }) {
        Ok(entered) => entered,
        Err(error) => {
            complain(&format!("cannot enter session {session}: {error}"));
            return ExitCode::from(125);
        }
    };
    // It is told its session before it runs.
    let started = Command::new(&program).args(words).creation_flags(CREATE_SUSPENDED).spawn();
    let ended = started.and_then(|mut child| {
        object_names::make(session)
            .and_then(|()| own_session::write(child.as_raw_handle(), session))
            .and_then(|()| resume(child.as_raw_handle()))
            .inspect_err(|_| drop(child.kill()))?;
        child.wait()
    });
    match ended {
        Ok(status) => {
            let code = status.code().and_then(|code| u8::try_from(code & 0xFF).ok());
            ExitCode::from(code.unwrap_or(1))
        }
        Err(error) => {
            complain(&format!("{}: {error}", program.display()));
            ExitCode::from(127)
        }
    }
}

/// Lets a process run that was started suspended.
#[cfg(windows)]
#[expect(unsafe_code, reason = "asks the kernel")]
fn resume(process: windows_sys::Win32::Foundation::HANDLE) -> std::io::Result<()> {
    #[link(name = "ntdll", kind = "raw-dylib")]
    unsafe extern "system" {
        fn NtResumeProcess(process: windows_sys::Win32::Foundation::HANDLE) -> i32;
    }
    // SAFETY: it takes a handle and nothing else.
    let status = unsafe { NtResumeProcess(process) };
    if status == 0 {
        Ok(())
    } else {
        Err(std::io::Error::other(format!("NtResumeProcess: {status:#x}")))
    }
}

#[cfg(not(windows))]
fn main() -> std::process::ExitCode {
    complain("runs on Windows only");
    std::process::ExitCode::from(125)
}

#[expect(clippy::print_stderr, reason = "says what went wrong to whoever started it")]
fn complain(what: &str) {
    eprintln!("session-run: {what}");
}
