//! Whose socket is this?
//!
//! The engine asks through [`Sockets`]. A platform supplies [`open`], which gives
//! [`KernelSockets`] for the engine, [`Watch`] for the keeper and, where it needs a
//! thread, [`Reader`]; [`end_bound_to`] and [`host_uses`] for addresses; and
//! [`one_spelling`] for names of programs.

#[cfg(target_os = "linux")]
pub mod linux;
pub mod table;
#[cfg(windows)]
pub mod windows;

#[cfg(target_os = "linux")]
pub use linux::{
    KernelSockets, Opened, OwnerError, Reader, Watch, end_bound_to, host_uses, one_spelling, open,
};
#[cfg(windows)]
pub use windows::{
    KernelSockets, Opened, OwnerError, Reader, Watch, end_bound_to, host_uses, one_spelling, open,
};

use crate::packet::{Endpoint, Protocol};
use crate::session::SessionId;
use std::net::IpAddr;
use std::sync::Arc;

/// Who a socket belongs to. The session is that of the socket's cgroup
/// (Windows: of its creator) and never changes; the program is the last one
/// that bound or connected it, else its creator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `None`: no session; a service, the console, the kernel.
    pub session: Option<SessionId>,
    /// The process, 0 where nobody knows it any more.
    pub pid: u32,
    /// The program it runs.
    pub program: Arc<Program>,
    /// What the lists say of the process beyond its program, where the kernel side
    /// of the hook knows.
    pub marks: Marks,
    /// What they may know it by beyond its program, where nobody else looks.
    pub lineage: Option<Arc<Lineage>>,
}

/// What a process runs beyond its program, and who started it: as it was when it
/// was looked at, whatever the lists say. They are asked when a flow begins, so that
/// a reload counts for every socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    /// The script that it interprets.
    pub script: Option<Program>,
    /// What its ancestors run, the nearest first: each its program, and its script.
    pub ancestors: Vec<Arc<[Program]>>,
}

/// What the program lists say of a process beyond the program that it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// It descends from a listed program; only known with `virtual-ip.children`.
    pub descends: bool,
    /// It interprets a script that the program list has.
    pub script_listed: bool,
    /// It interprets a script that the list of exceptions has.
    pub script_excepted: bool,
}

/// An executable file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Program {
    /// Its full path; only its file name where the path is not known any more;
    /// empty where nothing is.
    pub path: String,
    /// The file itself, where the platform tells files apart by number:
    /// (device, inode) as the kernel has them. `(0, 0)`: not known.
    pub file: (u32, u64),
}

impl Program {
    /// The file name alone.
    pub fn name(&self) -> &str {
        self.path.rsplit(['/', '\\']).next().unwrap_or_default()
    }
}

/// A socket that takes what is sent to it, for the command `sockets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketRow {
    /// Its protocol.
    pub protocol: Protocol,
    /// What its program asked to be bound to.
    pub asked: Endpoint,
    /// What it is bound to.
    pub bound: Endpoint,
    /// The session it belongs to.
    pub session: SessionId,
    /// Its process, 0 where nobody knows it.
    pub pid: u32,
    /// Its program.
    pub program: Arc<Program>,
}

/// A socket that takes packets sent to some endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// Where it is bound.
    pub bound: Bound,
    /// Whose it is.
    pub owner: Owner,
}

/// What happened while sockets were followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// How many events there were.
    pub events: usize,
    /// A socket came or went at a virtual address: what is led here, or cut, may
    /// have changed.
    pub at_pool: bool,
}

/// Sockets at addresses of the pool that the packet line has to know of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AtPool {
    /// Wildcard listeners that were moved there (O2, O4).
    pub moved: Vec<(Protocol, Endpoint)>,
    /// Sockets at the address of a session that is not theirs (O5).
    pub foreign: Vec<(Protocol, Endpoint)>,
}

/// How a receiving socket is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// To exactly the address that was asked for.
    Address,
    /// To the wildcard, `0.0.0.0` or dual-stack `[::]`.
    Wildcard,
}

/// A ping on its way out, by what tells it from every other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping {
    /// Who sent it.
    pub source: IpAddr,
    /// Who is to get it.
    pub destination: IpAddr,
    /// Its ICMP header: type, code, checksum, id, sequence number.
    pub header: [u8; 8],
}

/// Who pings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pinger {
    /// The owner of the socket that it came from.
    Known(Owner),
    /// The system itself, for a program that cannot be known (X9).
    OnBehalf,
    /// Nobody can say.
    Unknown,
}

/// The sockets of this host, as the packet line may ask for them: exact
/// look-ups, in a microsecond, never a scan. Both methods take `&mut self`
/// because an implementation may keep a buffer or a cache.
pub trait Sockets {
    /// Who owns the socket that sends from `local` to `remote`; a socket closed
    /// a moment ago still counts. `None`: nobody knows (yet).
    fn owner(&mut self, protocol: Protocol, local: Endpoint, remote: Endpoint) -> Option<Owner>;

    /// Who sent this ping; to be asked for each once. An id is no port: it may be
    /// used by more than one socket, so that it says nothing of the owner.
    fn pinger(&mut self, ping: &Ping) -> Pinger;

    /// The socket that would take a packet from `remote` to `local`: a connected
    /// one before a listening one, an exact address before the wildcard, as the
    /// kernel chooses. `None`: there is none.
    fn receiver(
        &mut self,
        protocol: Protocol,
        local: Endpoint,
        remote: Endpoint,
    ) -> Option<Receiver>;
}
