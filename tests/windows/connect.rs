//! With `scope = "connect"`: what a program's sockets say agrees with the wire, and
//! no connection is rewritten.

use crate::world::{ANA, BEN, FAR, HOST, Met, Session, WHO, World};
use serde_json::Value;

/// What a program meets that has had the hook since before it ran.
fn met(world: &World, session: Session, program: &str, protocol: &str) -> Met {
    let words = [program, "meet", protocol, FAR, WHO, "hello"];
    Met::of(world.exec(session, &words, "\n").said().trim())
}

/// As an FTP client in active mode, or a SIP caller, who tells the other side what
/// `getsockname` says.
#[test]
fn a_program_knows_what_the_far_side_sees() {
    let world = World::new("know", "hook.scope = 'connect'");
    world.start_service();
    for (session, program) in [(ANA, "talk.exe"), (BEN, "talk.exe"), (BEN, "talk32.exe")] {
        let own = format!("{}:", session.address);
        for protocol in ["tcp", "known-udp", "udp"] {
            let met = met(&world, session, program, protocol);
            assert_eq!(met.answer, session.address, "{program} by {protocol}: {met:?}");
            assert_eq!(met.far, format!("{FAR}:{WHO}"), "{program} by {protocol}");
            // One that is not connected is on the wildcard, and says so.
            let knows = met.own.starts_with(&own);
            assert_eq!(knows, protocol != "udp", "{program} by {protocol}: {met:?}");
        }
    }
    nothing_was_rewritten(&world);
    // Neither program nor host is another's.
    let answer = world.ask(None, "tcp", (FAR, WHO));
    assert_eq!(answer, format!("answer {HOST}"), "of no session");
}

fn nothing_was_rewritten(world: &World) {
    let flows = world.json("flows");
    let of_tcp = |address: &str| {
        let own = format!("{address}:");
        let is_it = move |flow: &&Value| {
            flow["protocol"] == "tcp" && flow["inside"][0].as_str().unwrap().starts_with(&own)
        };
        flows.as_array().unwrap().iter().filter(is_it).collect::<Vec<_>>()
    };
    for session in [ANA, BEN] {
        let flow = of_tcp(session.address).pop().unwrap_or_else(|| panic!("none: {flows}"));
        assert_eq!(flow["inside"], flow["outside"], "{flow}");
        assert_eq!(flow["reason"], "bound", "{flow}");
    }
    assert_eq!(of_tcp(HOST), [] as [&Value; 0], "the hook chose no source: {flows}");
}
