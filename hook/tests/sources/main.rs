//! Does `source()` answer the table of cases, by what a section says?

#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

/// The table.
mod table;

use sessionip_hook::decide::{Caller, Exclusion, Flags, LEFT_PORTS, Session, TCP, UDP};
use sessionip_hook::section::{BYTES, Content, Leading, View, Writer};
use sessionip_hook::source::{Leaving, Local, Source, source};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::AtomicU32;
use table::{Case, Given, Port, Table};

#[test]
fn every_case_is_decided_as_the_table_says() {
    let table = Table::read();
    assert!(table.case.len() >= 30);
    for case in &table.case {
        for protocol in case.protocols() {
            let wanted = match case.given {
                Given::Bound(address) => Source::Bind(mapped(address)),
                Given::Told(address) => Source::Tell(mapped(address)),
                Given::Left => Source::Leave,
            };
            let leaving = Leaving {
                target: mapped(case.to.ip()),
                port: case.to.port(),
                protocol: number(protocol),
                local: match case.from {
                    None => Local::Unbound,
                    Some(from) if from.ip().is_unspecified() => Local::Wildcard(from.port()),
                    Some(_) => Local::Chosen,
                },
            };
            assert_eq!(decided(&table, case, &leaving), wanted, "{protocol}: {}", case.name);
        }
    }
}

/// What the kernel cannot be asked: an address of another session's has its row in
/// `hook/bpf/redirect.h`, whatever the scope, and a socket at an address of the
/// pool's NIC has been moved when it was bound.
#[test]
fn what_the_table_cannot_say() {
    let table = Table::read();
    let case = &table.case[0];
    let leaving = |target: &str, port, protocol, local| Leaving {
        target: mapped(target.parse().unwrap()),
        port,
        protocol,
        local,
    };
    for (what, leaving) in [
        ("another session's", leaving("10.77.0.102", 7000, TCP, Local::Unbound)),
        ("nobody's of the pool", leaving("10.77.0.199", 7000, TCP, Local::Unbound)),
        ("a private one", leaving("fd73:6970::2", 7000, TCP, Local::Unbound)),
        ("no port", leaving("10.77.0.2", 0, UDP, Local::Unbound)),
        ("neither TCP nor UDP", leaving("10.77.0.2", 7000, 1, Local::Unbound)),
        ("an address of its own", leaving("10.77.0.2", 7000, UDP, Local::Chosen)),
    ] {
        assert_eq!(decided(&table, case, &leaving), Source::Leave, "{what}");
    }
}

/// A table in which each flag has both its values, and each answer its cases.
#[test]
fn the_table_leaves_nothing_out() {
    let table = Table::read();
    let has = |what: &str, row: &dyn Fn(&Case) -> bool| {
        assert!(table.case.iter().any(row), "no case for {what}");
    };
    for on in [true, false] {
        has("enabled", &|case| case.enabled == on);
        has("connect", &|case| case.connect == on);
        has("bound", &|case| matches!(case.given, Given::Bound(at) if at.is_ipv4() == on));
        has("told", &|case| matches!(case.given, Given::Told(at) if at.is_ipv4() == on));
        has("left", &|case| case.given == Given::Left && case.to.is_ipv4() == on);
    }
}

fn decided(table: &Table, case: &Case, leaving: &Leaving) -> Source {
    let block: Vec<_> = (0..BYTES / 4).map(|_| AtomicU32::new(0)).collect();
    Writer::new(&block, 1).unwrap().publish(&content(table, case)).unwrap();
    let decided = View::new(&block).unwrap().look(|tables| {
        let caller = Caller {
            session: tables.session(case.session_id),
            program: tables.program(&[]),
            privileged: false,
        };
        source(leaving, &caller, &tables)
    });
    decided.unwrap()
}

fn content(table: &Table, case: &Case) -> Content {
    let Table { host, routes, session, .. } = table;
    let all = |list: &[String]| list.iter().any(|text| text == "*");
    let nics = [(&host.pool_nic, true), (&host.other_nics, false)];
    Content {
        flags: Flags { enabled: case.enabled, connect: case.connect, ..Flags::default() },
        all_listed: all(&case.programs),
        all_excepted: all(&case.except),
        sessions: session
            .iter()
            .map(|session| Session {
                id: session.id,
                ipv4: session.ipv4,
                ipv6: session.ipv6,
                private_ipv6: session.private_ipv6,
                loopback: None,
            })
            .collect(),
        host: nics
            .iter()
            .flat_map(|(nic, is_pools)| nic.iter().map(|address| (mapped(*address), *is_pools)))
            .collect(),
        pool: host.pool.iter().map(|(first, last)| mapped(*first)..=mapped(*last)).collect(),
        excluded: excluded(&case.exclude, 0)
            .chain(excluded(&case.exclude_ports, LEFT_PORTS))
            .collect(),
        routes: routes.iter().map(|(net, over)| leading(net, *over)).collect(),
        ..Content::default()
    }
}

fn excluded(ports: &[Port], program: u32) -> impl Iterator<Item = Exclusion> {
    ports.iter().map(move |Port { protocol, port }| Exclusion {
        program,
        port: *port,
        protocol: number(protocol),
    })
}

fn leading(net: &str, over: bool) -> Leading {
    let (to, length) = net.split_once('/').unwrap();
    let to: IpAddr = to.parse().unwrap();
    let length: u8 = length.parse().unwrap();
    Leading { to: mapped(to), length: if to.is_ipv4() { length + 96 } else { length }, over }
}

fn number(protocol: &str) -> u16 {
    if protocol == "tcp" { TCP } else { UDP }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}
