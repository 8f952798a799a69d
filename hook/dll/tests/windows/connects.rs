//! What does a conversation leave from, with `scope = "connect"`?
//!
//! All of 127.0.0.0/8 is on this machine, and the tables say what is which: most of
//! it leads over the pool's NIC, whose own address is 127.0.0.1, from where Linux
//! sends there.

use crate::world::{FOREIGN, FREE, P, Program, V, World, content, mapped, pattern};
use hook::decide::{Exclusion, Flags, LEFT_PORTS, Session, TCP, UDP};
use hook::section::{Content, Leading};
use std::net::{SocketAddr, TcpListener, UdpSocket};

/// A host on the pool's NIC, and one on another.
const NEAR: &str = "127.0.0.50";
const ELSEWHERE: &str = "127.0.0.200";
/// Where Linux sends from to all of them.
const HOST: &str = "127.0.0.1";

fn on() -> Content {
    let leading = |to, length, over| Leading { to: mapped(to), length, over };
    let base = content();
    Content {
        flags: Flags { connect: true, ..base.flags },
        host: vec![(mapped(P), true), (mapped(HOST), true)],
        routes: vec![leading("127.0.0.0", 96 + 8, true), leading("127.0.0.192", 96 + 26, false)],
        ..base
    }
}

fn asks_for_it() -> (World, Program) {
    let mut world = World::new();
    world.publish(&on());
    let program = world.hooked();
    (world, program)
}

/// Another host's servers.
struct Far {
    tcp: TcpListener,
    _udp: UdpSocket,
    at: SocketAddr,
}

impl Far {
    fn at(address: &str) -> Self {
        let tcp = TcpListener::bind((address, 0)).unwrap();
        let at = tcp.local_addr().unwrap();
        Self { tcp, _udp: UdpSocket::bind(at).unwrap(), at }
    }

    /// What the next connection comes from.
    fn sees(&self) -> String {
        self.tcp.accept().unwrap().1.to_string()
    }
}

fn address_of(name: &str) -> &str {
    name.rsplit_once(':').unwrap_or((name, "")).0
}

#[test]
fn an_unbound_socket_leaves_from_the_sessions_address() {
    let (_world, mut program) = asks_for_it();
    let far = Far::at(NEAR);
    for how in ["by plain", "by wsa", "slow", "exclusive", "made ansi", "made wide"] {
        let name = program.does(&format!("connect tcp {how} to {}", far.at));
        assert_eq!(address_of(&name), V, "{how}");
        assert_eq!(far.sees(), name, "{how}: the far side agrees");
    }
    for how in ["by plain", "by wsa", "exclusive"] {
        let name = program.does(&format!("connect udp {how} to {}", far.at));
        assert_eq!(address_of(&name), V, "udp {how}");
    }
    let mapped = format!("[::ffff:{NEAR}]:{}", far.at.port());
    for protocol in ["tcp", "udp"] {
        let name = program.does(&format!("connect {protocol} dual to {mapped}"));
        assert_eq!(address_of(&name), format!("[::ffff:{V}]"), "{protocol}");
    }
    assert_eq!(address_of(&far.sees()), V);
}

#[test]
fn a_socket_with_a_port_is_told_what_the_wire_says() {
    let (_world, mut program) = asks_for_it();
    let far = Far::at(NEAR);
    let elsewhere = Far::at(ELSEWHERE);
    for how in ["by plain", "by wsa", "by ex"] {
        let name = program.does(&format!("connect tcp {how} from 0.0.0.0:0 to {}", far.at));
        assert_eq!(address_of(&name), V, "{how}");
        let port = name.rsplit_once(':').unwrap().1;
        // Nobody rewrites packets here.
        assert_eq!(far.sees(), format!("{HOST}:{port}"), "{how}");
        let name = program.does(&format!("connect tcp {how} from 0.0.0.0:0 to {}", elsewhere.at));
        assert_eq!(address_of(&name), HOST, "{how}: it leads elsewhere");
    }
    let told = program.does(&format!("connect udp from 0.0.0.0:0 to {}", far.at));
    assert_eq!(address_of(&told), V);
    // Once it is connected, its name no longer says that it was on the wildcard.
    let third = Far::at("127.0.0.51");
    for (from, how) in [("from 0.0.0.0:0 ", "with a port"), ("", "without")] {
        let told = program.does(&format!("connect udp {from}to {}", far.at));
        assert_eq!(address_of(&told), V, "{how}");
        for (to, address) in [(&third, V), (&elsewhere, HOST), (&far, V), (&third, V)] {
            let told = program.does(&format!("again udp to {}", to.at));
            assert_eq!(address_of(&told), address, "{how}: it has turned to {}", to.at);
        }
    }
    for (from, how) in [("from 0.0.0.0:0 ", "with a port"), ("", "without")] {
        let told = program.does(&format!("connect udp {from}to {}", elsewhere.at));
        assert_eq!(address_of(&told), HOST, "{how}");
        let told = program.does(&format!("again udp to {}", far.at));
        assert_eq!(address_of(&told), V, "{how}: it was elsewhere first");
    }
    let told = program.does(&format!("connect udp from 127.0.0.60:0 to {}", elsewhere.at));
    assert_eq!(address_of(&told), "127.0.0.60");
    let told = program.does(&format!("again udp to {}", far.at));
    assert_eq!(address_of(&told), "127.0.0.60", "it chose");
    let told = program.does(&format!("connect tcp polled from 0.0.0.0:0 to {}", far.at));
    assert_eq!(address_of(&told), V, "it asked with connect whether it is connected");
    let dual = format!("[::ffff:{NEAR}]:{}", far.at.port());
    let told = program.does(&format!("connect udp dual from [::]:0 to {dual}"));
    assert_eq!(address_of(&told), format!("[::ffff:{V}]"));
}

/// Numbers of sockets are used again at once, by whichever thread; and the daemon
/// publishes meanwhile.
#[test]
fn many_at_once_have_each_its_own() {
    let (mut world, mut program) = asks_for_it();
    let far = Far::at(NEAR);
    let at = far.at;
    // It ends with the test.
    let accepts = std::thread::Builder::new();
    accepts.spawn(move || far.tcp.incoming().for_each(drop)).unwrap();
    let names = std::thread::scope(|scope| {
        let crowd = scope.spawn(|| program.does(&format!("crowd to {at}")));
        while !crowd.is_finished() {
            world.publish(&on());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        crowd.join().unwrap()
    });
    assert_eq!(names, V);
}

/// It fails with an unbound one, and goes on to do so.
#[test]
fn connectex_binds_nothing() {
    let (world, mut program) = asks_for_it();
    let far = Far::at(NEAR);
    let ask = format!("connect tcp by ex to {}", far.at);
    let answer = program.does(&ask);
    assert_eq!(answer, world.unhooked(&crate::world::this_file()).does(&ask));
    assert!(answer.starts_with("error"), "{answer}");
}

#[test]
fn what_is_not_meant_is_left_alone() {
    let (mut world, mut program) = asks_for_it();
    let (near, elsewhere) = (Far::at(NEAR), Far::at(ELSEWHERE));
    let ours = Far::at(P);
    let other = Far::at(FOREIGN);
    let nobodys = Far::at(FREE);
    let left = |program: &mut Program, what: &str, far: &Far, how: &str| {
        for protocol in ["tcp", "udp"] {
            let name = program.does(&format!("connect {protocol} {how} to {}", far.at));
            assert_ne!(address_of(&name), V, "{protocol}: {what}");
            assert!(!name.starts_with("error"), "{protocol}: {what}: {name}");
        }
    };
    left(&mut program, "another NIC", &elsewhere, "");
    left(&mut program, "the host's own", &ours, "");
    left(&mut program, "another session's", &other, "");
    left(&mut program, "nobody's of the pool", &nobodys, "");
    left(&mut program, "one that chose", &near, "from 127.0.0.60:0");
    left(&mut program, "one that must leave by an interface", &near, "pinned");
    left(&mut program, "one that must, with a port", &near, "pinned from 0.0.0.0:0");
    left(&mut program, "one that was passed on", &near, "passed");
    left(&mut program, "one that was passed on, with a port", &near, "passed from 0.0.0.0:0");
    let base = on();
    let name = std::env::current_exe().unwrap();
    let name = name.file_name().unwrap().to_str().unwrap().to_owned();
    let excepted = vec![hook::section::Pattern { excepted: true, ..pattern(&name, 5) }];
    let flags = |change: fn(&mut Flags)| {
        let mut flags = base.flags;
        change(&mut flags);
        Content { flags, ..base.clone() }
    };
    for (what, content) in [
        ("not listed", Content { all_listed: false, ..base.clone() }),
        ("excepted", Content { programs: excepted, ..base.clone() }),
        ("no session", Content { sessions: vec![], ..base.clone() }),
        ("no routes", Content { routes: vec![], ..base.clone() }),
        ("scope is bind", flags(|flags| flags.connect = false)),
        ("turned off", flags(|flags| flags.enabled = false)),
        ("nothing at all", Content::default()),
    ] {
        world.publish(&content);
        left(&mut program, what, &near, "");
        left(&mut program, what, &near, "from 0.0.0.0:0");
    }
}

#[test]
fn local_ports_that_are_left_alone_keep_their_source() {
    let (mut world, mut program) = asks_for_it();
    let far = Far::at(NEAR);
    let of = |program, port, protocol| Exclusion { program, port, protocol };
    let excluded = vec![of(0, 9301, TCP), of(0, 9301, UDP), of(0, 9302, TCP), of(0, 9302, UDP)];
    let mut ports = excluded.clone();
    ports.push(of(LEFT_PORTS, 9302, TCP));
    world.publish(&Content { excluded: ports, ..on() });
    let mut from = |port| {
        let ask = format!("connect tcp from 0.0.0.0:{port} to {}", far.at);
        address_of(&program.does(&ask)).to_owned()
    };
    assert_eq!([from(9301), from(9302)], [HOST, HOST]);
    assert_eq!(from(9303), V, "the bind was moved");
}

#[test]
fn an_address_of_the_pools_nic_without_a_port_is_the_sessions() {
    let (_world, mut program) = asks_for_it();
    for (asked, given) in [(P, V), (HOST, HOST), ("0.0.0.0", "0.0.0.0")] {
        let name = program.does(&format!("bind tcp {asked}:0"));
        assert_eq!(address_of(&name), given, "{asked}");
        assert!(!name.ends_with(":0"), "{name}");
    }
}

/// V is not on this machine (any more): the packet engine gives it to what leaves.
#[test]
fn where_v_cannot_be_bound_the_wire_says_it_all_the_same() {
    let (mut world, mut program) = asks_for_it();
    let mut gone = on();
    let lost = |session: &mut Session| session.ipv4 = "192.0.2.1".parse().ok();
    lost(&mut gone.sessions[0]);
    world.publish(&gone);
    let far = Far::at(NEAR);
    for how in ["tcp by plain", "tcp by wsa", "tcp slow", "tcp polled", "udp"] {
        let name = program.does(&format!("connect {how} to {}", far.at));
        assert_eq!(address_of(&name), "192.0.2.1", "{how}");
    }
    assert_eq!(address_of(&far.sees()), HOST, "nobody rewrites packets here");
    assert_eq!(program.does(&format!("connect-error tcp to {}", far.at)), "0:4711");
}

#[test]
fn errors_are_the_calls_own() {
    let (world, mut program) = asks_for_it();
    let far = Far::at(NEAR);
    let closed = Far::at(NEAR).at;
    let mut plain = world.unhooked(&crate::world::this_file());
    for ask in [
        format!("connect-error tcp to {}", far.at),
        format!("connect-error udp to {}", far.at),
        format!("connect-error tcp from 0.0.0.0:0 to {}", far.at),
        format!("connect-error tcp to {closed}"),
        format!("connect-error tcp from 0.0.0.0:0 to {closed}"),
        "connect-nowhere".to_owned(),
    ] {
        // What a first call loads leaves an error of its own.
        let second = |program: &mut Program| [program.does(&ask), program.does(&ask)][1].clone();
        let (hooked, untouched) = (second(&mut program), second(&mut plain));
        assert_eq!(hooked, untouched, "{ask}");
    }
}

/// What is said beside a datagram: Wine does not look at it.
#[test]
fn a_datagram_has_the_source_that_its_way_has() {
    let (mut world, mut program) = asks_for_it();
    let (near, elsewhere) = (Far::at(NEAR), Far::at(ELSEWHERE));
    let dual = format!("[::ffff:{NEAR}]:{}", near.at.port());
    for how in ["", "by wsa "] {
        for from in ["", "from 0.0.0.0:0 "] {
            let mut says = |verb, to| program.does(&format!("{verb} udp {how}{from}to {to}"));
            assert_eq!(says("send", near.at), format!("{V} 0.0.0.0"), "{how}{from}");
            assert_eq!(says("send-again", elsewhere.at), "nothing 0.0.0.0", "{how}{from}");
            assert_eq!(says("send-again", near.at), format!("{V} 0.0.0.0"), "{how}{from}");
            assert_eq!(says("send", elsewhere.at), "nothing 0.0.0.0", "{how}{from}");
            assert_eq!(says("send-again", near.at), format!("{V} 0.0.0.0"), "{how}{from}");
        }
        // Of what is said beside it, of the datagram itself, and of nobody's doing.
        for (error, answer) in [(10022, "nothing 0.0.0.0"), (10060, "error 10060")] {
            let ask = format!("send udp {how}failing {error} to {}", near.at);
            assert_eq!(program.does(&ask), answer, "{how}");
            let said = program.does(&format!("send-again udp {how}to {}", near.at));
            assert_eq!(said, format!("{V} 0.0.0.0"), "{how}: after error {error}");
        }
        let said = program.does(&format!("send udp dual {how}to {dual}"));
        assert_eq!(said, format!("{V} [::]"), "{how}: dual-stack");
        let said = program.does(&format!("send udp {how}from 127.0.0.60:0 to {}", near.at));
        assert_eq!(said, "nothing 127.0.0.60", "{how}: it chose");
        let said = program.does(&format!("send udp {how}passed to {}", near.at));
        assert_eq!(said, "nothing 0.0.0.0", "{how}: it came from elsewhere");
    }
    // A server that nothing moved answers from the address that was asked.
    let excluded = vec![Exclusion { program: 0, port: 9304, protocol: UDP }];
    world.publish(&Content { excluded, ..on() });
    let said = program.does(&format!("send udp from 0.0.0.0:9304 to {}", near.at));
    assert_eq!(said, "nothing 0.0.0.0");
    world.publish(&content());
    let said = program.does(&format!("send udp to {}", near.at));
    assert_eq!(said, "nothing 0.0.0.0", "scope is bind");
    world.publish(&on());
    let said = program.does(&format!("send udp to {}", near.at));
    assert_eq!(said, format!("{V} 0.0.0.0"));
    // Another daemon's word: heard within a second.
    world.kill();
    world.start();
    world.publish(&content());
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let said = program.does(&format!("send-again udp to {}", near.at));
    assert_eq!(said, "nothing 0.0.0.0");
}

#[test]
fn by_ipv6_a_datagram_has_the_ipv6_address() {
    let (mut world, mut program) = asks_for_it();
    let leading = Leading { to: mapped("::"), length: 0, over: true };
    let mut six = on();
    six.sessions[0].ipv6 = "fd77::101".parse().ok();
    six.routes.push(leading);
    world.publish(&six);
    let far = UdpSocket::bind("[::1]:0").unwrap().local_addr().unwrap();
    assert_eq!(program.does(&format!("send udp to {far}")), "fd77::101 [::]");
    let mut four = on();
    four.sessions[0].ipv6 = None;
    four.routes.push(leading);
    world.publish(&four);
    assert_eq!(program.does(&format!("send udp to {far}")), "nothing [::]");
}

/// The first bytes of the functions are the system's own.
#[test]
fn by_default_none_of_it_is_detoured() {
    let mut world = World::new();
    let mut program = world.unhooked(&crate::world::this_file());
    let before = program.does("code");
    program.inject().unwrap();
    assert_eq!(program.does("bind tcp 0.0.0.0:9305"), format!("{V}:9305"));
    assert_eq!(program.does("code"), before, "scope is bind");
    let far = Far::at(NEAR);
    let ask = format!("connect tcp to {}", far.at);
    assert_eq!(address_of(&program.does(&ask)), HOST);

    // A reload: the next bind notices.
    world.publish(&on());
    assert_eq!(address_of(&program.does(&ask)), HOST);
    assert_eq!(program.does("bind tcp 0.0.0.0:9305"), format!("{V}:9305"));
    let after = program.does("code");
    for (was, is) in before.split(' ').zip(after.split(' ')) {
        assert_ne!(was, is, "all are detoured: {before} {after}");
    }
    assert_eq!(address_of(&program.does(&ask)), V);
}
