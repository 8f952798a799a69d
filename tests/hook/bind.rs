//! Which address does a bind get? The table of DESIGN.md, row by row.

use crate::lab::{self, In, Lab, OTHER_NIC, P, P6, PERSON, PRIVATE2, V1, V1_6, V2, bind, name};
use nix::sched::{CloneFlags, unshare};
use sessionip::companion::SessionEntry;
use sessionip::config::Exclusion;
use sessionip::packet::Protocol;
use sessionip::session::SessionId;

fn bound(lab: &Lab, place: In, protocol: &str, address: &str) -> String {
    lab.run(place, PERSON, || name(bind(protocol, address)))
}

/// (session, asked, given), for both protocols.
fn check(lab: &Lab, rows: &[(In, String, String)]) {
    for protocol in ["tcp", "udp"] {
        for (place, asked, given) in rows {
            let is = bound(lab, *place, protocol, asked);
            assert_eq!(&is, given, "{protocol} {asked} in {place:?}");
        }
    }
}

#[test]
fn wildcards_go_to_the_sessions_address() {
    let lab = Lab::new();
    let row = |place, asked: &str, given: &str| (place, asked.to_owned(), given.to_owned());
    check(
        &lab,
        &[
            row(In::Session(1), "0.0.0.0:9000", &format!("{V1}:9000")),
            row(In::Session(2), "0.0.0.0:9000", &format!("{V2}:9000")),
            row(In::Below(2), "0.0.0.0:9000", &format!("{V2}:9000")),
            row(In::Session(1), "[::]:9000", &format!("[::ffff:{V1}]:9000")),
            row(In::Session(1), "[::ffff:0.0.0.0]:9000", &format!("[::ffff:{V1}]:9000")),
            row(In::Session(1), "v6only [::]:9000", &format!("[{V1_6}]:9000")),
            row(In::Session(2), "v6only [::]:9000", &format!("[{PRIVATE2}]:9000")),
        ],
    );
}

#[test]
fn the_pool_nics_address_goes_to_the_sessions() {
    let lab = Lab::new();
    let row = |place, asked: String, given: String| (place, asked, given);
    check(
        &lab,
        &[
            row(In::Session(1), format!("{P}:9001"), format!("{V1}:9001")),
            row(In::Session(1), format!("[::ffff:{P}]:9001"), format!("[::ffff:{V1}]:9001")),
            row(In::Session(1), format!("[{P6}]:9001"), format!("[{V1_6}]:9001")),
            row(In::Session(2), format!("[{P6}]:9001"), format!("[{P6}]:9001")),
            row(In::Session(1), format!("{OTHER_NIC}:9001"), format!("{OTHER_NIC}:9001")),
        ],
    );
}

#[test]
fn what_is_not_meant_is_left_alone() {
    let mut lab = Lab::new();
    let same = |place, asked: &str| (place, asked.to_owned(), asked.to_owned());
    check(
        &lab,
        &[
            same(In::Outside, "0.0.0.0:9002"),
            same(In::Outside, "[::]:9002"),
            same(In::Session(1), "127.0.0.1:9002"),
            same(In::Session(1), "127.0.0.9:9002"),
            same(In::Session(1), "[::1]:9002"),
            same(In::Session(1), &format!("{V1}:9002")),
        ],
    );
    for protocol in ["tcp", "udp"] {
        let given = bound(&lab, In::Session(1), protocol, "0.0.0.0:0");
        assert!(given.starts_with("0.0.0.0:"), "port 0 is left alone, not {given}");
    }
    lab.policy(|policy| policy.enabled = false);
    check(&lab, &[same(In::Session(1), "0.0.0.0:9002")]);
}

#[test]
fn excluded_ports_are_left_alone() {
    let mut lab = Lab::new();
    lab.policy(|policy| {
        policy.exclude.push(Exclusion { program: None, protocol: Protocol::Udp, port: 5353 });
    });
    assert_eq!(bound(&lab, In::Session(1), "udp", "0.0.0.0:5353"), "0.0.0.0:5353");
    assert_eq!(bound(&lab, In::Session(1), "tcp", "0.0.0.0:5353"), format!("{V1}:5353"));
    assert_eq!(bound(&lab, In::Session(1), "udp", "0.0.0.0:5354"), format!("{V1}:5354"));
}

#[test]
fn another_network_namespace_is_left_alone() {
    let lab = Lab::new();
    let given = lab.run(In::Session(1), 0, || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        name(bind("tcp", "0.0.0.0:9003"))
    });
    assert_eq!(given, "0.0.0.0:9003");
}

#[test]
fn a_session_without_a_lease_is_left_alone() {
    let mut lab = Lab::new();
    let cgroup = lab.cgroup(In::Session(1));
    let entry = SessionEntry {
        id: SessionId(1),
        ipv4: None,
        ipv6: None,
        private_ipv6: None,
        loopback: None,
    };
    lab.hook().set_session(cgroup, &entry).unwrap();
    for asked in ["0.0.0.0:9004", "[::]:9004"] {
        assert_eq!(bound(&lab, In::Session(1), "tcp", asked), asked);
    }
    assert_eq!(lab.hook().sessions().unwrap().len(), 2);
}

#[test]
fn two_sessions_listen_on_the_same_port() {
    let lab = Lab::new();
    let listen = |session, address: &'static str| {
        lab.start(In::Session(session), PERSON, move |talk| {
            let sockets = [
                bind("tcp", "0.0.0.0:9005"),
                // asyncio and redis do not start if this one fails.
                bind("tcp", address),
            ];
            let names = sockets.each_ref().map(|fd| match fd {
                Ok(fd) => lab::local(fd),
                Err(errno) => errno.to_string(),
            });
            talk.say(&names.join(" "));
            talk.wait();
            String::new()
        })
    };
    let one = listen(1, "v6only [::]:9005");
    let two = listen(2, "v6only [::]:9005");
    assert_eq!(one.line(), format!("{V1}:9005 [{V1_6}]:9005"));
    assert_eq!(two.line(), format!("{V2}:9005 [{PRIVATE2}]:9005"));
    let third = bound(&lab, In::Session(1), "tcp", "0.0.0.0:9005");
    assert_eq!(third, "EADDRINUSE", "within a session everything is as ever");
}

#[test]
fn what_was_asked_is_told() {
    let mut lab = Lab::new();
    let program = lab.start(In::Session(1), PERSON, |talk| {
        let listener = bind("tcp", "[::]:9006").unwrap();
        talk.say(&lab::local(&listener));
        talk.wait();
        drop(listener);
        "closed".into()
    });
    program.line();
    let moved = lab.hook().moved().unwrap();
    let [moved] = moved[..] else { panic!("one socket was moved, not {moved:?}") };
    assert_eq!(moved.asked.to_string(), "[::]:9006");
    assert_eq!(moved.bound.to_string(), format!("{V1}:9006"));
    assert_eq!((moved.session, moved.protocol), (SessionId(1), Protocol::Tcp));
    program.go_on();
    assert_eq!(program.line(), "closed");
    assert_eq!(lab.hook().moved().unwrap(), []);
    assert_eq!(lab.hook().counters().unwrap().moved_binds, 1);
}
