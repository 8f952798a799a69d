//! The DLL's way into a process.

use crate::{bind, children, detour, identity, scope};
use hook::guard::guarded;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::OnceLock;
use windows_sys::Win32::Foundation::HMODULE;
use windows_sys::Win32::System::LibraryLoader::{
    DisableThreadLibraryCalls, GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS,
    GET_MODULE_HANDLE_EX_FLAG_PIN, GetModuleFileNameW, GetModuleHandleExW,
};
use windows_sys::Win32::System::SystemServices::DLL_PROCESS_ATTACH;
use windows_sys::core::BOOL;

/// This DLL.
#[derive(Debug)]
pub(crate) struct Own {
    /// Where it was loaded.
    pub(crate) base: usize,
    /// Its path, with a zero at the end.
    pub(crate) path: Vec<u16>,
}

impl Own {
    /// Where it lies, without a separator at the end.
    pub(crate) fn folder(&self) -> &[u16] {
        let end = self.path.iter().rposition(|unit| *unit == u16::from(b'\\'));
        self.path.get(..end.unwrap_or_default()).unwrap_or_default()
    }
}

static OWN: OnceLock<Own> = OnceLock::new();

/// This DLL, once it was loaded as one.
pub(crate) fn own() -> Option<&'static Own> {
    OWN.get()
}

/// Called by the loader under its lock: nothing here waits, loads anything, or
/// talks to anybody. `FALSE`, and the DLL is unloaded: nothing was detoured.
#[expect(unsafe_code, reason = "the loader calls it by this name")]
#[unsafe(no_mangle)]
extern "system" fn DllMain(module: HMODULE, reason: u32, _reserved: *mut c_void) -> BOOL {
    if reason != DLL_PROCESS_ATTACH {
        return 1;
    }
    // A program's standard error is not ours to write to.
    std::panic::set_hook(Box::new(|_| {}));
    guarded(0, || {
        // SAFETY: the module is the one that is being loaded.
        unsafe { DisableThreadLibraryCalls(module) };
        let Some(path) = path_of(module) else { return 0 };
        let _ = OWN.set(Own { base: module.addr(), path });
        identity::note();
        // Both, whatever becomes of one.
        let (bind, children) = (bind::install(), children::install());
        if !bind && !children {
            return 0;
        }
        scope::prepare_if_asked();
        if !detour::put_in_place() {
            return 0;
        }
        stay(module);
        1
    })
}

#[expect(unsafe_code, reason = "a call of the system")]
fn path_of(module: HMODULE) -> Option<Vec<u16>> {
    let mut path = vec![0_u16; 32_768];
    // SAFETY: it writes at most as many units as there is room for.
    let length = unsafe { GetModuleFileNameW(module, path.as_mut_ptr(), path.len() as u32) };
    let length = length as usize;
    if length == 0 || length >= path.len() {
        return None;
    }
    path.truncate(length + 1);
    Some(path)
}

/// Detoured functions lead here for as long as the process runs: it must not be
/// unloaded.
#[expect(unsafe_code, reason = "a call of the system")]
fn stay(module: HMODULE) {
    let mut pinned = null_mut();
    // SAFETY: the flag makes the name an address, and this one lies in the DLL.
    unsafe {
        GetModuleHandleExW(
            GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN,
            module.cast_const().cast(),
            &raw mut pinned,
        );
    }
}
