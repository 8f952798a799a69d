//! The table of cases, `cases.toml`, as the tests of each side read it.

use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Table {
    pub(crate) host: Host,
    pub(crate) session: Vec<Session>,
    pub(crate) case: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Host {
    pub(crate) pool_nic: Vec<IpAddr>,
    pub(crate) other_nics: Vec<IpAddr>,
    pub(crate) pool: Vec<(IpAddr, IpAddr)>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Session {
    #[serde(default)]
    pub(crate) id: u32,
    pub(crate) ipv4: Option<Ipv4Addr>,
    pub(crate) ipv6: Option<Ipv6Addr>,
    pub(crate) private_ipv6: Option<Ipv6Addr>,
    pub(crate) loopback: Option<Ipv4Addr>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Case {
    pub(crate) name: String,
    #[serde(rename = "in", default = "first")]
    pub(crate) session_id: u32,
    /// The session's addresses in this case.
    pub(crate) session: Option<Session>,
    #[serde(default)]
    pub(crate) privileged: bool,
    pub(crate) protocol: Option<String>,
    pub(crate) asked: SocketAddr,
    #[serde(default)]
    pub(crate) v6only: bool,
    pub(crate) given: String,
    #[serde(default = "yes")]
    pub(crate) enabled: bool,
    #[serde(default = "yes")]
    pub(crate) sources: bool,
    #[serde(default)]
    pub(crate) children: bool,
    #[serde(default)]
    pub(crate) connect: bool,
    /// `[loopback]` is on: only then sessions have a loopback address.
    #[serde(default)]
    pub(crate) loopback: bool,
    #[serde(default = "all")]
    pub(crate) loopback_programs: Vec<String>,
    #[serde(default)]
    pub(crate) prefer: Vec<String>,
    #[serde(default = "all")]
    pub(crate) programs: Vec<String>,
    #[serde(default)]
    pub(crate) except: Vec<String>,
    #[serde(default)]
    pub(crate) exclude: Vec<String>,
    pub(crate) program: Option<String>,
    pub(crate) parent: Option<String>,
    pub(crate) ebpf: Option<String>,
}

impl Table {
    pub(crate) fn read() -> Self {
        toml::from_str(include_str!("../../cases.toml")).unwrap()
    }

    /// The sessions that are logged on in a case.
    pub(crate) fn sessions(&self, case: &Case) -> Vec<Session> {
        let of = |session: &Session| match case.session {
            Some(other) if session.id == case.session_id => Session { id: session.id, ..other },
            _ => *session,
        };
        let all = self.session.iter().map(of);
        let loopback = |address: Option<Ipv4Addr>| address.filter(|_| case.loopback);
        all.map(|one| Session { loopback: loopback(one.loopback), ..one }).collect()
    }
}

impl Case {
    pub(crate) fn protocols(&self) -> Vec<&str> {
        self.protocol.as_deref().map_or(vec!["tcp", "udp"], |protocol| vec![protocol])
    }
}

fn first() -> u32 {
    1
}

fn yes() -> bool {
    true
}

fn all() -> Vec<String> {
    vec!["*".to_owned()]
}
