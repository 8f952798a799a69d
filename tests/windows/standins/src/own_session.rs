//! What does a process itself believe of its session?
//!
//! A program that does not load the stand-in asks Wine, and Wine reads the number
//! in the process's own environment block, as Windows does. Whoever starts a
//! program in a session writes it there.

use core::ffi::c_void;
use core::mem::offset_of;
use std::io;
use windows_sys::Wdk::System::Threading::{NtQueryInformationProcess, ProcessBasicInformation};
use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::System::Diagnostics::Debug::WriteProcessMemory;
use windows_sys::Win32::System::Threading::{PEB, PROCESS_BASIC_INFORMATION};

/// Writes it into a process that has not begun to run.
///
/// # Errors
/// The process cannot be written to.
#[expect(unsafe_code, reason = "another process's memory")]
pub(crate) fn write(process: HANDLE, session: u32) -> io::Result<()> {
    let mut basic = PROCESS_BASIC_INFORMATION::default();
    let size = size_of::<PROCESS_BASIC_INFORMATION>() as u32;
    // SAFETY: the structure is ours, and of the size that is said.
    let status = unsafe {
        NtQueryInformationProcess(
            process,
            ProcessBasicInformation,
            (&raw mut basic).cast::<c_void>(),
            size,
            core::ptr::null_mut(),
        )
    };
    if status != 0 {
        return Err(io::Error::other(format!("NtQueryInformationProcess: {status:#x}")));
    }
    let place = basic.PebBaseAddress.cast::<u8>().wrapping_add(offset_of!(PEB, SessionId));
    // SAFETY: the number is ours; the place is the other process's, which checks it.
    let written = unsafe {
        WriteProcessMemory(
            process,
            place.cast::<c_void>(),
            (&raw const session).cast::<c_void>(),
            size_of::<u32>(),
            core::ptr::null_mut(),
        )
    };
    if written == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
