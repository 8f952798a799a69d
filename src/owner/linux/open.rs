//! How does the daemon come to ask about sockets?

use super::diag::SockDiag;
use super::{KernelSockets, Sources};
use crate::companion::{Companion, TableError};
use crate::engine::Host;
use crate::owner::{AtPool, Told};
use crate::session::{Session, Sessions};
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Sockets cannot be asked about.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub enum OwnerError {
    /// What the hook recorded of them is out of reach.
    Table(#[from] TableError),
    /// The kernel does not answer.
    Kernel(#[from] io::Error),
}

/// What the daemon has of the sockets: who answers the packet line, who tells the
/// keeper, and who has to be given a thread.
pub type Opened = (KernelSockets, Watch, Option<Reader>);

/// Looks at the sockets of this network namespace; the pool's NIC is `interface`.
///
/// # Errors
/// [`OwnerError`].
pub fn open(
    sessions: &Sessions,
    companion: &mut Companion,
    interface: u32,
    now: Instant,
) -> Result<Opened, OwnerError> {
    let sources = Sources {
        scopes: sessions.scopes.clone(),
        owners: Some(companion.owners()?),
        closed: companion.closed(),
        pings: companion.noted_pings(),
        interface,
    };
    Ok((KernelSockets::open(sources, now)?, Watch, None))
}

/// Sockets at addresses of the pool.
#[derive(Clone, Copy, Debug)]
pub struct Watch;

impl Watch {
    /// The hook knows the pool.
    pub fn set_pool(&self, _: &[(IpAddr, IpAddr)]) {}

    /// The kernel knows a socket's cgroup.
    pub fn admit(&self, _: &Session) {}

    /// The kernel knows a socket's cgroup.
    pub fn dismiss(&self, _: &Session) {}

    /// None that the packet line would have to know of: the hook leads localhost
    /// to what it moved, and refuses the address of another session.
    pub fn at_pool(&self, _: &Host) -> AtPool {
        AtPool::default()
    }
}

/// Whoever has to be told of sockets in a thread of his own: the kernel is asked
/// instead, so there is nobody.
#[derive(Debug)]
pub enum Reader {}

impl Reader {
    /// Takes what has happened to sockets; waits up to `wait` for it.
    ///
    /// # Errors
    /// None.
    pub fn turn(&mut self, _wait: Duration) -> io::Result<Told> {
        match *self {}
    }
}

/// Ends the sockets that are bound to `address`, and says how many.
///
/// # Errors
/// The kernel cannot do it (`CONFIG_INET_DIAG_DESTROY`).
pub fn end_bound_to(address: IpAddr) -> io::Result<usize> {
    SockDiag::open()?.end_bound_to(address)
}
