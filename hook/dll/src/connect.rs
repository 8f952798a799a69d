//! The detours of `connect`, `WSAConnect` and `ConnectEx`: what does a conversation
//! leave from?

use crate::caller::caller;
use crate::detour::{LastError, Original};
use crate::name::Name;
use crate::{bind, published, socket, told};
use hook::decide::TCP;
use hook::guard::guarded;
use hook::source::{Leaving, Local, Source, source};
use std::ffi::c_void;
use std::sync::atomic::{AtomicPtr, Ordering};
use windows_sys::Win32::Networking::WinSock::{QOS, SOCKADDR, SOCKET, WSABUF};
use windows_sys::core::BOOL;

type Connect = unsafe extern "system" fn(SOCKET, *const SOCKADDR, i32) -> i32;
type WsaConnect = unsafe extern "system" fn(
    SOCKET,
    *const SOCKADDR,
    i32,
    *const WSABUF,
    *mut WSABUF,
    *const QOS,
    *const QOS,
) -> i32;
type ConnectEx = unsafe extern "system" fn(
    SOCKET,
    *const SOCKADDR,
    i32,
    *const c_void,
    u32,
    *mut u32,
    *mut c_void,
) -> BOOL;

static CONNECT: Original = Original::new();
static WSA_CONNECT: Original = Original::new();
/// The provider's own ConnectEx.
static CONNECT_EX: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

/// Puts the detours in place.
#[expect(unsafe_code, reason = "code in memory is changed")]
pub(crate) fn install() {
    // SAFETY: each detour has the signature of its function.
    unsafe {
        CONNECT.install("ws2_32.dll", c"connect", connect as *mut c_void);
        WSA_CONNECT.install("ws2_32.dll", c"WSAConnect", wsa_connect as *mut c_void);
    }
}

/// What a program gets instead of a provider's ConnectEx. A second provider's own is
/// left to it.
pub(crate) fn extended(provider: *mut c_void) -> *mut c_void {
    let null = std::ptr::null_mut();
    match CONNECT_EX.compare_exchange(null, provider, Ordering::AcqRel, Ordering::Acquire) {
        Err(known) if known != provider => provider,
        _ => connect_ex as *mut c_void,
    }
}

#[expect(unsafe_code, reason = "it stands in for a function of the system")]
unsafe extern "system" fn connect(socket: SOCKET, name: *const SOCKADDR, length: i32) -> i32 {
    prepare(socket, name, length, true);
    // SAFETY: it is called through the detour, with the caller's own arguments.
    unsafe { std::mem::transmute::<*mut c_void, Connect>(CONNECT.pointer())(socket, name, length) }
}

#[expect(unsafe_code, reason = "it stands in for a function of the system")]
unsafe extern "system" fn wsa_connect(
    socket: SOCKET,
    name: *const SOCKADDR,
    length: i32,
    caller_data: *const WSABUF,
    callee_data: *mut WSABUF,
    quality: *const QOS,
    group_quality: *const QOS,
) -> i32 {
    prepare(socket, name, length, true);
    // SAFETY: it is called through the detour, with the caller's own arguments.
    unsafe {
        let original = std::mem::transmute::<*mut c_void, WsaConnect>(WSA_CONNECT.pointer());
        original(socket, name, length, caller_data, callee_data, quality, group_quality)
    }
}

/// It is for sockets that are bound, and fails with others: none is bound for it.
#[expect(unsafe_code, reason = "it stands in for a function of the system")]
unsafe extern "system" fn connect_ex(
    socket: SOCKET,
    name: *const SOCKADDR,
    length: i32,
    data: *const c_void,
    data_length: u32,
    sent: *mut u32,
    overlapped: *mut c_void,
) -> BOOL {
    prepare(socket, name, length, false);
    // SAFETY: extended() stored it before it gave this function away; the caller's
    // own arguments.
    unsafe {
        let original =
            std::mem::transmute::<*mut c_void, ConnectEx>(CONNECT_EX.load(Ordering::Acquire));
        original(socket, name, length, data, data_length, sent, overlapped)
    }
}

/// Sees to the source before the call goes on. Whatever fails here, it goes on as it
/// was made. `binds`: the call would bind the socket.
fn prepare(socket: SOCKET, name: *const SOCKADDR, length: i32, binds: bool) {
    let _kept = LastError::keep();
    guarded((), || {
        if !socket::is_own(socket) {
            return;
        }
        let told = match Name::read(name, length) {
            Some(target) => choose(socket, target, binds),
            None => None,
        };
        socket::tell(socket, told.unwrap_or(0));
    });
}

/// What is to be told of the socket, if its name will not say it.
fn choose(socket: SOCKET, target: Name, binds: bool) -> Option<u64> {
    let protocol = socket::protocol(socket)?;
    let decided = || {
        let leaving = leaving(protocol, target, told::bound(socket));
        published::look(|tables| source(&leaving, &caller(tables), &tables))
    };
    let mut decision = decided()?;
    if let Source::Bind(own) = decision
        && binds
    {
        // What is bound to an address reaches nothing from there that is led
        // elsewhere, and a datagram socket may turn to somebody else.
        if protocol == TCP && bind::undetoured(socket, &target.to_choose(own)?) {
            return None;
        }
        // As the call would do, but then its port is known.
        bind::undetoured(socket, &target.to_choose_all());
        decision = decided()?;
    }
    match decision {
        Source::Tell(own) => Some(told::digest(target.address(), own)),
        Source::Bind(_) | Source::Leave => None,
    }
}

/// What goes there from a socket, as decisions know it.
pub(crate) fn leaving(protocol: u16, target: Name, local: Local) -> Leaving {
    let (target, port) = target.address();
    Leaving { target, port, protocol, local }
}
