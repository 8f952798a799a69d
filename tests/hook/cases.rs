//! Does the eBPF program answer the table of cases as `decide()` does?
//!
//! Real programs bind; the table is the one of `hook/tests/cases`.

use crate::lab::{self, In, Lab, PERSON};
use crate::programs::{ARGUMENTS, Folder, answer};
use crate::table::{Case, Table};
use nix::sys::socket::{setsockopt, sockopt};
use sessionip::companion::{HostAddress, PolicyView, SessionEntry};
use sessionip::config::{Exclusion, Loopback, ProgramPattern};
use sessionip::session::SessionId;
use std::env;
use std::path::Path;
use std::process::Command;

#[test]
fn the_kernel_answers_every_case_as_the_table_says() {
    let table = Table::read();
    let mut lab = Lab::new();
    let folder = Folder::new();
    tell_host(&mut lab, &table);
    let mut asked = 0;
    let mut wrong = Vec::new();
    for case in &table.case {
        if let Some(reason) = &case.ebpf {
            println!("not asked of the kernel: {}: {reason}", case.name);
            continue;
        }
        for session in table.sessions(case) {
            let entry = SessionEntry {
                id: SessionId(session.id),
                ipv4: session.ipv4,
                ipv6: session.ipv6,
                private_ipv6: session.private_ipv6,
                loopback: session.loopback,
            };
            let cgroup = lab.cgroup(In::Session(session.id));
            lab.hook().set_session(cgroup, &entry).unwrap();
        }
        prepare(case, &folder);
        lab.hook().set_policy(&policy(case, &folder)).unwrap();
        for protocol in case.protocols() {
            let (is, wanted) = (given(&lab, &folder, case, protocol), wanted(case));
            asked += 1;
            if is != wanted {
                wrong.push(format!("{protocol}: {}: {is}, not {wanted}", case.name));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(asked >= 100, "{asked} binds are too few to agree on");
}

/// Not a test but the program that binds, under other names.
#[test]
fn acts_as_a_program_of_a_case() {
    let Ok(asked) = env::var("HOOK_TEST_CASE") else { return };
    let (protocol, address) = asked.split_once(' ').unwrap();
    println!("\ngiven={}", bound(protocol, address));
}

/// Binds, also to an address that is not on this host: then a refusal is the
/// hook's own.
fn bound(protocol: &str, address: &str) -> String {
    let (v6only, address) = match address.strip_prefix("v6only ") {
        Some(address) => (true, address),
        None => (false, address),
    };
    let fd = lab::socket(protocol, address);
    if address.starts_with('[') {
        setsockopt(&fd, sockopt::Ipv6V6Only, &v6only).unwrap();
    }
    setsockopt(&fd, sockopt::IpFreebind, &true).unwrap();
    lab::name(lab::bind_fd(&fd, address).map(|()| fd))
}

fn given(lab: &Lab, folder: &Folder, case: &Case, protocol: &str) -> String {
    let place = if case.session_id == 0 { In::Outside } else { In::Session(case.session_id) };
    let uid = if case.privileged { 0 } else { PERSON };
    let address = format!("{}{}", if case.v6only { "v6only " } else { "" }, case.asked);
    let given = lab.run(place, uid, || {
        let asked = format!("{protocol} {address}");
        match (&case.parent, &case.program) {
            (Some(parent), program) => {
                let program = folder.path(program.as_deref().unwrap_or("other"));
                let line =
                    format!("(sleep 0.1; {} {}) &", program.display(), arguments().join(" "));
                output(Command::new(folder.path(parent)).args(["-c", &line]), &asked)
            }
            (None, Some(program)) => {
                output(Command::new(folder.path(program)).args(arguments()), &asked)
            }
            (None, None) => bound(protocol, &address),
        }
    });
    // A port that was left open is the kernel's choice.
    match given.rsplit_once(':') {
        Some((address, _)) if case.asked.port() == 0 => format!("{address}:0"),
        _ => given,
    }
}

fn arguments() -> [&'static str; 3] {
    let [exact, _, nocapture] = ARGUMENTS;
    [exact, "cases::acts_as_a_program_of_a_case", nocapture]
}

fn output(command: &mut Command, asked: &str) -> String {
    answer(&command.env("HOOK_TEST_CASE", asked).output().unwrap().stdout)
}

fn wanted(case: &Case) -> String {
    match case.given.as_str() {
        "left" => case.asked.to_string(),
        "foreign" => "EACCES".to_owned(),
        "unleased" => "EADDRNOTAVAIL".to_owned(),
        address => {
            let mut given = case.asked;
            given.set_ip(match (address.parse().unwrap(), case.asked.is_ipv6()) {
                (std::net::IpAddr::V4(address), true) => address.to_ipv6_mapped().into(),
                (address, _) => address,
            });
            given.to_string()
        }
    }
}

/// The programs of a case are files.
fn prepare(case: &Case, folder: &Folder) {
    let named = |name: &str| (!folder.path(name).exists()).then_some(());
    if let Some(program) = &case.program
        && named(program).is_some()
    {
        folder.program(program);
    }
    if let Some(parent) = &case.parent
        && named(parent).is_some()
    {
        folder.copy(Path::new("/bin/sh"), parent);
    }
}

fn tell_host(lab: &mut Lab, table: &Table) {
    let host = &table.host;
    let addresses: Vec<_> = host
        .pool_nic
        .iter()
        .map(|address| HostAddress { address: *address, pool_nic: true })
        .chain(
            host.other_nics
                .iter()
                .map(|address| HostAddress { address: *address, pool_nic: false }),
        )
        .collect();
    lab.hook().set_host_addresses(&addresses).unwrap();
    let pool: Vec<_> = host.pool.iter().map(|(first, last)| *first..=*last).collect();
    lab.hook().set_pool(&pool).unwrap();
}

fn policy(case: &Case, folder: &Folder) -> PolicyView {
    let pattern = |text: &String| -> ProgramPattern {
        match text.strip_prefix("FOLDER/") {
            Some(name) => ProgramPattern::Path(folder.path(name)),
            None => text.parse().unwrap(),
        }
    };
    let exclusion = |text: &String| -> Exclusion {
        let folder = folder.path("");
        text.replace("FOLDER/", folder.to_str().unwrap()).parse().unwrap()
    };
    PolicyView {
        enabled: case.enabled,
        programs: case.programs.iter().map(pattern).collect(),
        except: case.except.iter().map(pattern).collect(),
        children: case.children,
        connect: case.connect,
        exclude_ports: vec![],
        exclude: case.exclude.iter().map(exclusion).collect(),
        sources: case.sources,
        listeners: true,
        loopback: Loopback {
            enabled: case.loopback,
            programs: case.loopback_programs.iter().map(pattern).collect(),
            prefer: case.prefer.iter().map(pattern).collect(),
            ..Loopback::default()
        },
        isolate_loopback: true,
    }
}
