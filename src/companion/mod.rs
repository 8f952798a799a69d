//! How does the hook get into programs?
//!
//! A platform supplies [`Companion`], [`OwnerMap`], [`ClosedSockets`],
//! [`file_of`] and [`forget_stale`].
//!
//! Linux: the eBPF object of `sessionip-hook` is attached at the cgroup2 root.
//! Its links and maps are pinned, so that it outlives a daemon that is killed;
//! the next one takes the maps over and swaps the programs in place. The
//! programs do nothing for anybody until they are told a policy, sessions, and
//! the addresses of the host.

mod linux;

pub use linux::{ClosedSockets, Companion, OwnerMap, file_of, forget_stale};

use crate::config::{Config, Exclusion, ProgramPattern};
use crate::packet::{Endpoint, Protocol};
use crate::session::SessionId;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

/// Where the companion is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Links and maps are pinned here. A bpffs is mounted on it unless it
    /// already lies in one; the mount namespace must outlive the daemon.
    pub pin_directory: PathBuf,
    /// The root of the cgroup2 hierarchy.
    pub cgroup_root: PathBuf,
}

/// What the companion needs to know of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyView {
    /// Binds are moved, and targets redirected.
    pub enabled: bool,
    /// The program list.
    pub programs: Vec<ProgramPattern>,
    /// Wins over `programs`.
    pub except: Vec<ProgramPattern>,
    /// Descendants of a listed program count as listed.
    pub children: bool,
    /// Binds that are left alone.
    pub exclude: Vec<Exclusion>,
    /// `isolation.sources`: nobody but root binds or sends from the address of
    /// a session that is not his.
    pub sources: bool,
    /// `isolation.listeners`: a listener of another session gets nothing that
    /// was sent to a session's address.
    pub listeners: bool,
}

impl From<&Config> for PolicyView {
    fn from(config: &Config) -> Self {
        Self {
            enabled: config.virtual_ip.enabled,
            programs: config.virtual_ip.programs.clone(),
            except: config.virtual_ip.except.clone(),
            children: config.virtual_ip.children,
            exclude: config.hook_exclude.clone(),
            sources: config.isolation.sources,
            listeners: config.isolation.listeners,
        }
    }
}

/// A session as the hook is told of it, and its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionEntry {
    /// Which session.
    pub id: SessionId,
    /// Its virtual IPv4 address. `None`: IPv4 binds are left alone.
    pub ipv4: Option<Ipv4Addr>,
    /// Its virtual IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// Local to the host and never routed: where a V6ONLY listener goes if the
    /// session has no IPv6 address.
    pub private_ipv6: Option<Ipv6Addr>,
}

/// An address of this host that is neither virtual nor loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostAddress {
    /// The address.
    pub address: IpAddr,
    /// It is on the pool's NIC: binds to it are moved.
    pub pool_nic: bool,
}

/// Whose a socket is, as the kernel saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOwner {
    /// `None`: no session was known when the socket was made; ask `cgroup`.
    pub session: Option<SessionId>,
    /// The process that bound or connected it last, else the one that made it.
    pub pid: u32,
    /// The real user of that process.
    pub uid: u32,
    /// The cgroup that the socket was made in: the inode of its folder.
    pub cgroup: u64,
    /// The executable, as [`file_of`] has it.
    pub file: (u32, u64),
    /// The process descends from a listed program; only known with `children`.
    pub child_of_listed: bool,
}

/// A UDP socket of a session that was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// When, by `CLOCK_MONOTONIC`.
    pub at: Duration,
    /// Its cookie.
    pub cookie: u64,
    /// Whose it was.
    pub owner: SocketOwner,
    /// UDP in this version.
    pub protocol: Protocol,
    /// Its own endpoint; `[::]` stands for IPv4 too.
    pub local: Endpoint,
    /// Its peer, if it was connected.
    pub remote: Option<Endpoint>,
}

/// A socket that is not bound where its program asked. The bind may still have
/// failed: only a socket that is there tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Its cookie.
    pub cookie: u64,
    /// Whose it is.
    pub session: SessionId,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// What the program asked for.
    pub asked: Endpoint,
    /// What it was given.
    pub bound: Endpoint,
}

/// What the hook has done since it was loaded first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Binds that were moved.
    pub moved_binds: u64,
    /// Binds to another session's address, refused.
    pub refused_binds: u64,
    /// Connects and datagrams led to the session's own server.
    pub redirected: u64,
    /// Packets from another session's address, dropped.
    pub foreign_source: u64,
    /// Packets to a session's address for another session's listener, dropped.
    pub foreign_listener: u64,
    /// Closed sockets that could not be reported: the ring was full.
    pub lost_events: u64,
}

/// Why the companion could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The process may not do this.
    #[error(
        "loading the companion hook needs root \
         (CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON)"
    )]
    NotRoot,
    /// There is no cgroup2 hierarchy at that path.
    #[error(
        "{path} is not the root of a cgroup2 hierarchy: boot with one \
         (systemd.unified_cgroup_hierarchy=1) or mount it (mount -t cgroup2 none {path})",
        path = path.display()
    )]
    NoCgroup2 {
        /// What was asked for.
        path: PathBuf,
    },
    /// The kernel does not describe its own types.
    #[error(
        "this kernel has no type information (/sys/kernel/btf/vmlinux): \
         install one that is built with CONFIG_DEBUG_INFO_BTF"
    )]
    NoBtf,
    /// The pin directory could not be prepared.
    #[error("cannot {action} {path}: bpffs is needed there (CONFIG_BPF_SYSCALL)", path = path.display())]
    Pins {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The maps could not be made, or the object does not fit this kernel.
    #[error("the companion hook's maps could not be created")]
    Object(#[source] Box<aya::EbpfError>),
    /// A program was refused by the kernel or could not be attached.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A map could not be taken over or written.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The network namespace has no cookie.
    #[error("the network namespace could not be identified (SO_NETNS_COOKIE, Linux 5.14)")]
    Namespace(#[source] io::Error),
}

/// A program of the hook did not get into the kernel.
#[derive(Debug, thiserror::Error)]
#[error("the hook's program {program} could not be {action}{excerpt}")]
pub struct ProgramError {
    /// Its name in the object.
    pub program: &'static str,
    /// What was tried, as a participle.
    pub action: &'static str,
    /// The end of what the kernel's verifier said, where it said something.
    pub excerpt: String,
    /// What the system said.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// A map of the hook could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the hook's map {table} could not be {action}")]
pub struct TableError {
    /// Its name in the object.
    pub table: &'static str,
    /// What was tried, as a participle.
    pub action: &'static str,
    /// What the system said; "Argument list too long" means that it is full.
    #[source]
    pub source: Box<aya::maps::MapError>,
}

/// Why a policy did not take effect, or not whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// A map.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A program that this policy needs.
    #[error(transparent)]
    Program(#[from] ProgramError),
}

/// Why something of the companion is still there.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}", path = path.display())]
pub struct UnloadError {
    /// What was tried.
    pub action: &'static str,
    /// Where.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}
