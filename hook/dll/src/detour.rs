//! A function of the system with ours before it.

use hook::windows::wide;
use std::ffi::{CStr, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};
use windows_sys::Win32::Foundation::{GetLastError, SetLastError};
use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleW, GetProcAddress};

/// Where the function goes on once ours is done.
#[derive(Debug)]
pub(crate) struct Original(AtomicPtr<c_void>);

impl Original {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(null_mut()))
    }

    /// Null before [`install`](Self::install), and then never.
    pub(crate) fn pointer(&self) -> *mut c_void {
        self.0.load(Ordering::Acquire)
    }

    /// Puts `ours` before the function of that name.
    ///
    /// # Safety
    /// `ours` has the function's own signature.
    #[expect(unsafe_code, reason = "code in memory is changed")]
    pub(crate) unsafe fn install(&self, module: &str, function: &CStr, ours: *mut c_void) -> bool {
        // SAFETY: both names end in a zero.
        let target = unsafe {
            let module = GetModuleHandleW(wide(module).as_ptr());
            if module.is_null() {
                return false;
            }
            GetProcAddress(module, function.as_ptr().cast())
        };
        let Some(target) = target else { return false };
        let target = target as *mut c_void;
        // SAFETY: the target is a function, and `ours` takes its place by the
        // caller's word. The way back is known before the first call comes.
        unsafe {
            let Ok(original) = minhook::MinHook::create_hook(target, ours) else { return false };
            self.0.store(original, Ordering::Release);
            minhook::MinHook::enable_hook(target).is_ok()
        }
    }
}

/// The calling thread's last error, put back when this goes: our own calls leave
/// no trace in it. Winsock's is the same.
#[derive(Debug)]
pub(crate) struct LastError(u32);

impl LastError {
    #[expect(unsafe_code, reason = "a call of the system")]
    pub(crate) fn keep() -> Self {
        // SAFETY: it takes nothing.
        Self(unsafe { GetLastError() })
    }
}

impl Drop for LastError {
    #[expect(unsafe_code, reason = "a call of the system")]
    fn drop(&mut self) {
        // SAFETY: it takes a number.
        unsafe { SetLastError(self.0) }
    }
}
