//! Do sessions have a localhost of their own, and does the daemon say so?

use crate::world::{ANA, BEN, World, at, until};
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn loopback(third: u8, fourth: u8) -> IpAddr {
    IpAddr::from([127, 0, third, fourth])
}

/// The loopback column of `sessions`.
fn listed(world: &World, session: u32) -> serde_json::Value {
    let sessions = world.json("sessions");
    let mut rows = sessions.as_array().unwrap().iter();
    rows.find(|row| row["id"] == json!(session)).unwrap()["loopback"].clone()
}

#[test]
fn two_sessions_meet_themselves_at_localhost() {
    let world = World::new(
        4,
        "[virtual-ip]\nenabled = false\n[loopback]\nenabled = true\nprograms = ['*']",
    );
    let mut outside = world.outside();
    assert_eq!(outside.listen("tcp", at(LOCALHOST, 9001)), at(LOCALHOST, 9001));
    let (mut ana, mut ben) = (world.actor(1, ANA), world.actor(2, BEN));
    assert_eq!(listed(&world, 1), json!("127.0.0.2"));
    assert_eq!(listed(&world, 2), json!("127.0.0.3"));
    let server = at(LOCALHOST, 9000);
    for protocol in ["tcp", "udp"] {
        assert_eq!(ana.listen(protocol, server), at(loopback(0, 2), 9000));
        assert_eq!(ben.listen(protocol, server), at(loopback(0, 3), 9000));
    }
    for (actor, name) in [(&mut ana, "session-1"), (&mut ben, "session-2")] {
        let met = actor.meet(server).unwrap();
        assert_eq!((met.who.as_str(), met.from.ip()), (name, LOCALHOST));
        let (met, answered) = actor.ask(server).unwrap();
        assert_eq!((met.who.as_str(), answered), (name, server));
        assert_eq!(actor.meet(at(LOCALHOST, 9001)).unwrap().who, "outside");
    }
    // O6, and what `sockets` says of it.
    assert!(ben.ask(at(loopback(0, 2), 9000)).is_err());
    assert!(world.count("foreign-loopback") > 0);
    let sockets = world.json("sockets");
    let row = sockets.as_array().unwrap().iter().find(|row| row["session"] == json!(2)).unwrap();
    let of_row = [&row["asked"], &row["bound"], &row["reason"]];
    assert_eq!(of_row, ["127.0.0.1:9000", "127.0.0.3:9000", "session-loopback"]);
}

#[test]
fn an_address_that_the_host_uses_is_not_given() {
    let world = World::new(4, "[loopback]\nenabled = true\nprograms = ['*']");
    let mut outside = world.outside();
    assert_eq!(outside.listen("udp", at(loopback(0, 3), 53)), at(loopback(0, 3), 53));
    let (mut ana, mut ben) = (world.actor(1, ANA), world.actor(2, BEN));
    assert_eq!(listed(&world, 2), json!(null));
    let server = at(LOCALHOST, 9000);
    assert_eq!(ben.listen("tcp", server), server, "the host's own");
    assert_eq!(ana.listen("tcp", server), at(loopback(0, 2), 9000));
    assert!(world.log().contains("loopback-taken"), "{}", world.log());
    let notices = world.json("status")["notices"].to_string();
    assert!(notices.contains("session 2: loopback-taken"), "{notices}");
}

#[test]
fn a_reload_turns_it_on_and_off() {
    let world = World::new(4, "");
    let mut ana = world.actor(1, ANA);
    assert_eq!(ana.listen("tcp", at(LOCALHOST, 9000)), at(LOCALHOST, 9000));
    world.configure(4, "[loopback]\nenabled = true\nprograms = ['*']\nmapping = 'microsoft'");
    let said = world.answer(&["reload"]);
    assert!(said.status.success());
    let said = crate::world::complaint(&said);
    assert!(said.contains("loopback.mapping changed"), "{said}");
    assert_eq!(ana.listen("tcp", at(LOCALHOST, 9001)), at(loopback(0, 2), 9001));
    for port in [9000, 9001] {
        assert_eq!(ana.meet(at(LOCALHOST, port)).unwrap().who, "session-1");
    }
    world.configure(4, "");
    until("the reload", || world.answer(&["reload"]).status.success());
    assert_eq!(ana.listen("tcp", at(LOCALHOST, 9002)), at(LOCALHOST, 9002));
}
