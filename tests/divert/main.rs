//! Do rules, queues and verdicts lead packets where they are to go? On a real
//! kernel, in network namespaces of their own. Needs root.

#![cfg(target_os = "linux")]
#![expect(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on ends with what it expected, and tests look at the clock"
)]

mod daemon;
mod network;
mod traffic;

use daemon::{BASE, Daemon, rules, set, translate};
use network::{P, PEER, V, V2, Wire, run};
use nix::sys::socket::{setsockopt, sockopt};
use sessionip::divert::Divert;
use sessionip::divert::linux::rules::{self as chains, RulesError};
use sessionip::divert::linux::{Losses, Nfqueue, OpenError};
use sessionip::engine::{Begun, Direction};
use sessionip::translate::Side;
use sessionip::verdict::{Reason, Verdict};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use traffic::{BULK, accept, connect, exchange, listen, udp};

const PORT: u16 = 5201;

/// The mark of the flows that conntrack knows and `text` names.
fn marks(wire: &Wire, text: &str) -> Vec<String> {
    let flows = wire.host(|| run("conntrack -L"));
    let marks = flows.lines().filter(|line| line.contains(text)).filter_map(|line| {
        line.split(' ').find_map(|word| word.strip_prefix("mark=")).map(str::to_owned)
    });
    marks.collect()
}

#[test]
fn session_tcp_leaves_from_its_address_in_bulk() {
    let wire = Wire::new();
    let daemon = Daemon::translating(&wire);
    let listener = wire.peer(|| listen(PEER, PORT));
    let near = wire.session(|| connect(PEER, PORT));
    let (far, from) = accept(&listener);
    assert_eq!(from.ip(), V);
    assert_eq!(from.port(), near.local_addr().unwrap().port());
    exchange(&near, &far, BULK);
    assert_eq!(marks(&wire, "dport=5201"), ["134217728"]);
    assert_eq!(daemon.counters.refused(), 0);
    assert_eq!(daemon.counters.truncated(), 0);
    assert_eq!(daemon.counters.losses().unwrap(), Losses::default());
    let packets = wire.host(|| chains::packets(false)).unwrap();
    assert!(packets.session > 100 && packets.pool > 100, "{packets:?}");
}

#[test]
fn session_udp_leaves_from_its_address() {
    let wire = Wire::new();
    let _daemon = Daemon::translating(&wire);
    let far = wire.peer(|| udp(PEER, PORT));
    let near = wire.session(|| udp([0, 0, 0, 0].into(), 0));
    let mut buffer = [0; 4096];
    for length in [0, 1, 999, 1472, 4000] {
        near.send_to(&buffer[..length], (PEER, PORT)).unwrap();
        let (got, from) = far.recv_from(&mut buffer).unwrap();
        assert_eq!((got, from.ip()), (length, V.into()));
        far.send_to(&buffer[..length], from).unwrap();
        assert_eq!(near.recv_from(&mut buffer).unwrap(), (length, (PEER, PORT).into()));
    }
}

#[test]
fn who_is_in_no_session_is_left_alone() {
    let wire = Wire::new();
    let daemon = Daemon::translating(&wire);
    let listener = wire.peer(|| listen(PEER, PORT));
    let near = wire.host(|| connect(PEER, PORT));
    let (far, from) = accept(&listener);
    assert_eq!(from.ip(), P);
    exchange(&near, &far, BULK);
    assert_eq!(daemon.counters.received(), 0);
}

#[test]
fn conversation_within_the_host_goes_by_two_virtual_addresses() {
    let wire = Wire::new();
    let rules = rules(&wire);
    // Session 1 asks V2, and the server listens on P: both ends are turned as
    // they leave, and nothing is left to do where they arrive.
    let daemon = Daemon::start(&wire, |packet| {
        if packet.facts.direction == Direction::In {
            return Verdict::Pass(Reason::HostLocal);
        }
        assert!(packet.facts.loopback);
        let (asked, asking) = match packet.bytes[16..20] {
            [_, _, _, 101] => (V, V2),
            _ => (V2, V),
        };
        let _ = set(packet, Side::Destination, asked, P);
        set(packet, Side::Source, P, asking)
    });
    wire.host(|| chains::install(&rules)).unwrap();
    let listener = wire.host(|| listen(P, PORT));
    let near = wire.session(|| connect(V2, PORT));
    let (far, from) = accept(&listener);
    assert_eq!(from.ip(), V);
    exchange(&near, &far, BULK);
    assert_eq!(daemon.counters.truncated(), 0);

    let far = wire.host(|| udp(P, PORT));
    let near = wire.session(|| udp([0, 0, 0, 0].into(), 0));
    let mut buffer = [0; 9000];
    near.send_to(&buffer, (V2, PORT)).unwrap();
    let (length, from) = far.recv_from(&mut buffer).unwrap();
    assert_eq!((length, from.ip()), (9000, V.into()));
    far.send_to(&buffer, from).unwrap();
    assert_eq!(near.recv_from(&mut buffer).unwrap(), (9000, (V2, PORT).into()));
}

#[test]
fn who_asks_the_virtual_address_is_answered_by_it() {
    let wire = Wire::new();
    let daemon = Daemon::translating(&wire);
    let listener = wire.host(|| listen(P, PORT));
    let far = wire.peer(|| connect(V, PORT));
    let (near, from) = accept(&listener);
    assert_eq!(from.ip(), PEER);
    exchange(&near, &far, BULK);
    assert_eq!(marks(&wire, "dport=5201"), ["134217728"]);

    // No socket sends the reset of a closed port, nor the ICMP error.
    let refused = wire.peer(|| TcpStream::connect((V, 81))).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let asking = wire.peer(|| udp(PEER, 0));
    asking.connect((V, 81)).unwrap();
    asking.send(b"anybody?").unwrap();
    assert_eq!(asking.recv(&mut [0; 9]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(daemon.counters.refused(), 0);
}

#[test]
fn host_service_asked_at_a_virtual_address_answers_from_it() {
    let wire = Wire::new();
    let _daemon = Daemon::translating(&wire);
    let service = wire.host(|| udp([0, 0, 0, 0].into(), PORT));
    let asking = wire.peer(|| udp(PEER, 0));
    asking.send_to(b"who?", (V, PORT)).unwrap();
    let mut buffer = [0; 9];
    let (_, from) = service.recv_from(&mut buffer).unwrap();
    service.send_to(b"me", from).unwrap();
    assert_eq!(asking.recv_from(&mut buffer).unwrap(), (2, (V, PORT).into()));
}

#[test]
fn socket_bound_to_a_virtual_address_is_not_diverted() {
    let wire = Wire::new();
    let daemon = Daemon::translating(&wire);
    let listener = wire.session(|| listen(V, PORT));
    let far = wire.peer(|| connect(V, PORT));
    let (near, _) = accept(&listener);
    exchange(&near, &far, BULK);
    assert_eq!(daemon.counters.received(), 0);
}

#[test]
fn flow_that_began_unchanged_is_no_longer_diverted() {
    let wire = Wire::new();
    let rules = rules(&wire);
    let daemon = Daemon::start(&wire, |_| Verdict::Pass(Reason::NotListed));
    wire.host(|| chains::install(&rules)).unwrap();
    let listener = wire.peer(|| listen(PEER, PORT));
    let near = wire.session(|| connect(PEER, PORT));
    let (far, from) = accept(&listener);
    assert_eq!(from.ip(), P);
    exchange(&near, &far, BULK);
    assert_eq!(daemon.counters.received(), 1, "only the packet that opens it is diverted");
}

#[test]
fn without_daemon_new_flows_leave_and_translated_ones_wait() {
    let wire = Wire::new();
    let daemon = Daemon::translating(&wire);
    let listener = wire.peer(|| listen(PEER, PORT));
    let mut near = wire.session(|| connect(PEER, PORT));
    let (mut far, _) = accept(&listener);
    drop(daemon);

    let _new = wire.session(|| connect(PEER, PORT));
    assert_eq!(accept(&listener).1.ip(), P);
    near.write_all(b"are you there?").unwrap();
    far.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert_eq!(far.read(&mut [0; 20]).unwrap_err().kind(), ErrorKind::WouldBlock);

    let unknown = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&unknown);
    let _daemon = Daemon::start(&wire, move |packet| {
        let Direction::Out = packet.facts.direction else { return translate(packet) };
        count.fetch_add(u64::from(packet.facts.begun == Begun::Unknown), Ordering::Relaxed);
        translate(packet)
    });
    far.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(far.read(&mut [0; 20]).unwrap(), 14);
    exchange(&near, &far, BULK);
    assert_eq!(unknown.load(Ordering::Relaxed), 0, "the conntrack mark says it is translated");
}

#[test]
fn held_packet_comes_back_until_it_is_decided() {
    let wire = Wire::new();
    let rules = rules(&wire);
    let shown = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&shown);
    let _daemon = Daemon::start(&wire, move |packet| {
        if packet.facts.direction == Direction::Out && packet.facts.begun == Begun::Unknown {
            count.fetch_add(1, Ordering::Relaxed);
            if packet.facts.held < Duration::from_millis(20) {
                return Verdict::Hold;
            }
        }
        translate(packet)
    });
    wire.host(|| chains::install(&rules)).unwrap();
    let listener = wire.peer(|| listen(PEER, PORT));
    let start = Instant::now();
    let near = wire.session(|| connect(PEER, PORT));
    assert!(start.elapsed() >= Duration::from_millis(20));
    let (far, from) = accept(&listener);
    assert_eq!(from.ip(), V);
    exchange(&near, &far, 1 << 20);
    assert!((3..=25).contains(&shown.load(Ordering::Relaxed)), "{shown:?} times");
}

#[test]
fn too_many_held_packets_are_decided_at_once() {
    let wire = Wire::new();
    let rules = rules(&wire);
    let last_resort = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&last_resort);
    let _daemon = Daemon::start(&wire, move |packet| {
        if packet.facts.held == Duration::MAX {
            count.fetch_add(1, Ordering::Relaxed);
            return translate(packet);
        }
        Verdict::Hold
    });
    wire.host(|| chains::install(&rules)).unwrap();
    let far = wire.peer(|| udp(PEER, PORT));
    let near = wire.session(|| udp([0, 0, 0, 0].into(), 0));
    setsockopt(&near, sockopt::SndBufForce, &(8 << 20)).unwrap();
    for number in 0..1034_u32 {
        near.send_to(&number.to_ne_bytes(), (PEER, PORT)).unwrap();
    }
    let mut buffer = [0; 4];
    for number in 1024..1034_u32 {
        assert_eq!(far.recv_from(&mut buffer).unwrap().1.ip(), V);
        assert_eq!(u32::from_ne_bytes(buffer), number);
    }
    assert_eq!(last_resort.load(Ordering::Relaxed), 10);
}

#[test]
fn rules_come_once_and_go_whole() {
    let wire = Wire::new();
    let rules = rules(&wire);
    let bare = || (run("iptables-save -t raw"), run("iptables-save -t mangle"));
    let without_date = |(raw, mangle): (String, String)| {
        let all = raw + &mangle;
        all.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    wire.host(|| {
        run("iptables -t mangle -N SESSIONIPX");
        run("iptables -t mangle -A OUTPUT -m comment --comment SESSIONIP-OUT -j SESSIONIPX");
        run("iptables -t raw -A PREROUTING -d 10.77.0.101 -j ACCEPT");
        let before = without_date(bare());
        // What another version left behind.
        run("iptables -t raw -N SESSIONIP-IN");
        run("iptables -t raw -N SESSIONIP-OLD");
        run("iptables -t raw -A SESSIONIP-IN -j SESSIONIP-OLD");
        run("iptables -t raw -A PREROUTING -p tcp -j SESSIONIP-IN");
        assert!(!chains::is_installed(&rules).unwrap());

        chains::install(&rules).unwrap();
        assert!(chains::is_installed(&rules).unwrap());
        let once = without_date(bare());
        chains::install(&rules).unwrap();
        assert_eq!(without_date(bare()), once);
        assert!(!once.iter().any(|line| line.contains("OLD")));
        assert!(before.iter().all(|line| once.contains(line)));

        run("iptables -t mangle -D OUTPUT 2");
        assert!(!chains::is_installed(&rules).unwrap());
        chains::remove().unwrap();
        chains::remove().unwrap();
        assert_eq!(without_date(bare()), before);
    });
}

#[test]
fn refused_rule_is_named_and_changes_nothing() {
    let wire = Wire::new();
    let mut rules = rules(&wire);
    rules.scope_parents.push("no such folder".to_owned());
    let error = wire.host(|| chains::install(&rules)).unwrap_err();
    assert!(matches!(error, RulesError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("the match `cgroup`"), "{error}");
    wire.host(|| assert!(!run("iptables-save -t mangle").contains("SESSIONIP")));
}

#[test]
fn queues_have_one_owner() {
    let wire = Wire::new();
    let first = wire.host(|| Nfqueue::open(BASE)).unwrap();
    let second = wire.host(|| Nfqueue::open(BASE - 2)).unwrap_err();
    assert!(matches!(second, OpenError::Taken { queue: BASE, .. }), "{second}");
    assert!(second.to_string().contains("netlink port"), "{second}");
    drop(first);
    wire.host(|| Nfqueue::open(BASE)).unwrap();
}

#[test]
fn waiting_turn_is_woken() {
    let wire = Wire::new();
    let (mut queues, waker) = wire.host(|| Nfqueue::open(BASE)).unwrap();
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            waker.wake();
        });
        assert_eq!(queues.turn(Duration::from_secs(9), &mut |_, _| panic!()).unwrap(), 0);
    });
    assert!(start.elapsed() < Duration::from_secs(5));
    // The wake-up is used up.
    assert_eq!(queues.turn(Duration::from_millis(20), &mut |_, _| panic!()).unwrap(), 0);
    assert!(start.elapsed() >= Duration::from_millis(40));
}
