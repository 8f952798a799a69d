//! What does the selftest say of this Windows, of one whose driver misbehaves, and
//! of one where sessionip runs already?

use crate::world::{FAR, World};
use serde_json::Value;
use std::collections::BTreeMap;

/// What it says, by check, and whether it exits as it says.
fn tested(world: &World, words: &[&str]) -> BTreeMap<String, (String, String)> {
    let all: Vec<&str> = ["selftest", "--json"].iter().chain(words).copied().collect();
    let done = world.sessionip(&all);
    let report: Value = serde_json::from_slice(&done.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&done.stderr));
    });
    assert_eq!(report["ok"], done.status.success(), "{report}");
    let checks = report["checks"].as_array().unwrap().iter().map(|check| {
        let word = |name: &str| check[name].as_str().unwrap().to_owned();
        (word("name"), (word("result"), format!("{} {}", word("sentence"), word("help"))))
    });
    checks.collect()
}

#[test]
fn a_server_is_shown_to_do_what_sessionip_builds_on() {
    let world = World::new("self", "");
    let before = world.addresses();
    let _peer = world.far_peer();
    let checks = tested(&world, &["--peer", FAR]);
    for name in [
        "platform",
        "bind-conflicts",
        "driver",
        "loopback",
        "event-order",
        "source-rewrite",
        "inbound",
        "own-address",
        "large-packets",
        "stop",
    ] {
        assert_eq!(checks[name].0, "ok", "{name}: {}", checks[name].1);
    }
    // How fast the stand-in is says nothing of Windows.
    assert!(checks["rate"].1.contains("packets a second"), "{}", checks["rate"].1);
    assert_eq!(checks.len(), 11);
    assert!(checks["source-rewrite"].1.contains("10.77.0.101"), "the pool's next address");
    assert_eq!(world.addresses(), before, "nothing is left");

    // What it lacks is said, and is no failure.
    let checks = tested(&world, &["--address", "10.77.0.150"]);
    for name in ["source-rewrite", "inbound", "large-packets"] {
        let (result, words) = &checks[name];
        assert!(result == "not-run" && words.contains("--peer HOST"), "{name}: {words}");
    }
    assert_eq!(checks["own-address"].0, "ok", "{}", checks["own-address"].1);
    assert_eq!(world.addresses(), before, "nothing is left");
}

#[test]
fn a_driver_that_does_not_do_is_found_out() {
    let world = World::new("lose", "divert.hold = '50ms'");
    for (fault, words) in
        [("events lost all", "there was no event"), ("events late 300", "longer than they may")]
    {
        world.misbehave(fault);
        let checks = tested(&world, &[]);
        let (result, said) = &checks["event-order"];
        assert!(result == "failed" && said.contains(words), "{fault}: {said}");
        assert_eq!(checks["loopback"].0, "ok", "{fault}: {}", checks["loopback"].1);
    }
    world.misbehave("refuse-open 577");
    let checks = tested(&world, &[]);
    let (result, said) = &checks["driver"];
    assert!(result == "failed" && said.contains("refuses the signature"), "{said}");
    assert_eq!(checks["loopback"].0, "not-run");
    assert_eq!(checks.len(), 11);
}

#[test]
fn a_daemon_that_runs_is_left_alone() {
    let world = World::new("busy", "");
    world.start_service();
    let done = world.sessionip(&["selftest"]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success() && said.contains("already running as process"), "{said}");
    assert_eq!(world.json("status")["leases"]["used"], 2);
}
