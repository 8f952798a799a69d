//! Is iphlpapi there yet? Many programs never load it, and many do so late.

use super::adapters;
use crate::detour::put_in_place;
use hook::guard::guarded;
use hook::windows::wide;
use std::ffi::c_void;
use std::ptr::null_mut;
use windows_sys::Win32::Foundation::UNICODE_STRING;
use windows_sys::Win32::System::LibraryLoader::{
    GET_MODULE_HANDLE_EX_FLAG_PIN, GetModuleHandleExW, GetModuleHandleW, GetProcAddress,
};

/// `LDR_DLL_NOTIFICATION_DATA`: the same for both reasons.
#[derive(Debug)]
#[repr(C)]
struct News {
    flags: u32,
    full_name: *const UNICODE_STRING,
    base_name: *const UNICODE_STRING,
    base: *mut c_void,
    size: u32,
}

/// `LDR_DLL_NOTIFICATION_REASON_LOADED`.
const LOADED: u32 = 1;

type Hear = unsafe extern "system" fn(u32, *const News, *mut c_void);
type Listen = unsafe extern "system" fn(u32, Hear, *mut c_void, *mut *mut c_void) -> i32;

/// Has the detours of iphlpapi ready, or puts them in place when it comes.
#[expect(unsafe_code, reason = "a call of the system")]
pub(super) fn install() {
    // Before it is looked for: another thread may be loading it.
    if let Some(listen) = listener() {
        let mut cookie = null_mut();
        // SAFETY: the function has that signature (its documentation has no header);
        // this DLL is never unloaded, so that it may be called for as long as the
        // process runs.
        unsafe { listen(0, hear, null_mut(), &raw mut cookie) };
    }
    detour();
}

/// `LdrRegisterDllNotification`, which has no import library.
#[expect(unsafe_code, reason = "a function is looked up")]
fn listener() -> Option<Listen> {
    // SAFETY: both names end in a zero; the function has that signature.
    unsafe {
        let module = GetModuleHandleW(wide("ntdll.dll").as_ptr());
        if module.is_null() {
            return None;
        }
        let function = GetProcAddress(module, c"LdrRegisterDllNotification".as_ptr().cast())?;
        Some(std::mem::transmute::<unsafe extern "system" fn() -> isize, Listen>(function))
    }
}

/// Called by the loader under its lock, after a DLL was mapped and linked and before
/// its own code runs.
#[expect(unsafe_code, reason = "the loader's structs")]
unsafe extern "system" fn hear(reason: u32, news: *const News, _: *mut c_void) {
    if reason != LOADED || news.is_null() {
        return;
    }
    // SAFETY: the loader's own structs, for as long as this runs.
    let is_ours = guarded(false, || unsafe { is_ours((*news).base_name) });
    if is_ours {
        guarded((), detour);
        guarded(false, put_in_place);
    }
}

/// # Safety
/// It is null, or a name of the loader's.
#[expect(unsafe_code, reason = "the loader's structs")]
unsafe fn is_ours(name: *const UNICODE_STRING) -> bool {
    if name.is_null() {
        return false;
    }
    // SAFETY: by the caller's word; the length is in bytes.
    unsafe {
        let length = usize::from((*name).Length) / size_of::<u16>();
        let units = (0..length).map(|at| (*name).Buffer.add(at).read());
        char::decode_utf16(units)
            .map(|letter| letter.map_or('?', |letter| letter.to_ascii_lowercase()))
            .eq(adapters::MODULE.chars())
    }
}

/// If it is there. Once detoured it must not be unloaded: it would come back without.
#[expect(unsafe_code, reason = "a call of the system")]
fn detour() {
    let mut module = null_mut();
    let name = wide(adapters::MODULE);
    // SAFETY: the name ends in a zero; it writes one handle, which needs no closing.
    let is_there = unsafe {
        GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_PIN, name.as_ptr(), &raw mut module) != 0
    };
    if is_there {
        adapters::install();
    }
}
