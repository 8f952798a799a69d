//! What do two ends say to each other, and what does the peer say?

use super::socket::Socket;
use super::{Why, now};
use crate::peer::wire::{self, Request};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

/// How long a connection, an answer or a datagram may take.
pub(super) const WAIT: Duration = Duration::from_secs(3);
/// How often a datagram is sent.
const DATAGRAMS: u32 = 4;
const GLANCE: Duration = Duration::from_millis(2);

/// Connects, from `from` where that is given.
pub(super) fn connect(from: Option<Ipv4Addr>, to: SocketAddrV4) -> io::Result<TcpStream> {
    let socket = Socket::new()?;
    if let Some(from) = from {
        socket.bind(from, 0)?;
    }
    let stream = socket.connect(to, WAIT)?;
    stream.set_read_timeout(Some(WAIT))?;
    stream.set_write_timeout(Some(WAIT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The next connection, if it comes soon.
pub(super) fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let until = now() + WAIT;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(WAIT))?;
                stream.set_write_timeout(Some(WAIT))?;
                return Ok(stream);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && now() < until => {
                std::thread::sleep(GLANCE);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
    }
}

/// Has both ends hear what the other one says.
pub(super) fn exchange(one: &TcpStream, other: &TcpStream) -> io::Result<()> {
    for (mut says, mut hears) in [(one, other), (other, one)] {
        let mut heard = [0; 5];
        says.write_all(b"hello")?;
        hears.read_exact(&mut heard)?;
        if &heard != b"hello" {
            return Err(io::Error::other("something else was heard than was said"));
        }
    }
    Ok(())
}

/// Asks the peer something.
pub(super) fn ask(mut stream: &TcpStream, request: &Request) -> io::Result<String> {
    stream.write_all(wire::line(request).as_bytes())?;
    answer(stream)
}

/// One line.
pub(super) fn answer(stream: &TcpStream) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(stream).take(wire::LONGEST as u64).read_line(&mut line)?;
    if line.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(line) }
}

/// Whom the peer hears: from where it was sent, and what arrived there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    pub(super) sent: IpAddr,
    pub(super) heard: IpAddr,
}

/// Over TCP.
pub(super) fn who_by_tcp(from: Option<Ipv4Addr>, peer: SocketAddrV4) -> io::Result<Heard> {
    let stream = connect(from, peer)?;
    let heard = sender(&ask(&stream, &Request::Who)?)?;
    Ok(Heard { sent: stream.local_addr()?.ip(), heard })
}

/// Over UDP.
pub(super) fn who_by_udp(from: Option<Ipv4Addr>, peer: SocketAddrV4) -> io::Result<Heard> {
    let socket = UdpSocket::bind((from.unwrap_or(Ipv4Addr::UNSPECIFIED), 0))?;
    socket.connect(peer)?;
    socket.set_read_timeout(Some(WAIT / DATAGRAMS))?;
    let mut buffer = [0; wire::LONGEST];
    let mut heard = Err(io::Error::from(io::ErrorKind::TimedOut));
    for _ in 0..DATAGRAMS {
        socket.send(&wire::datagram())?;
        heard = socket.recv(&mut buffer);
        if heard.is_ok() {
            break;
        }
    }
    let answer = String::from_utf8_lossy(buffer.get(..heard?).unwrap_or(&[])).into_owned();
    Ok(Heard { sent: socket.local_addr()?.ip(), heard: sender(&answer)? })
}

fn sender(answer: &str) -> io::Result<IpAddr> {
    let refused = || io::Error::other(format!("the peer says: {}", answer.trim_end()));
    wire::sender(answer).as_ref().map(SocketAddr::ip).ok_or_else(refused)
}

/// No connection, or none that holds.
pub(super) fn broken(what: &str, error: &io::Error, help: &str) -> Why {
    Why::failed(format!("{what}: {error}"), help)
}
