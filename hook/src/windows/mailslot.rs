//! One-way messages: a program never waits for the daemon to read them.

use super::shared::{Descriptor, owned};
use super::wide;
use crate::report::Report;
use std::io;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::ptr::{null, null_mut};
use std::time::Duration;
use windows_sys::Win32::Foundation::{
    ERROR_HANDLE_EOF, ERROR_INSUFFICIENT_BUFFER, ERROR_SEM_TIMEOUT, GENERIC_WRITE,
};
use windows_sys::Win32::Storage::FileSystem::{
    CreateFileW, FILE_ATTRIBUTE_NORMAL, FILE_SHARE_READ, FILE_SHARE_WRITE, OPEN_EXISTING, ReadFile,
    WriteFile,
};
use windows_sys::Win32::System::Mailslots::{CreateMailslotW, SetMailslotInfo};

/// Where reports go.
pub const NAME: &str = r"\\.\mailslot\sessionip-moved";

/// Everybody may write, and SYSTEM and the administrators do the rest.
const WRITABLE: &str = "D:P(A;;GA;;;SY)(A;;GA;;;BA)(A;;GW;;;WD)(A;;GW;;;S-1-15-2-1)";

/// Leaves a message, if there is somebody to read it. Never waits: the system
/// keeps it until it is read.
#[expect(unsafe_code, reason = "calls of the system")]
pub fn send(name: &str, report: &Report) -> bool {
    let (name, message, mut written) = (wide(name), report.encode(), 0);
    // SAFETY: the name ends in a zero. A mailslot's client end can only write,
    // and lets others write meanwhile.
    let slot = unsafe {
        owned(CreateFileW(
            name.as_ptr(),
            GENERIC_WRITE,
            FILE_SHARE_READ | FILE_SHARE_WRITE,
            null(),
            OPEN_EXISTING,
            FILE_ATTRIBUTE_NORMAL,
            null_mut(),
        ))
    };
    let Some(slot) = slot else { return false };
    // SAFETY: the message is as long as said, and outlives the call.
    let sent = unsafe {
        WriteFile(
            slot.as_raw_handle(),
            message.as_ptr(),
            message.len() as u32,
            &raw mut written,
            null_mut(),
        )
    };
    sent != 0 && written as usize == message.len()
}

/// The daemon's end.
#[derive(Debug)]
pub struct Mailslot(OwnedHandle);

impl Mailslot {
    /// Makes the mailslot of that name.
    ///
    /// # Errors
    /// There is one already, or the system refuses.
    #[expect(unsafe_code, reason = "a call of the system")]
    pub fn create(name: &str) -> io::Result<Self> {
        let (name, descriptor) = (wide(name), Descriptor::parse(WRITABLE)?);
        let attributes = descriptor.attributes();
        // SAFETY: name and attributes outlive the call.
        let slot = unsafe {
            owned(CreateMailslotW(name.as_ptr(), Report::LENGTH as u32, 0, &raw const attributes))
        };
        slot.map(Self).ok_or_else(io::Error::last_os_error)
    }

    /// The next report. `None`: none came within `wait`, or what came was none.
    ///
    /// # Errors
    /// The mailslot is gone.
    #[expect(unsafe_code, reason = "calls of the system")]
    pub fn receive(&self, wait: Duration) -> io::Result<Option<Report>> {
        let mut message = [0_u8; Report::LENGTH];
        let mut length = 0;
        // Forever is a number of its own.
        let wait = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).min(u32::MAX - 1);
        // SAFETY: at most as many bytes are written to `message` as it has, and
        // the number of them to `length`.
        let read = unsafe {
            if SetMailslotInfo(self.0.as_raw_handle(), wait) == 0 {
                return Err(io::Error::last_os_error());
            }
            ReadFile(
                self.0.as_raw_handle(),
                message.as_mut_ptr(),
                message.len() as u32,
                &raw mut length,
                null_mut(),
            )
        };
        if read == 0 {
            let error = io::Error::last_os_error();
            let nothing = [ERROR_SEM_TIMEOUT, ERROR_INSUFFICIENT_BUFFER, ERROR_HANDLE_EOF];
            let code = error.raw_os_error().map(i32::cast_unsigned);
            return if code.is_some_and(|code| nothing.contains(&code)) {
                Ok(None)
            } else {
                Err(error)
            };
        }
        Ok(message.get(..length as usize).and_then(Report::decode))
    }
}
