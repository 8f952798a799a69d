//! Does the engine hold for whatever comes?
//!
//! Any bytes with any facts; any order of packets, against a model of what
//! sessions are promised that is too simple to be wrong.

#![expect(clippy::expect_used, reason = "packets that cannot be written end the test")]

#[expect(dead_code, reason = "scenarios say more about packets")]
#[path = "support/packets.rs"]
mod packets;
#[path = "support/policy.rs"]
mod policy;
#[path = "support/sockets.rs"]
mod sockets;

use proptest::prelude::*;
use sessionip::engine::{Addresses, Begun, Checksum, Direction, Engine, Facts, Host};
use sessionip::policy::Policy;
use sessionip::session::SessionId;
use sessionip::verdict::{Reason, Verdict};
use sockets::{Listed, Socket};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// Two sessions whose sockets are bound to two host addresses. All of them are
/// there: ports 5000 to 5003 at both addresses, TCP and UDP.
fn engine() -> Engine<Listed> {
    let mut host = Host {
        addresses: [1, 2].map(|last| Ipv4Addr::new(10, 77, 0, last).into()).into(),
        pool: vec![(Ipv4Addr::new(10, 77, 0, 101).into(), Ipv4Addr::new(10, 77, 0, 199).into())],
        ..Host::default()
    };
    for session in [1, 2] {
        let address = virtual_address(session);
        let addresses = Addresses { ipv4: Some(address), ipv6: None };
        host.sessions.insert(SessionId(session.into()), addresses);
        host.holders.insert(address.into(), SessionId(session.into()));
    }
    let mut sockets = Vec::new();
    for protocol in ["tcp", "udp"] {
        for (address, port) in [1, 2].into_iter().flat_map(|a| (5000..5004).map(move |p| (a, p))) {
            let session = session_of(address, port);
            sockets.push(Socket::read(&format!(
                "{protocol} 10.77.0.{address}:{port} session {session}"
            )));
        }
    }
    let policy = Policy::compile(&policy::config(), |_| None);
    let mut engine = Engine::new(Listed(sockets), policy, 10_000);
    engine.set_host(host);
    engine
}

fn session_of(address: u8, port: u16) -> u8 {
    if port.is_multiple_of(2) { address } else { 1 }
}

const fn virtual_address(session: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 100 + session)
}

#[expect(clippy::disallowed_methods, reason = "time has to begin somewhere")]
fn now() -> Instant {
    Instant::now()
}

fn any_facts() -> impl Strategy<Value = Facts> {
    let checksums = vec![Checksum::Real, Checksum::Partial, Checksum::Absent];
    let begun = vec![Begun::Unknown, Begun::Translated];
    (
        prop::sample::select(vec![Direction::Out, Direction::In]),
        any::<bool>(),
        prop::sample::select(checksums),
        prop::sample::select(begun),
        0..20u64,
    )
        .prop_map(|(direction, loopback, checksum, begun, held)| Facts {
            direction,
            loopback,
            interface: 2,
            checksum,
            begun,
            held: Duration::from_millis(held),
        })
}

/// Packets that are nearly right: of addresses and ports that mean something,
/// with some bytes changed and the end cut off.
fn nearly_a_packet() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop::sample::select(vec![
        "tcp A > B syn",
        "tcp A > B ack",
        "tcp A > B fin ack",
        "tcp A > B rst",
        "udp A > B",
        "icmp a > b about udp B > A",
        "icmp a > b about tcp B > A ack",
    ]);
    let ends = prop::sample::select(vec![1u8, 2, 9, 101, 102, 150]);
    let ports = prop::sample::select(vec![0u16, 67, 3389, 5000, 5001, 65_535]);
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    (kind, ends.clone(), ends, ports.clone(), ports, damage, 0usize..80).prop_map(
        |(kind, a, b, port_a, port_b, damage, cut)| {
            let text = kind
                .replace('A', &format!("10.77.0.{a}:{port_a}"))
                .replace('B', &format!("10.77.0.{b}:{port_b}"))
                .replace(" a ", &format!(" 10.77.0.{a} "))
                .replace(" b ", &format!(" 10.77.0.{b} "));
            let mut packet = packets::build(&text);
            for (at, byte) in damage {
                let at = at.index(packet.len());
                packet[at] = byte;
            }
            if cut > 60 {
                packet.truncate(packet.len().saturating_sub(cut - 60));
            }
            packet
        },
    )
}

proptest! {
    #[test]
    fn any_bytes(mut bytes in prop::collection::vec(any::<u8>(), 0..120), facts in any_facts()) {
        let before = bytes.clone();
        let verdict = engine().process(now(), &mut bytes, &facts);
        prop_assert!(matches!(verdict, Verdict::Rewrite(_)) || before == bytes);
    }

    #[test]
    fn anything_nearly_right(shown in prop::collection::vec((nearly_a_packet(), any_facts()), 1..60)) {
        let mut engine = engine();
        let mut time = now();
        for (mut bytes, facts) in shown {
            let before = bytes.clone();
            time += Duration::from_secs(1);
            let verdict = engine.process(time, &mut bytes, &facts);
            prop_assert_eq!(matches!(verdict, Verdict::Rewrite(_)), before != bytes);
        }
        // Nothing is kept for ever.
        engine.expire(time + Duration::from_secs(3 * 3600));
        prop_assert_eq!(engine.flow_count(), 0);
    }
}

/// A packet of the model's world, where nobody but the sockets above speaks.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A socket sends to a far end.
    Sends { udp: bool, address: u8, port: u16, far: u8 },
    /// A far end sends to a session's virtual address.
    Answers { udp: bool, session: u8, port: u16, far: u8 },
}

fn any_event() -> impl Strategy<Value = Event> {
    let sends = (any::<bool>(), 1..=2u8, 5000..5004u16, 10..14u8)
        .prop_map(|(udp, address, port, far)| Event::Sends { udp, address, port, far });
    let answers = (any::<bool>(), 1..=2u8, 5000..5008u16, 10..14u8)
        .prop_map(|(udp, session, port, far)| Event::Answers { udp, session, port, far });
    prop_oneof![sends, answers]
}

/// What is on the wire, and whose it is inside: (udp, session, port, far end) to
/// (host address, port).
#[derive(Default)]
struct Model(HashMap<(bool, u8, u16, u8), (u8, u16)>);

impl Model {
    /// The port by which a socket is known to a far end.
    fn port(&mut self, udp: bool, address: u8, port: u16, far: u8) -> u16 {
        let session = session_of(address, port);
        let here = (address, port);
        let known = self.0.iter().find(|((other_udp, other_session, _, other_far), inside)| {
            *other_udp == udp
                && *other_session == session
                && **inside == here
                && (udp || *other_far == far)
        });
        let outside = known.map_or_else(
            || {
                (port..)
                    .find(|port| !self.is_taken(udp, session, *port, far))
                    .expect("a port is free")
            },
            |((_, _, outside, _), _)| *outside,
        );
        self.0.insert((udp, session, outside, far), here);
        outside
    }

    fn is_taken(&self, udp: bool, session: u8, port: u16, far: u8) -> bool {
        self.0.keys().any(|(other_udp, other_session, other_port, other_far)| {
            *other_udp == udp
                && *other_session == session
                && *other_port == port
                && (udp || *other_far == far)
        })
    }
}

proptest! {
    /// Whatever the order: a socket's packets leave from its session's address by
    /// a port that is its own, and answers come back to it and to nobody else.
    #[test]
    fn flows_are_as_in_the_model(events in prop::collection::vec(any_event(), 1..80)) {
        let mut engine = engine();
        let mut model = Model::default();
        let time = now();
        for event in events {
            let (direction, text, expected) = match event {
                Event::Sends { udp, address, port, far } => {
                    let outside = model.port(udp, address, port, far);
                    let from = virtual_address(session_of(address, port));
                    let (protocol, syn) = if udp { ("udp", "") } else { ("tcp", " syn") };
                    (
                        Direction::Out,
                        format!("{protocol} 10.77.0.{address}:{port} > 192.0.2.{far}:80{syn}"),
                        Some(format!("{protocol} {from}:{outside} > 192.0.2.{far}:80{syn}")),
                    )
                }
                Event::Answers { udp, session, port, far } => {
                    let to = virtual_address(session);
                    let (protocol, ack) = if udp { ("udp", "") } else { ("tcp", " syn ack") };
                    let text = format!("{protocol} 192.0.2.{far}:80 > {to}:{port}{ack}");
                    let Some((address, inside)) = model.0.get(&(udp, session, port, far)) else {
                        // The sockets take it as a question: another test's concern.
                        continue;
                    };
                    (
                        Direction::In,
                        text,
                        Some(format!(
                            "{protocol} 192.0.2.{far}:80 > 10.77.0.{address}:{inside}{ack}"
                        )),
                    )
                }
            };
            let mut packet = packets::build(&text);
            let facts = Facts {
                direction,
                loopback: false,
                interface: 2,
                checksum: Checksum::Real,
                begun: Begun::Unknown,
                held: Duration::ZERO,
            };
            let verdict = engine.process(time, &mut packet, &facts);
            prop_assert_eq!(verdict, Verdict::Rewrite(Reason::SessionSource), "{}", &text);
            let expected = expected.map(|text| packets::build(&text));
            prop_assert_eq!(Some(packet), expected, "{}", text);
        }
        prop_assert_eq!(engine.flow_count(), model.0.len());
    }
}
