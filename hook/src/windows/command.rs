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
    let places = if of_32_bit || cfg!(target_pointer_width = "32") { NARROW } else { WIDE };
    let block = block_of(process, of_32_bit)?;
    let memory = Memory { process, places };
    let parameters = memory.pointer(block.checked_add(places.parameters)?)?;
    Some(Command {
        line: memory.text(parameters, places.line)?,
        folder: memory.text(parameters, places.folder)?,
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

/// The address of its environment block: a 32-bit program has one of its own on a
/// 64-bit Windows, and uses that.
fn block_of(process: BorrowedHandle<'_>, of_32_bit: bool) -> Option<usize> {
    let block = if of_32_bit && cfg!(target_pointer_width = "64") {
        let [block] = ask(process, ProcessWow64Information)?;
        block
    } else {
        // PROCESS_BASIC_INFORMATION: six words, the second of which is meant.
        let [_, block, ..]: [usize; 6] = ask(process, ProcessBasicInformation)?;
        block
    };
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

    /// All of it, or nothing.
    #[expect(unsafe_code, reason = "a call of the system")]
    fn read(&self, at: usize, to: &mut [u8]) -> Option<()> {
        if to.is_empty() {
            return Some(());
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
