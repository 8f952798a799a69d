//! What becomes of addresses when the pool is empty, and when sessions end?

use crate::world::{ANA, BEN, World, at, at_far, at_far6, cgroup_root, until};
use nix::sys::signal::Signal;
use serde_json::Value;
use sessionip::lab::network::HOST;
use sessionip::lab::process;
use std::net::IpAddr;

/// What an administrator is to read, word for word.
const F14: &str = "No virtual IP address is available for this session, please contact your \
                   administrator.";

fn row(world: &World, session: u32) -> Value {
    let sessions = world.json("sessions");
    sessions.as_array().unwrap().iter().find(|row| row["id"] == session).unwrap().clone()
}

#[test]
fn an_empty_pool_is_said_and_blocks_nobody() {
    let world = World::new(1, "");
    let _far = world.far();
    let (mut ana, mut ben) = (world.actor(1, ANA), world.actor(2, BEN));
    let exhausted = row(&world, 2);
    assert_eq!(exhausted["state"], "exhausted");
    assert_eq!(exhausted["virtual_ip"], Value::Null);
    assert_eq!(row(&world, 1)["state"], "leased");
    assert_eq!(world.log().matches(F14).count(), 1, "{}", world.log());
    let status = String::from_utf8(world.answer(&["status"]).stdout).unwrap();
    assert!(status.contains(F14), "{status}");
    assert_eq!(world.json("status")["leases"]["free"], 0);
    // Nor is it said again when it is looked again.
    world.host(&["ip", "address", "add", "10.77.0.9/24", "dev", "lab-host"]);
    until("that is noticed", || world.log().contains("own addresses have changed"));
    // It answers when it has looked.
    assert_eq!(world.json("status")["leases"]["free"], 0);
    assert_eq!(world.log().matches(F14).count(), 1, "{}", world.log());

    let before = world.count("exhausted");
    assert_eq!(ben.seen_by(at_far()), Ok(HOST.into()));
    assert!(world.count("exhausted") > before);
    // Its listeners stay where they were asked for.
    assert_eq!(ben.listen("tcp", "0.0.0.0:9000"), at(IpAddr::from([0; 4]), 9000));
    assert_eq!(ana.seen_by(at_far()), Ok(world.address(1)));
}

#[test]
fn an_empty_pool_blocks_where_it_is_to() {
    let world = World::new(1, "[virtual-ip]\nwhen-exhausted = 'block'");
    let _far = world.far();
    let (mut ana, mut ben) = (world.actor(1, ANA), world.actor(2, BEN));
    let before = world.count("exhausted");
    assert_eq!(ben.meet(at_far()).unwrap_err(), "timeout");
    assert!(world.count("exhausted") > before);
    assert_eq!(ana.seen_by(at_far()), Ok(world.address(1)));
    assert_eq!(world.outside().seen_by(at_far()), Ok(HOST.into()));
}

#[test]
fn one_user_gets_no_more_than_his_share() {
    let world = World::new(4, "per-user = 1");
    let _far = world.far();
    let (mut first, mut second) = (world.actor(1, ANA), world.actor(2, ANA));
    let mut other = world.actor(3, BEN);
    assert_eq!(first.seen_by(at_far()), Ok(world.address(1)));
    assert_eq!(row(&world, 2)["state"], "exhausted");
    assert_eq!(second.seen_by(at_far()), Ok(HOST.into()));
    assert_eq!(other.seen_by(at_far()), Ok(world.address(3)));
    assert!(world.log().contains("This user holds 1 virtual IP addresses already"));
}

#[test]
fn a_logoff_returns_the_address_and_it_rests() {
    let mut world = World::new(2, "");
    let _far = world.far();
    let mut ana = world.actor(1, ANA);
    let v1 = world.address(1);
    ana.listen("tcp", "0.0.0.0:9000");
    let talk = ana.connect(at_far()).unwrap();
    assert_eq!(talk.met.from.ip(), v1);
    assert!(world.host(&["ip", "route", "show", "table", "local"]).contains(&v1.to_string()));

    ana.end();
    world.gone(1);
    let local = world.host(&["ip", "route", "show", "table", "local"]);
    assert!(!local.contains(&v1.to_string()), "{local}");
    assert_eq!(world.json("status")["leases"]["resting"], 1);
    assert_eq!(world.json("status")["leases"]["used"], 0);
    let bound = world.host(&["ss", "-Htan", "src", &v1.to_string()]);
    assert_eq!(bound, "", "sockets are bound to an address that is gone");

    // Another user does not get it while it rests; the same user does.
    let ben = world.actor(2, BEN);
    let v2 = world.address(2);
    assert_ne!(v2, v1);
    let third = world.actor(3, "www-data");
    assert_eq!(row(&world, 3)["state"], "exhausted");
    third.end();
    let ana = world.actor(4, ANA);
    assert_eq!(world.address(4), v1);

    // Also after a restart, with a session that ended meanwhile.
    world.end(Signal::SIGKILL);
    ana.end();
    ben.end();
    world.start();
    until("the end of the sessions", || world.json("sessions").as_array().unwrap().is_empty());
    assert_eq!(world.json("status")["leases"]["resting"], 2);
    let _ben = world.actor(5, BEN);
    assert_eq!(world.address(5), v2);
    let _ana = world.actor(6, ANA);
    assert_eq!(world.address(6), v1);
}

/// A program that has left the session (here: a socket handed to one outside)
/// keeps no connection with the session's address.
#[test]
fn a_socket_that_outlives_its_session_is_ended() {
    let world = World::new(2, "quarantine = '0s'");
    let mut far = world.far();
    let mut ana = world.actor(1, ANA);
    let v1 = world.address(1);
    ana.listen("tcp", "0.0.0.0:9000");
    let listening = far.connect(at(v1, 9000)).unwrap();
    let translated = ana.connect(at_far()).unwrap();
    assert_eq!(translated.met.from.ip(), v1);
    // Out of the session's scope, with its sockets.
    let pid = ana.tell("pid").unwrap();
    let root = cgroup_root().join("cgroup.procs");
    std::fs::write(root, pid).unwrap();
    world.gone(1);

    assert!(far.say(&listening, "hello").is_err(), "a connection to the session goes on");
    let before = world.count("foreign-source");
    assert!(ana.say(&translated, "hello").is_err(), "a connection of the session goes on");
    assert!(world.count("foreign-source") > before);
    // Whoever has the address next is not spoken to in its name.
    let mut ben = world.actor(2, BEN);
    ben.listen("tcp", "0.0.0.0:9000");
    assert_eq!(far.meet(at(world.address(2), 9000)).unwrap().who, "session-2");
}

#[test]
fn an_address_that_another_machine_has_is_not_given() {
    let mut world = World::without_daemon(2, "");
    let taken = "10.77.0.101";
    let there = ["ip", "address", "add", "10.77.0.101/24", "dev", "lab-far"];
    world.network.client.output(&mut process::command(&there)).unwrap();
    world.start();
    let noticed = || world.json("status")["notices"].to_string().contains(taken);
    until("the neighbour is noticed", noticed);
    let _ana = world.actor(1, ANA);
    assert_eq!(world.address(1).to_string(), "10.77.0.102");
    assert!(world.log().contains("another machine uses an address of the pool"));
}

#[test]
fn an_address_that_this_machine_took_for_itself_costs_one_session_nothing() {
    let world = World::new(2, "");
    world.host(&["ip", "address", "add", "10.77.0.101/32", "dev", "lo"]);
    let _ana = world.actor(1, ANA);
    assert_eq!(world.address(1).to_string(), "10.77.0.102");
    assert!(world.log().contains("10.77.0.101 is an address of this machine already"));
    let _ben = world.actor(2, BEN);
    assert_eq!(row(&world, 2)["state"], "exhausted");
}

/// What is left in conntrack would hold for who uses the same ends next.
#[test]
fn the_kernel_forgets_the_conversations_of_a_session_that_has_ended() {
    let world = World::with_ranges("'10.77.0.101-10.77.0.104', 'fd77::101-fd77::104'", "");
    let mut far = world.far();
    let (mut ana, mut ben) = (world.actor(1, ANA), world.actor(2, BEN));
    let mut ports = Vec::new();
    for (session, actor) in [(1, &mut ana), (2, &mut ben)] {
        let (v4, v6) = (world.address(session), world.ipv6(session));
        actor.listen("tcp", "[::]:9000");
        actor.listen("udp-v6only", "[::]:9000");
        // To the session's addresses, and from them.
        far.meet(at(v4, 9000)).unwrap();
        far.meet(at(v6, 9000)).unwrap();
        far.ask(at(v6, 9000)).unwrap();
        for server in [at_far(), at_far6()] {
            ports.push((session, actor.meet(server).unwrap().from.port()));
            ports.push((session, actor.ask(server).unwrap().0.from.port()));
        }
    }
    let known = || {
        let kinds = ["ipv4", "ipv6"];
        kinds.map(|kind| world.host(&["conntrack", "-L", "-f", kind])).concat()
    };
    let of = |known: &str, session: u32, addresses: [IpAddr; 2]| {
        let ports = ports.iter().filter(|(whose, _)| *whose == session);
        let mut words: Vec<_> = ports.map(|(_, port)| format!("sport={port} ")).collect();
        words.extend(addresses.map(|address| format!("dst={address} ")));
        known.lines().filter(|line| words.iter().any(|word| line.contains(word))).count()
    };
    let addresses = [1, 2].map(|session| [world.address(session), world.ipv6(session)]);
    let talk = ben.connect(at_far()).unwrap();
    let before = known();
    assert_eq!([1, 2].map(|it| of(&before, it, addresses[it as usize - 1])), [7, 7], "{before}");
    ana.end();
    world.gone(1);
    let after = known();
    assert_eq!([1, 2].map(|it| of(&after, it, addresses[it as usize - 1])), [0, 7], "{after}");
    assert_eq!(ben.say(&talk, "still").as_deref(), Ok("still"));
}
