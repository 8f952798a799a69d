//! Stands in for WinDivert.dll where only speed and limits count: packets come
//! from memory as fast as they are asked for, and those sent are counted.
//!
//! What it does as WinDivert does: batches, calls that wait, the order of calls,
//! shutdown and its error 232, drop handles. What it does not do: it evaluates no
//! filter, drops nothing, and has no driver. `FakeX` functions are the tests'.

#![cfg(windows)]
#![expect(unsafe_code, reason = "a C interface, and a test's")]

mod shape;
mod state;
mod sums;

pub use shape::{Address, Feed, Tally};

use state::{Open, Waiting, with};
use std::ffi::{CStr, c_char, c_void};
use windows_sys::Win32::Foundation::{
    ERROR_DEV_NOT_EXIST, ERROR_INVALID_HANDLE, ERROR_INVALID_PARAMETER, ERROR_IO_PENDING,
    ERROR_NO_DATA, HANDLE, INVALID_HANDLE_VALUE, STATUS_PENDING, SetLastError,
};
use windows_sys::Win32::System::IO::OVERLAPPED;
use windows_sys::core::BOOL;

const RECV_SHUT: u32 = 1;
const SEND_SHUT: u32 = 2;

fn fail(code: u32) -> BOOL {
    // SAFETY: takes a number.
    unsafe { SetLastError(code) };
    0
}

/// # Safety
/// As WinDivert's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn WinDivertOpen(
    filter: *const c_char,
    _layer: u32,
    priority: i16,
    flags: u64,
) -> HANDLE {
    // SAFETY: the caller's filter ends with a zero.
    let filter = unsafe { CStr::from_ptr(filter) }.to_string_lossy().into_owned();
    let opened = with(|state| {
        if state.refuse != 0 {
            return Err(std::mem::take(&mut state.refuse));
        }
        Ok(state.open(Open { filter, priority, flags, ..Open::default() }))
    });
    match opened {
        Ok(id) => id as HANDLE,
        Err(code) => {
            fail(code);
            INVALID_HANDLE_VALUE
        }
    }
}

/// # Safety
/// As WinDivert's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn WinDivertRecvEx(
    handle: HANDLE,
    packets: *mut u8,
    length: u32,
    _received: *mut u32,
    _flags: u64,
    addresses: *mut Address,
    addresses_length: *mut u32,
    overlapped: *mut OVERLAPPED,
) -> BOOL {
    let waiting =
        Waiting { packets, length: length as usize, addresses, addresses_length, overlapped };
    with(|state| {
        if state.vanished {
            return fail(ERROR_DEV_NOT_EXIST);
        }
        let Some(open) = state.handles.get_mut(&(handle as usize)) else {
            return fail(ERROR_INVALID_HANDLE);
        };
        // SAFETY: the caller's memory is valid until the call has ended.
        if unsafe { open.fill(&waiting, &mut state.tally) } {
            return 1;
        }
        if open.shut & RECV_SHUT != 0 {
            return fail(ERROR_NO_DATA);
        }
        // SAFETY: as above.
        unsafe { (*overlapped).Internal = STATUS_PENDING as usize };
        open.waiting.push_back(waiting);
        fail(ERROR_IO_PENDING)
    })
}

/// # Safety
/// As WinDivert's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn WinDivertSendEx(
    handle: HANDLE,
    packets: *const u8,
    length: u32,
    _sent: *mut u32,
    _flags: u64,
    addresses: *const Address,
    addresses_length: u32,
    _overlapped: *mut OVERLAPPED,
) -> BOOL {
    let count = addresses_length as usize / size_of::<Address>();
    // SAFETY: the caller says how long they are.
    let (packets, addresses) = unsafe {
        (
            std::slice::from_raw_parts(packets, length as usize),
            std::slice::from_raw_parts(addresses, count),
        )
    };
    with(|state| {
        let shut = state.handles.get(&(handle as usize)).map(|open| open.shut);
        match shut {
            _ if state.vanished => fail(ERROR_DEV_NOT_EXIST),
            None => fail(ERROR_INVALID_HANDLE),
            Some(shut) if shut & SEND_SHUT != 0 => fail(ERROR_NO_DATA),
            Some(_) if state.send(packets, addresses) => 1,
            Some(_) => fail(ERROR_INVALID_PARAMETER),
        }
    })
}

/// # Safety
/// None is needed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn WinDivertShutdown(handle: HANDLE, how: u32) -> BOOL {
    with(|state| {
        let Some(open) = state.handles.get_mut(&(handle as usize)) else {
            return fail(ERROR_INVALID_HANDLE);
        };
        open.shut |= how;
        open.end_if_shut();
        1
    })
}

/// # Safety
/// None is needed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn WinDivertClose(handle: HANDLE) -> BOOL {
    with(|state| match state.handles.remove(&(handle as usize)) {
        Some(_) => 1,
        None => fail(ERROR_INVALID_HANDLE),
    })
}

/// # Safety
/// None is needed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn WinDivertSetParam(handle: HANDLE, parameter: u32, value: u64) -> BOOL {
    with(|state| match state.handles.get_mut(&(handle as usize)) {
        Some(open) => {
            open.parameters.push((parameter, value));
            1
        }
        None => fail(ERROR_INVALID_HANDLE),
    })
}

/// # Safety
/// `value` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn WinDivertGetParam(
    _handle: HANDLE,
    parameter: u32,
    value: *mut u64,
) -> BOOL {
    let (major, minor) = with(|state| state.version);
    // SAFETY: the caller's.
    unsafe { *value = if parameter == 3 { major } else { minor } };
    1
}

/// Takes every filter.
///
/// # Safety
/// None is needed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn WinDivertHelperCompileFilter(
    _filter: *const c_char,
    _layer: u32,
    _object: *mut c_void,
    _length: u32,
    _text: *mut *const c_char,
    _position: *mut u32,
) -> BOOL {
    1
}

/// As if it had just been loaded.
#[unsafe(no_mangle)]
pub extern "C" fn FakeReset() {
    with(|state| *state = state::State::new());
}

/// The next open fails with this code.
#[unsafe(no_mangle)]
pub extern "C" fn FakeRefuse(code: u32) {
    with(|state| state.refuse = code);
}

/// The driver says that it is of this version.
#[unsafe(no_mangle)]
pub extern "C" fn FakeVersion(major: u64, minor: u64) {
    with(|state| state.version = (major, minor));
}

/// The driver is gone: every call ends.
#[unsafe(no_mangle)]
pub extern "C" fn FakeVanish() {
    with(state::State::vanish);
}

/// # Safety
/// What `feed` points to is as long as it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn FakeFeed(feed: &Feed) {
    // SAFETY: the caller's promise.
    with(|state| unsafe { state.feed(feed) });
}

/// Keeps from now on what is sent.
#[unsafe(no_mangle)]
pub extern "C" fn FakeKeep() {
    with(|state| state.kept = Some(Vec::new()));
}

/// What was kept: an address, four bytes of length, a packet, and so on. Returns
/// how long that is, and writes as much as there is room.
///
/// # Safety
/// There is room for `room` bytes at `to`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn FakeKept(to: *mut u8, room: usize) -> usize {
    with(|state| {
        let kept = state.kept.as_deref().unwrap_or_default();
        // SAFETY: the caller's promise, and no more than there is.
        unsafe { std::ptr::copy_nonoverlapping(kept.as_ptr(), to, room.min(kept.len())) };
        kept.len()
    })
}

/// The open handles, the oldest first: a line each of priority, flags, parameters
/// and filter. Returns how long that is.
///
/// # Safety
/// There is room for `room` bytes at `to`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn FakeHandles(to: *mut u8, room: usize) -> usize {
    let text = with(|state| state.describe());
    // SAFETY: the caller's promise, and no more than there is.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), to, room.min(text.len())) };
    text.len()
}

/// # Safety
/// None is needed.
#[unsafe(no_mangle)]
pub extern "C" fn FakeTally(tally: &mut Tally) {
    *tally = with(|state| state.tally());
}
