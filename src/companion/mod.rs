//! How does the hook get into programs?
//!
//! A platform supplies [`Companion`] and its errors, [`CHOOSES_SOURCES`], [`Before`],
//! which loads it, what the hook tells ([`Moved`]), [`standing`] for the program
//! lists, and the folder that it takes beside the control socket ([`pins`]).
//!
//! Linux: the eBPF object of `sessionip-hook` is attached at the cgroup2 root.
//! Its links and maps are pinned, so that it outlives a daemon that is killed;
//! the next one takes the maps over and swaps the programs in place. The
//! programs do nothing for anybody until they are told a policy, sessions, and
//! the addresses of the host.
//!
//! Windows: `sessionip_hook.dll` (`sessionip_hook32.dll` in 32-bit ones) is loaded
//! into the programs of the sessions, and hands itself on to their children. It reads a section that the daemon
//! publishes, and reports by a mailslot what it moved.

#[cfg(target_os = "linux")]
mod linux;

mod unhooked;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
pub(crate) use linux::pins;
pub use unhooked::Unhooked;
#[cfg(windows)]
pub(crate) use windows::pins;
#[cfg(windows)]
pub use windows::{
    Before, CHOOSES_SOURCES, Companion, FINDS_DUAL, Injected, LoadError, Moved, NewDual, Options,
    PolicyError, Refusal, TableError, UnloadError, standing,
};

#[cfg(target_os = "linux")]
pub use linux::{
    Before, CHOOSES_SOURCES, Closed, ClosedSockets, Companion, FINDS_DUAL, FindError, LoadError,
    Moved, NewDual, NotedPings, Options, OwnerMap, PolicyError, ProgramError, SocketOwner,
    TableError, UnloadError, executable, file_of, forget_stale, standing,
};

use crate::config::{Config, Exclusion, Loopback, ProgramPattern, Scope};
use crate::packet::Protocol;
use crate::session::SessionId;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

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
    /// Sources are chosen at connect and sendto: `hook.scope = "connect"`.
    pub connect: bool,
    /// Binds that are left alone.
    pub exclude: Vec<Exclusion>,
    /// Local ports from which nothing is given a source.
    pub exclude_ports: Vec<(Protocol, u16)>,
    /// `isolation.sources`: nobody but root binds or sends from the address of
    /// a session that is not his.
    pub sources: bool,
    /// `isolation.listeners`: a listener of another session gets nothing that
    /// was sent to a session's address.
    pub listeners: bool,
    /// `[loopback]`: binds of listed programs to 127.0.0.1 are moved.
    pub loopback: Loopback,
    /// `isolation.loopback`: nothing reaches a socket at another session's
    /// loopback address.
    pub isolate_loopback: bool,
}

impl PolicyView {
    /// The programs whose 127.0.0.1 is their session's own.
    pub(crate) fn on_loopback(&self) -> &[ProgramPattern] {
        if self.loopback.enabled { &self.loopback.programs } else { &[] }
    }

    /// Those whose wildcard binds go there, which takes both features.
    pub(crate) fn preferring_loopback(&self) -> &[ProgramPattern] {
        if self.loopback.enabled && self.enabled { &self.loopback.prefer } else { &[] }
    }
}

impl From<&Config> for PolicyView {
    fn from(config: &Config) -> Self {
        Self {
            enabled: config.virtual_ip.enabled,
            programs: config.virtual_ip.programs.clone(),
            except: config.virtual_ip.except.clone(),
            children: config.virtual_ip.children,
            connect: config.hook_scope == Scope::Connect,
            exclude: config.hook_exclude.clone(),
            exclude_ports: config.divert.exclude_ports.clone(),
            sources: config.isolation.sources,
            listeners: config.isolation.listeners,
            loopback: config.loopback.clone(),
            isolate_loopback: config.isolation.loopback,
        }
    }
}

/// The path without links and short names; of what is not there yet, as far as
/// there are folders.
fn real_path(path: &Path) -> PathBuf {
    let real = path.ancestors().find_map(|above| {
        let rest = path.strip_prefix(above).ok()?;
        let above = above.canonicalize().ok()?;
        Some(if rest.as_os_str().is_empty() { above } else { above.join(rest) })
    });
    real.unwrap_or_else(|| path.to_owned())
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
    /// Its loopback address. `None`: 127.0.0.1 is the host's for it, too.
    pub loopback: Option<Ipv4Addr>,
}

/// An address of this host that is neither virtual nor loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostAddress {
    /// The address.
    pub address: IpAddr,
    /// It is on the pool's NIC: binds to it are moved.
    pub pool_nic: bool,
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
    /// Packets to a socket at another session's loopback address, dropped.
    pub foreign_loopback: u64,
    /// Closed sockets that could not be reported: the ring was full.
    pub lost_events: u64,
    /// Descendants of listed programs that were not noted: the table was full.
    pub full_descendants: u64,
    /// Processes of listed scripts that were not noted: the table was full.
    pub full_scripts: u64,
    /// Dual-stack sockets that were not noted at an address, as often as that was
    /// tried: the table was full.
    pub full_dual: u64,
}

impl Counters {
    /// The tables that were full: a word for each, how often, and what follows.
    pub fn full(&self) -> impl Iterator<Item = (&'static str, u64, &'static str)> + use<> {
        let tables = [
            (
                "descendants",
                self.full_descendants,
                "processes that descend from listed programs count as not listed",
            ),
            ("scripts", self.full_scripts, "processes of listed scripts count as not listed"),
            ("dual", self.full_dual, "listeners for both IP versions are not reached by IPv6"),
        ];
        tables.into_iter()
    }
}
