//! How do packets come and go on Linux? By NFQUEUE.
//!
//! The rules of [`rules`] lead the packets of sessions and of pool addresses
//! into seven queues. The queue says what the packet alone does not: whether its
//! flow has been translated from its first packet on (its conntrack mark), which
//! outlives this process. One netlink socket owns all seven, so that packets keep
//! their order.
//!
//! | queue | packets | size |
//! |---|---|---|
//! | base + 0 | TCP out, new | the host's (GSO) |
//! | base + 1 | TCP out, of a translated flow | the host's |
//! | base + 2 | TCP in | the host's (GRO) |
//! | base + 3 | UDP, ICMP and everything on lo: out, new | the wire's |
//! | base + 4 | the same, of a translated flow | the wire's |
//! | base + 5 | the same, in | the wire's |
//! | base + 6 | pings and what is about them, both ways | the wire's |
//!
//! UDP in the host's size would be lost on its way in: the kernel cannot split a
//! changed UDP train again. On lo the host's size exceeds what a message carries.

mod conntrack;
mod counters;
mod facts;
mod netlink;
mod outbox;
mod priority;
pub mod rules;
mod socket;
mod switch;

pub use counters::{Counters, Losses};
pub use priority::run_ahead;
pub use rules::{RulesError, stored as stored_rules};
pub use switch::{DivertError, FIRST_QUEUE, Switch, open};

use crate::divert::Divert;
use crate::divert::held::{self, Held};
use crate::engine::Diverted;
use crate::verdict::Verdict;
use facts::{NO_FACTS, answer, facts_of};
use netlink::{Message, Packet};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use outbox::Outbox;
use socket::{BATCH, SLOT, Socket};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The bit of packet and conntrack marks that says: this flow is translated.
pub const TRANSLATED: u32 = 0x0800_0000;

/// How many queues are used, from the base on.
pub const QUEUES: u16 = 7;

const TCP_OUT_NEW: u16 = 0;
const TCP_OUT_TRANSLATED: u16 = 1;
const TCP_IN: u16 = 2;
const OTHER_OUT_NEW: u16 = 3;
const OTHER_OUT_TRANSLATED: u16 = 4;
const OTHER_IN: u16 = 5;
const PINGS: u16 = 6;

/// After a packet of at least this length the next is taken alone and not in a
/// batch: what is copied here, changed and copied back then stays in the cache.
const LONG: usize = 16 << 10;

/// The queues could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not root.
    #[error("diverting packets needs root: the capability CAP_NET_ADMIN on the host itself")]
    NotPermitted,
    /// The kernel has no NFQUEUE.
    #[error(
        "this kernel cannot queue packets: `modprobe nfnetlink_queue` loads what is missing, \
         unless it was built without CONFIG_NETFILTER_NETLINK_QUEUE"
    )]
    NoQueues,
    /// Somebody else owns a queue.
    #[error(
        "packet queue {queue} is taken by another program ({}): it has to end first",
        named(*.port)
    )]
    Taken {
        /// Which.
        queue: u16,
        /// The netlink port of that program, where the kernel tells it.
        port: Option<u32>,
    },
    /// There are no queues from this base on.
    #[error("queue numbers end at 65535: {base} leaves no room for {QUEUES}")]
    NoSuchQueues {
        /// The first of them.
        base: u16,
    },
    /// The kernel refused a queue.
    #[error("packet queue {queue} cannot be set up")]
    Queue {
        /// Which.
        queue: u16,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused what the socket needs.
    #[error("the socket for packet queues cannot be {step}")]
    Socket {
        /// What was asked for.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
}

fn named(port: Option<u32>) -> String {
    match port {
        Some(port) => format!("netlink port {port}: mostly its process id"),
        None => "the kernel does not say which".to_owned(),
    }
}

/// Ends the waiting of a [`Divert::turn`] from another thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<EventFd>);

impl Waker {
    /// The turn that waits now, or else the next one to wait, comes back.
    pub fn wake(&self) {
        // It only fails when it is full, and then a wake-up is due anyway.
        if let Err(errno) = self.0.write(1) {
            tracing::trace!(%errno, "woken already");
        }
    }
}

/// Packets by NFQUEUE.
#[derive(Debug)]
pub struct Nfqueue {
    socket: Socket,
    base: u16,
    /// The index of lo.
    lo: u32,
    waker: Waker,
    counters: Arc<Counters>,
    arena: Box<[u8]>,
    /// How many packets to take next: see [`LONG`].
    slots: usize,
    packets: Vec<Packet>,
    verdicts: Vec<Verdict>,
    outbox: Outbox,
    held: Held<Packet>,
}

impl Nfqueue {
    /// Claims the queues from `base` on, in the network namespace of the
    /// calling thread.
    ///
    /// # Errors
    /// Without root, without NFQUEUE in the kernel, or when another program
    /// owns one of the queues.
    pub fn open(base: u16) -> Result<(Self, Waker), OpenError> {
        let last = base.checked_add(QUEUES - 1).ok_or(OpenError::NoSuchQueues { base })?;
        let step = |step| move |source: io::Error| OpenError::Socket { step, source };
        let socket = Socket::open()?;
        for queue in base..=last {
            socket
                .claim(queue, matches!(queue - base, TCP_OUT_NEW | TCP_OUT_TRANSLATED | TCP_IN))?;
        }
        let counters = Counters::open(base..=last).map_err(step("found in the kernel's table"))?;
        let waker = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|errno| step("joined by an event")(errno.into()))?;
        let waker = Waker(Arc::new(waker));
        let queues = Self {
            socket,
            base,
            lo: nix::net::if_::if_nametoindex("lo").unwrap_or(1),
            waker: waker.clone(),
            counters: Arc::new(counters),
            slots: BATCH,
            arena: vec![0; BATCH * SLOT].into_boxed_slice(),
            packets: Vec::with_capacity(BATCH),
            verdicts: Vec::with_capacity(BATCH),
            outbox: Outbox::new(),
            held: Held::default(),
        };
        Ok((queues, waker))
    }

    /// What is counted, readable from any thread.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }
}

impl Divert for Nfqueue {
    /// Held packets are shown once a millisecond, as a batch of their own, ahead
    /// of those that arrived. A packet that finds no room among the held ones is
    /// shown a second time at once, with [`Duration::MAX`] as the time it was
    /// held; whoever holds it even then has it dropped. A packet that is too
    /// long for a message is dropped without being shown (see
    /// [`Counters::truncated`]): its routes' MTU has to keep it from coming.
    fn turn(
        &mut self,
        wait: Duration,
        decide: &mut dyn FnMut(&mut [Diverted<'_>], &mut Vec<Verdict>),
    ) -> io::Result<usize> {
        let shown = self.show_held(decide);
        let wait = match (shown, self.held.is_empty()) {
            (0, true) => wait,
            (0, false) => wait.min(held::REST),
            _ => Duration::ZERO,
        };
        Ok(shown + self.show_arrived(wait, decide)?)
    }
}

impl Nfqueue {
    fn show_held(
        &mut self,
        decide: &mut dyn FnMut(&mut [Diverted<'_>], &mut Vec<Verdict>),
    ) -> usize {
        if self.held.is_empty() {
            return 0;
        }
        let mut packets = self.held.due(now());
        let mut batch: Vec<_> = packets
            .iter_mut()
            .map(|held| Diverted { bytes: &mut held.bytes, facts: held.facts })
            .collect();
        self.verdicts.clear();
        if !batch.is_empty() {
            decide(&mut batch, &mut self.verdicts);
        }
        let shown = packets.len();
        for (at, held) in packets.into_iter().enumerate() {
            match self.verdicts.get(at) {
                Some(Verdict::Hold) => self.held.keep_on(held),
                verdict => {
                    let (reply, changed) = answer(&held.packet, self.base, verdict.copied());
                    let payload = changed.then_some(&*held.bytes);
                    self.outbox.add(&self.socket, &self.counters, reply, payload);
                }
            }
        }
        self.outbox.flush(&self.socket, &self.counters);
        shown
    }

    fn show_arrived(
        &mut self,
        wait: Duration,
        decide: &mut dyn FnMut(&mut [Diverted<'_>], &mut Vec<Verdict>),
    ) -> io::Result<usize> {
        let mut lengths = [0; BATCH];
        let arrived = match self.receive(&mut lengths)? {
            0 if wait.is_zero() => 0,
            0 => {
                self.sleep(wait)?;
                self.receive(&mut lengths)?
            }
            some => some,
        };
        let Self { socket, base, lo, counters, arena, packets, verdicts, outbox, held, .. } = self;
        let mut batch: [Diverted<'_>; BATCH] =
            std::array::from_fn(|_| Diverted { bytes: &mut [], facts: NO_FACTS });
        let mut places = batch.iter_mut();
        packets.clear();
        let mut truncated = 0;
        for (slot, length) in arena.chunks_exact_mut(SLOT).zip(lengths).take(arrived) {
            match netlink::parse(slot.get(..length).unwrap_or_default()) {
                Message::Packet(packet) if packet.cut => {
                    truncated += 1;
                    let (reply, _) = answer(&packet, *base, None);
                    outbox.add(socket, counters, reply, None);
                }
                Message::Packet(packet) => {
                    let bytes = slot.get_mut(packet.payload.clone());
                    if let (Some(bytes), Some(place)) = (bytes, places.next()) {
                        *place = Diverted { bytes, facts: facts_of(&packet, *base, *lo) };
                        packets.push(packet);
                    }
                }
                Message::Answer(errno) if errno != 0 => counters.count_refused(1),
                Message::Answer(_) | Message::Other => {}
            }
        }
        let batch = batch.get_mut(..packets.len()).unwrap_or_default();
        verdicts.clear();
        if !batch.is_empty() {
            counters.count_batch(batch.len() as u64 + truncated, truncated);
            decide(batch, verdicts);
        }
        for (at, (packet, diverted)) in packets.iter().zip(batch.iter_mut()).enumerate() {
            let mut verdict = verdicts.get(at).copied();
            if verdict == Some(Verdict::Hold) {
                if held.keep(now(), packet, diverted.facts, diverted.bytes) {
                    continue;
                }
                diverted.facts.held = Duration::MAX;
                let mut alone = Vec::with_capacity(1);
                decide(std::slice::from_mut(diverted), &mut alone);
                verdict = alone.first().copied();
            }
            let (reply, changed) = answer(packet, *base, verdict);
            outbox.add(socket, counters, reply, changed.then_some(&*diverted.bytes));
        }
        outbox.flush(socket, counters);
        Ok(packets.len())
    }

    fn receive(&mut self, lengths: &mut [usize; BATCH]) -> io::Result<usize> {
        let arena = self.arena.get_mut(..self.slots * SLOT).unwrap_or_default();
        match self.socket.receive(arena, lengths) {
            Ok(count) => {
                let long = lengths.iter().take(count).any(|length| *length >= LONG);
                self.slots = if long { 1 } else { BATCH };
                Ok(count)
            }
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS) => Ok(0),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Sleeps until there is a packet, a wake-up, or nothing for as long as
    /// `wait`.
    fn sleep(&self, wait: Duration) -> io::Result<()> {
        let mut ready = [
            PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.waker.0.as_fd(), PollFlags::POLLIN),
        ];
        match ppoll(&mut ready, Some(TimeSpec::from_duration(wait)), None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let [_, woken] = ready;
        if woken.any() == Some(true) {
            match self.waker.0.read() {
                Ok(_) | Err(Errno::EAGAIN) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a packet is held is time on this machine")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_numbers_end() {
        assert!(matches!(Nfqueue::open(65531), Err(OpenError::NoSuchQueues { .. })));
    }
}
