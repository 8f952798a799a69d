//! Is a session of its own by IPv6, too?

use crate::actor::{Actor, PYTHON, script};
use crate::world::{ANA, BEN, World, at, at_far, at_far6, until};
use nix::sys::signal::Signal;
use serde_json::Value;
use sessionip::address::Addresses;
use sessionip::lab::network::{FAR_IPV6, HOST, HOST_IPV6, Namespace, Network};
use sessionip::lab::process;
use sessionip::session::SessionId;
use std::net::Ipv6Addr;

const BOTH: &str = "'10.77.0.101-10.77.0.104', 'fd77::101-fd77::104'";

#[test]
fn two_sessions_listen_and_leave_by_ipv6_each_as_itself() {
    let world = World::with_ranges(BOTH, "");
    let mut far = world.far();
    let (mut ana, mut ben) = (world.actor(1, ANA), world.actor(2, BEN));
    let (v1, v2) = (world.ipv6(1), world.ipv6(2));
    assert_ne!(v1, v2);
    for (session, actor, own) in [(1, &mut ana, v1), (2, &mut ben, v2)] {
        assert_eq!(actor.listen("tcp-v6only", "[::]:9000"), at(own, 9000));
        assert_eq!(actor.listen("udp-v6only", "[::]:9000"), at(own, 9000));
        let met = far.meet(at(own, 9000)).unwrap();
        assert_eq!((met.who, met.asked), (format!("session-{session}"), at(own, 9000)));
        let (met, answered) = far.ask(at(own, 9000)).unwrap();
        assert_eq!((met.who, answered), (format!("session-{session}"), at(own, 9000)));
        // Opened here: the packet line changes the source.
        assert_eq!(actor.seen_by(at_far6()), Ok(own));
        let (met, answered) = actor.ask(at_far6()).unwrap();
        assert_eq!((met.from.ip(), answered), (own, at_far6()));
        assert_eq!(actor.seen_by(at_far()), Ok(world.address(session)), "IPv4 as ever");
    }
    let reasons = world.json("status")["reasons"].clone();
    assert!(reasons["session-source"].as_u64() >= Some(4), "{reasons}");
    assert_eq!(reasons["no-ipv6"], Value::Null);
    // Outside any session nothing has changed.
    let mut outside = world.outside();
    assert_eq!(outside.seen_by(at_far6()), Ok(HOST_IPV6.into()));
    // Within the host each finds its own server at the host address, and the other's
    // at the other's address.
    assert_eq!(ana.meet(at(HOST_IPV6.into(), 9000)).unwrap().who, "session-1");
    let met = ana.meet(at(v2, 9000)).unwrap();
    assert_eq!((met.who.as_str(), met.from.ip()), ("session-2", v1));
    assert_eq!(outside.meet(at(v2, 9000)).unwrap().from.ip(), HOST_IPV6);
    assert_eq!(ben.meet("[::1]:9000").unwrap().who, "session-2");
}

/// One socket, and both of its session's addresses.
#[test]
fn a_dual_stack_listener_is_reached_by_either() {
    let mut world = World::with_ranges(BOTH, "");
    let mut far = world.far();
    let (mut ana, mut ben) = (world.actor(1, ANA), world.actor(2, BEN));
    let addresses = [1, 2].map(|session| [world.address(session), world.ipv6(session)]);
    for (actor, [ipv4, _]) in [(&mut ana, addresses[0]), (&mut ben, addresses[1])] {
        assert_eq!(actor.listen("tcp", "[::]:9000"), at(ipv4, 9000));
        assert_eq!(actor.listen("udp", "[::]:9000"), at(ipv4, 9000));
    }
    // Of a UDP socket the daemon hears, and a moment later it is found.
    let found = |far: &mut Actor, own| {
        until("a UDP socket is found by IPv6", || {
            far.tell(&format!("ask_connected {own}")).is_ok()
        });
    };
    found(&mut far, at(addresses[0][1], 9000));
    found(&mut far, at(addresses[1][1], 9000));
    let everyone_is_reached = |far: &mut Actor| {
        for (session, own) in [("session-1", addresses[0]), ("session-2", addresses[1])] {
            for own in own.map(|own| at(own, 9000)) {
                let met = far.meet(own).unwrap();
                assert_eq!((met.who.as_str(), met.asked), (session, own));
                let (met, answered) = far.ask(own).unwrap();
                assert_eq!((met.who.as_str(), answered), (session, own));
            }
        }
    };
    everyone_is_reached(&mut far);
    for (actor, session) in [(&mut ana, "session-1"), (&mut ben, "session-2")] {
        for localhost in ["127.0.0.1:9000", "[::1]:9000"] {
            assert_eq!(actor.meet(localhost).unwrap().who, session);
            let (met, answered) = actor.ask(localhost).unwrap();
            assert_eq!((met.who.as_str(), answered.to_string().as_str()), (session, localhost));
        }
        for host in [HOST.into(), HOST_IPV6.into()] {
            assert_eq!(actor.meet(at(host, 9000)).unwrap().who, session);
        }
    }
    // Another session's is met as oneself.
    let met = ana.meet(at(addresses[1][1], 9000)).unwrap();
    assert_eq!((met.who.as_str(), met.from.ip()), ("session-2", addresses[0][1]));

    // The kernel goes on finding them without a daemon, and a TCP listener that is
    // new; of UDP sockets the next daemon hears.
    world.end(Signal::SIGKILL);
    everyone_is_reached(&mut far);
    ana.listen("tcp", "[::]:9001");
    ana.listen("udp", "[::]:9001");
    assert_eq!(far.meet(at(addresses[0][1], 9001)).unwrap().who, "session-1");
    world.start();
    everyone_is_reached(&mut far);
    assert_eq!(far.ask(at(addresses[0][1], 9001)).unwrap().0.who, "session-1");
    // Who closes is found no more.
    ben.end();
    assert_eq!(far.meet(at(addresses[1][1], 9000)).unwrap_err(), "ECONNREFUSED");
}

/// ::1 is the session's own without any IPv6 lease.
#[test]
fn a_dual_stack_listener_is_found_at_localhost_by_ipv6() {
    let world = World::new(2, "");
    let (mut ana, mut ben) = (world.actor(1, ANA), world.actor(2, BEN));
    for (actor, session) in [(&mut ana, "session-1"), (&mut ben, "session-2")] {
        actor.listen("tcp", "[::]:9000");
        actor.listen("udp", "[::]:9000");
        // What is connected finds V before that, what is not finds it by IPv6 only.
        until("a UDP socket is found by IPv6", || actor.ask("[::1]:9000").is_ok());
        let met = actor.meet("[::1]:9000").unwrap();
        assert_eq!(met.who, session);
        assert!(met.asked.is_ipv6(), "{met:?}");
        let (met, answered) = actor.ask("[::1]:9000").unwrap();
        assert_eq!((met.who.as_str(), answered.to_string().as_str()), (session, "[::1]:9000"));
    }
}

/// Moved to `::ffff:V` it speaks IPv4, and the kernel refuses it IPv6
/// (`ip6_dst_lookup_tail`). Left where it asked for, it has either of its session's.
#[test]
fn a_dual_stack_client_with_a_port_of_its_own_reaches_ipv6_where_it_is_excluded() {
    let world = World::with_ranges(BOTH, "[hook]\nexclude = ['tcp/6100', 'tcp/6101']");
    let _far = world.far();
    let mut ana = world.actor(1, ANA);
    let (v4, v6) = (world.address(1), world.ipv6(1));
    let mapped = "[::ffff:10.77.0.2]:7000";
    let mut from = |server: &str, port| {
        let answer = ana.tell(&format!("connect {server} [::]:{port}"))?;
        Ok::<_, String>(answer.rsplit(' ').next().unwrap().to_owned())
    };
    let far6 = at_far6().to_string();
    assert_eq!(from(&far6, 6000), Err("EAFNOSUPPORT".into()));
    assert_eq!(from(mapped, 6001), Ok(at(v4, 6001).to_string()));
    assert_eq!(from(&far6, 6100), Ok(at(v6, 6100).to_string()));
    assert_eq!(from(mapped, 6101), Ok(at(v4, 6101).to_string()));
    // A datagram has the address of its family all the same.
    // The first answer may come before the daemon has looked at the new socket.
    until("the answer to a datagram is found", || {
        let answer = ana.tell(&format!("ask {far6} [::]:6002"));
        answer.is_ok_and(|answer| answer.contains(&at(v6, 6002).to_string()))
    });
}

#[test]
fn a_port_that_nobody_has_is_told_by_icmpv6() {
    let world = World::with_ranges(BOTH, "");
    let mut ana = world.actor(1, ANA);
    let closed = at(FAR_IPV6.into(), 7999);
    assert_eq!(ana.tell(&format!("ask_connected {closed}")), Err("ECONNREFUSED".into()));
}

/// The far side becomes a router whose next link is narrow, and says so
/// (RFC 8201); the host behind it does not know.
#[test]
fn a_narrow_path_is_told_by_icmpv6() {
    let world = World::with_ranges(BOTH, "");
    let beyond = Network::new(&format!("sip-beyond-{}", std::process::id())).unwrap();
    let run = |namespace: &Namespace, line: &str| {
        let words: Vec<_> = line.split(' ').collect();
        namespace.output(&mut process::command(&words)).unwrap()
    };
    let (router, last) = (&world.network.client, &beyond.client);
    run(router, &format!("ip link add hop type veth peer name hop netns {}", last.name()));
    for (namespace, address, mtu) in [(router, "fd78::1/64", 1280), (last, "fd78::2/64", 1500)] {
        run(namespace, &format!("ip address add {address} dev hop nodad"));
        run(namespace, &format!("ip link set hop mtu {mtu} up"));
    }
    run(router, "sysctl -q net.ipv6.conf.all.forwarding=1");
    run(last, "ip -6 route replace fd77::101/128 via fd78::1");
    world.host(&["ip", "-6", "route", "add", "fd78::/64", "via", "fd77::2"]);
    let mut server = Actor::start(last, process::command(&script(PYTHON)).arg("beyond"));
    let there = server.listen("tcp", "[fd78::2]:7000");

    let mut ana = world.actor(1, ANA);
    let talk = ana.connect(there).unwrap();
    assert_eq!(talk.met.from.ip(), world.ipv6(1));
    assert_eq!(ana.transfer(&talk, 1 << 20), Ok("whole".into()));
    let known = world.host(&["ip", "-6", "route", "show", "cache"]);
    assert!(known.contains("fd78::2") && known.contains("mtu 1280"), "{known}");
}

#[test]
fn leases_outlive_a_crash_and_a_clean_stop_leaves_nothing() {
    let mut world = World::without_daemon(1, "");
    world.set_ranges(BOTH, "");
    let before = world.tables();
    world.start();
    let _far = world.far();
    let mut ana = world.actor(1, ANA);
    let v1 = world.ipv6(1);
    ana.listen("tcp-v6only", "[::]:9000");
    let talk = ana.connect(at_far6()).unwrap();
    assert!(world.tables().iter().any(|line| line.contains(&v1.to_string())));
    world.end(Signal::SIGKILL);
    assert!(world.host(&["ip", "-6", "address", "show"]).contains(&v1.to_string()));
    world.start();
    until("the session is back", || world.json("sessions")[0]["id"] == 1);
    assert_eq!(world.ipv6(1), v1);
    // A flow that began translated goes on.
    assert_eq!(ana.say(&talk, "hello"), Ok("hello".into()));
    // Nor one of ours that no session holds.
    let unheld = "fd77::104".parse().unwrap();
    world.within_host(move || {
        Addresses::open().unwrap().put_on(unheld, HOST_IPV6.into()).unwrap();
    });
    assert!(world.end(Signal::SIGTERM).success());
    assert_eq!(world.tables(), before);
}

#[test]
fn a_pool_of_nothing_but_ipv6_works() {
    let world = World::with_ranges("'fd77::101-fd77::101'", "");
    let mut far = world.far();
    let (mut ana, mut ben) = (world.actor(1, ANA), world.actor(2, BEN));
    let sessions = world.json("sessions");
    assert_eq!(sessions[0]["state"], "leased");
    assert_eq!(sessions[0]["virtual_ip"], Value::Null);
    assert_eq!(sessions[1]["state"], "exhausted");
    assert_eq!(world.json("status")["leases"]["free"], 0);
    let v1 = world.ipv6(1);
    assert_eq!(ana.listen("tcp", "[::]:9000"), at(v1, 9000));
    assert_eq!(far.meet(at(v1, 9000)).unwrap().who, "session-1");
    assert_eq!(ana.seen_by(at_far6()), Ok(v1));
    assert_eq!(ana.seen_by(at_far()), Ok(HOST.into()));
    assert_eq!(ben.seen_by(at_far6()), Ok(HOST_IPV6.into()));
    assert!(world.count("no-ipv6") > 0);
}

#[test]
fn only_the_family_that_is_empty_is_missed() {
    let world = World::with_ranges("'10.77.0.101-10.77.0.104', 'fd77::101-fd77::101'", "");
    let _far = world.far();
    let (mut ana, mut ben) = (world.actor(1, ANA), world.actor(2, BEN));
    assert_eq!(ana.seen_by(at_far6()), Ok(world.ipv6(1)));
    assert_eq!(ben.seen_by(at_far()), Ok(world.address(2)));
    assert_eq!(ben.seen_by(at_far6()), Ok(HOST_IPV6.into()));
    let sessions = world.json("sessions");
    assert_eq!(sessions[1]["state"], "leased");
    assert_eq!(sessions[1]["virtual_ipv6"], Value::Null);
    let notices = world.json("status")["notices"].to_string();
    assert!(notices.contains("session 2 (IPv6): No virtual IP address is available"), "{notices}");
    // What is scarcest is counted.
    assert_eq!(world.json("status")["leases"]["free"], 0);
}

#[test]
fn without_a_lease_ipv6_is_left_and_counted_or_blocked() {
    let world = World::new(2, "");
    let _far = world.far();
    let mut ana = world.actor(1, ANA);
    let before = world.count("no-ipv6");
    assert_eq!(ana.seen_by(at_far6()), Ok(HOST_IPV6.into()));
    assert!(ana.ask(at_far6()).is_ok());
    assert!(world.count("no-ipv6") >= before + 2);
    drop(ana);

    let world = World::new(2, "[virtual-ip]\nipv6-without-lease = 'block'");
    let _far = world.far();
    // What arrives at the far side from the host address, by kind.
    let far_side = |line: &str| {
        let words: Vec<_> = line.split(' ').collect();
        world.network.client.output(&mut process::command(&words)).unwrap()
    };
    let kinds = ["-p tcp", "-p udp", "-p icmpv6 --icmpv6-type echo-request"];
    for kind in kinds {
        far_side(&format!("ip6tables -t raw -A PREROUTING -s {HOST_IPV6} {kind}"));
    }
    let arrived = || {
        let counted = far_side("ip6tables-save -c -t raw");
        counted.lines().filter(|line| line.contains("-A ") && !line.starts_with("[0:0]")).count()
    };
    let mut ana = world.actor(1, ANA);
    assert_eq!(ana.meet(at_far6()).unwrap_err(), "timeout");
    assert_eq!(ana.ask(at_far6()).unwrap_err(), "timeout");
    let far = FAR_IPV6.to_string();
    let ping = ["ping", "-6", "-c", "1", "-W", "1", &far];
    let within = [&["exec", "--session", "1", "--user", ANA, "--"], &ping[..]].concat();
    assert!(!world.answer(&within).status.success());
    assert_eq!(arrived(), 0, "{}", far_side("ip6tables-save -c -t raw"));
    assert!(world.count("no-ipv6") >= 3);
    assert_eq!(ana.seen_by(at_far()), Ok(world.address(1)));
    // From outside any session each of them does.
    let mut outside = world.outside();
    assert_eq!(outside.seen_by(at_far6()), Ok(HOST_IPV6.into()));
    outside.ask(at_far6()).unwrap();
    world.host(&ping);
    assert_eq!(arrived(), kinds.len());
}

/// What is off the host is given to no socket, and what leaves by another address
/// is treated as that of a session without one.
#[test]
fn an_ipv6_address_that_is_off_the_host_is_not_given() {
    let world = World::with_ranges(BOTH, "[virtual-ip]\nipv6-without-lease = 'block'");
    let mut far = world.far();
    let mut ana = world.actor(1, ANA);
    let six = world.ipv6(1);
    assert_eq!(ana.seen_by(at_far6()), Ok(six));
    let private = sessionip::address::private_ipv6(SessionId(1));
    let host = |line: &str| world.host(&line.split(' ').collect::<Vec<_>>());
    // Nobody moved this one, nor will it count as moved.
    let named = at(world.address(1), 9003);
    assert_eq!(ana.listen("tcp", named), named);
    assert_eq!(ana.meet("127.0.0.1:9003"), Err("ECONNREFUSED".into()));
    // Another address, by which the far side can be reached all the same.
    let card = host("ip link show dev lab-host");
    let mac = card.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap();
    for line in [
        "ip -6 route add fd99::1 dev lab-far".to_owned(),
        format!("ip -6 neighbour add fd99::1 lladdr {mac} dev lab-far"),
    ] {
        let words: Vec<_> = line.split(' ').collect();
        world.network.client.output(&mut process::command(&words)).unwrap();
    }
    host("ip address add fd99::1/128 dev lo nodad");
    host(&format!("ip -6 route add {FAR_IPV6}/128 dev lab-host src fd99::1"));
    host(&format!("ip address del {HOST_IPV6}/64 dev lab-host"));
    let is_on = || host("ip -6 address show dev lab-host").contains(&six.to_string());
    until("it is off", || !is_on());
    let mut outside = world.outside();
    assert_eq!(outside.seen_by(at_far6()), Ok("fd99::1".parse().unwrap()));

    let notices = || world.json("status")["notices"].to_string();
    until("that is said", || notices().contains("session 1: its IPv6 address waits"));
    until("the packet line knows", || ana.meet(at_far6()) == Err("timeout".into()));
    assert!(world.count("no-ipv6") > 0);
    assert_eq!(ana.listen("tcp-v6only", "[::]:9000"), at(private.into(), 9000));
    assert_eq!(ana.listen("udp-v6only", "[::]:9000"), at(private.into(), 9000));
    assert_eq!(ana.listen("tcp", "[::]:9001"), at(world.address(1), 9001));
    assert_eq!(far.meet(at(world.address(1), 9001)).unwrap().who, "session-1");

    host(&format!("ip -6 route del {FAR_IPV6}/128 dev lab-host"));
    host(&format!("ip address add {HOST_IPV6}/64 dev lab-host nodad"));
    until("it is back", is_on);
    until("and given", || ana.seen_by(at_far6()) == Ok(six));
    assert_eq!(ana.listen("tcp-v6only", "[::]:9002"), at(six, 9002));
    assert_eq!(far.meet(at(six, 9002)).unwrap().who, "session-1");
    assert_eq!(far.meet(at(six, 9001)).unwrap().who, "session-1", "it was bound meanwhile");
    assert_eq!(ana.meet("127.0.0.1:9003"), Err("ECONNREFUSED".into()));
    assert!(!notices().contains("waits"), "{}", notices());
}

#[test]
fn an_ipv6_address_that_another_machine_has_is_not_given() {
    let mut world = World::without_daemon(2, "");
    let there = ["ip", "address", "add", "fd77::101/64", "dev", "lab-far", "nodad"];
    world.network.client.output(&mut process::command(&there)).unwrap();
    world.set_ranges(BOTH, "");
    world.start();
    let noticed = || world.json("status")["notices"].to_string().contains("fd77::101 is not given");
    until("the neighbour is noticed", noticed);
    let _ana = world.actor(1, ANA);
    assert_eq!(world.ipv6(1), "fd77::102".parse::<Ipv6Addr>().unwrap());
}
