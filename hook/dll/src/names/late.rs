//! Is iphlpapi there yet? Many programs never load it, and many do so late.
//!
//! It is looked for whenever something was loaded. The loader would tell of it
//! (`LdrRegisterDllNotification`), but under its locks, where nothing of other modules
//! may be called: code cannot be changed there.

use super::adapters;
use crate::detour::{LastError, Original, put_in_place};
use hook::guard::guarded;
use hook::windows::wide;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};
use windows_sys::Win32::Foundation::{HANDLE, HMODULE};
use windows_sys::Win32::System::LibraryLoader::{
    GET_MODULE_HANDLE_EX_FLAG_PIN, GetModuleHandleExW,
};

type Load = unsafe extern "system" fn(*const u16, HANDLE, u32) -> HMODULE;

static LOAD: Original = Original::new();

/// Nothing is left to be done about it.
static THERE: AtomicBool = AtomicBool::new(false);

/// Has the detours of iphlpapi ready, or puts them in place when it comes.
#[expect(unsafe_code, reason = "code in memory is changed")]
pub(super) fn install() {
    if detour() {
        THERE.store(true, Ordering::Release);
    } else {
        // SAFETY: the detour has the signature that all of LoadLibrary's kinds call it by.
        unsafe { LOAD.install("kernelbase.dll", c"LoadLibraryExW", load as *mut c_void) };
    }
}

/// Looks for it, and puts its detours in place.
pub(super) fn look() {
    if THERE.load(Ordering::Acquire) {
        return;
    }
    let _kept = LastError::keep();
    guarded((), || {
        // Nobody waits for another here: who loads in another's DllMain has the loader's
        // lock. Two may look at once, and make each detour once.
        if detour() {
            put_in_place();
            THERE.store(true, Ordering::Release);
        }
    });
}

#[expect(unsafe_code, reason = "it stands in for a function of the system")]
unsafe extern "system" fn load(name: *const u16, file: HANDLE, flags: u32) -> HMODULE {
    // SAFETY: it is called through the detour, which install() made after it stored
    // where the function goes on; the arguments are the caller's own.
    let module =
        unsafe { std::mem::transmute::<*mut c_void, Load>(LOAD.pointer())(name, file, flags) };
    if !module.is_null() {
        look();
    }
    module
}

/// If it is there. Once detoured it must not be unloaded: it would come back without.
#[expect(unsafe_code, reason = "a call of the system")]
fn detour() -> bool {
    let mut module = null_mut();
    let name = wide(adapters::MODULE);
    // SAFETY: the name ends in a zero; it writes one handle, which needs no closing.
    let is_there = unsafe {
        GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_PIN, name.as_ptr(), &raw mut module) != 0
    };
    if is_there {
        adapters::install();
    }
    is_there
}
