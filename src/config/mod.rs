//! What is true: a [`Config`] cannot be wrong.

use crate::packet::Protocol;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// The configuration of this version. What is typed is [`file`](self)'s.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Leases live here.
    pub state_dir: PathBuf,
    /// The control socket.
    pub control: PathBuf,
    /// `[pool]`.
    pub pool: Pool,
    /// `[virtual-ip]`.
    pub virtual_ip: VirtualIp,
    /// `[hook] exclude`: binds that are left alone.
    pub hook_exclude: Vec<Exclusion>,
    /// `[divert]`.
    pub divert: Divert,
    /// `[isolation]`.
    pub isolation: Isolation,
    /// `[metrics] listen`; `None`: off.
    pub metrics: Option<SocketAddr>,
}

/// The addresses to give.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// First to last of one family each; they do not overlap.
    pub ranges: Vec<RangeInclusive<IpAddr>>,
    /// The NIC by name; `None`: the one whose subnet holds the ranges.
    pub adapter: Option<String>,
    /// How many leases one user may hold at once.
    pub per_user: usize,
    /// A user gets the same address again where it is free.
    pub sticky: bool,
    /// How long a returned address rests before another user gets it.
    pub quarantine: Duration,
}

/// Who is virtualised, and what happens where it cannot be.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualIp {
    /// Off: nothing is rewritten and no bind is moved.
    pub enabled: bool,
    /// The program list.
    pub programs: Vec<ProgramPattern>,
    /// Wins over `programs`.
    pub except: Vec<ProgramPattern>,
    /// Descendants of a listed program count as listed.
    pub children: bool,
    /// A session without a lease.
    pub when_exhausted: WhenExhausted,
}

/// One entry of a program list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ProgramPattern {
    /// `*`: every program of a session.
    All,
    /// A full path.
    Path(PathBuf),
    /// A bare file name, at most 63 bytes.
    Name(String),
}

/// What a listed program of a session without a lease may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenExhausted {
    /// Leave from the host address.
    HostAddress,
    /// Nothing.
    Block,
}

/// A bind that the hook leaves alone: `PROTO/PORT` or `PROGRAM:PROTO/PORT`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Exclusion {
    /// `None`: whatever the program. Never [`ProgramPattern::All`].
    pub program: Option<ProgramPattern>,
    /// The protocol.
    pub protocol: Protocol,
    /// The port that is bound.
    pub port: u16,
}

/// How packets are diverted.
#[derive(Clone, Debug, PartialEq)]
pub struct Divert {
    /// How long a packet waits for its owner.
    pub hold: Duration,
    /// What happens to a packet whose owner stays unknown, and to one that
    /// cannot be parsed or kept account of.
    pub unknown_owner: UnknownOwner,
    /// Local ports that are left alone.
    pub exclude_ports: Vec<(Protocol, u16)>,
}

/// What happens to a packet whose owner stays unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownOwner {
    /// It goes on unchanged.
    Pass,
    /// It is dropped.
    Drop,
}

/// What sessions may do to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isolation {
    /// A wildcard listener gets no packets for another session's address.
    pub listeners: bool,
    /// No packet reaches another session's loopback.
    pub loopback: bool,
    /// No packet leaves from another session's address.
    pub sources: bool,
}
