//! What is known of a process? Its program, its session, its modules.

use super::shared::owned;
use crate::section::{file_name, fold};
use std::io;
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, OwnedHandle};
use std::ptr::{null, null_mut};
use windows_sys::Win32::Foundation::{
    ERROR_BAD_LENGTH, ERROR_INVALID_PARAMETER, ERROR_NOT_ALL_ASSIGNED, FILETIME, GetLastError,
    WAIT_OBJECT_0,
};
use windows_sys::Win32::Security::{
    AdjustTokenPrivileges, LookupPrivilegeValueW, SE_DEBUG_NAME, SE_PRIVILEGE_ENABLED,
    TOKEN_ADJUST_PRIVILEGES, TOKEN_PRIVILEGES, TOKEN_QUERY,
};
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, MODULEENTRY32W, Module32FirstW, Module32NextW, PROCESSENTRY32W,
    Process32FirstW, Process32NextW, TH32CS_SNAPMODULE, TH32CS_SNAPPROCESS,
};
use windows_sys::Win32::System::RemoteDesktop::ProcessIdToSessionId;
use windows_sys::Win32::System::SystemInformation::{
    IMAGE_FILE_MACHINE, IMAGE_FILE_MACHINE_UNKNOWN,
};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetProcessId, GetProcessTimes, IsWow64Process2, OpenProcess,
    OpenProcessToken, PROCESS_NAME_WIN32, PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_SYNCHRONIZE,
    QueryFullProcessImageNameW, WaitForSingleObject,
};

/// The session of a process. `None`: it has gone.
#[expect(unsafe_code, reason = "a call of the system")]
pub fn session_of(pid: u32) -> Option<u32> {
    let mut session = 0;
    // SAFETY: it writes one number.
    (unsafe { ProcessIdToSessionId(pid, &raw mut session) } != 0).then_some(session)
}

/// Opens a process.
///
/// # Errors
/// What the system says: `ERROR_INVALID_PARAMETER` if there is none.
#[expect(unsafe_code, reason = "a call of the system")]
pub fn open(pid: u32, access: u32) -> io::Result<OwnedHandle> {
    // SAFETY: it takes numbers, and the handle is new.
    unsafe { owned(OpenProcess(access, 0, pid)) }.ok_or_else(io::Error::last_os_error)
}

/// The full path of a process's program, folded as the lists are.
pub fn program_of(process: BorrowedHandle<'_>) -> Option<Vec<u16>> {
    path_of(process).as_deref().map(fold)
}

/// The same as the system spells it.
#[expect(unsafe_code, reason = "a call of the system")]
pub fn path_of(process: BorrowedHandle<'_>) -> Option<Vec<u16>> {
    // The longest path that Windows has, and its zero.
    let mut path = vec![0_u16; 32_768];
    let mut length = 32_768;
    // SAFETY: it writes at most `length` units to `path`, then their number.
    let told = unsafe {
        QueryFullProcessImageNameW(
            process.as_raw_handle(),
            PROCESS_NAME_WIN32,
            path.as_mut_ptr(),
            &raw mut length,
        )
    };
    path.truncate(length as usize);
    (told != 0).then_some(path)
}

/// When a process was made; with its number this names it for good.
#[expect(unsafe_code, reason = "a call of the system")]
pub fn made_at(process: BorrowedHandle<'_>) -> Option<u64> {
    let mut times = [FILETIME::default(); 4];
    let [made, exited, kernel, user] = &mut times;
    // SAFETY: it writes four times.
    let told = unsafe { GetProcessTimes(process.as_raw_handle(), made, exited, kernel, user) } != 0;
    told.then(|| u64::from(made.dwHighDateTime) << 32 | u64::from(made.dwLowDateTime))
}

/// This process.
#[expect(unsafe_code, reason = "a handle that needs no closing")]
pub fn this() -> BorrowedHandle<'static> {
    // SAFETY: it is a constant that stands for the calling process, always.
    unsafe { BorrowedHandle::borrow_raw(GetCurrentProcess()) }
}

/// When this process was made.
pub fn this_made_at() -> Option<u64> {
    made_at(this())
}

/// Lets this process open those of other users, if its account may do so at all:
/// SYSTEM and administrators may.
///
/// # Errors
/// It may not.
#[expect(unsafe_code, reason = "calls of the system")]
pub fn debug_privilege() -> io::Result<()> {
    let mut token = null_mut();
    let mut privileges = TOKEN_PRIVILEGES { PrivilegeCount: 1, ..Default::default() };
    let [privilege] = &mut privileges.Privileges;
    privilege.Attributes = SE_PRIVILEGE_ENABLED;
    let access = TOKEN_ADJUST_PRIVILEGES | TOKEN_QUERY;
    // SAFETY: each writes to what it is given, which outlives the call; the token
    // is new. Success of the last one may be partial, hence the last error.
    unsafe {
        if OpenProcessToken(GetCurrentProcess(), access, &raw mut token) == 0 {
            return Err(io::Error::last_os_error());
        }
        let token = owned(token).ok_or_else(io::Error::last_os_error)?;
        if LookupPrivilegeValueW(null(), SE_DEBUG_NAME, &raw mut privilege.Luid) == 0
            || AdjustTokenPrivileges(
                token.as_raw_handle(),
                0,
                &raw const privileges,
                0,
                null_mut(),
                null_mut(),
            ) == 0
            || GetLastError() == ERROR_NOT_ALL_ASSIGNED
        {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The process's number.
#[expect(unsafe_code, reason = "a call of the system")]
pub fn number_of(process: BorrowedHandle<'_>) -> u32 {
    // SAFETY: the handle is open.
    unsafe { GetProcessId(process.as_raw_handle()) }
}

/// Is it a 32-bit process on a 64-bit Windows?
#[expect(unsafe_code, reason = "a call of the system")]
pub fn is_32_bit(process: BorrowedHandle<'_>) -> bool {
    let (mut machine, mut native): (IMAGE_FILE_MACHINE, IMAGE_FILE_MACHINE) = (0, 0);
    // SAFETY: it writes two numbers.
    let told =
        unsafe { IsWow64Process2(process.as_raw_handle(), &raw mut machine, &raw mut native) };
    told != 0 && machine != IMAGE_FILE_MACHINE_UNKNOWN
}

/// Has it ended?
#[expect(unsafe_code, reason = "a call of the system")]
pub fn has_ended(process: BorrowedHandle<'_>) -> bool {
    // SAFETY: the handle is open; nothing is waited for.
    unsafe { WaitForSingleObject(process.as_raw_handle(), 0) == WAIT_OBJECT_0 }
}

/// Is there a process of that number?
pub fn is_there(pid: u32) -> bool {
    match open(pid, PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_SYNCHRONIZE) {
        Ok(process) => !has_ended(process.as_handle()),
        // Access may be denied: only to what is there.
        Err(error) => error.raw_os_error().map(i32::cast_unsigned) != Some(ERROR_INVALID_PARAMETER),
    }
}

/// A process as a list has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its number.
    pub pid: u32,
    /// The one that made it, which may have gone since, and its number may be
    /// another's.
    pub parent: u32,
}

/// All processes of this machine.
///
/// # Errors
/// What the system says.
#[expect(unsafe_code, reason = "calls of the system")]
pub fn all() -> io::Result<Vec<Listed>> {
    // SAFETY: it takes numbers, and the handle is new.
    let snapshot = unsafe { owned(CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0)) }
        .ok_or_else(io::Error::last_os_error)?;
    let mut entry =
        PROCESSENTRY32W { dwSize: size_of::<PROCESSENTRY32W>() as u32, ..Default::default() };
    let mut found = Vec::new();
    // SAFETY: the entry has the size that it says.
    let mut more = unsafe { Process32FirstW(snapshot.as_raw_handle(), &raw mut entry) };
    while more != 0 && found.len() < MOST {
        found.push(Listed { pid: entry.th32ProcessID, parent: entry.th32ParentProcessID });
        // SAFETY: as above.
        more = unsafe { Process32NextW(snapshot.as_raw_handle(), &raw mut entry) };
    }
    Ok(found)
}

/// Where a process has loaded the module of that file name. `None`: it has not,
/// or cannot be asked.
#[expect(unsafe_code, reason = "calls of the system")]
pub fn module(process: BorrowedHandle<'_>, name: &str) -> Option<usize> {
    let wanted = fold(&name.encode_utf16().collect::<Vec<_>>());
    let pid = number_of(process);
    // A list that changes while it is made is to be made again (its manual).
    let snapshot = (0..5).find_map(|_| {
        // SAFETY: it takes numbers, and the handle is new.
        let snapshot = unsafe { owned(CreateToolhelp32Snapshot(TH32CS_SNAPMODULE, pid)) };
        // SAFETY: it takes nothing.
        let again = snapshot.is_none() && unsafe { GetLastError() } == ERROR_BAD_LENGTH;
        (!again).then_some(snapshot)
    })??;
    let mut entry =
        MODULEENTRY32W { dwSize: size_of::<MODULEENTRY32W>() as u32, ..Default::default() };
    // SAFETY: the entry has the size that it says.
    let mut more = unsafe { Module32FirstW(snapshot.as_raw_handle(), &raw mut entry) };
    for _ in 0..MOST {
        if more == 0 {
            break;
        }
        let end = entry.szModule.iter().position(|unit| *unit == 0);
        let name = entry.szModule.get(..end.unwrap_or(0)).unwrap_or_default();
        if file_name(&fold(name)) == wanted {
            return Some(entry.modBaseAddr.addr());
        }
        // SAFETY: as above.
        more = unsafe { Module32NextW(snapshot.as_raw_handle(), &raw mut entry) };
    }
    None
}

/// More processes, or modules of one, than any machine has.
const MOST: usize = 65_536;
