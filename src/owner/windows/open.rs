//! How does the daemon come to ask about sockets, and what does it tell?

use super::{KernelSockets, Options, Reader};
use crate::companion::Companion;
use crate::divert::OpenError;
use crate::divert::windows::SOCKETS;
use crate::engine::Host;
use crate::owner::AtPool;
use crate::owner::table::SocketTable;
use crate::session::{Session, Sessions};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

/// Sockets cannot be followed.
#[derive(Debug, thiserror::Error)]
#[error("sockets cannot be followed: {0}")]
pub struct OwnerError(#[from] OpenError);

/// What the daemon has of the sockets: who answers the packet line, who tells the
/// keeper, and who has to be given a thread.
pub type Opened = (KernelSockets, Watch, Option<Reader>);

/// Opens the driver's socket layer, and takes in the sockets that are there.
///
/// # Errors
/// [`OwnerError`].
pub fn open(
    sessions: &Sessions,
    _: &mut Companion,
    _interface: u32,
    _now: Instant,
) -> Result<Opened, OwnerError> {
    let table = SocketTable::default();
    let sessions = sessions.clone();
    let reader = Reader::open(Options {
        table: table.clone(),
        priority: SOCKETS,
        is_login: Arc::new(move |id| sessions.is_login(id)),
    })?;
    Ok((reader.sockets(), Watch { table }, Some(reader)))
}

/// Does the host itself use this loopback address? Nothing of Windows does, and
/// programs that do are met at their ports only.
///
/// # Errors
/// None: on Linux there is a table to ask for.
pub fn host_uses(_: Ipv4Addr, _: &Sessions) -> io::Result<bool> {
    Ok(false)
}

/// Sockets at addresses of the pool, and what is to be known to tell.
#[derive(Clone, Debug)]
pub struct Watch {
    table: SocketTable,
}

impl Watch {
    /// Which addresses are virtual ones.
    pub fn set_pool(&self, pool: &[(IpAddr, IpAddr)]) {
        self.table.set_pool(pool.to_vec());
    }

    /// A session is known for a login now; sockets that its programs have are its
    /// own.
    pub fn admit(&self, session: &Session) {
        self.table.set_login(session.id.0, Some(session.id));
    }

    /// A session is over; what its programs still have is nobody's.
    pub fn dismiss(&self, session: &Session) {
        self.table.set_login(session.id.0, None);
    }

    /// A session's listener at its own virtual or loopback address counts as moved
    /// there: no program knows the address by itself.
    pub fn at_pool(&self, host: &Host) -> AtPool {
        let loopbacks = host.loopbacks.iter().flat_map(|(session, its)| {
            let addresses = [its.ipv4.map(IpAddr::V4), its.ipv6.map(IpAddr::V6)];
            addresses.into_iter().flatten().map(|address| (address, *session))
        });
        let loopbacks = loopbacks.collect();
        self.table.watch_loopbacks(!host.loopbacks.is_empty());
        let own = self.table.at_pool().into_iter().filter(|row| {
            let holder = host.holder(row.bound.address);
            holder.is_some() && holder == row.owner.session
        });
        let at_loopbacks = self.table.at_loopbacks(&loopbacks);
        let mut moved: Vec<_> =
            own.chain(at_loopbacks).map(|row| (row.protocol, row.bound)).collect();
        moved.sort_unstable();
        moved.dedup();
        AtPool { moved, foreign: self.table.foreign(&host.holders, &loopbacks) }
    }
}
