//! A function of the system with ours before it.

use hook::windows::wide;
use minhook::MH_STATUS;
use std::ffi::{CStr, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};
use windows_sys::Win32::Foundation::{GetLastError, SetLastError};
use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleW, GetProcAddress};

/// The functions with ours ready for them, in the order in which they get it.
static READY: Mutex<Vec<&'static Original>> = Mutex::new(Vec::new());

/// Where the function goes on once ours is done.
#[derive(Debug)]
pub(crate) struct Original {
    target: AtomicPtr<c_void>,
    behind: AtomicPtr<c_void>,
}

impl Original {
    pub(crate) const fn new() -> Self {
        Self { target: AtomicPtr::new(null_mut()), behind: AtomicPtr::new(null_mut()) }
    }

    /// Null before [`install`](Self::install), and then never.
    pub(crate) fn pointer(&self) -> *mut c_void {
        self.behind.load(Ordering::Acquire)
    }

    /// Has `ours` ready for the function of that name: [`put_in_place`] puts it there.
    ///
    /// # Safety
    /// `ours` has the function's own signature.
    #[expect(unsafe_code, reason = "code in memory is changed")]
    pub(crate) unsafe fn install(
        &'static self,
        module: &str,
        function: &CStr,
        ours: *mut c_void,
    ) -> bool {
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
            self.behind.store(original, Ordering::Release);
            self.target.store(target, Ordering::Release);
            if minhook::MinHook::queue_enable_hook(target).is_err() {
                return false;
            }
        }
        READY.lock().unwrap_or_else(PoisonError::into_inner).push(self);
        true
    }

    #[expect(unsafe_code, reason = "code in memory is changed")]
    fn is_put_in_place(&self) -> bool {
        // SAFETY: install() has made the detour.
        let answer = unsafe { minhook::MinHook::enable_hook(self.target.load(Ordering::Acquire)) };
        matches!(answer, Ok(()) | Err(MH_STATUS::MH_ERROR_ENABLED))
    }
}

/// Puts all that is ready in place, in one go: each go reads the list of all threads of
/// the machine and suspends those of the process. Where one cannot be, those after it are
/// left out. Says whether any is in place.
#[expect(unsafe_code, reason = "code in memory is changed")]
pub(crate) fn put_in_place() -> bool {
    let mut ready = READY.lock().unwrap_or_else(PoisonError::into_inner);
    let ready = std::mem::take(&mut *ready);
    // SAFETY: where each goes on was stored before it was queued.
    match unsafe { minhook::MinHook::apply_queued() } {
        Ok(()) => !ready.is_empty(),
        Err(_) => ready.iter().take_while(|one| one.is_put_in_place()).count() > 0,
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
