//! What is known of a socket, from the system and from what this process did?
//!
//! Detours of the functions that make one, with `scope = "connect"`: a socket that
//! came from elsewhere may be another session's, whose packets would be dropped if
//! they left from this one's address.

use crate::detour::Original;
use crate::name::Name;
use hook::decide::{TCP, UDP};
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use windows_sys::Win32::Networking::WinSock::{
    INVALID_SOCKET, SO_TYPE, SOCK_DGRAM, SOCK_STREAM, SOCKET, SOL_SOCKET, WSAPROTOCOL_INFOA,
    WSAPROTOCOL_INFOW, getsockopt,
};

/// A whole number among a socket's options.
#[expect(unsafe_code, reason = "a call of the system")]
pub(crate) fn option(socket: SOCKET, level: i32, option: i32) -> Option<i32> {
    let mut value = 0_i32;
    let mut length = size_of_val(&value) as i32;
    // SAFETY: it writes at most `length` bytes to `value`.
    let told =
        unsafe { getsockopt(socket, level, option, (&raw mut value).cast(), &raw mut length) };
    (told == 0 && length > 0).then_some(value)
}

/// By the number of its IP protocol; 0: neither TCP nor UDP. `None`: it is no socket.
pub(crate) fn protocol(socket: SOCKET) -> Option<u16> {
    match option(socket, SOL_SOCKET, SO_TYPE)? {
        SOCK_STREAM => Some(TCP),
        SOCK_DGRAM => Some(UDP),
        _ => Some(0),
    }
}

/// What is kept of a socket. All of it is for the socket of that number that was
/// made here last.
struct Slot {
    /// Its number; 0: nobody's.
    made: AtomicUsize,
    /// Its program chose its port. Else the system did, or will, in whichever call.
    chosen_port: AtomicBool,
    /// Its program, or we, chose its address. Else it is on the wildcard, or will be;
    /// once it is connected its name says otherwise.
    chosen_address: AtomicBool,
    /// What its program is told of its name: see [`tell`].
    told: AtomicU64,
}

/// Two sockets that share a slot know less of themselves: that is all.
const SLOTS: usize = 16_384;

static KEPT: [Slot; SLOTS] = [const {
    Slot {
        made: AtomicUsize::new(0),
        chosen_port: AtomicBool::new(false),
        chosen_address: AtomicBool::new(false),
        told: AtomicU64::new(0),
    }
}; SLOTS];

/// Numbers of handles are multiples of four.
fn slot(socket: SOCKET) -> Option<&'static Slot> {
    KEPT.get((socket >> 2) % SLOTS)
}

fn own(socket: SOCKET) -> Option<&'static Slot> {
    slot(socket).filter(|slot| slot.made.load(Ordering::Relaxed) == socket)
}

/// Was it made by this process, and is nothing else known?
pub(crate) fn is_own(socket: SOCKET) -> bool {
    own(socket).is_some()
}

/// It was bound there.
pub(crate) fn is_bound(socket: SOCKET, name: &Name) {
    if let Some(slot) = own(socket) {
        slot.chosen_port.store(name.address().1 != 0, Ordering::Relaxed);
        slot.chosen_address.store(!name.is_wildcard(), Ordering::Relaxed);
    }
}

/// Is its port the system's choice?
pub(crate) fn is_port_free(socket: SOCKET) -> bool {
    own(socket).is_some_and(|slot| !slot.chosen_port.load(Ordering::Relaxed))
}

/// Was it on the wildcard, whatever its name says now?
pub(crate) fn was_on_wildcard(socket: SOCKET) -> bool {
    own(socket).is_some_and(|slot| !slot.chosen_address.load(Ordering::Relaxed))
}

/// Keeps a digest of what is to be told of it; 0: nothing.
pub(crate) fn tell(socket: SOCKET, digest: u64) {
    if let Some(slot) = own(socket) {
        slot.told.store(digest, Ordering::Relaxed);
    }
}

/// The digest that was kept.
pub(crate) fn told(socket: SOCKET) -> u64 {
    own(socket).map_or(0, |slot| slot.told.load(Ordering::Relaxed))
}

/// A new one has that number. `own`: it was made here.
fn begins(socket: SOCKET, own: bool) {
    if socket == INVALID_SOCKET {
        return;
    }
    if let Some(slot) = slot(socket) {
        slot.chosen_port.store(false, Ordering::Relaxed);
        slot.chosen_address.store(false, Ordering::Relaxed);
        slot.told.store(0, Ordering::Relaxed);
        slot.made.store(if own { socket } else { 0 }, Ordering::Relaxed);
    }
}

type Socket = unsafe extern "system" fn(i32, i32, i32) -> SOCKET;
type WsaSocketA =
    unsafe extern "system" fn(i32, i32, i32, *const WSAPROTOCOL_INFOA, u32, u32) -> SOCKET;
type WsaSocketW =
    unsafe extern "system" fn(i32, i32, i32, *const WSAPROTOCOL_INFOW, u32, u32) -> SOCKET;

static SOCKET_: Original = Original::new();
static WSA_SOCKET_A: Original = Original::new();
static WSA_SOCKET_W: Original = Original::new();

/// Puts the detours in place.
#[expect(unsafe_code, reason = "code in memory is changed")]
pub(crate) fn install() {
    // SAFETY: each detour has the signature of its function.
    unsafe {
        SOCKET_.install("ws2_32.dll", c"socket", socket as *mut c_void);
        WSA_SOCKET_A.install("ws2_32.dll", c"WSASocketA", wsa_socket_a as *mut c_void);
        WSA_SOCKET_W.install("ws2_32.dll", c"WSASocketW", wsa_socket_w as *mut c_void);
    }
}

#[expect(unsafe_code, reason = "it stands in for a function of the system")]
unsafe extern "system" fn socket(family: i32, kind: i32, protocol: i32) -> SOCKET {
    // SAFETY: it is called through the detour, and by the function's signature.
    let made = unsafe {
        std::mem::transmute::<*mut c_void, Socket>(SOCKET_.pointer())(family, kind, protocol)
    };
    begins(made, true);
    made
}

#[expect(unsafe_code, reason = "it stands in for a function of the system")]
unsafe extern "system" fn wsa_socket_a(
    family: i32,
    kind: i32,
    protocol: i32,
    information: *const WSAPROTOCOL_INFOA,
    group: u32,
    flags: u32,
) -> SOCKET {
    // SAFETY: it is called through the detour, and by the function's signature.
    let made = unsafe {
        let original = std::mem::transmute::<*mut c_void, WsaSocketA>(WSA_SOCKET_A.pointer());
        original(family, kind, protocol, information, group, flags)
    };
    begins(made, information.is_null());
    made
}

#[expect(unsafe_code, reason = "it stands in for a function of the system")]
unsafe extern "system" fn wsa_socket_w(
    family: i32,
    kind: i32,
    protocol: i32,
    information: *const WSAPROTOCOL_INFOW,
    group: u32,
    flags: u32,
) -> SOCKET {
    // SAFETY: it is called through the detour, and by the function's signature.
    let made = unsafe {
        let original = std::mem::transmute::<*mut c_void, WsaSocketW>(WSA_SOCKET_W.pointer());
        original(family, kind, protocol, information, group, flags)
    };
    // What WSADuplicateSocket has filled names a socket that is there already.
    begins(made, information.is_null());
    made
}
