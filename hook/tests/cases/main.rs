//! Does `decide()` answer the table of cases, by what a section says?

#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

/// The table.
mod table;

use sessionip_hook::decide::{
    Asked, Caller, Decision, Exclusion, Flags, Refused, Session, TCP, UDP, decide,
};
use sessionip_hook::section::{BYTES, Content, Pattern, View, Writer, fold};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::AtomicU32;
use table::{Case, Table};

#[test]
fn every_case_is_decided_as_the_table_says() {
    let table = Table::read();
    assert!(table.case.len() >= 80);
    for case in &table.case {
        for protocol in case.protocols() {
            let decided = decided(&table, case, protocol);
            let wanted = match case.given.as_str() {
                "left" => Decision::Leave,
                "foreign" => Decision::Refuse(Refused::Foreign),
                "unleased" => Decision::Refuse(Refused::Unleased),
                address => Decision::Give(mapped(address.parse().unwrap())),
            };
            assert_eq!(decided, wanted, "{protocol}: {}", case.name);
        }
    }
}

/// A table in which every row of the design has its cases, and each flag both
/// its values.
#[test]
fn the_table_leaves_nothing_out() {
    let table = Table::read();
    let has = |what: &str, row: &dyn Fn(&Case) -> bool| {
        assert!(table.case.iter().any(row), "no case for {what}");
    };
    for given in ["left", "foreign", "unleased"] {
        has(given, &|case| case.given == given && case.ebpf.is_none());
    }
    has("V6ONLY", &|case| case.v6only && case.given.starts_with("fd77"));
    has("a private address", &|case| case.given.starts_with("fd73"));
    for on in [true, false] {
        has("enabled", &|case| case.enabled == on);
        has("sources", &|case| case.sources == on);
        has("children", &|case| case.children == on);
        has("privileged", &|case| case.privileged == on);
        has("loopback", &|case| case.loopback == on);
    }
    for case in &table.case {
        let alike = table.case.iter().filter(|other| other.name == case.name).count();
        assert!(alike <= 2, "{:?} is a name for too many", case.name);
    }
}

/// Preferred or not, each feature on or off, listed or not: sixteen cells, and
/// one in which the loopback wins.
#[test]
fn every_cell_of_preferred_loopback_has_its_case() {
    let table = Table::read();
    let mut cells = std::collections::BTreeMap::new();
    for case in table.case.iter().filter(|case| case.name.starts_with("cell: ")) {
        let preferred = !case.prefer.is_empty();
        let listed = !case.programs.is_empty();
        let cell = (preferred, case.enabled, case.loopback, listed);
        assert_eq!(cells.insert(cell, case.given.as_str()), None, "{cell:?} twice");
    }
    assert_eq!(cells.len(), 16);
    for ((preferred, enabled, loopback, listed), given) in cells {
        let wanted = match (enabled && listed, preferred && loopback) {
            (false, _) => "left",
            (true, false) => "10.77.0.101",
            (true, true) => "127.0.0.2",
        };
        assert_eq!(given, wanted, "{preferred} {enabled} {loopback} {listed}");
    }
}

fn decided(table: &Table, case: &Case, protocol: &str) -> Decision {
    let block: Vec<_> = (0..BYTES / 4).map(|_| AtomicU32::new(0)).collect();
    Writer::new(&block, 1).unwrap().publish(&content(table, case)).unwrap();
    let asked = Asked {
        address: mapped(case.asked.ip()),
        port: case.asked.port(),
        protocol: match protocol {
            "tcp" => TCP,
            "udp" => UDP,
            _ => 255,
        },
        v6only: case.v6only,
    };
    let own = path(case.program.as_deref().unwrap_or("other"));
    let parent = case.parent.as_deref().map(path);
    let decided = View::new(&block).unwrap().look(|tables| {
        let mut program = tables.program(&fold(&own));
        if let Some(parent) = &parent {
            let parent = tables.program(&fold(parent));
            program.descends = parent.listed && !parent.excepted;
        }
        let session = tables.session(case.session_id);
        decide(&asked, &Caller { session, program, privileged: case.privileged }, &tables)
    });
    decided.unwrap()
}

fn content(table: &Table, case: &Case) -> Content {
    let host = &table.host;
    let mut patterns = Vec::new();
    let all_listed = list(&mut patterns, &case.programs, |pattern| pattern.listed = true);
    let all_excepted = list(&mut patterns, &case.except, |pattern| pattern.excepted = true);
    let both = case.enabled && case.loopback;
    let listed = |on: bool, list: &[String]| if on { list.to_vec() } else { Vec::new() };
    let own = listed(case.loopback, &case.loopback_programs);
    let all_on_loopback = list(&mut patterns, &own, |pattern| pattern.on_loopback = true);
    let prefer = listed(both, &case.prefer);
    let all_preferred = list(&mut patterns, &prefer, |pattern| pattern.preferred = true);
    let excluded = case.exclude.iter().map(|text| {
        let (program, port) = match text.rsplit_once(':') {
            Some((program, port)) => (entry(&mut patterns, program).id, port),
            None => (0, text.as_str()),
        };
        let (protocol, port) = port.split_once('/').unwrap();
        let protocol = if protocol == "tcp" { TCP } else { UDP };
        Exclusion { program, port: port.parse().unwrap(), protocol }
    });
    Content {
        flags: Flags {
            enabled: case.enabled,
            sources: case.sources,
            children: case.children,
            connect: case.connect,
            loopback: case.loopback,
        },
        all_listed,
        all_excepted,
        all_on_loopback,
        all_preferred,
        lists: 1,
        sessions: table
            .sessions(case)
            .into_iter()
            .map(|session| Session {
                id: session.id,
                ipv4: session.ipv4,
                ipv6: session.ipv6,
                private_ipv6: session.private_ipv6,
                loopback: session.loopback,
            })
            .collect(),
        host: host
            .pool_nic
            .iter()
            .map(|address| (mapped(*address), true))
            .chain(host.other_nics.iter().map(|address| (mapped(*address), false)))
            .collect(),
        pool: host.pool.iter().map(|(first, last)| mapped(*first)..=mapped(*last)).collect(),
        excluded: excluded.collect(),
        programs: patterns,
        routes: Vec::new(),
    }
}

/// Marks each pattern; says whether one is for all programs.
fn list(patterns: &mut Vec<Pattern>, texts: &[String], mark: impl Fn(&mut Pattern)) -> bool {
    for text in texts.iter().filter(|text| *text != "*") {
        mark(entry(patterns, text));
    }
    texts.iter().any(|text| text == "*")
}

fn entry<'p>(patterns: &'p mut Vec<Pattern>, text: &str) -> &'p mut Pattern {
    let (text, is_path) = match text.strip_prefix("FOLDER/") {
        Some(name) => (path(name), true),
        None => (text.encode_utf16().collect(), false),
    };
    let at = patterns.iter().position(|pattern| pattern.text == text).unwrap_or_else(|| {
        let id = u32::try_from(patterns.len()).unwrap() + 1;
        patterns.push(Pattern { text, is_path, id, ..Pattern::default() });
        patterns.len() - 1
    });
    &mut patterns[at]
}

fn path(name: &str) -> Vec<u16> {
    format!(r"C:\FOLDER\{name}").encode_utf16().collect()
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}
