//! How does `exec` start a program in somebody's session?
//!
//! As that session's user, by the token that only the system can ask for,
//! suspended until the hook is in it, and with the caller's own standard input
//! and output.

use super::{Companion, Injected};
use crate::control::{Start, Started};
use crate::session::Session;
use sessionip_hook::windows::{process, wide};
use std::ffi::c_void;
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::ptr::{null, null_mut};
use windows_sys::Win32::Foundation::{DUPLICATE_SAME_ACCESS, DuplicateHandle, HANDLE};
use windows_sys::Win32::System::Environment::{CreateEnvironmentBlock, DestroyEnvironmentBlock};
use windows_sys::Win32::System::RemoteDesktop::WTSQueryUserToken;
use windows_sys::Win32::System::Threading::{
    CREATE_NO_WINDOW, CREATE_SUSPENDED, CREATE_UNICODE_ENVIRONMENT, CreateProcessAsUserW,
    DeleteProcThreadAttributeList, EXTENDED_STARTUPINFO_PRESENT, GetCurrentProcess,
    InitializeProcThreadAttributeList, LPPROC_THREAD_ATTRIBUTE_LIST,
    PROC_THREAD_ATTRIBUTE_HANDLE_LIST, PROCESS_DUP_HANDLE, PROCESS_INFORMATION,
    PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_SYNCHRONIZE, ResumeThread, STARTF_USESTDHANDLES,
    STARTUPINFOEXW, STARTUPINFOW, TerminateProcess, UpdateProcThreadAttribute,
};

impl Companion {
    /// Starts a program in a session for the process `caller`, with the hook in
    /// it, and hands the caller its process.
    ///
    /// # Errors
    /// Why not, as a sentence.
    pub fn start(&self, caller: u32, session: &Session, start: &Start) -> Result<Started, String> {
        let said = |what: &'static str| move |error: io::Error| format!("cannot {what}: {error}");
        let caller = process::open(caller, PROCESS_DUP_HANDLE)
            .map_err(said("reach the program that asks"))?;
        let token = user_token(session.id.0)
            .map_err(said("act as the session's user (run sessionip as a service)"))?;
        let standard = Standard::take(caller.as_handle(), start.standard);
        let made = make(token.as_handle(), start, &standard).map_err(said("start the program"))?;
        if let Injected::Refused(refusal) =
            self.injector.adopt(made.process.as_handle(), &self.content)
        {
            tracing::warn!(pid = made.pid, "a program runs without the hook: {refusal}");
        }
        let handed = hand_over(made.process.as_handle(), caller.as_handle());
        let process = handed.map_err(|error| {
            made.end();
            said("hand the program to who asked for it")(error)
        })?;
        made.go_on().map_err(|error| {
            made.end();
            said("let the program run")(error)
        })?;
        Ok(Started { pid: made.pid, process })
    }
}

/// Who is logged on to a session.
#[expect(unsafe_code, reason = "a call of the system")]
fn user_token(session: u32) -> io::Result<OwnedHandle> {
    let mut token: HANDLE = null_mut();
    // SAFETY: it writes one handle, which is new and ours alone.
    unsafe {
        if WTSQueryUserToken(session, &raw mut token) == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedHandle::from_raw_handle(token))
    }
}

/// The caller's standard input, output and error, for a child to inherit.
struct Standard([Option<OwnedHandle>; 3]);

impl Standard {
    /// What a caller does not have, its program does not get.
    fn take(caller: BorrowedHandle<'_>, handles: [u64; 3]) -> Self {
        Self(handles.map(|handle| {
            let handle: HANDLE =
                std::ptr::with_exposed_provenance_mut(usize::try_from(handle).ok()?);
            // Negative ones stand for the process, the thread and the like of whoever
            // uses them: here of the daemon.
            let none = handle.addr().cast_signed() <= 0;
            if none { None } else { inheritable(caller, handle).ok() }
        }))
    }

    fn raw(&self) -> [HANDLE; 3] {
        self.0.each_ref().map(|it| it.as_ref().map_or(null_mut(), AsRawHandle::as_raw_handle))
    }
}

#[expect(unsafe_code, reason = "calls of the system")]
fn inheritable(from: BorrowedHandle<'_>, handle: HANDLE) -> io::Result<OwnedHandle> {
    let mut ours: HANDLE = null_mut();
    // SAFETY: the system checks whether `handle` is one of that process; it writes
    // one handle, which is new and ours alone.
    unsafe {
        let done = DuplicateHandle(
            from.as_raw_handle(),
            handle,
            GetCurrentProcess(),
            &raw mut ours,
            0,
            1,
            DUPLICATE_SAME_ACCESS,
        );
        if done == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedHandle::from_raw_handle(ours))
    }
}

/// A handle of `process` in the caller's own process: to wait for, no more.
#[expect(unsafe_code, reason = "a call of the system")]
fn hand_over(process: BorrowedHandle<'_>, caller: BorrowedHandle<'_>) -> io::Result<u64> {
    let mut theirs: HANDLE = null_mut();
    // SAFETY: both handles are open; the number written is of use over there only.
    let done = unsafe {
        DuplicateHandle(
            GetCurrentProcess(),
            process.as_raw_handle(),
            caller.as_raw_handle(),
            &raw mut theirs,
            PROCESS_SYNCHRONIZE | PROCESS_QUERY_LIMITED_INFORMATION,
            0,
            0,
        )
    };
    if done == 0 { Err(io::Error::last_os_error()) } else { Ok(theirs.addr() as u64) }
}

/// A process that has not begun.
struct Made {
    pid: u32,
    process: OwnedHandle,
    thread: OwnedHandle,
}

impl Made {
    #[expect(unsafe_code, reason = "a call of the system")]
    fn go_on(&self) -> io::Result<()> {
        // SAFETY: the handle is open.
        let before = unsafe { ResumeThread(self.thread.as_raw_handle()) };
        if before == u32::MAX { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    #[expect(unsafe_code, reason = "a call of the system")]
    fn end(&self) {
        // SAFETY: the handle is open.
        unsafe {
            TerminateProcess(self.process.as_raw_handle(), 1);
        }
    }
}

#[expect(unsafe_code, reason = "calls of the system")]
fn make(token: BorrowedHandle<'_>, start: &Start, standard: &Standard) -> io::Result<Made> {
    let mut command_line = wide(&start.command_line);
    let folder: Vec<u16> = start.folder.as_os_str().encode_wide().chain([0]).collect();
    // Where users' windows are.
    let mut desktop = wide(r"winsta0\default");
    let environment = Environment::of(token)?;
    let [input, output, error] = standard.raw();
    let list: Vec<HANDLE> =
        [input, output, error].into_iter().filter(|handle| !handle.is_null()).collect();
    let mut inherited = Inherited::only(&list)?;
    let startup = STARTUPINFOEXW {
        StartupInfo: STARTUPINFOW {
            cb: size_of::<STARTUPINFOEXW>() as u32,
            lpDesktop: desktop.as_mut_ptr(),
            dwFlags: STARTF_USESTDHANDLES,
            hStdInput: input,
            hStdOutput: output,
            hStdError: error,
            ..Default::default()
        },
        lpAttributeList: inherited.list(),
    };
    let mut information = PROCESS_INFORMATION::default();
    let flags = CREATE_SUSPENDED
        | CREATE_UNICODE_ENVIRONMENT
        | EXTENDED_STARTUPINFO_PRESENT
        | CREATE_NO_WINDOW;
    // SAFETY: all texts end in a zero and live through the call, as do the list of
    // handles and the environment; both handles written are new and ours alone.
    unsafe {
        let made = CreateProcessAsUserW(
            token.as_raw_handle(),
            null(),
            command_line.as_mut_ptr(),
            null(),
            null(),
            i32::from(!list.is_empty()),
            flags,
            environment.0,
            folder.as_ptr(),
            (&raw const startup).cast(),
            &raw mut information,
        );
        if made == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Made {
            pid: information.dwProcessId,
            process: OwnedHandle::from_raw_handle(information.hProcess),
            thread: OwnedHandle::from_raw_handle(information.hThread),
        })
    }
}

/// A user's own environment.
struct Environment(*mut c_void);

impl Environment {
    #[expect(unsafe_code, reason = "a call of the system")]
    fn of(token: BorrowedHandle<'_>) -> io::Result<Self> {
        let mut block = null_mut();
        // SAFETY: it writes one pointer.
        let made = unsafe { CreateEnvironmentBlock(&raw mut block, token.as_raw_handle(), 0) };
        // Without one the program would be given the daemon's own, SYSTEM's.
        if made == 0 { Err(io::Error::last_os_error()) } else { Ok(Self(block)) }
    }
}

impl Drop for Environment {
    #[expect(unsafe_code, reason = "a call of the system")]
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: the system made it for us, and it is given back once.
            unsafe {
                DestroyEnvironmentBlock(self.0);
            }
        }
    }
}

/// Which handles a child inherits: other threads may be making handles that are
/// not for it.
struct Inherited {
    memory: Vec<u64>,
    // The list points to it.
    _handles: Box<[HANDLE]>,
}

impl Inherited {
    #[expect(unsafe_code, reason = "calls of the system")]
    fn only(handles: &[HANDLE]) -> io::Result<Self> {
        let handles: Box<[HANDLE]> = handles.into();
        let mut bytes = 0;
        // SAFETY: without memory it only says how much it needs.
        unsafe {
            InitializeProcThreadAttributeList(null_mut(), 1, 0, &raw mut bytes);
        }
        let mut list = Self { memory: vec![0; bytes.div_ceil(8).max(1)], _handles: handles };
        // SAFETY: the memory is as large as was asked for, and the handles live as
        // long as the list does.
        unsafe {
            if InitializeProcThreadAttributeList(list.list(), 1, 0, &raw mut bytes) == 0 {
                return Err(io::Error::last_os_error());
            }
            let handles = &list._handles;
            let (pointer, length) = (handles.as_ptr(), size_of_val(&**handles));
            let attribute = PROC_THREAD_ATTRIBUTE_HANDLE_LIST as usize;
            if length != 0
                && UpdateProcThreadAttribute(
                    list.list(),
                    0,
                    attribute,
                    pointer.cast(),
                    length,
                    null_mut(),
                    null(),
                ) == 0
            {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(list)
    }

    fn list(&mut self) -> LPPROC_THREAD_ATTRIBUTE_LIST {
        self.memory.as_mut_ptr().cast()
    }
}

impl Drop for Inherited {
    #[expect(unsafe_code, reason = "a call of the system")]
    fn drop(&mut self) {
        // SAFETY: an initialised list, or one whose memory is zeroes, which has
        // nothing to release.
        unsafe { DeleteProcThreadAttributeList(self.list()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SessionId;
    use windows_sys::Win32::Foundation::WAIT_OBJECT_0;
    use windows_sys::Win32::Security::TOKEN_ALL_ACCESS;
    use windows_sys::Win32::System::Threading::{
        GetExitCodeProcess, OpenProcessToken, WaitForSingleObject,
    };

    #[test]
    #[expect(unsafe_code, reason = "calls of the system")]
    fn what_cannot_be_handed_over_is_ended_before_it_begins() {
        let mut token: HANDLE = null_mut();
        // SAFETY: it writes one handle, which is new and ours alone.
        let token = unsafe {
            assert_ne!(OpenProcessToken(GetCurrentProcess(), TOKEN_ALL_ACCESS, &raw mut token), 0);
            OwnedHandle::from_raw_handle(token)
        };
        let start = Start {
            session: SessionId(0),
            user: None,
            command_line: "cmd.exe /c exit 7".into(),
            folder: std::env::current_dir().unwrap(),
            standard: [0; 3],
        };
        let made = make(token.as_handle(), &start, &Standard([None, None, None])).unwrap();
        made.end();
        let mut code = 0;
        // SAFETY: the handle is open; it writes one number.
        unsafe {
            assert_eq!(WaitForSingleObject(made.process.as_raw_handle(), 10_000), WAIT_OBJECT_0);
            assert_ne!(GetExitCodeProcess(made.process.as_raw_handle(), &raw mut code), 0);
        }
        assert_eq!(code, 1, "ours, and not its own");
    }
}
