//! The table of cases, `sources.toml`, as the tests of each side read it.

use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Table {
    /// A prefix, and whether what is sent there leaves by the pool's NIC.
    pub(crate) routes: Vec<(String, bool)>,
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
    pub(crate) id: u32,
    pub(crate) ipv4: Option<Ipv4Addr>,
    pub(crate) ipv6: Option<Ipv6Addr>,
    pub(crate) private_ipv6: Option<Ipv6Addr>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Case {
    pub(crate) name: String,
    #[serde(rename = "in", default = "first")]
    pub(crate) session_id: u32,
    pub(crate) protocol: Option<String>,
    pub(crate) from: Option<SocketAddr>,
    pub(crate) to: SocketAddr,
    pub(crate) given: Given,
    #[serde(default = "yes")]
    pub(crate) enabled: bool,
    #[serde(default = "yes")]
    pub(crate) connect: bool,
    #[serde(default = "all")]
    pub(crate) programs: Vec<String>,
    #[serde(default)]
    pub(crate) except: Vec<String>,
    #[serde(default)]
    pub(crate) exclude: Vec<Port>,
    #[serde(default)]
    pub(crate) exclude_ports: Vec<Port>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Given {
    Bound(IpAddr),
    Told(IpAddr),
    Left,
}

impl TryFrom<String> for Given {
    type Error = std::net::AddrParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match (text.as_str(), text.strip_prefix("told ")) {
            ("left", _) => Ok(Self::Left),
            (_, Some(told)) => Ok(Self::Told(told.parse()?)),
            (bound, None) => Ok(Self::Bound(bound.parse()?)),
        }
    }
}

/// `tcp/7100`.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Port {
    pub(crate) protocol: String,
    pub(crate) port: u16,
}

impl TryFrom<String> for Port {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let (protocol, port) = text.split_once('/').ok_or("no /")?;
        let port = port.parse().map_err(|_| "no port")?;
        Ok(Self { protocol: protocol.to_owned(), port })
    }
}

impl Table {
    pub(crate) fn read() -> Self {
        toml::from_str(include_str!("../../sources.toml")).unwrap()
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
