//! Two sessions, one port: each program its own address, and nobody the other's.

use crate::world::{ANA, BEN, FAR, HOST, WHO, World};
use serde_json::{Value, json};

#[test]
fn each_session_has_an_address_of_its_own() {
    let world = World::new("own", "");
    world.start_service();
    let sessions = world.json("sessions");
    let row = |id: u32, user: &str, address: &str, loopback: &str| {
        let row = sessions.as_array().unwrap().iter().find(|row| row["id"] == id).cloned();
        let mut row = row.unwrap_or_else(|| panic!("no session {id} in {sessions}"));
        row.as_object_mut().unwrap().remove("since");
        let expected = json!({
            "id": id, "user": user, "virtual_ip": address, "virtual_ipv6": null,
            "loopback": loopback, "state": "leased",
        });
        assert_eq!(row, expected);
    };
    row(2, r"CORP\ana", ANA.address, "127.0.0.3");
    row(3, r"CORP\ben", BEN.address, "127.0.0.4");
    assert_eq!(sessions.as_array().unwrap().len(), 2, "the console and services have none");

    // Unmodified programs that bind 0.0.0.0:9000, one in C and one in Rust.
    let c = world.exec(ANA, &["talk.exe", "serve", "tcp", "0.0.0.0", "9000", "99"], "serving");
    let rust = world.exec(BEN, &["listener.exe", "9000"], "serving");
    assert_each_its_own(&world);
    let sockets = world.json("sockets");
    for (session, program) in [(ANA, "talk.exe"), (BEN, "listener.exe")] {
        let bound = format!("{}:9000", session.address);
        let is_it = |row: &&Value| row["bound"] == bound.as_str();
        let row = sockets.as_array().unwrap().iter().find(is_it);
        let row = row.unwrap_or_else(|| panic!("nobody at {bound}: {sockets}"));
        assert_eq!(row["asked"], "0.0.0.0:9000", "{row}");
        assert_eq!(row["reason"], "wildcard", "{row}");
        assert!(row["program"].as_str().unwrap().ends_with(program), "{row}");
    }
    assert!(c.said().contains("serving") && rust.said().contains("serving"));

    leaving_shows_the_sessions_address(&world);
    localhost_is_intact(&world);
    let status = world.json("status");
    assert_eq!(status["datapath"], "packet");
    assert_eq!(status["sessions"], 2);
    assert!(status["packets"]["rewritten"].as_u64().unwrap() > 0, "{status}");
}

/// A marker sent to a session's address comes out of its program, and of no other.
fn assert_each_its_own(world: &World) {
    for (session, other) in [(ANA, BEN), (BEN, ANA)] {
        let marker = format!("marker-{}", session.id);
        let answer = world.ask_from_afar(session.address, 9000, &marker);
        assert!(answer.contains(&marker), "{} answered {answer:?}", session.address);
        assert!(answer.contains(FAR), "it saw who asks: {answer:?}");
        assert!(!answer.contains(&format!("marker-{}", other.id)), "{answer:?}");
    }
    let answer = world.ask_from_afar(HOST, 9000, "nobody");
    assert_eq!(answer, "ConnectionRefused", "nobody listens on the host address");
}

fn leaving_shows_the_sessions_address(world: &World) {
    for session in [ANA, BEN] {
        for protocol in ["tcp", "udp"] {
            let answer = world.ask(Some(session), protocol, (FAR, WHO));
            let expected = format!("answer {}", session.address);
            assert_eq!(answer, expected, "{protocol} of session {}", session.id);
        }
    }
    for protocol in ["tcp", "udp"] {
        let answer = world.ask(None, protocol, (FAR, WHO));
        assert_eq!(answer, format!("answer {HOST}"), "{protocol} of no session");
    }
    let flows = world.json("flows");
    for session in [ANA, BEN] {
        let outside = format!("{}:", session.address);
        let translated = flows.as_array().unwrap().iter().find(|flow| {
            flow["reason"] == "session-source"
                && flow["protocol"] == "tcp"
                && flow["outside"][0].as_str().unwrap().starts_with(&outside)
        });
        let flow = translated.unwrap_or_else(|| panic!("no flow from {outside} in {flows}"));
        assert!(flow["inside"][0].as_str().unwrap().starts_with(&format!("{HOST}:")), "{flow}");
        assert_eq!(flow["session"].to_string(), session.id, "{flow}");
        assert!(flow["program"].as_str().unwrap().ends_with("talk.exe"), "{flow}");
    }
}

/// O4: a program finds its own session's listener at 127.0.0.1 and at the host
/// address (O2); a program of no session finds nobody there.
fn localhost_is_intact(world: &World) {
    for session in [ANA, BEN] {
        for place in ["127.0.0.1", HOST] {
            let answer = world.ask(Some(session), "tcp", (place, "9000"));
            let expected = format!("answer {}:", session.address);
            assert!(answer.starts_with(&expected), "session {} at {place}: {answer}", session.id);
        }
    }
    let answer = world.ask(None, "tcp", ("127.0.0.1", "9000"));
    assert!(answer.contains("10061"), "nobody listens there for the host: {answer}");
}

#[test]
fn what_is_excepted_stays_on_the_host_address() {
    let world = World::new("exc", "virtual-ip.except = ['listener.exe']");
    world.start_service();
    let _left = world.exec(ANA, &["listener.exe", "9000"], "serving");
    let answer = world.ask_from_afar(HOST, 9000, "hello");
    assert!(answer.contains("hello"), "{answer}");
    let moved = world.exec(BEN, &["talk.exe", "serve", "tcp", "0.0.0.0", "9001", "9"], "serving");
    let answer = world.ask_from_afar(BEN.address, 9001, "hello");
    assert!(answer.contains("hello"), "{answer} {}", moved.said());
    // I5: nobody's but the session's own program answers at its address.
    let answer = world.ask_from_afar(BEN.address, 9000, "hello");
    assert_eq!(answer, "TimedOut", "another session's wildcard listener");
    let reasons = &world.json("status")["reasons"];
    assert!(reasons["foreign-listener"].as_u64().unwrap_or_default() > 0, "{reasons}");
}

/// O5, by the driver alone: the hook leaves an excepted program be, and the engine
/// is told to pass what other sessions' listeners are sent.
#[test]
fn a_bind_to_another_sessions_address_is_cut() {
    let world = World::new("cut", "virtual-ip.except = ['talk.exe']\nisolation.listeners = false");
    world.start_service();
    let words = ["talk.exe", "serve", "tcp", ANA.address, "9100", "99"];
    let foreign = world.exec(BEN, &words, "serving");
    world.comes_to("the cut of a foreign bind", || {
        world.ask_from_afar(ANA.address, 9100, "hello") == "TimedOut"
    });
    let own = world.exec(ANA, &["listener.exe", "9000"], "serving");
    let answer = world.ask_from_afar(ANA.address, 9000, "hello");
    assert!(answer.contains("hello"), "its own is not cut: {answer}");
    drop((foreign, own));
}

#[test]
fn the_command_ends_as_its_program_does() {
    let world = World::new("exit", "");
    world.start_service();
    let talk = world.exec(ANA, &["talk.exe", "talk", "tcp", FAR, "1", "x"], "error 10061");
    assert_eq!(talk.end(), Some(1));
    let done = world.sessionip(&["exec", "--session", "2", "--user", "ben", "--", "talk.exe"]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success() && said.contains(r"CORP\ana"), "{said}");
    let done = world.sessionip(&["exec", "--session", "9", "--", "talk.exe"]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success() && said.contains("session 9"), "{said}");
}
