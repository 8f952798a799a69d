//! What does Windows answer that Wine answers otherwise, in other DLLs than this?

#![expect(unsafe_code, reason = "replaces functions of Windows by their C signatures")]

use core::ffi::{CStr, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

use minhook::MinHook;
use windows_sys::{
    Win32::{
        Foundation::{ERROR_INVALID_PARAMETER, HANDLE, SetLastError},
        Security::{
            SECURITY_ATTRIBUTES, SECURITY_IMPERSONATION_LEVEL, TOKEN_ACCESS_MASK, TOKEN_TYPE,
        },
        System::{
            LibraryLoader::{GetProcAddress, LoadLibraryA},
            Pipes::GetNamedPipeClientProcessId,
            Services::{LPHANDLER_FUNCTION_EX, SERVICE_STATUS, SERVICE_STATUS_HANDLE},
            Threading::{
                CREATE_SUSPENDED, PROCESS_CREATION_FLAGS, PROCESS_INFORMATION, ResumeThread,
                STARTUPINFOW,
            },
        },
    },
    core::{BOOL, PCWSTR, PWSTR},
};

use crate::{
    object_names, own_session, process, registry, service, tokens,
    world::{World, complain},
};

/// A function of Windows that is replaced, and the way to what it was.
struct Detour {
    module: &'static CStr,
    name: &'static CStr,
    was: AtomicPtr<c_void>,
}

impl Detour {
    const fn of(module: &'static CStr, name: &'static CStr) -> Self {
        Self { module, name, was: AtomicPtr::new(core::ptr::null_mut()) }
    }

    fn make(&self, instead: *mut c_void) -> Result<(), String> {
        let refused =
            |why: &dyn core::fmt::Debug| format!("{:?} stays as it is: {why:?}", self.name);
        // SAFETY: both names end with NUL; the module stays loaded, as Windows' own do.
        let found = unsafe {
            let module = LoadLibraryA(self.module.as_ptr().cast());
            GetProcAddress(module, self.name.as_ptr().cast())
        };
        let target = found.ok_or_else(|| refused(&"not found"))? as *mut c_void;
        // SAFETY: `instead` has the signature of what it replaces: see `make`. The
        // way back is stored before the first call can go there.
        unsafe {
            let was = MinHook::create_hook(target, instead).map_err(|status| refused(&status))?;
            self.was.store(was, Ordering::Release);
            MinHook::enable_hook(target).map_err(|status| refused(&status))
        }
    }

    /// The function as it was. `F` must be its type.
    unsafe fn was<F: Copy>(&self) -> F {
        const { assert!(size_of::<F>() == size_of::<*mut c_void>(), "a function's address") };
        let was = self.was.load(Ordering::Acquire);
        // SAFETY: not null once the detour is made, and only it leads here.
        unsafe { core::mem::transmute_copy(&was) }
    }
}

static SESSION_OF: Detour = Detour::of(c"kernelbase.dll", c"ProcessIdToSessionId");
static CONSOLE: Detour = Detour::of(c"kernel32.dll", c"WTSGetActiveConsoleSessionId");
static CLIENT: Detour = Detour::of(c"kernel32.dll", c"GetNamedPipeClientSessionId");
static CREATE: Detour = Detour::of(c"kernelbase.dll", c"CreateProcessAsUserW");
static COPY: Detour = Detour::of(c"kernelbase.dll", c"DuplicateTokenEx");
static REGISTER: Detour = Detour::of(c"sechost.dll", c"RegisterServiceCtrlHandlerExW");
static STATUS: Detour = Detour::of(c"sechost.dll", c"SetServiceStatus");

/// Makes all of them.
pub(crate) fn make() -> Result<(), String> {
    SESSION_OF.make(session_of as *mut c_void)?;
    CONSOLE.make(console as *mut c_void)?;
    CLIENT.make(client as *mut c_void)?;
    CREATE.make(create as *mut c_void)?;
    COPY.make(copy as *mut c_void)?;
    REGISTER.make(register as *mut c_void)?;
    STATUS.make(status as *mut c_void)
}

unsafe extern "system" fn session_of(id: u32, session: *mut u32) -> BOOL {
    let Some(found) = process::session(id).filter(|_| !session.is_null()) else {
        // SAFETY: takes no pointers.
        unsafe { SetLastError(ERROR_INVALID_PARAMETER) };
        return 0;
    };
    // SAFETY: not null, and the caller's to write to.
    unsafe { session.write(found) };
    1
}

unsafe extern "system" fn console() -> u32 {
    let none = u32::MAX;
    World::now().sessions.iter().find(|session| session.is_console()).map_or(none, |s| s.id)
}

unsafe extern "system" fn client(pipe: HANDLE, session: *mut u32) -> BOOL {
    let mut id = 0;
    // SAFETY: the handle is the caller's to answer for, `id` is ours.
    if unsafe { GetNamedPipeClientProcessId(pipe, &raw mut id) } == 0 {
        return 0;
    }
    // SAFETY: as the caller's call.
    unsafe { session_of(id, session) }
}

type Create = unsafe extern "system" fn(
    HANDLE,
    PCWSTR,
    PWSTR,
    *const SECURITY_ATTRIBUTES,
    *const SECURITY_ATTRIBUTES,
    BOOL,
    PROCESS_CREATION_FLAGS,
    *const c_void,
    PCWSTR,
    *const STARTUPINFOW,
    *mut PROCESS_INFORMATION,
) -> BOOL;

/// The child is in the token's session before it runs.
unsafe extern "system" fn create(
    token: HANDLE,
    application: PCWSTR,
    line: PWSTR,
    process_attributes: *const SECURITY_ATTRIBUTES,
    thread_attributes: *const SECURITY_ATTRIBUTES,
    inherit: BOOL,
    flags: PROCESS_CREATION_FLAGS,
    environment: *const c_void,
    folder: PCWSTR,
    startup: *const STARTUPINFOW,
    made: *mut PROCESS_INFORMATION,
) -> BOOL {
    // SAFETY: the signature of CreateProcessAsUserW.
    let was: Create = unsafe { CREATE.was() };
    let session = tokens::session(token);
    let held = if session.is_some() { flags | CREATE_SUSPENDED } else { flags };
    // SAFETY: the caller's own arguments.
    let done = unsafe {
        was(
            token,
            application,
            line,
            process_attributes,
            thread_attributes,
            inherit,
            held,
            environment,
            folder,
            startup,
            made,
        )
    };
    if let Some(session) = session.filter(|_| done != 0) {
        // SAFETY: the call succeeded, so this was written.
        let child = unsafe { *made };
        let entry = registry::Entry { session, began: process::began_of(child.hProcess) };
        match registry::enter(child.dwProcessId, entry) {
            // It stays there when this process has ended.
            Ok(entered) => core::mem::forget(entered),
            Err(error) => complain(&format!("process {}: {error}", child.dwProcessId)),
        }
        let told =
            object_names::make(session).and_then(|()| own_session::write(child.hProcess, session));
        if let Err(error) = told {
            complain(&format!("process {}: {error}", child.dwProcessId));
        }
        if flags & CREATE_SUSPENDED == 0 {
            // SAFETY: the handle is open: the caller has yet to see it.
            unsafe { ResumeThread(child.hThread) };
        }
    }
    done
}

type Copy_ = unsafe extern "system" fn(
    HANDLE,
    TOKEN_ACCESS_MASK,
    *const SECURITY_ATTRIBUTES,
    SECURITY_IMPERSONATION_LEVEL,
    TOKEN_TYPE,
    *mut HANDLE,
) -> BOOL;

unsafe extern "system" fn copy(
    token: HANDLE,
    access: TOKEN_ACCESS_MASK,
    attributes: *const SECURITY_ATTRIBUTES,
    level: SECURITY_IMPERSONATION_LEVEL,
    kind: TOKEN_TYPE,
    new: *mut HANDLE,
) -> BOOL {
    // SAFETY: the signature of DuplicateTokenEx, and the caller's own arguments.
    unsafe {
        let done = COPY.was::<Copy_>()(token, access, attributes, level, kind, new);
        if done != 0 {
            tokens::copied(token, *new);
        }
        done
    }
}

unsafe extern "system" fn register(
    name: PCWSTR,
    handler: LPHANDLER_FUNCTION_EX,
    context: *const c_void,
) -> SERVICE_STATUS_HANDLE {
    type Register = unsafe extern "system" fn(
        PCWSTR,
        LPHANDLER_FUNCTION_EX,
        *const c_void,
    ) -> SERVICE_STATUS_HANDLE;
    // SAFETY: the signature of RegisterServiceCtrlHandlerExW, with a handler that
    // calls the caller's with the caller's context.
    unsafe {
        let was: Register = REGISTER.was();
        match handler.and_then(|handler| service::instead_of(handler, context)) {
            Some(context) => was(name, Some(service::handle), context),
            None => was(name, handler, context),
        }
    }
}

unsafe extern "system" fn status(
    service: SERVICE_STATUS_HANDLE,
    status: *const SERVICE_STATUS,
) -> BOOL {
    type Status = unsafe extern "system" fn(SERVICE_STATUS_HANDLE, *const SERVICE_STATUS) -> BOOL;
    // SAFETY: the signature of SetServiceStatus, and the caller's own arguments.
    unsafe {
        if let Some(status) = status.as_ref() {
            service::is_now(status.dwCurrentState, status.dwControlsAccepted);
        }
        STATUS.was::<Status>()(service, status)
    }
}
