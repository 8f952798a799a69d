//! Rows of the packet table that only real sockets show.

use crate::world::{ANA, BEN, World, at, at_far};
use sessionip::lab::network::{FAR, HOST};
use std::net::IpAddr;

const ANY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

/// I4 and I7: what is outside any session, and was there before the daemon.
#[test]
fn a_host_service_answers_at_virtual_addresses() {
    let mut world = World::without_daemon(4, "");
    let mut far = world.far();
    let mut outside = world.outside();
    for protocol in ["tcp", "udp"] {
        assert_eq!(outside.listen(protocol, at(HOST.into(), 9001)), at(HOST.into(), 9001));
        assert_eq!(outside.listen(protocol, at(ANY, 9002)), at(ANY, 9002));
    }
    world.start();
    let _shell = world.actor(1, ANA);
    let v1 = world.address(1);

    // A host service at the wildcard answers at V, by UDP from V.
    let met = far.meet(at(v1, 9002)).unwrap();
    assert_eq!((met.who.as_str(), met.asked), ("outside", at(v1, 9002)));
    let (met, answered) = far.ask(at(v1, 9002)).unwrap();
    assert_eq!((met.who.as_str(), answered), ("outside", at(v1, 9002)));
    let (_, answered) = far.ask(at(HOST.into(), 9002)).unwrap();
    assert_eq!(answered, at(HOST.into(), 9002));
    // One at P is not any session's: nobody listens at V.
    assert_eq!(far.meet(at(v1, 9001)).unwrap_err(), "ECONNREFUSED");
    assert_eq!(far.meet(at(HOST.into(), 9001)).unwrap().who, "outside");
}

/// I3 and I6: servers that the session started while there was no daemon, so that
/// nothing moved them.
#[test]
fn a_sessions_older_listeners_are_reached() {
    let mut world = World::new(4, "");
    let mut far = world.far();
    let mut ana = world.actor(1, ANA);
    let v1 = world.address(1);
    world.end(nix::sys::signal::Signal::SIGTERM);
    let (host, any) = (at(HOST.into(), 9001), at(ANY, 9002));
    for protocol in ["tcp", "udp"] {
        assert_eq!(ana.listen(protocol, host), host);
        assert_eq!(ana.listen(protocol, any), any);
    }
    world.start();
    assert_eq!(world.address(1), v1);
    assert_eq!(far.meet(at(v1, 9001)).unwrap().who, "session-1");
    assert_eq!(far.ask(at(v1, 9001)).unwrap().1, at(v1, 9001));
    assert_eq!(far.meet(host).unwrap().asked, host);
    assert_eq!(far.ask(host).unwrap().1, host);
    assert_eq!(far.meet(at(v1, 9002)).unwrap().asked, at(v1, 9002));
    assert_eq!(far.ask(at(v1, 9002)).unwrap().1, at(v1, 9002));
    assert_eq!(far.ask(at(HOST.into(), 9002)).unwrap().1, at(HOST.into(), 9002));
}

/// I3 and I5: a program that the hook leaves alone.
#[test]
fn a_listener_at_the_host_address_is_reached_at_the_virtual_one() {
    let world = World::new(4, "[virtual-ip]\nexcept = ['python3.11', 'python3']");
    let mut far = world.far();
    let mut ana = world.actor(1, ANA);
    let mut ben = world.actor(2, BEN);
    let (v1, v2) = (world.address(1), world.address(2));
    let host = at(HOST.into(), 9001);
    assert_eq!(ana.listen("tcp", host), host);
    assert_eq!(ana.listen("udp", host), host);
    let talk = far.connect(at(v1, 9001)).unwrap();
    assert_eq!((talk.met.who.as_str(), talk.met.asked), ("session-1", host));
    assert_eq!(far.say(&talk, "through").as_deref(), Ok("through"));
    let (met, answered) = far.ask(at(v1, 9001)).unwrap();
    assert_eq!((met.who.as_str(), answered), ("session-1", at(v1, 9001)));
    assert!(world.count("listen-address") > 0);
    // At P it answers as P, by the same port.
    assert_eq!(far.meet(host).unwrap().asked, host);
    let (_, answered) = far.ask(host).unwrap();
    assert_eq!(answered, host);
    // The other session's address is not its.
    assert_eq!(far.meet(at(v2, 9001)).unwrap_err(), "ECONNREFUSED");

    // I5: a wildcard listener of one session is not reached at another's address.
    assert_eq!(ben.listen("tcp", at(ANY, 9005)), at(ANY, 9005));
    assert_eq!(ben.listen("udp", at(ANY, 9005)), at(ANY, 9005));
    assert_eq!(far.meet(at(v2, 9005)).unwrap().who, "session-2");
    let before = world.count("foreign-listener");
    assert!(far.meet(at(v1, 9005)).is_err());
    assert!(far.ask(at(v1, 9005)).is_err());
    // Nor from inside the host, where packets are not diverted.
    assert!(ana.meet(at(v1, 9005)).is_err());
    assert!(world.count("foreign-listener") > before);
}

/// O5: nobody sends in another session's name.
#[test]
fn another_sessions_address_is_refused() {
    let world = World::new(4, "");
    let _far = world.far();
    let (mut ana, _ben) = (world.actor(1, ANA), world.actor(2, BEN));
    let (v1, v2) = (world.address(1), world.address(2));
    let not_leased = IpAddr::from([10, 77, 0, 104]);
    assert_eq!(ana.tell(&format!("connect {} {}", at_far(), at(v2, 0))).unwrap_err(), "EACCES");
    assert_eq!(ana.tell(&format!("ask {} {}", at_far(), at(v2, 0))).unwrap_err(), "EACCES");
    assert!(ana.tell(&format!("hold tcp {}", at(not_leased, 0))).is_err());
    let own = ana.tell(&format!("connect {} {}", at_far(), at(v1, 0))).unwrap();
    assert!(own.ends_with(|c: char| c.is_ascii_digit()) && own.contains(&v1.to_string()), "{own}");
    // An outsider who is not root has no session, and no session's address.
    let mut ordinary = world.outside_as(BEN);
    for order in ["connect", "ask"] {
        let answer = ordinary.tell(&format!("{order} {} {}", at_far(), at(v1, 0)));
        assert_eq!(answer.unwrap_err(), "EACCES");
    }
}

/// X1: an ICMP error finds the socket that it is for.
#[test]
fn a_closed_udp_port_is_told_of() {
    let world = World::new(4, "");
    let mut far = world.far();
    let mut ana = world.actor(1, ANA);
    let closed = at(FAR.into(), 7999);
    assert_eq!(ana.tell(&format!("ask_connected {closed}")).unwrap_err(), "ECONNREFUSED");
    assert_eq!(ana.meet(closed).unwrap_err(), "ECONNREFUSED");
    // And the other way round: nobody listens at V.
    let v1 = world.address(1);
    assert_eq!(far.tell(&format!("ask_connected {}", at(v1, 7999))).unwrap_err(), "ECONNREFUSED");
    assert_eq!(far.meet(at(v1, 7999)).unwrap_err(), "ECONNREFUSED");
}

/// Localhost stays intact: O3 and O4 with services of the host.
#[test]
fn host_services_stay_reachable_at_localhost() {
    let world = World::new(4, "");
    let mut outside = world.outside();
    outside.listen("tcp", "127.0.0.1:9001");
    outside.listen("tcp", "127.0.0.1:9002");
    outside.listen("tcp", at(HOST.into(), 9002));
    let (mut ana, mut ben) = (world.actor(1, ANA), world.actor(2, BEN));
    assert_eq!(ana.meet("127.0.0.1:9001").unwrap().who, "outside");
    assert_eq!(ana.meet("127.0.0.1:9002").unwrap().who, "outside");
    // Its own server first, where it has one; others keep finding the host's.
    assert_eq!(ana.listen("tcp", at(ANY, 9002)), at(world.address(1), 9002));
    assert_eq!(ana.meet("127.0.0.1:9002").unwrap().who, "session-1");
    assert_eq!(ben.meet("127.0.0.1:9002").unwrap().who, "outside");
    assert_eq!(outside.meet("127.0.0.1:9002").unwrap().who, "outside");
    // O2: the same at the host's own address.
    assert_eq!(ana.meet(at(HOST.into(), 9002)).unwrap().who, "session-1");
    assert_eq!(ben.meet(at(HOST.into(), 9002)).unwrap().who, "outside");
    // O7: another session is met as oneself.
    let met = ben.meet(at(world.address(1), 9002)).unwrap();
    assert_eq!((met.who.as_str(), met.from.ip()), ("session-1", world.address(2)));
}
