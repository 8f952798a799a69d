//! What became of the packets, for those who look from another thread?

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use windows_sys::Win32::System::Performance::{QueryPerformanceCounter, QueryPerformanceFrequency};

/// How long a packet may wait in the driver before the driver drops it.
pub(super) const QUEUE_TIME: Duration = Duration::from_millis(500);

/// From here on waiting is a sign of overload: half of what is allowed.
const LATE: Duration = Duration::from_millis(QUEUE_TIME.as_millis() as u64 / 2);

/// How often overload is told.
const SILENCE: Duration = Duration::from_secs(10);

/// The upper bounds of the classes of waiting, in microseconds; the last has none.
pub const BOUNDS: [u64; 8] = [100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 250_000];

/// What a [`Diverter`](super::Diverter) counts. Written by the thread that takes
/// turns, read by any.
#[derive(Debug)]
pub struct Counters {
    received: AtomicU64,
    batches: AtomicU64,
    refused: AtomicU64,
    truncated: AtomicU64,
    malformed: AtomicU64,
    impostors: AtomicU64,
    handles: AtomicUsize,
    longest: AtomicU64,
    recent: AtomicU64,
    classes: [AtomicU64; BOUNDS.len() + 1],
    late: AtomicU64,
    told: AtomicU64,
    clock: Clock,
}

/// How long packets have waited in the driver. It drops without counting, those
/// that waited for longer than half a second first: this is the only sign of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waited {
    /// The longest that one waited that came here at all.
    pub longest: Duration,
    /// About the mean of the last hundred batches' oldest packets.
    pub recent: Duration,
    /// How many batches' oldest packets waited for at most [`BOUNDS`], and for longer.
    pub classes: [u64; BOUNDS.len() + 1],
    /// How many batches came after more than half the time after which packets
    /// are dropped: the thread that takes turns does not keep up.
    pub late: u64,
}

impl Counters {
    pub(super) fn new() -> Self {
        Self {
            received: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            truncated: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            impostors: AtomicU64::new(0),
            handles: AtomicUsize::new(0),
            longest: AtomicU64::new(0),
            recent: AtomicU64::new(0),
            classes: std::array::from_fn(|_| AtomicU64::new(0)),
            late: AtomicU64::new(0),
            told: AtomicU64::new(0),
            clock: Clock::new(),
        }
    }

    /// Packets that came from the driver.
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Calls that brought at least one packet.
    pub fn batches(&self) -> u64 {
        self.batches.load(Relaxed)
    }

    /// Packets that the driver may not have sent: one whose hop limit ended, or
    /// all of a call that failed.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Packets lost because they were longer than WinDivert's longest.
    pub fn truncated(&self) -> u64 {
        self.truncated.load(Relaxed)
    }

    /// Packets lost because their length is not the one they say, or that of a
    /// packet before them in their batch is not.
    pub fn malformed(&self) -> u64 {
        self.malformed.load(Relaxed)
    }

    /// Packets that another driver had injected: they went on as they came.
    pub fn impostors(&self) -> u64 {
        self.impostors.load(Relaxed)
    }

    /// Handles that packets are read from, those included that were replaced and
    /// have not come to their end.
    pub fn handles(&self) -> usize {
        self.handles.load(Relaxed)
    }

    /// How long packets waited in the driver. How many it dropped nobody can know.
    pub fn waited(&self) -> Waited {
        Waited {
            longest: Duration::from_micros(self.longest.load(Relaxed)),
            recent: Duration::from_micros(self.recent.load(Relaxed)),
            classes: std::array::from_fn(|at| {
                self.classes.get(at).map_or(0, |class| class.load(Relaxed))
            }),
            late: self.late.load(Relaxed),
        }
    }

    /// Counts a batch of which the oldest packet is from `timestamp`.
    pub(super) fn count_batch(&self, packets: usize, malformed: usize, timestamp: i64) {
        self.batches.fetch_add(1, Relaxed);
        self.received.fetch_add(packets as u64, Relaxed);
        if malformed > 0 {
            self.malformed.fetch_add(malformed as u64, Relaxed);
        }
        let now = self.clock.now();
        self.count_wait(self.clock.between(timestamp, now), self.clock.between(0, now));
    }

    fn count_wait(&self, waited: Duration, now: Duration) {
        let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.longest.fetch_max(micros, Relaxed);
        // One writer: nobody changes it between the two. Weighs a hundredth.
        let recent = self.recent.load(Relaxed);
        let step = (i128::from(micros) - i128::from(recent)) / 100;
        self.recent.store(recent.saturating_add_signed(step as i64), Relaxed);
        let class = BOUNDS.iter().take_while(|bound| micros > **bound).count();
        if let Some(class) = self.classes.get(class) {
            class.fetch_add(1, Relaxed);
        }
        if waited > LATE {
            let late = self.late.fetch_add(1, Relaxed) + 1;
            let seconds = now.as_secs() + 1;
            let told = self.told.load(Relaxed);
            if told == 0 || seconds >= told + SILENCE.as_secs() {
                self.told.store(seconds, Relaxed);
                tracing::warn!(
                    waited_ms = micros / 1000,
                    late_batches = late,
                    "packets wait for long in the WinDivert driver, which drops them after {} ms",
                    QUEUE_TIME.as_millis(),
                );
            }
        }
    }

    pub(super) fn count_refused(&self, packets: usize) {
        self.refused.fetch_add(packets as u64, Relaxed);
    }

    pub(super) fn count_truncated(&self) {
        self.truncated.fetch_add(1, Relaxed);
    }

    pub(super) fn count_impostor(&self) {
        self.impostors.fetch_add(1, Relaxed);
    }

    pub(super) fn set_handles(&self, handles: usize) {
        self.handles.store(handles, Relaxed);
    }
}

/// The clock that WinDivert's timestamps are of.
#[derive(Debug)]
struct Clock {
    /// Ticks a second, the same since the system started.
    frequency: i64,
}

impl Clock {
    fn new() -> Self {
        let mut frequency = 0;
        #[expect(unsafe_code, reason = "nothing safe says it")]
        // SAFETY: the place to write to is ours.
        unsafe {
            QueryPerformanceFrequency(&raw mut frequency);
        }
        Self { frequency: frequency.max(1) }
    }

    fn now(&self) -> i64 {
        let mut ticks = 0;
        #[expect(unsafe_code, reason = "std's Instant is this clock, but does not tell its ticks")]
        // SAFETY: the place to write to is ours.
        unsafe {
            QueryPerformanceCounter(&raw mut ticks);
        }
        ticks
    }

    fn between(&self, earlier: i64, later: i64) -> Duration {
        let ticks = i128::from(later) - i128::from(earlier);
        let nanos = ticks.max(0) * 1_000_000_000 / i128::from(self.frequency);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_classed_and_late_from_half_the_time_on() {
        let counters = Counters::new();
        let waits = [50, 100, 101, 2_000, 250_000, 250_001].map(Duration::from_micros);
        for waited in waits {
            counters.count_wait(waited, Duration::ZERO);
        }
        let Waited { longest, classes, late, recent } = counters.waited();
        assert_eq!(longest, Duration::from_micros(250_001));
        assert_eq!(classes, [2, 1, 0, 1, 0, 0, 0, 1, 1]);
        assert_eq!(late, 1);
        assert!(
            recent > Duration::from_millis(4) && recent < Duration::from_millis(6),
            "{recent:?}"
        );
    }

    #[test]
    fn ticks_are_time_even_where_a_timestamp_is_nonsense() {
        let clock = Clock { frequency: 10_000_000 };
        assert_eq!(clock.between(5, 25), Duration::from_micros(2));
        assert_eq!(clock.between(25, 5), Duration::ZERO);
        assert_eq!(clock.between(i64::MIN, i64::MAX), Duration::from_nanos(u64::MAX));
        let counters = Counters::new();
        for timestamp in [i64::MIN, -1, 0, i64::MAX] {
            counters.count_batch(1, 0, timestamp);
        }
        assert_eq!((counters.received(), counters.batches()), (4, 4));
    }
}
