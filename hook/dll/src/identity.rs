//! Who is this process? Asked once, and then known.

use crate::own_mark;
use hook::decide::Program;
use hook::section::{Runs, Tables};
use hook::windows::command::Command;
use hook::windows::{process, runs};
use std::os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::ptr::null_mut;
use std::sync::OnceLock;
use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::Security::{
    CheckTokenMembership, CreateWellKnownSid, GetTokenInformation, IsWellKnownSid, TOKEN_QUERY,
    TOKEN_USER, TokenUser, WinBuiltinAdministratorsSid, WinLocalSystemSid,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

/// This process, for calls that take one.
#[expect(unsafe_code, reason = "a handle that needs no closing")]
pub(crate) fn this() -> BorrowedHandle<'static> {
    // SAFETY: it is a constant that stands for the calling process, always.
    unsafe { BorrowedHandle::borrow_raw(GetCurrentProcess()) }
}

/// Its session, which is never another.
pub(crate) fn session() -> Option<u32> {
    static SESSION: OnceLock<Option<u32>> = OnceLock::new();
    *SESSION.get_or_init(|| process::session_of(std::process::id()))
}

/// How it was started, if it is an interpreter.
static STARTED: OnceLock<Option<Command>> = OnceLock::new();

/// Notes how it was started, before it may go to another folder: to be called when
/// the DLL comes in. It asks the system for what lies in memory, and nobody else.
pub(crate) fn note() {
    STARTED.get_or_init(|| runs::command(std::process::id(), path()));
}

/// What the lists say of this process.
pub(crate) fn listing(tables: Tables<'_>) -> Program {
    let mark = own_mark::lists();
    let descends = mark != 0 && mark == tables.lists();
    Program { descends, ..tables.running(running()) }
}

/// What it runs.
fn running() -> &'static Runs {
    static RUNS: OnceLock<Runs> = OnceLock::new();
    RUNS.get_or_init(|| runs::runs(path(), STARTED.get().and_then(Option::as_ref)))
}

/// The path of its program. Empty: unknown.
fn path() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        process::path_of(this()).map(|path| String::from_utf16_lossy(&path)).unwrap_or_default()
    })
}

/// May it bind any address? SYSTEM may, and so may an administrator's service:
/// services live in session 0. An administrator who is logged on may not: he is
/// a user like the others there.
pub(crate) fn is_privileged() -> bool {
    static PRIVILEGED: OnceLock<bool> = OnceLock::new();
    *PRIVILEGED.get_or_init(|| is_system() || session() == Some(0) && is_administrator())
}

#[expect(unsafe_code, reason = "calls of the system")]
fn is_system() -> bool {
    let mut token: HANDLE = null_mut();
    // SAFETY: it writes one handle, which is new and ours alone.
    let token = unsafe {
        if OpenProcessToken(this().as_raw_handle(), TOKEN_QUERY, &raw mut token) == 0 {
            return false;
        }
        OwnedHandle::from_raw_handle(token)
    };
    // TOKEN_USER and the longest identifier after it, aligned for its pointer.
    let mut user = [0_u64; 16];
    let mut length = 0;
    // SAFETY: it writes at most as many bytes to `user` as it has; then there is
    // a TOKEN_USER at its beginning, whose pointer points into it.
    unsafe {
        GetTokenInformation(
            token.as_raw_handle(),
            TokenUser,
            user.as_mut_ptr().cast(),
            size_of_val(&user) as u32,
            &raw mut length,
        ) != 0
            && IsWellKnownSid((*user.as_ptr().cast::<TOKEN_USER>()).User.Sid, WinLocalSystemSid)
                != 0
    }
}

#[expect(unsafe_code, reason = "calls of the system")]
fn is_administrator() -> bool {
    let mut sid = [0_u32; 17];
    let (mut length, mut member) = (size_of_val(&sid) as u32, 0);
    // SAFETY: it writes an identifier of at most `length` bytes to `sid`, which
    // the second call reads; null stands for the caller's own token.
    unsafe {
        CreateWellKnownSid(
            WinBuiltinAdministratorsSid,
            null_mut(),
            sid.as_mut_ptr().cast(),
            &raw mut length,
        ) != 0
            && CheckTokenMembership(null_mut(), sid.as_mut_ptr().cast(), &raw mut member) != 0
            && member != 0
    }
}
