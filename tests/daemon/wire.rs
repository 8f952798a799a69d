//! What TCP, UDP and IP do on a wire, and a translated conversation has to as well:
//! real kernels, a router with a smaller link behind it, real options.

use crate::actor::{Actor, PYTHON};
use crate::world::{ANA, BEN, World, now};
use sessionip::lab::network::{FAR, FAR_FOR_OTHERS, HOST, HOST_LINK, Namespace};
use sessionip::lab::process;
use std::net::Ipv4Addr;
use std::time::Duration;

/// A host behind the far side, which forwards packets of 1200 bytes at the most.
const BEHIND: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 2);
/// What is sent each way where bytes are compared.
const BULK: usize = 32 << 20;

/// Ports whose binds the hook leaves alone: their packets are translated.
const UNMOVED: &str = "[hook]\nexclude = ['tcp/6000', 'tcp/6001', 'udp/5000', 'udp/5001']";

/// An actor that takes Python statements.
struct Peer(Actor);

impl Peer {
    fn on(namespace: &Namespace) -> Self {
        Self(Actor::start(namespace, process::command(&script()).arg("elsewhere")))
    }

    fn of(world: &World, session: u32, user: &str) -> Self {
        Self(world.actor_by(session, user, &script()))
    }

    /// Does it; what is in `out` afterwards.
    fn tell(&mut self, statements: &str) -> String {
        let line = serde_json::to_string(statements).unwrap();
        self.0.tell(&line).unwrap_or_else(|error| panic!("{statements}\n{error}"))
    }
}

fn script() -> Vec<String> {
    vec![PYTHON.into(), "-c".into(), include_str!("wire.py").into()]
}

/// One does this while the other does that; what both say.
fn at_once(one: &mut Peer, this: &str, other: &mut Peer, that: &str) -> (String, String) {
    std::thread::scope(|scope| {
        let other = scope.spawn(|| other.tell(that));
        let said = one.tell(this);
        (said, other.join().unwrap())
    })
}

/// `server` listens at `port`; a client connects there and both send `size` bytes.
/// Whom the server sees.
fn exchange(server: &mut Peer, client: &mut Peer, to: impl ToString, size: usize) -> String {
    server.tell("l = listener(7100)");
    let (heard, said) = at_once(
        server,
        &format!("c, who = l.accept(); out = both_ways(c, 1, 2, {size}); l.close()"),
        client,
        &format!(
            "c = tcp(); c.connect(('{}', 7100)); out = both_ways(c, 2, 1, {size})",
            to.to_string()
        ),
    );
    assert_eq!((heard.as_str(), said.as_str()), ("True", "True"));
    server.tell("c.close(); out = who[0]")
}

fn ip(namespace: &Namespace, line: &str) {
    let words: Vec<_> = ["ip"].into_iter().chain(line.split(' ')).collect();
    namespace.output(&mut process::command(&words)).unwrap();
}

/// A third network namespace, routed to by the far side.
fn behind(world: &World) -> Namespace {
    let (host, router) = (&world.network.host, &world.network.client);
    let behind = Namespace::new(format!("{}-behind", host.name())).unwrap();
    let peer = format!("peer name behind netns {}", behind.name());
    ip(router, &format!("link add to-behind type veth {peer}"));
    ip(router, "address add 10.88.0.1/24 dev to-behind");
    ip(router, "link set to-behind up");
    ip(&behind, &format!("address add {BEHIND}/24 dev behind"));
    ip(&behind, "link set behind up");
    // Nobody's own link says so: it has to be told by ICMP, both ways.
    ip(router, "route change 10.88.0.0/24 dev to-behind src 10.88.0.1 mtu lock 1200");
    ip(router, &format!("route change 10.77.0.0/24 dev lab-far src {FAR} mtu lock 1200"));
    ip(&behind, "route add default via 10.88.0.1");
    ip(host, &format!("route add 10.88.0.0/24 via {FAR}"));
    sysctl(router, "ip_forward", "1");
    // Every error is told, however many (icmp(7)).
    sysctl(router, "icmp_ratelimit", "0");
    sysctl(&behind, "icmp_ratelimit", "0");
    behind
}

fn sysctl(namespace: &Namespace, key: &str, value: &str) {
    let path = format!("/proc/sys/net/ipv4/{key}");
    namespace.within(|| std::fs::write(path, value).unwrap()).unwrap();
}

/// O1, X1: bytes of every size of packet, both ways and both directions.
#[test]
fn large_transfers_arrive_whole() {
    let world = World::new(4, "");
    let (mut far, mut ana) = (Peer::on(&world.network.client), Peer::of(&world, 1, ANA));
    let v1 = world.address(1);
    assert_eq!(exchange(&mut far, &mut ana, FAR, BULK), v1.to_string());
    exchange(&mut ana, &mut far, v1, BULK);

    // A train of UDP (UDP_SEGMENT, linux/udp.h) is one datagram for each segment.
    far.tell("u = udp(7200)");
    ana.tell(&format!(
        "u = udp(); u.setsockopt(17, 103, 1400); u.sendto(bulk(3, 14000), ('{FAR}', 7200))"
    ));
    let heard = far.tell(
        "got = [u.recvfrom(65535) for _ in range(10)]\n\
         out = (b''.join(d for d, _ in got) == bulk(3, 14000), {w[0] for _, w in got})",
    );
    assert_eq!(heard, format!("(True, {{'{v1}'}})"));
    // And one datagram in fragments, there and back.
    ana.tell(&format!("u = udp(); u.sendto(bulk(4, 9000), ('{FAR}', 7200))"));
    far.tell("d, w = u.recvfrom(65535); u.sendto(d, w)");
    assert_eq!(ana.tell("out = u.recv(65535) == bulk(4, 9000)"), "True");
}

/// X1: over a link of 1200 bytes, and behind a router whose next link has 1200.
#[test]
fn paths_with_a_smaller_mtu_are_found() {
    let world = World::new(4, "");
    let behind = behind(&world);
    let (mut server, mut ana) = (Peer::on(&behind), Peer::of(&world, 1, ANA));
    let v1 = world.address(1);
    assert_eq!(exchange(&mut server, &mut ana, BEHIND, BULK / 4), v1.to_string());
    let route = world.host(&["ip", "route", "get", &BEHIND.to_string()]);
    assert!(route.contains("mtu 1200"), "the router has told nobody: {route}");
    // The other way round, from an address of the session's own.
    exchange(&mut ana, &mut server, v1, BULK / 4);

    // By UDP with DF (IP_MTU_DISCOVER, IP_PMTUDISC_DO) the program hears of it.
    world.host(&["ip", "route", "flush", "cache"]);
    ana.tell(&format!(
        "u = udp(); u.setsockopt(socket.IPPROTO_IP, 10, 2); u.connect(('{BEHIND}', 7200))"
    ));
    let told = ana.tell(
        "for _ in range(50):\n\
         \x20   out = refusal(lambda: u.send(bytes(1400)))\n\
         \x20   if out == 'Message too long': break\n\
         \x20   time.sleep(0.1)\n\
         out = (out, u.getsockopt(socket.IPPROTO_IP, 14))",
    );
    assert_eq!(told, "('Message too long', 1200)");

    // traceroute hears of each router, by UDP and by ping.
    let mut root = Peer::of(&world, 2, "root");
    for kind in ["-U", "-I"] {
        let said = root.tell(&format!(
            "out = subprocess.run('traceroute -n -w 2 {kind} {BEHIND}'.split(), \
             capture_output=True).stdout.decode().replace('\\n', '|')"
        ));
        assert!(said.contains(&format!(" 1  {FAR} ")), "{said}");
        assert!(said.contains(&format!(" 2  {BEHIND} ")), "{said}");
    }

    // The host's own link, at both ends.
    ip(&world.network.host, &format!("link set {HOST_LINK} mtu 1200"));
    ip(&world.network.client, "link set lab-far mtu 1200");
    let mut far = Peer::on(&world.network.client);
    assert_eq!(exchange(&mut far, &mut ana, FAR, BULK / 4), v1.to_string());
    exchange(&mut ana, &mut far, v1, BULK / 4);
}

/// X1: two sessions, one port inside, one target each.
#[test]
fn an_unreachable_port_is_told_to_the_right_socket() {
    let world = World::new(4, UNMOVED);
    let (mut ana, mut ben) = (Peer::of(&world, 1, ANA), Peer::of(&world, 2, BEN));
    for (peer, to) in [(&mut ana, FAR), (&mut ben, FAR_FOR_OTHERS)] {
        assert_eq!(peer.tell("u = udp(5000); out = u.getsockname()[0]"), "0.0.0.0");
        peer.tell(&format!("u.connect(('{to}', 7999))"));
    }
    let asks = "refusal(lambda: (u.send(b'?'), u.recv(99)))";
    for (one, other) in [(0, 1), (1, 0)] {
        let peers = [&mut ana, &mut ben];
        assert_eq!(peers[one].tell(&format!("out = {asks}")), "Connection refused");
        let error = "out = u.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)";
        let peers = [&mut ana, &mut ben];
        assert_eq!(peers[other].tell(error), "0");
    }
}

/// A UDP checksum of zero is none, and stays none.
#[test]
fn udp_without_a_checksum_stays_without() {
    let world = World::new(4, UNMOVED);
    let (mut far, mut ana) = (Peer::on(&world.network.client), Peer::of(&world, 1, "root"));
    let v1 = world.address(1);
    // SO_NO_CHECK of socket(7), and what is on the wire by packet(7).
    far.tell("w = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))");
    far.tell("u = udp(7200); u.setsockopt(socket.SOL_SOCKET, 11, 1)");
    ana.tell("u = udp(5000); u.setsockopt(socket.SOL_SOCKET, 11, 1)");
    ana.tell(&format!("u.sendto(b'there', ('{FAR}', 7200))"));
    let wire = "for _ in range(99):\n\
                \x20   p = w.recv(65535)\n\
                \x20   if p[9] == 17 and b'there' in p: break\n\
                out = (socket.inet_ntoa(p[12:16]), p[26:28].hex())";
    assert_eq!(far.tell(wire), format!("('{v1}', '0000')"));
    assert_eq!(
        far.tell("d, who = u.recvfrom(99); u.sendto(b'back', who); out = who[0]"),
        v1.to_string()
    );
    assert_eq!(ana.tell("out = u.recv(99)"), "b'back'");
    // Asked at V, where the hook has left the socket at the wildcard (I4).
    far.tell(&format!("u.sendto(b'asks', ('{v1}', 5000))"));
    ana.tell("d, who = u.recvfrom(99); u.sendto(b'there, from where it was asked', who)");
    assert_eq!(far.tell(wire), format!("('{v1}', '0000')"));
    assert_eq!(far.tell("out = u.recvfrom(99)[1]"), format!("('{v1}', 5000)"));
    // At the host address, from where it answers as well (I6). By another port: the
    // same two ends inside are one conversation.
    far.tell(&format!("u = udp(7201); u.sendto(b'asks', ('{HOST}', 5000))"));
    ana.tell("d, who = u.recvfrom(99); u.sendto(b'there', who)");
    assert_eq!(far.tell("out = u.recvfrom(99)[1]"), format!("('{HOST}', 5000)"));
}

/// One end has said all it has to say, and goes on hearing.
#[test]
fn half_closed_connections_go_on() {
    let world = World::new(4, "");
    let (mut far, mut ana) = (Peer::on(&world.network.client), Peer::of(&world, 1, ANA));
    let v1 = world.address(1);
    let closes = "c.shutdown(socket.SHUT_WR); out = receive(c, 9 << 20) == bulk(5, 1 << 20)";
    let goes_on = "out = receive(c, 9 << 20)\n\
                   time.sleep(0.5); c.sendall(bulk(5, 1 << 20)); c.close()";
    for (server, to) in [(false, FAR.to_string()), (true, v1.to_string())] {
        // The session as the client, translated, and as the server.
        for ana_closes in [true, false] {
            let (one, other) = if server { (&mut ana, &mut far) } else { (&mut far, &mut ana) };
            one.tell("l = listener(7300)");
            other.tell(&format!("c = tcp(); c.connect(('{to}', 7300)); c.sendall(b'asks')"));
            one.tell("c, _ = l.accept(); c.recv(4); l.close()");
            let (closing, going_on) =
                if ana_closes { (&mut ana, &mut far) } else { (&mut far, &mut ana) };
            let (whole, rest) = at_once(closing, closes, going_on, goes_on);
            assert_eq!((whole.as_str(), rest.as_str()), ("True", "b''"), "{server} {ana_closes}");
        }
    }
}

/// Both ends ask at once, and have one connection.
#[test]
fn a_simultaneous_open_is_one_connection() {
    let world = World::new(4, UNMOVED);
    let (mut far, mut ana) = (Peer::on(&world.network.client), Peer::of(&world, 1, ANA));
    let v1 = world.address(1);
    // The session's first SYN is lost, and the far side asks meanwhile.
    let lost = "iptables -I INPUT -p tcp --dport 6000 --syn -j DROP";
    let words: Vec<_> = lost.split(' ').collect();
    world.network.client.output(&mut process::command(&words)).unwrap();
    let (said, heard) = at_once(
        &mut ana,
        &format!("c = tcp(6000); c.connect(('{FAR}', 6000)); out = both_ways(c, 1, 2, 1 << 20)"),
        &mut far,
        &format!(
            "time.sleep(0.4); c = tcp(6000, '{FAR}'); c.connect(('{v1}', 6000))\n\
             out = both_ways(c, 2, 1, 1 << 20)"
        ),
    );
    assert_eq!((said.as_str(), heard.as_str()), ("True", "True"));
    let flows = world.json("flows");
    let flow = flows.as_array().unwrap().iter().find(|it| it["protocol"] == "tcp").unwrap();
    assert_eq!(flow["outside"][0], format!("{v1}:6000"), "{flows}");
    assert_eq!(flows.as_array().unwrap().len(), 1, "{flows}");
}

/// A closed port says so at once, and the next attempt may use the same ends.
#[test]
fn a_refused_connection_is_refused_at_once() {
    let world = World::new(4, UNMOVED);
    let mut ana = Peer::of(&world, 1, ANA);
    for _ in 0..3 {
        let began = now();
        let said = ana.tell(&format!(
            "c = tcp(6000); out = refusal(lambda: c.connect(('{FAR}', 7999))); c.close()"
        ));
        assert_eq!(said, "Connection refused");
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
}

/// Data in the SYN (RFC 7413), by a cookie that is for the address on the wire.
#[test]
fn fast_open_works_both_ways() {
    let world = World::new(4, UNMOVED);
    let (mut far, mut ana) = (Peer::on(&world.network.client), Peer::of(&world, 1, ANA));
    let mut ben = Peer::of(&world, 2, BEN);
    for namespace in [&world.network.host, &world.network.client] {
        sysctl(namespace, "tcp_fastopen", "3");
    }
    let (v1, v2) = (world.address(1), world.address(2));
    // TCP_FASTOPEN.
    let listens = "l = listener({}); l.setsockopt(socket.IPPROTO_TCP, 23, 8)";
    let asks = |to: &str| format!("out = fast(('{to}', 6001), b'in the SYN')");
    let answers = "c, who = l.accept(); c.sendall(c.recv(99)); c.close(); out = who[0]";
    far.tell(&listens.replace("{}", "6001"));
    let (slow, fast) = ("(b'in the SYN', False)", "(b'in the SYN', True)");
    // Each session has a cookie of its own to get; the host keeps one for a target.
    for (client, v) in [(&mut ana, v1), (&mut ben, v2)] {
        for wanted in [slow, fast] {
            let (said, who) = at_once(client, &asks(&FAR.to_string()), &mut far, answers);
            assert_eq!((said.as_str(), who), (wanted, v.to_string()));
        }
    }
    far.tell("l.close()");
    // And in, to a listener that the hook has left at the wildcard.
    ana.tell(&listens.replace("{}", "6001"));
    for wanted in [slow, fast] {
        let (said, who) = at_once(&mut far, &asks(&v1.to_string()), &mut ana, answers);
        assert_eq!((said.as_str(), who), (wanted, FAR.to_string()));
    }
}

/// The same four numbers again, while one end still remembers them.
#[test]
fn ports_are_used_again_at_once() {
    let world = World::new(4, UNMOVED);
    let (mut far, mut ana) = (Peer::on(&world.network.client), Peer::of(&world, 1, ANA));
    let v1 = world.address(1);
    sysctl(&world.network.host, "tcp_tw_reuse", "1");
    far.tell("l = listener(7300)");
    let asks =
        format!("c = tcp(6000); c.connect(('{FAR}', 7300)); c.sendall(b'asks'); out = c.recv(9)");
    // Who closes first remembers (TIME_WAIT): the far side, then the session.
    for closes_first in ["far", "far", "ana", "ana"] {
        let (said, who) = at_once(
            &mut ana,
            &asks,
            &mut far,
            "c, who = l.accept(); c.recv(4); c.sendall(b'answers'); out = who",
        );
        assert_eq!((said.as_str(), who), ("b'answers'", format!("('{v1}', 6000)")));
        let (first, second) =
            if closes_first == "far" { (&mut far, &mut ana) } else { (&mut ana, &mut far) };
        first.tell("c.shutdown(socket.SHUT_WR)");
        second.tell("c.recv(9); c.close()");
        // The kernel lets go of its own after a second (tcp_twsk_unique).
        first.tell("c.recv(9); c.close(); time.sleep(1.1)");
    }
    // A server that is started again, with connections of the one before about.
    for _ in 0..2 {
        ana.tell("l2 = listener(7400)");
        far.tell(&format!("d = tcp(); d.connect(('{v1}', 7400))"));
        ana.tell("d, _ = l2.accept(); d.close(); l2.close()");
        far.tell("d.recv(9); d.close()");
    }
}

/// X5: what is signed with its addresses is left as it is, and works so.
#[test]
fn signed_packets_are_left_alone() {
    let world = World::new(4, "");
    let (mut far, mut ana) = (Peer::on(&world.network.client), Peer::of(&world, 1, "root"));
    // TCP_MD5SIG with struct tcp_md5sig: the peer's address, the key.
    let key = |peer: Ipv4Addr| {
        format!(
            "setsockopt(socket.IPPROTO_TCP, 14, struct.pack('=HH4s120x2xHI80s', socket.AF_INET, 0, \
             socket.inet_aton('{peer}'), 6, 0, b'secret'))"
        )
    };
    far.tell(&format!("l = listener(7300); l.{}", key(HOST)));
    let (said, who) = at_once(
        &mut ana,
        &format!(
            "c = tcp(); c.{}; c.connect(('{FAR}', 7300)); out = both_ways(c, 1, 2, 1 << 20)",
            key(FAR)
        ),
        &mut far,
        "c, who = l.accept(); out = (both_ways(c, 2, 1, 1 << 20), who[0])",
    );
    assert_eq!((said.as_str(), who), ("True", format!("(True, '{HOST}')")));
    assert!(world.count("authenticated") > 0);

    // ESP is IP protocol 50: the sessions' own is the host's.
    far.tell("e = socket.socket(socket.AF_INET, socket.SOCK_RAW, 50)");
    ana.tell(&format!(
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, 50).sendto(b'12345678sealed', ('{FAR}', 0))"
    ));
    let heard = far.tell("p, who = e.recvfrom(99); out = (who[0], p[20:])");
    assert_eq!(heard, format!("('{HOST}', b'12345678sealed')"));
}
