//! Whose socket is this? Asked of the real kernel about real programs, each test
//! in a network namespace and sessions of its own, with the companion hook in
//! place unless it says otherwise. Needs root, a cgroup v2 mount, iproute2 and
//! python3.

#![cfg(target_os = "linux")]

mod lists;
mod scripts;
mod world;

use sessionip::owner::linux::diag::{Family, State, States};
use sessionip::owner::{Bound, Sockets};
use sessionip::packet::{Endpoint, Protocol};
use sessionip::session::SessionId;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;
use world::{Program, World, endpoint};

const TCP: Protocol = Protocol::Tcp;
const UDP: Protocol = Protocol::Udp;
const ONE: Option<SessionId> = Some(SessionId(1));
const TWO: Option<SessionId> = Some(SessionId(2));

#[test]
fn a_connecting_socket_has_its_owner() {
    let mut world = World::new();
    let mut program = world
        .program(1, "s = socket(); s.setblocking(False); s.connect_ex(('10.88.0.2', 9)); tell(s)");
    let (local, remote) = (program.endpoint(), endpoint("10.88.0.2:9"));
    assert_eq!(world.find(TCP, local, remote).state, State::SYN_SENT);
    assert_eq!(world.owner(TCP, local, remote), Some((ONE, program.pid())));
}

#[test]
fn an_accepted_socket_is_its_listeners() {
    let mut world = World::new();
    let mut server = world.program(
        1,
        "l = socket(); l.bind(('0.0.0.0', 9000)); l.listen(); tell(l); \
         a, _ = l.accept(); tell(a)",
    );
    server.endpoint();
    let mut client = world.program(2, "c = create_connection(('10.88.0.1', 9000)); tell(c)");
    let (near, far) = (client.endpoint(), server.endpoint());
    assert_eq!(world.owner(TCP, far, near), Some((ONE, server.pid())));
    assert_eq!(world.owner(TCP, near, far), Some((TWO, client.pid())));

    assert_eq!(world.receiver(TCP, far, near), Some((Bound::Address, ONE, server.pid())));
    let stranger = endpoint("10.88.0.2:40000");
    assert_eq!(world.receiver(TCP, far, stranger), Some((Bound::Wildcard, ONE, server.pid())));
    assert_eq!(world.receiver(TCP, endpoint("10.88.0.1:9001"), stranger), None);
}

#[test]
fn a_connection_that_nobody_has_accepted_yet_is_its_listeners() {
    let mut world = World::new();
    let mut server =
        world.program(1, "l = socket(); l.bind(('10.88.0.1', 9000)); l.listen(); tell(l)");
    let listening = server.endpoint();
    let mut client = world.program(2, "c = create_connection(('10.88.0.1', 9000)); tell(c)");
    let near = client.endpoint();
    assert_eq!(world.find(TCP, listening, near).inode, 0);
    assert_eq!(world.owner(TCP, listening, near), Some((ONE, server.pid())));
}

#[test]
fn a_connection_outlives_its_listener_and_is_nobodys_after_its_end() {
    let mut world = World::new();
    let mut server = world.program(
        1,
        "l = socket(); l.bind(('0.0.0.0', 9000)); l.listen(); tell(l); \
         a, _ = l.accept(); l.close(); tell(a); wait(); a.close(); print()",
    );
    server.endpoint();
    let mut client = world.program(
        2,
        "c = create_connection(('10.88.0.1', 9000)); tell(c); wait(); c.close(); print()",
    );
    let (near, far) = (client.endpoint(), server.endpoint());
    assert_eq!(world.owner(TCP, far, near), Some((ONE, server.pid())));
    for program in [&mut server, &mut client] {
        program.go_on();
        program.line();
    }
    let left = world.find(TCP, far, near);
    assert_eq!((left.state, left.cgroup), (State::TIME_WAIT, 0));
    assert_eq!(world.owner(TCP, far, near), None);
    assert_eq!(world.receiver(TCP, far, near), None);
}

#[test]
fn udp_sockets_are_found_connected_or_not() {
    let mut world = World::new();
    let mut free = world.program(1, "s = socket(AF_INET, SOCK_DGRAM); s.bind(('', 5000)); tell(s)");
    free.endpoint();
    let mut tied =
        world.program(2, "s = socket(AF_INET, SOCK_DGRAM); s.connect(('10.88.0.2', 53)); tell(s)");
    let (local, remote) = (tied.endpoint(), endpoint("10.88.0.2:53"));
    assert_eq!(world.owner(UDP, local, remote), Some((TWO, tied.pid())));
    assert_eq!(world.receiver(UDP, local, remote), Some((Bound::Address, TWO, tied.pid())));
    assert_eq!(world.receiver(UDP, local, endpoint("10.88.0.3:53")), None);

    let here = endpoint("10.88.0.1:5000");
    assert_eq!(world.owner(UDP, here, remote), Some((ONE, free.pid())));
    assert_eq!(world.receiver(UDP, here, remote), Some((Bound::Wildcard, ONE, free.pid())));
}

#[test]
fn ipv6_is_found_and_dual_stack_by_both() {
    let mut world = World::new();
    let v6 = |port, only| {
        format!(
            "l = socket(AF_INET6); l.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, {only}); \
             l.bind(('::', {port})); l.listen(); tell(l)"
        )
    };
    let mut dual = world.program(1, &v6(9000, 0));
    let mut only = world.program(2, &v6(9001, 1));
    dual.endpoint();
    only.endpoint();
    let mut mapped = world.program(
        1,
        "l = socket(AF_INET6); l.bind(('::ffff:10.88.0.1', 9002)); l.listen(); tell(l)",
    );
    assert_eq!(mapped.endpoint(), endpoint("10.88.0.1:9002"));

    let (v4, v6) = (endpoint("10.88.0.2:40000"), endpoint("[fd88::2]:40000"));
    let wildcard = |session, program: &Program| Some((Bound::Wildcard, session, program.pid()));
    assert_eq!(world.receiver(TCP, endpoint("10.88.0.1:9000"), v4), wildcard(ONE, &dual));
    assert_eq!(world.receiver(TCP, endpoint("[fd88::1]:9000"), v6), wildcard(ONE, &dual));
    assert_eq!(world.receiver(TCP, endpoint("10.88.0.1:9001"), v4), None, "V6ONLY");
    assert_eq!(world.receiver(TCP, endpoint("[fd88::1]:9001"), v6), wildcard(TWO, &only));
    let exact = Some((Bound::Address, ONE, mapped.pid()));
    assert_eq!(world.receiver(TCP, endpoint("10.88.0.1:9002"), v4), exact);

    let sockets = world.diag.list(TCP, Family::Ipv6, States::only(State::LISTEN), None).unwrap();
    let flags: HashMap<_, _> = sockets.iter().map(|s| (s.bound.port, s.v6only)).collect();
    assert_eq!(flags, HashMap::from([(9000, false), (9001, true), (9002, false)]));
}

#[test]
fn an_exact_address_goes_before_the_wildcard() {
    let mut world = World::new();
    let bind = |address| {
        format!(
            "s = socket(AF_INET, SOCK_DGRAM); s.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1); \
             s.bind(('{address}', 5000)); tell(s)"
        )
    };
    let mut any = world.program(1, &bind("0.0.0.0"));
    let mut exact = world.program(2, &bind("10.88.0.1"));
    any.endpoint();
    let (local, remote) = (exact.endpoint(), endpoint("10.88.0.2:53"));
    assert_eq!(world.receiver(UDP, local, remote), Some((Bound::Address, TWO, exact.pid())));
    let other = endpoint("127.0.0.1:5000");
    assert_eq!(world.receiver(UDP, other, remote), Some((Bound::Wildcard, ONE, any.pid())));
}

#[test]
fn a_socket_tied_to_the_pools_interface_is_found() {
    let mut world = World::new();
    let mut program = world.program(
        1,
        "s = socket(AF_INET, SOCK_DGRAM); s.setsockopt(SOL_SOCKET, SO_BINDTODEVICE, b'nic'); \
         s.bind(('', 5000)); tell(s)",
    );
    program.endpoint();
    let (local, remote) = (endpoint("10.88.0.1:5000"), endpoint("10.88.0.2:53"));
    assert_eq!(world.owner(UDP, local, remote), Some((ONE, program.pid())));
    assert_eq!(world.diag.find(UDP, local, remote, 0).unwrap(), None);
}

#[test]
fn a_nested_cgroup_is_of_its_session_and_others_are_of_none() {
    let mut world = World::new();
    fs::create_dir_all(world.scope(1).join("app/inner")).unwrap();
    let bind =
        |port| format!("s = socket(AF_INET, SOCK_DGRAM); s.bind(('10.88.0.1', {port})); tell(s)");
    let mut inner = world.program_in(&world.scope(1).join("app/inner"), &bind(5000));
    let mut outer = world.program_in(&world.scope(1).join(".."), &bind(5001));
    let remote = endpoint("10.88.0.2:53");
    let (inside, outside) = (inner.endpoint(), outer.endpoint());
    assert_eq!(world.owner(UDP, inside, remote), Some((ONE, inner.pid())));
    assert_eq!(world.owner(UDP, outside, remote), Some((None, outer.pid())));
}

#[test]
fn a_socket_that_was_passed_on_keeps_its_session() {
    let mut world = World::new();
    let path = world.scope(1).file_name().unwrap().to_string_lossy().into_owned();
    let name = format!("{path}-{}", std::process::id());
    let mut taker = world.program(
        2,
        &format!(
            "u = socket(AF_UNIX, SOCK_DGRAM); u.bind('\\0{name}'); print(); \
             _, fds, _, _ = recv_fds(u, 1, 1); s = fromfd(fds[0], AF_INET, SOCK_DGRAM); tell(s)"
        ),
    );
    taker.line();
    let mut giver = world.program(
        1,
        &format!(
            "s = socket(AF_INET, SOCK_DGRAM); s.bind(('10.88.0.1', 0)); tell(s); wait(); \
             u = socket(AF_UNIX, SOCK_DGRAM); u.connect('\\0{name}'); \
             send_fds(u, [b'x'], [s.fileno()])"
        ),
    );
    let local = giver.endpoint();
    giver.go_on();
    assert_eq!(taker.endpoint(), local);
    let pid = giver.pid();
    drop(giver);
    assert_eq!(world.owner(UDP, local, endpoint("10.88.0.2:53")), Some((ONE, pid)));
}

#[test]
fn a_fork_shares_the_socket_of_its_parent() {
    let mut world = World::new();
    let mut program = world.program(
        1,
        "s = socket(AF_INET, SOCK_DGRAM); s.bind(('10.88.0.1', 0)); import os; os.fork(); tell(s)",
    );
    let local = program.endpoint();
    assert_eq!(program.endpoint(), local);
    let owner = world.owner(UDP, local, endpoint("10.88.0.2:53"));
    assert_eq!(owner, Some((ONE, program.pid())), "the parent comes first");
}

#[test]
fn a_socket_older_than_the_hook_has_its_program() {
    let mut world = World::without_hook();
    let mut program =
        world.program(1, "s = socket(AF_INET, SOCK_DGRAM); s.bind(('10.88.0.1', 0)); tell(s)");
    let (local, remote) = (program.endpoint(), endpoint("10.88.0.2:53"));
    for hook in [false, true] {
        if hook {
            world.load_hook();
        }
        world.learn(1);
        let owner = world.sockets.owner(UDP, local, remote).unwrap();
        assert_eq!((owner.session, owner.pid), (ONE, program.pid()));
        assert!(owner.program.name().starts_with("python3"), "{owner:?}");
        let metadata = fs::metadata(&owner.program.path).unwrap();
        assert_eq!(owner.program.file.1, metadata.ino());
    }
}

#[test]
fn a_socket_that_nobody_recorded_is_searched_for() {
    let mut world = World::without_hook();
    let bind = "s = socket(AF_INET, SOCK_DGRAM); s.bind(('10.88.0.1', 0)); tell(s)";
    let remote = endpoint("10.88.0.2:53");
    let mut first = world.program(1, bind);
    let local = first.endpoint();
    assert_eq!(world.owner(UDP, local, remote), Some((ONE, first.pid())));
    let mut second = world.program(1, bind);
    let local = second.endpoint();
    assert_eq!(world.sockets.owner(UDP, local, remote), None, "the session rests");
    let there = world.sockets.receiver(UDP, local, remote).unwrap();
    assert_eq!((there.bound, there.owner.session), (Bound::Address, ONE));
    assert_eq!(world.owner(UDP, local, remote), Some((ONE, second.pid())));
}

#[test]
fn a_socket_that_was_closed_a_moment_ago_has_its_owner() {
    let mut world = World::new();
    let remote = endpoint("10.88.0.2:53");
    let send = "s = socket(AF_INET, SOCK_DGRAM); s.sendto(b'x', ('10.88.0.2', 53)); tell(s); \
                s.close(); print(); wait()";
    let mut program = world.program(1, send);
    let local = Endpoint { address: [10, 88, 0, 1].into(), ..program.endpoint() };
    program.line();
    let owner = world.sockets.owner(UDP, local, remote).expect("drained on the miss");
    assert_eq!((owner.session, owner.pid), (ONE, program.pid()));
    assert!(owner.program.path.starts_with('/'), "{owner:?}");

    let mut gone = world.program(2, send);
    let local = Endpoint { address: [10, 88, 0, 1].into(), ..gone.endpoint() };
    gone.line();
    let pid = gone.pid();
    drop(gone);
    world.pass(Duration::ZERO);
    let owner = world.sockets.owner(UDP, local, remote).expect("drained in time");
    assert_eq!((owner.session, owner.pid), (TWO, pid));
    assert!(owner.program.path.starts_with("python3"), "only its name is left: {owner:?}");
    world.pass(Duration::from_secs(6));
    assert_eq!(world.owner(UDP, local, remote), None, "forgotten");
}

#[test]
fn the_listing_has_what_takes_packets_of_sessions() {
    let mut world = World::new();
    let listen = |port| format!("l = socket(); l.bind(('', {port})); l.listen(); tell(l)");
    let mut web = world.program(2, &listen(9000));
    let mut dns = world.program(1, "s = socket(AF_INET, SOCK_DGRAM); s.bind(('', 53)); tell(s)");
    let mut not_a_session = world.program_in(&world.scope(1).join(".."), &listen(80));
    let mut client =
        world.program(2, "s = socket(AF_INET, SOCK_DGRAM); s.connect(('10.88.0.2', 53)); tell(s)");
    let (web_at, dns_at) = (web.endpoint(), dns.endpoint());
    assert_eq!(web_at, endpoint("10.88.0.102:9000"), "moved to the session's address");
    not_a_session.endpoint();
    client.endpoint();

    let moved = world.hook.as_ref().unwrap().moved().unwrap();
    let rows = world.sockets.listing(&moved).unwrap();
    let rows: Vec<_> =
        rows.iter().map(|r| (r.protocol, r.asked, r.bound, Some(r.session), r.pid)).collect();
    let expected = [
        (UDP, dns_at, dns_at, ONE, dns.pid()),
        (TCP, endpoint("0.0.0.0:9000"), web_at, TWO, web.pid()),
    ];
    assert_eq!(rows, expected);
}
