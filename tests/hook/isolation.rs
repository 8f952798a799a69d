//! Who may use which address? Rows O5 and I5 of DESIGN.md, and refused binds.

use crate::lab::{
    FREE, In, Lab, P, PERSON, PRIVATE1, PRIVATE2, SERVICE, V1, V1_6, V2, bind, bind_fd, connect,
    name, socket, storage,
};
use nix::sys::socket::{
    ControlMessage, MsgFlags, SockaddrStorage, recvfrom, sendmsg, setsockopt, sockopt,
};
use nix::sys::time::TimeVal;
use std::io::IoSlice;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

fn bound(lab: &Lab, place: In, uid: u32, address: &str) -> String {
    let tcp = lab.run(place, uid, || name(bind("tcp", address)));
    let udp = lab.run(place, uid, || name(bind("udp", address)));
    assert_eq!(tcp, udp, "both protocols alike: {address}");
    tcp
}

#[test]
fn another_sessions_address_is_refused() {
    let mut lab = Lab::new();
    // The list has no say in this.
    lab.policy(|policy| policy.programs.clear());
    for place in [In::Session(2), In::Outside] {
        for address in [
            format!("{V1}:9200"),
            format!("[::ffff:{V1}]:9200"),
            format!("[{V1_6}]:9200"),
            format!("[{PRIVATE1}]:9200"),
            format!("{V1}:0"),
        ] {
            assert_eq!(bound(&lab, place, PERSON, &address), "EACCES", "{address} in {place:?}");
        }
    }
    for (place, uid, address) in [
        (In::Session(1), PERSON, format!("{V1}:9200")),
        (In::Session(1), PERSON, format!("[{V1_6}]:9200")),
        (In::Session(2), PERSON, format!("[{PRIVATE2}]:9200")),
        (In::Session(2), 0, format!("{V1}:9200")),
        (In::Outside, 0, format!("{V2}:9200")),
        (In::Session(2), PERSON, format!("{P}:9200")),
    ] {
        assert_eq!(bound(&lab, place, uid, &address), address, "in {place:?}");
    }
    assert_eq!(lab.hook().counters().unwrap().refused_binds, 20);
    lab.policy(|policy| policy.sources = false);
    let address = format!("{V1}:9200");
    assert_eq!(bound(&lab, In::Session(2), PERSON, &address), address, "it can be turned off");
}

#[test]
fn nobody_lies_in_wait_for_a_lease() {
    let lab = Lab::new();
    let freebind = |uid| {
        lab.run(In::Session(2), uid, || {
            let fd = socket("tcp", "0.0.0.0:0");
            setsockopt(&fd, sockopt::IpFreebind, &true).unwrap();
            format!("{:?}", bind_fd(&fd, &format!("{FREE}:9201")))
        })
    };
    assert_eq!(freebind(PERSON), "Err(EADDRNOTAVAIL)");
    assert_eq!(freebind(0), "Ok(())");
}

/// Sends a datagram from an address of the sender's choice (ip(7), IP_PKTINFO).
fn send_from(source: &str, to: &str) -> String {
    let fd = socket("udp", to);
    let iov = [IoSlice::new(b"!")];
    let to = Some(storage(to));
    let sent = if let Ok(source) = source.parse::<Ipv4Addr>() {
        let information = libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(source.octets()) },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        let source = [ControlMessage::Ipv4PacketInfo(&information)];
        sendmsg(fd.as_raw_fd(), &iov, &source, MsgFlags::empty(), to.as_ref())
    } else {
        let source: Ipv6Addr = source.parse().unwrap();
        let information = libc::in6_pktinfo {
            ipi6_ifindex: 0,
            ipi6_addr: libc::in6_addr { s6_addr: source.octets() },
        };
        let source = [ControlMessage::Ipv6PacketInfo(&information)];
        sendmsg(fd.as_raw_fd(), &iov, &source, MsgFlags::empty(), to.as_ref())
    };
    format!("{sent:?}")
}

#[test]
fn nothing_leaves_from_another_sessions_address() {
    let mut lab = Lab::new();
    let p = format!("{P}:9202");
    let private2 = format!("[{PRIVATE2}]:9202");
    for (place, uid, source, to, sent) in [
        (In::Session(2), PERSON, V1, &p, "Err(EPERM)"),
        (In::Session(2), SERVICE, V1, &p, "Err(EPERM)"),
        (In::Session(2), PERSON, V1_6, &private2, "Err(EPERM)"),
        (In::Outside, PERSON, V1, &p, "Err(EPERM)"),
        (In::Session(2), PERSON, V2, &p, "Ok(1)"),
        (In::Below(1), PERSON, V1, &p, "Ok(1)"),
        (In::Session(2), 0, V1, &p, "Ok(1)"),
        (In::Session(2), PERSON, P, &p, "Ok(1)"),
        // A host service answers from the address it was asked at.
        (In::Outside, SERVICE, V1, &p, "Ok(1)"),
    ] {
        let is = lab.run(place, uid, || send_from(source, to));
        assert_eq!(is, sent, "from {source} by {uid} in {place:?}");
    }
    assert_eq!(lab.hook().counters().unwrap().foreign_source, 4);
    lab.policy(|policy| policy.sources = false);
    assert_eq!(lab.run(In::Session(2), PERSON, || send_from(V1, &p)), "Ok(1)");
}

/// Binds, says so, waits for word, and says whether a datagram has come.
fn receive(talk: &mut crate::lab::Talk, fd: &OwnedFd) -> String {
    setsockopt(fd, sockopt::ReceiveTimeout, &TimeVal::new(0, 50_000)).unwrap();
    talk.say("bound");
    talk.wait();
    match recvfrom::<SockaddrStorage>(fd.as_raw_fd(), &mut [0; 8]) {
        Ok(_) => "got it".into(),
        Err(errno) => format!("{errno:?}"),
    }
}

fn datagram(lab: &Lab, receiver: In, uid: u32, to: &str) -> String {
    let port = to.rsplit_once(':').unwrap().1;
    let program = lab.start(receiver, uid, |talk| {
        let fd = bind("udp", &format!("0.0.0.0:{port}")).unwrap();
        receive(talk, &fd)
    });
    assert_eq!(program.line(), "bound");
    lab.run(In::Outside, 0, || send_from("0.0.0.0", to));
    program.go_on();
    program.line()
}

#[test]
fn another_sessions_wildcard_listener_gets_nothing() {
    let mut lab = Lab::new();
    lab.policy(|policy| policy.programs.clear());
    let v1 = format!("{V1}:9203");
    assert_eq!(datagram(&lab, In::Session(2), PERSON, &v1), "EAGAIN");
    assert_eq!(lab.hook().counters().unwrap().foreign_listener, 1);
    assert_eq!(datagram(&lab, In::Session(1), PERSON, &v1), "got it");
    assert_eq!(datagram(&lab, In::Outside, PERSON, &v1), "got it", "a host service");
    assert_eq!(datagram(&lab, In::Session(2), 0, &v1), "got it", "root");
    assert_eq!(datagram(&lab, In::Session(2), PERSON, &format!("{P}:9203")), "got it");
    let server = lab.start(In::Session(2), PERSON, |talk| {
        let _listener = bind("tcp", "0.0.0.0:9204").unwrap();
        talk.say("bound");
        talk.wait();
        String::new()
    });
    server.line();
    let dial = || {
        lab.run(In::Outside, PERSON, || {
            let fd = socket("tcp", "0.0.0.0:0");
            setsockopt(&fd, sockopt::SendTimeout, &TimeVal::new(0, 100_000)).unwrap();
            format!("{:?}", connect(&fd, "10.77.0.101:9204"))
        })
    };
    assert_eq!(dial(), "Err(EINPROGRESS)", "the SYN is dropped");
    lab.policy(|policy| {
        policy.programs.clear();
        policy.listeners = false;
        policy.sources = false;
    });
    assert_eq!(datagram(&lab, In::Session(2), PERSON, &v1), "got it", "it can be turned off");
}

#[test]
fn a_host_service_answers_at_a_sessions_address() {
    let lab = Lab::new();
    let server = lab.start(In::Outside, PERSON, |talk| {
        let listener = bind("tcp", "0.0.0.0:9205").unwrap();
        talk.say("bound");
        talk.wait();
        drop(listener);
        String::new()
    });
    server.line();
    let answer = lab.run(In::Session(1), PERSON, || {
        format!("{:?}", connect(&socket("tcp", "0.0.0.0:0"), "10.77.0.102:9205"))
    });
    assert_eq!(answer, "Ok(())");
}
