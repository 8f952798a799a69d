//! Does the program ask, or the system on its way to an answer?
//!
//! The functions call each other, and what they get from each other is theirs to use
//! and to free. Only what the program gets is edited.

use std::sync::{Mutex, MutexGuard, PoisonError};
use windows_sys::Win32::System::Threading::GetCurrentThreadId;

/// The threads that are in one of the functions. Few at a time.
static THREADS: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// The calling thread is in one, until this goes.
#[derive(Debug)]
pub(super) struct Inside(u32);

impl Inside {
    /// `None`: it is in one already, which has called this one.
    #[expect(unsafe_code, reason = "a call of the system")]
    pub(super) fn enter() -> Option<Self> {
        // SAFETY: it takes nothing.
        let thread = unsafe { GetCurrentThreadId() };
        let mut threads = threads();
        if threads.contains(&thread) {
            return None;
        }
        threads.push(thread);
        Some(Self(thread))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        threads().retain(|thread| *thread != self.0);
    }
}

fn threads() -> MutexGuard<'static, Vec<u32>> {
    THREADS.lock().unwrap_or_else(PoisonError::into_inner)
}
