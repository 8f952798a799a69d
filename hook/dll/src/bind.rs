//! The detour of `bind`: which address does it go on with?

use crate::caller::caller;
use crate::detour::{LastError, Original};
use crate::identity::this;
use crate::published;
use hook::decide::{Asked, Decision, Refused, TCP, UDP, decide};
use hook::guard::guarded;
use hook::report::{Done, Report};
use hook::windows::mailslot;
use std::ffi::c_void;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::windows::io::AsRawHandle;
use std::ptr::null_mut;
use windows_sys::Win32::Networking::WinSock::{
    AF_INET, AF_INET6, IPPROTO_IPV6, IPV6_V6ONLY, SO_TYPE, SOCK_DGRAM, SOCK_STREAM, SOCKADDR,
    SOCKADDR_IN, SOCKADDR_IN6, SOCKET, SOCKET_ERROR, SOL_SOCKET, WSAEACCES, WSAEADDRNOTAVAIL,
    WSASetLastError, getsockopt,
};
use windows_sys::Win32::System::Diagnostics::Debug::ReadProcessMemory;

type Bind = unsafe extern "system" fn(SOCKET, *const SOCKADDR, i32) -> i32;

static ORIGINAL: Original = Original::new();

/// Puts the detour in place.
#[expect(unsafe_code, reason = "code in memory is changed")]
pub(crate) fn install() -> bool {
    // SAFETY: the detour has the signature of bind.
    unsafe { ORIGINAL.install("ws2_32.dll", c"bind", bind as *mut c_void) }
}

/// What becomes of a call.
enum Outcome {
    Leave,
    Give(Name, Report),
    Refuse(i32, Report),
}

#[expect(unsafe_code, reason = "it stands in for a function of the system")]
unsafe extern "system" fn bind(socket: SOCKET, name: *const SOCKADDR, length: i32) -> i32 {
    // SAFETY: it is only called through a detour, which install() made after it
    // stored where bind goes on, by bind's own signature.
    let original = unsafe { std::mem::transmute::<*mut c_void, Bind>(ORIGINAL.pointer()) };
    let kept = LastError::keep();
    let outcome = guarded(Outcome::Leave, || outcome(socket, name, length));
    drop(kept);
    match outcome {
        // SAFETY: the caller's own arguments.
        Outcome::Leave => unsafe { original(socket, name, length) },
        Outcome::Give(name, report) => {
            // The answer is the caller's whatever it is. If V is not on the host
            // (any more) the bind fails: at the wildcard it would listen on every
            // session's address.
            // SAFETY: the name is as long as it says, and lives.
            let result = unsafe { original(socket, name.pointer(), name.length()) };
            if result == 0 {
                tell(&report);
            }
            result
        }
        Outcome::Refuse(error, report) => {
            tell(&report);
            // SAFETY: it takes a number.
            unsafe { WSASetLastError(error) };
            SOCKET_ERROR
        }
    }
}

fn tell(report: &Report) {
    let _kept = LastError::keep();
    guarded((), || {
        mailslot::send(mailslot::NAME, report);
    });
}

fn outcome(socket: SOCKET, name: *const SOCKADDR, length: i32) -> Outcome {
    let Some(name) = Name::read(name, length) else { return Outcome::Leave };
    let (address, port) = name.address();
    let v6only = if address.is_unspecified() {
        match option(socket, IPPROTO_IPV6, IPV6_V6ONLY) {
            Some(v6only) => v6only & 0xff != 0,
            None => return Outcome::Leave,
        }
    } else {
        false
    };
    let protocol = match option(socket, SOL_SOCKET, SO_TYPE) {
        Some(SOCK_STREAM) => TCP,
        Some(SOCK_DGRAM) => UDP,
        Some(_) => 0,
        None => return Outcome::Leave,
    };
    let asked = Asked { address, port, protocol, v6only };
    let decision = published::look(|tables| decide(&asked, &caller(tables), &tables));
    let report = |done, given| Report {
        done,
        pid: std::process::id(),
        protocol,
        port,
        asked: address,
        given,
    };
    match decision {
        None | Some(Decision::Leave) => Outcome::Leave,
        Some(Decision::Give(given)) => match name.with(given) {
            Some(name) => Outcome::Give(name, report(Done::Moved, given)),
            None => Outcome::Leave,
        },
        Some(Decision::Refuse(refused)) => {
            let error = match refused {
                Refused::Foreign => WSAEACCES,
                Refused::Unleased => WSAEADDRNOTAVAIL,
            };
            Outcome::Refuse(error, report(Done::Refused, address))
        }
    }
}

/// A whole number among a socket's options.
#[expect(unsafe_code, reason = "a call of the system")]
fn option(socket: SOCKET, level: i32, option: i32) -> Option<i32> {
    let mut value = 0_i32;
    let mut length = size_of_val(&value) as i32;
    // SAFETY: it writes at most `length` bytes to `value`.
    let told =
        unsafe { getsockopt(socket, level, option, (&raw mut value).cast(), &raw mut length) };
    (told == 0 && length > 0).then_some(value)
}

/// A socket's name as `bind` takes it.
#[derive(Clone, Copy)]
enum Name {
    V4(SOCKADDR_IN),
    V6(SOCKADDR_IN6),
}

impl Name {
    /// Reads what the program passes. `None`: it is no IP address, is too short,
    /// or is not there at all, which the system will tell it.
    #[expect(unsafe_code, reason = "a program's pointer is followed")]
    fn read(name: *const SOCKADDR, length: i32) -> Option<Self> {
        let length = usize::try_from(length).ok()?;
        let mut family = 0_u16;
        // SAFETY: each is read into a struct of numbers of its own size.
        unsafe {
            copy(name.cast(), &raw mut family)?;
            match family {
                AF_INET if length >= size_of::<SOCKADDR_IN>() => {
                    let mut ipv4 = SOCKADDR_IN::default();
                    copy(name.cast(), &raw mut ipv4)?;
                    Some(Self::V4(ipv4))
                }
                AF_INET6 if length >= size_of::<SOCKADDR_IN6>() => {
                    let mut ipv6 = SOCKADDR_IN6::default();
                    copy(name.cast(), &raw mut ipv6)?;
                    Some(Self::V6(ipv6))
                }
                _ => None,
            }
        }
    }

    #[expect(unsafe_code, reason = "the system's structs have unions")]
    fn address(&self) -> (Ipv6Addr, u16) {
        // SAFETY: every view of these unions is made of numbers.
        unsafe {
            match self {
                Self::V4(name) => {
                    let address = Ipv4Addr::from(name.sin_addr.S_un.S_addr.to_ne_bytes());
                    (address.to_ipv6_mapped(), u16::from_be(name.sin_port))
                }
                Self::V6(name) => {
                    (Ipv6Addr::from(name.sin6_addr.u.Byte), u16::from_be(name.sin6_port))
                }
            }
        }
    }

    /// The same with another address. `None`: the family has no such address.
    fn with(mut self, address: Ipv6Addr) -> Option<Self> {
        match &mut self {
            Self::V4(name) => {
                let ipv4 = address.to_ipv4_mapped()?;
                name.sin_addr.S_un.S_addr = u32::from_ne_bytes(ipv4.octets());
            }
            Self::V6(name) => name.sin6_addr.u.Byte = address.octets(),
        }
        Some(self)
    }

    fn pointer(&self) -> *const SOCKADDR {
        match self {
            Self::V4(name) => (&raw const *name).cast(),
            Self::V6(name) => (&raw const *name).cast(),
        }
    }

    fn length(&self) -> i32 {
        match self {
            Self::V4(name) => size_of_val(name) as i32,
            Self::V6(name) => size_of_val(name) as i32,
        }
    }
}

/// Copies what lies at a program's own pointer. `None`: it points to nothing,
/// which would be our crash and not the error that `bind` has for it.
///
/// # Safety
/// All bits are a value of `T`.
#[expect(unsafe_code, reason = "a program's pointer is followed")]
unsafe fn copy<T>(from: *const c_void, to: *mut T) -> Option<()> {
    // SAFETY: `to` is a place for a T, and the caller's word for its bits; the
    // system checks `from`.
    let read = unsafe {
        ReadProcessMemory(this().as_raw_handle(), from, to.cast(), size_of::<T>(), null_mut())
    };
    (read != 0).then_some(())
}
