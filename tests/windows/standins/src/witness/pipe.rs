//! In which session is who connects to a pipe?

#![expect(unsafe_code, reason = "asks Windows")]

use core::ptr;
use std::{
    env,
    fs::File,
    io::{self, Read},
    process::{Command, Stdio},
};

use windows_sys::Win32::{
    Foundation::{CloseHandle, INVALID_HANDLE_VALUE},
    Storage::FileSystem::PIPE_ACCESS_DUPLEX,
    System::Pipes::{
        ConnectNamedPipe, CreateNamedPipeW, GetNamedPipeClientSessionId, PIPE_TYPE_BYTE, PIPE_WAIT,
    },
};

use super::Answer;

const NAME: &str = r"\\.\pipe\standin-witness";

/// Waits for a client in that session and says what Windows says of it.
pub(super) fn client_session(session: &str) -> Answer {
    let name: Vec<u16> = NAME.encode_utf16().chain([0]).collect();
    // SAFETY: the name has its end, and the pipe no attributes.
    let pipe = unsafe {
        let kind = PIPE_TYPE_BYTE | PIPE_WAIT;
        CreateNamedPipeW(name.as_ptr(), PIPE_ACCESS_DUPLEX, kind, 1, 64, 64, 0, ptr::null())
    };
    if pipe == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error().into());
    }
    let program = env::current_exe()?;
    let runner = program.with_file_name("session-run.exe");
    let mut client = Command::new(runner);
    client.arg(session).arg(program).args(["connect", NAME]).stdout(Stdio::null());
    let mut client = client.spawn()?;
    let mut found = u32::MAX;
    // SAFETY: the pipe is open, `found` is ours. The client that came before it
    // was waited for is one, too.
    let done = unsafe {
        ConnectNamedPipe(pipe, ptr::null_mut());
        GetNamedPipeClientSessionId(pipe, &raw mut found)
    };
    let error = io::Error::last_os_error();
    // SAFETY: the handle is ours, and not used again.
    unsafe { CloseHandle(pipe) };
    client.wait()?;
    if done == 0 { Err(error.into()) } else { Ok(found.to_string()) }
}

/// Is a client until the other side has seen enough.
pub(super) fn connect(name: &str) -> Answer {
    let mut pipe = File::open(name)?;
    let _ = pipe.read(&mut [0]);
    Ok("connected".into())
}
