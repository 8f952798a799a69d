//! The detour of `bind`: which address does it go on with?

use crate::caller::caller;
use crate::detour::{LastError, Original};
use crate::name::Name;
use crate::{published, scope, socket};
use hook::decide::{Asked, Decision, Refused, Tables as _, decide};
use hook::guard::guarded;
use hook::report::{Done, Report};
use hook::windows::mailslot;
use std::ffi::c_void;
use windows_sys::Win32::Networking::WinSock::{
    IPPROTO_IPV6, IPV6_V6ONLY, SOCKADDR, SOCKET, SOCKET_ERROR, WSAEACCES, WSAEADDRNOTAVAIL,
    WSASetLastError,
};

type Bind = unsafe extern "system" fn(SOCKET, *const SOCKADDR, i32) -> i32;

static ORIGINAL: Original = Original::new();

/// Has the detour ready.
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

/// Binds as the system does. Says whether it could.
#[expect(unsafe_code, reason = "a call of the system")]
pub(crate) fn undetoured(socket: SOCKET, name: &Name) -> bool {
    // SAFETY: the name is as long as it says, and lives.
    let is_bound = !ORIGINAL.pointer().is_null()
        && unsafe { original()(socket, name.pointer(), name.length()) } == 0;
    if is_bound {
        socket::is_bound(socket, name);
    }
    is_bound
}

/// Where bind goes on behind the detour.
///
/// # Safety
/// install() has stored it.
#[expect(unsafe_code, reason = "a pointer becomes a function")]
unsafe fn original() -> Bind {
    // SAFETY: it was stored by bind's own signature.
    unsafe { std::mem::transmute::<*mut c_void, Bind>(ORIGINAL.pointer()) }
}

#[expect(unsafe_code, reason = "it stands in for a function of the system")]
unsafe extern "system" fn bind(socket: SOCKET, name: *const SOCKADDR, length: i32) -> i32 {
    // SAFETY: it is only called through a detour, which install() made after it
    // stored where bind goes on.
    let original = unsafe { original() };
    let kept = LastError::keep();
    let outcome = guarded(Outcome::Leave, || outcome(socket, name, length));
    // With the default scope nothing is known of any socket.
    let asked =
        guarded(None, || if socket::is_own(socket) { Name::read(name, length) } else { None });
    drop(kept);
    match outcome {
        Outcome::Leave => {
            // SAFETY: the caller's own arguments.
            let result = unsafe { original(socket, name, length) };
            if let (0, Some(asked)) = (result, asked) {
                socket::is_bound(socket, &asked);
            }
            result
        }
        Outcome::Give(name, report) => {
            // The answer is the caller's whatever it is. If V is not on the host
            // (any more) the bind fails: at the wildcard it would listen on every
            // session's address.
            // SAFETY: the name is as long as it says, and lives.
            let result = unsafe { original(socket, name.pointer(), name.length()) };
            if result == 0 {
                socket::is_bound(socket, &name);
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
        match socket::option(socket, IPPROTO_IPV6, IPV6_V6ONLY) {
            Some(v6only) => v6only & 0xff != 0,
            None => return Outcome::Leave,
        }
    } else {
        false
    };
    let Some(protocol) = socket::protocol(socket) else { return Outcome::Leave };
    let asked = Asked { address, port, protocol, v6only };
    let looked = published::look(|tables| {
        (decide(&asked, &caller(tables), &tables), tables.flags().connect)
    });
    let decision = looked.map(|(decision, connect)| {
        // The configuration has changed since this program began.
        if connect {
            scope::install();
        }
        decision
    });
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
