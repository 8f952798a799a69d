//! How does a command reach the daemon, and is it the daemon?

use super::name;
use super::pipe::{Pipe, Signal};
use crate::guard::windows::identity::is_the_host_s;
use std::io::{self, Read, Write};
use std::os::windows::io::{AsHandle, FromRawHandle, OwnedHandle};
use std::path::Path;
use std::ptr;
use std::time::{Duration, Instant};
use windows_sys::Win32::Foundation::{ERROR_PIPE_BUSY, INVALID_HANDLE_VALUE};
use windows_sys::Win32::Storage::FileSystem::{
    CreateFileW, FILE_FLAG_OVERLAPPED, FILE_GENERIC_READ, FILE_WRITE_DATA, OPEN_EXISTING,
    SECURITY_IDENTIFICATION, SECURITY_SQOS_PRESENT,
};
use windows_sys::Win32::System::Pipes::WaitNamedPipeW;

/// The end of a connection that asks. What it waits for has to come within its
/// patience.
#[derive(Debug)]
pub(in crate::control) struct Stream {
    // Before the signal, which it uses to its end.
    pipe: Pipe,
    signal: Signal,
    patience: Duration,
}

/// Connects to the daemon whose control pipe is at `path`; reads and writes wait for
/// at most `patience`.
///
/// The daemon learns who asks and cannot act as him. And it is the daemon: the pipe
/// must be SYSTEM's or the administrators', because before the daemon runs anybody
/// can make a pipe of that name.
///
/// # Errors
/// Nobody listens there, or somebody who is not the daemon.
pub(in crate::control) fn connect(path: &Path, patience: Duration) -> io::Result<Stream> {
    let handle = open(path, patience)?;
    if !is_the_host_s(handle.as_handle())? {
        let sentence = "that pipe is neither SYSTEM's nor the administrators': it is not \
            sessionip that listens there";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, sentence));
    }
    let signal = Signal::new()?;
    let mut pipe = Pipe::new(handle, &signal);
    pipe.begin_to_read()?;
    Ok(Stream { pipe, signal, patience })
}

#[expect(unsafe_code, reason = "calls into kernel32")]
fn open(path: &Path, patience: Duration) -> io::Result<OwnedHandle> {
    let name = name(path)?;
    let until = now() + patience;
    loop {
        // SAFETY: the name ends with a zero. No more is asked for than the pipe's
        // list gives to everybody: to make an instance of it is not in it.
        let handle = unsafe {
            CreateFileW(
                name.as_ptr(),
                FILE_GENERIC_READ | FILE_WRITE_DATA,
                0,
                ptr::null(),
                OPEN_EXISTING,
                FILE_FLAG_OVERLAPPED | SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION,
                ptr::null_mut(),
            )
        };
        if handle != INVALID_HANDLE_VALUE {
            // SAFETY: the call has just given it to us.
            return Ok(unsafe { OwnedHandle::from_raw_handle(handle) });
        }
        let error = io::Error::last_os_error();
        let busy = error.raw_os_error().map(i32::cast_unsigned) == Some(ERROR_PIPE_BUSY);
        let left = until.saturating_duration_since(now()).as_millis();
        let left = u32::try_from(left).unwrap_or(u32::MAX - 1);
        // Zero would mean the pipe's own patience.
        if !busy || left == 0 {
            return Err(error);
        }
        // SAFETY: the name ends with a zero. However it ends, the loop tries again.
        unsafe { WaitNamedPipeW(name.as_ptr(), left) };
    }
}

impl Stream {
    /// Does what would block, waiting for it.
    fn patiently<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Pipe) -> io::Result<T>,
    ) -> io::Result<T> {
        let until = now() + self.patience;
        loop {
            match attempt(&mut self.pipe) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            let left = until.saturating_duration_since(now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.signal.wait(left);
        }
    }
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.patiently(|pipe| pipe.read(bytes))
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.patiently(|pipe| pipe.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.patiently(|pipe| {
            if pipe.is_written() { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "a command that waits for the daemon")]
fn now() -> Instant {
    Instant::now()
}
