//! How does a machine look from another one?
//!
//! `sessionip peer` runs on the other machine and says who it is spoken to by. It
//! can be asked to connect back, but only to the address that the question came
//! from, by TCP, so that nobody can have it speak to a third: where a name or an
//! address could be given, there is none in the protocol.
//!
//! Everything is bounded: the connections at once, their time, the questions a
//! second, the bytes. An answer by UDP, where a source can be forged, is never
//! longer than its question.

mod limit;
pub mod wire;

use limit::Limit;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use wire::{Back, Request};

/// Where the peer listens unless it is told otherwise.
pub const PORT: u16 = 47_077;

/// How many connections are answered at once; others wait in the system's queue.
const WORKERS: usize = 16;
/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(5);
/// How long it may last.
const LIFE: Duration = Duration::from_secs(20);
/// How many questions a second are answered, and how many connections back are
/// made.
const QUESTIONS: u32 = 500;
const BACKS: u32 = 20;
/// How long a connection back may take, and a datagram's answer.
const BACK: Duration = Duration::from_secs(2);
/// How often a datagram is sent.
const DATAGRAMS: usize = 3;

/// Listens, and answers until the process ends.
#[derive(Debug)]
pub struct Peer {
    listener: TcpListener,
    datagrams: UdpSocket,
    questions: Mutex<Limit>,
    backs: Mutex<Limit>,
}

impl Peer {
    /// Listens for both protocols at one address; port 0 is any that is free for
    /// TCP.
    ///
    /// # Errors
    /// It cannot be listened there.
    pub fn bind(at: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(at)?;
        let datagrams = UdpSocket::bind(listener.local_addr()?)?;
        let questions = Mutex::new(Limit::new(QUESTIONS, now()));
        let backs = Mutex::new(Limit::new(BACKS, now()));
        Ok(Self { listener, datagrams, questions, backs })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers for ever.
    ///
    /// # Errors
    /// The system has no threads, or the sockets are gone.
    pub fn serve(&self) -> io::Result<()> {
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                let worker = std::thread::Builder::new().name("peer".into());
                worker.spawn_scoped(scope, || self.answer_connections())?;
            }
            self.answer_datagrams()
        })
    }

    fn answer_connections(&self) {
        loop {
            // One that was over before it was taken says nothing of the next.
            match self.listener.accept() {
                Ok((stream, from)) => drop(self.answer(stream, from)),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    fn answer(&self, stream: TcpStream, from: SocketAddr) -> io::Result<()> {
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        stream.set_nodelay(true)?;
        let until = now() + LIFE;
        let mut reader = BufReader::new(&stream);
        while now() < until {
            let mut line = String::new();
            let limit = wire::LONGEST as u64;
            if reader.by_ref().take(limit).read_line(&mut line)? == 0 {
                return Ok(());
            }
            let answer = match wire::read(&line) {
                _ if !allowed(&self.questions) => wire::refused("too many questions"),
                Some(Request::Who) => wire::from(from),
                Some(Request::Back(back)) if allowed(&self.backs) => connect_back(from.ip(), &back),
                Some(Request::Back(_)) => wire::refused("too many connections back"),
                Some(Request::Take) => wire::took(take(&mut reader, until)?),
                None => wire::refused("not understood"),
            };
            (&stream).write_all(answer.as_bytes())?;
        }
        Ok(())
    }

    fn answer_datagrams(&self) -> io::Result<()> {
        let mut buffer = [0; wire::LONGEST];
        loop {
            let Ok((length, from)) = self.datagrams.recv_from(&mut buffer) else {
                // Windows says here that an answer found nobody, and that a question
                // was longer than any of ours.
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            let Some(answer) = wire::datagram_answer(buffer.get(..length).unwrap_or(&[]), from)
            else {
                continue;
            };
            if allowed(&self.questions) {
                self.datagrams.send_to(&answer, from).ok();
            }
        }
    }
}

/// Reads until the other side has nothing more to send.
fn take(reader: &mut impl Read, until: Instant) -> io::Result<u64> {
    let mut buffer = vec![0; 64 << 10];
    let mut taken = 0;
    while taken < wire::MOST_TAKEN && now() < until {
        match reader.read(&mut buffer)? {
            0 => break,
            read => taken += read as u64,
        }
    }
    Ok(taken)
}

/// Connects to a port of who asked, says the word, and hears what comes back.
fn connect_back(address: IpAddr, back: &Back) -> String {
    let to = SocketAddr::new(address, back.port);
    let heard = match back.protocol {
        crate::packet::Protocol::Tcp => back_by_tcp(to, &back.word),
        crate::packet::Protocol::Udp => back_by_udp(to, &back.word),
        crate::packet::Protocol::Icmp => Err(io::ErrorKind::Unsupported.into()),
    };
    match heard {
        Ok(line) => wire::heard(&line),
        Err(error) => wire::refused(&format!("{to}: {error}")),
    }
}

fn back_by_tcp(to: SocketAddr, word: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, BACK)?;
    stream.set_read_timeout(Some(BACK))?;
    stream.write_all(format!("{word}\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(&stream).take(wire::LONGEST as u64).read_line(&mut line)?;
    Ok(line)
}

fn back_by_udp(to: SocketAddr, word: &str) -> io::Result<String> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(BACK / DATAGRAMS as u32))?;
    let mut buffer = [0; wire::LONGEST];
    let mut heard = Err(io::Error::from(io::ErrorKind::TimedOut));
    for _ in 0..DATAGRAMS {
        socket.send(word.as_bytes())?;
        heard = socket.recv(&mut buffer);
        if heard.is_ok() {
            break;
        }
    }
    let heard = buffer.get(..heard?).unwrap_or(&[]);
    Ok(String::from_utf8_lossy(heard).into_owned())
}

fn allowed(limit: &Mutex<Limit>) -> bool {
    limit.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take(now())
}

#[expect(clippy::disallowed_methods, reason = "it speaks to other machines, in real time")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests;
