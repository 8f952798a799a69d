//! Do programs know the address that the wire has? `scope = "connect"`.

use crate::world::{ANA, BEN, World, at, at_far, until};
use sessionip::lab::network::HOST;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

const CONNECT: &str = "[hook]\nscope = 'connect'";

fn rewritten(world: &World) -> u64 {
    world.json("status")["packets"]["rewritten"].as_u64().unwrap()
}

#[test]
fn a_program_knows_what_the_far_side_sees() {
    let world = World::new(4, CONNECT);
    let mut far = world.far();
    for (session, user) in [(1, ANA), (2, BEN)] {
        let mut actor = world.actor(session, user);
        let v = world.address(session);
        let talk = actor.connect(at_far()).unwrap();
        assert_eq!(talk.met.from.ip(), v);
        let names = actor.tell("names 0").unwrap();
        assert_eq!(names, format!("{} {}", talk.met.from, at_far()));
        assert_eq!(actor.say(&talk, "through").as_deref(), Ok("through"));
        assert_eq!(actor.transfer(&talk, 1_000_000).as_deref(), Ok("whole"));
        // A connected UDP socket.
        let own: SocketAddr =
            actor.tell(&format!("open_udp {}", at_far())).unwrap().parse().unwrap();
        assert_eq!(own.ip(), v);
        let answer = actor.tell("ask_again").unwrap();
        assert_eq!(answer, format!("far {} {own}", at_far()));
        // A listener of its own accepts what it accepted before.
        assert_eq!(actor.listen("tcp", "0.0.0.0:9000"), at(v, 9000));
        assert_eq!(far.meet(at(v, 9000)).unwrap().asked, at(v, 9000));
        let closed = actor.meet("10.77.0.2:7999").unwrap_err();
        assert_eq!(closed, "ECONNREFUSED");
    }
    assert_eq!(rewritten(&world), 0, "{}", world.json("status"));
    assert_eq!(world.json("flows").as_array().unwrap().len(), 0);
}

/// Without connecting a socket has no address to know; the wire has the session's.
#[test]
fn datagrams_leave_from_the_sessions_address() {
    let world = World::new(4, CONNECT);
    let _far = world.far();
    let mut ana = world.actor(1, ANA);
    let (met, answered) = ana.ask(at_far()).unwrap();
    assert_eq!((met.from.ip(), answered), (world.address(1), at_far()));
    // A socket that has a port before it connects, as some runtimes bind first.
    let bound = ana.tell(&format!("connect {} 0.0.0.0:0", at_far())).unwrap();
    assert!(bound.contains(&format!("{}:", world.address(1))), "{bound}");
    let names = ana.tell("names 0").unwrap();
    assert!(bound.ends_with(names.split(' ').next().unwrap()), "{bound}, and by name {names}");
}

#[test]
fn a_static_program_knows_it_as_well() {
    let world = World::new(4, CONNECT);
    let _far = world.far();
    let program = built(&world, "musl-gcc", &["-static"]);
    let to = at_far();
    let output = world.answer(&[
        "exec",
        "--session",
        "1",
        "--user",
        ANA,
        "--",
        program.to_str().unwrap(),
        &to.ip().to_string(),
        &to.port().to_string(),
    ]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<_> = said.lines().collect();
    let [own, greeting] = lines[..] else { panic!("{said}{output:?}") };
    assert!(greeting.ends_with(own), "it is {own} by its own account: {greeting}");
    assert!(own.starts_with("10.77.0.101:"), "{own}");
    assert_eq!(rewritten(&world), 0);
}

/// `tests/daemon/client.c` by that compiler, where users of sessions reach it.
fn built(world: &World, compiler: &str, options: &[&str]) -> PathBuf {
    let program = world.directory.path().join("client");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/daemon/client.c");
    let status = Command::new(compiler).args(options).arg("-o").arg(&program).arg(source).status();
    assert!(status.expect("musl-tools is missing: make setup").success());
    program
}

/// A tunnel takes destinations away from the NIC, and gives them back.
#[test]
fn routes_are_followed() {
    let world = World::new(4, CONNECT);
    let mut ana = world.actor(1, ANA);
    let v = world.address(1);
    let source = |actor: &mut crate::actor::Actor, to: &str| {
        let name: SocketAddr = actor.tell(&format!("open_udp {to}")).unwrap().parse().unwrap();
        name.ip()
    };
    world.host(&["ip", "route", "add", "default", "via", "10.77.0.2"]);
    until("the default route", || source(&mut ana, "192.0.2.1:9") == v);
    world.host(&["ip", "link", "add", "tunnel", "type", "veth", "peer", "name", "tunnel-end"]);
    world.host(&["ip", "link", "set", "tunnel-end", "up"]);
    world.host(&["ip", "address", "add", "10.99.0.1/24", "dev", "tunnel"]);
    world.host(&["ip", "link", "set", "tunnel", "up"]);
    world.host(&["ip", "route", "add", "192.0.2.0/24", "dev", "tunnel"]);
    until("the tunnel's route", || source(&mut ana, "192.0.2.1:9").to_string() == "10.99.0.1");
    assert_eq!(source(&mut ana, "198.51.100.1:9"), v);
    assert_eq!(source(&mut ana, "10.99.0.2:9").to_string(), "10.99.0.1");
    // A rule may send packets to a table of its own, by a mark for instance: what
    // nobody can know is left to the packet engine.
    world.host(&["ip", "rule", "add", "fwmark", "0x51", "lookup", "51"]);
    world.host(&["ip", "route", "add", "default", "dev", "tunnel", "table", "51"]);
    until("the rule", || source(&mut ana, "198.51.100.1:9") == HOST);
    world.host(&["ip", "rule", "del", "fwmark", "0x51", "lookup", "51"]);
    until("the rule's end", || source(&mut ana, "198.51.100.1:9") == v);
    world.host(&["ip", "link", "del", "tunnel"]);
    until("the tunnel's end", || source(&mut ana, "192.0.2.1:9") == v);
}

/// What a UDP socket is called once it is connected there.
const NAME_OF_A_SOCKET: &str = "
import socket, sys
own = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
own.connect((sys.argv[1], 9))
print(own.getsockname()[0])";

#[test]
fn in_ipv6_routes_and_sources_are_followed_too() {
    let ranges = "'10.77.0.101-10.77.0.104', 'fd77::101-fd77::104'";
    let world = World::with_ranges(ranges, CONNECT);
    let _shell = world.actor(1, ANA);
    let name = |to: &str| {
        let python = ["/usr/bin/python3", "-c", NAME_OF_A_SOCKET, to];
        let words = [["exec", "--session", "1", "--user", ANA, "--"].as_slice(), &python].concat();
        let output = world.answer(&words);
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    };
    let sessions = world.json("sessions");
    let v = sessions[0]["virtual_ipv6"].as_str().unwrap_or_else(|| panic!("{sessions}"));
    assert_eq!(name("fd77::2"), v);
    assert_eq!(name("::ffff:10.77.0.2"), format!("::ffff:{}", world.address(1)));
    assert_eq!(name("::1"), "::1");
    world.host(&["ip", "-6", "route", "add", "default", "via", "fd77::2"]);
    until("the default route", || name("2001:db8::1") == v);
    world.host(&["ip", "link", "add", "tunnel", "type", "veth", "peer", "name", "tunnel-end"]);
    world.host(&["ip", "address", "add", "fd99::1/64", "dev", "tunnel", "nodad"]);
    world.host(&["ip", "link", "set", "tunnel", "up"]);
    world.host(&["ip", "link", "set", "tunnel-end", "up"]);
    world.host(&["ip", "-6", "route", "add", "2001:db8::/32", "dev", "tunnel"]);
    until("the tunnel's route", || name("2001:db8::1") == "fd99::1");
    assert_eq!(name("2001:db9::1"), v);
}

#[test]
fn a_reload_changes_the_scope() {
    let world = World::new(4, "");
    let _far = world.far();
    let mut ana = world.actor(1, ANA);
    let name = |actor: &mut crate::actor::Actor| {
        let own = actor.tell(&format!("open_udp {}", at_far())).unwrap();
        own.parse::<SocketAddr>().unwrap().ip()
    };
    assert_eq!(name(&mut ana), HOST);
    world.configure(4, CONNECT);
    assert!(world.answer(&["reload"]).status.success());
    assert_eq!(name(&mut ana), world.address(1));
    world.configure(4, "");
    assert!(world.answer(&["reload"]).status.success());
    assert_eq!(name(&mut ana), HOST);
    assert_eq!(ana.seen_by(at_far()), Ok(world.address(1)), "the engine goes on");
}
