//! What is true: a [`Config`] cannot be wrong.
//!
//! A text becomes a TOML tree ([`tree`] takes out what does not fit), then what
//! was typed ([`mod@file`]), then what is true ([`check`] and [`value`]). All
//! problems of a text are found at once, and each is a [`Finding`]. What depends
//! on the machine, and not on the text alone, is [`machine`]'s.

mod check;
pub mod file;
mod finding;
pub mod machine;
pub(crate) mod programs;
pub(crate) mod reading;
mod tree;
mod value;

pub use file::Ipv6WithoutLease;
pub use finding::{Finding, Severity};
pub use value::Refused;
pub(crate) use value::length;

use crate::lease::Family;
use crate::packet::Protocol;
use machine::AdapterView;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;
use toml::de::DeTable;

/// The configuration of this version. What is typed is [`mod@file`]'s.
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
    /// `[loopback]`.
    pub loopback: Loopback,
    /// `[hook] scope`: which calls the hook touches.
    pub hook_scope: Scope,
    /// `[hook] exclude`: binds that are left alone.
    pub hook_exclude: Vec<Exclusion>,
    /// `[divert]`.
    pub divert: Divert,
    /// `[isolation]`.
    pub isolation: Isolation,
    /// `[metrics] listen`; `None`: off.
    pub metrics: Option<SocketAddr>,
}

/// Why there is no [`Config`].
#[derive(Debug, Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {}{}", path.display(), advice(.source))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is wrong; each finding draws itself.
    #[error("{}", Drawn(.0))]
    Wrong(Vec<Finding>),
}

impl Config {
    /// Reads `text`; `name` is what findings call it. With the configuration
    /// come its warnings, without it all findings.
    pub fn parse(name: &str, text: &str) -> Result<(Self, Vec<Finding>), Vec<Finding>> {
        let (file, root, mut findings) = file::read(text);
        let config = file.and_then(|file| check::config(&file, &mut findings));
        finding::place(name, text, &root, &mut findings);
        match config {
            Some(config) => Ok((config, findings)),
            None => Err(findings),
        }
    }

    /// Reads the file at `path`, whatever machine it is for. With the
    /// configuration come its warnings.
    pub fn load(path: &Path) -> Result<(Self, Vec<Finding>), LoadError> {
        Self::parse(&path.to_string_lossy(), &read(path)?).map_err(LoadError::Wrong)
    }

    /// Reads the file at `path` for the machine that has these `adapters`. What
    /// such a machine cannot do is as severe as `severity` says: `run` refuses
    /// it, `check-config`, which may look at another machine's file, only warns.
    pub fn load_for(
        path: &Path,
        adapters: &[AdapterView],
        severity: Severity,
    ) -> Result<(Self, Vec<Finding>), LoadError> {
        let (name, text) = (path.to_string_lossy(), read(path)?);
        let (config, mut findings) = Self::parse(&name, &text).map_err(LoadError::Wrong)?;
        for mut finding in machine::findings(&config, adapters) {
            finding.severity = severity;
            findings.push(finding);
        }
        findings.extend(machine::stored_rules(&crate::divert::stored_rules()));
        let real = |program: &Path| program.canonicalize().ok();
        findings.extend(programs::findings(&config, real));
        let (root, _) = DeTable::parse_recoverable(&text);
        finding::place(&name, &text, root.get_ref(), &mut findings);
        if finding::any_error(&findings) {
            return Err(LoadError::Wrong(findings));
        }
        Ok((config, findings))
    }

    /// The control socket of the daemon whose file is at `path`, though the file
    /// be wrong elsewhere: that daemon runs by what it read before.
    ///
    /// # Errors
    /// The file cannot be read, or does not say.
    pub fn control_of(path: &Path) -> Result<PathBuf, LoadError> {
        let text = read(path)?;
        let findings = match Self::parse(&path.to_string_lossy(), &text) {
            Ok((config, _)) => return Ok(config.control),
            Err(findings) => findings,
        };
        let (root, _) = DeTable::parse_recoverable(&text);
        match root.get_ref().get("control").map(|control| control.get_ref().as_str()) {
            Some(Some(control)) => Ok(control.into()),
            Some(None) => Err(LoadError::Wrong(findings)),
            None => Ok(file::File::default().control.into()),
        }
    }
}

/// The longest file that is read: there are not so many programs to list.
const LARGEST: u64 = 1 << 20;

/// What helps where there is no file.
fn advice(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::NotFound {
        " (write one with at least pool.ranges, or name another with --config)"
    } else {
        ""
    }
}

fn read(path: &Path) -> Result<String, LoadError> {
    let text = reading::whole(path, LARGEST).and_then(|bytes| {
        String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    });
    text.map_err(|source| LoadError::Read { path: path.into(), source })
}

/// Findings as `check-config` prints them, one drawing below the other.
struct Drawn<'f>(&'f [Finding]);

impl fmt::Display for Drawn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|finding| writeln!(f, "{finding}"))
    }
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

impl Pool {
    /// Does it have addresses of that family?
    pub fn has(&self, family: Family) -> bool {
        self.ranges.iter().any(|range| Family::of(*range.start()) == family)
    }
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
    /// A session without an IPv6 address.
    pub ipv6_without_lease: Ipv6WithoutLease,
}

/// A loopback address of its own for each session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loopback {
    /// Off: the lists have no effect, and no session has such an address.
    pub enabled: bool,
    /// The programs whose 127.0.0.1 is the session's own.
    pub programs: Vec<ProgramPattern>,
    /// The programs whose wildcard binds go to the session's loopback, where
    /// they would have gone to its virtual address.
    pub prefer: Vec<ProgramPattern>,
    /// Which address belongs to which session.
    pub mapping: Mapping,
}

impl Default for Loopback {
    fn default() -> Self {
        Self {
            enabled: false,
            programs: Vec::new(),
            prefer: Vec::new(),
            mapping: Mapping::SessionPlusOne,
        }
    }
}

/// Which loopback address belongs to which session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mapping {
    /// 127.0.0.0 + session + 1: 7 has 127.0.0.8, 255 has 127.0.1.0.
    SessionPlusOne,
    /// As RD IP Virtualization has it: 255 has 127.0.1.1.
    Microsoft,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WhenExhausted {
    /// Leave from the host address.
    HostAddress,
    /// Nothing: it stays off the network.
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

/// Which calls the hook touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// bind, and connect to 127.0.0.1 or to this host's own addresses.
    Bind,
    /// The source of every connection and datagram, too.
    Connect,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
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
