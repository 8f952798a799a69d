//! Do clients know the address that the far side sees? With sources chosen at
//! connect: by Go, with data in the SYN, by Multipath TCP. And who is on no list?

use super::World;
use super::client::PYTHON;
use super::lab::Lab;
use super::wire::Capture;
use sessionip::lab::network::{FAR, FAR_IPV6, HOST, Namespace};
use sessionip::lab::process::{self, Running};
use sessionip::lab::sessions::Opened;
use sessionip::lab::{marker, wait};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What the far side runs, and its ports: TCP's, Multipath TCP's and UDP's.
const SERVER: &str = include_str!("sources/far.py");
const PORT: u16 = 9200;

const LIMIT: Duration = Duration::from_secs(20);

/// Clients, as a line of shell. They say what they are called.
const CLIENTS: &[&str] = &[
    "{built}/talk-go {far} 9200 {word}",
    "{built}/talk-go {far} 9202 {word} udp",
    "{built}/talk-musl {far} 9200 {word}",
    // The first one gets the cookie by which those that follow may send at once.
    "{built}/talk-musl {far} 9200 {word} sendto",
    "{built}/talk-musl {far} 9200 {word} sendto",
    "{built}/talk-musl {far} 9200 {word} connect",
    "{built}/talk-musl {far} 9201 {word} mptcp",
    // A socket of IPv6, whatever the target.
    "java -XX:+UseSerialGC -XX:-UsePerfData -cp {built} Talk {far} 9200 {word}",
    "node -e \"const s = require('net').connect(9200, '{far}', () => {
        const { address, port } = s.address()
        console.log('as ' + (address.includes(':') ? '[' + address + ']' : address) + ':' + port)
        s.end('{word}')
    })\"",
];

/// So many of them have data in their SYN.
const FAST: usize = 2;

/// It stays until all of its paths are there.
const MULTIPATH: &str = "{built}/talk-musl {far} 9201 stay-{word} mptcp";

/// Go's servers and others send by a socket that is not connected, and has no name.
const PACKET: &str = "{built}/talk-go {far} 9202 {word} packet";

/// Each session's clients are called what the far side calls them, by IPv4 and IPv6,
/// and no packet of a connection had to be rewritten.
pub(crate) fn clients_know_what_the_far_side_sees() {
    let lab = Lab::new(World { connect: true, ipv6: true, strict: true, ..World::default() });
    let capture = Capture::start(&lab);
    let server = serve(&lab);
    for session in &lab.sessions {
        let ipv6 = lab.ipv6(session).unwrap();
        for (far, own) in
            [(IpAddr::from(FAR), IpAddr::from(session.virtual_ip)), (FAR_IPV6.into(), ipv6.into())]
        {
            for line in CLIENTS {
                let (named, seen) = ask(&lab, &server, line, far, session);
                assert_eq!(seen.ip(), own, "{line} in session {}", session.id);
                assert_eq!(named, Some(seen), "{line} in session {}", session.id);
            }
            let (_, seen) = ask(&lab, &server, PACKET, far, session);
            assert_eq!(seen.ip(), own, "{PACKET} in session {}", session.id);
        }
    }
    let mut rewritten = lab.product.flows().unwrap();
    rewritten.retain(|flow| flow.protocol == "tcp");
    assert!(rewritten.is_empty(), "{rewritten:#?}");
    find_further_paths(&lab, &server);
    let seen = capture.end();
    for session in &lab.sessions {
        let v4 = format!("ip src host {}", session.virtual_ip);
        let v6 = format!("ip6 src host {}", lab.ipv6(session).unwrap());
        for (own, syn) in [(v4, "tcp[tcpflags] & 0x12 == 2"), (v6, "ip6[53] & 0x12 == 2")] {
            let syns = seen.packets(&format!("{own} and tcp and {syn}"));
            let with = |what: &str| syns.iter().filter(|syn| syn.contains(what)).count();
            let with_data = syns.iter().filter(|syn| !syn.ends_with("length 0")).count();
            assert_eq!(with_data, FAST, "{syns:#?}");
            assert!(with("mptcp 4 capable") > 0, "{syns:#?}");
            if own.starts_with("ip ") {
                assert!(with("mptcp 12 join") > 0, "{syns:#?}");
            }
        }
    }
    let leaked = [seen.with_host_address(""), seen.with_host_ipv6_address("")].concat();
    assert!(leaked.is_empty(), "{leaked:#?}");
}

/// A host that lets Multipath TCP use its own address for further paths (ip-mptcp(8)):
/// the kernel opens them, on behalf of no process, and they are the session's all
/// the same.
fn find_further_paths(lab: &Lab, server: &Running) {
    let allow = |namespace: &Namespace, line: &str| {
        let words: Vec<_> = line.split(' ').collect();
        namespace.output(&mut process::command(&words)).unwrap();
    };
    for namespace in [&lab.network.host, &lab.network.client] {
        allow(namespace, "ip mptcp limits set subflow 4 add_addr_accepted 4");
    }
    allow(&lab.network.host, &format!("ip mptcp endpoint add {HOST} subflow"));
    for session in &lab.sessions {
        let (_, seen) = ask(lab, server, MULTIPATH, FAR.into(), session);
        assert_eq!(seen.ip(), IpAddr::from(session.virtual_ip));
    }
}

/// A client that is on no list has the host's address, beside one that is listed.
pub(crate) fn who_is_on_no_list_has_the_host_address(lab: &Lab) {
    let server = serve(lab);
    let left = || lab.product.status().unwrap().reasons.get("not-listed").copied().unwrap_or(0);
    let before = left();
    let says = format!(
        "-c \"import socket; s = socket.create_connection(('{FAR}', {PORT}))
print('as %s:%d' % s.getsockname()); s.sendall(b'{{word}}')\""
    );
    for session in &lab.sessions {
        for (client, own) in
            [(PYTHON, IpAddr::from(session.virtual_ip)), ("{built}/unlisted-python3", HOST.into())]
        {
            let line = format!("{client} {says}");
            let (named, seen) = ask(lab, &server, &line, FAR.into(), session);
            assert_eq!((named, seen.ip()), (Some(seen), own), "{client}");
        }
    }
    // Each is counted as its conversation begins.
    assert_eq!(left() - before, lab.sessions.len() as u64);
}

fn serve(lab: &Lab) -> Running {
    let far = &lab.network.client;
    // Servers may take data in a SYN (2), clients send it (1).
    far.within(|| std::fs::write("/proc/sys/net/ipv4/tcp_fastopen", "3")).unwrap().unwrap();
    let words = [PYTHON, "-u", "-c", SERVER, &PORT.to_string()];
    let mut server = far.start("the far side", &mut process::command(&words)).unwrap();
    wait::until("the far side", LIMIT, || {
        if server.ended()?.is_some() {
            return Err(server.failure());
        }
        Ok(server.said().contains("ready").then_some(()))
    })
    .unwrap();
    server
}

/// Runs a client; what it is called, if it says so, and what the far side calls it.
fn ask(
    lab: &Lab,
    server: &Running,
    line: &str,
    far: IpAddr,
    session: &Opened,
) -> (Option<SocketAddr>, SocketAddr) {
    let word = marker::random_word().unwrap();
    let line = line
        .replace("{far}", &far.to_string())
        .replace("{word}", &word)
        .replace("{built}", &lab.built().display().to_string());
    let Opened { id, user, .. } = session;
    let mut command = lab.product.in_session(*id, user, &["sh", "-c", &line]);
    let said = lab.network.host.output(&mut command).unwrap_or_else(|e| panic!("{line}: {e}"));
    let seen = wait::until(&line, LIMIT, || {
        let heard = server.said();
        let mut heard = heard.lines().filter_map(|line| line.split_once(' '));
        Ok(heard.find(|(said, _)| said.ends_with(&word)).map(|(_, who)| who.to_owned()))
    })
    .unwrap();
    let named = said.lines().find_map(|line| line.strip_prefix("as "));
    (named.map(|name| name.parse().unwrap()), seen.parse().unwrap())
}
