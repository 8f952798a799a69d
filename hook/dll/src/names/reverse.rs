//! The detours of `getnameinfo` and `GetNameInfoW`: what is the session's address
//! called? The host's name.

use super::inside::Inside;
use super::{is_own, machine, memory};
use crate::detour::{LastError, Original};
use hook::guard::guarded;
use hook::windows::names::address_at;
use std::ffi::c_void;
use windows_sys::Win32::Networking::WinSock::{
    AF_INET, AF_INET6, NI_NAMEREQD, NI_NOFQDN, NI_NUMERICHOST, SOCKADDR, SOCKADDR_IN, SOCKADDR_IN6,
};

type Ask<T> = unsafe extern "system" fn(*const SOCKADDR, i32, *mut T, u32, *mut T, u32, i32) -> i32;

static ASK: Original = Original::new();
static ASK_WIDE: Original = Original::new();

/// Has the detours ready.
#[expect(unsafe_code, reason = "code in memory is changed")]
pub(super) fn install() {
    // SAFETY: each detour has the signature of its function.
    unsafe {
        ASK.install("ws2_32.dll", c"getnameinfo", ask as *mut c_void);
        ASK_WIDE.install("ws2_32.dll", c"GetNameInfoW", ask_wide as *mut c_void);
    }
}

#[expect(unsafe_code, reason = "it stands in for a function of the system")]
unsafe extern "system" fn ask(
    name: *const SOCKADDR,
    length: i32,
    node: *mut u8,
    node_size: u32,
    service: *mut u8,
    service_size: u32,
    flags: i32,
) -> i32 {
    // SAFETY: it is called through the detour, which install() made after it stored
    // where the function goes on; the arguments are the caller's own.
    unsafe {
        let original = std::mem::transmute::<*mut c_void, Ask<u8>>(ASK.pointer());
        let own = own_name(name, length, node_size, flags);
        let own = own.filter(|own| own.is_ascii()).map(|own| own.bytes().collect());
        answer(original, own, name, length, node, node_size, service, service_size, flags)
    }
}

#[expect(unsafe_code, reason = "it stands in for a function of the system")]
unsafe extern "system" fn ask_wide(
    name: *const SOCKADDR,
    length: i32,
    node: *mut u16,
    node_size: u32,
    service: *mut u16,
    service_size: u32,
    flags: i32,
) -> i32 {
    // SAFETY: as in ask().
    unsafe {
        let original = std::mem::transmute::<*mut c_void, Ask<u16>>(ASK_WIDE.pointer());
        let own = own_name(name, length, node_size, flags).map(|own| own.encode_utf16().collect());
        answer(original, own, name, length, node, node_size, service, service_size, flags)
    }
}

/// What the address is called, if it is the session's, a name is asked for, and there
/// is room for it.
fn own_name(name: *const SOCKADDR, length: i32, room: u32, flags: i32) -> Option<&'static str> {
    let flags = flags.cast_unsigned();
    if flags & NI_NUMERICHOST != 0 || room == 0 {
        return None;
    }
    let _kept = LastError::keep();
    guarded(None, || {
        if !is_own(address(name, length)?) {
            return None;
        }
        let called = machine::called();
        let own = if flags & NI_NOFQDN != 0 { called.alone() } else { called.full() };
        (!own.is_empty()).then_some(own)
    })
}

#[expect(unsafe_code, reason = "a copy of the program's address is read")]
fn address(name: *const SOCKADDR, length: i32) -> Option<std::net::Ipv6Addr> {
    let length = usize::try_from(length).ok()?;
    let family = u16::from_ne_bytes(memory::bytes(name.cast())?);
    let mut copy = [0_u8; size_of::<SOCKADDR_IN6>()];
    match family {
        AF_INET if length >= size_of::<SOCKADDR_IN>() => {
            let bytes = memory::bytes::<{ size_of::<SOCKADDR_IN>() }>(name.cast())?;
            copy.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
        }
        AF_INET6 if length >= size_of::<SOCKADDR_IN6>() => copy = memory::bytes(name.cast())?,
        _ => return None,
    }
    // SAFETY: it is as long as said.
    unsafe { address_at(copy.as_ptr().cast(), copy.len()) }
}

/// The system answers with the address as a number, which looks at all arguments and
/// finds the service; then the name takes its place.
///
/// # Safety
/// The arguments are the caller's own, for this function.
#[expect(unsafe_code, reason = "a call of the system, and a buffer of the caller's")]
#[expect(clippy::too_many_arguments, reason = "the function has as many")]
unsafe fn answer<T: Copy + Default>(
    original: Ask<T>,
    own: Option<Vec<T>>,
    name: *const SOCKADDR,
    length: i32,
    node: *mut T,
    node_size: u32,
    service: *mut T,
    service_size: u32,
    flags: i32,
) -> i32 {
    let inside = Inside::enter();
    // SAFETY: by the caller's word; what is written fits into the buffer, to which the
    // system has written, too.
    unsafe {
        if let (Some(_), Some(mut own)) = (&inside, own) {
            own.push(T::default());
            let fits = own.len() <= usize::try_from(node_size).unwrap_or(0) && !node.is_null();
            let numeric = (flags.cast_unsigned() | NI_NUMERICHOST) & !NI_NAMEREQD;
            if fits
                && original(
                    name,
                    length,
                    node,
                    node_size,
                    service,
                    service_size,
                    numeric.cast_signed(),
                ) == 0
            {
                node.copy_from_nonoverlapping(own.as_ptr(), own.len());
                return 0;
            }
        }
        original(name, length, node, node_size, service, service_size, flags)
    }
}
