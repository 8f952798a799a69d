//! How is a socket made that the standard library does not make: bound before it
//! connects, or with an option before it is bound?

use crate::selftest::Manner;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::windows::io::{AsRawSocket, FromRawSocket, OwnedSocket, RawSocket};
use std::sync::Once;
use std::time::Duration;
use windows_sys::Win32::Networking::WinSock::{
    AF_INET, FD_SET, INVALID_SOCKET, IPPROTO_TCP, SIO_LOOPBACK_FAST_PATH, SO_EXCLUSIVEADDRUSE,
    SO_REUSEADDR, SOCK_STREAM, SOCKADDR, SOCKADDR_IN, SOCKET, SOCKET_ERROR, SOL_SOCKET, TIMEVAL,
    WSA_FLAG_NO_HANDLE_INHERIT, WSA_FLAG_OVERLAPPED, WSADATA, WSAEWOULDBLOCK, WSAIoctl, WSASocketW,
    WSAStartup, bind, connect, listen, select, setsockopt,
};

/// Winsock 2.2.
const VERSION: u16 = 0x0202;
/// How many connections may wait to be accepted.
const BACKLOG: i32 = 128;

/// A TCP socket over IPv4 of which nothing is decided yet.
#[derive(Debug)]
pub(super) struct Socket(OwnedSocket);

impl Socket {
    pub(super) fn new() -> io::Result<Self> {
        static STARTED: Once = Once::new();
        // It stays until the program ends, as the standard library's does.
        STARTED.call_once(|| {
            let mut data = WSADATA::default();
            #[expect(unsafe_code, reason = "a call into ws2_32")]
            // SAFETY: it writes one structure of this type. If it fails, so does what
            // follows.
            unsafe {
                WSAStartup(VERSION, &raw mut data);
            }
        });
        let flags = WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT;
        let (family, protocol) = (AF_INET.into(), IPPROTO_TCP);
        #[expect(unsafe_code, reason = "a call into ws2_32")]
        // SAFETY: numbers, and no description of a protocol. What it gives is a
        // socket of ours alone, if it is one.
        unsafe {
            let raw = WSASocketW(family, SOCK_STREAM, protocol, std::ptr::null(), 0, flags);
            if raw == INVALID_SOCKET {
                return Err(io::Error::last_os_error());
            }
            Ok(Self(OwnedSocket::from_raw_socket(raw as RawSocket)))
        }
    }

    fn raw(&self) -> SOCKET {
        self.0.as_raw_socket() as SOCKET
    }

    /// Asks for the address in that manner.
    pub(super) fn ask(&self, manner: Manner) -> io::Result<()> {
        let option = match manner {
            Manner::Plain => return Ok(()),
            Manner::Reuse => SO_REUSEADDR,
            Manner::Exclusive => SO_EXCLUSIVEADDRUSE,
        };
        let on = 1_i32;
        #[expect(unsafe_code, reason = "a call into ws2_32")]
        // SAFETY: the socket is open, and the value is as long as is said.
        done(unsafe {
            let (value, length) = ((&raw const on).cast(), size_of_val(&on) as i32);
            setsockopt(self.raw(), SOL_SOCKET, option, value, length)
        })
    }

    /// Takes the short way over loopback; both ends have to, before they connect or
    /// listen.
    pub(super) fn take_fast_path(&self) -> io::Result<()> {
        let (on, mut written) = (1_u32, 0);
        #[expect(unsafe_code, reason = "a call into ws2_32")]
        // SAFETY: the socket is open, what goes in is as long as is said, nothing
        // comes out, and nothing is done later.
        done(unsafe {
            WSAIoctl(
                self.raw(),
                SIO_LOOPBACK_FAST_PATH,
                (&raw const on).cast(),
                size_of_val(&on) as u32,
                std::ptr::null_mut(),
                0,
                &raw mut written,
                std::ptr::null_mut(),
                None,
            )
        })
    }

    pub(super) fn bind(&self, address: Ipv4Addr, port: u16) -> io::Result<()> {
        let at = socket_address(SocketAddrV4::new(address, port));
        #[expect(unsafe_code, reason = "a call into ws2_32")]
        // SAFETY: the socket is open, and the address is as long as is said.
        done(unsafe { bind(self.raw(), (&raw const at).cast::<SOCKADDR>(), LENGTH) })
    }

    pub(super) fn listen(self) -> io::Result<TcpListener> {
        #[expect(unsafe_code, reason = "a call into ws2_32")]
        // SAFETY: the socket is open.
        done(unsafe { listen(self.raw(), BACKLOG) })?;
        Ok(self.0.into())
    }

    /// The port it was bound to.
    pub(super) fn port(self) -> io::Result<(TcpListener, u16)> {
        // Of a bound socket the standard library says the same as of a listener.
        let listener = TcpListener::from(self.0);
        let port = listener.local_addr()?.port();
        Ok((listener, port))
    }

    pub(super) fn connect(self, to: SocketAddrV4, wait: Duration) -> io::Result<TcpStream> {
        let raw = self.raw();
        let stream = TcpStream::from(self.0);
        stream.set_nonblocking(true)?;
        let at = socket_address(to);
        #[expect(unsafe_code, reason = "a call into ws2_32")]
        // SAFETY: the stream has the socket open, and the address is as long as is
        // said.
        let begun = done(unsafe { connect(raw, (&raw const at).cast::<SOCKADDR>(), LENGTH) });
        match begun {
            Err(error) if error.raw_os_error() == Some(WSAEWOULDBLOCK) => settled(raw, wait)?,
            begun => begun?,
        }
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        stream.set_nonblocking(false)?;
        Ok(stream)
    }
}

/// Waits until it is connected or refused.
fn settled(raw: SOCKET, wait: Duration) -> io::Result<()> {
    let mut set = FD_SET { fd_count: 1, ..FD_SET::default() };
    set.fd_array[0] = raw;
    let (mut connected, mut refused) = (set, set);
    let wait = TIMEVAL { tv_sec: wait.as_secs() as i32, tv_usec: wait.subsec_micros() as i32 };
    #[expect(unsafe_code, reason = "a call into ws2_32")]
    // SAFETY: the sets have as many sockets as they say, of which each is open.
    let ready = unsafe {
        let none = std::ptr::null_mut();
        select(0, none, &raw mut connected, &raw mut refused, &raw const wait)
    };
    match ready {
        0 => Err(io::ErrorKind::TimedOut.into()),
        SOCKET_ERROR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

const LENGTH: i32 = size_of::<SOCKADDR_IN>() as i32;

fn socket_address(address: SocketAddrV4) -> SOCKADDR_IN {
    let mut raw = SOCKADDR_IN { sin_family: AF_INET, ..SOCKADDR_IN::default() };
    raw.sin_port = address.port().to_be();
    raw.sin_addr.S_un.S_addr = u32::from_ne_bytes(address.ip().octets());
    raw
}

fn done(status: i32) -> io::Result<()> {
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: Ipv4Addr = Ipv4Addr::LOCALHOST;
    const WAIT: Duration = Duration::from_secs(5);

    #[test]
    fn one_connects_from_where_it_was_bound() {
        let listener = Socket::new().unwrap();
        listener.bind(Ipv4Addr::new(127, 0, 0, 8), 0).unwrap();
        let listener = listener.listen().unwrap();
        let port = listener.local_addr().unwrap().port();
        let socket = Socket::new().unwrap();
        socket.bind(Ipv4Addr::new(127, 0, 0, 7), 0).unwrap();
        let to = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 8), port);
        let stream = socket.connect(to, WAIT).unwrap();
        let (_, from) = listener.accept().unwrap();
        assert_eq!(from, stream.local_addr().unwrap());
        assert_eq!(from.ip(), Ipv4Addr::new(127, 0, 0, 7));
        drop(listener);
        let refused = Socket::new().unwrap().connect(to, WAIT);
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn one_that_wants_a_port_for_itself_has_it() {
        let first = Socket::new().unwrap();
        first.ask(Manner::Exclusive).unwrap();
        first.bind(HOME, 0).unwrap();
        let (_first, port) = first.port().unwrap();
        let second = Socket::new().unwrap();
        assert!(second.bind(HOME, port).is_err());
    }
}
