//! How do packets come and go?
//!
//! A [`Divert`] hands over packets in batches, takes a verdict for each, and lets
//! the changed ones go on changed. A platform supplies one ([`Diverter`]) and the
//! [`Switch`] that says which packets are led to it; and knows of rules of ours that
//! would come back without it ([`stored_rules`]).

#![warn(clippy::indexing_slicing, reason = "nothing that strangers send may panic")]

#[cfg(any(windows, test))]
mod filter;
mod held;
#[cfg(target_os = "linux")]
pub mod linux;
#[cfg(windows)]
pub mod windows;

#[cfg(windows)]
pub use windows::{
    Counters, Diverter, OpenError, OpenError as DivertError, SelectError, Switch, Waited, Waker,
    open, run_ahead, stored_rules,
};

#[cfg(target_os = "linux")]
pub use linux::{
    DivertError, Nfqueue as Diverter, RulesError as SelectError, Switch, Waker, open, run_ahead,
    stored_rules,
};

use crate::engine::Diverted;
use crate::packet::{Endpoint, Protocol};
use crate::verdict::Verdict;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Which packets are led here. What it does not name goes its way untouched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// First and last of each range of virtual addresses.
    pub pool: Vec<(IpAddr, IpAddr)>,
    /// The host addresses on the pool's NIC.
    pub host_addresses: Vec<IpAddr>,
    /// The cgroups whose sockets' packets are led here, relative to the root of
    /// their tree; none where there are no cgroups.
    pub parents: Vec<String>,
    /// The folder with `program-ping`, which notes whose a ping is, and
    /// `program-ping_error`, which knows errors about one; where there is such a
    /// thing.
    pub ping_programs: Option<PathBuf>,
    /// The directed broadcast addresses of the pool's NIC: what is sent there is left
    /// alone, like all other broadcast.
    pub broadcast: Vec<IpAddr>,
    /// IPv6 of sessions must not leave unseen: they have addresses of it, or it is
    /// blocked.
    pub needs_ipv6: bool,
    /// Local ports that are left alone.
    pub exclude_ports: Vec<(Protocol, u16)>,
    /// Listeners that the hook moved to a virtual address: their sessions look for
    /// them at 127.0.0.1 and at the host address, too (O2, O4).
    pub moved: Vec<(Protocol, Endpoint)>,
    /// Sockets bound to the address of a session that is not theirs (O5): nothing
    /// leaves from there and nothing arrives.
    pub foreign: Vec<(Protocol, Endpoint)>,
}

/// Where packets come from and go back to.
pub trait Divert {
    /// Waits up to `wait` for packets, shows them to `decide` as one batch, and
    /// sends each on its way by the verdict at the same place in the list that
    /// `decide` fills. Packets of a flow keep their order. A packet that is to
    /// be held is kept (in bounded number) and shown again in later turns with
    /// [`Facts::held`](crate::engine::Facts::held) counted up. Returns how many
    /// packets were shown; 0 when the wait was over or something else woke it.
    ///
    /// # Errors
    /// The divert is gone: there will be no more packets.
    fn turn(
        &mut self,
        wait: Duration,
        decide: &mut dyn FnMut(&mut [Diverted<'_>], &mut Vec<Verdict>),
    ) -> io::Result<usize>;
}
