//! What does a reload change, and what goes on as it began?

use crate::actor::Actor;
use crate::world::{ANA, World, at_far, complaint};
use sessionip::lab::network::HOST;

fn reload(world: &World) -> String {
    let output = world.answer(&["reload"]);
    assert!(output.status.success(), "{}", complaint(&output));
    complaint(&output)
}

/// The flow of a connection, as the far side sees it, is listed with this reason.
fn reason_of(world: &World, inside: u16) -> String {
    let flows = world.json("flows");
    let port = format!(":{inside}");
    let flow = flows
        .as_array()
        .unwrap()
        .iter()
        .find(|flow| flow["inside"][0].as_str().unwrap().ends_with(&port))
        .unwrap_or_else(|| panic!("no flow from {inside}: {flows}"));
    flow["reason"].as_str().unwrap().to_owned()
}

#[test]
fn new_flows_follow_the_list_and_others_go_on() {
    let world = World::new(4, "");
    let _far = world.far();
    let mut ana: Actor = world.actor(1, ANA);
    let v1 = world.address(1);
    let translated = ana.connect(at_far()).unwrap();
    assert_eq!(translated.met.from.ip(), v1);

    world.configure(4, "[virtual-ip]\nprograms = ['something-else']");
    assert_eq!(reload(&world), "");
    let unchanged = ana.connect(at_far()).unwrap();
    assert_eq!(unchanged.met.from.ip(), HOST);
    assert_eq!(reason_of(&world, unchanged.met.from.port()), "not-listed");
    assert_eq!(ana.listen("tcp", "0.0.0.0:9000").ip().to_string(), "0.0.0.0");
    assert_eq!(ana.say(&translated, "still").as_deref(), Ok("still"));
    assert_eq!(reason_of(&world, translated.met.from.port()), "session-source");

    world.configure(4, "[virtual-ip]\nprograms = ['*']");
    assert_eq!(reload(&world), "");
    assert_eq!(ana.seen_by(at_far()), Ok(v1));
    assert_eq!(ana.listen("tcp", "0.0.0.0:9001").ip(), v1);
    assert_eq!(ana.say(&unchanged, "unchanged").as_deref(), Ok("unchanged"));
    assert_eq!(ana.say(&translated, "translated").as_deref(), Ok("translated"));

    world.configure(4, "[virtual-ip]\nenabled = false");
    reload(&world);
    assert_eq!(ana.seen_by(at_far()), Ok(HOST.into()));
    assert_eq!(ana.say(&translated, "on").as_deref(), Ok("on"));
}

#[test]
fn a_translated_flow_goes_on_over_a_reload_and_a_crash() {
    let mut world = World::new(4, "");
    let _far = world.far();
    let mut ana = world.actor(1, ANA);
    let translated = ana.connect(at_far()).unwrap();
    world.configure(4, "[virtual-ip]\nprograms = ['something-else']");
    world.end(nix::sys::signal::Signal::SIGKILL);
    world.start();
    assert_eq!(ana.seen_by(at_far()), Ok(HOST.into()));
    assert_eq!(ana.say(&translated, "still").as_deref(), Ok("still"));
}

#[test]
fn a_broken_file_changes_nothing() {
    let world = World::new(4, "");
    let _far = world.far();
    let mut ana = world.actor(1, ANA);
    let v1 = world.address(1);
    let (tables, sessions) = (world.tables(), world.json("sessions"));
    for (rest, finding) in [
        ("stiky = true", "stiky"),
        ("[virtual-ip]\nprograms = 'all'", "programs"),
        ("[divert]\non-failure = 'closed'", "not in this version"),
        ("adapter = 'eth99'", "eth99"),
    ] {
        world.configure(4, rest);
        let output = world.answer(&["reload"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(complaint(&output).contains(finding), "{}", complaint(&output));
        assert_eq!(world.tables(), tables);
        assert_eq!(world.json("sessions"), sessions);
        assert_eq!(ana.seen_by(at_far()), Ok(v1));
    }
    std::fs::remove_file(&world.config).unwrap();
    world.signal(nix::sys::signal::Signal::SIGHUP);
    crate::world::until("the refusal", || world.log().contains("not reloaded"));
    assert_eq!(ana.seen_by(at_far()), Ok(v1));
}

#[test]
fn what_needs_a_restart_is_said() {
    let world = World::new(4, "");
    let text = std::fs::read_to_string(&world.config).unwrap();
    let elsewhere = text.replace("/control/", "/elsewhere/").replace("/state-", "/other-");
    let changed = elsewhere.replace("metrics.listen = ''", "metrics.listen = '127.0.0.1:9477'");
    std::fs::write(&world.config, changed).unwrap();
    // Where it would be after the restart, nobody answers yet.
    let asked = world.answer(&["reload"]);
    assert!(complaint(&asked).contains("/elsewhere/"), "{}", complaint(&asked));
    world.signal(nix::sys::signal::Signal::SIGHUP);
    crate::world::until("the reload", || world.log().contains("configuration reloaded"));
    let log = world.log();
    for key in ["control", "state-dir", "metrics.listen"] {
        let sentence = format!("{key} changed: it takes effect when the daemon is restarted");
        assert!(log.contains(&sentence), "{log}");
    }
}

#[test]
fn another_pool_is_for_new_sessions() {
    let world = World::new(1, "");
    let _far = world.far();
    let mut ana = world.actor(1, ANA);
    let v1 = world.address(1);
    let mut ben = world.actor(2, crate::world::BEN);
    assert_eq!(ben.seen_by(at_far()), Ok(HOST.into()));
    world.configure(3, "");
    assert_eq!(reload(&world), "");
    assert_eq!(ana.seen_by(at_far()), Ok(v1));
    let mut third = world.actor(3, crate::world::BEN);
    let v3 = world.address(3);
    assert_eq!(third.seen_by(at_far()), Ok(v3));
    assert_ne!(v3, v1);
}
