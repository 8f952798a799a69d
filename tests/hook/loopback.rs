//! Has every session a localhost of its own? Rows O3, O4 and O6, and the
//! loopback rows of the hook.

use crate::lab::{
    self, In, L1, L2, Lab, P6, PERSON, PRIVATE1, PRIVATE2, V1, V2, bind, connect, local, peer,
    session1, session2, socket, storage,
};
use crate::localhost::{address_of, ask, dial, tcp_server, udp_server};
use nix::sys::socket::{MsgFlags, sendto, setsockopt, sockopt};
use nix::sys::time::TimeVal;
use sessionip::companion::{PolicyView, SessionEntry};
use sessionip::config::{Loopback, ProgramPattern};
use std::os::fd::AsRawFd;

/// Every program of every session has a localhost of its own.
fn own_loopback(policy: &mut PolicyView) {
    policy.loopback =
        Loopback { enabled: true, programs: vec![ProgramPattern::All], ..Loopback::default() };
}

/// The same, and it wins over the virtual address.
fn preferred(policy: &mut PolicyView) {
    own_loopback(policy);
    policy.loopback.prefer = vec![ProgramPattern::All];
}

/// Both sessions have a loopback address.
fn lab(change: impl FnOnce(&mut PolicyView)) -> Lab {
    let mut lab = Lab::new();
    tell(&mut lab, session1(), L1);
    tell(&mut lab, session2(), L2);
    lab.policy(change);
    lab
}

fn tell(lab: &mut Lab, entry: SessionEntry, loopback: &str) {
    let cgroup = lab.cgroup(In::Session(entry.id.0));
    let entry = SessionEntry { loopback: loopback.parse().ok(), ..entry };
    lab.hook().set_session(cgroup, &entry).unwrap();
}

/// Servers of both sessions at one address and port, and clients of both: each
/// finds its own, and sees the address it asked for.
fn each_finds_its_own(lab: &Lab, listen: &'static str, asked: &'static str, given: [&str; 2]) {
    for protocol in ["tcp", "udp"] {
        let start = |place| match protocol {
            "tcp" => tcp_server(lab, place, listen),
            _ => udp_server(lab, place, listen),
        };
        let servers = [start(In::Session(1)), start(In::Session(2))];
        for _ in 0..2 {
            for (place, server, given) in
                [(In::Session(1), &servers[0], given[0]), (In::Session(2), &servers[1], given[1])]
            {
                let seen = lab.run(place, PERSON, || match protocol {
                    "tcp" => dial("tcp", asked),
                    _ => ask(&socket("udp", asked), asked),
                });
                assert_eq!(seen.split(' ').next(), Some(asked), "{protocol} in {place:?}");
                let line = server.line();
                let at = line.split(' ').next().unwrap();
                match protocol {
                    "tcp" => assert_eq!(address_of(at), given, "in {place:?}"),
                    _ => assert!(line.starts_with("from "), "{line}"),
                }
            }
        }
    }
}

#[test]
fn pairs_at_ipv4_localhost_are_each_their_own() {
    let lab = lab(own_loopback);
    each_finds_its_own(&lab, "127.0.0.1:9300", "127.0.0.1:9300", [L1, L2]);
}

#[test]
fn pairs_at_ipv6_localhost_are_each_their_own() {
    let lab = lab(own_loopback);
    let private = [format!("[{PRIVATE1}]"), format!("[{PRIVATE2}]")];
    each_finds_its_own(&lab, "[::1]:9301", "[::1]:9301", [&private[0], &private[1]]);
}

#[test]
fn with_loopback_off_pairs_over_a_wildcard_are_each_their_own() {
    let lab = Lab::new();
    each_finds_its_own(&lab, "0.0.0.0:9302", "127.0.0.1:9302", [V1, V2]);
    let alone = lab.start(In::Session(1), PERSON, |talk| {
        let fd = bind("tcp", "127.0.0.1:9303").unwrap();
        talk.say(&local(&fd));
        talk.wait();
        String::new()
    });
    assert_eq!(alone.line(), "127.0.0.1:9303");
    let second = lab.run(In::Session(2), PERSON, || lab::name(bind("tcp", "127.0.0.1:9303")));
    assert_eq!(second, "EADDRINUSE", "localhost is one, as without the product");
}

#[test]
fn neither_a_lease_nor_virtual_ip_is_needed() {
    let mut lab = lab(|policy| {
        own_loopback(policy);
        policy.enabled = false;
        policy.programs.clear();
    });
    for (entry, loopback) in [(session1(), L1), (session2(), L2)] {
        tell(&mut lab, SessionEntry { ipv4: None, ipv6: None, ..entry }, loopback);
    }
    each_finds_its_own(&lab, "127.0.0.1:9304", "127.0.0.1:9304", [L1, L2]);
    let wildcard = lab.run(In::Session(1), PERSON, || lab::name(bind("tcp", "0.0.0.0:9316")));
    assert_eq!(wildcard, "0.0.0.0:9316");
}

#[test]
fn a_server_sees_localhost_and_so_does_its_client() {
    let lab = lab(own_loopback);
    let tcp = tcp_server(&lab, In::Session(1), "127.0.0.1:9305");
    let seen = lab.run(In::Session(1), PERSON, || dial("tcp", "127.0.0.1:9305"));
    assert_eq!(seen, "127.0.0.1:9305 as 127.0.0.1");
    assert_eq!(tcp.line(), format!("{L1}:9305 from 127.0.0.1"));
    let udp = udp_server(&lab, In::Session(1), "127.0.0.1:9305");
    let seen = lab.run(In::Session(1), PERSON, || {
        let mapped = socket("udp", "[::]:0");
        ask(&mapped, "[::ffff:127.0.0.1]:9305")
    });
    assert_eq!(seen, "[::ffff:127.0.0.1]:9305");
    assert_eq!(udp.line(), "from 127.0.0.1");
    let seen = lab.run(In::Session(1), PERSON, || {
        let fd = socket("udp", "0.0.0.0:0");
        connect(&fd, "127.0.0.1:9305").unwrap();
        peer(&fd)
    });
    assert_eq!(seen, "127.0.0.1:9305");
}

#[test]
fn an_unlisted_client_finds_a_listed_server_of_its_session() {
    let mut lab = lab(own_loopback);
    let server = tcp_server(&lab, In::Session(1), "127.0.0.1:9306");
    let ipv6 = tcp_server(&lab, In::Session(1), "[::1]:9306");
    lab.policy(|policy| {
        own_loopback(policy);
        policy.loopback.programs = vec![ProgramPattern::Name("crm".into())];
        policy.programs.clear();
    });
    let seen = lab.run(In::Session(1), PERSON, || dial("tcp", "127.0.0.1:9306"));
    assert_eq!(seen, "127.0.0.1:9306 as 127.0.0.1");
    assert_eq!(server.line(), format!("{L1}:9306 from 127.0.0.1"));
    lab.run(In::Session(1), PERSON, || dial("tcp", "[::1]:9306"));
    assert_eq!(ipv6.line(), format!("[{PRIVATE1}]:9306 from [{PRIVATE1}]"));
    for place in [In::Session(2), In::Outside] {
        let seen = lab.run(place, PERSON, || dial("tcp", "127.0.0.1:9306"));
        assert_eq!(seen, "ECONNREFUSED", "in {place:?}");
    }
}

/// Row O3: L before V before the host; a program that is not listed finds only
/// what the hook moved.
#[test]
fn a_listed_client_finds_what_its_session_has_anywhere() {
    let mut lab = lab(own_loopback);
    let at_v = tcp_server(&lab, In::Session(1), "10.77.0.101:9307");
    let seen = lab.run(In::Session(1), PERSON, || dial("tcp", "127.0.0.1:9307"));
    assert_eq!(seen, format!("127.0.0.1:9307 as {V1}"));
    assert_eq!(at_v.line(), format!("{V1}:9307 from {V1}"));
    let at_l = tcp_server(&lab, In::Session(1), "127.0.0.2:9307");
    lab.run(In::Session(1), PERSON, || dial("tcp", "127.0.0.1:9307"));
    assert_eq!(at_l.line(), format!("{L1}:9307 from 127.0.0.1"));
    lab.policy(|policy| {
        own_loopback(policy);
        policy.except = vec![ProgramPattern::All];
    });
    let seen = lab.run(In::Session(1), PERSON, || dial("tcp", "127.0.0.1:9307"));
    assert_eq!(seen, "ECONNREFUSED", "nothing was moved, and exceptions win");
}

#[test]
fn host_services_stay_at_localhost_of_every_session() {
    let lab = lab(own_loopback);
    let tcp = tcp_server(&lab, In::Outside, "127.0.0.1:9308");
    let udp = udp_server(&lab, In::Outside, "127.0.0.1:9308");
    let ipv6 = tcp_server(&lab, In::Outside, "[::1]:9308");
    for session in [1, 2] {
        let place = In::Session(session);
        lab.run(place, PERSON, || dial("tcp", "127.0.0.1:9308"));
        assert_eq!(tcp.line(), "127.0.0.1:9308 from 127.0.0.1");
        let seen = lab.run(place, PERSON, || ask(&socket("udp", "0.0.0.0:0"), "127.0.0.1:9308"));
        assert_eq!(seen, "127.0.0.1:9308");
        assert_eq!(udp.line(), "from 127.0.0.1");
        lab.run(place, PERSON, || dial("tcp", "[::1]:9308"));
        assert_eq!(ipv6.line(), "[::1]:9308 from [::1]");
    }
    // The session's own goes first, and only in that session.
    let own = tcp_server(&lab, In::Session(1), "127.0.0.1:9308");
    lab.run(In::Session(1), PERSON, || dial("tcp", "127.0.0.1:9308"));
    assert_eq!(own.line(), format!("{L1}:9308 from 127.0.0.1"));
    lab.run(In::Session(2), PERSON, || dial("tcp", "127.0.0.1:9308"));
    assert_eq!(tcp.line(), "127.0.0.1:9308 from 127.0.0.1");
}

#[test]
fn what_asked_for_localhost_is_not_found_by_another_name() {
    let lab = lab(own_loopback);
    let _server = tcp_server(&lab, In::Session(1), "127.0.0.1:9309");
    for asked in ["127.0.0.9:9309", "[::1]:9309"] {
        let seen = lab.run(In::Session(1), PERSON, || dial("tcp", asked));
        assert_eq!(seen, "ECONNREFUSED", "{asked}");
    }
}

#[test]
fn a_preferred_loopback_takes_wildcards() {
    let lab = lab(preferred);
    each_finds_its_own(&lab, "0.0.0.0:9310", "127.0.0.1:9310", [L1, L2]);
    let dual = tcp_server(&lab, In::Session(1), "[::]:9317");
    for asked in ["127.0.0.1:9317", "127.0.0.9:9317"] {
        lab.run(In::Session(1), PERSON, || dial("tcp", asked));
        assert_eq!(dual.line(), format!("[::ffff:{L1}]:9317 from [::ffff:127.0.0.1]"), "{asked}");
    }
    // Its session's ::1 leads to the same socket.
    lab.run(In::Session(1), PERSON, || dial("tcp", "[::1]:9317"));
    assert_eq!(dual.line(), format!("[{PRIVATE1}]:9317 from [{PRIVATE1}]"));
    let seen = lab.run(In::Session(1), PERSON, || dial("tcp", "10.77.0.101:9317"));
    assert_eq!(seen, "ECONNREFUSED", "it is nowhere else");
}

/// Port 0 is left at localhost. What the kernel gave there is taken for its session,
/// as it is without the product; for another session, and after its end, it is free.
#[test]
fn a_port_that_was_given_at_localhost_is_taken() {
    let lab = lab(own_loopback);
    let private = [PRIVATE1, PRIVATE2].map(|address| format!("[{address}]"));
    let mapped = [L1, L2].map(|address| format!("[::ffff:{address}]"));
    for (any, localhost, own) in [
        ("127.0.0.1:0", "127.0.0.1", [L1.to_owned(), L2.to_owned()]),
        ("[::ffff:127.0.0.1]:0", "[::ffff:127.0.0.1]", mapped),
        ("[::1]:0", "[::1]", private),
    ] {
        for protocol in ["tcp", "udp"] {
            let holder = lab.start(In::Session(1), PERSON, move |talk| {
                let fd = bind(protocol, any).unwrap();
                talk.say(&local(&fd));
                talk.wait();
                String::new()
            });
            let given = holder.line();
            assert_eq!(address_of(&given), localhost);
            let (_, port) = given.rsplit_once(':').unwrap();
            let ask = |place| lab.run(place, PERSON, || lab::name(bind(protocol, &given)));
            assert_eq!(ask(In::Session(1)), "EADDRINUSE", "{protocol} {given}");
            assert_eq!(ask(In::Session(2)), format!("{}:{port}", own[1]), "{protocol} {given}");
            drop(holder);
            assert_eq!(ask(In::Session(1)), format!("{}:{port}", own[0]), "{protocol} {given}");
        }
    }
}

/// Two sockets that share a port share it where the first one is, so that each has
/// its part of what comes.
#[test]
fn a_port_that_was_given_at_localhost_is_shared_there() {
    let lab = lab(own_loopback);
    let bound = lab.run(In::Session(1), PERSON, || {
        let shared = |address: &str| {
            let fd = socket("udp", address);
            setsockopt(&fd, sockopt::ReusePort, &true).unwrap();
            lab::bind_fd(&fd, address).unwrap();
            fd
        };
        let first = shared("127.0.0.1:0");
        let given = local(&first);
        let second = shared(&given);
        drop(first);
        // Whoever is left keeps it.
        let third = shared(&given);
        [given, local(&second), local(&third)].join(" ")
    });
    let bound: Vec<_> = bound.split(' ').collect();
    assert!(bound[0].starts_with("127.0.0.1:"), "{bound:?}");
    assert_eq!(bound, [bound[0]; 3]);
}

/// Connects, and gives up after a while.
fn try_to_connect(to: &str) -> String {
    let fd = socket("tcp", to);
    setsockopt(&fd, sockopt::SendTimeout, &TimeVal::new(0, 300_000)).unwrap();
    format!("{:?}", connect(&fd, to))
}

/// Row O6, by name and by address.
#[test]
fn another_sessions_loopback_is_out_of_reach() {
    let mut lab = lab(own_loopback);
    let tcp = tcp_server(&lab, In::Session(1), "127.0.0.1:9311");
    let _udp = udp_server(&lab, In::Session(1), "127.0.0.1:9311");
    let _ipv6 = udp_server(&lab, In::Session(1), "[::1]:9311");
    let send = |to: &str| {
        let fd = socket("udp", to);
        format!("{:?}", sendto(fd.as_raw_fd(), b"!", &storage(to), MsgFlags::empty()))
    };
    let (at_l, at_private) = (format!("{L1}:9311"), format!("[{PRIVATE1}]:9311"));
    let other = In::Session(2);
    assert_eq!(lab.run(other, PERSON, || lab::name(bind("tcp", "127.0.0.2:9312"))), "EACCES");
    assert_eq!(lab.run(other, PERSON, || try_to_connect(&at_l)), "Err(EINPROGRESS)");
    for to in [&at_l, &at_private] {
        assert_eq!(lab.run(other, PERSON, || send(to)), "Err(EPERM)", "{to}");
    }
    let dropped = lab.hook().counters().unwrap().foreign_loopback;
    assert!((3..=5).contains(&dropped), "a SYN or several, and two datagrams: {dropped}");
    // Where nobody of that session is bound, and for others than sessions, it is
    // an address like any other of 127.0.0.0/8.
    let nobody = format!("{L1}:9313");
    assert_eq!(lab.run(other, PERSON, || try_to_connect(&nobody)), "Err(ECONNREFUSED)");
    for (place, uid) in [(In::Outside, PERSON), (other, 0), (In::Session(1), PERSON)] {
        assert_eq!(lab.run(place, uid, || try_to_connect(&at_l)), "Ok(())", "{place:?}");
        assert_eq!(tcp.line(), format!("{L1}:9311 from 127.0.0.1"));
    }
    lab.policy(|policy| {
        own_loopback(policy);
        policy.isolate_loopback = false;
    });
    assert_eq!(lab.run(other, PERSON, || try_to_connect(&at_l)), "Ok(())", "it can be turned off");
}

/// Row O5 for loopback addresses: a socket that was there before the session.
#[test]
fn nothing_leaves_from_another_sessions_loopback() {
    let mut lab = Lab::new();
    lab.policy(own_loopback);
    let host = udp_server(&lab, In::Outside, "127.0.0.1:9314");
    let early = lab.start(In::Session(2), PERSON, |talk| {
        let fd = bind("udp", "127.0.0.2:9315").unwrap();
        talk.say(&ask(&fd, "127.0.0.1:9314"));
        talk.wait();
        ask(&fd, "127.0.0.1:9314")
    });
    assert_eq!(early.line(), "127.0.0.1:9314");
    assert_eq!(host.line(), format!("from {L1}"));
    tell(&mut lab, session1(), L1);
    early.go_on();
    assert_eq!(early.line(), "EPERM");
    assert_eq!(lab.hook().counters().unwrap().foreign_source, 1);
}

/// A dual-stack socket that asked for 127.0.0.1 speaks IPv4 only, as without us,
/// also where the hook knows its port.
#[test]
fn what_asked_for_localhost_does_not_speak_to_the_network() {
    let lab = lab(own_loopback);
    let _outside = udp_server(&lab, In::Outside, "[::]:9316");
    let asked = lab.run(In::Session(1), PERSON, || {
        let fd = bind("udp", "[::ffff:127.0.0.1]:0").unwrap();
        ask(&fd, &format!("[{P6}]:9316"))
    });
    assert_eq!(asked, "EAFNOSUPPORT");
}
