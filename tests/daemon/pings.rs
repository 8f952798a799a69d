//! X2: a ping leaves from the address of the session that sent it. Needs
//! iputils-ping, busybox and traceroute.

use crate::actor::{Actor, PYTHON};
use crate::world::{ANA, BEN, World, until};
use sessionip::lab::network::{FAR, HOST, Namespace};
use sessionip::lab::process;
use std::net::IpAddr;

fn script() -> Vec<String> {
    vec![PYTHON.into(), "-c".into(), include_str!("pings.py").into()]
}

fn pinger(world: &World, session: u32, user: &str) -> Actor {
    world.actor_by(session, user, &script())
}

fn elsewhere(namespace: &Namespace) -> Actor {
    Actor::start(namespace, process::command(&script()).arg("elsewhere"))
}

fn hearing(world: &World) -> Actor {
    let mut far = elsewhere(&world.network.client);
    far.tell("hear").unwrap();
    far
}

/// Has everybody use ping sockets, as systemd does.
fn allow_ping_sockets(world: &World) {
    let range = "/proc/sys/net/ipv4/ping_group_range";
    world.within_host(|| std::fs::write(range, "0 2147483647").unwrap());
}

fn of(address: impl Into<IpAddr>, times: u32) -> String {
    format!("{}:{times}", address.into())
}

#[test]
fn pings_leave_from_their_sessions_addresses() {
    let world = World::new(4, "");
    allow_ping_sockets(&world);
    let mut far = hearing(&world);
    let mut ana = pinger(&world, 1, ANA);
    let mut ben = pinger(&world, 2, BEN);
    let (v1, v2) = (world.address(1), world.address(2));
    let target = FAR.to_string();

    // iputils by a raw socket (its file may) or a ping socket, and both at once.
    for (one, v) in [(&mut ana, v1), (&mut ben, v2)] {
        let said = one.tell(&format!("run ping -c 3 -i 0.2 -W 3 {target}")).unwrap();
        assert!(said.starts_with("0 ") && said.contains(" 0% packet loss"), "{said}");
        assert_eq!(far.tell("heard_from").unwrap(), of(v, 3));
        assert_eq!(one.tell(&format!("ping datagram {target} 5 3")).unwrap(), "3 -");
        assert_eq!(far.tell("heard_from").unwrap(), of(v, 3));
    }
    let flows = world.json("flows");
    let pings: Vec<_> =
        flows.as_array().unwrap().iter().filter(|it| it["protocol"] == "icmp").collect();
    assert!(pings.len() >= 4, "{flows}");
    for it in &pings {
        assert_eq!(it["reason"], "session-source", "{it}");
        assert_eq!(it["packets"], 6, "{it}");
        let (session, v) = if it["session"] == 1 { (1, v1) } else { (2, v2) };
        assert_eq!(it["session"], session);
        assert!(it["outside"][0].as_str().unwrap().starts_with(&v.to_string()), "{it}");
    }
    assert!(pings.iter().any(|it| it["program"].as_str().unwrap().ends_with("/ping")), "{flows}");

    // In fragments, and to another session's address.
    let said = ana.tell(&format!("run ping -c 2 -i 0.2 -W 3 -s 4000 {target}")).unwrap();
    assert!(said.contains(" 0% packet loss"), "{said}");
    assert_eq!(far.tell("heard_from").unwrap(), of(v1, 2));
    for to in [v2, v1, HOST.into(), "127.0.0.1".parse().unwrap()] {
        let said = ana.tell(&format!("run ping -c 2 -i 0.2 -W 3 {to}")).unwrap();
        assert!(said.contains(" 0% packet loss"), "{to}: {said}");
    }

    // And inwards: the host answers for the session.
    let said = far.tell(&format!("run ping -c 2 -i 0.2 -W 3 {v1}")).unwrap();
    assert!(said.contains(&format!("from {v1}")) && said.contains(" 0% packet loss"), "{said}");
}

/// Raw sockets of two sessions, and one outside any, by one id at once.
#[test]
fn pings_by_the_same_id_are_told_apart() {
    let world = World::new(4, "");
    let mut far = hearing(&world);
    let mut ana = pinger(&world, 1, "root");
    let mut ben = pinger(&world, 2, "root");
    let mut outside = elsewhere(&world.network.host);
    let (v1, v2) = (world.address(1), world.address(2));
    let order = format!("ping raw {FAR} 7 300");
    std::thread::scope(|scope| {
        let others = [&mut ben, &mut outside].map(|it| scope.spawn(|| it.tell(&order).unwrap()));
        let answers = ana.tell(&order).unwrap();
        for said in others.map(|it| it.join().unwrap()).iter().chain([&answers]) {
            assert!(said.starts_with("300 "), "{said}");
        }
    });
    let all = [of(HOST, 300), of(v1, 300), of(v2, 300)].join(" ");
    assert_eq!(far.tell("heard_from").unwrap(), all);

    // BusyBox, and its raw socket bound to an address: to the host's as to none.
    let said = ana.tell(&format!("run busybox ping -c 2 -W 3 {FAR}")).unwrap();
    assert!(said.contains(" 0% packet loss"), "{said}");
    assert_eq!(far.tell("heard_from").unwrap(), of(v1, 2));
    let said = ana.tell(&format!("run ping -c 2 -i 0.2 -W 3 -I {HOST} {FAR}")).unwrap();
    assert!(said.contains(" 0% packet loss"), "{said}");
    assert_eq!(far.tell("heard_from").unwrap(), of(v1, 2));
    // As a mark of the program's own changes nothing.
    let said = ana.tell(&format!("run ping -c 2 -i 0.2 -W 3 -m 5 -Q 16 {FAR}")).unwrap();
    assert!(said.contains(" 0% packet loss"), "{said}");
    assert_eq!(far.tell("heard_from").unwrap(), of(v1, 2));
}

#[test]
fn pings_of_other_programs_are_left_alone() {
    let world = World::new(4, "[virtual-ip]\nexcept = ['busybox']");
    let mut far = hearing(&world);
    let mut ana = pinger(&world, 1, "root");
    let v1 = world.address(1);
    for (command, from, reason) in
        [("busybox ping", IpAddr::from(HOST), "excepted"), ("ping", v1, "session-source")]
    {
        let before = world.count(reason);
        let said = ana.tell(&format!("run {command} -c 2 -W 3 {FAR}")).unwrap();
        assert!(said.contains(" 0% packet loss"), "{said}");
        assert_eq!(far.tell("heard_from").unwrap(), of(from, 2));
        assert!(world.count(reason) >= before + 2, "{reason}");
    }
}

/// A socket that is older than the daemon is of its session all the same.
#[test]
fn pings_survive_the_daemon() {
    let mut world = World::new(4, "");
    let mut far = hearing(&world);
    let mut ana = pinger(&world, 1, "root");
    let v1 = world.address(1);
    let mut answered = |id: u16| {
        let told = ana.tell(&format!("ping raw {FAR} {id} 2")).unwrap();
        (told.split(' ').next().unwrap().to_owned(), far.tell("heard_from").unwrap())
    };
    let done = |times: u32, heard: String| (times.to_string(), heard);
    world.end(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(answered(9), done(2, of(HOST, 2)), "there is no daemon");
    world.start();
    assert_eq!(answered(10), done(2, of(v1, 2)));
    world.end(nix::sys::signal::Signal::SIGKILL);
    assert_eq!(answered(11), done(2, of(HOST, 2)), "there is none again");
    world.start();
    until("a ping after a crash", || answered(12) == done(2, of(v1, 2)));
}
