//! What a program does that talks to others: `connect` and `send`, with words before
//! the addresses that say how.
//!
//! `connect [tcp|udp] [dual] [exclusive] [slow|polled] [by wsa|ex|plain] [from ADDR] to
//! ADDR` answers with the socket's name afterwards, `send [failing ERROR]` with what was
//! said beside the datagram, and the socket's name.

use crate::victim::{local, open, to_system};
use std::collections::BTreeSet;
use std::ffi::c_void;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};
use std::sync::{Mutex, Once};
use std::time::Duration;
use windows_sys::Win32::Foundation::{GetLastError, SetLastError};
use windows_sys::Win32::Networking::WinSock::{
    AF_INET, CMSGHDR, FD_SET, FIONBIO, FROM_PROTOCOL_INFO, IN_PKTINFO, IP_UNICAST_IF, IPPROTO_IP,
    LPFN_CONNECTEX, SIO_GET_EXTENSION_FUNCTION_POINTER, SO_UPDATE_CONNECT_CONTEXT, SOCK_STREAM,
    SOCKADDR, SOCKET, SOCKET_ERROR, SOL_SOCKET, TIMEVAL, WSA_IO_PENDING, WSABUF, WSAConnect,
    WSADuplicateSocketW, WSAEALREADY, WSAEINVAL, WSAEISCONN, WSAEWOULDBLOCK, WSAGetLastError,
    WSAGetOverlappedResult, WSAID_CONNECTEX, WSAIoctl, WSAMSG, WSAPROTOCOL_INFOW, WSASendTo,
    WSASetLastError, WSASocketA, WSASocketW, bind, closesocket, connect, ioctlsocket, select,
    sendto, setsockopt,
};
use windows_sys::Win32::System::IO::OVERLAPPED;
use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleW, GetProcAddress};
use windows_sys::Win32::System::Threading::CreateEventW;

/// The word after `key`.
fn after<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    let mut words = text.split(' ');
    words.find(|word| *word == key)?;
    words.next()
}

/// A name, and how long it is.
struct Name(windows_sys::Win32::Networking::WinSock::SOCKADDR_IN6, i32);

impl Name {
    fn of(address: &str) -> Self {
        let address: SocketAddr = address.parse().unwrap();
        Self(to_system(address), if address.is_ipv4() { 16 } else { 28 })
    }

    fn pointer(&self) -> *const SOCKADDR {
        (&raw const self.0).cast()
    }
}

fn last() -> String {
    // SAFETY: it takes nothing.
    #[expect(unsafe_code, reason = "a call of the system")]
    let error = unsafe { WSAGetLastError() };
    format!("error {error}")
}

/// A socket as the words say, bound if they do.
#[expect(unsafe_code, reason = "calls of the system")]
fn prepared(text: &str) -> SOCKET {
    // The family is the target's.
    let kind = format!("{} {}", text.replace("from [", ""), after(text, "to").unwrap());
    let mut socket = open(&kind);
    if text.contains("passed") {
        socket = passed(socket);
    }
    if let Some(made) = after(text, "made") {
        // SAFETY: the first is closed once; they take numbers, and no information.
        unsafe {
            closesocket(socket);
            socket = match made {
                "ansi" => WSASocketA(AF_INET.into(), SOCK_STREAM, 0, null(), 0, 0),
                _ => WSASocketW(AF_INET.into(), SOCK_STREAM, 0, null(), 0, 0),
            };
        }
    }
    if text.contains("pinned") {
        // The loopback interface, in network order.
        let index = 1_u32.to_be_bytes();
        // SAFETY: the value is four bytes.
        let set = unsafe { setsockopt(socket, IPPROTO_IP, IP_UNICAST_IF, index.as_ptr(), 4) };
        assert_eq!(set, 0, "{}", last());
    }
    if let Some(from) = after(text, "from") {
        let name = Name::of(from);
        // SAFETY: the name is as long as said.
        let bound = unsafe { bind(socket, name.pointer(), name.1) };
        assert_eq!(bound, 0, "{from}: {}", last());
    }
    socket
}

/// As another process would get it.
#[expect(unsafe_code, reason = "calls of the system")]
fn passed(socket: SOCKET) -> SOCKET {
    let mut information = WSAPROTOCOL_INFOW::default();
    // SAFETY: it is filled, and read.
    unsafe {
        let told = WSADuplicateSocketW(socket, std::process::id(), &raw mut information);
        assert_eq!(told, 0, "{}", last());
        let any = FROM_PROTOCOL_INFO;
        WSASocketW(any, any, any, &raw const information, 0, 0)
    }
}

/// Sockets that stay open until the program ends.
static OPEN: Mutex<Vec<SOCKET>> = Mutex::new(Vec::new());

pub(crate) fn connects(text: &str) -> String {
    let socket = prepared(text);
    OPEN.lock().unwrap().push(socket);
    connects_again(text)
}

/// With the socket of the last time.
pub(crate) fn connects_again(text: &str) -> String {
    let socket = *OPEN.lock().unwrap().last().unwrap();
    let target = Name::of(after(text, "to").unwrap());
    let done = match after(text, "by") {
        Some("ex") => connect_ex(socket, &target),
        Some("wsa") => wsa_connect(socket, &target),
        _ if text.contains("slow") => connect_later(socket, &target),
        _ if text.contains("polled") => connect_until(socket, &target),
        _ => plain(socket, &target),
    };
    done.map_or_else(|error| error, |()| local(socket))
}

/// Eight threads, each with one socket after the other, every other one of which has
/// a port before: the addresses that they say they have.
pub(crate) fn crowd(text: &str) -> String {
    let talk = |thread: usize| {
        let mut names = BTreeSet::new();
        for turn in 0..25 {
            let from = if (thread + turn).is_multiple_of(2) { "from 0.0.0.0:0 " } else { "" };
            let socket = prepared(&format!("tcp {from}{text}"));
            let done = plain(socket, &Name::of(after(text, "to").unwrap()));
            let name = done.map_or_else(|error| error, |()| local(socket));
            names.insert(name.rsplit_once(':').map_or(name.clone(), |it| it.0.to_owned()));
            // SAFETY: it is closed once.
            #[expect(unsafe_code, reason = "a call of the system")]
            unsafe {
                closesocket(socket);
            }
        }
        names
    };
    let names: BTreeSet<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|thread| scope.spawn(move || talk(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    names.into_iter().collect::<Vec<_>>().join(" ")
}

/// What a connect leaves in the last error.
#[expect(unsafe_code, reason = "calls of the system")]
pub(crate) fn last_error(text: &str) -> String {
    let socket = prepared(text);
    let target = Name::of(after(text, "to").unwrap());
    // SAFETY: the name is as long as said; the socket is closed once.
    unsafe {
        SetLastError(4711);
        let result = connect(socket, target.pointer(), target.1);
        let error = GetLastError();
        closesocket(socket);
        format!("{result}:{error}")
    }
}

/// Names that are too short. (Wine's follows any pointer as far as any length.)
#[expect(unsafe_code, reason = "calls of the system")]
pub(crate) fn connect_nowhere() -> String {
    let socket = open("tcp 127.0.0.1:1");
    let target = Name::of("127.0.0.1:1");
    let answers = [1, 4].map(|length| {
        // SAFETY: connect checks what it is given: that is what is looked at here.
        let result = unsafe { connect(socket, target.pointer(), length) };
        format!("{result} {}", last())
    });
    answers.join(", ")
}

#[expect(unsafe_code, reason = "a call of the system")]
fn plain(socket: SOCKET, target: &Name) -> Result<(), String> {
    // SAFETY: the name is as long as said.
    let result = unsafe { connect(socket, target.pointer(), target.1) };
    if result == 0 { Ok(()) } else { Err(last()) }
}

#[expect(unsafe_code, reason = "a call of the system")]
fn wsa_connect(socket: SOCKET, target: &Name) -> Result<(), String> {
    // SAFETY: the name is as long as said; the rest is not given.
    let result = unsafe {
        WSAConnect(socket, target.pointer(), target.1, null(), null_mut(), null(), null())
    };
    if result == 0 { Ok(()) } else { Err(last()) }
}

#[expect(unsafe_code, reason = "calls of the system")]
fn connect_later(socket: SOCKET, target: &Name) -> Result<(), String> {
    // SAFETY: each reads or writes what is given, which lives.
    unsafe {
        let mut on = 1;
        ioctlsocket(socket, FIONBIO, &raw mut on);
        let result = connect(socket, target.pointer(), target.1);
        if result != 0 && WSAGetLastError() != WSAEWOULDBLOCK {
            return Err(last());
        }
        let mut writable = FD_SET { fd_count: 1, ..FD_SET::default() };
        writable.fd_array[0] = socket;
        let wait = TIMEVAL { tv_sec: 10, tv_usec: 0 };
        let ready = select(0, null_mut(), &raw mut writable, null_mut(), &raw const wait);
        if ready == 1 { Ok(()) } else { Err(format!("{ready} are ready")) }
    }
}

/// Calls it until it says that it is done.
#[expect(unsafe_code, reason = "calls of the system")]
fn connect_until(socket: SOCKET, target: &Name) -> Result<(), String> {
    // SAFETY: each reads or writes what is given, which lives.
    unsafe {
        let mut on = 1;
        ioctlsocket(socket, FIONBIO, &raw mut on);
        for _ in 0..500 {
            if connect(socket, target.pointer(), target.1) == 0 {
                return Err("it never said that it was on its way".to_owned());
            }
            match WSAGetLastError() {
                WSAEISCONN => return Ok(()),
                WSAEWOULDBLOCK | WSAEALREADY | WSAEINVAL => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                _ => return Err(last()),
            }
        }
    }
    Err("it takes too long".to_owned())
}

#[expect(unsafe_code, reason = "calls of the system")]
fn connect_ex(socket: SOCKET, target: &Name) -> Result<(), String> {
    let (mut function, id): (LPFN_CONNECTEX, _) = (None, WSAID_CONNECTEX);
    let (mut bytes, mut flags) = (0, 0);
    // SAFETY: each reads or writes what is given, which lives until it is done.
    unsafe {
        let told = WSAIoctl(
            socket,
            SIO_GET_EXTENSION_FUNCTION_POINTER,
            (&raw const id).cast(),
            16,
            (&raw mut function).cast(),
            size_of_val(&function) as u32,
            &raw mut bytes,
            null_mut(),
            None,
        );
        assert_eq!((told, bytes as usize), (0, size_of_val(&function)), "{}", last());
        let event = CreateEventW(null(), 1, 0, null());
        let mut overlapped = OVERLAPPED { hEvent: event, ..OVERLAPPED::default() };
        let connect = function.unwrap();
        let pending = &raw mut overlapped;
        let done = connect(socket, target.pointer(), target.1, null(), 0, &raw mut bytes, pending);
        if done == 0 && WSAGetLastError() != WSA_IO_PENDING {
            return Err(last());
        }
        if WSAGetOverlappedResult(socket, pending, &raw mut bytes, 1, &raw mut flags) == 0 {
            return Err(last());
        }
        let updated = setsockopt(socket, SOL_SOCKET, SO_UPDATE_CONNECT_CONTEXT, null(), 0);
        if updated == 0 { Ok(()) } else { Err(last()) }
    }
}

pub(crate) fn sends(text: &str) -> String {
    watch();
    let socket = prepared(text);
    OPEN.lock().unwrap().push(socket);
    sends_again(text)
}

/// With the socket of the last time.
#[expect(unsafe_code, reason = "calls of the system")]
pub(crate) fn sends_again(text: &str) -> String {
    let socket = *OPEN.lock().unwrap().last().unwrap();
    let target = Name::of(after(text, "to").unwrap());
    *SAID.lock().unwrap() = None;
    let failing = after(text, "failing").map_or(0, |error| error.parse().unwrap());
    FAILING.store(failing, Ordering::Relaxed);
    let data = b"seven b";
    // SAFETY: the names, the data and the numbers are there.
    let sent = unsafe {
        if text.contains("by wsa") {
            let parts = [(&data[..3], 3), (&data[3..], 4)];
            let buffers = parts.map(|(part, len)| WSABUF { len, buf: part.as_ptr().cast_mut() });
            let (pointer, mut sent) = (buffers.as_ptr(), 0);
            let name = target.pointer();
            match WSASendTo(socket, pointer, 2, &raw mut sent, 0, name, target.1, null_mut(), None)
            {
                0 => sent.cast_signed(),
                error => error,
            }
        } else {
            sendto(socket, data.as_ptr(), 7, 0, target.pointer(), target.1)
        }
    };
    if sent != 7 {
        return last();
    }
    let said = SAID.lock().unwrap().map_or("nothing".to_owned(), |said| said.to_string());
    let local = local(socket);
    format!("{said} {}", local.rsplit_once(':').unwrap().0)
}

/// The source that was said beside the last datagram.
static SAID: Mutex<Option<IpAddr>> = Mutex::new(None);
/// The error that the next message gets; 0: none.
static FAILING: AtomicI32 = AtomicI32::new(0);
static SEND_MESSAGE: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

type SendMessage = unsafe extern "system" fn(
    SOCKET,
    *const WSAMSG,
    u32,
    *mut u32,
    *mut OVERLAPPED,
    *mut c_void,
) -> i32;

/// Looks at what is said beside datagrams: Wine sends them, but does not look. And
/// refuses to send from where nothing is bound, as Windows does.
#[expect(unsafe_code, reason = "code in memory is changed")]
fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let module: Vec<u16> = "ws2_32.dll\0".encode_utf16().collect();
        // SAFETY: both names end in a zero; the detour has the function's signature.
        unsafe {
            let module = GetModuleHandleW(module.as_ptr());
            let target = GetProcAddress(module, c"WSASendMsg".as_ptr().cast()).unwrap();
            let target = target as *mut c_void;
            let original =
                minhook::MinHook::create_hook(target, send_message as *mut c_void).unwrap();
            SEND_MESSAGE.store(original, Ordering::Release);
            minhook::MinHook::enable_hook(target).unwrap();
        }
    });
}

#[expect(unsafe_code, reason = "it stands in for a function of the system")]
unsafe extern "system" fn send_message(
    socket: SOCKET,
    message: *const WSAMSG,
    flags: u32,
    sent: *mut u32,
    overlapped: *mut OVERLAPPED,
    routine: *mut c_void,
) -> i32 {
    let failing = match FAILING.swap(0, Ordering::Relaxed) {
        0 if local(socket) == format!("error {WSAEINVAL}") => WSAEINVAL,
        error => error,
    };
    if failing != 0 {
        // SAFETY: it takes a number.
        unsafe { WSASetLastError(failing) };
        return SOCKET_ERROR;
    }
    // SAFETY: the message and what it points to are there, as the system wants it;
    // the function is called by its own signature.
    unsafe {
        let control = (*message).Control;
        // WSA_CMSG_DATA: the head has a length that is aligned already.
        let head = &*control.buf.cast::<CMSGHDR>();
        assert!(head.cmsg_len <= control.len as usize, "it is whole");
        let information = control.buf.add(size_of::<CMSGHDR>());
        let said: IpAddr = if head.cmsg_level == IPPROTO_IP {
            assert_eq!(head.cmsg_len, size_of::<CMSGHDR>() + size_of::<IN_PKTINFO>());
            Ipv4Addr::from(information.cast::<[u8; 4]>().read()).into()
        } else {
            Ipv6Addr::from(information.cast::<[u8; 16]>().read()).into()
        };
        *SAID.lock().unwrap() = Some(said);
        let original =
            std::mem::transmute::<*mut c_void, SendMessage>(SEND_MESSAGE.load(Ordering::Acquire));
        original(socket, message, flags, sent, overlapped, routine)
    }
}

/// The first bytes of functions: a detour is a jump there.
#[expect(unsafe_code, reason = "code in memory is read")]
pub(crate) fn code() -> String {
    let module: Vec<u16> = "ws2_32.dll\0".encode_utf16().collect();
    let functions = [
        c"connect",
        c"WSAConnect",
        c"WSAIoctl",
        c"getsockname",
        c"socket",
        c"WSASocketA",
        c"WSASocketW",
        c"sendto",
        c"WSASendTo",
    ];
    let bytes = functions.map(|function| {
        // SAFETY: both names end in a zero; functions are longer than five bytes.
        let code = unsafe {
            let module = GetModuleHandleW(module.as_ptr());
            let start = GetProcAddress(module, function.as_ptr().cast()).unwrap();
            (start as *const [u8; 5]).read()
        };
        code.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    });
    bytes.join(" ")
}
