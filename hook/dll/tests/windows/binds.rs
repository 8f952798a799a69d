//! Which address does a bind get, in a program that knows nothing of it?

use crate::world::{FOREIGN, FREE, P, Program, V, World, content, mapped, pattern};
use hook::decide::{Exclusion, Flags, TCP, UDP};
use hook::report::{Done, Report};
use hook::section::Content;
use hook::windows::mailslot::{self, Mailslot};
use std::net::Ipv6Addr;
use std::time::Duration;

fn check(program: &mut Program, rows: &[(&str, &str)]) {
    for (asked, given) in rows {
        assert_eq!(program.does(&format!("bind {asked}")), *given, "{asked}");
    }
}

#[test]
fn every_row_of_the_table() {
    let world = World::new();
    let mut program = world.hooked();
    check(
        &mut program,
        &[
            ("tcp 0.0.0.0:9000", "127.0.0.2:9000"),
            ("udp 0.0.0.0:9000", "127.0.0.2:9000"),
            ("exclusive tcp 0.0.0.0:9000", "127.0.0.2:9000"),
            ("dual tcp [::]:9000", "[::ffff:127.0.0.2]:9000"),
            ("dual udp [::]:9000", "[::ffff:127.0.0.2]:9000"),
            ("dual tcp [::ffff:0.0.0.0]:9000", "[::ffff:127.0.0.2]:9000"),
            ("tcp [::]:9000", "[::1]:9000"),
            (&format!("tcp {P}:9000"), "127.0.0.2:9000"),
            ("tcp 127.0.0.1:9000", "127.0.0.1:9000"),
            ("tcp [::1]:9000", "[::1]:9000"),
            (&format!("udp {V}:9000"), "127.0.0.2:9000"),
            (&format!("tcp {FOREIGN}:9000"), "error 10013"),
            (&format!("udp {FOREIGN}:0"), "error 10013"),
            (&format!("tcp {FREE}:9000"), "error 10049"),
        ],
    );
    for asked in ["tcp 0.0.0.0:0", "udp 0.0.0.0:0"] {
        let given = program.does(&format!("bind {asked}"));
        assert!(given.starts_with("0.0.0.0:"), "port 0 is left to the packet engine: {given}");
    }
}

/// V is 127.0.0.2 here, so that every test machine has it.
#[test]
fn localhost_is_the_sessions_own_where_it_is_to_be() {
    let mut world = World::new();
    let mut program = world.hooked();
    let mut on = content();
    on.sessions[0].loopback = "127.0.0.9".parse().ok();
    on.sessions[0].private_ipv6 = "::1".parse().ok();
    on.flags.loopback = true;
    on.all_on_loopback = true;
    let preferred = Content { all_preferred: true, ..on.clone() };
    let nobody = Content { all_on_loopback: false, ..on.clone() };
    let alone = Content { flags: Flags { enabled: false, ..on.flags }, ..on.clone() };
    for (what, content, rows) in [
        ("on", on, [("127.0.0.1", "127.0.0.9"), ("0.0.0.0", "127.0.0.2")]),
        ("preferred", preferred, [("127.0.0.1", "127.0.0.9"), ("0.0.0.0", "127.0.0.9")]),
        ("not listed", nobody, [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.2")]),
        ("alone", alone, [("127.0.0.1", "127.0.0.9"), ("0.0.0.0", "0.0.0.0")]),
    ] {
        world.publish(&content);
        for (asked, given) in rows {
            for protocol in ["tcp", "udp"] {
                let got = program.does(&format!("bind {protocol} {asked}:9003"));
                assert_eq!(got, format!("{given}:9003"), "{what}: {protocol} {asked}");
            }
        }
    }
}

#[test]
fn what_the_policy_leaves_alone() {
    let mut world = World::new();
    let mut program = world.hooked();
    let name = std::env::current_exe().unwrap();
    let name = name.file_name().unwrap().to_str().unwrap().to_ascii_uppercase();
    let own =
        |listed, excepted| vec![hook::section::Pattern { listed, excepted, ..pattern(&name, 5) }];
    let moved = "127.0.0.2:9001";
    let left = "0.0.0.0:9001";
    let base = content();
    let unlisted = Content { all_listed: false, ..base.clone() };
    let excluded = |program, protocol| vec![Exclusion { program, port: 9001, protocol }];
    for (what, content, given) in [
        ("all", base.clone(), moved),
        ("nobody", unlisted.clone(), left),
        ("by its name", Content { programs: own(true, false), ..unlisted.clone() }, moved),
        ("excepted", Content { programs: own(false, true), ..base.clone() }, left),
        ("nobody's port", Content { excluded: excluded(0, TCP), ..base.clone() }, left),
        ("the other protocol", Content { excluded: excluded(0, UDP), ..base.clone() }, moved),
        (
            "its own port",
            Content { programs: own(false, false), excluded: excluded(5, TCP), ..base.clone() },
            left,
        ),
        ("another's port", Content { excluded: excluded(5, TCP), ..base.clone() }, moved),
        ("no session", Content { sessions: vec![], ..base.clone() }, left),
        ("turned off", Content { flags: Default::default(), ..base.clone() }, left),
        ("on again", base, moved),
    ] {
        world.publish(&content);
        assert_eq!(program.does("bind tcp 0.0.0.0:9001"), given, "{what}");
    }
}

#[test]
fn moves_and_refusals_are_reported_one_way() {
    let world = World::new();
    let mut program = world.hooked();
    // Nobody reads: the program notices nothing.
    check(&mut program, &[("tcp 0.0.0.0:9002", "127.0.0.2:9002")]);
    let slot = Mailslot::create(mailslot::NAME).unwrap();
    check(
        &mut program,
        &[
            ("tcp 0.0.0.0:9002", "127.0.0.2:9002"),
            ("tcp 127.0.0.1:9002", "127.0.0.1:9002"),
            ("dual udp [::]:9003", "[::ffff:127.0.0.2]:9003"),
            ("tcp 127.0.0.3:9004", "error 10013"),
        ],
    );
    let pid = program.pid();
    let report = |done, protocol, port, asked: Ipv6Addr, given| Report {
        done,
        pid,
        protocol,
        port,
        asked,
        given: mapped(given),
    };
    let wait = Duration::from_secs(5);
    for wanted in [
        report(Done::Moved, TCP, 9002, mapped("0.0.0.0"), V),
        report(Done::Moved, UDP, 9003, Ipv6Addr::UNSPECIFIED, V),
        report(Done::Refused, TCP, 9004, mapped(FOREIGN), FOREIGN),
    ] {
        assert_eq!(slot.receive(wait).unwrap(), Some(wanted));
    }
    assert_eq!(slot.receive(Duration::ZERO).unwrap(), None);
}

#[test]
fn errors_are_the_systems_own() {
    let world = World::new();
    let mut plain = world.unhooked(&crate::world::this_file());
    let mut hooked = world.hooked();
    assert_eq!(hooked.does("nowhere"), plain.does("nowhere"), "a name that is none");
    let with = hooked.does("last-error tcp 0.0.0.0:9005");
    let without = plain.does("last-error tcp 0.0.0.0:9006");
    assert_eq!(with, without, "what bind leaves behind, when it works and when it does not");
}
