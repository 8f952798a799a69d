//! Windows: who owns a socket?
//!
//! The kernel cannot be asked for one socket. The driver tells of each as it is
//! bound, connects, listens, accepts and closes ([`Reader`], in a thread of its
//! own), the system's own list corrects that ([`Census`]), and what they know
//! stands in the [`SocketTable`](super::table::SocketTable), which the packet line
//! reads ([`KernelSockets`]). An event may come after the packet that it is about:
//! then the packet is held, the list is looked at, and it is asked for again.

mod bell;
mod census;
mod clock;
mod ending;
mod events;
mod list;
mod notice;
mod open;
mod process;
mod reader;
mod spelling;

pub use bell::Bell;
pub use census::Census;
pub use clock::Clock;
pub use ending::end_bound_to;
pub(crate) use events::Events;
pub use open::{Opened, OwnerError, Watch, host_uses, open};
pub use process::IsLogin;
pub use reader::{Options, Reader};
pub use spelling::one_spelling;

use crate::companion::Moved;
use crate::owner::table::SocketTable;
use crate::owner::{Owner, Ping, Pinger, Receiver, SocketRow, Sockets};
use crate::packet::{Endpoint, Protocol};
use crate::session::Session;
use std::collections::HashMap;
use std::io;
use std::time::Instant;

/// The sockets of this host, whose they are, and who listens.
///
/// A look-up is one or two looks into tables in memory, well below a microsecond.
#[derive(Clone, Debug)]
pub struct KernelSockets {
    table: SocketTable,
    bell: Bell,
}

impl KernelSockets {
    /// Reads that table. Whoever fills it hears the bell.
    pub fn new(table: SocketTable, bell: Bell) -> Self {
        Self { table, bell }
    }

    /// The sockets of a session that was there before the daemon, or before it was
    /// known for a login, are its own from now on.
    pub fn learn(&mut self, session: &Session) {
        self.table.set_login(session.id.0, Some(session.id));
    }

    /// There is nothing to do here: the reader forgets what is old.
    pub fn tend(&mut self, _now: Instant) {}

    /// How often the system did not give its list of sockets.
    pub fn unanswered(&self) -> u64 {
        self.table.counters().unread
    }

    /// Every socket of a session that takes what is sent to it: TCP listeners
    /// and UDP sockets. `moved` are those that the hook says it has moved. Not for
    /// the packet line.
    ///
    /// # Errors
    /// None: the table is always there. On Linux the kernel is asked.
    pub fn listing(&mut self, moved: &[Moved]) -> io::Result<Vec<SocketRow>> {
        let key = |it: &Moved| (it.session, it.pid, it.protocol, it.bound);
        let moved: HashMap<_, Endpoint> = moved.iter().map(|it| (key(it), it.asked)).collect();
        let rows = self.table.receivers().into_iter().filter_map(|row| {
            let Owner { session, pid, program, .. } = row.owner;
            let (protocol, bound, session) = (row.protocol, row.bound, session?);
            let asked = moved.get(&(session, pid, protocol, bound)).copied().unwrap_or(bound);
            Some(SocketRow { protocol, asked, bound, session, pid, program })
        });
        Ok(rows.collect())
    }
}

impl Sockets for KernelSockets {
    fn owner(&mut self, protocol: Protocol, local: Endpoint, remote: Endpoint) -> Option<Owner> {
        let owner = self.table.owner(protocol, local, remote);
        if owner.is_none() {
            self.bell.ring();
        }
        owner
    }

    /// Programs ask the kernel to ping for them (`IcmpSendEcho`), and it does so
    /// by no socket of theirs.
    fn pinger(&mut self, _: &Ping) -> Pinger {
        Pinger::OnBehalf
    }

    fn receiver(
        &mut self,
        protocol: Protocol,
        local: Endpoint,
        remote: Endpoint,
    ) -> Option<Receiver> {
        self.table.receiver(protocol, local, remote)
    }
}
