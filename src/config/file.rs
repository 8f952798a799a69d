//! What was typed: the shape of the configuration file, key by key.
//!
//! The doc comments here are the descriptions in `config/schema.json`, and the
//! defaults here are the defaults.

use super::finding::{self, Finding};
use super::tree;
use super::{Mapping, Scope, UnknownOwner, WhenExhausted};
use crate::places;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use toml::de::{DeTable, Deserializer};

/// The configuration of sessionip. Every key but pool.ranges may be left out.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(title = "sessionip.toml", extend("required" = ["pool"]))]
pub struct File {
    /// The folder of the leases and the journal.
    pub state_dir: String,
    /// The socket through which every command finds the daemon.
    pub control: String,
    /// The addresses to give.
    pub pool: Pool,
    /// Who is virtualised, and what happens where it cannot be.
    pub virtual_ip: VirtualIp,
    /// A 127.x.y.z of its own for each session.
    pub loopback: Loopback,
    /// The companion hook, which moves binds to a wildcard.
    pub hook: Hook,
    /// How packets are diverted.
    pub divert: Divert,
    /// What sessions may do to each other; true forbids it.
    pub isolation: Isolation,
    /// Numbers for Prometheus.
    pub metrics: Metrics,
}

impl Default for File {
    fn default() -> Self {
        Self {
            state_dir: places::state_directory(),
            control: places::control(),
            pool: Pool::default(),
            virtual_ip: VirtualIp::default(),
            loopback: Loopback::default(),
            hook: Hook::default(),
            divert: Divert::default(),
            isolation: Isolation::default(),
            metrics: Metrics::default(),
        }
    }
}

/// The addresses to give.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(extend("required" = ["ranges"]))]
pub struct Pool {
    /// Where addresses come from.
    pub source: Source,
    /// Ranges of addresses, each written first-last or as a prefix such as
    /// 10.77.0.128/25. Reserve them outside DHCP, and without the network and
    /// broadcast address of the subnet. Sessions get one address of each IP
    /// version that is here; of each at most 65536 can be given.
    #[schemars(length(min = 1))]
    pub ranges: Vec<String>,
    /// The network card that answers for the ranges, by name; auto: the one
    /// whose subnet holds them.
    pub adapter: String,
    /// How many addresses of each IP version one user may hold at once.
    #[schemars(range(min = 1))]
    pub per_user: i64,
    /// A user gets the same address again where it is free.
    pub sticky: bool,
    /// How long a returned address rests before another user gets it.
    pub quarantine: String,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            source: Source::Static,
            ranges: Vec::new(),
            adapter: "auto".into(),
            per_user: 8,
            sticky: true,
            quarantine: "4m".into(),
        }
    }
}

/// Where addresses come from.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// From the ranges.
    Static,
    /// From the site's DHCP service. Not in this version.
    Dhcp,
}

/// Who is virtualised, and what happens where it cannot be.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct VirtualIp {
    /// Off: nothing is rewritten and no bind is moved.
    pub enabled: bool,
    /// The programs that are virtualised: full paths (recommended: a name alone
    /// is easily borrowed) or file names; "*" is every program of a session.
    pub programs: Vec<String>,
    /// Programs that are not, whatever the list says: a session's own plumbing.
    pub except: Vec<String>,
    /// Children of a listed program count as listed.
    pub children: bool,
    /// What a listed program does in a session that found the pool empty.
    pub when_exhausted: WhenExhausted,
    /// IPv6 of a listed program whose session has no IPv6 address.
    pub ipv6_without_lease: Ipv6WithoutLease,
}

impl Default for VirtualIp {
    fn default() -> Self {
        Self {
            enabled: true,
            programs: texts(&["*"]),
            except: texts(&[
                "Xorg",
                "Xvnc",
                "Xtigervnc",
                "xrdp-chansrv",
                "sshd",
                "winlogon.exe",
                "rdpclip.exe",
            ]),
            children: false,
            when_exhausted: WhenExhausted::HostAddress,
            ipv6_without_lease: Ipv6WithoutLease::Leave,
        }
    }
}

/// What happens to IPv6 of a session that has no IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ipv6WithoutLease {
    /// It leaves from the host's address.
    Leave,
    /// It is dropped.
    Block,
}

/// A 127.x.y.z of its own for each session.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Loopback {
    /// While it is off, the other keys have no effect.
    pub enabled: bool,
    /// The programs whose 127.0.0.1 and ::1 are the session's own; "*" for all.
    /// virtual-ip.except wins over it, and virtual-ip.children has no say.
    pub programs: Vec<String>,
    /// Programs of virtual-ip.programs whose binds to a wildcard go to the
    /// session's loopback; "*" for all. Only where virtual-ip.enabled is on, too.
    pub prefer: Vec<String>,
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

/// The companion hook, which moves binds to a wildcard.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Hook {
    /// Which calls the hook touches.
    pub scope: Scope,
    /// Binds that are left alone, because their packets are broadcast or
    /// multicast: PROTO/PORT, or PROGRAM:PROTO/PORT.
    pub exclude: Vec<String>,
}

impl Default for Hook {
    fn default() -> Self {
        Self { scope: Scope::Bind, exclude: texts(&["udp/67", "udp/68", "udp/5353", "udp/1900"]) }
    }
}

/// How packets are diverted.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Divert {
    /// Who rewrites the packets of a flow that is known.
    pub datapath: Datapath,
    /// What happens to new connections while the daemon is away.
    pub on_failure: OnFailure,
    /// How long a packet waits until its owner is known; at most one second.
    pub hold: String,
    /// What happens to a packet whose owner stays unknown.
    pub unknown_owner: UnknownOwner,
    /// Local ports that are left alone, such as the remote desktop's: PROTO/PORT.
    pub exclude_ports: Vec<String>,
}

impl Default for Divert {
    fn default() -> Self {
        Self {
            datapath: Datapath::Auto,
            on_failure: OnFailure::Open,
            hold: "10ms".into(),
            unknown_owner: UnknownOwner::Pass,
            exclude_ports: texts(&["tcp/3389"]),
        }
    }
}

/// Who rewrites the packets of a flow that is known.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Datapath {
    /// The engine, each packet.
    Packet,
    /// The kernel. Not in this version.
    Offload,
    /// The fastest one that is there.
    Auto,
}

/// What happens to new connections while the daemon is away.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// They leave from the host's address.
    Open,
    /// Those of listed programs are blocked. Not in this version.
    Closed,
}

/// What sessions may do to each other; true forbids it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Isolation {
    /// A wildcard listener gets no packets for another session's address.
    pub listeners: bool,
    /// No packet reaches another session's loopback.
    pub loopback: bool,
    /// No packet leaves from another session's address.
    pub sources: bool,
}

impl Default for Isolation {
    fn default() -> Self {
        Self { listeners: true, loopback: true, sources: true }
    }
}

/// Numbers for Prometheus.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Metrics {
    /// Address and port of /metrics; "" turns it off. No label names a user, a
    /// program or an address.
    pub listen: String,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9477".into() }
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.into()).collect()
}

/// The JSON schema of the file, for editors and for the walk in [`tree`].
pub fn schema() -> Schema {
    SchemaSettings::draft2020_12()
        .with(|settings| settings.inline_subschemas = true)
        .with_transform(RecursiveTransform(drop_defaults_of_no_use))
        .into_generator()
        .into_root_schema_for::<File>()
}

/// What must be written has no default, and a section's is that of its keys.
fn drop_defaults_of_no_use(schema: &mut Schema) {
    let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (name, property) in properties.into_iter().flatten() {
        let is_section = property.get("properties").is_some();
        if let Some(property) = property.as_object_mut()
            && (is_section || required.contains(&Value::from(&**name)))
        {
            property.remove("default");
        }
    }
}

/// Reads `text`. What cannot be read is a finding, and stands at its default in
/// the [`File`]; there is none where the text is no TOML at all.
pub(super) fn read<'t>(text: &'t str) -> (Option<File>, DeTable<'t>, Vec<Finding>) {
    let (mut root, errors) = DeTable::parse_recoverable(text);
    let syntax = |error: &toml::de::Error| {
        let help = "the file is TOML: [section], key = value, texts between quotes";
        Finding::error("", error.message(), help).bytes(error.span().unwrap_or_default())
    };
    let mut findings: Vec<_> = errors.iter().map(syntax).collect();
    if finding::any_error(&findings) {
        return (None, root.into_inner(), findings);
    }
    tree::prune(schema().as_value(), root.get_mut(), &mut findings);
    // The tree fits the schema by now; what serde still minds is reported as is.
    let file = File::deserialize(Deserializer::from(root.clone()))
        .map_err(|error| findings.push(syntax(&error)))
        .ok();
    (file, root.into_inner(), findings)
}
