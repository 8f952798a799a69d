//! Do driver, peer and Wine make a Windows machine that packets can be diverted
//! on?
//!
//! Each test has two network namespaces with a wire between them: in one Wine,
//! the stand-in driver and the peer, in the other a server as the world has
//! them. Needs root, the rig's folder (`SESSIONIP_RIG`) and mingw; what is
//! missing fails the test and is named.
#![cfg(target_os = "linux")]
#![expect(clippy::expect_used, reason = "a test ends where it fails")]

mod server;
mod windows;
mod world;

use std::io::Write;
use windows::Windows;
use world::World;

/// Scenarios of `tests/windows/driver/test/rig.c`, in one process.
fn passes(scenarios: &[&str]) -> String {
    let world = World::new();
    let windows = Windows::new(&world);
    let said = windows.run("rig.exe", scenarios);
    for scenario in scenarios {
        assert!(said.contains(&format!("passed {scenario}")), "{scenario}: {said}");
    }
    said
}

#[test]
fn filters_mean_what_windivert_means() {
    passes(&["filters"]);
}

#[test]
fn handles_see_packets_as_their_priority_and_flags_say() {
    passes(&["order", "loopback", "checksums", "fabricated", "errors"]);
}

#[test]
fn queues_hold_and_lose_what_the_real_ones_do() {
    passes(&["queue", "ends"]);
}

#[test]
fn events_tell_whose_sockets_there_are() {
    passes(&["events"]);
}

#[test]
fn what_shall_go_wrong_goes_wrong() {
    passes(&["misbehaviour"]);
}

#[test]
fn thousands_of_packets_a_second_get_through() {
    passes(&["rate"]);
}

#[test]
fn programs_appear_under_the_address_that_they_are_given() {
    let world = World::new();
    let windows = Windows::new(&world);
    let talk =
        |protocol: &str| windows.run("talk.exe", &["talk", protocol, "10.77.0.2", "7777", "who"]);
    assert!(talk("udp").contains("answer 10.77.0.1:"), "nobody rewrites yet");
    let mut rewriting = windows.start("rig.exe", &["rewrite"]);
    rewriting.wait_for("rewriting");
    for protocol in ["udp", "tcp", "udp", "tcp"] {
        let said = talk(protocol);
        assert!(
            said.contains("answer 10.77.0.101:") && said.contains(" who"),
            "{protocol}: {said}"
        );
    }
    let all = rewriting.end();
    assert!(all.contains("passed rewrite"), "{all}");
    assert!(talk("tcp").contains("answer 10.77.0.1:"), "nobody rewrites any more");
}

#[test]
fn without_the_driver_everything_passes() {
    let world = World::new();
    let windows = Windows::new(&world);
    assert!(world.rules().contains("--queue-num 7790"), "the peer laid no rules");
    let said = windows.run("talk.exe", &["talk", "tcp", "10.77.0.2", "7777", "x"]);
    assert!(said.contains("answer 10.77.0.1:"), "{said}");
    drop(windows);
    let rules = world.rules();
    assert!(!rules.contains("SESSIONIP-RIG"), "the peer left rules: {rules}");
}

#[test]
fn a_killed_program_leaves_the_network_as_it_was() {
    let world = World::new();
    let windows = Windows::new(&world);
    let mut rewriting = windows.start("rig.exe", &["rewrite"]);
    rewriting.wait_for("rewriting");
    rewriting.kill();
    let said = windows.run("talk.exe", &["talk", "tcp", "10.77.0.2", "7777", "x"]);
    assert!(said.contains("answer 10.77.0.1:"), "{said}");
    let mut again = windows.start("rig.exe", &["rewrite"]);
    again.wait_for("rewriting");
    let said = windows.run("talk.exe", &["talk", "tcp", "10.77.0.2", "7777", "x"]);
    assert!(said.contains("answer 10.77.0.101:"), "{said}");
    let mut input = again.input();
    let _ = input.write_all(b"\n");
    drop(input);
    assert!(again.end().contains("passed rewrite"));
}
