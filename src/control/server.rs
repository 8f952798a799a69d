//! How does the daemon take questions?
//!
//! One thread polls the socket, the connections and the signals. A connection
//! that is slow, silent or greedy costs nobody else anything: everything it may
//! use is bounded, and it is closed at its deadline.

use super::access::Peer;
use super::{Request, Response};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Uid;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// Connections at once; one more is closed at once, unless an administrator's:
/// then the one that has been silent for longest is.
const CONNECTIONS: usize = 64;
/// Connections of one ordinary user at once.
const CONNECTIONS_OF_A_USER: usize = 8;
/// A request is a line of at most this many bytes.
const LINE: usize = 16 * 1024;
/// A connection that has neither asked nor read for so long is closed.
const PATIENCE: Duration = Duration::from_secs(10);

/// The control socket and its connections.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    connections: Vec<Connection>,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    peer: Peer,
    asked: Vec<u8>,
    /// What is still to be sent, from `sent` on.
    answer: Vec<u8>,
    sent: usize,
    /// It is closed once the answer is sent.
    ends: bool,
    deadline: Instant,
}

impl Server {
    /// Listens at `path`; a socket that a dead daemon left there is replaced (the
    /// daemon's lock says that it is dead). Everybody may connect: what a user
    /// gets to see depends on who he is.
    ///
    /// # Errors
    /// The path cannot be bound.
    pub fn listen(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o666))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, connections: Vec::new() })
    }

    /// Serves for up to `wait`, or until `wake` becomes readable: then returns
    /// `true` and leaves what is to be read there to the caller.
    ///
    /// # Errors
    /// Polling failed, which leaves nothing to be done.
    pub fn turn(
        &mut self,
        now: Instant,
        wait: Duration,
        wake: &impl AsFd,
        answer: &mut dyn FnMut(Peer, Request) -> Response,
    ) -> io::Result<bool> {
        self.connections.retain(|c| c.deadline > now);
        let mut polled = vec![
            PollFd::new(wake.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
        ];
        polled.extend(self.connections.iter().map(|c| {
            let wanted = if c.answer.is_empty() { PollFlags::POLLIN } else { PollFlags::POLLOUT };
            PollFd::new(c.stream.as_fd(), wanted)
        }));
        let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
        match poll(&mut polled, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let ready: Vec<bool> = polled.iter().map(|p| p.any().unwrap_or(false)).collect();
        let (woken, knocked) = (ready.first() == Some(&true), ready.get(1) == Some(&true));
        let mut ready = ready.into_iter().skip(2);
        self.connections.retain_mut(|connection| {
            ready.next() != Some(true) || connection.turn(now, answer).is_ok()
        });
        if knocked {
            self.accept(now);
        }
        Ok(woken)
    }

    fn accept(&mut self, now: Instant) {
        while let Ok((stream, _)) = self.listener.accept() {
            let Ok(credentials) = getsockopt(&stream, PeerCredentials) else { continue };
            let peer = Peer { uid: Uid::from_raw(credentials.uid()) };
            let of_this_user = self.connections.iter().filter(|c| c.peer.uid == peer.uid).count();
            let full = self.connections.len() >= CONNECTIONS;
            let refused =
                !peer.is_administrator() && (full || of_this_user >= CONNECTIONS_OF_A_USER);
            if refused || stream.set_nonblocking(true).is_err() {
                continue;
            }
            if full {
                self.close_most_silent();
            }
            self.connections.push(Connection {
                stream,
                peer,
                asked: Vec::new(),
                answer: Vec::new(),
                sent: 0,
                ends: false,
                deadline: now + PATIENCE,
            });
        }
    }

    /// Ordinary users' first, then those that wait for no answer.
    fn close_most_silent(&mut self) {
        let silent = self.connections.iter().enumerate().min_by_key(|(_, connection)| {
            let waits = !connection.answer.is_empty();
            (connection.peer.is_administrator(), waits, connection.deadline)
        });
        if let Some((index, _)) = silent {
            self.connections.remove(index);
        }
    }
}

impl Connection {
    /// Reads a request or goes on sending an answer. An error closes it.
    fn turn(
        &mut self,
        now: Instant,
        answer: &mut dyn FnMut(Peer, Request) -> Response,
    ) -> io::Result<()> {
        if self.answer.is_empty() {
            let mut bytes = [0; 4096];
            let read = match self.stream.read(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            };
            self.asked.extend(bytes.iter().take(read));
            let response = match self.asked.iter().position(|b| *b == b'\n') {
                Some(end) if end <= LINE => {
                    let line: Vec<u8> = self.asked.drain(..=end).collect();
                    self.respond(&line, answer)
                }
                None if self.asked.len() <= LINE => return Ok(()),
                _ => {
                    self.ends = true;
                    Response::Error(format!("a request is not longer than {LINE} bytes"))
                }
            };
            serde_json::to_writer(&mut self.answer, &response)?;
            self.answer.push(b'\n');
        }
        self.deadline = now + PATIENCE;
        while let Some(rest @ [_, ..]) = self.answer.get(self.sent..) {
            match self.stream.write(rest) {
                Ok(written) => self.sent += written,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
        }
        if self.ends {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.answer.clear();
        self.sent = 0;
        Ok(())
    }

    fn respond(&self, line: &[u8], answer: &mut dyn FnMut(Peer, Request) -> Response) -> Response {
        let request: Request = match serde_json::from_slice(line) {
            Ok(request) => request,
            Err(e) => return Response::Error(format!("the request was not understood: {e}")),
        };
        match self.peer.permit(&request) {
            Ok(()) => answer(self.peer, request),
            Err(sentence) => Response::Error(sentence),
        }
    }
}
