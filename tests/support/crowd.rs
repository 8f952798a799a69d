//! As many flows as one likes, and a packet of any of them at once.

#[path = "policy.rs"]
mod policy;

use sessionip::engine::{Addresses, Begun, Checksum, Direction, Engine, Facts, Host};
use sessionip::owner::{Owner, Ping, Pinger, Program, Receiver, Sockets};
use sessionip::packet::{Endpoint, Protocol};
use sessionip::policy::Policy;
use sessionip::session::SessionId;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

/// How many sessions there are; each program binds to a host address of its own,
/// so that a million sockets find ports.
const SESSIONS: u32 = 20;
const PORTS: u32 = 60_000;
const FIRST_PORT: u16 = 2000;

/// Length of the packets.
pub(crate) const LENGTH: usize = 100;

/// Sockets of which each is known, and none listens.
pub(crate) struct Crowd(Arc<Program>);

impl Sockets for Crowd {
    fn owner(&mut self, _: Protocol, local: Endpoint, _: Endpoint) -> Option<Owner> {
        let IpAddr::V4(address) = local.address else { return None };
        let [.., session] = address.octets();
        Some(Owner {
            session: Some(SessionId(session.into())),
            pid: 4711,
            program: Arc::clone(&self.0),
            marks: Default::default(),
            lineage: None,
        })
    }

    fn pinger(&mut self, _: &Ping) -> Pinger {
        Pinger::Unknown
    }

    fn receiver(&mut self, _: Protocol, _: Endpoint, _: Endpoint) -> Option<Receiver> {
        None
    }
}

/// An engine that knows of every session and of no flow.
pub(crate) fn engine(limit: usize) -> Engine<Crowd> {
    let mut host = Host {
        interface: 2,
        pool: vec![(virtual_address(0).into(), virtual_address(255).into())],
        ..Host::default()
    };
    for session in 0..SESSIONS {
        let ipv4 = virtual_address(session);
        host.addresses.push(host_address(session).into());
        host.sessions.insert(SessionId(session), Addresses { ipv4: Some(ipv4), ipv6: None });
        host.holders.insert(ipv4.into(), SessionId(session));
    }
    let mut engine =
        Engine::new(Crowd(Arc::default()), Policy::compile(&policy::config(), |_| None), limit);
    engine.set_host(host);
    engine
}

/// The packet of flow `number` as it leaves or arrives. TCP: as it opens its
/// connection, or as it goes on. Each UDP flow has a socket of its own.
pub(crate) fn packet(
    protocol: Protocol,
    number: u32,
    direction: Direction,
    opens: bool,
) -> [u8; LENGTH] {
    let session = number / PORTS % SESSIONS;
    let port = (FIRST_PORT + (number % PORTS) as u16).to_be_bytes();
    let far = Ipv4Addr::from(0x0b00_0000 + number).octets();
    let mut packet = [0; LENGTH];
    packet[..10].copy_from_slice(&[0x45, 0, 0, LENGTH as u8, 0, 0, 0, 0, 64, protocol as u8]);
    let (addresses, ports) = match direction {
        Direction::Out => ([host_address(session).octets(), far], [port, [0, 80]]),
        Direction::In => ([far, virtual_address(session).octets()], [[0, 80], port]),
    };
    packet[12..20].copy_from_slice(addresses.as_flattened());
    packet[20..24].copy_from_slice(ports.as_flattened());
    match protocol {
        Protocol::Tcp => packet[32..34].copy_from_slice(&[5 << 4, if opens { 2 } else { 16 }]),
        Protocol::Udp => packet[25] = LENGTH as u8 - 20,
        Protocol::Icmp => panic!("the crowd does not ping"),
    }
    packet
}

/// What the divert says of them.
pub(crate) const fn facts(direction: Direction) -> Facts {
    Facts {
        direction,
        loopback: false,
        interface: 2,
        checksum: Checksum::Real,
        begun: Begun::Unknown,
        held: Duration::ZERO,
    }
}

fn host_address(session: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a4d_0000 + session)
}

fn virtual_address(session: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a4d_0100 + session)
}
