//! With `scope = "connect"`: what a program's sockets say agrees with the wire, and
//! no connection is rewritten.

use crate::world::{ANA, BEN, FAR, HOST, WHO, World};

#[test]
fn a_connection_leaves_from_the_sessions_address_unrewritten() {
    let world = World::new("connect", "hook.scope = 'connect'");
    world.start_service();
    for session in [ANA, BEN] {
        for protocol in ["tcp", "udp"] {
            let words = ["talk.exe", "talk", protocol, FAR, WHO, "hello"];
            let program = world.exec(session, &words, "answer");
            let expected = format!("answer {}", session.address);
            assert!(program.said().contains(&expected), "{protocol}: {}", program.said());
        }
    }
    let flows = world.json("flows");
    for session in [ANA, BEN] {
        let own = format!("{}:", session.address);
        let inside = |flow: &&serde_json::Value| {
            flow["protocol"] == "tcp" && flow["inside"][0].as_str().unwrap().starts_with(&own)
        };
        let flow = flows.as_array().unwrap().iter().find(inside);
        let flow = flow.unwrap_or_else(|| panic!("none from {own}, to the program: {flows}"));
        assert_eq!(flow["inside"], flow["outside"], "{flow}");
        assert_eq!(flow["reason"], "bound", "{flow}");
    }
    // Wine ignores what is said beside a datagram, and there the engine rewrites it.
    let host = format!("{HOST}:");
    let from_host = |flow: &&serde_json::Value| {
        flow["protocol"] == "tcp" && flow["inside"][0].as_str().unwrap().starts_with(&host)
    };
    let flow = flows.as_array().unwrap().iter().find(from_host);
    assert!(flow.is_none(), "the hook chose no source: {flows}");
}
