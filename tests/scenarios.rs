//! Packet in, packet out, and what was counted: every file of `tests/scenarios`.
//!
//! A file has a host, a policy and steps. A step either shows a packet, with the
//! verdict and the packet that are to come out, or changes something: time,
//! sessions, sockets, policy, the engine itself. Of the reason counters, a step
//! moves exactly those in its `counts`; without `counts`, that of its verdict by
//! one. A packet that is not rewritten has to come out as it went in. Nothing in
//! a file is of one operating system.

#![expect(clippy::expect_used, reason = "what is wrong with a scenario is said by ending the test")]

mod support;

use serde::Deserialize;
use sessionip::config::{Ipv6WithoutLease, ProgramPattern, UnknownOwner, WhenExhausted};
use sessionip::engine::{Addresses, Begun, Checksum, Direction, Diverted, Engine, Facts, Host};
use sessionip::flow::FlowView;
use sessionip::packet::{Endpoint, Protocol};
use sessionip::policy::Policy;
use sessionip::session::SessionId;
use sessionip::verdict::Verdict;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use support::packets;
use support::sockets::{Listed, Socket};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    title: String,
    host: HostTable,
    #[serde(default)]
    policy: PolicyTable,
    #[serde(default = "plenty")]
    limit: usize,
    step: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HostTable {
    addresses: Vec<IpAddr>,
    #[serde(default)]
    broadcast: Vec<IpAddr>,
    /// `FIRST-LAST`.
    pool: Vec<String>,
    /// `ID [IPV4] [IPV6]`.
    sessions: Vec<String>,
    #[serde(default)]
    sockets: Vec<String>,
    /// `PROTOCOL ENDPOINT`: listeners that were moved there.
    #[serde(default)]
    moved: Vec<String>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct PolicyTable {
    enabled: bool,
    programs: Vec<String>,
    except: Vec<String>,
    children: bool,
    /// `[loopback] programs`, which is on where there are any.
    loopback: Vec<String>,
    block_exhausted: bool,
    block_ipv6: bool,
    drop_unknown: bool,
    hold: String,
    exclude_ports: Vec<String>,
    isolation: bool,
}

impl Default for PolicyTable {
    fn default() -> Self {
        Self {
            enabled: true,
            programs: vec!["*".to_owned()],
            except: vec!["sshd".to_owned()],
            children: false,
            loopback: Vec::new(),
            block_exhausted: false,
            block_ipv6: false,
            drop_unknown: false,
            hold: "10ms".to_owned(),
            exclude_ports: vec!["tcp/3389".to_owned()],
            isolation: true,
        }
    }
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct Step {
    /// `(out|in) [lo] PACKET`.
    packet: Option<String>,
    #[serde(default)]
    facts: FactsTable,
    /// `hold`, or `(pass|rewrite|drop) REASON`.
    verdict: Option<String>,
    /// The packet that comes out of a rewrite.
    to: Option<String>,
    counts: Option<BTreeMap<String, u64>>,
    /// Every flow there is then, in any order.
    flows: Option<Vec<String>>,

    wait: Option<String>,
    logon: Option<String>,
    logoff: Option<u32>,
    open: Option<String>,
    close: Option<String>,
    policy: Option<toml::Table>,
    #[serde(default)]
    restart: bool,
}

#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields)]
struct FactsTable {
    #[serde(default)]
    translated: bool,
    #[serde(default)]
    partial: bool,
    held: Option<String>,
}

/// A scenario as it runs.
struct Stage {
    engine: Engine<Listed>,
    host: Host,
    policy: PolicyTable,
    limit: usize,
    now: Instant,
}

#[test]
fn every_scenario() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut failed = 0;
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        let scenario: Scenario =
            toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let name = file.file_stem().unwrap().to_string_lossy();
        for (number, complaint) in run(&scenario) {
            failed += 1;
            println!("----- {name}: {}\nstep {number}: {complaint}", scenario.title);
        }
    }
    assert!(files.len() >= 25, "the scenarios are missing from {}", folder.display());
    assert_eq!(failed, 0, "steps of {} scenarios went another way", files.len());
}

/// What went another way, by the number of the step.
fn run(scenario: &Scenario) -> Vec<(usize, String)> {
    let mut stage = Stage::set(scenario);
    let steps = scenario.step.iter().zip(1..);
    steps.filter_map(|(step, number)| Some((number, stage.play(step).err()?))).collect()
}

impl Stage {
    #[expect(clippy::disallowed_methods, reason = "time has to begin somewhere")]
    fn set(scenario: &Scenario) -> Self {
        let table = &scenario.host;
        let mut host = Host {
            interface: 2,
            addresses: table.addresses.clone(),
            broadcast: table.broadcast.clone(),
            pool: table.pool.iter().map(|range| self::range(range)).collect(),
            moved: table.moved.iter().map(|listener| self::listener(listener)).collect(),
            ..Host::default()
        };
        for session in &table.sessions {
            log_on(&mut host, session);
        }
        let sockets = Listed(table.sockets.iter().map(|text| Socket::read(text)).collect());
        let policy = scenario.policy.clone();
        let mut engine = Engine::new(sockets, policy.compile(), scenario.limit);
        engine.set_host(host.clone());
        Self { engine, host, policy, limit: scenario.limit, now: Instant::now() }
    }

    fn play(&mut self, step: &Step) -> Result<(), String> {
        self.change(step);
        let before = self.counters();
        let mut expected = step.counts.clone().unwrap_or_default();
        if let Some(packet) = &step.packet {
            let verdict = step.verdict.as_deref().expect("a packet has a verdict");
            if step.counts.is_none() {
                let word = verdict.split_once(' ').map_or("held", |(_, reason)| reason);
                expected.insert(word.to_owned(), 1);
            }
            self.show(packet, &step.facts, verdict, step.to.as_deref())?;
        }
        let counted: BTreeMap<String, u64> = self
            .counters()
            .into_iter()
            .map(|(word, count)| (word.clone(), count - before[&word]))
            .filter(|(_, count)| *count > 0)
            .collect();
        same("counted", &expected, &counted)?;
        if let Some(expected) = &step.flows {
            let mut expected = expected.clone();
            expected.sort();
            same("flows", &expected, &self.flows())?;
        }
        Ok(())
    }

    fn change(&mut self, step: &Step) {
        if let Some(wait) = &step.wait {
            self.now += duration(wait);
            self.engine.expire(self.now);
        }
        if let Some(session) = &step.logon {
            log_on(&mut self.host, session);
            self.engine.set_host(self.host.clone());
        }
        if let Some(session) = step.logoff {
            let session = SessionId(session);
            self.host.sessions.remove(&session);
            self.host.holders.retain(|_, holder| *holder != session);
            self.engine.set_host(self.host.clone());
        }
        if let Some(socket) = &step.open {
            self.engine.sockets().0.push(Socket::read(socket));
        }
        if let Some(socket) = &step.close {
            let socket = Socket::read(socket);
            let sockets = &mut self.engine.sockets().0;
            let there = sockets.iter().position(|other| *other == socket);
            sockets.remove(there.expect("a socket that is closed was open"));
        }
        if let Some(policy) = &step.policy {
            self.policy = policy.clone().try_into().expect("a policy");
            self.engine.set_policy(self.policy.compile());
        }
        if step.restart {
            let sockets = self.engine.sockets().clone();
            self.engine = Engine::new(sockets, self.policy.compile(), self.limit);
            self.engine.set_host(self.host.clone());
        }
    }

    fn show(
        &mut self,
        text: &str,
        table: &FactsTable,
        verdict: &str,
        to: Option<&str>,
    ) -> Result<(), String> {
        let (facts, text) = facts(text, table);
        let build = |text: &str| match facts.checksum {
            Checksum::Partial => packets::left_partial(packets::build(text)),
            Checksum::Real | Checksum::Absent => packets::build(text),
        };
        let mut packet = build(text);
        let expected = to.map_or_else(|| packet.clone(), build);
        let mut verdicts = Vec::new();
        let diverted = Diverted { bytes: &mut packet, facts };
        self.engine.process_batch(self.now, &mut [diverted], &mut verdicts);
        let got = match verdicts[0] {
            Verdict::Pass(reason) => format!("pass {reason}"),
            Verdict::Rewrite(reason) => format!("rewrite {reason}"),
            Verdict::Drop(reason) => format!("drop {reason}"),
            Verdict::Hold => "hold".to_owned(),
        };
        let came_out = || format!("\n    packet {}", packets::describe(&packet));
        same("verdict", &verdict.to_owned(), &got).map_err(|text| text + &came_out())?;
        if packet != expected {
            let expected = packets::describe(&expected);
            return Err(format!("{text}\n  expected {expected}\n       got{}", came_out()));
        }
        Ok(())
    }

    fn counters(&self) -> BTreeMap<String, u64> {
        let reasons = self.engine.reasons().iter();
        reasons.map(|(reason, count)| (reason.word().to_owned(), count)).collect()
    }

    fn flows(&self) -> Vec<String> {
        let mut flows = Vec::new();
        let mut cursor = Some(0);
        while let Some(from) = cursor {
            let (page, next) = self.engine.flows_from(from, 2);
            flows.extend(page.iter().map(line));
            cursor = next;
        }
        flows.sort();
        flows
    }
}

/// `PROTOCOL LOCAL > REMOTE [as LOCAL > REMOTE] REASON [session N] [pid N] xPACKETS`.
fn line(flow: &FlowView) -> String {
    let (inside, outside) = (flow.inside, flow.outside);
    let mut line = format!("{} {} > {}", flow.protocol.word(), inside.local, inside.remote);
    if outside != inside {
        line += &format!(" as {} > {}", outside.local, outside.remote);
    }
    line += &format!(" {}", flow.reason);
    if let Some(session) = flow.session {
        line += &format!(" session {session}");
    }
    if flow.pid != 0 {
        line += &format!(" pid {}", flow.pid);
    }
    line + &format!(" x{}", flow.packets)
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, expected: &T, got: &T) -> Result<(), String> {
    if expected == got {
        return Ok(());
    }
    Err(format!("{what}\n  expected {expected:?}\n       got {got:?}"))
}

fn listener(text: &str) -> (Protocol, Endpoint) {
    let (protocol, endpoint) = text.split_once(' ').expect("a protocol and an endpoint");
    let at: std::net::SocketAddr = endpoint.parse().expect("an endpoint");
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        other => panic!("a listener is of tcp or udp, not {other}"),
    };
    (protocol, Endpoint::new(at.ip(), at.port()))
}

fn facts<'a>(text: &'a str, table: &FactsTable) -> (Facts, &'a str) {
    let (direction, text) = match text.split_once(' ').expect("a packet has a direction") {
        ("out", text) => (Direction::Out, text),
        ("in", text) => (Direction::In, text),
        (other, _) => panic!("a packet goes out or in, not {other}"),
    };
    let loopback = text.strip_prefix("lo ");
    let facts = Facts {
        loopback: loopback.is_some(),
        checksum: if table.partial { Checksum::Partial } else { Checksum::Real },
        begun: if table.translated { Begun::Translated } else { Begun::Unknown },
        held: table.held.as_deref().map(duration).unwrap_or_default(),
        ..support::facts(direction)
    };
    (facts, loopback.unwrap_or(text))
}

fn log_on(host: &mut Host, text: &str) {
    let mut words = text.split_whitespace();
    let session = SessionId(words.next().and_then(|id| id.parse().ok()).expect("a session's id"));
    let (mut addresses, mut loopbacks) = (Addresses::default(), Addresses::default());
    for word in words {
        let address: IpAddr = word.parse().expect("a virtual address or a loopback");
        let is_loopback = address.is_loopback() || word.starts_with("fd73:6970::");
        let its = if is_loopback { &mut loopbacks } else { &mut addresses };
        match address {
            IpAddr::V4(address) => its.ipv4 = Some(address),
            IpAddr::V6(address) => its.ipv6 = Some(address),
        }
        if !is_loopback {
            host.holders.insert(address, session);
        }
    }
    host.sessions.insert(session, addresses);
    if loopbacks != Addresses::default() {
        host.loopbacks.insert(session, loopbacks);
    }
}

impl PolicyTable {
    fn compile(&self) -> Policy {
        let patterns = |words: &[String]| words.iter().map(|word| pattern(word)).collect();
        let mut config = support::policy::config();
        config.virtual_ip.enabled = self.enabled;
        config.virtual_ip.programs = patterns(&self.programs);
        config.virtual_ip.except = patterns(&self.except);
        config.virtual_ip.children = self.children;
        config.loopback.enabled = !self.loopback.is_empty();
        config.loopback.programs = patterns(&self.loopback);
        if self.block_exhausted {
            config.virtual_ip.when_exhausted = WhenExhausted::Block;
        }
        if self.block_ipv6 {
            config.virtual_ip.ipv6_without_lease = Ipv6WithoutLease::Block;
        }
        if self.drop_unknown {
            config.divert.unknown_owner = UnknownOwner::Drop;
        }
        config.divert.hold = duration(&self.hold);
        let excluded = self.exclude_ports.iter().map(|text| excluded(text));
        config.divert.exclude_ports = excluded.collect();
        config.isolation.listeners = self.isolation;
        config.isolation.sources = self.isolation;
        config.isolation.loopback = self.isolation;
        Policy::compile(&config, |_| None)
    }
}

fn pattern(text: &str) -> ProgramPattern {
    match text {
        "*" => ProgramPattern::All,
        path if path.starts_with('/') => ProgramPattern::Path(path.into()),
        name => ProgramPattern::Name(name.to_owned()),
    }
}

fn excluded(text: &str) -> (Protocol, u16) {
    let (protocol, port) = text.split_once('/').expect("PROTO/PORT");
    let protocol = if protocol == "tcp" { Protocol::Tcp } else { Protocol::Udp };
    (protocol, port.parse().expect("a port"))
}

fn range(text: &str) -> (IpAddr, IpAddr) {
    let (first, last) = text.split_once('-').expect("FIRST-LAST");
    (first.parse().expect("an address"), last.parse().expect("an address"))
}

fn duration(text: &str) -> Duration {
    let digits = text.find(|c: char| !c.is_ascii_digit()).expect("a duration has a unit");
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().expect("a number");
    match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number * 60),
        "h" => Duration::from_secs(number * 3600),
        _ => panic!("{unit} is no unit of time"),
    }
}

const fn plenty() -> usize {
    1000
}
