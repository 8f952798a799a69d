//! What became of the packets, for those who look from another thread?

use std::fs::File;
use std::io::{self, Read, Seek};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// The kernel's table of queues, of the caller's network namespace.
const QUEUES: &str = "/proc/thread-self/net/netfilter/nfnetlink_queue";

/// What a [`Nfqueue`](super::Nfqueue) counts. Written by the thread that takes
/// turns, read by any.
#[derive(Debug)]
pub struct Counters {
    received: AtomicU64,
    batches: AtomicU64,
    refused: AtomicU64,
    truncated: AtomicU64,
    queues: std::ops::RangeInclusive<u16>,
    /// Opened where the queues are: readers may live in another namespace.
    table: Mutex<File>,
}

/// Packets that the kernel dropped instead of queueing them, since the queues
/// were opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Their queue was full.
    pub queue_dropped: u64,
    /// The socket's receive buffer was full.
    pub user_dropped: u64,
}

impl Counters {
    pub(super) fn open(queues: std::ops::RangeInclusive<u16>) -> io::Result<Self> {
        Ok(Self {
            received: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            truncated: AtomicU64::new(0),
            queues,
            table: Mutex::new(File::open(QUEUES)?),
        })
    }

    /// Packets that came from the kernel.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// System calls that brought at least one packet.
    pub fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    /// Verdicts that did not reach their packet: it was gone, or the kernel was
    /// out of memory.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Packets dropped because they were longer than what a message carries.
    pub fn truncated(&self) -> u64 {
        self.truncated.load(Ordering::Relaxed)
    }

    /// Asks the kernel what it had to drop.
    ///
    /// # Errors
    /// Its table of queues cannot be read.
    pub fn losses(&self) -> io::Result<Losses> {
        let mut text = String::new();
        {
            let mut table = self.table.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            table.rewind()?;
            table.read_to_string(&mut text)?;
        }
        Ok(losses_of(&text, &self.queues))
    }

    pub(super) fn count_batch(&self, packets: u64, truncated: u64) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.received.fetch_add(packets, Ordering::Relaxed);
        if truncated > 0 {
            self.truncated.fetch_add(truncated, Ordering::Relaxed);
        }
    }

    pub(super) fn count_refused(&self, verdicts: u64) {
        self.refused.fetch_add(verdicts, Ordering::Relaxed);
    }
}

/// The columns are those of `seq_show` in net/netfilter/nfnetlink_queue.c:
/// queue, port, waiting, copy mode, copy range, queue dropped, user dropped, ...
fn losses_of(table: &str, queues: &std::ops::RangeInclusive<u16>) -> Losses {
    let mut losses = Losses::default();
    for row in table.lines() {
        let mut columns = row.split_ascii_whitespace();
        let ours = columns.next().and_then(|queue| queue.parse().ok());
        if !ours.is_some_and(|queue| queues.contains(&queue)) {
            continue;
        }
        let mut number = |skipped| columns.nth(skipped).and_then(|n| n.parse().ok()).unwrap_or(0);
        losses.queue_dropped += number(4);
        losses.user_dropped += number(0);
    }
    losses
}

/// The netlink port of the program that owns `queue`: its process id, mostly.
pub(super) fn owner(queue: u16) -> Option<u32> {
    std::fs::read_to_string(QUEUES).ok().and_then(|table| owner_in(&table, queue))
}

fn owner_in(table: &str, queue: u16) -> Option<u32> {
    table.lines().find_map(|row| {
        let mut columns = row.split_ascii_whitespace();
        (columns.next()?.parse() == Ok(queue)).then(|| columns.next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = " 7769   1204     0 2 65531     9     9        0  1\n \
                         7770   1205    12 2 65531     3     4      100  1\n \
                         7775   1205     0 2 65531    10    20      100  1\n";

    #[test]
    fn losses_are_those_of_our_queues() {
        let losses = losses_of(TABLE, &(7770..=7775));
        assert_eq!(losses, Losses { queue_dropped: 13, user_dropped: 24 });
        assert_eq!(losses_of("garbage\n 7770\n", &(7770..=7775)), Losses::default());
    }

    #[test]
    fn owner_of_a_queue_is_named() {
        assert_eq!(owner_in(TABLE, 7769), Some(1204));
        assert_eq!(owner_in(TABLE, 1), None);
    }
}
