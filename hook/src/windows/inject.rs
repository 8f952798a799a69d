//! How does the DLL get into a process that is there already?

use super::helper::is_for_helper;
use super::mark::base_in;
use super::process::has_ended;
use super::shared::owned;
use super::wide;
use crate::refusal::Refusal;
use std::ffi::c_void;
use std::os::windows::io::{AsRawHandle, BorrowedHandle};
use std::ptr::{null, null_mut};
use std::time::Duration;
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, GetLastError, WAIT_OBJECT_0, WAIT_TIMEOUT,
};
use windows_sys::Win32::System::Diagnostics::Debug::WriteProcessMemory;
use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleW, GetProcAddress};
use windows_sys::Win32::System::Memory::{
    MEM_COMMIT, MEM_RELEASE, MEM_RESERVE, PAGE_READWRITE, VirtualAllocEx, VirtualFreeEx,
};
use windows_sys::Win32::System::Threading::{
    CreateRemoteThread, GetProcessInformation, GetProcessMitigationPolicy, LPTHREAD_START_ROUTINE,
    PROCESS_CREATE_THREAD, PROCESS_MITIGATION_POLICY, PROCESS_PROTECTION_LEVEL_INFORMATION,
    PROCESS_QUERY_INFORMATION, PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_SYNCHRONIZE,
    PROCESS_VM_OPERATION, PROCESS_VM_READ, PROCESS_VM_WRITE, PROTECTION_LEVEL_NONE,
    ProcessDynamicCodePolicy, ProcessProtectionLevelInfo, ProcessSignaturePolicy,
    WaitForSingleObject,
};

/// What [`inject`] needs of a process.
pub const ACCESS: u32 = PROCESS_CREATE_THREAD
    | PROCESS_QUERY_INFORMATION
    | PROCESS_QUERY_LIMITED_INFORMATION
    | PROCESS_SYNCHRONIZE
    | PROCESS_VM_OPERATION
    | PROCESS_VM_READ
    | PROCESS_VM_WRITE;

/// Has a process load the DLL at that path, which ends in a zero, and returns
/// where it was loaded. The process is as wide as the caller, and may be
/// suspended. Waits up to `wait`.
///
/// # Errors
/// See [`Refusal`]; the process runs on without the hook.
pub fn inject(process: BorrowedHandle<'_>, dll: &[u16], wait: Duration) -> Result<usize, Refusal> {
    if let Some(refusal) = forbids(process) {
        return Err(refusal);
    }
    load(process, dll, wait).map_err(|refusal| {
        // Ending has many faces.
        if has_ended(process) { Refusal::Gone } else { refusal }
    })?;
    // What the thread returned is half of an address: what is loaded, counts.
    base_in(process).ok_or(Refusal::NotLoaded)
}

/// What is known beforehand.
fn forbids(process: BorrowedHandle<'_>) -> Option<Refusal> {
    // Microsoft's and the Store's signatures; only the first bit of the other.
    const SIGNED: u32 = 0b11;
    const DYNAMIC: u32 = 0b1;
    if has_ended(process) {
        Some(Refusal::Gone)
    } else if is_for_helper(process) {
        Some(Refusal::NoHelper)
    } else if is_protected(process) {
        Some(Refusal::Protected)
    } else if policy(process, ProcessSignaturePolicy) & SIGNED != 0 {
        Some(Refusal::SignedOnly)
    } else if policy(process, ProcessDynamicCodePolicy) & DYNAMIC != 0 {
        Some(Refusal::NoDynamicCode)
    } else {
        None
    }
}

/// The bits of a mitigation policy; none where the system does not tell.
#[expect(unsafe_code, reason = "a call of the system")]
fn policy(process: BorrowedHandle<'_>, policy: PROCESS_MITIGATION_POLICY) -> u32 {
    let mut bits = 0_u32;
    // SAFETY: both policies asked for are structs of four bytes.
    let told = unsafe {
        GetProcessMitigationPolicy(
            process.as_raw_handle(),
            policy,
            (&raw mut bits).cast(),
            size_of_val(&bits),
        )
    };
    if told == 0 { 0 } else { bits }
}

/// Is it a protected process? `false` where the system does not tell.
#[expect(unsafe_code, reason = "a call of the system")]
pub fn is_protected(process: BorrowedHandle<'_>) -> bool {
    let mut level = PROCESS_PROTECTION_LEVEL_INFORMATION { ProtectionLevel: PROTECTION_LEVEL_NONE };
    // SAFETY: the struct is the one that belongs to this kind of question.
    let told = unsafe {
        GetProcessInformation(
            process.as_raw_handle(),
            ProcessProtectionLevelInfo,
            (&raw mut level).cast(),
            size_of_val(&level) as u32,
        )
    };
    told != 0 && level.ProtectionLevel != PROTECTION_LEVEL_NONE
}

/// Starts a thread in the process that loads the DLL.
#[expect(unsafe_code, reason = "calls of the system")]
fn load(process: BorrowedHandle<'_>, dll: &[u16], wait: Duration) -> Result<(), Refusal> {
    let start = load_library().ok_or(Refusal::NotLoaded)?;
    let path = Remote::write(process, dll)?;
    // SAFETY: LoadLibraryW lies at the same address in every process of a width
    // (system DLLs are moved once per start of the machine), and takes one
    // pointer as a thread's function does; it points to the path over there.
    let thread = unsafe {
        owned(CreateRemoteThread(
            process.as_raw_handle(),
            null(),
            0,
            Some(start),
            path.at,
            0,
            null_mut(),
        ))
    };
    let thread = thread.ok_or_else(last_refusal)?;
    let wait = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).min(u32::MAX - 1);
    // SAFETY: the handle is open.
    match unsafe { WaitForSingleObject(thread.as_raw_handle(), wait) } {
        WAIT_OBJECT_0 => Ok(()),
        WAIT_TIMEOUT => {
            // The thread may still come to read the path: it stays.
            std::mem::forget(path);
            Err(Refusal::TimedOut)
        }
        _ => Err(Refusal::NotLoaded),
    }
}

type Start = unsafe extern "system" fn(*mut c_void) -> u32;

#[expect(unsafe_code, reason = "calls of the system")]
fn load_library() -> Option<Start> {
    // SAFETY: both names end in a zero, and kernel32 is in every process. The
    // function takes one pointer and returns one, of which a thread keeps the
    // lower half.
    unsafe {
        let kernel = GetModuleHandleW(wide("kernel32.dll").as_ptr());
        let load = GetProcAddress(kernel, c"LoadLibraryW".as_ptr().cast())?;
        std::mem::transmute::<unsafe extern "system" fn() -> isize, LPTHREAD_START_ROUTINE>(load)
    }
}

/// Memory of another process.
struct Remote<'a> {
    process: BorrowedHandle<'a>,
    at: *mut c_void,
}

impl<'a> Remote<'a> {
    #[expect(unsafe_code, reason = "calls of the system")]
    fn write(process: BorrowedHandle<'a>, text: &[u16]) -> Result<Self, Refusal> {
        let bytes = size_of_val(text);
        // SAFETY: the system chooses the place, over there.
        let at = unsafe {
            VirtualAllocEx(
                process.as_raw_handle(),
                null(),
                bytes,
                MEM_COMMIT | MEM_RESERVE,
                PAGE_READWRITE,
            )
        };
        if at.is_null() {
            return Err(last_refusal());
        }
        let remote = Self { process, at };
        // SAFETY: `bytes` bytes are read here, and were allocated over there.
        let written = unsafe {
            WriteProcessMemory(process.as_raw_handle(), at, text.as_ptr().cast(), bytes, null_mut())
        };
        if written == 0 { Err(last_refusal()) } else { Ok(remote) }
    }
}

impl Drop for Remote<'_> {
    #[expect(unsafe_code, reason = "a call of the system")]
    fn drop(&mut self) {
        // SAFETY: it was allocated there by us, and nothing reads it any more.
        unsafe {
            VirtualFreeEx(self.process.as_raw_handle(), self.at, 0, MEM_RELEASE);
        }
    }
}

#[expect(unsafe_code, reason = "a call of the system")]
fn last_refusal() -> Refusal {
    // SAFETY: it takes nothing.
    match unsafe { GetLastError() } {
        ERROR_ACCESS_DENIED => Refusal::AccessDenied,
        _ => Refusal::NotLoaded,
    }
}
