//! What breaks, and what becomes of it: as DESIGN.md says, "When things break".

use crate::world::{ANA, BEN, FAR, HOST, WHO, World};
use std::time::{Duration, Instant};

/// Events that come late are waited for, those that never come are looked up in
/// the system's own list.
#[test]
fn events_may_be_late_or_lost() {
    let world = World::new("late", "");
    world.start_service();
    world.misbehave("events late 300");
    assert_eq!(world.ask(Some(ANA), "tcp", (FAR, WHO)), format!("answer {}", ANA.address));
    assert!(held(&world) > 0, "a packet was held for its owner");
    world.misbehave("events lost all");
    for protocol in ["tcp", "udp"] {
        let answer = world.ask(Some(BEN), protocol, (FAR, WHO));
        assert_eq!(answer, format!("answer {}", BEN.address), "{protocol}");
    }
    world.misbehave("");
    assert_eq!(world.ask(Some(ANA), "udp", (FAR, WHO)), format!("answer {}", ANA.address));
}

fn held(world: &World) -> u64 {
    world.json("status")["reasons"]["held"].as_u64().unwrap_or_default()
}

/// Packets that find the driver's queue full are lost, and TCP sends them again;
/// damaged ones hurt nobody.
#[test]
fn queues_may_be_full_and_packets_damaged() {
    let world = World::new("queue", "");
    world.start_service();
    world.misbehave("queue full");
    let lost = world.ask(Some(ANA), "udp", (FAR, WHO));
    assert!(lost.contains("10060"), "nothing leaves by another address: {lost}");
    world.misbehave("");
    assert_eq!(world.ask(Some(ANA), "udp", (FAR, WHO)), format!("answer {}", ANA.address));
    for damage in ["malformed truncate 3", "malformed scramble 2"] {
        world.misbehave(damage);
        for _ in 0..4 {
            world.ask(Some(ANA), "udp", (FAR, WHO));
            world.ask(Some(BEN), "tcp", (FAR, WHO));
        }
        world.misbehave("");
        assert_eq!(world.ask(Some(BEN), "tcp", (FAR, WHO)), format!("answer {}", BEN.address));
    }
}

/// The driver goes: the service fails with a reason, everything passes as on a
/// host without sessionip, and it comes back when it is started again.
#[test]
fn the_driver_may_go() {
    let world = World::new("gone", "");
    let before = world.addresses();
    world.start_service();
    world.misbehave("vanish");
    let ended = || !world.sessionip(&["status"]).status.success();
    world.comes_to("the end of a service without its driver", ended);
    assert!(world.log().contains("driver"), "it says why: {}", world.log());
    assert_eq!(world.ask(None, "tcp", (FAR, WHO)), format!("answer {HOST}"));
    let done = world.sessionip(&["service", "start"]);
    assert!(!done.status.success(), "there is no driver: {done:?}");
    world.misbehave("");
    world.says(&["service", "start"]);
    assert_eq!(world.ask(Some(ANA), "tcp", (FAR, WHO)), format!("answer {}", ANA.address));
    world.says(&["service", "stop"]);
    assert_eq!(world.addresses(), before);
}

/// Killed, it leaves its addresses and what is bound there; new connections leave
/// from the host address until it is back with the same leases.
#[test]
fn it_may_be_killed() {
    let world = World::new("kill", "");
    world.start_service();
    let _server = world.exec(ANA, &["listener.exe", "9000"], "serving");
    let sessions = world.json("sessions");
    world.kill_daemon();
    world.comes_to("the end of the daemon", || !world.sessionip(&["status"]).status.success());
    assert_eq!(world.ask(Some(BEN), "tcp", (FAR, WHO)), format!("answer {HOST}"));
    assert!(world.ask_from_afar(ANA.address, 9000, "still").contains("still"), "bound stays bound");
    world.says(&["service", "start"]);
    assert_eq!(world.json("sessions"), sessions, "the same leases");
    assert!(world.ask_from_afar(ANA.address, 9000, "again").contains("again"));
    assert_eq!(world.ask(Some(BEN), "tcp", (FAR, WHO)), format!("answer {}", BEN.address));
    let answer = world.ask(Some(ANA), "tcp", ("127.0.0.1", "9000"));
    assert!(answer.contains(ANA.address), "localhost is intact again: {answer}");
}

/// Stopped while there is traffic, it ends in time, nothing of it is left, and what
/// begins then leaves from the host address.
#[test]
fn it_may_be_stopped_with_traffic() {
    let world = World::new("stop", "");
    let before = world.addresses();
    world.start_service();
    let _server = world.exec(ANA, &["listener.exe", "9000"], "serving");
    let (answered, ended) = std::thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let (begin, mut answered) = (Instant::now(), 0);
            while begin.elapsed() < Duration::from_secs(60) {
                let answer = world.ask_from_afar(ANA.address, 9000, "hello");
                if !answer.contains("hello") {
                    return (answered, true);
                }
                answered += 1;
            }
            (answered, false)
        });
        world.ask(Some(BEN), "tcp", (FAR, WHO));
        world.says(&["service", "stop"]);
        traffic.join().expect("the far side")
    });
    assert!(answered > 0, "there was traffic");
    assert!(ended, "it ended with the address");
    assert_eq!(world.addresses(), before);
    assert_eq!(world.ask(Some(BEN), "tcp", (FAR, WHO)), format!("answer {HOST}"));
}
