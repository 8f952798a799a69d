//! What do flows cost in memory, and packets in allocations?
//!
//! A binary of its own with one test: the allocator that counts is the whole
//! process's.

#[path = "support/crowd.rs"]
mod crowd;

use crowd::{Crowd, facts, packet};
use sessionip::engine::{Direction, Diverted, Engine};
use sessionip::packet::Protocol;
use sessionip::verdict::Verdict;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

const FLOWS: u32 = 1_000_000;

/// Bytes a flow may cost, indices and slack included.
const PER_FLOW: usize = 256;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(unsafe_code, reason = "the trait of allocators is unsafe to implement")]
// SAFETY: every call goes on to `System` with the arguments it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        PEAK.fetch_max(LIVE.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above; `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "time has to begin somewhere")]
fn a_million_flows_and_their_packets() {
    let now = Instant::now();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let before = LIVE.load(Relaxed);
        PEAK.store(before, Relaxed);
        let mut engine = crowd::engine(FLOWS as usize);
        for number in 0..FLOWS {
            let mut opening = packet(protocol, number, Direction::Out, true);
            let verdict = engine.process(now, &mut opening, &facts(Direction::Out));
            assert!(matches!(verdict, Verdict::Rewrite(_)), "flow {number}: {verdict:?}");
        }
        assert_eq!(engine.flow_count(), FLOWS as usize, "{protocol:?}");

        let per_flow = |bytes: usize| (bytes - before) as f64 / f64::from(FLOWS);
        let (live, peak) = (per_flow(LIVE.load(Relaxed)), per_flow(PEAK.load(Relaxed)));
        println!("{protocol:?}: {live:.1} bytes a flow, {peak:.1} at most while growing");
        assert!(peak <= PER_FLOW as f64, "{protocol:?}: {peak:.1} bytes a flow");

        // Once for the engine's own buffers, and once counted.
        go_on(&mut engine, protocol, now);
        let before = ALLOCATIONS.load(Relaxed);
        go_on(&mut engine, protocol, now);
        assert_eq!(ALLOCATIONS.load(Relaxed) - before, 1, "{protocol:?}: the list of verdicts");
    }
}

/// Packets of a thousand known flows, both ways, one by one and as a batch.
fn go_on(engine: &mut Engine<Crowd>, protocol: Protocol, now: Instant) {
    let mut verdicts = Vec::with_capacity(32);
    for number in (0..FLOWS).step_by(1000) {
        for direction in [Direction::Out, Direction::In] {
            let mut single = packet(protocol, number, direction, false);
            let verdict = engine.process(now, &mut single, &facts(direction));
            assert!(matches!(verdict, Verdict::Rewrite(_)), "{verdict:?}");

            let mut packets = [packet(protocol, number, direction, false); 32];
            let mut batch =
                packets.each_mut().map(|bytes| Diverted { bytes, facts: facts(direction) });
            engine.process_batch(now, &mut batch, &mut verdicts);
            assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Rewrite(_))));
        }
    }
}
