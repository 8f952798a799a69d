//! Who is connected, and for how long?

use super::name;
use super::pipe::{Pipe, Signal};
use crate::control::access::Peer;
use crate::control::connection::Connection;
use crate::control::{Request, Response};
use crate::guard::windows::Descriptor;
use crate::guard::windows::identity::{is_administrator_s, thread_token, user_of};
use std::io;
use std::os::windows::io::{AsHandle, AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::Path;
use std::time::{Duration, Instant};
use windows_sys::Win32::Foundation::{ERROR_FILE_NOT_FOUND, INVALID_HANDLE_VALUE};
use windows_sys::Win32::Security::RevertToSelf;
use windows_sys::Win32::Storage::FileSystem::{
    FILE_FLAG_FIRST_PIPE_INSTANCE, FILE_FLAG_OVERLAPPED, PIPE_ACCESS_DUPLEX,
};
use windows_sys::Win32::System::Pipes::{
    CreateNamedPipeW, GetNamedPipeClientProcessId, ImpersonateNamedPipeClient, PIPE_READMODE_BYTE,
    PIPE_REJECT_REMOTE_CLIENTS, PIPE_TYPE_BYTE, PIPE_UNLIMITED_INSTANCES, WaitNamedPipeW,
};

/// Connections at once; one more is closed at once, unless an administrator's:
/// then the one that has been silent for longest is.
const CONNECTIONS: usize = 64;
/// Connections of one ordinary user at once.
const CONNECTIONS_OF_A_USER: usize = 8;
/// Connections of which nobody knows yet whose they are; one more closes the oldest.
const STRANGERS: usize = 64;
/// How long one may be a stranger's: whoever connects asks at once.
const SILENCE: Duration = Duration::from_secs(2);
/// An instance could not be made; it is tried again after so long.
const PAUSE: Duration = Duration::from_millis(100);
/// What the system keeps for each direction of a connection.
const BUFFER: u32 = 16 * 1024;

/// SYSTEM and administrators do everything. Whoever logged on to this machine reads
/// and writes and sees whose pipe it is (`FILE_GENERIC_READ | FILE_WRITE_DATA`), but
/// makes no instance of it (`FILE_APPEND_DATA`), which would be a daemon of his own.
const ACCESS: &str = "O:BAG:BAD:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;0x12008b;;;AU)";

/// The control pipe and its connections.
#[derive(Debug)]
pub struct Server {
    name: Vec<u16>,
    access: Descriptor,
    /// Where the next client comes; `None`: it could not be made.
    door: Option<Pipe>,
    /// Each with the time when it is closed, the oldest first.
    strangers: Vec<(Pipe, Instant)>,
    connections: Vec<Connection<Pipe>>,
    // After everything that uses it.
    signal: Signal,
}

impl Server {
    /// Listens at `path`, `\\.\pipe\NAME`. What a user gets to see depends on who he
    /// is.
    ///
    /// # Errors
    /// The path is none of a pipe, or somebody has a pipe of that name.
    pub fn listen(path: &Path) -> io::Result<Self> {
        let name = name(path)?;
        if is_somebody_s(&name) {
            let sentence = "somebody else listens there: end that program first, or choose another \
                pipe with the key control";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, sentence));
        }
        let access = Descriptor::parse(ACCESS)?;
        let signal = Signal::new()?;
        let door = door(&name, &access, &signal, FILE_FLAG_FIRST_PIPE_INSTANCE)?;
        let (strangers, connections) = (Vec::new(), Vec::new());
        Ok(Self { name, access, door: Some(door), strangers, connections, signal })
    }

    /// Serves for up to `wait`.
    ///
    /// # Errors
    /// None here: what goes wrong is one connection's.
    pub fn turn(
        &mut self,
        now: Instant,
        wait: Duration,
        answer: &mut dyn FnMut(&Peer, Request) -> Response,
    ) -> io::Result<()> {
        self.connections.retain(|c| c.deadline > now);
        self.strangers.retain(|(_, deadline)| *deadline > now);
        if !self.has_to_do() {
            // Without a door nobody knocks: soon is tried again to make one.
            let wait = if self.door.is_some() { wait } else { wait.min(PAUSE) };
            self.signal.wait(wait);
        }
        self.open_door(now);
        self.identify(now);
        self.connections
            .retain_mut(|connection| !is_ready(connection) || connection.turn(now, answer).is_ok());
        Ok(())
    }

    /// Something is over that was begun, and not looked at yet.
    fn has_to_do(&self) -> bool {
        self.door.as_ref().is_some_and(Pipe::is_read)
            || self.strangers.iter().any(|(pipe, _)| pipe.is_read())
            || self.connections.iter().any(is_ready)
    }

    /// Lets in who waits at the door, and makes a new one behind him.
    fn open_door(&mut self, now: Instant) {
        for _ in 0..CONNECTIONS {
            let Some(mut pipe) = self.door.take() else {
                self.door = door(&self.name, &self.access, &self.signal, 0)
                    .inspect_err(|error| tracing::debug!(%error, "no instance of the control pipe"))
                    .ok();
                if self.door.is_none() {
                    return;
                }
                continue;
            };
            match pipe.has_connected() {
                Ok(false) => {
                    self.door = Some(pipe);
                    return;
                }
                Ok(true) => {
                    if self.strangers.len() >= STRANGERS {
                        self.strangers.remove(0);
                    }
                    self.strangers.push((pipe, now + SILENCE));
                }
                // He has gone already.
                Err(error) => tracing::trace!(%error, "a client did not come in"),
            }
        }
    }

    /// Makes connections of strangers who have said something.
    fn identify(&mut self, now: Instant) {
        for (pipe, deadline) in std::mem::take(&mut self.strangers) {
            if !pipe.is_read() {
                self.strangers.push((pipe, deadline));
                continue;
            }
            match peer(&pipe) {
                Ok(peer) => self.admit(pipe, peer, now),
                Err(error) => tracing::debug!(%error, "a client cannot be identified"),
            }
        }
    }

    fn admit(&mut self, pipe: Pipe, peer: Peer, now: Instant) {
        let of_this_user = self.connections.iter().filter(|c| c.peer.user == peer.user).count();
        let full = self.connections.len() >= CONNECTIONS;
        if !peer.is_administrator() && (full || of_this_user >= CONNECTIONS_OF_A_USER) {
            return;
        }
        if full {
            self.close_most_silent();
        }
        self.connections.push(Connection::new(pipe, peer, now));
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

/// Is there a pipe of that name? The flag that makes sure of it (and that Wine does
/// not heed) only says "access denied".
#[expect(unsafe_code, reason = "a call into kernel32")]
fn is_somebody_s(name: &[u16]) -> bool {
    // SAFETY: the name ends with a zero.
    let is_free = unsafe { WaitNamedPipeW(name.as_ptr(), 1) } != 0;
    let code = io::Error::last_os_error().raw_os_error().map(i32::cast_unsigned);
    is_free || code != Some(ERROR_FILE_NOT_FOUND)
}

/// A turn of it would not be in vain.
fn is_ready(connection: &Connection<Pipe>) -> bool {
    match connection.waits() {
        true => connection.stream.is_written(),
        false => connection.has_asked() || connection.stream.is_read(),
    }
}

/// An instance of the pipe, and it waits for a client.
#[expect(unsafe_code, reason = "a call into kernel32")]
fn door(name: &[u16], access: &Descriptor, signal: &Signal, first: u32) -> io::Result<Pipe> {
    let attributes = access.attributes();
    // SAFETY: the name ends with a zero, and the attributes point to a descriptor that
    // outlives the call.
    let handle = unsafe {
        CreateNamedPipeW(
            name.as_ptr(),
            PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED | first,
            PIPE_TYPE_BYTE | PIPE_READMODE_BYTE | PIPE_REJECT_REMOTE_CLIENTS,
            PIPE_UNLIMITED_INSTANCES,
            BUFFER,
            BUFFER,
            0,
            &raw const attributes,
        )
    };
    if handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just given it to us.
    let handle = unsafe { OwnedHandle::from_raw_handle(handle) };
    let mut pipe = Pipe::new(handle, signal);
    pipe.begin_to_connect()?;
    Ok(pipe)
}

/// Who is at the other end of a pipe that something was read from.
#[expect(unsafe_code, reason = "calls into advapi32")]
fn peer(pipe: &Pipe) -> io::Result<Peer> {
    // SAFETY: the handle is open. This thread acts for the client from here on.
    if unsafe { ImpersonateNamedPipeClient(pipe.handle().as_raw_handle()) } == 0 {
        return Err(io::Error::last_os_error());
    }
    let token = thread_token();
    // SAFETY: it takes nothing.
    if unsafe { RevertToSelf() } == 0 {
        // Going on would mean doing the next one's bidding with this one's rights.
        std::process::abort();
    }
    let token = token?;
    let administrator = is_administrator_s(token.as_handle());
    let mut pid = 0;
    // SAFETY: the handle is open, and the place for the answer is ours.
    if unsafe { GetNamedPipeClientProcessId(pipe.handle().as_raw_handle(), &raw mut pid) } == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Peer { user: user_of(token.as_handle())?, administrator, pid })
}
