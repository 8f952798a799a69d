//! How does the daemon take questions, and who puts them? (`SO_PEERCRED`, unix(7))
//!
//! One thread polls the socket and the connections. A connection
//! that is slow, silent or greedy costs nobody else anything: everything it may
//! use is bounded, and it is closed at its deadline.

use super::access::Peer;
use super::connection::Connection;
use super::{Request, Response};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Connections at once; one more is closed at once, unless an administrator's:
/// then the one that has been silent for longest is.
const CONNECTIONS: usize = 64;
/// Connections of one ordinary user at once.
const CONNECTIONS_OF_A_USER: usize = 8;

/// The end of a connection that asks.
pub(super) type Stream = UnixStream;

/// Connects to the daemon whose control socket is at `path`; reads wait for at
/// most `patience`.
///
/// # Errors
/// Nobody listens there.
pub(super) fn connect(path: &Path, patience: Duration) -> io::Result<Stream> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(patience))?;
    Ok(stream)
}

/// The control socket and its connections.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    connections: Vec<Connection<UnixStream>>,
    path: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "the control socket stays");
        }
    }
}

impl Server {
    /// Listens at `path`, in a folder that is made if it is not there; a socket that
    /// a dead daemon left is replaced. Everybody may connect: what a user gets to
    /// see depends on who he is.
    ///
    /// # Errors
    /// The path cannot be bound, or another daemon answers there.
    pub fn listen(path: &Path) -> io::Result<Self> {
        if UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another daemon answers there; stop that one first, or give this one a control \
                 of its own",
            ));
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o666))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, connections: Vec::new(), path: path.to_owned() })
    }

    /// Serves for up to `wait`.
    ///
    /// # Errors
    /// Polling failed, which leaves nothing to be done.
    pub fn turn(
        &mut self,
        now: Instant,
        wait: Duration,
        answer: &mut dyn FnMut(&Peer, Request) -> Response,
    ) -> io::Result<()> {
        self.connections.retain(|c| c.deadline > now);
        let mut polled = vec![PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        polled.extend(self.connections.iter().map(|c| {
            let wanted = if c.waits() { PollFlags::POLLOUT } else { PollFlags::POLLIN };
            PollFd::new(c.stream.as_fd(), wanted)
        }));
        let wait = match self.connections.iter().any(Connection::has_asked) {
            true => Duration::ZERO,
            false => wait,
        };
        let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
        match poll(&mut polled, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let ready: Vec<bool> = polled.iter().map(|p| p.any().unwrap_or(false)).collect();
        let knocked = ready.first() == Some(&true);
        let mut ready = ready.into_iter().skip(1);
        self.connections.retain_mut(|connection| {
            let is_ready = ready.next() == Some(true) || connection.has_asked();
            !is_ready || connection.turn(now, answer).is_ok()
        });
        if knocked {
            self.accept(now);
        }
        Ok(())
    }

    fn accept(&mut self, now: Instant) {
        while let Ok((stream, _)) = self.listener.accept() {
            let Ok(credentials) = getsockopt(&stream, PeerCredentials) else { continue };
            let uid = credentials.uid();
            let peer =
                Peer { user: uid, administrator: uid == 0, pid: credentials.pid().cast_unsigned() };
            let of_this_user = self.connections.iter().filter(|c| c.peer.user == peer.user).count();
            let full = self.connections.len() >= CONNECTIONS;
            let refused =
                !peer.is_administrator() && (full || of_this_user >= CONNECTIONS_OF_A_USER);
            if refused || stream.set_nonblocking(true).is_err() {
                continue;
            }
            if full {
                self.close_most_silent();
            }
            self.connections.push(Connection::new(stream, peer, now));
        }
    }

    /// Ordinary users' first, then those that wait for no answer.
    fn close_most_silent(&mut self) {
        let silent = self.connections.iter().enumerate().min_by_key(|(_, connection)| {
            (connection.peer.is_administrator(), connection.waits(), connection.deadline)
        });
        if let Some((index, _)) = silent {
            self.connections.remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::Shutdown;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a server lives in real time")]
    fn requests_that_come_at_once_are_answered_one_after_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let mut server = Server::listen(&path).unwrap();
        let mut client = connect(&path, Duration::from_secs(5)).unwrap();
        client.write_all(&b"{\"command\":\"flows\",\"from\":1}\n".repeat(3)).unwrap();
        client.write_all(b"{\"command\":\"flows\",\"from\":2}\n{\"command\":").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut asked = Vec::new();
        let mut answer = |_: &Peer, request: Request| {
            let Request::Flows { from } = request else { panic!("{request:?}") };
            asked.push(from);
            Response::of(&from)
        };
        let began = Instant::now();
        // The connection comes in; four requests; their end.
        for _ in 0..6 {
            server.turn(Instant::now(), Duration::from_secs(60), &mut answer).unwrap();
        }
        assert!(began.elapsed() < Duration::from_secs(60), "it waited with a request in hand");
        let mut answers = String::new();
        client.read_to_string(&mut answers).unwrap();
        assert_eq!(answers, "{\"ok\":1}\n{\"ok\":1}\n{\"ok\":1}\n{\"ok\":2}\n");
        assert_eq!(asked, [1, 1, 1, 2]);
    }
}
