//! How do verdicts get back to the kernel in few system calls and copies?

use super::counters::Counters;
use super::netlink::{self, Fate, Reply};
use super::socket::{BATCH, Socket};
use std::io::IoSlice;

/// A payload up to this long is copied next to its verdict; a longer one is
/// handed over from where it is.
const SHORT: usize = 4096;

/// Verdicts on their way, in the order in which they were given.
#[derive(Debug)]
pub(super) struct Outbox {
    datagram: Vec<u8>,
    /// What the datagram answers, in case the kernel does not take it.
    pending: Vec<Reply>,
}

impl Outbox {
    pub(super) fn new() -> Self {
        let room = BATCH * (SHORT + netlink::LARGEST_ENVELOPE);
        Self { datagram: Vec::with_capacity(room), pending: Vec::with_capacity(BATCH) }
    }

    /// Adds a verdict; `payload` if the packet is to be changed.
    ///
    /// A long payload goes in a datagram of its own. There it begins where the
    /// kernel's copy of it into the packet runs at full speed: behind other
    /// verdicts its offset in a page comes to lie just below the packet's, for
    /// which a `rep movsb` of 64 KiB takes 15 times as long (AMD Zen 3 and 4). It
    /// also keeps the kernel's buffer small enough to be contiguous.
    pub(super) fn add(
        &mut self,
        socket: &Socket,
        counters: &Counters,
        reply: Reply,
        payload: Option<&[u8]>,
    ) {
        match payload {
            Some(long) if long.len() > SHORT => {
                self.flush(socket, counters);
                self.pending.push(reply);
                netlink::reply_to_be_continued(&mut self.datagram, reply, long.len());
                self.send(socket, counters, long);
            }
            short_or_none => {
                self.pending.push(reply);
                netlink::reply(&mut self.datagram, reply, short_or_none);
            }
        }
        if self.pending.len() == BATCH {
            self.flush(socket, counters);
        }
    }

    /// Sends what is there.
    pub(super) fn flush(&mut self, socket: &Socket, counters: &Counters) {
        if !self.pending.is_empty() {
            self.send(socket, counters, &[]);
        }
    }

    fn send(&mut self, socket: &Socket, counters: &Counters, end: &[u8]) {
        let parts = [IoSlice::new(&self.datagram), IoSlice::new(end)];
        if let Err(errno) = socket.send(&parts) {
            tracing::debug!(%errno, verdicts = self.pending.len(), "the kernel took no verdicts");
            counters.count_refused(self.pending.len() as u64);
            self.drop_pending(socket);
        }
        self.datagram.clear();
        self.pending.clear();
    }

    /// Nothing was said about these packets, so that they would stay in their
    /// queue for ever: drops them, one small message each.
    fn drop_pending(&mut self, socket: &Socket) {
        for reply in &self.pending {
            self.datagram.clear();
            netlink::reply(&mut self.datagram, Reply { fate: Fate::Drop, ..*reply }, None);
            if let Err(errno) = socket.send(&[IoSlice::new(&self.datagram)]) {
                tracing::debug!(%errno, queue = reply.queue, "a packet stays in its queue");
            }
        }
    }
}
