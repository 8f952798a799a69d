//! Who runs first where programs and the divert want the same processor?

use std::io;
use windows_sys::Win32::System::Threading::{
    GetCurrentThread, SetThreadPriority, THREAD_PRIORITY_HIGHEST,
};

/// Lets the calling thread, and no other, run ahead of ordinary programs. For
/// the one that takes turns: packets wait in the driver while it does not run,
/// and on busy hosts connections failed until their reader was preferred.
///
/// # Errors
/// The system refuses.
#[expect(unsafe_code, reason = "nothing safe sets a priority")]
pub fn run_ahead() -> io::Result<()> {
    // SAFETY: takes numbers, one of which stands for the calling thread.
    let set = unsafe { SetThreadPriority(GetCurrentThread(), THREAD_PRIORITY_HIGHEST) };
    if set == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
