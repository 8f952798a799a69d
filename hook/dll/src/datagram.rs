//! The detours of `sendto` and `WSASendTo`: what does a datagram leave from?
//!
//! From the session's address, said with this one datagram: the socket stays where
//! it is, as the next one may be for localhost or another card. What is sent
//! overlapped is left to the packet engine: nobody promises that what is said beside
//! a datagram is read before the call returns.

use crate::caller::caller;
use crate::detour::{LastError, Original};
use crate::name::Name;
use crate::{bind, connect, published, socket, told};
use hook::decide::UDP;
use hook::guard::guarded;
use hook::source::Source;
use std::ffi::c_void;
use std::net::Ipv6Addr;
use std::ptr::null_mut;
use windows_sys::Win32::Networking::WinSock::{
    IN_PKTINFO, IN6_PKTINFO, IP_PKTINFO, IPPROTO_IP, IPPROTO_IPV6, IPV6_PKTINFO, SOCKADDR, SOCKET,
    SOCKET_ERROR, WSABUF, WSAEADDRNOTAVAIL, WSAEAFNOSUPPORT, WSAEHOSTUNREACH, WSAEINVAL,
    WSAENETUNREACH, WSAENOPROTOOPT, WSAEOPNOTSUPP, WSAGetLastError, WSAMSG, WSASendMsg,
};

type SendTo = unsafe extern "system" fn(SOCKET, *mut u8, i32, i32, *const SOCKADDR, i32) -> i32;
type WsaSendTo = unsafe extern "system" fn(
    SOCKET,
    *mut WSABUF,
    u32,
    *mut u32,
    u32,
    *const SOCKADDR,
    i32,
    *mut c_void,
    *mut c_void,
) -> i32;

static SEND_TO: Original = Original::new();
static WSA_SEND_TO: Original = Original::new();

/// Puts the detours in place.
#[expect(unsafe_code, reason = "code in memory is changed")]
pub(crate) fn install() {
    // SAFETY: each detour has the signature of its function.
    unsafe {
        SEND_TO.install("ws2_32.dll", c"sendto", send_to as *mut c_void);
        WSA_SEND_TO.install("ws2_32.dll", c"WSASendTo", wsa_send_to as *mut c_void);
    }
}

#[expect(unsafe_code, reason = "it stands in for a function of the system")]
unsafe extern "system" fn send_to(
    socket: SOCKET,
    data: *mut u8,
    data_length: i32,
    flags: i32,
    name: *const SOCKADDR,
    length: i32,
) -> i32 {
    if let (Some(source), Ok(len)) = (source(socket, name, length), u32::try_from(data_length)) {
        let (mut buffer, mut sent) = (WSABUF { len, buf: data }, 0);
        let (buffers, flags) = (&raw mut buffer, flags.cast_unsigned());
        // SAFETY: the caller's own data, and as long as he says.
        match unsafe { source.send(socket, buffers, 1, &raw mut sent, flags) } {
            Some(0) => return sent.cast_signed(),
            Some(error) => return error,
            None => {}
        }
    }
    // SAFETY: it is called through the detour, with the caller's own arguments.
    unsafe {
        let original = std::mem::transmute::<*mut c_void, SendTo>(SEND_TO.pointer());
        original(socket, data, data_length, flags, name, length)
    }
}

#[expect(unsafe_code, reason = "it stands in for a function of the system")]
unsafe extern "system" fn wsa_send_to(
    socket: SOCKET,
    buffers: *mut WSABUF,
    count: u32,
    sent: *mut u32,
    flags: u32,
    name: *const SOCKADDR,
    length: i32,
    overlapped: *mut c_void,
    routine: *mut c_void,
) -> i32 {
    if overlapped.is_null()
        && !sent.is_null()
        && let Some(source) = source(socket, name, length)
        // SAFETY: the caller's own buffers, and as many as he says; where he wants to
        // have the number of bytes is for the system to see.
        && let Some(answer) = unsafe { source.send(socket, buffers, count, sent, flags) }
    {
        return answer;
    }
    // SAFETY: it is called through the detour, with the caller's own arguments.
    unsafe {
        let original = std::mem::transmute::<*mut c_void, WsaSendTo>(WSA_SEND_TO.pointer());
        original(socket, buffers, count, sent, flags, name, length, overlapped, routine)
    }
}

/// A datagram's way, and what it leaves from.
struct From {
    target: Name,
    own: Ipv6Addr,
}

/// `None`: the system chooses. A server on a wildcard that nothing moved answers
/// from the address that was asked: the packet engine knows which.
fn source(socket: SOCKET, name: *const SOCKADDR, length: i32) -> Option<From> {
    let _kept = LastError::keep();
    guarded(None, || {
        if !socket::is_own(socket) || socket::protocol(socket) != Some(UDP) {
            return None;
        }
        let target = Name::read(name, length)?;
        let leaving = connect::leaving(UDP, target, told::local(socket));
        match published::glance(|tables| hook::source::source(&leaving, &caller(tables), &tables))?
        {
            // WSASendMsg is for sockets that are bound: it goes where the program's
            // own call would bind it.
            Source::Bind(own) => {
                bind::undetoured(socket, &target.to_choose_all()).then_some(From { target, own })
            }
            Source::Tell(own) if socket::is_port_free(socket) => Some(From { target, own }),
            Source::Tell(_) | Source::Leave => None,
        }
    })
}

/// What is said beside a datagram. The system's macros lay it out so: the head, and
/// after it, aligned as a pointer, the rest; the whole ends aligned as one, too.
#[repr(C)]
struct Control<T> {
    length: usize,
    level: i32,
    kind: i32,
    information: T,
}

impl<T> Control<T> {
    fn new(level: i32, kind: i32, information: T) -> Self {
        let length = std::mem::offset_of!(Self, information) + size_of::<T>();
        Self { length, level, kind, information }
    }
}

impl From {
    /// Returns what the system answers. `None`: nothing was sent, because of what we
    /// said beside it; then the call goes on as it was made, and its answer is the
    /// program's.
    ///
    /// # Safety
    /// `count` buffers are at `buffers`, each as long as it says.
    #[expect(unsafe_code, reason = "a call of the system")]
    unsafe fn send(
        &self,
        socket: SOCKET,
        buffers: *mut WSABUF,
        count: u32,
        sent: *mut u32,
        flags: u32,
    ) -> Option<i32> {
        let before = LastError::keep();
        // A dual-stack socket's IPv4 address goes by IPv4's option.
        let answer = match self.own.to_ipv4_mapped() {
            Some(ipv4) => {
                let mut information = IN_PKTINFO::default();
                information.ipi_addr.S_un.S_addr = u32::from_ne_bytes(ipv4.octets());
                let mut control = Control::new(IPPROTO_IP, IP_PKTINFO, information);
                // SAFETY: the caller's word.
                unsafe { self.send_with(socket, buffers, count, sent, flags, &raw mut control) }
            }
            None => {
                let mut information = IN6_PKTINFO::default();
                information.ipi6_addr.u.Byte = self.own.octets();
                let mut control = Control::new(IPPROTO_IPV6, IPV6_PKTINFO, information);
                // SAFETY: the caller's word.
                unsafe { self.send_with(socket, buffers, count, sent, flags, &raw mut control) }
            }
        };
        if answer == 0 {
            return Some(0);
        }
        // SAFETY: it takes nothing.
        match unsafe { WSAGetLastError() } {
            WSAEINVAL | WSAEADDRNOTAVAIL | WSAEOPNOTSUPP | WSAENOPROTOOPT | WSAEAFNOSUPPORT
            | WSAENETUNREACH | WSAEHOSTUNREACH => None,
            // It would be the same without us, perhaps after as long a wait.
            _ => {
                std::mem::forget(before);
                Some(SOCKET_ERROR)
            }
        }
    }

    /// # Safety
    /// As [`send`](Self::send), and `control` is one.
    #[expect(unsafe_code, reason = "a call of the system")]
    unsafe fn send_with<T>(
        &self,
        socket: SOCKET,
        buffers: *mut WSABUF,
        count: u32,
        sent: *mut u32,
        flags: u32,
        control: *mut Control<T>,
    ) -> i32 {
        let message = WSAMSG {
            name: self.target.pointer().cast_mut(),
            namelen: self.target.length(),
            lpBuffers: buffers,
            dwBufferCount: count,
            Control: WSABUF { len: size_of::<Control<T>>() as u32, buf: control.cast() },
            dwFlags: 0,
        };
        // SAFETY: all that the message points to lives until the call has returned,
        // which it does when the datagram is sent.
        unsafe { WSASendMsg(socket, &raw const message, flags, sent, null_mut(), None) }
    }
}
