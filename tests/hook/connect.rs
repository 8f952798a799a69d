//! Which source does a conversation with another host get? `scope = "connect"`.
//!
//! Nobody answers here: the kernel gives a source before a packet leaves.

use crate::lab::{
    In, Lab, OTHER_NIC, P, PERSON, V1, V1_6, V2, bind_fd, connect, ip, local, policy, socket,
    storage,
};
use ipnet::IpNet;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{MsgFlags, SockaddrStorage, recvfrom, sendto, setsockopt, sockopt};
use sessionip::address::Leading;
use sessionip::config::{Exclusion, ProgramPattern};
use sessionip::packet::Protocol;
use std::os::fd::{AsRawFd, OwnedFd};

/// Another host on the pool's NIC, and on the other one.
const NEAR: &str = "10.77.0.2:7000";
const NEAR_6: &str = "[fd77::2]:7000";
const ELSEWHERE: &str = "10.88.0.2:7000";

fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.policy(|policy| policy.connect = true);
    let leading = |net: &str, over| Leading { net: net.parse::<IpNet>().unwrap(), over };
    let routes = [
        leading("10.77.0.0/24", true),
        leading("10.77.0.255/32", false),
        leading("10.77.0.64/26", false),
        leading("fd77::/64", true),
    ];
    lab.hook().set_leading(&routes).unwrap();
    lab
}

fn address_of(endpoint: &str) -> &str {
    endpoint.rsplit_once(':').unwrap().0
}

/// The source that a socket has after it was told to connect.
fn source_of(fd: &OwnedFd, to: &str) -> String {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).unwrap());
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).unwrap();
    match connect(fd, to) {
        Ok(()) | Err(Errno::EINPROGRESS) => address_of(&local(fd)).to_owned(),
        Err(errno) => format!("{errno:?}"),
    }
}

/// An unbound socket's.
fn source(lab: &Lab, place: In, protocol: &str, to: &str) -> String {
    lab.run(place, PERSON, || source_of(&socket(protocol, to), to))
}

#[track_caller]
fn check(lab: &Lab, place: In, to: &str, expected: &str) {
    for protocol in ["tcp", "udp"] {
        assert_eq!(source(lab, place, protocol, to), expected, "{protocol} {to} {place:?}");
    }
}

#[test]
fn a_connection_over_the_pools_nic_has_the_sessions_source() {
    let lab = lab();
    check(&lab, In::Session(1), NEAR, V1);
    check(&lab, In::Session(2), NEAR, V2);
    check(&lab, In::Below(2), NEAR, V2);
    check(&lab, In::Session(1), NEAR_6, &format!("[{V1_6}]"));
    let mapped = "[::ffff:10.77.0.2]:7000";
    check(&lab, In::Session(1), mapped, &format!("[::ffff:{V1}]"));
    check(&lab, In::Outside, NEAR, P);
}

#[test]
fn what_leads_elsewhere_is_left_alone() {
    let lab = lab();
    check(&lab, In::Session(1), ELSEWHERE, OTHER_NIC);
    check(&lab, In::Session(1), "10.77.0.65:7000", P);
    check(&lab, In::Session(1), &format!("{P}:7000"), P);
    check(&lab, In::Session(1), "127.0.0.1:7000", "127.0.0.1");
    // Session 2 has no IPv6 address: the host's is left.
    check(&lab, In::Session(2), NEAR_6, &format!("[{}]", crate::lab::P6));
    let broadcast = lab.run(In::Session(1), PERSON, || {
        let fd = socket("udp", "0.0.0.0:0");
        setsockopt(&fd, sockopt::Broadcast, &true).unwrap();
        source_of(&fd, "10.77.0.255:7000")
    });
    assert_eq!(broadcast, P);
}

#[test]
fn by_default_no_source_is_chosen() {
    let mut lab = lab();
    lab.hook().set_policy(&policy()).unwrap();
    check(&lab, In::Session(1), NEAR, P);
    let bound = lab.run(In::Session(1), PERSON, || {
        let fd = socket("tcp", NEAR);
        bind_fd(&fd, &format!("{P}:0")).unwrap();
        local(&fd)
    });
    assert_eq!(address_of(&bound), P);
}

#[test]
fn who_is_not_meant_is_left_alone() {
    let mut lab = lab();
    lab.policy(|policy| {
        policy.connect = true;
        policy.programs.clear();
    });
    check(&lab, In::Session(1), NEAR, P);
    lab.policy(|policy| {
        policy.connect = true;
        policy.except.push(ProgramPattern::All);
    });
    check(&lab, In::Session(1), NEAR, P);
    lab.policy(|policy| {
        policy.connect = true;
        policy.enabled = false;
    });
    check(&lab, In::Session(1), NEAR, P);
}

#[test]
fn local_ports_that_are_left_alone_keep_their_source() {
    let mut lab = lab();
    lab.policy(|policy| policy.enabled = false);
    // Nothing moves them: they were there before.
    let client = |protocol: &'static str, port: u16| {
        let client = lab.start(In::Session(1), PERSON, move |talk| {
            let fd = socket(protocol, NEAR);
            bind_fd(&fd, &format!("0.0.0.0:{port}")).unwrap();
            talk.say("bound");
            talk.wait();
            source_of(&fd, NEAR)
        });
        assert_eq!(client.line(), "bound");
        client
    };
    let excluded = client("tcp", 9400);
    let left = client("udp", 9401);
    let others = [client("udp", 9400), client("tcp", 9401)];
    lab.policy(|policy| {
        policy.connect = true;
        policy.exclude.push(Exclusion { program: None, protocol: Protocol::Tcp, port: 9400 });
        policy.exclude_ports.push((Protocol::Udp, 9401));
    });
    for (client, source) in [(&excluded, P), (&left, P), (&others[0], V1), (&others[1], V1)] {
        client.go_on();
        assert_eq!(client.line(), source);
    }
}

#[test]
fn a_host_address_without_a_port_is_the_sessions() {
    let lab = lab();
    let bound = |address: &'static str| {
        lab.run(In::Session(1), PERSON, move || {
            let fd = socket("tcp", address);
            bind_fd(&fd, address).unwrap();
            let name = local(&fd);
            assert!(!name.ends_with(":0"), "the kernel chose a port: {name}");
            address_of(&name).to_owned()
        })
    };
    assert_eq!(bound("10.77.0.1:0"), V1);
    assert_eq!(bound("[::ffff:10.77.0.1]:0"), format!("[::ffff:{V1}]"));
    assert_eq!(bound("10.88.0.1:0"), OTHER_NIC);
    assert_eq!(bound("0.0.0.0:0"), "0.0.0.0");
    assert_eq!(bound("127.0.0.1:0"), "127.0.0.1");
    assert_eq!(bound("10.77.0.101:0"), V1);
}

/// It had a port before it connected, and then the kernel chooses its source: the
/// packet engine rewrites what leaves, and the name is the wire's all the same.
#[test]
fn a_socket_with_a_port_is_told_what_the_wire_says() {
    let lab = lab();
    for protocol in ["tcp", "udp"] {
        let names = lab.run(In::Session(1), PERSON, move || {
            let fd = socket(protocol, NEAR);
            bind_fd(&fd, "0.0.0.0:0").unwrap();
            let bound = local(&fd);
            let connected = source_of(&fd, NEAR);
            let port = local(&fd).rsplit_once(':').unwrap().1.to_owned();
            assert_eq!(bound, format!("0.0.0.0:{port}"));
            connected
        });
        assert_eq!(names, V1, "{protocol}");
    }
    let elsewhere = lab.run(In::Session(1), PERSON, || {
        let fd = socket("udp", NEAR);
        bind_fd(&fd, "0.0.0.0:0").unwrap();
        [source_of(&fd, NEAR), source_of(&fd, ELSEWHERE), source_of(&fd, "127.0.0.1:7000")]
            .join(" ")
    });
    // Linux keeps a UDP socket's first source.
    assert_eq!(elsewhere, format!("{V1} {P} {P}"));
}

#[test]
fn options_of_a_bind_do_not_matter() {
    let lab = lab();
    let source = lab.run(In::Session(1), PERSON, || {
        let fd = socket("tcp", NEAR);
        setsockopt(&fd, sockopt::IpBindAddressNoPort, &true).unwrap();
        bind_fd(&fd, "0.0.0.0:0").unwrap();
        source_of(&fd, NEAR)
    });
    assert_eq!(source, V1);
    let source = lab.run(In::Session(1), PERSON, || {
        let fd = socket("tcp", NEAR);
        bind_fd(&fd, &format!("{OTHER_NIC}:0")).unwrap();
        source_of(&fd, NEAR)
    });
    assert_eq!(source, OTHER_NIC, "a source of one's own choice is kept");
}

#[test]
fn a_socket_that_is_bound_to_a_device_is_left_alone() {
    let lab = lab();
    let source = lab.run(In::Session(1), 0, || {
        let fd = socket("udp", NEAR);
        setsockopt(&fd, sockopt::BindToDevice, &"pool".into()).unwrap();
        source_of(&fd, NEAR)
    });
    assert_eq!(source, P);
}

/// Datagrams of a socket that talks to several: what each receiver sees. The
/// receivers are on this host, at addresses that routes say are others'.
#[test]
fn datagrams_have_the_source_that_their_way_has() {
    let lab = lab();
    ip("link set lo up");
    for address in ["10.77.0.2/32", "10.88.0.2/32", "10.77.0.65/32"] {
        ip(&format!("address add {address} dev lo"));
    }
    let receiver = |address: &'static str| {
        let program = lab.start(In::Outside, PERSON, move |talk| {
            let fd = crate::lab::bind("udp", address).unwrap();
            talk.say("ready");
            loop {
                let from = recvfrom::<SockaddrStorage>(fd.as_raw_fd(), &mut [0; 8]).unwrap().1;
                talk.say(address_of(&crate::lab::text(&from.unwrap())));
            }
        });
        assert_eq!(program.line(), "ready");
        program
    };
    let (near, other, elsewhere) =
        (receiver(NEAR), receiver("10.77.0.65:7000"), receiver(ELSEWHERE));
    let send_to_all = |bound: &'static str| {
        lab.run(In::Session(1), PERSON, move || {
            let fd = socket("udp", NEAR);
            if !bound.is_empty() {
                bind_fd(&fd, bound).unwrap();
            }
            for to in [NEAR, "10.77.0.65:7000", ELSEWHERE, NEAR] {
                sendto(fd.as_raw_fd(), b"?", &storage(to), MsgFlags::empty()).unwrap();
            }
            address_of(&local(&fd)).to_owned()
        })
    };
    for bound in ["", "0.0.0.0:0"] {
        assert_eq!(send_to_all(bound), "0.0.0.0");
        assert_eq!([near.line(), near.line()], [V1, V1]);
        assert_ne!(other.line(), V1);
        assert_ne!(elsewhere.line(), V1);
    }
}

/// A server that nothing moved answers from the address that was asked.
#[test]
fn a_wildcard_server_of_before_is_left_alone() {
    let mut lab = lab();
    ip("address add 10.77.0.2/32 dev lo");
    lab.policy(|policy| policy.enabled = false);
    let server = lab.start(In::Session(1), PERSON, |talk| {
        let fd = crate::lab::bind("udp", "0.0.0.0:9410").unwrap();
        talk.say(&local(&fd));
        talk.wait();
        sendto(fd.as_raw_fd(), b"?", &storage(NEAR), MsgFlags::empty()).unwrap();
        String::new()
    });
    assert_eq!(server.line(), "0.0.0.0:9410");
    lab.policy(|policy| policy.connect = true);
    let client = lab.start(In::Outside, PERSON, |talk| {
        let fd = crate::lab::bind("udp", NEAR).unwrap();
        talk.say("ready");
        let from = recvfrom::<SockaddrStorage>(fd.as_raw_fd(), &mut [0; 8]).unwrap().1;
        address_of(&crate::lab::text(&from.unwrap())).to_owned()
    });
    assert_eq!(client.line(), "ready");
    server.go_on();
    assert_ne!(client.line(), V1);
}

/// A socket keeps the session that it was made in.
#[test]
fn a_socket_of_another_session_is_left_alone() {
    let lab = lab();
    let moved = lab.cgroup_folder(In::Session(2));
    let source = lab.run(In::Session(1), 0, move || {
        let fd = socket("tcp", NEAR);
        std::fs::write(moved.join("cgroup.procs"), "0").unwrap();
        let own = socket("tcp", NEAR);
        format!("{} {}", source_of(&fd, NEAR), source_of(&own, NEAR))
    });
    assert_eq!(source, format!("{P} {V2}"));
}
