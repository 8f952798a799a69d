//! The detour of `CreateProcessInternalW`: children carry the hook too.
//!
//! A child is made suspended, gets the DLL, and runs on: one of the other width by
//! a helper. One that refuses the DLL runs without it.

use crate::detour::{LastError, Original};
use crate::{entry, identity, own_mark, published};
use hook::decide::Tables as _;
use hook::guard::guarded;
use hook::windows::helper::{self, Birth, Errand, is_for_helper};
use hook::windows::inject::inject;
use hook::windows::{mark, process, runs};
use std::ffi::c_void;
use std::os::windows::io::BorrowedHandle;
use std::ptr::{null, null_mut};
use std::time::Duration;
use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::System::Threading::{
    CREATE_PROTECTED_PROCESS, CREATE_SUSPENDED, DEBUG_ONLY_THIS_PROCESS, DEBUG_PROCESS,
    PROCESS_INFORMATION, ResumeThread,
};
use windows_sys::core::BOOL;

/// How long a child may take to load the DLL; then it runs without.
const PATIENCE: Duration = Duration::from_secs(5);

type Create = unsafe extern "system" fn(
    HANDLE,
    *const u16,
    *mut u16,
    *const c_void,
    *const c_void,
    BOOL,
    u32,
    *const c_void,
    *const u16,
    *const c_void,
    *mut PROCESS_INFORMATION,
    *mut HANDLE,
) -> BOOL;

static ORIGINAL: Original = Original::new();

/// Has the detour ready.
#[expect(unsafe_code, reason = "code in memory is changed")]
pub(crate) fn install() -> bool {
    // SAFETY: the detour has the signature that CreateProcessW, CreateProcessA
    // and CreateProcessAsUserW call it by.
    unsafe { ORIGINAL.install("kernelbase.dll", c"CreateProcessInternalW", create as *mut c_void) }
}

/// The function as it goes on behind the detour.
///
/// # Safety
/// Only for what the detour calls, itself or through others.
#[expect(unsafe_code, reason = "a pointer becomes a function")]
unsafe fn original() -> Create {
    // SAFETY: install() stored where the function goes on before the first call
    // came, by its own signature.
    unsafe { std::mem::transmute::<*mut c_void, Create>(ORIGINAL.pointer()) }
}

#[expect(unsafe_code, reason = "it stands in for a function of the system")]
unsafe extern "system" fn create(
    token: HANDLE,
    program: *const u16,
    command_line: *mut u16,
    process_attributes: *const c_void,
    thread_attributes: *const c_void,
    inherit: BOOL,
    flags: u32,
    environment: *const c_void,
    folder: *const u16,
    startup: *const c_void,
    information: *mut PROCESS_INFORMATION,
    new_token: *mut HANDLE,
) -> BOOL {
    // SAFETY: it is called through the detour.
    let original = unsafe { original() };
    let ours = is_for_us(flags) && !information.is_null();
    let asked = if ours { flags | CREATE_SUSPENDED } else { flags };
    // SAFETY: the caller's own arguments, and one flag more.
    let made = unsafe {
        original(
            token,
            program,
            command_line,
            process_attributes,
            thread_attributes,
            inherit,
            asked,
            environment,
            folder,
            startup,
            information,
            new_token,
        )
    };
    if made != 0 && ours {
        let _kept = LastError::keep();
        // SAFETY: the call succeeded: both handles are there and open, and the
        // caller does not know them yet.
        unsafe {
            guarded((), || adopt(BorrowedHandle::borrow_raw((*information).hProcess)));
            if flags & CREATE_SUSPENDED == 0 {
                ResumeThread((*information).hThread);
            }
        }
    }
    made
}

/// A child that is debugged stops at each of its events until its debugger goes
/// on, which is the caller, who would wait for us. A protected one takes nothing.
fn is_for_us(flags: u32) -> bool {
    flags & (DEBUG_PROCESS | DEBUG_ONLY_THIS_PROCESS | CREATE_PROTECTED_PROCESS) == 0
}

/// Gets the DLL into a child, unless it is excepted: then nothing of ours is to
/// touch it. Whatever goes wrong, the child runs.
fn adopt(child: BorrowedHandle<'_>) {
    let Some(path) = process::path_of(child) else { return };
    let path = String::from_utf16_lossy(&path);
    // Its command lies in its memory before it begins.
    let runs = runs::of(process::number_of(child), &path);
    let (excepted, lists) = published::look(|tables| {
        let own = identity::listing(tables);
        let lists = tables.lists();
        // A mark goes on through programs that do not count by themselves.
        let passes_on = own.is_virtualised(tables.flags()) || own.descends;
        (tables.running(&runs).excepted, if passes_on && !own.excepted { lists } else { 0 })
    })
    .unwrap_or_default();
    if excepted {
        return;
    }
    let Some(own) = entry::own() else { return };
    if is_for_helper(child) {
        let errand = Errand { pid: process::number_of(child), lists, wait: PATIENCE };
        let _ = helper::send(own.folder(), &errand, &make_helper);
    } else if let Ok(base) = inject(child, &own.path, PATIENCE)
        && lists != 0
        && let Some(offset) = own_mark::offset(own.base)
    {
        mark::tell(child, base, offset, lists);
    }
}

/// The helper is nobody's child to hook.
#[expect(unsafe_code, reason = "a call of the system")]
fn make_helper(birth: &mut Birth<'_>) -> BOOL {
    // SAFETY: adopt() is called by the detour; the command line ends in a zero and
    // may be written; nulls stand for what the caller has.
    unsafe {
        original()(
            null_mut(),
            null(),
            birth.command_line.as_mut_ptr(),
            null(),
            null(),
            0,
            birth.flags,
            null(),
            null(),
            (&raw const *birth.startup).cast(),
            birth.information,
            null_mut(),
        )
    }
}
