//! The detours of `gethostbyname` and `gethostbyaddr`.

use super::inside::Inside;
use super::{is_own, kept_of_name, machine, memory};
use crate::detour::{LastError, Original};
use hook::guard::guarded;
use hook::names::{Kept, List as _, keep};
use hook::windows::names::Host;
use std::ffi::c_void;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ptr::null_mut;
use windows_sys::Win32::Networking::WinSock::{
    AF_INET, AF_INET6, HOSTENT, WSANO_DATA, WSASetLastError,
};

type ByName = unsafe extern "system" fn(*const u8) -> *mut HOSTENT;
type ByAddress = unsafe extern "system" fn(*const u8, i32, i32) -> *mut HOSTENT;

static BY_NAME: Original = Original::new();
static BY_ADDRESS: Original = Original::new();

/// Has the detours ready.
#[expect(unsafe_code, reason = "code in memory is changed")]
pub(super) fn install() {
    // SAFETY: each detour has the signature of its function.
    unsafe {
        BY_NAME.install("ws2_32.dll", c"gethostbyname", by_name as *mut c_void);
        BY_ADDRESS.install("ws2_32.dll", c"gethostbyaddr", by_address as *mut c_void);
    }
}

#[expect(unsafe_code, reason = "it stands in for a function of the system")]
unsafe extern "system" fn by_name(name: *const u8) -> *mut HOSTENT {
    // SAFETY: it is called through the detour, which install() made after it stored
    // where the function goes on; the argument is the caller's own.
    let (original, inside) =
        unsafe { (std::mem::transmute::<*mut c_void, ByName>(BY_NAME.pointer()), Inside::enter()) };
    // SAFETY: as above.
    let entry = unsafe { original(name) };
    if inside.is_none() || entry.is_null() {
        return entry;
    }
    let kept = LastError::keep();
    let is_empty = guarded(false, || {
        // No name at all is the machine's own here.
        let asked = if name.is_null() { Some(String::new()) } else { memory::text(name) };
        if !asked.is_some_and(|asked| machine::called().is_called(&asked)) {
            return false;
        }
        // SAFETY: the system has just answered with it in this thread.
        let Some(mut host) = (unsafe { Host::new(entry) }) else { return false };
        let Some(kept) = kept_of_name(&host) else { return false };
        let length = host.rows().len();
        if kept.is_empty() {
            return length > 0;
        }
        keep(&mut host, length, &kept);
        false
    });
    drop(kept);
    if is_empty {
        // SAFETY: it takes a number.
        unsafe { WSASetLastError(WSANO_DATA) };
        return null_mut();
    }
    entry
}

#[expect(unsafe_code, reason = "it stands in for a function of the system")]
unsafe extern "system" fn by_address(address: *const u8, length: i32, family: i32) -> *mut HOSTENT {
    // SAFETY: as in by_name().
    let (original, inside) = unsafe {
        (std::mem::transmute::<*mut c_void, ByAddress>(BY_ADDRESS.pointer()), Inside::enter())
    };
    if inside.is_some() {
        let kept = LastError::keep();
        let entry = guarded(null_mut(), || by_own_address(original, address, length, family));
        if !entry.is_null() {
            return entry;
        }
        drop(kept);
    }
    // SAFETY: the caller's own arguments.
    unsafe { original(address, length, family) }
}

/// The host, if the address is the session's. The system knows no name for that, but
/// its answer about loopback has room for it. Null: it is for the system to answer.
#[expect(unsafe_code, reason = "a call of the system")]
fn by_own_address(
    original: ByAddress,
    address: *const u8,
    length: i32,
    family: i32,
) -> *mut HOSTENT {
    let six = Ipv6Addr::LOCALHOST.octets();
    let four = Ipv4Addr::LOCALHOST.octets();
    let (asked, loopback) = match (u16::try_from(family), length) {
        (Ok(AF_INET), 4..) => (memory::bytes(address.cast()).map(mapped), four.as_slice()),
        (Ok(AF_INET6), 16..) => (memory::bytes(address.cast()).map(Ipv6Addr::from), six.as_slice()),
        _ => return null_mut(),
    };
    let (Some(asked), Some(name)) = (asked, machine::full()) else { return null_mut() };
    if !is_own(asked) {
        return null_mut();
    }
    // SAFETY: the address is as long as said, and the answer the system's own.
    unsafe {
        let entry = original(loopback.as_ptr(), loopback.len() as i32, family);
        let Some(mut host) = Host::new(entry) else { return null_mut() };
        let rows = host.rows();
        let is_ipv4 = |address: Ipv6Addr| address.to_ipv4_mapped().is_some();
        let first = rows.first().and_then(|row| row.address);
        if first.is_none_or(|first| is_ipv4(first) != is_ipv4(asked)) {
            return null_mut();
        }
        keep(&mut host, rows.len(), &[Kept { row: 0, given: Some(asked) }]);
        host.call(name);
        entry
    }
}

fn mapped(octets: [u8; 4]) -> Ipv6Addr {
    Ipv4Addr::from(octets).to_ipv6_mapped()
}
