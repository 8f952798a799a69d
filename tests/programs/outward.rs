//! Which address do programs have that connect outwards, and who counts them?

use super::lab::Lab;
use super::wire::Capture;
use super::{World, copies, each};
use sessionip::lab::network::{FAR, FAR_IPV6};
use sessionip::lab::process::{self, Running};
use sessionip::lab::sessions::Opened;
use sessionip::lab::wait;
use sessionip::packet::Protocol;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Servers of the far side, each with its port.
const FAR_SIDE: &[(Protocol, u16, &str)] = &[
    (Protocol::Tcp, 8000, "python3 -m http.server --bind :: 8000"),
    (Protocol::Udp, 5300, "dnsmasq -k -C /dev/null -R -h -p 5300 --pid-file="),
    (Protocol::Tcp, 9100, "socat -u TCP6-LISTEN:9100,fork,reuseaddr STDOUT"),
    (Protocol::Udp, 9101, "socat -u UDP6-RECV:9101 STDOUT"),
    (Protocol::Tcp, 5301, "iperf3 -s -p 5301"),
    (Protocol::Tcp, 5302, "iperf3 -s -p 5302"),
];

/// Clients, as a line of shell. `{far}` is the far side, `{port}` that of a server
/// of iperf3 for each session, `{built}` the folder of what the tests build. Each
/// conversation is a TCP connection, a datagram, or one echo.
const CLIENTS: &[&str] = &[
    "curl -sS -m 5 http://{far}:8000/",
    "! curl -sS -m 5 http://{far}:9/",
    "dig @{far} -p 5300 +tries=1 +timeout=5 a.test",
    "echo word | nc.openbsd -N -w 5 {far} 9100",
    "echo word | nc.openbsd -u -q 0 -w 1 {far} 9101",
    "echo word | ncat --send-only -w 5s {far} 9100",
    "echo word | socat -u STDIN TCP:{far}:9100,connect-timeout=5",
    "echo word | socat -u STDIN UDP:{far}:9101",
    "iperf3 -c {far} -p {port} -n 256K --connect-timeout 5000",
    "timeout 5 /usr/bin/python3 -c \"import socket
socket.create_connection(('{far}', 9100)).sendall(b'word')\"",
    "timeout 5 node -e \"require('net').connect(9100, '{far}').end('word')\"",
    "timeout 5 java -XX:+UseSerialGC -XX:-UsePerfData -cp {built} Talk {far} 8000 'GET / HTTP/1.0\n'",
    "timeout 5 {built}/talk-go {far} 8000 'GET / HTTP/1.0\n'",
    "timeout 5 {built}/talk-go {far} 9101 word udp",
    "timeout 5 {built}/talk-go {far} 9101 word packet",
    "timeout 5 {built}/talk-musl {far} 8000 'GET / HTTP/1.0\n'",
    "timeout 5 {built}/talk-musl {far} 8000 'GET / HTTP/1.0\n' sendto",
    "timeout 5 {built}/talk-musl {far} 8000 'GET / HTTP/1.0\n' connect",
    "timeout 5 {built}/talk-musl {far} 8000 'GET / HTTP/1.0\n' mptcp",
    "timeout 5 {built}/talk-ring {far} 8000 'GET / HTTP/1.0\n'",
    // Gone before its datagram is looked at.
    "for i in $(seq 20); do {built}/talk-musl {far} 9101 word udp; done",
    "ping -c 1 -W 5 {far}",
];

/// The same by IPv6: `{far}` is its IPv6 address.
const CLIENTS_BY_IPV6: &[&str] = &[
    "curl -sS -m 5 http://[{far}]:8000/",
    "dig @{far} -p 5300 +tries=1 +timeout=5 a.test",
    "echo word | nc.openbsd -N -w 5 {far} 9100",
    "echo word | nc.openbsd -u -q 0 -w 1 {far} 9101",
    "echo word | socat -u STDIN TCP6:[{far}]:9100,connect-timeout=5",
    "timeout 5 /usr/bin/python3 -c \"import socket
socket.create_connection(('{far}', 9100)).sendall(b'word')\"",
    "timeout 5 node -e \"require('net').connect(9100, '{far}').end('word')\"",
    "timeout 5 java -XX:+UseSerialGC -XX:-UsePerfData -cp {built} Talk {far} 8000 'GET / HTTP/1.0\n'",
    "timeout 5 {built}/talk-go {far} 8000 'GET / HTTP/1.0\n'",
    "timeout 5 {built}/talk-go {far} 9101 word udp",
    "timeout 5 {built}/talk-musl {far} 8000 'GET / HTTP/1.0\n' sendto",
    "timeout 5 {built}/talk-musl {far} 8000 'GET / HTTP/1.0\n' mptcp",
    "ping -c 1 -W 5 {far}",
];

/// Its session has no address: the pool has two.
const WITHOUT_ADDRESS: (u32, &str) = (3, "games");

/// Where nothing may leave otherwise, the host address is on no packet of a
/// program of a session, whether it was asked or asks.
pub(crate) fn no_packet_has_the_host_address(world: World) {
    let lab = Lab::new(World { strict: true, ..world });
    let capture = Capture::start(&lab);
    each(|program| copies::each_hears_its_own(&lab, program));
    clients(&lab);
    let seen = capture.end();
    let leaked = [seen.with_host_address(""), seen.with_host_ipv6_address("")].concat();
    assert!(leaked.is_empty(), "{} packets: {:#?}", leaked.len(), &leaked[..leaked.len().min(9)]);
    for session in &lab.sessions {
        let own = seen.packets(&format!("src host {}", session.virtual_ip));
        // Or the capture has missed what matters.
        assert!(own.len() > 5 * CLIENTS.len(), "session {}: {}", session.id, own.len());
    }
    let dropped = lab.product.status().unwrap().reasons;
    assert!(dropped["exhausted"] >= CLIENTS.len() as u64, "{dropped:?}");
    assert!(dropped["no-ipv6"] >= CLIENTS_BY_IPV6.len() as u64, "{dropped:?}");
}

/// By default they leave, and each that begins a conversation is counted under
/// its reason.
pub(crate) fn those_with_the_host_address_are_counted() {
    let lab = Lab::new(World::default());
    let before = lab.product.status().unwrap().reasons;
    let capture = Capture::start(&lab);
    clients(&lab);
    let seen = capture.end();
    let after = lab.product.status().unwrap().reasons;
    let count =
        |reasons: &BTreeMap<String, u64>, reason: &str| reasons.get(reason).copied().unwrap_or(0);
    let counted = |reason: &str| count(&after, reason) - count(&before, reason);
    for (begun, reason, clients) in [
        (
            seen.with_host_address(
                " and (udp or icmp[icmptype] == icmp-echo \
                 or tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn)",
            ),
            "exhausted",
            CLIENTS,
        ),
        (
            // pcap-filter(7) has no names for these in IPv6.
            seen.with_host_ipv6_address(
                " and (udp or (icmp6 and ip6[40] == 128) or (tcp and ip6[53] & 0x12 == 2))",
            ),
            "no-ipv6",
            CLIENTS_BY_IPV6,
        ),
    ] {
        assert!(begun.len() >= clients.len(), "{begun:#?}");
        assert_eq!(counted(reason), begun.len() as u64, "{reason}: {begun:#?}");
    }
    for reason in ["unknown-owner", "held-too-long", "table-full", "malformed"] {
        assert_eq!(counted(reason), 0, "{reason}");
    }
}

/// Runs every client in every session, and in one without an address.
fn clients(lab: &Lab) {
    let servers: Vec<_> = FAR_SIDE.iter().map(|server| far_side(lab, server)).collect();
    let (id, user) = WITHOUT_ADDRESS;
    // So that the session does not end with each of its programs.
    let mut stay = lab.product.in_session(id, user, &["sleep", "600"]);
    let stays = lab.network.host.start("a session without address", &mut stay).unwrap();
    wait::until("a session without address", Duration::from_secs(20), || {
        let sessions = lab.product.sessions()?;
        Ok(sessions.iter().any(|s| s.id == id && s.virtual_ip.is_none()).then_some(()))
    })
    .unwrap();
    std::thread::scope(|scope| {
        for session in &lab.sessions {
            scope.spawn(move || {
                one_by_one(lab, CLIENTS, FAR.into(), session);
                if lab.world.ipv6 {
                    one_by_one(lab, CLIENTS_BY_IPV6, FAR_IPV6.into(), session);
                } else {
                    at_once(lab, CLIENTS_BY_IPV6, FAR_IPV6.into(), session.id, &session.user);
                }
            });
        }
        scope.spawn(move || at_once(lab, CLIENTS, FAR.into(), id, user));
        scope.spawn(move || at_once(lab, CLIENTS_BY_IPV6, FAR_IPV6.into(), id, user));
    });
    drop((stays, servers));
}

const LIMIT: Duration = Duration::from_secs(60);

/// They have an address, and come through.
fn one_by_one(lab: &Lab, clients: &[&str], far: IpAddr, session: &Opened) {
    for line in clients {
        run(lab, line, far, session.id, &session.user).finish(LIMIT).unwrap();
    }
}

/// They have no address of their own. Whether they come through is not theirs to
/// decide.
fn at_once(lab: &Lab, clients: &[&str], far: IpAddr, id: u32, user: &str) {
    let mut running: Vec<_> = clients.iter().map(|line| run(lab, line, far, id, user)).collect();
    wait::until("clients without address", LIMIT, || {
        for client in &mut running {
            if client.ended()?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
    .unwrap();
}

fn run(lab: &Lab, line: &str, far: IpAddr, id: u32, user: &str) -> Running {
    let line = line
        .replace("{far}", &far.to_string())
        .replace("{port}", &format!("530{}", id.min(2)))
        .replace("{built}", &lab.built().display().to_string());
    let mut command = lab.product.in_session(id, user, &["sh", "-c", &line]);
    lab.network.host.start(format!("{line} in session {id}"), &mut command).unwrap()
}

fn far_side(lab: &Lab, &(protocol, port, line): &(Protocol, u16, &str)) -> Running {
    let far = &lab.network.client;
    let words: Vec<_> = line.split(' ').collect();
    let running = far.start(line, &mut process::command(&words)).unwrap();
    wait::until(line, Duration::from_secs(20), || {
        let bound = sessionip::lab::listeners::listeners(far, protocol, port)?;
        Ok((!bound.is_empty()).then_some(()))
    })
    .unwrap();
    running
}
