//! Is the table of sockets right?
//!
//! The system's own list is compared with it: at the start, every two seconds,
//! and soon after somebody sent a packet that nobody knows.

use super::bell::Bell;
use super::clock::Clock;
use super::list::List;
use super::process::{IsLogin, Processes};
use crate::owner::table::{Event, Moment, SocketTable, What};
use std::io;
use std::time::Duration;

/// How often the list is looked at where nobody asks.
const EVERY: Duration = Duration::from_secs(2);
/// How soon again where somebody does.
const SOON: Duration = Duration::from_millis(10);
/// Looking takes this part of the reader's time at the most, one in so many, for
/// a host with very many sockets has a long list.
const SHARE: u32 = 4;

/// Keeps a table of sockets in agreement with the system. It runs in one thread,
/// the reader's.
#[derive(Debug)]
pub struct Census {
    table: SocketTable,
    bell: Bell,
    clock: Clock,
    list: List,
    processes: Processes,
    /// When the list was looked at last, and how long that took.
    looked: Moment,
    took: Duration,
}

impl Census {
    /// Looks at the list for the first time. Events that happen from before this
    /// on are to be applied after it.
    ///
    /// # Errors
    /// The system gives no list, or no event.
    pub fn begin(table: SocketTable, is_login: IsLogin) -> io::Result<Self> {
        let clock = Clock::new();
        let mut census = Self {
            table,
            bell: Bell::new()?,
            clock,
            list: List::default(),
            processes: Processes::new(clock, is_login),
            looked: clock.now(),
            took: Duration::ZERO,
        };
        census.look()?;
        Ok(census)
    }

    /// By which it is asked to look soon.
    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    /// How long may be waited until [`tend`](Self::tend) has something to do.
    pub fn patience(&self) -> Duration {
        let due = self.looked.after(self.pause());
        due.since(self.clock.now())
    }

    /// Looks at the list if it is time to, and forgets what closed long ago. An
    /// answer that the system does not give is counted, and asked for again.
    pub fn tend(&mut self) {
        let now = self.clock.now();
        if self.looked.after(self.pause()) > now {
            return;
        }
        if let Err(error) = self.look() {
            tracing::debug!(%error, "the system gave no list of its sockets");
            self.table.count_unread();
        }
        self.processes.sweep();
        self.table.expire(now);
    }

    /// Enters what happened, and who did it.
    pub(super) fn apply(&mut self, event: &Event) {
        let holder = match event.what {
            What::Close => None,
            What::Bind | What::Connect | What::Listen | What::Accept => {
                self.processes.holder(event.pid, event.at)
            }
        };
        self.table.apply(event, holder);
    }

    pub(super) fn clock(&self) -> Clock {
        self.clock
    }

    fn look(&mut self) -> io::Result<()> {
        self.bell.silence();
        let taken = self.clock.now();
        self.looked = taken;
        let rows = self.list.read(&self.clock);
        let read = rows.map(|rows| {
            self.table.reconcile(rows, taken, |pid| self.processes.holder(pid, taken));
        });
        self.took = self.clock.now().since(taken);
        read
    }

    fn pause(&self) -> Duration {
        let shortest = if self.bell.has_rung() { SOON } else { EVERY };
        shortest.max(self.took.saturating_mul(SHARE))
    }
}
