//! How was a process started? Its command line and its folder, as they stand in
//! its own memory.
//!
//! A process may write there what it likes: what is read says whom a list means,
//! and is no proof of anything.

use super::process::{is_32_bit, this};
use std::ffi::c_void;
use std::os::windows::io::{AsRawHandle, BorrowedHandle};
use std::ptr::{null_mut, without_provenance};
use windows_sys::Wdk::System::Threading::{
    NtQueryInformationProcess, PROCESSINFOCLASS, ProcessBasicInformation, ProcessWow64Information,
};
use windows_sys::Win32::System::Diagnostics::Debug::ReadProcessMemory;
use windows_sys::Win32::System::Memory::{
    MEM_COMMIT, MEM_PRIVATE, MEMORY_BASIC_INFORMATION, VirtualQueryEx,
};

/// What a process was started with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// The whole line.
    pub line: String,
    /// The folder that it is in now.
    pub folder: String,
}

/// Of a process that may be read. A 32-bit program sees no 64-bit one.
pub fn command_of(process: BorrowedHandle<'_>) -> Option<Command> {
    let of_32_bit = is_32_bit(process);
    if !of_32_bit && cfg!(target_pointer_width = "32") && !is_narrow_system() {
        return None;
    }
    let is_wide = cfg!(target_pointer_width = "64");
    // On a 64-bit Windows a 32-bit program has two blocks, and its own is filled as
    // it begins: before that only the other one says anything.
    let own = if of_32_bit && is_wide { block_of_32_bit(process) } else { None };
    let told = own.and_then(|block| Memory { process, places: NARROW }.command(block));
    told.or_else(|| {
        let places = if is_wide { WIDE } else { NARROW };
        Memory { process, places }.command(block_of(process)?)
    })
}

/// A Windows of 32 bits knows no others.
fn is_narrow_system() -> bool {
    !is_32_bit(this())
}

/// Where is what? The process environment block points to the parameters, in which
/// each text is its length in bytes, its room, and a pointer (winternl.h).
#[derive(Clone, Copy)]
struct Places {
    pointer: usize,
    parameters: usize,
    folder: usize,
    line: usize,
}

const WIDE: Places = Places { pointer: 8, parameters: 0x20, folder: 0x38, line: 0x70 };
const NARROW: Places = Places { pointer: 4, parameters: 0x10, folder: 0x24, line: 0x40 };
/// The flags of the parameters, and the one that says that pointers are some.
const FLAGS: usize = 8;
const NORMALIZED: u32 = 1;

/// The address of its environment block. PROCESS_BASIC_INFORMATION: six words, the
/// second of which is meant.
fn block_of(process: BorrowedHandle<'_>) -> Option<usize> {
    let [_, block, ..]: [usize; 6] = ask(process, ProcessBasicInformation)?;
    (block != 0).then_some(block)
}

/// The same of the one that a 32-bit program has besides on a 64-bit Windows.
fn block_of_32_bit(process: BorrowedHandle<'_>) -> Option<usize> {
    let [block] = ask(process, ProcessWow64Information)?;
    (block != 0).then_some(block)
}

/// What the system answers in words of this program's width.
#[expect(unsafe_code, reason = "a call of the system")]
fn ask<const N: usize>(
    process: BorrowedHandle<'_>,
    question: PROCESSINFOCLASS,
) -> Option<[usize; N]> {
    let mut words = [0; N];
    // SAFETY: as much is written as is said to be there, and numbers are.
    let status = unsafe {
        NtQueryInformationProcess(
            process.as_raw_handle(),
            question,
            (&raw mut words).cast(),
            size_of_val(&words) as u32,
            null_mut(),
        )
    };
    (status >= 0).then_some(words)
}

/// The memory of a process.
struct Memory<'a> {
    process: BorrowedHandle<'a>,
    places: Places,
}

impl Memory<'_> {
    /// `None`, too: the parameters are not there yet.
    fn command(&self, block: usize) -> Option<Command> {
        let parameters = self.pointer(block.checked_add(self.places.parameters)?)?;
        if parameters == 0 {
            return None;
        }
        Some(Command {
            line: self.text(parameters, self.places.line)?,
            folder: self.text(parameters, self.places.folder)?,
        })
    }

    fn pointer(&self, at: usize) -> Option<usize> {
        let mut bytes = [0; 8];
        self.read(at, bytes.get_mut(..self.places.pointer)?)?;
        usize::try_from(u64::from_le_bytes(bytes)).ok()
    }

    fn text(&self, parameters: usize, place: usize) -> Option<String> {
        let at = parameters.checked_add(place)?;
        let (mut length, mut flags) = ([0; 2], [0; 4]);
        self.read(at, &mut length)?;
        self.read(parameters.checked_add(FLAGS)?, &mut flags)?;
        let mut from = self.pointer(at.checked_add(self.places.pointer)?)?;
        if u32::from_le_bytes(flags) & NORMALIZED == 0 {
            from = from.checked_add(parameters)?;
        }
        let mut bytes = vec![0; usize::from(u16::from_le_bytes(length))];
        self.read(from, &mut bytes)?;
        let (pairs, _) = bytes.as_chunks();
        let units: Vec<u16> = pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
        Some(String::from_utf16_lossy(&units))
    }

    /// Is all of it the process's own memory, with no file behind it? To read a page
    /// of a file is to wait for whoever keeps the file, and a user says where that is.
    /// He may put a file there after this was asked: that is not ruled out.
    fn is_own(&self, at: usize, length: usize) -> bool {
        let Some(end) = at.checked_add(length) else { return false };
        let mut from = at;
        while from < end {
            let Some(region) = self.region(from) else { return false };
            if region.State != MEM_COMMIT || region.Type != MEM_PRIVATE {
                return false;
            }
            let next = region.BaseAddress.addr().checked_add(region.RegionSize);
            let Some(next) = next.filter(|next| *next > from) else { return false };
            from = next;
        }
        true
    }

    /// The pages from `at` on that are alike.
    #[expect(unsafe_code, reason = "a call of the system")]
    fn region(&self, at: usize) -> Option<MEMORY_BASIC_INFORMATION> {
        let mut region = MEMORY_BASIC_INFORMATION::default();
        let size = size_of_val(&region);
        // SAFETY: as much is written as is said to be there; the address is looked up,
        // and not followed.
        let written = unsafe {
            VirtualQueryEx(
                self.process.as_raw_handle(),
                without_provenance::<c_void>(at),
                &raw mut region,
                size,
            )
        };
        (written == size).then_some(region)
    }

    /// All of it, or nothing.
    #[expect(unsafe_code, reason = "a call of the system")]
    fn read(&self, at: usize, to: &mut [u8]) -> Option<()> {
        if to.is_empty() {
            return Some(());
        }
        if !self.is_own(at, to.len()) {
            return None;
        }
        let mut read = 0;
        // SAFETY: at most as many bytes are written as there is room for; the other
        // process's memory is the system's to check.
        let done = unsafe {
            ReadProcessMemory(
                self.process.as_raw_handle(),
                without_provenance::<c_void>(at),
                to.as_mut_ptr().cast(),
                to.len(),
                &raw mut read,
            )
        };
        (done != 0 && read == to.len()).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr::null;
    use windows_sys::Win32::Foundation::{CloseHandle, INVALID_HANDLE_VALUE};
    use windows_sys::Win32::System::Memory::{
        CreateFileMappingW, FILE_MAP_WRITE, MapViewOfFile, PAGE_READWRITE, UnmapViewOfFile,
    };

    #[test]
    #[expect(unsafe_code, reason = "calls of the system")]
    fn what_is_mapped_is_not_read() {
        let memory = Memory { process: this(), places: WIDE };
        let mut room = [0; 2];
        let own = vec![7_u8; 100_000];
        assert_eq!(memory.read(own.as_ptr().addr() + 99_998, &mut room), Some(()));
        assert_eq!(room, [7, 7]);
        assert_eq!(memory.read(usize::MAX, &mut room), None, "its end would be none");
        assert_eq!(memory.read(8, &mut room), None, "nothing is there");
        // SAFETY: the view is as long as is said, is written inside, and is taken away
        // once, after the last use.
        unsafe {
            let (nobody, size) = (INVALID_HANDLE_VALUE, 0x2000);
            let file = CreateFileMappingW(nobody, null(), PAGE_READWRITE, 0, size, null());
            let view = MapViewOfFile(file, FILE_MAP_WRITE, 0, 0, 0);
            let at = view.Value.addr();
            assert_ne!(at, 0);
            view.Value.cast::<u8>().write(7);
            let read = memory.read(at, &mut room);
            UnmapViewOfFile(view);
            CloseHandle(file);
            assert_eq!(read, None);
        }
    }
}
