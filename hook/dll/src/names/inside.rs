//! Does the program ask, or the system on its way to an answer?
//!
//! The functions call each other, and what they get from each other is theirs to use
//! and to free. Only what the program gets is edited.

use crate::detour::LastError;
use std::marker::PhantomData;
use std::ptr::{dangling, null};
use std::sync::atomic::{AtomicU32, Ordering};
use windows_sys::Win32::System::Threading::{
    TLS_OUT_OF_INDEXES, TlsAlloc, TlsGetValue, TlsSetValue,
};

/// What each thread knows of itself here: null where it is in none of the functions. It
/// goes with the thread, however that ends. Not the standard library's: that has to hear
/// of threads that end, and this DLL does not.
static SLOT: AtomicU32 = AtomicU32::new(TLS_OUT_OF_INDEXES);

/// Before any of the functions is detoured. Where the process has no slot left nothing is
/// edited.
#[expect(unsafe_code, reason = "a call of the system")]
pub(super) fn install() {
    // SAFETY: it takes nothing. The slot is kept for as long as the process runs.
    SLOT.store(unsafe { TlsAlloc() }, Ordering::Release);
}

/// The calling thread is in one, until this goes. (A thread that leaves it by an
/// exception of the system's gets the system's answers from then on.)
#[derive(Debug)]
pub(super) struct Inside {
    slot: u32,
    _this_thread: PhantomData<*const ()>,
}

impl Inside {
    /// `None`: it is in one already, which has called this one.
    #[expect(unsafe_code, reason = "calls of the system")]
    pub(super) fn enter() -> Option<Self> {
        let slot = SLOT.load(Ordering::Acquire);
        if slot == TLS_OUT_OF_INDEXES {
            return None;
        }
        // To ask is to clear it.
        let _kept = LastError::keep();
        // SAFETY: the slot is ours; what is in it is never followed.
        let is_first = unsafe {
            TlsGetValue(slot).is_null() && TlsSetValue(slot, dangling::<u8>().cast()) != 0
        };
        // Made only then: one that goes unused would clear the slot.
        is_first.then(|| Self { slot, _this_thread: PhantomData })
    }
}

impl Drop for Inside {
    #[expect(unsafe_code, reason = "a call of the system")]
    fn drop(&mut self) {
        let _kept = LastError::keep();
        // SAFETY: as in enter(), in the same thread.
        unsafe { TlsSetValue(self.slot, null()) };
    }
}
