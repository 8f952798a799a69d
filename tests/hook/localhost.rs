//! Do programs find the servers of their own session? Rows O2, O4 and O7.

use crate::lab::{
    In, Lab, P, P6, PERSON, PRIVATE2, Program, V1, V1_6, V2, bind, bind_fd, connect, local, peer,
    session1, socket, storage, text,
};
use nix::sys::socket::{
    MsgFlags, SockaddrStorage, accept, recv, recvfrom, send, sendto, setsockopt, sockopt,
};
use sessionip::companion::SessionEntry;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A TCP server that says whom it accepted.
pub(crate) fn tcp_server(lab: &Lab, place: In, address: &'static str) -> Program {
    let server = lab.start(place, PERSON, move |talk| {
        let listener = bind("tcp", address).unwrap();
        talk.say(&local(&listener));
        loop {
            let accepted = accepted(&listener);
            talk.say(&format!("{} from {}", local(&accepted), address_of(&peer(&accepted))));
        }
    });
    server.line();
    server
}

/// A UDP server that says who sent to it, and answers.
pub(crate) fn udp_server(lab: &Lab, place: In, address: &'static str) -> Program {
    let server = lab.start(place, PERSON, move |talk| {
        let fd = bind("udp", address).unwrap();
        talk.say(&local(&fd));
        let mut bytes = [0; 64];
        loop {
            let (size, from) = recvfrom::<SockaddrStorage>(fd.as_raw_fd(), &mut bytes).unwrap();
            let from = from.unwrap();
            talk.say(&format!("from {}", address_of(&text(&from))));
            sendto(fd.as_raw_fd(), &bytes[..size], &from, MsgFlags::empty()).unwrap();
        }
    });
    server.line();
    server
}

#[expect(unsafe_code, reason = "accept(2) returns a bare number")]
fn accepted(listener: &OwnedFd) -> OwnedFd {
    let fd = accept(listener.as_raw_fd()).unwrap();
    // SAFETY: the kernel has just made this descriptor for us alone.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

pub(crate) fn address_of(endpoint: &str) -> &str {
    endpoint.rsplit_once(':').unwrap().0
}

/// Connects, and returns what the socket calls its peer and the address it has.
pub(crate) fn dial(protocol: &str, to: &str) -> String {
    let fd = socket(protocol, to);
    match connect(&fd, to) {
        Ok(()) => format!("{} as {}", peer(&fd), address_of(&local(&fd))),
        Err(errno) => format!("{errno:?}"),
    }
}

/// Sends without connecting, and returns whom the answer is from.
pub(crate) fn ask(fd: &OwnedFd, to: &str) -> String {
    setsockopt(fd, sockopt::ReceiveTimeout, &nix::sys::time::TimeVal::new(1, 0)).unwrap();
    if let Err(errno) = sendto(fd.as_raw_fd(), b"?", &storage(to), MsgFlags::empty()) {
        return format!("{errno:?}");
    }
    match recvfrom::<SockaddrStorage>(fd.as_raw_fd(), &mut [0; 64]) {
        Ok((_, from)) => text(&from.unwrap()),
        Err(errno) => format!("{errno:?}"),
    }
}

#[test]
fn localhost_is_the_sessions_own_listener() {
    let mut lab = Lab::new();
    let server = tcp_server(&lab, In::Session(1), "0.0.0.0:9100");
    for asked in ["127.0.0.1:9100", "0.0.0.0:9100", "127.0.1.1:9100", "[::ffff:127.0.0.1]:9100"] {
        let seen = lab.run(In::Session(1), PERSON, || dial("tcp", asked));
        let v4 = if asked.starts_with('[') { format!("[::ffff:{V1}]") } else { V1.to_owned() };
        assert_eq!(seen, format!("{asked} as {v4}"));
        assert_eq!(server.line(), format!("{V1}:9100 from {V1}"));
    }
    for (place, why) in [
        (In::Session(2), "another session's localhost is not ours"),
        (In::Outside, "nor is the host's"),
    ] {
        let seen = lab.run(place, PERSON, || dial("tcp", "127.0.0.1:9100"));
        assert_eq!(seen, "ECONNREFUSED", "{why}");
    }
    assert_eq!(lab.hook().counters().unwrap().redirected, 4);
}

#[test]
fn a_dual_stack_listener_is_at_both_localhosts() {
    let lab = Lab::new();
    let _server = tcp_server(&lab, In::Session(2), "[::]:9101");
    for (asked, own) in [("127.0.0.1:9101", V2), ("[::1]:9101", PRIVATE2), ("[::]:9101", PRIVATE2)]
    {
        let seen = lab.run(In::Session(2), PERSON, || dial("tcp", asked));
        assert!(seen.starts_with(asked) && seen.contains(own), "{asked}: {seen}");
    }
    let seen = lab.run(In::Session(2), PERSON, || {
        let with_port = socket("tcp", "[::]:9109");
        bind_fd(&with_port, "[::]:9109").unwrap();
        connect(&with_port, "[::1]:9101").map_or_else(|e| e.to_string(), |()| local(&with_port))
    });
    assert_eq!(seen, format!("[::ffff:{V2}]:9109"), "from a port of one's own it goes by IPv4");
    let udp = udp_server(&lab, In::Session(2), "[::]:9101");
    // Nobody has looked for it yet (`Companion::find_dual`): it is at V only.
    for asked in ["127.0.0.1:9101", "[::1]:9101"] {
        let seen = lab.run(In::Session(2), PERSON, || dial("udp", asked));
        assert!(seen.starts_with(asked) && seen.contains(V2), "{asked}: {seen}");
    }
    drop(udp);
}

/// Its mark keeps the session's IPv6 address, the session does not.
#[test]
fn a_dual_stack_socket_sends_from_no_address_that_is_off_the_host() {
    let mut lab = Lab::new();
    let outside = udp_server(&lab, In::Outside, "[::]:9111");
    let program = lab.start(In::Session(1), PERSON, |talk| {
        let fd = bind("udp", "[::]:9110").unwrap();
        let to = storage(&format!("[{P6}]:9111"));
        let tell = || sendto(fd.as_raw_fd(), b"?", &to, MsgFlags::empty());
        talk.say(&format!("{} {:?}", local(&fd), tell()));
        talk.wait();
        format!("{:?}", tell())
    });
    assert_eq!(program.line(), format!("[::ffff:{V1}]:9110 Ok(1)"));
    assert_eq!(outside.line(), format!("from [{V1_6}]"));
    let cgroup = lab.cgroup(In::Session(1));
    let without = SessionEntry { ipv6: None, ..session1() };
    lab.hook().set_session(cgroup, &without).unwrap();
    program.go_on();
    assert_eq!(program.line(), "Ok(1)");
    assert_ne!(outside.line(), format!("from [{V1_6}]"));
}

#[test]
fn a_v6only_listener_is_at_its_localhost() {
    let lab = Lab::new();
    for (session, at) in [(1, V1_6), (2, PRIVATE2)] {
        let place = In::Session(session);
        let tcp = tcp_server(&lab, place, "v6only [::]:9102");
        let seen = lab.run(place, PERSON, || dial("tcp", "[::1]:9102"));
        assert_eq!(seen, format!("[::1]:9102 as [{at}]"));
        assert_eq!(tcp.line(), format!("[{at}]:9102 from [{at}]"));
        let udp = udp_server(&lab, place, "v6only [::]:9102");
        let seen = lab.run(place, PERSON, || ask(&socket("udp", "[::]:0"), "[::1]:9102"));
        assert_eq!(seen, "[::1]:9102");
        assert_eq!(udp.line(), format!("from [{at}]"));
        let seen = lab.run(place, PERSON, || dial("tcp", "127.0.0.1:9102"));
        assert_eq!(seen, "ECONNREFUSED", "it never spoke IPv4");
    }
}

#[test]
fn host_services_stay_at_localhost() {
    let lab = Lab::new();
    let host = tcp_server(&lab, In::Outside, "127.0.0.1:9103");
    let other = tcp_server(&lab, In::Outside, "127.0.0.53:9104");
    let _own = tcp_server(&lab, In::Session(1), "0.0.0.0:9104");
    lab.run(In::Session(1), PERSON, || dial("tcp", "127.0.0.1:9103"));
    assert_eq!(host.line(), "127.0.0.1:9103 from 127.0.0.1");
    lab.run(In::Session(1), PERSON, || dial("tcp", "127.0.0.53:9104"));
    assert_eq!(other.line(), "127.0.0.53:9104 from 127.0.0.1", "exact before wildcard");
}

#[test]
fn a_listener_on_v_itself_is_not_at_localhost() {
    let lab = Lab::new();
    let _server = tcp_server(&lab, In::Session(1), "10.77.0.101:9105");
    let seen = lab.run(In::Session(1), PERSON, || dial("tcp", "127.0.0.1:9105"));
    assert_eq!(seen, "ECONNREFUSED");
}

/// Passive FTP: the client has found the server at localhost or the host address,
/// and goes there for the data; the server listens at the address that its end of
/// the connection has, which is V.
#[test]
fn a_listener_on_v_with_a_port_of_the_kernels_is_where_its_server_was_found() {
    let lab = Lab::new();
    for (session, other, v, asked) in [
        (1, 2, V1.to_owned(), "127.0.0.1".to_owned()),
        (1, 2, V1.to_owned(), P.to_owned()),
        (2, 1, format!("[{PRIVATE2}]"), "[::1]".to_owned()),
    ] {
        let endpoint = format!("{v}:0");
        let server = lab.start(In::Session(session), PERSON, move |talk| {
            let listener = bind("tcp", &endpoint).unwrap();
            talk.say(&local(&listener));
            loop {
                accepted(&listener);
            }
        });
        let bound = server.line();
        let (_, port) = bound.rsplit_once(':').unwrap();
        let to = format!("{asked}:{port}");
        let seen = lab.run(In::Session(session), PERSON, || dial("tcp", &to));
        assert_eq!(seen, format!("{to} as {v}"));
        let seen = lab.run(In::Session(other), PERSON, || dial("tcp", &to));
        assert_eq!(seen, "ECONNREFUSED", "it is another session's");
    }
}

#[test]
fn a_datagrams_answer_comes_from_whom_it_asked() {
    let lab = Lab::new();
    let own = udp_server(&lab, In::Session(1), "0.0.0.0:9106");
    let dual = udp_server(&lab, In::Session(1), "[::]:9107");
    let host = udp_server(&lab, In::Outside, "127.0.0.1:9108");
    let client = lab.start(In::Session(1), PERSON, |talk| {
        let fd = socket("udp", "0.0.0.0:0");
        // One socket, several targets, among them V under its own name.
        for to in [
            "127.0.0.1:9106",
            "127.0.0.1:9107",
            "127.0.0.1:9108",
            "127.0.0.1:9106",
            "10.77.0.101:9106",
            "10.77.0.1:9107",
        ] {
            talk.say(&ask(&fd, to));
        }
        let mapped = socket("udp", "[::]:0");
        talk.say(&ask(&mapped, "[::ffff:127.0.0.1]:9106"));
        let connected = socket("udp", "127.0.0.1:0");
        connect(&connected, "127.0.0.1:9106").unwrap();
        send(connected.as_raw_fd(), b"?", MsgFlags::empty()).unwrap();
        recv(connected.as_raw_fd(), &mut [0; 8], MsgFlags::empty()).unwrap();
        peer(&connected)
    });
    for asked in [
        "127.0.0.1:9106",
        "127.0.0.1:9107",
        "127.0.0.1:9108",
        "127.0.0.1:9106",
        "10.77.0.101:9106",
        "10.77.0.1:9107",
        "[::ffff:127.0.0.1]:9106",
        "127.0.0.1:9106",
    ] {
        assert_eq!(client.line(), asked);
    }
    assert_eq!(own.line(), format!("from {V1}"));
    assert_eq!(dual.line(), format!("from [::ffff:{V1}]"));
    assert_eq!(host.line(), "from 127.0.0.1", "a host service sees localhost");
}

#[test]
fn the_host_address_is_the_sessions_own_server_first() {
    let lab = Lab::new();
    let host = tcp_server(&lab, In::Outside, "10.77.0.1:9109");
    let own = tcp_server(&lab, In::Session(1), "0.0.0.0:9109");
    let at_p = format!("{P}:9109");
    let seen = lab.run(In::Session(1), PERSON, || dial("tcp", &at_p));
    assert_eq!(seen, format!("{at_p} as {V1}"));
    assert_eq!(own.line(), format!("{V1}:9109 from {V1}"));
    let seen = lab.run(In::Session(2), PERSON, || dial("tcp", &at_p));
    assert_eq!(seen, format!("{at_p} as {P}"));
    assert_eq!(host.line(), format!("{P}:9109 from {P}"));
}

#[test]
fn a_sessions_address_is_reached_from_ones_own() {
    let lab = Lab::new();
    let tcp = tcp_server(&lab, In::Session(1), "0.0.0.0:9110");
    let udp = udp_server(&lab, In::Session(1), "0.0.0.0:9110");
    let to = format!("{V1}:9110");
    for (place, from) in [(In::Session(2), V2), (In::Session(1), V1), (In::Outside, P)] {
        let seen = lab.run(place, PERSON, || dial("tcp", &to));
        assert_eq!(seen, format!("{to} as {from}"));
        assert_eq!(tcp.line(), format!("{V1}:9110 from {from}"));
        let seen = lab.run(place, PERSON, || ask(&socket("udp", "0.0.0.0:0"), &to));
        assert_eq!(seen, to);
        assert_eq!(udp.line(), format!("from {from}"));
    }
    let mapped = format!("[::ffff:{V1}]:9110");
    let seen = lab.run(In::Session(2), PERSON, || dial("tcp", &mapped));
    assert_eq!(seen, format!("{mapped} as [::ffff:{V2}]"));
}

#[test]
fn a_source_of_ones_own_choice_is_kept() {
    let lab = Lab::new();
    let server = tcp_server(&lab, In::Session(1), "0.0.0.0:9111");
    lab.run(In::Session(2), PERSON, || {
        let fd = socket("tcp", "0.0.0.0:0");
        bind_fd(&fd, "10.88.0.1:0").unwrap();
        format!("{:?}", connect(&fd, "10.77.0.101:9111"))
    });
    assert_eq!(server.line(), format!("{V1}:9111 from 10.88.0.1"));
}

#[test]
fn an_unlisted_program_finds_a_moved_server() {
    let mut lab = Lab::new();
    let server = tcp_server(&lab, In::Session(1), "0.0.0.0:9112");
    lab.policy(|policy| policy.programs.clear());
    lab.run(In::Session(1), PERSON, || dial("tcp", "127.0.0.1:9112"));
    assert_eq!(server.line(), format!("{V1}:9112 from {V1}"));
    let alone = lab.run(In::Session(1), PERSON, || crate::lab::name(bind("tcp", "0.0.0.0:9113")));
    assert_eq!(alone, "0.0.0.0:9113");
}

#[test]
fn a_gone_listener_leaves_localhost_to_the_host() {
    let lab = Lab::new();
    drop(udp_server(&lab, In::Session(1), "0.0.0.0:9114"));
    let own = udp_server(&lab, In::Session(1), "0.0.0.0:9115");
    let client = lab.start(In::Session(1), PERSON, |talk| {
        let fd = socket("udp", "0.0.0.0:0");
        talk.say(&ask(&fd, "127.0.0.1:9115"));
        talk.wait();
        ask(&fd, "127.0.0.1:9115")
    });
    assert_eq!(client.line(), "127.0.0.1:9115");
    drop(own);
    let host = udp_server(&lab, In::Outside, "127.0.0.1:9115");
    client.go_on();
    assert_eq!(client.line(), "127.0.0.1:9115");
    assert_eq!(host.line(), "from 127.0.0.1");
}
