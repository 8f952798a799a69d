//! The detour of `WSAIoctl`: what does it answer?

use crate::detour::{LastError, Original};
use crate::{connect, names};
use hook::guard::guarded;
use std::ffi::c_void;
use windows_sys::Win32::Networking::WinSock::{
    SIO_GET_EXTENSION_FUNCTION_POINTER, SOCKET, WSAID_CONNECTEX,
};
use windows_sys::core::GUID;

type Ioctl = unsafe extern "system" fn(
    SOCKET,
    u32,
    *const c_void,
    u32,
    *mut c_void,
    u32,
    *mut u32,
    *mut c_void,
    *mut c_void,
) -> i32;

static ORIGINAL: Original = Original::new();

/// Puts the detour in place.
#[expect(unsafe_code, reason = "code in memory is changed")]
pub(crate) fn install() {
    // SAFETY: the detour has the signature of WSAIoctl.
    unsafe { ORIGINAL.install("ws2_32.dll", c"WSAIoctl", ioctl as *mut c_void) };
}

#[expect(unsafe_code, reason = "it stands in for a function of the system")]
unsafe extern "system" fn ioctl(
    socket: SOCKET,
    code: u32,
    input: *const c_void,
    input_length: u32,
    output: *mut c_void,
    output_length: u32,
    returned: *mut u32,
    overlapped: *mut c_void,
    routine: *mut c_void,
) -> i32 {
    let question = names::ioctl::Question::of(code);
    // SAFETY: it is called through the detour, with the caller's own arguments.
    let result = unsafe {
        let original = std::mem::transmute::<*mut c_void, Ioctl>(ORIGINAL.pointer());
        original(
            socket,
            code,
            input,
            input_length,
            output,
            output_length,
            returned,
            overlapped,
            routine,
        )
    };
    // What is answered later is answered as the system does.
    if result == 0 && overlapped.is_null() {
        let _kept = LastError::keep();
        guarded((), || {
            // SAFETY: the call has read the one and written the other, both as long
            // as is looked at.
            unsafe {
                if code == SIO_GET_EXTENSION_FUNCTION_POINTER {
                    function(input, input_length, output, output_length);
                } else if let Some(question) = &question {
                    question.answered(output, returned);
                }
            }
        });
    }
    result
}

/// A pointer to a function of the provider's: to ours, where there is one.
///
/// # Safety
/// The call has succeeded with these.
#[expect(unsafe_code, reason = "it writes to a program's memory")]
unsafe fn function(input: *const c_void, input_length: u32, output: *mut c_void, room: u32) {
    let is_whole = input_length as usize >= size_of::<GUID>()
        && room as usize >= size_of::<*mut c_void>()
        && !input.is_null()
        && !output.is_null();
    if !is_whole {
        return;
    }
    // SAFETY: there are as many bytes; nothing is said of how they are aligned.
    unsafe {
        let asked = input.cast::<GUID>().read_unaligned();
        let output = output.cast::<*mut c_void>();
        if is_same(&asked, &WSAID_CONNECTEX) {
            output.write_unaligned(connect::extended(output.read_unaligned()));
        }
    }
}

fn is_same(one: &GUID, other: &GUID) -> bool {
    (one.data1, one.data2, one.data3, one.data4)
        == (other.data1, other.data2, other.data3, other.data4)
}
