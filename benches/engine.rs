//! What does the engine cost for a packet of a known flow?
//!
//! `cargo bench --bench engine`. Batches of 32 packets of 100 bytes, as a divert
//! shows them: the packets hot in the cache, their flows picked at random from
//! all there are, half of them going out and half coming in. The figures are for
//! one packet.

#[path = "../tests/support/crowd.rs"]
mod crowd;

use criterion::{Criterion, criterion_group, criterion_main};
use crowd::{Crowd, facts, packet};
use sessionip::engine::{Direction, Diverted, Engine};
use sessionip::packet::Protocol;
use std::hint::black_box;
use std::time::{Duration, Instant};

const BATCH: usize = 32;

fn known_flow(criterion: &mut Criterion) {
    for (name, flows) in [("1 thousand flows", 1_000), ("1 million flows", 1_000_000)] {
        let mut engine = filled(flows);
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        criterion.bench_function(&format!("known flow/{name}/batches of {BATCH}"), |bench| {
            bench.iter_custom(|packets| batches(&mut engine, flows, &mut random, packets));
        });
        criterion.bench_function(&format!("known flow/{name}/one by one"), |bench| {
            bench.iter_custom(|packets| singles(&mut engine, flows, &mut random, packets));
        });
    }
}

/// Only the engine's own time counts, not the making of packets.
#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn batches(engine: &mut Engine<Crowd>, flows: u32, random: &mut Random, packets: u64) -> Duration {
    let mut verdicts = Vec::with_capacity(BATCH);
    let mut spent = Duration::ZERO;
    let count = packets.div_ceil(BATCH as u64);
    for _ in 0..count {
        let mut bytes: [_; BATCH] = std::array::from_fn(|turn| {
            packet(Protocol::Tcp, random.below(flows), direction(turn), false)
        });
        let mut turn = 0;
        let mut batch = bytes.each_mut().map(|bytes| {
            turn += 1;
            Diverted { bytes, facts: facts(direction(turn - 1)) }
        });
        let before = Instant::now();
        engine.process_batch(before, black_box(&mut batch), &mut verdicts);
        spent += before.elapsed();
        black_box(&verdicts);
    }
    // Whole batches were measured, and so many packets were asked for.
    spent.mul_f64(packets as f64 / (count * BATCH as u64) as f64)
}

#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn singles(engine: &mut Engine<Crowd>, flows: u32, random: &mut Random, packets: u64) -> Duration {
    let mut spent = Duration::ZERO;
    let count = packets.div_ceil(BATCH as u64);
    for _ in 0..count {
        let mut bytes: [_; BATCH] = std::array::from_fn(|turn| {
            packet(Protocol::Tcp, random.below(flows), direction(turn), false)
        });
        let before = Instant::now();
        for (turn, bytes) in bytes.iter_mut().enumerate() {
            let _ = black_box(engine.process(before, black_box(bytes), &facts(direction(turn))));
        }
        spent += before.elapsed();
    }
    spent.mul_f64(packets as f64 / (count * BATCH as u64) as f64)
}

#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn filled(flows: u32) -> Engine<Crowd> {
    let mut engine = crowd::engine(flows as usize);
    let now = Instant::now();
    for number in 0..flows {
        let mut opening = packet(Protocol::Tcp, number, Direction::Out, true);
        let _ = engine.process(now, &mut opening, &facts(Direction::Out));
    }
    assert_eq!(engine.flow_count(), flows as usize, "every flow was recorded");
    engine
}

const fn direction(turn: usize) -> Direction {
    if turn.is_multiple_of(2) { Direction::Out } else { Direction::In }
}

/// Marsaglia's xorshift: cheap, and good enough to pick flows by.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (((self.0 >> 32) * u64::from(bound)) >> 32) as u32
    }
}

criterion_group!(benches, known_flow);
criterion_main!(benches);
