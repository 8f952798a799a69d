//! The detours of `getaddrinfo`, `GetAddrInfoW` and `GetAddrInfoExW`, and of those that
//! free what they answer.

use super::inside::Inside;
use super::{is_answered, kept_of_name, machine, memory};
use crate::detour::{LastError, Original};
use hook::guard::guarded;
use hook::names::{Cuts, List as _, keep};
use hook::windows::names::{Infos, Shape};
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::{Mutex, MutexGuard, PoisonError};
use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::Networking::WinSock::{
    ADDRINFOA, ADDRINFOEXW, ADDRINFOW, LPLOOKUPSERVICE_COMPLETION_ROUTINE, NS_ALL, NS_DNS, TIMEVAL,
    WSANO_DATA, WSASetLastError,
};
use windows_sys::Win32::System::IO::OVERLAPPED;
use windows_sys::Win32::System::Threading::SetEvent;
use windows_sys::core::GUID;

type Ask =
    unsafe extern "system" fn(*const u8, *const u8, *const ADDRINFOA, *mut *mut ADDRINFOA) -> i32;
type AskWide =
    unsafe extern "system" fn(*const u16, *const u16, *const ADDRINFOW, *mut *mut ADDRINFOW) -> i32;
type AskExtended = unsafe extern "system" fn(
    *const u16,
    *const u16,
    u32,
    *const GUID,
    *const ADDRINFOEXW,
    *mut *mut ADDRINFOEXW,
    *const TIMEVAL,
    *mut OVERLAPPED,
    LPLOOKUPSERVICE_COMPLETION_ROUTINE,
    *mut HANDLE,
) -> i32;
type Free = unsafe extern "system" fn(*mut ADDRINFOA);

static ASK: Original = Original::new();
static ASK_WIDE: Original = Original::new();
static ASK_EXTENDED: Original = Original::new();
static FREE: Original = Original::new();
static FREE_WIDE: Original = Original::new();
static FREE_EXTENDED: Original = Original::new();

/// The lists that this program holds and does not see the end of.
static CUTS: Mutex<Cuts> = Mutex::new(Cuts::new());

/// Has the detours ready; those that free first: nothing is cut without them.
#[expect(unsafe_code, reason = "code in memory is changed")]
pub(super) fn install() {
    const MODULE: &str = "ws2_32.dll";
    // SAFETY: each detour has the signature of its function; which sort of list is
    // freed makes no difference to it. Two names may well be one function: the second
    // is refused then, and the first is called for both.
    unsafe {
        let plain = FREE.install(MODULE, c"freeaddrinfo", free as *mut c_void);
        let wide = FREE_WIDE.install(MODULE, c"FreeAddrInfoW", free_wide as *mut c_void);
        if plain || wide {
            ASK.install(MODULE, c"getaddrinfo", ask as *mut c_void);
            ASK_WIDE.install(MODULE, c"GetAddrInfoW", ask_wide as *mut c_void);
        }
        if FREE_EXTENDED.install(MODULE, c"FreeAddrInfoExW", free_extended as *mut c_void) {
            ASK_EXTENDED.install(MODULE, c"GetAddrInfoExW", ask_extended as *mut c_void);
        }
    }
}

#[expect(unsafe_code, reason = "it stands in for a function of the system")]
unsafe extern "system" fn ask(
    node: *const u8,
    service: *const u8,
    hints: *const ADDRINFOA,
    result: *mut *mut ADDRINFOA,
) -> i32 {
    // SAFETY: it is called through the detour, which install() made after it stored
    // where the function goes on; the arguments are the caller's own.
    unsafe {
        let original = std::mem::transmute::<*mut c_void, Ask>(ASK.pointer());
        let inside = Inside::enter();
        let answer = original(node, service, hints, result);
        let asked = || inside.as_ref().and_then(|_| memory::text(node));
        finish(answer, asked, result, Shape::Plain, &FREE)
    }
}

#[expect(unsafe_code, reason = "it stands in for a function of the system")]
unsafe extern "system" fn ask_wide(
    node: *const u16,
    service: *const u16,
    hints: *const ADDRINFOW,
    result: *mut *mut ADDRINFOW,
) -> i32 {
    // SAFETY: as in ask(); both structs are alike but for the sort of their text.
    unsafe {
        let original = std::mem::transmute::<*mut c_void, AskWide>(ASK_WIDE.pointer());
        let inside = Inside::enter();
        let answer = original(node, service, hints, result);
        let asked = || inside.as_ref().and_then(|_| memory::wide(node));
        finish(answer, asked, result.cast(), Shape::Plain, &FREE_WIDE)
    }
}

#[expect(unsafe_code, reason = "it stands in for a function of the system")]
unsafe extern "system" fn ask_extended(
    node: *const u16,
    service: *const u16,
    namespace: u32,
    provider: *const GUID,
    hints: *const ADDRINFOEXW,
    result: *mut *mut ADDRINFOEXW,
    timeout: *const TIMEVAL,
    overlapped: *mut OVERLAPPED,
    routine: LPLOOKUPSERVICE_COMPLETION_ROUTINE,
    handle: *mut HANDLE,
) -> i32 {
    // SAFETY: as in ask().
    let original =
        unsafe { std::mem::transmute::<*mut c_void, AskExtended>(ASK_EXTENDED.pointer()) };
    let inside = Inside::enter();
    // An answer that comes later would reach the program unedited. The machine knows
    // its own name without asking anybody: the answer comes at once, which callers
    // must be ready for. A provider that the program chose may ask somebody.
    let is_later = !overlapped.is_null();
    let is_known = [NS_ALL, NS_DNS].contains(&namespace) && provider.is_null();
    let at_once = is_later && is_known && inside.is_some() && {
        let _kept = LastError::keep();
        guarded(false, || is_own_name(memory::wide(node)) && is_answered())
    };
    // SAFETY: the caller's own arguments; without what is for an answer that comes
    // later, where it comes at once.
    let answer = unsafe {
        if at_once {
            original(
                node,
                service,
                namespace,
                provider,
                hints,
                result,
                null(),
                null_mut(),
                None,
                null_mut(),
            )
        } else {
            original(
                node, service, namespace, provider, hints, result, timeout, overlapped, routine,
                handle,
            )
        }
    };
    if is_later && !at_once {
        return answer;
    }
    // SAFETY: as in ask(): the answer is there, and the structs begin alike.
    unsafe {
        let asked = || inside.as_ref().and_then(|_| memory::wide(node));
        let answer = finish(answer, asked, result.cast(), Shape::Extended, &FREE_EXTENDED);
        if at_once {
            complete(overlapped, answer, result.cast());
        }
        answer
    }
}

/// What a program finds that looks for the answer where it would have come later.
#[expect(unsafe_code, reason = "a struct of the caller's")]
unsafe fn complete(overlapped: *mut OVERLAPPED, answer: i32, result: *mut c_void) {
    let _kept = LastError::keep();
    // SAFETY: the caller's struct, which the system would have filled; its event, if
    // there is one, is to be set when it is.
    unsafe {
        (*overlapped).Internal = answer.cast_unsigned() as usize;
        (*overlapped).Anonymous.Pointer = result;
        if answer == 0 && !(*overlapped).hEvent.is_null() {
            SetEvent((*overlapped).hEvent);
        }
    }
}

fn is_own_name(asked: Option<String>) -> bool {
    asked.is_some_and(|asked| machine::called().is_called(&asked))
}

/// What becomes of the system's answer. Nothing is `asked` if it is for a function of
/// the system's.
///
/// # Safety
/// If `answer` is 0, `result` points to a list of that shape, which `free` frees and
/// nobody else has seen yet.
#[expect(unsafe_code, reason = "a list of pointers")]
unsafe fn finish(
    answer: i32,
    asked: impl FnOnce() -> Option<String>,
    result: *mut *mut ADDRINFOA,
    shape: Shape,
    free: &Original,
) -> i32 {
    if answer != 0 || result.is_null() {
        return answer;
    }
    let kept = LastError::keep();
    // SAFETY: by the caller's word.
    let is_empty = guarded(false, || unsafe { !edit(*result, asked, shape) });
    drop(kept);
    if !is_empty {
        return answer;
    }
    // SAFETY: the list is the system's, whole, and nobody's then; the function that
    // frees it was detoured before.
    unsafe {
        let free = if free.pointer().is_null() { &FREE } else { free };
        if !free.pointer().is_null() {
            std::mem::transmute::<*mut c_void, Free>(free.pointer())(*result);
        }
        *result = null_mut();
        WSASetLastError(WSANO_DATA);
    }
    WSANO_DATA
}

/// False: nothing of it is for this program.
///
/// # Safety
/// As [`finish`].
#[expect(unsafe_code, reason = "a list of pointers")]
unsafe fn edit(head: *mut ADDRINFOA, asked: impl FnOnce() -> Option<String>, shape: Shape) -> bool {
    // What lay here before was freed, by whomsoever.
    cuts().take(head.addr());
    if !is_own_name(asked()) {
        return true;
    }
    // SAFETY: by the caller's word.
    let mut list = unsafe { Infos::new(head, shape) };
    let Some(kept) = kept_of_name(&list) else { return true };
    if kept.is_empty() {
        return list.rows().is_empty();
    }
    if let Some(cut) = list.cut_at(kept.len()) {
        cuts().add(cut);
    }
    let length = list.rows().len();
    keep(&mut list, length, &kept);
    true
}

#[expect(unsafe_code, reason = "it stands in for a function of the system")]
unsafe extern "system" fn free(list: *mut ADDRINFOA) {
    // SAFETY: as in ask().
    unsafe { free_whole(list, Shape::Plain, &FREE) }
}

#[expect(unsafe_code, reason = "it stands in for a function of the system")]
unsafe extern "system" fn free_wide(list: *mut ADDRINFOA) {
    // SAFETY: as in ask().
    unsafe { free_whole(list, Shape::Plain, &FREE_WIDE) }
}

#[expect(unsafe_code, reason = "it stands in for a function of the system")]
unsafe extern "system" fn free_extended(list: *mut ADDRINFOA) {
    // SAFETY: as in ask().
    unsafe { free_whole(list, Shape::Extended, &FREE_EXTENDED) }
}

/// # Safety
/// The list is the caller's own, and it is called through a detour.
#[expect(unsafe_code, reason = "a list of pointers")]
unsafe fn free_whole(head: *mut ADDRINFOA, shape: Shape, original: &Original) {
    let kept = LastError::keep();
    guarded((), || {
        if let Some(cut) = cuts().take(head.addr()) {
            // SAFETY: by the caller's word, and it is about to be freed.
            unsafe { Infos::new(head, shape).mend(cut) };
        }
    });
    drop(kept);
    // SAFETY: install() stored where the function goes on.
    unsafe { std::mem::transmute::<*mut c_void, Free>(original.pointer())(head) };
}

fn cuts() -> MutexGuard<'static, Cuts> {
    CUTS.lock().unwrap_or_else(PoisonError::into_inner)
}
