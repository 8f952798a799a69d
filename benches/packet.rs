//! What does reading a packet cost, and what setting an end of it?
//!
//! `cargo bench --bench packet`. Packets are hot in the cache, as they are right
//! after the kernel has copied them.

#![expect(clippy::expect_used, reason = "a packet that cannot be built leaves nothing to measure")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use etherparse::PacketBuilder;
use sessionip::engine::Checksum;
use sessionip::packet::{Endpoint, parse};
use sessionip::translate::{Side, set_end, set_end_of_error};
use std::hint::black_box;
use std::net::IpAddr;

const HOST: [u8; 4] = [10, 77, 0, 1];
const FAR: [u8; 4] = [10, 77, 0, 2];
const VIRTUAL: [u8; 4] = [10, 77, 0, 101];
const HOST6: [u8; 16] = [0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const FAR6: [u8; 16] = [0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

/// The payload of the largest packet that generic segmentation offload hands
/// over whole: 65535 bytes less an IPv4 header and a TCP header with timestamps.
const GSO_PAYLOAD: usize = 65_535 - 20 - 32;

/// As TCP is when it has opened: with timestamps.
fn tcp(payload: usize) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv4(HOST, FAR, 64)
        .tcp(40_000, 5201, 1, 1000)
        .ack(1)
        .options_raw(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2])
        .expect("options of a whole number of words")
        .write(&mut packet, &vec![0xa5; payload])
        .expect("memory to write to");
    packet
}

fn udp(payload: usize) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv4(HOST, FAR, 64)
        .udp(40_000, 5201)
        .write(&mut packet, &vec![0xa5; payload])
        .expect("memory to write to");
    packet
}

fn udp6(payload: usize) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv6(HOST6, FAR6, 64)
        .udp(40_000, 5201)
        .write(&mut packet, &vec![0xa5; payload])
        .expect("memory to write to");
    packet
}

/// Port unreachable, from the far side.
fn error() -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv4(FAR, HOST, 64)
        .icmpv4_raw(3, 3, [0; 4])
        .write(&mut packet, &udp(512))
        .expect("memory to write to");
    packet
}

fn reading(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    for (name, packet) in
        [("tcp", tcp(1448)), ("udp", udp(1448)), ("udp-ipv6", udp6(1448)), ("icmp-error", error())]
    {
        group.bench_function(name, |bencher| bencher.iter(|| parse(black_box(&packet))));
    }
}

fn setting(criterion: &mut Criterion) {
    let to = Endpoint::new(VIRTUAL.into(), 40_000);
    let mut group = criterion.benchmark_group("set_end");
    for (name, mut packet, checksum) in [
        ("tcp-real", tcp(1448), Checksum::Real),
        ("tcp-partial", tcp(GSO_PAYLOAD), Checksum::Partial),
        ("udp-real", udp(1448), Checksum::Real),
        ("tcp-absent-1448", tcp(1448), Checksum::Absent),
        ("tcp-absent-64k", tcp(GSO_PAYLOAD), Checksum::Absent),
    ] {
        let parsed = parse(&packet).expect("a packet of ours");
        if checksum == Checksum::Absent {
            group.throughput(Throughput::Bytes(packet.len() as u64));
        }
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                set_end(black_box(&mut packet), &parsed, Side::Source, black_box(to), checksum)
            })
        });
    }
    group.finish();

    let mut packet = error();
    let parsed = parse(&packet).expect("a packet of ours");
    let from = IpAddr::from(HOST);
    criterion.bench_function("set_end_of_error", |bencher| {
        bencher.iter(|| {
            let side = Side::Destination;
            set_end_of_error(black_box(&mut packet), &parsed, side, from, to, Checksum::Real)
        })
    });
}

criterion_group!(benches, reading, setting);
criterion_main!(benches);
