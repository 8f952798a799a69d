//! What does a look into the table of sockets cost, where the kernel cannot be
//! asked for one socket? Runs on every platform.

use criterion::{Criterion, criterion_group, criterion_main};
use sessionip::owner::Owner;
use sessionip::owner::table::{Event, Holder, Moment, SocketTable, What};
use sessionip::packet::{Endpoint, Protocol};
use sessionip::session::SessionId;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Connections that are there besides, as on a host with many sessions.
const CROWD: u32 = 50_000;
/// Sockets that share a port for multicast.
const SHARED: u32 = 100;

const TCP: Protocol = Protocol::Tcp;
const UDP: Protocol = Protocol::Udp;
const HERE: [u8; 4] = [10, 77, 0, 1];

fn end(address: impl Into<Ipv4Addr>, port: u16) -> Endpoint {
    Endpoint::new(address.into().into(), port)
}

fn tell(table: &SocketTable, what: What, protocol: Protocol, local: Endpoint, number: u32) {
    let remote = (what == What::Connect).then(|| peer(number));
    let endpoint = u64::from(number);
    let event = Event {
        what,
        at: Moment(endpoint),
        protocol,
        local,
        remote,
        endpoint,
        parent: 0,
        pid: number,
    };
    let owner = Owner {
        session: Some(SessionId(number % 100)),
        pid: number,
        program: Arc::default(),
        marks: Default::default(),
        lineage: None,
    };
    table.apply(&event, Some(Holder { owner, station: number % 100 }));
}

fn peer(number: u32) -> Endpoint {
    end(Ipv4Addr::from_bits(0x0a58_0000 + number), 443)
}

fn look_ups(criterion: &mut Criterion) {
    let table = SocketTable::default();
    let port = |number: u32| 10_000 + u16::try_from(number % 50_000).unwrap_or(0);
    for number in 1..=CROWD {
        tell(&table, What::Connect, TCP, end(HERE, port(number)), number);
    }
    for number in CROWD + 1..=CROWD + SHARED {
        tell(&table, What::Bind, UDP, end([0, 0, 0, 0], 5353), number);
    }
    tell(&table, What::Listen, TCP, end([0, 0, 0, 0], 80), CROWD + SHARED + 1);
    let (connected, nowhere) = (CROWD / 2, end([127, 9, 9, 9], 9));
    let mut group = criterion.benchmark_group("socket table");
    for (name, protocol, local, remote) in [
        ("tcp connected", TCP, end(HERE, port(connected)), peer(connected)),
        ("tcp listening", TCP, end(HERE, 80), peer(1)),
        ("udp shared by 100", UDP, end(HERE, 5353), peer(1)),
        ("nothing", TCP, nowhere, nowhere),
    ] {
        assert_eq!(table.owner(protocol, local, remote).is_some(), name != "nothing", "{name}");
        group.bench_function(format!("owner, {name}"), |bencher| {
            bencher.iter(|| table.owner(protocol, black_box(local), black_box(remote)));
        });
        group.bench_function(format!("receiver, {name}"), |bencher| {
            bencher.iter(|| table.receiver(protocol, black_box(local), black_box(remote)));
        });
    }
    group.finish();
}

criterion_group!(benches, look_ups);
criterion_main!(benches);
