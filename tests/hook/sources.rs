//! Does the eBPF program choose the sources that `source()` does?
//!
//! Real sockets connect; the table is the one of `hook/tests/sources`.

use crate::lab::{In, Lab, PERSON, bind_fd, connect, ip, local, policy, socket};
use crate::sources_table::{Case, Given, Port, Table};
use ipnet::IpNet;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use sessionip::address::Leading;
use sessionip::companion::{HostAddress, PolicyView, SessionEntry};
use sessionip::config::{Exclusion, ProgramPattern};
use sessionip::packet::Protocol;
use sessionip::session::SessionId;
use std::net::IpAddr;

#[test]
fn the_kernel_chooses_as_the_table_says() {
    let table = Table::read();
    let mut lab = Lab::new();
    ip("route add default via 10.77.0.2");
    tell_host(&mut lab, &table);
    let leading: Vec<Leading> = table
        .routes
        .iter()
        .map(|(net, over)| Leading { net: net.parse::<IpNet>().unwrap(), over: *over })
        .collect();
    lab.hook().set_leading(&leading).unwrap();
    for session in &table.session {
        let entry = SessionEntry {
            id: SessionId(session.id),
            ipv4: session.ipv4,
            ipv6: session.ipv6,
            private_ipv6: session.private_ipv6,
            loopback: None,
        };
        let cgroup = lab.cgroup(In::Session(session.id));
        lab.hook().set_session(cgroup, &entry).unwrap();
    }
    let mut wrong = Vec::new();
    for case in &table.case {
        lab.hook().set_policy(&policy_of(case)).unwrap();
        for protocol in case.protocols() {
            let has = source(&lab, case, protocol);
            let sessions = &table.session;
            let is_right = match case.given {
                Given::Bound(address) | Given::Told(address) => has == address,
                Given::Left => !sessions.iter().any(|session| {
                    Some(has) == session.ipv4.map(IpAddr::from)
                        || Some(has) == session.ipv6.map(IpAddr::from)
                }),
            };
            if !is_right {
                wrong.push(format!("{protocol}: {}: {has}, not {:?}", case.name, case.given));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// What the socket says of itself after it was told to connect, whether there is a
/// way or not.
fn source(lab: &Lab, case: &Case, protocol: &str) -> IpAddr {
    let place = if case.session_id == 0 { In::Outside } else { In::Session(case.session_id) };
    let name = lab.run(place, PERSON, || {
        let to = case.to.to_string();
        let fd = socket(protocol, &to);
        if let Some(from) = case.from {
            bind_fd(&fd, &from.to_string()).unwrap();
        }
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL).unwrap());
        fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).unwrap();
        let _ = connect(&fd, &to);
        local(&fd)
    });
    name.parse::<std::net::SocketAddr>().unwrap().ip().to_canonical()
}

fn tell_host(lab: &mut Lab, table: &Table) {
    let host = &table.host;
    let on = |nic: &[IpAddr], pool_nic| -> Vec<_> {
        nic.iter().map(|address| HostAddress { address: *address, pool_nic }).collect()
    };
    let addresses = [on(&host.pool_nic, true), on(&host.other_nics, false)].concat();
    lab.hook().set_host_addresses(&addresses).unwrap();
    let pool: Vec<_> = host.pool.iter().map(|(first, last)| *first..=*last).collect();
    lab.hook().set_pool(&pool).unwrap();
}

fn policy_of(case: &Case) -> PolicyView {
    let all = |list: &[String]| list.iter().map(|_| ProgramPattern::All).collect();
    let protocol = |port: &Port| match port.protocol.as_str() {
        "tcp" => Protocol::Tcp,
        _ => Protocol::Udp,
    };
    PolicyView {
        enabled: case.enabled,
        connect: case.connect,
        programs: all(&case.programs),
        except: all(&case.except),
        exclude: case
            .exclude
            .iter()
            .map(|it| Exclusion { program: None, protocol: protocol(it), port: it.port })
            .collect(),
        exclude_ports: case.exclude_ports.iter().map(|it| (protocol(it), it.port)).collect(),
        ..policy()
    }
}
