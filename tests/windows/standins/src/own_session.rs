//! What does a process itself believe of its session?
//!
//! A program that does not load the stand-in asks Wine, and Wine reads the number
//! in the process's own environment block, as Windows does. Whoever starts a
//! program in a session writes it there.

//! A 32-bit program has one of its own width, whether or not there is one of ours.

use core::ffi::c_void;
use core::mem::offset_of;
use std::io;
use windows_sys::Wdk::System::Threading::{
    NtQueryInformationProcess, PROCESSINFOCLASS, ProcessBasicInformation, ProcessWow64Information,
};
use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::System::Diagnostics::Debug::WriteProcessMemory;
use windows_sys::Win32::System::Threading::{PEB, PROCESS_BASIC_INFORMATION};

/// Where it is in the block of a 32-bit program (winternl.h's `PEB`, compiled for
/// that width).
const IN_32_BIT_BLOCK: usize = 0x1D4;

/// Writes it into a process that has not begun to run. Asked by a 64-bit program.
///
/// # Errors
/// The process cannot be written to.
pub(crate) fn write(process: HANDLE, session: u32) -> io::Result<()> {
    let narrow: usize = told(process, ProcessWow64Information)?;
    if narrow != 0 {
        return write_at(process, narrow.wrapping_add(IN_32_BIT_BLOCK), session);
    }
    let basic: PROCESS_BASIC_INFORMATION = told(process, ProcessBasicInformation)?;
    let block = basic.PebBaseAddress.expose_provenance();
    write_at(process, block.wrapping_add(offset_of!(PEB, SessionId)), session)
}

/// What the kernel says of a process.
#[expect(unsafe_code, reason = "asks the kernel")]
fn told<T: Default>(process: HANDLE, what: PROCESSINFOCLASS) -> io::Result<T> {
    let mut answer = T::default();
    // SAFETY: the answer is ours, and as long as is said.
    let status = unsafe {
        NtQueryInformationProcess(
            process,
            what,
            (&raw mut answer).cast::<c_void>(),
            size_of::<T>() as u32,
            core::ptr::null_mut(),
        )
    };
    if status == 0 {
        Ok(answer)
    } else {
        Err(io::Error::other(format!("NtQueryInformationProcess: {status:#x}")))
    }
}

#[expect(unsafe_code, reason = "another process's memory")]
fn write_at(process: HANDLE, place: usize, session: u32) -> io::Result<()> {
    let place = core::ptr::without_provenance::<c_void>(place);
    // SAFETY: the number is ours; the place is the other process's, which checks it.
    let written = unsafe {
        WriteProcessMemory(
            process,
            place,
            (&raw const session).cast::<c_void>(),
            size_of::<u32>(),
            core::ptr::null_mut(),
        )
    };
    if written == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
