//! Does this process descend from a listed program?
//!
//! A word in the DLL's memory says so: whoever injects the DLL writes the digest
//! of the lists by which it was found. Under other lists the word says nothing.

use super::process;
use std::os::windows::io::{AsRawHandle, BorrowedHandle};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, Ordering};
use windows_sys::Win32::Foundation::FreeLibrary;
use windows_sys::Win32::System::Diagnostics::Debug::{ReadProcessMemory, WriteProcessMemory};
use windows_sys::Win32::System::LibraryLoader::{
    DONT_RESOLVE_DLL_REFERENCES, GetProcAddress, LoadLibraryExW,
};

const MAGIC: [u8; 16] = *b"sessionip mark 1";

/// The mark itself, which the DLL exports as `SESSIONIP_HOOK_MARK`.
#[derive(Debug)]
#[repr(C)]
pub struct Mark {
    /// What it is known by.
    magic: [u8; 16],
    lists: AtomicU64,
}

impl Mark {
    /// One that nobody has written to.
    pub const fn new() -> Self {
        Self { magic: MAGIC, lists: AtomicU64::new(0) }
    }

    /// By which lists does this process descend from a listed one? 0: by none.
    pub fn lists(&self) -> u64 {
        self.lists.load(Ordering::Relaxed)
    }
}

impl Default for Mark {
    fn default() -> Self {
        Self::new()
    }
}

/// Where the mark is in the DLL, counted from where that was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset(usize);

impl Offset {
    /// Of the calling DLL, which was loaded at `base`.
    pub fn here(mark: &'static Mark, base: usize) -> Option<Self> {
        (&raw const *mark).addr().checked_sub(base).map(Self)
    }

    /// Of the DLL in that file; nothing of it is run. The path ends in a zero.
    #[expect(unsafe_code, reason = "calls of the system")]
    pub fn of(dll: &[u16]) -> Option<Self> {
        if dll.last() != Some(&0) {
            return None;
        }
        // SAFETY: the path ends in a zero, and so does the name; the library is
        // released once, after the last use of its address.
        unsafe {
            let library = LoadLibraryExW(dll.as_ptr(), null_mut(), DONT_RESOLVE_DLL_REFERENCES);
            if library.is_null() {
                return None;
            }
            let mark = GetProcAddress(library, c"SESSIONIP_HOOK_MARK".as_ptr().cast());
            let offset = mark.and_then(|mark| (mark as usize).checked_sub(library.addr()));
            FreeLibrary(library);
            offset.map(Self)
        }
    }
}

/// Tells a process in which the DLL is loaded at `base` that it descends from a
/// program that `lists` list; 0: that it does not. `false`: it could not be
/// told, or its DLL is another edition.
#[expect(unsafe_code, reason = "calls of the system")]
pub fn tell(process: BorrowedHandle<'_>, base: usize, offset: Offset, lists: u64) -> bool {
    let Some(at) = base.checked_add(offset.0) else { return false };
    let mut magic = [0_u8; MAGIC.len()];
    let lists = lists.to_ne_bytes();
    // SAFETY: what is read goes to `magic` and is not longer; what is written
    // comes from `lists`. The other process's memory is the system's to check.
    unsafe {
        ReadProcessMemory(
            process.as_raw_handle(),
            std::ptr::without_provenance(at),
            magic.as_mut_ptr().cast(),
            magic.len(),
            null_mut(),
        ) != 0
            && magic == MAGIC
            && WriteProcessMemory(
                process.as_raw_handle(),
                std::ptr::without_provenance(at + MAGIC.len()),
                lists.as_ptr().cast(),
                lists.len(),
                null_mut(),
            ) != 0
    }
}

/// Where the DLL is loaded in a process.
pub fn base_in(process: BorrowedHandle<'_>) -> Option<usize> {
    process::module(process, super::DLL)
}
