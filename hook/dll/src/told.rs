//! The detour of `getsockname`: what is a socket's address?
//!
//! The system's answer, but for one that had a port before it was connected: its
//! packets leave from where the packet engine says.

use crate::caller::caller;
use crate::detour::{LastError, Original};
use crate::name::Name;
use crate::{published, socket};
use hook::decide::Tables as _;
use hook::digest::fnv_1a;
use hook::guard::guarded;
use hook::source::Local;
use std::ffi::c_void;
use std::net::Ipv6Addr;
use windows_sys::Win32::Networking::WinSock::{
    AF_INET, IP_UNICAST_IF, IPPROTO_IP, IPPROTO_IPV6, IPV6_UNICAST_IF, SOCKADDR, SOCKADDR_STORAGE,
    SOCKET, WSAEINVAL, WSAGetLastError, getpeername,
};

type SockName = unsafe extern "system" fn(SOCKET, *mut SOCKADDR, *mut i32) -> i32;

static ORIGINAL: Original = Original::new();

/// Puts the detour in place.
#[expect(unsafe_code, reason = "code in memory is changed")]
pub(crate) fn install() {
    // SAFETY: the detour has the signature of getsockname.
    unsafe { ORIGINAL.install("ws2_32.dll", c"getsockname", getsockname as *mut c_void) };
}

/// Where getsockname goes on behind the detour.
///
/// # Safety
/// install() has stored it.
#[expect(unsafe_code, reason = "a pointer becomes a function")]
unsafe fn original() -> SockName {
    // SAFETY: it was stored by getsockname's own signature.
    unsafe { std::mem::transmute::<*mut c_void, SockName>(ORIGINAL.pointer()) }
}

#[expect(unsafe_code, reason = "it stands in for a function of the system")]
unsafe extern "system" fn getsockname(
    socket: SOCKET,
    name: *mut SOCKADDR,
    length: *mut i32,
) -> i32 {
    // SAFETY: it is called through the detour, with the caller's own arguments.
    let result = unsafe { original()(socket, name, length) };
    if result == 0 && socket::told(socket) != 0 {
        let _kept = LastError::keep();
        // SAFETY: the function has just written a name there, and its length.
        guarded((), || unsafe { tell(socket, name, *length) });
    }
    result
}

/// Writes the session's address over the host's, if that is what was kept.
///
/// # Safety
/// `length` bytes of a name are at `name`.
#[expect(unsafe_code, reason = "it writes to a program's memory")]
unsafe fn tell(socket: SOCKET, name: *mut SOCKADDR, length: i32) {
    let Some(local) = Name::read(name, length) else { return };
    let Some(peer) = peer(socket) else { return };
    let own = published::look(|tables| {
        let session = caller(tables).session.filter(|_| tables.on_pool_nic(local.address().0))?;
        match local.address().0.to_ipv4_mapped() {
            Some(_) => session.ipv4.map(|ipv4| ipv4.to_ipv6_mapped()),
            None => session.ipv6,
        }
    });
    let Some(Some(own)) = own else { return };
    if socket::told(socket) != digest(peer.address(), own) {
        return;
    }
    if let Some(told) = local.with(own) {
        // SAFETY: the name that was read there is as long as this one.
        unsafe {
            let bytes = told.length() as usize;
            std::ptr::copy_nonoverlapping(told.pointer().cast::<u8>(), name.cast::<u8>(), bytes);
        }
    }
}

/// Who tells what of whom: never 0. A connection that a listener took, and that has
/// by chance the number of one that was made before, has another peer.
pub(crate) fn digest(peer: (Ipv6Addr, u16), own: Ipv6Addr) -> u64 {
    let (address, port) = peer;
    let bytes = address.octets().into_iter().chain(port.to_be_bytes()).chain(own.octets());
    fnv_1a(bytes.map(u64::from)).max(1)
}

/// Where a socket of this process is, before it is connected.
pub(crate) fn local(socket: SOCKET) -> Local {
    place(socket, false)
}

/// Where it was bound, if it is connected already.
pub(crate) fn bound(socket: SOCKET) -> Local {
    place(socket, true)
}

#[expect(unsafe_code, reason = "calls of the system")]
fn place(socket: SOCKET, before: bool) -> Local {
    if ORIGINAL.pointer().is_null() || !socket::is_own(socket) {
        return Local::Chosen;
    }
    let mut name = SOCKADDR_STORAGE::default();
    let mut length = size_of_val(&name) as i32;
    // SAFETY: it writes at most `length` bytes to `name`.
    let result = unsafe { original()(socket, (&raw mut name).cast(), &raw mut length) };
    if result != 0 {
        // SAFETY: it takes nothing.
        let unbound = unsafe { WSAGetLastError() } == WSAEINVAL;
        // The option is of one family; which one, is not known yet.
        let bare = unbound
            && !has_interface(socket, IPPROTO_IP, IP_UNICAST_IF)
            && !has_interface(socket, IPPROTO_IPV6, IPV6_UNICAST_IF);
        return if bare { Local::Unbound } else { Local::Chosen };
    }
    let (level, option) = match name.ss_family {
        AF_INET => (IPPROTO_IP, IP_UNICAST_IF),
        _ => (IPPROTO_IPV6, IPV6_UNICAST_IF),
    };
    let Some(name) = Name::read((&raw const name).cast(), length) else { return Local::Chosen };
    let on_wildcard = name.is_wildcard() || before && socket::was_on_wildcard(socket);
    if on_wildcard && !has_interface(socket, level, option) {
        Local::Wildcard(name.address().1)
    } else {
        Local::Chosen
    }
}

/// Must its packets leave by one interface?
fn has_interface(socket: SOCKET, level: i32, option: i32) -> bool {
    socket::option(socket, level, option).is_some_and(|index| index != 0)
}

#[expect(unsafe_code, reason = "a call of the system")]
fn peer(socket: SOCKET) -> Option<Name> {
    let mut name = SOCKADDR_STORAGE::default();
    let mut length = size_of_val(&name) as i32;
    // SAFETY: it writes at most `length` bytes to `name`.
    let result = unsafe { getpeername(socket, (&raw mut name).cast(), &raw mut length) };
    if result == 0 { Name::read((&raw const name).cast(), length) } else { None }
}
