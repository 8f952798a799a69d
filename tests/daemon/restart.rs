//! What goes on when the daemon is killed, stopped, started twice, or reloaded?

use crate::actor::Actor;
use crate::world::{ANA, BEN, World, at, at_far, complaint, now, until};
use nix::sys::signal::Signal;
use sessionip::lab::network::HOST;
use sessionip::lab::process;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// DESIGN.md promises that new connections are virtualised again so soon.
const SOON: Duration = Duration::from_secs(1);

#[test]
fn a_killed_daemon_is_taken_over() {
    let mut world = World::new(4, "");
    let mut far = world.far();
    let (mut ana, mut ben) = (world.actor(1, ANA), world.actor(2, BEN));
    let (v1, v2) = (world.address(1), world.address(2));
    assert_eq!(ana.listen("tcp", "0.0.0.0:9000"), (v1, 9000).into());
    assert_eq!(ben.listen("tcp", "0.0.0.0:9000"), (v2, 9000).into());
    let talk = ana.connect(at_far()).unwrap();
    assert_eq!(talk.met.from.ip(), v1);
    assert_eq!(ana.say(&talk, "before").as_deref(), Ok("before"));
    let before = world.tables();

    world.end(Signal::SIGKILL);

    // Bound sockets were never touched, and the hook works on.
    assert_eq!(far.meet(at(v1, 9000)).unwrap().who, "session-1");
    assert_eq!(far.meet(at(v2, 9000)).unwrap().who, "session-2");
    assert_eq!(ana.listen("tcp", "0.0.0.0:9001"), (v1, 9001).into());
    // New flows leave from P, and what was translated waits.
    let unchanged = ben.connect(at_far()).unwrap();
    assert_eq!(unchanged.met.from.ip(), HOST);
    assert_eq!(ana.say(&talk, "meanwhile").unwrap_err(), "timeout");

    let took = world.start();
    let began = now();
    let first = loop {
        let seen = ben.seen_by(at_far()).unwrap();
        if seen == v2 || began.elapsed() > SOON {
            break seen;
        }
    };
    println!("started in {took:?}, virtualised after {:?} more", began.elapsed());
    assert_eq!(first, v2, "new connections are virtualised");
    assert_eq!((world.address(1), world.address(2)), (v1, v2), "leases stay");
    assert_eq!(world.tables(), before, "no rule or route is doubled");

    // The kernel sends again what waited, and the answer comes in order.
    until("the translated connection", || match ana.say(&talk, "after") {
        Ok(line) if line == "after" => true,
        Ok(line) => {
            assert_eq!(line, "meanwhile");
            false
        }
        Err(error) => panic!("the connection did not live: {error}"),
    });
    assert_eq!(ben.say(&unchanged, "unchanged").as_deref(), Ok("unchanged"));
    let flows = world.json("flows");
    let outside = talk.met.from.to_string();
    let rows = flows.as_array().unwrap();
    assert!(rows.iter().any(|row| row["outside"][0] == outside.as_str()), "{outside}: {flows}");
    assert_eq!(far.meet(at(v1, 9000)).unwrap().who, "session-1");
    assert_eq!(far.meet(at(v1, 9001)).unwrap().who, "session-1");
    assert_eq!(ana.meet("127.0.0.1:9000").unwrap().who, "session-1");
    assert_eq!(ben.meet("127.0.0.1:9000").unwrap().who, "session-2");
}

/// Megabytes under way in both directions: nothing is lost, doubled or changed.
#[test]
fn a_transfer_survives_kills() {
    let mut world = World::new(4, "");
    let _far = world.far();
    let mut ana = world.actor(1, ANA);
    let talk = ana.connect(at_far()).unwrap();
    assert_eq!(talk.met.from.ip(), world.address(1));
    std::thread::scope(|scope| {
        let transfer = scope.spawn(|| ana.transfer(&talk, 64 << 20));
        let mut kills = 0;
        while !transfer.is_finished() && kills < 3 {
            world.end(Signal::SIGKILL);
            println!("started again in {:?}", world.start());
            kills += 1;
        }
        assert_eq!(transfer.join().unwrap().as_deref(), Ok("whole"));
        assert!(kills > 0, "the transfer was over before the daemon was killed");
    });
    assert_eq!(ana.say(&talk, "after").as_deref(), Ok("after"));
}

/// UDP has no connection: the far side knows a client by its port.
#[test]
fn a_udp_conversation_goes_on() {
    let mut world = World::new(4, "");
    let _far = world.far();
    let mut ana = world.actor(1, ANA);
    let seen = |answer: &str| answer.split(' ').nth(2).unwrap().to_owned();
    ana.tell(&format!("open_udp {}", at_far())).unwrap();
    let before = seen(&ana.tell("ask_again").unwrap());
    assert!(before.starts_with(&format!("{}:", world.address(1))), "{before}");
    world.end(Signal::SIGKILL);
    assert_eq!(ana.tell("ask_again").unwrap_err(), "timeout");
    world.start();
    assert_eq!(seen(&ana.tell("ask_again").unwrap()), before);
}

/// The kernel gives a port again, and conntrack remembers what it was used for.
#[test]
fn a_port_that_a_translated_connection_had_is_as_good_as_any() {
    let world = World::new(4, "[virtual-ip]\nexcept = ['other']");
    let other = crate::programs::program(&world, "other");
    let _far = world.far();
    world.within_host(|| {
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "45000 45000").unwrap();
    });
    let words = crate::actor::script(other.to_str().unwrap());
    let (ana, excepted) = (world.actor(1, ANA), world.actor_by(1, ANA, &words));
    let mut actors = [ana, excepted, world.outside()];
    let (v1, host) = (world.address(1), IpAddr::from(HOST));
    for (who, address) in [(0, v1), (2, host), (0, v1), (1, host), (0, v1)] {
        let actor = &mut actors[who];
        // Until the far side has taken note of the end, the port is in use.
        let talk = loop {
            match actor.connect(at_far()) {
                Err(error) if error == "EADDRNOTAVAIL" => {}
                connected => break connected.unwrap(),
            }
        };
        assert_eq!(talk.met.from, at(address, 45_000));
        actor.hang_up(&talk);
    }
}

#[test]
fn a_second_daemon_is_refused_and_harms_nothing() {
    let world = World::new(4, "");
    let far = &mut world.far();
    let mut ana = world.actor(1, ANA);
    let v1 = world.address(1);
    ana.listen("tcp", "0.0.0.0:9000");
    let (tables, traces) = (world.tables(), world.traces("control"));
    let holds = |ana: &mut Actor, far: &mut Actor| {
        assert_eq!(world.tables(), tables);
        assert_eq!(world.traces("control"), traces);
        assert_eq!(ana.seen_by(at_far()), Ok(v1));
        assert_eq!(far.meet(at(v1, 9000)).unwrap().who, "session-1");
        assert_eq!(world.address(1), v1);
    };

    // The same control socket.
    let second = world.answer(&["run"]);
    assert_eq!(second.status.code(), Some(1));
    let said = complaint(&second);
    assert!(said.contains(&format!("process {}", world.pid())), "{said}");
    holds(&mut ana, far);

    // Another one, but the same queues.
    let other = world.directory.path().join("other.toml");
    world.configure_at(&other, "other", 4, "");
    let second = world.answer(&["run", "--config", other.to_str().unwrap()]);
    assert_eq!(second.status.code(), Some(1));
    let said = complaint(&second);
    assert!(said.contains("taken") && said.contains(&world.pid().to_string()), "{said}");
    assert_eq!(world.traces("other"), [""; 0]);
    holds(&mut ana, far);
}

#[test]
fn a_stopped_daemon_leaves_nothing_and_sessions_run_on() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut world = World::without_daemon(4, "");
        let before = world.tables();
        world.start();
        let mut far = world.far();
        let mut ana = world.actor(1, ANA);
        let v1 = world.address(1);
        ana.listen("tcp", "0.0.0.0:9000");
        assert_eq!(far.meet(at(v1, 9000)).unwrap().who, "session-1");

        assert_eq!(world.end(signal).code(), Some(0));
        assert_eq!(world.tables(), before);
        assert_eq!(world.traces("control"), [""; 0]);
        assert!(ana.lives());
        assert_eq!(ana.seen_by(at_far()), Ok(HOST.into()));
        assert_eq!(ana.listen("tcp", "0.0.0.0:9001"), (IpAddr::from([0; 4]), 9001).into());

        // A package upgrade: what was bound is reachable again.
        world.start();
        assert_eq!(world.address(1), v1);
        assert_eq!(ana.seen_by(at_far()), Ok(v1));
        assert_eq!(far.meet(at(v1, 9000)).unwrap().who, "session-1");
    }
}

/// Whoever saves all rules while the daemon runs saves ours with them. They name
/// what is gone with it; without the lines that have our name the rest is good.
#[test]
fn rules_that_were_saved_come_back_without_ours_only() {
    let mut world = World::without_daemon(2, "");
    let theirs = "-A OUTPUT -d 192.0.2.7/32 -j DROP";
    world.host(&["iptables", "-t", "raw", "-A", "OUTPUT", "-d", "192.0.2.7", "-j", "DROP"]);
    world.start();
    let file = world.directory.path().join("rules.v4");
    fs::write(&file, world.host(&["iptables-save"])).unwrap();
    assert_eq!(world.end(Signal::SIGTERM).code(), Some(0));
    world.host(&["iptables", "-t", "raw", "-F"]);

    let restore = || {
        let mut command = process::command(&["iptables-restore"]);
        command.arg(&file);
        let done = world.network.host.output(&mut command).map_err(|error| error.to_string());
        (done, world.host(&["iptables-save", "-t", "raw"]).contains(theirs))
    };
    let (refused, restored) = restore();
    assert!(refused.is_err() && !restored, "{refused:?}");
    world.host(&["sed", "-i", "/SESSIONIP-/d", file.to_str().unwrap()]);
    assert_eq!(restore(), (Ok(String::new()), true));
}

const BOTH: &str = "'10.77.0.101-10.77.0.104', 'fd77::101-fd77::104'";

/// Servers of a session, and where each is found: by itself and from the far side.
fn serve(world: &World, ana: &mut Actor) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
    let (v4, v6) = (world.address(1), world.ipv6(1));
    for protocol in ["tcp", "udp"] {
        assert_eq!(ana.listen(protocol, "[::]:9000"), at(v4, 9000));
        assert_eq!(ana.listen(protocol, "0.0.0.0:9001"), at(v4, 9001));
        assert_eq!(ana.listen(&format!("{protocol}-v6only"), "[::]:9002"), at(v6, 9002));
    }
    let localhost = ["127.0.0.1:9000", "127.0.0.1:9001", "[::1]:9000", "[::1]:9002"];
    let by_itself = localhost.map(|text| text.parse().unwrap()).to_vec();
    (by_itself, vec![at(v4, 9000), at(v6, 9000), at(v4, 9001), at(v6, 9002)])
}

/// A datagram to a dual-stack socket by IPv6 may come before it is found.
#[track_caller]
fn are_found(actor: &mut Actor, servers: &[SocketAddr]) {
    for server in servers {
        let met = actor.meet(server).map(|met| met.who);
        assert_eq!(met.as_deref(), Ok("session-1"), "{server}");
        until(&server.to_string(), || {
            actor.tell(&format!("ask_connected {server}")).is_ok_and(|it| it.contains("session-1"))
        });
    }
}

#[test]
fn what_was_moved_is_found_everywhere_again_after_a_stop_and_a_start() {
    let mut world = World::with_ranges(BOTH, "");
    let mut far = world.far();
    let (mut ana, mut ben) = (world.actor(1, ANA), world.actor(2, BEN));
    let (by_itself, from_afar) = serve(&world, &mut ana);
    let (v1, v2) = (world.address(1), world.ipv6(2));
    are_found(&mut ana, &by_itself);
    are_found(&mut far, &from_afar);
    assert!(world.end(Signal::SIGTERM).success());
    // What is not of the session is not taken for its server.
    world.host(&["ip", "route", "add", "local", &format!("{v1}/32"), "dev", "lo"]);
    let mut outside = world.outside();
    assert_eq!(outside.listen("tcp", at(v1, 9005)), at(v1, 9005));
    world.host(&["ip", "route", "del", "local", &format!("{v1}/32"), "dev", "lo"]);
    world.start();
    assert_eq!((world.address(1), world.ipv6(2)), (v1, v2));
    are_found(&mut ana, &by_itself);
    are_found(&mut far, &from_afar);
    assert_eq!(ana.meet("127.0.0.1:9005"), Err("ECONNREFUSED".into()));
    assert_eq!(ben.meet("127.0.0.1:9000"), Err("ECONNREFUSED".into()));
}

/// A newer version, whose hook cannot take over what this one's left.
#[test]
fn an_update_with_another_layout_loses_no_bind_and_no_listener() {
    let mut world = World::with_ranges(BOTH, "");
    let mut far = world.far();
    let (mut ana, mut ben) = (world.actor(1, ANA), world.actor(2, BEN));
    let (by_itself, from_afar) = serve(&world, &mut ana);
    let (v2, v6) = (world.address(2), world.ipv6(1));
    let mut visitor = world.actor(1, ANA);
    world.end(Signal::SIGKILL);
    let pins = world.directory.path().join("control/bpf");
    let current = pins.join(format!("v{}", sessionip_hook::LAYOUT));
    let other = pins.join("v0123456789abcdef");
    fs::rename(current, &other).unwrap();
    // It binds all the time while the daemon starts, and what listened before is found.
    let started = AtomicBool::new(false);
    let last = std::thread::scope(|scope| {
        let binds = scope.spawn(|| {
            let mut port = 10_000;
            while !started.load(Ordering::Relaxed) {
                port += 1;
                assert_eq!(ben.listen("tcp", at([0; 4].into(), port)), at(v2, port));
            }
            port
        });
        let visits = scope.spawn(|| {
            let localhost = ["127.0.0.1:9000", "127.0.0.1:9001", "[::1]:9000"];
            let mut servers: Vec<SocketAddr> = localhost.map(|it| it.parse().unwrap()).to_vec();
            servers.push(at(v6, 9000));
            let mut times = 0;
            while !started.load(Ordering::Relaxed) {
                for server in &servers {
                    let met = visitor.meet(server).map(|met| met.who);
                    assert_eq!(met.as_deref(), Ok("session-1"), "{server} after {times}");
                }
                times += 1;
            }
            times
        });
        world.start();
        started.store(true, Ordering::Relaxed);
        println!("{} visits meanwhile", visits.join().unwrap());
        binds.join().unwrap()
    });
    assert!(!other.exists());
    println!("{} binds meanwhile", last - 10_000);
    are_found(&mut ana, &by_itself);
    are_found(&mut far, &from_afar);
    for port in 10_001..=last {
        let met = ben.meet(at(Ipv4Addr::LOCALHOST.into(), port)).map(|met| met.who);
        assert_eq!(met.as_deref(), Ok("session-2"), "{port}");
    }
}

#[test]
fn sighup_reloads() {
    let world = World::new(4, "");
    let _far = world.far();
    let mut ana = world.actor(1, ANA);
    assert_eq!(ana.seen_by(at_far()), Ok(world.address(1)));
    world.configure(4, "[virtual-ip]\nenabled = false");
    world.signal(Signal::SIGHUP);
    until("the reload", || world.log().contains("configuration reloaded"));
    assert_eq!(ana.seen_by(at_far()), Ok(HOST.into()));
    // What is wrong is refused and said.
    fs::write(&world.config, "[pool]\nrangs = []").unwrap();
    world.signal(Signal::SIGHUP);
    until("the refusal", || world.log().contains("not reloaded"));
    assert_eq!(ana.seen_by(at_far()), Ok(HOST.into()));
}
