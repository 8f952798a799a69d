//! How do packets come and go?
//!
//! A divert hands over packets in batches, takes a verdict for each, and lets
//! the changed ones go on changed.

#![warn(clippy::indexing_slicing, reason = "nothing that strangers send may panic")]

#[cfg(target_os = "linux")]
pub mod linux;

use crate::engine::Diverted;
use crate::verdict::Verdict;
use std::io;
use std::time::Duration;

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
