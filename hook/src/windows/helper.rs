//! How does the DLL get into a program of the other width?
//!
//! By a helper of that width: a small program that lies beside the DLLs, is given
//! the number of a process, and does to it what [`inject`](super::inject) does. A
//! 32-bit process cannot begin a thread in a 64-bit one at all, and where a system
//! function lies in processes of a width only one of that width can say before
//! they have begun.

use super::inject::{ACCESS, inject};
use super::mark::{self, Offset};
use super::process;
use super::shared::owned;
use super::{DLL, HELPER};
use crate::refusal::Refusal;
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, OwnedHandle};
use std::path::Path;
use std::ptr::null;
use std::time::Duration;
use windows_sys::Win32::Foundation::{ERROR_INVALID_PARAMETER, WAIT_OBJECT_0};
use windows_sys::Win32::System::Threading::{
    CREATE_NO_WINDOW, CreateProcessW, GetExitCodeProcess, PROCESS_INFORMATION, STARTUPINFOW,
    WaitForSingleObject,
};
use windows_sys::core::BOOL;

/// What the helper found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Helped {
    /// The program has the DLL from now on.
    Hooked,
    /// It had it before.
    AlreadyHooked,
}

/// What a helper is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errand {
    /// The process.
    pub pid: u32,
    /// By which lists it descends from a listed program; 0: by none.
    pub lists: u64,
    /// How long it may take to load the DLL.
    pub wait: Duration,
}

/// How a process is made: `CreateProcessW`, or what stands behind a detour of it.
/// What it is given is [`Birth`], and it answers as `CreateProcessW` does.
pub type Make<'a> = &'a dyn Fn(&mut Birth<'_>) -> BOOL;

/// What a process is made of; all else is null, and nothing is inherited.
#[expect(missing_debug_implementations, reason = "the system's structs have none")]
pub struct Birth<'a> {
    /// Ends in a zero.
    pub command_line: &'a mut [u16],
    /// Of `CreateProcessW`.
    pub flags: u32,
    /// How it begins.
    pub startup: &'a STARTUPINFOW,
    /// Where its handles go.
    pub information: &'a mut PROCESS_INFORMATION,
}

/// Has the helper in that folder get the DLL into a process of the other width,
/// which may be suspended.
///
/// # Errors
/// See [`Refusal`]; the process runs on without the hook.
pub fn send(folder: &[u16], errand: &Errand, make: Make<'_>) -> Result<Helped, Refusal> {
    // It waits as long as it was told, and needs some time to begin.
    const BEGINNING: Duration = Duration::from_secs(2);
    let helper = start(&errand.command_line(folder), make).ok_or(Refusal::NoHelper)?;
    let wait = u32::try_from((errand.wait + BEGINNING).as_millis()).unwrap_or(u32::MAX - 1);
    let mut code = 0;
    // SAFETY: the handle is open; the second writes one number.
    #[expect(unsafe_code, reason = "calls of the system")]
    let ended = unsafe {
        WaitForSingleObject(helper.as_raw_handle(), wait) == WAIT_OBJECT_0
            && GetExitCodeProcess(helper.as_raw_handle(), &raw mut code) != 0
    };
    if ended { outcome(code) } else { Err(Refusal::TimedOut) }
}

#[expect(unsafe_code, reason = "handles that the system just gave us")]
fn start(command_line: &[u16], make: Make<'_>) -> Option<OwnedHandle> {
    let mut command_line = command_line.to_vec();
    let startup = STARTUPINFOW { cb: size_of::<STARTUPINFOW>() as u32, ..STARTUPINFOW::default() };
    let mut information = PROCESS_INFORMATION::default();
    let mut birth = Birth {
        command_line: &mut command_line,
        flags: CREATE_NO_WINDOW,
        startup: &startup,
        information: &mut information,
    };
    if make(&mut birth) == 0 {
        return None;
    }
    // SAFETY: both are new, and ours alone.
    unsafe {
        drop(owned(information.hThread));
        owned(information.hProcess)
    }
}

/// Makes a process as any program does.
#[expect(unsafe_code, reason = "a call of the system")]
pub fn make(birth: &mut Birth<'_>) -> BOOL {
    // SAFETY: the command line ends in a zero and may be written; nulls stand for
    // what the caller has.
    unsafe {
        CreateProcessW(
            null(),
            birth.command_line.as_mut_ptr(),
            null(),
            null(),
            0,
            birth.flags,
            null(),
            null(),
            birth.startup,
            birth.information,
        )
    }
}

impl Errand {
    /// `"FOLDER\HELPER" PID LISTS MILLISECONDS`, with a zero at the end.
    fn command_line(&self, folder: &[u16]) -> Vec<u16> {
        let Self { pid, lists, wait } = self;
        let words = format!("\\{HELPER}\" {pid} {lists} {}", wait.as_millis());
        let quote = u16::from(b'"');
        [quote]
            .into_iter()
            .chain(folder.iter().copied())
            .chain(words.encode_utf16())
            .chain([0])
            .collect()
    }

    /// What a helper was given.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Option<Self> {
        let numbers: Option<Vec<u64>> = arguments.map(|word| word.parse().ok()).collect();
        let &[pid, lists, wait] = numbers?.as_slice() else { return None };
        Some(Self { pid: u32::try_from(pid).ok()?, lists, wait: Duration::from_millis(wait) })
    }

    /// Does it, in the helper: returns its exit code.
    pub fn run(&self, folder: &Path) -> u8 {
        code(self.get_in(&folder.join(DLL)))
    }

    fn get_in(&self, dll: &Path) -> Result<Helped, Refusal> {
        let dll: Vec<u16> = dll.as_os_str().encode_wide().chain([0]).collect();
        // Only SYSTEM and administrators have it, and only the daemon's helper needs it.
        let _ = process::debug_privilege();
        let process = process::open(self.pid, ACCESS).map_err(|error| why_closed(&error))?;
        let process = process.as_handle();
        let (base, helped) = match mark::base_in(process) {
            Some(base) => (base, Helped::AlreadyHooked),
            None => (inject(process, &dll, self.wait)?, Helped::Hooked),
        };
        if self.lists != 0
            && let Some(offset) = Offset::of(&dll)
        {
            mark::tell(process, base, offset, self.lists);
        }
        Ok(helped)
    }
}

fn why_closed(error: &io::Error) -> Refusal {
    let gone = error.raw_os_error() == Some(ERROR_INVALID_PARAMETER.cast_signed());
    if gone { Refusal::Gone } else { Refusal::AccessDenied }
}

// None of them is 0 or 1, with which others end programs.
const HOOKED: u8 = 32;
const ALREADY_HOOKED: u8 = 33;
/// The first of the refusals.
const REFUSED: u8 = 64;

/// The exit code that says it.
fn code(outcome: Result<Helped, Refusal>) -> u8 {
    match outcome {
        Ok(Helped::Hooked) => HOOKED,
        Ok(Helped::AlreadyHooked) => ALREADY_HOOKED,
        Err(refusal) => {
            let at = Refusal::ALL.iter().position(|it| *it == refusal).unwrap_or_default();
            REFUSED + at as u8
        }
    }
}

/// What an exit code says. Of a helper that could not begin, or crashed, it is
/// none of ours.
fn outcome(exit_code: u32) -> Result<Helped, Refusal> {
    let outcomes = Refusal::ALL.into_iter().map(Err);
    [Ok(Helped::Hooked), Ok(Helped::AlreadyHooked)]
        .into_iter()
        .chain(outcomes)
        .find(|outcome| u32::from(code(*outcome)) == exit_code)
        .unwrap_or(Err(Refusal::NoHelper))
}

/// Is it a process of the other width?
pub fn is_for_helper(process: BorrowedHandle<'_>) -> bool {
    process::is_32_bit(process) != cfg!(target_pointer_width = "32")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_survives_the_exit_code() {
        let refused = Refusal::ALL.iter().map(|refusal| Err(*refusal));
        for it in refused.chain([Ok(Helped::Hooked), Ok(Helped::AlreadyHooked)]) {
            assert_eq!(outcome(code(it).into()), it);
        }
        for stranger in [0, 1, 31, 34, 63, 64 + Refusal::ALL.len() as u32, 259, 0xc000_0005] {
            assert_eq!(outcome(stranger), Err(Refusal::NoHelper));
        }
    }

    #[test]
    fn an_errand_arrives_as_it_was_sent() {
        let errand = Errand { pid: 4711, lists: u64::MAX, wait: Duration::from_secs(5) };
        let folder: Vec<u16> = r"C:\Program Files\x".encode_utf16().collect();
        let line = String::from_utf16(&errand.command_line(&folder)).unwrap();
        let expected = format!("\"C:\\Program Files\\x\\{HELPER}\" 4711 {} 5000\0", u64::MAX);
        assert_eq!(line, expected);
        let words = ["4711", &u64::MAX.to_string(), "5000"].map(str::to_owned);
        assert_eq!(Errand::parse(words.into_iter()), Some(errand));
        for wrong in
            [&["1", "2"][..], &["1", "2", "3", "4"], &["-1", "2", "3"], &["4294967296", "2", "3"]]
        {
            assert_eq!(Errand::parse(wrong.iter().map(|word| (*word).to_owned())), None);
        }
    }
}
