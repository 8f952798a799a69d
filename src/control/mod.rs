//! What can be asked of the daemon, and in what words?
//!
//! One JSON line each way over a UNIX socket or a named pipe. A platform supplies
//! [`Server`], and the way to connect to it. The shapes are DESIGN.md's and are
//! what `--json` prints.

#![warn(clippy::indexing_slicing, reason = "nothing that strangers send may panic")]

pub mod access;
pub mod client;
mod connection;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
pub use linux::Server;
#[cfg(target_os = "linux")]
use linux::{Stream, connect};
#[cfg(windows)]
pub use windows::Server;
#[cfg(windows)]
use windows::{Stream, connect};

use crate::session::{SessionId, UserId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// One request, one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How is the daemon? Answer: [`Status`].
    Status {},
    /// Who is logged on with which address? Answer: a list of [`SessionRow`].
    Sessions {},
    /// Which conversations are there? Answer: a [`FlowPage`].
    Flows {
        /// Where the page before this one said to go on; 0 to begin.
        #[serde(default)]
        from: u32,
    },
    /// Who listens where? Answer: a list of [`SocketRow`].
    Sockets {},
    /// Read the configuration file again. Answer: a list of sentences about what
    /// takes effect only after a restart.
    Reload {},
    /// Open a session, or find the one there is, for `exec`. Answer:
    /// [`OpenedSession`].
    OpenSession {
        /// Its number.
        session: SessionId,
        /// Whose session it is, or is to be.
        #[serde(rename = "uid")]
        user: UserId,
    },
    /// Start a program in a session, for `exec` on Windows. Answer: [`Started`].
    Start(Start),
}

/// What `exec` asks for on Windows, where only the system can start a program in
/// another session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Where it is to run: as that session's user, on his desktop.
    pub session: SessionId,
    /// Who the caller says that session's user is, with or without a domain;
    /// `None`: he himself.
    pub user: Option<String>,
    /// The command, as `CreateProcess` takes it.
    pub command_line: String,
    /// Where it starts.
    pub folder: PathBuf,
    /// The caller's own handles of standard input, output and error.
    pub standard: [u64; 3],
}

/// A program that was started for `exec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Its process.
    pub pid: u32,
    /// A handle of that process, in the caller's: to wait for, and to close.
    pub process: u64,
}

/// One answer, one line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// What was asked for.
    Ok(serde_json::Value),
    /// Why not, as a sentence.
    Error(String),
}

impl Response {
    /// An answer of any shape that JSON has.
    pub fn of(value: &impl Serialize) -> Self {
        serde_json::to_value(value).map_or_else(|e| Self::Error(e.to_string()), Self::Ok)
    }
}

/// A row of `sessions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    /// Its number.
    pub id: SessionId,
    /// Whose it is.
    pub user: String,
    /// Its virtual IPv4 address.
    pub virtual_ip: Option<Ipv4Addr>,
    /// Its virtual IPv6 address: its lease, also while the host has no IPv6 address of
    /// its own there and so no program is given it.
    pub virtual_ipv6: Option<Ipv6Addr>,
    /// Its session loopback.
    pub loopback: Option<Ipv4Addr>,
    /// When it began.
    pub since: jiff::Timestamp,
    /// Whether it has an address.
    pub state: SessionState,
}

/// Whether a session has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionState {
    /// It has one.
    Leased,
    /// The pool had none for it.
    Exhausted,
    /// It is over and its address is being returned.
    Ending,
}

/// A row of `flows`; each pair is local, remote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowRow {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The session that owns the local socket.
    pub session: Option<SessionId>,
    /// Its program, as far as it is known.
    pub program: String,
    /// Its process, 0 where nobody knows.
    pub pid: u32,
    /// As the program's socket has it.
    pub inside: [String; 2],
    /// As the wire has it.
    pub outside: [String; 2],
    /// Why it is as it is: a [`Reason`](crate::verdict::Reason)'s word.
    pub reason: String,
    /// Packets diverted, both directions.
    pub packets: u64,
    /// Bytes of those, IP headers included.
    pub bytes: u64,
}

/// Some of the flows, and where to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowPage {
    /// The rows.
    pub flows: Vec<FlowRow>,
    /// Ask again with this `from`; `None`: that was all.
    pub next: Option<u32>,
}

/// A row of `sockets`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketRow {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// What the program asked to be bound to.
    pub asked: String,
    /// What it was bound to.
    pub bound: String,
    /// The session.
    pub session: SessionId,
    /// The process, 0 where nobody knows.
    pub pid: u32,
    /// The program.
    pub program: String,
    /// Why it is as it is: a [`Reason`](crate::verdict::Reason)'s word.
    pub reason: String,
    /// Why the hook is not in that program: a word. Left out where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unhooked: Option<String>,
}

/// How the daemon is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// `packet` or `offload`.
    pub datapath: String,
    /// How many sessions are logged on.
    pub sessions: usize,
    /// The pool.
    pub leases: LeaseCounts,
    /// How many flows are known.
    pub flows: usize,
    /// Packets since the start.
    pub packets: PacketCounts,
    /// How many packets met each reason; reasons nobody met are left out.
    pub reasons: BTreeMap<String, u64>,
    /// The share of the sessions' packets that never came to user space.
    pub undiverted_share: f64,
    /// When the daemon started.
    pub since: jiff::Timestamp,
    /// What an administrator, and nobody else, should know, as sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
}

/// The addresses of the pool, of the IP version that has the fewest left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseCounts {
    /// Held by sessions.
    pub used: u64,
    /// Free to give.
    pub free: u64,
    /// Returned, and resting before another user gets them.
    pub resting: u64,
}

/// Packets since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketCounts {
    /// Came to user space.
    pub diverted: u64,
    /// Were changed there.
    pub rewritten: u64,
}

/// A session that `exec` may enter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenedSession {
    /// The folder of its cgroup.
    pub scope: PathBuf,
    /// Its virtual address, for a message.
    pub virtual_ip: Option<IpAddr>,
}
