//! Who is told of sockets as they come and go?

use super::KernelSockets;
use super::bell::Bell;
use super::census::Census;
use super::events::Events;
use super::process::IsLogin;
use crate::divert::OpenError;
use crate::owner::Told;
use crate::owner::table::SocketTable;
use std::fmt;
use std::io;
use std::time::Duration;

/// How many batches are taken in one turn: the queue's length.
const BATCHES: usize = 64;

/// How long it waits for memory.
const REST: Duration = Duration::from_millis(10);

/// What the reader needs.
#[derive(Clone)]
pub struct Options {
    /// Filled by the reader. Its pool is to be set first.
    pub table: SocketTable,
    /// Of the driver's handle; above those that take packets.
    pub priority: i16,
    /// Which sessions of the system are given addresses.
    pub is_login: IsLogin,
}

/// Takes the driver's socket events, and keeps the table right.
#[derive(Debug)]
pub struct Reader {
    events: Events,
    census: Census,
    table: SocketTable,
    changes: u64,
}

impl Reader {
    /// Opens the driver first, so that no event is missed, and then takes in what
    /// is there. Nobody waits for it: it wants a thread of its own, soon, of a
    /// high priority.
    ///
    /// # Errors
    /// There is no driver, this process may not, or the system gives no list.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let events = Events::open(options.priority)?;
        let Options { table, is_login, .. } = options;
        let census = Census::begin(table.clone(), is_login).map_err(OpenError::System)?;
        Ok(Self { events, census, table, changes: 0 })
    }

    /// What the packet line asks.
    pub fn sockets(&self) -> KernelSockets {
        KernelSockets::new(self.table.clone(), self.census.bell().clone())
    }

    /// Ends a [`turn`](Self::turn) from another thread.
    pub fn waker(&self) -> Bell {
        self.census.bell().clone()
    }

    /// Waits for events up to `wait`, and takes them in.
    ///
    /// # Errors
    /// The driver is gone: there will be no more events.
    pub fn turn(&mut self, wait: Duration) -> io::Result<Told> {
        let clock = self.census.clock();
        let mut told = Told::default();
        let mut wait = wait.min(self.census.patience());
        for _ in 0..BATCHES {
            let census = &mut self.census;
            let bell = census.bell().raw();
            let taken = self.events.turn(bell, wait, |notice| {
                if let Some(event) = notice.event(&clock) {
                    census.apply(&event);
                }
            });
            let taken = match taken {
                // The list of the system says meanwhile what the driver does not.
                Err(error) if is_shortage(&error) => {
                    std::thread::sleep(REST);
                    0
                }
                taken => taken?,
            };
            told.events += taken;
            wait = Duration::ZERO;
            if taken == 0 {
                break;
            }
        }
        self.census.tend();
        let changes = self.table.changes_at_pool();
        told.at_pool = changes != std::mem::replace(&mut self.changes, changes);
        Ok(told)
    }
}

/// The system is out of memory for a moment (`ERROR_NOT_ENOUGH_MEMORY`,
/// `ERROR_NO_SYSTEM_RESOURCES`).
fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(8 | 1450))
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("priority", &self.priority).finish_non_exhaustive()
    }
}
