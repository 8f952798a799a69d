//! How many packets a second does one core receive, rewrite and send by
//! WinDivert's interface, and how often does it allocate?
//!
//! `cargo bench --bench windivert -- SECONDS`, on Windows or under Wine. The
//! engine and the diverter are the product's; packets of 100 bytes come from the
//! memory of a stand-in for WinDivert.dll as fast as they are asked for. What the
//! driver costs is not in the figure. It ends with an error below half a million
//! packets a second, or if a packet allocates.

#![cfg_attr(
    windows,
    expect(
        clippy::expect_used,
        clippy::print_stdout,
        clippy::disallowed_methods,
        unsafe_code,
        reason = "a measurement reads the clock, counts allocations and says what it saw"
    )
)]

#[cfg(windows)]
#[path = "../tests/support/crowd.rs"]
#[expect(dead_code, reason = "others use more of it")]
mod crowd;
#[cfg(windows)]
#[path = "../tests/windivert/fake.rs"]
#[expect(dead_code, reason = "the tests, whose stand-in this is, use more of it")]
mod fake;
#[cfg(windows)]
#[path = "../tests/windivert/load.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod load;

#[cfg(windows)]
fn main() -> std::process::ExitCode {
    measure::main()
}

#[cfg(not(windows))]
fn main() {}

#[cfg(windows)]
mod measure {
    use super::load::Load;
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::process::ExitCode;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::time::{Duration, Instant};

    /// Packets a second, received, rewritten and sent.
    const WANTED: f64 = 500_000.0;
    const FLOWS: u32 = 1_000;
    const ROUND: u64 = 200_000;

    static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

    struct Counting;

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    // SAFETY: every call goes on to `System` with the arguments it came with.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            ALLOCATIONS.fetch_add(1, Relaxed);
            // SAFETY: the caller's promises are those that `System` asks for.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            // SAFETY: as above; `pointer` came from `System`.
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    pub(super) fn main() -> ExitCode {
        let arguments: Vec<_> = std::env::args().skip(1).collect();
        if !arguments.iter().any(|argument| argument == "--bench") {
            return ExitCode::SUCCESS; // `cargo test` runs benches to see that they compile
        }
        let seconds = arguments.iter().find_map(|argument| argument.parse().ok());
        let mut load = Load::new(FLOWS);
        load.open_flows();
        load.pass_known(ROUND); // for the engine's own buffers
        let span = Duration::from_secs(seconds.unwrap_or(5));
        let (mut packets, mut best) = (0, 0.0_f64);
        let allocations = ALLOCATIONS.load(Relaxed);
        let start = Instant::now();
        while start.elapsed() < span {
            let round = Instant::now();
            load.pass_known(ROUND);
            packets += ROUND;
            best = best.max(ROUND as f64 / round.elapsed().as_secs_f64());
        }
        let mean = packets as f64 / start.elapsed().as_secs_f64();
        let allocations = ALLOCATIONS.load(Relaxed) - allocations;
        let tally = load.fake.tally();
        println!(
            "{packets} packets of 100 bytes: {mean:.0} a second, {best:.0} in the best round of \
             {ROUND}; {allocations} allocations; {:.0} packets a call; of {} sent packets looked \
             at {} had a wrong checksum",
            tally.received as f64 / tally.receives as f64,
            tally.checked,
            tally.wrong,
        );
        let right = tally.sent == tally.received && tally.checked > 0 && tally.wrong == 0;
        if right && allocations == 0 && best >= WANTED {
            ExitCode::SUCCESS
        } else {
            println!("wanted: {WANTED} a second, no allocation, all sent and none wrong");
            ExitCode::FAILURE
        }
    }
}
