//! How does a packet end whose socket's event comes late, or never? The engine
//! with the table of sockets that Windows uses, told of sockets that never were.

#![expect(clippy::expect_used, reason = "packets that cannot be written end the test")]

#[expect(dead_code, reason = "scenarios say more about packets")]
#[path = "support/packets.rs"]
mod packets;
#[path = "support/policy.rs"]
mod policy;

use sessionip::config::UnknownOwner;
use sessionip::engine::{Addresses, Begun, Checksum, Direction, Engine, Facts, Host};
use sessionip::owner::table::{Event, Holder, Moment, Row, SocketTable, State, What};
use sessionip::owner::{Owner, Ping, Pinger, Receiver, Sockets};
use sessionip::packet::{Endpoint, Protocol};
use sessionip::policy::Policy;
use sessionip::session::SessionId;
use sessionip::verdict::{Reason, Verdict};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SYN: &str = "tcp 10.77.0.1:50000 > 10.77.0.2:443 syn";
const HOLD: Duration = Duration::from_millis(10);

/// The table, and how often a look-up of it found no owner.
struct Counted(SocketTable, usize);

impl Sockets for Counted {
    fn owner(&mut self, protocol: Protocol, local: Endpoint, remote: Endpoint) -> Option<Owner> {
        let owner = self.0.owner(protocol, local, remote);
        self.1 += usize::from(owner.is_none());
        owner
    }

    fn pinger(&mut self, _: &Ping) -> Pinger {
        Pinger::OnBehalf
    }

    fn receiver(
        &mut self,
        protocol: Protocol,
        local: Endpoint,
        remote: Endpoint,
    ) -> Option<Receiver> {
        self.0.receiver(protocol, local, remote)
    }
}

/// One session, whose address is 10.77.0.101.
fn engine(unknown_owner: UnknownOwner) -> (Engine<Counted>, SocketTable) {
    let mut config = policy::config();
    config.divert.unknown_owner = unknown_owner;
    let table = SocketTable::default();
    let policy = Policy::compile(&config, |_| None);
    let mut engine = Engine::new(Counted(table.clone(), 0), policy, 100);
    let address = Ipv4Addr::new(10, 77, 0, 101);
    let addresses = Addresses { ipv4: Some(address), ipv6: None };
    engine.set_host(Host {
        addresses: vec![Ipv4Addr::new(10, 77, 0, 1).into()],
        pool: vec![(address.into(), Ipv4Addr::new(10, 77, 0, 199).into())],
        sessions: [(SessionId(1), addresses)].into(),
        holders: [(address.into(), SessionId(1))].into(),
        ..Host::default()
    });
    (engine, table)
}

#[expect(clippy::disallowed_methods, reason = "time has to begin somewhere")]
fn now() -> Instant {
    Instant::now()
}

fn leaves(engine: &mut Engine<Counted>, held: Duration) -> (Verdict, Vec<u8>) {
    let facts = Facts {
        direction: Direction::Out,
        loopback: false,
        interface: 2,
        checksum: Checksum::Real,
        begun: Begun::Unknown,
        held,
    };
    let mut packet = packets::build(SYN);
    let verdict = engine.process(now(), &mut packet, &facts);
    (verdict, packet)
}

fn source(packet: &[u8]) -> &[u8] {
    packet.get(12..16).expect("an IPv4 header")
}

fn end(text: &str) -> Endpoint {
    let end: std::net::SocketAddr = text.parse().expect("ADDRESS:PORT");
    Endpoint::new(end.ip(), end.port())
}

fn holder() -> Holder {
    let program = Arc::default();
    let owner = Owner {
        session: Some(SessionId(1)),
        pid: 77,
        program,
        marks: Default::default(),
        lineage: None,
    };
    Holder { owner, station: 1 }
}

fn connect() -> Event {
    Event {
        what: What::Connect,
        at: Moment(1000),
        protocol: Protocol::Tcp,
        local: end("10.77.0.1:50000"),
        remote: Some(end("10.77.0.2:443")),
        endpoint: 5,
        parent: 0,
        pid: 77,
    }
}

#[test]
fn a_packet_is_held_until_its_event_comes() {
    let (mut engine, table) = engine(UnknownOwner::Drop);
    let early = HOLD / 10;
    assert_eq!(leaves(&mut engine, Duration::ZERO).0, Verdict::Hold);
    assert_eq!(leaves(&mut engine, early).0, Verdict::Hold);
    assert_eq!(engine.sockets().1, 2, "the list is asked for, as the packet is");
    table.apply(&connect(), Some(holder()));
    let (verdict, packet) = leaves(&mut engine, 2 * early);
    assert_eq!(verdict.reason(), Reason::SessionSource, "{verdict:?}");
    assert_eq!(source(&packet), [10, 77, 0, 101]);
}

#[test]
fn a_lost_event_is_made_up_for_by_the_list() {
    let (mut engine, table) = engine(UnknownOwner::Drop);
    assert_eq!(leaves(&mut engine, Duration::ZERO).0, Verdict::Hold);
    let row = Row {
        protocol: Protocol::Tcp,
        local: end("10.77.0.1:50000"),
        state: State::TalksTo(end("10.77.0.2:443")),
        pid: 77,
        since: None,
    };
    table.reconcile(&[row], Moment(2000), |pid| (pid == 77).then(holder));
    let (verdict, packet) = leaves(&mut engine, HOLD / 2);
    assert_eq!(verdict.reason(), Reason::SessionSource, "{verdict:?}");
    assert_eq!(source(&packet), [10, 77, 0, 101]);
}

#[test]
fn what_nobody_ever_knows_is_passed_or_dropped_at_the_deadline() {
    for (unknown_owner, passed) in [(UnknownOwner::Pass, true), (UnknownOwner::Drop, false)] {
        let (mut engine, table) = engine(unknown_owner);
        assert_eq!(leaves(&mut engine, HOLD / 2).0, Verdict::Hold);
        // Its process is gone, so that neither the event nor the list helps.
        table.apply(&connect(), None);
        let (verdict, packet) = leaves(&mut engine, HOLD);
        assert_eq!(verdict.reason(), Reason::UnknownOwner, "{verdict:?}");
        assert_eq!(matches!(verdict, Verdict::Drop(_)), !passed);
        assert_eq!(source(&packet), [10, 77, 0, 1]);
        assert_eq!(table.counters().unresolved, 1);
    }
}
