//! What does a thread hear whose number was that of one that ended amid a question?

use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU32, Ordering};
use windows_sys::Win32::Foundation::CloseHandle;
use windows_sys::Win32::Networking::WinSock::{ADDRINFOA, getaddrinfo};
use windows_sys::Win32::System::Threading::{
    CreateThread, ExitThread, GetCurrentThreadId, INFINITE, WaitForSingleObject,
};

/// The one that ends.
static ENDING: AtomicU32 = AtomicU32::new(0);
/// Numbers come again after a while.
const TRIES: u32 = 200_000;

#[expect(unsafe_code, reason = "a function of the system's is declared")]
#[link(name = "kernel32")]
unsafe extern "system" {
    fn AddVectoredExceptionHandler(
        first: u32,
        handler: unsafe extern "system" fn(*mut c_void) -> i32,
    ) -> *mut c_void;
}

/// Asks about `name` in such a thread.
#[expect(unsafe_code, reason = "calls of the system")]
pub(super) fn after_an_end(name: &str) -> String {
    // SAFETY: the handler has the signature of one; what each thread gets lives until
    // it has ended.
    unsafe {
        AddVectoredExceptionHandler(1, end);
        run(ask_nowhere, null());
        let mut asked = (name.to_owned(), String::new());
        for _ in 0..TRIES {
            run(ask_again, (&raw mut asked).cast_const().cast());
            if !asked.1.is_empty() {
                return asked.1;
            }
        }
    }
    "its number does not come again".to_owned()
}

#[expect(unsafe_code, reason = "calls of the system")]
unsafe fn run(what: unsafe extern "system" fn(*mut c_void) -> u32, with: *const c_void) {
    // SAFETY: by the caller's word; the handle is closed once.
    unsafe {
        let thread = CreateThread(null(), 0, Some(what), with, 0, null_mut());
        assert_eq!(WaitForSingleObject(thread, INFINITE), 0);
        CloseHandle(thread);
    }
}

/// The answer is to be written where nothing can be written.
#[expect(unsafe_code, reason = "calls of the system")]
unsafe extern "system" fn ask_nowhere(_: *mut c_void) -> u32 {
    // SAFETY: it takes nothing.
    ENDING.store(unsafe { GetCurrentThreadId() }, Ordering::Release);
    let nowhere = std::ptr::without_provenance_mut::<*mut ADDRINFOA>(8);
    // SAFETY: none: the handler ends the thread.
    unsafe { getaddrinfo(c"127.0.0.1".as_ptr().cast(), null(), null(), nowhere) };
    unreachable!("it is written nowhere");
}

/// Any exception of that thread ends it, and nothing of what it was in goes on.
#[expect(unsafe_code, reason = "the system calls it")]
unsafe extern "system" fn end(_: *mut c_void) -> i32 {
    // SAFETY: the thread is the test's own.
    unsafe {
        if GetCurrentThreadId() == ENDING.load(Ordering::Acquire) {
            ExitThread(0);
        }
    }
    0
}

#[expect(unsafe_code, reason = "the system calls it")]
unsafe extern "system" fn ask_again(asked: *mut c_void) -> u32 {
    // SAFETY: after_an_end() waits for this.
    let asked = unsafe { &mut *asked.cast::<(String, String)>() };
    // SAFETY: it takes nothing.
    if unsafe { GetCurrentThreadId() } == ENDING.load(Ordering::Acquire) {
        ENDING.store(0, Ordering::Release);
        asked.1 = super::resolve("a", "4", &asked.0);
    }
    0
}
