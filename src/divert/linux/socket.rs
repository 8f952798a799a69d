//! How do NFQUEUE's messages get here and back?
//!
//! One netlink socket for all queues, so that packets keep the order in which
//! the kernel queued them.

use super::OpenError;
use super::counters;
use super::netlink::{self, Fate, Message, Packet, Reply};
use netlink_sys::{Socket as Netlink, protocols::NETLINK_NETFILTER};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, NetlinkAddr, sendmsg, setsockopt, sockopt};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// How many packets are taken from the kernel at once.
pub(super) const BATCH: usize = 32;

/// The room for one message: the longest packet with all that may stand around
/// it, in whole pages.
pub(super) const SLOT: usize =
    (netlink::LONGEST_PAYLOAD + netlink::LARGEST_ENVELOPE).next_multiple_of(4096);

/// Packets that wait in user space and in the kernel take from this; a burst
/// that does not fit is lost.
const RECEIVE_BUFFER: usize = 128 << 20;

/// A batch of verdicts with their payloads has to fit.
const SEND_BUFFER: usize = 16 << 20;

/// How many packets may wait in one queue.
const LONGEST_QUEUE: u32 = 16384;

/// A netlink socket that queues belong to.
#[derive(Debug)]
pub(super) struct Socket(Netlink);

impl Socket {
    /// A socket that owns no queue yet.
    pub(super) fn open() -> Result<Self, OpenError> {
        let step = |step| move |source: io::Error| OpenError::Socket { step, source };
        let mut socket = Netlink::new(NETLINK_NETFILTER).map_err(|source| {
            if source.raw_os_error() == Some(libc::EPROTONOSUPPORT) {
                return OpenError::NoQueues;
            }
            step("opened")(source)
        })?;
        socket.bind_auto().map_err(step("bound"))?;
        setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).map_err(|errno| {
            if errno == Errno::EPERM {
                return OpenError::NotPermitted;
            }
            step("given a large receive buffer")(errno.into())
        })?;
        setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER)
            .map_err(|errno| step("given a large send buffer")(errno.into()))?;
        // Packets lost for want of room are counted by the kernel; an error in
        // place of the next packet would help nobody.
        socket.set_no_enobufs(true).map_err(step("told to go on when it is full"))?;
        // A refused verdict comes back without the packet in it.
        socket.set_cap_ack(true).map_err(step("told to cut answers short"))?;
        Ok(Self(socket))
    }

    /// Makes `queue` ours, with packets in the size the host works with (`gso`)
    /// or in the wire's.
    pub(super) fn claim(&self, queue: u16, gso: bool) -> Result<(), OpenError> {
        let refused = |errno: Errno| OpenError::Queue { queue, source: errno.into() };
        let mut message = Vec::with_capacity(64);
        netlink::claim(&mut message, queue);
        self.ask(&message).map_err(|errno| {
            // The kernel's answers in `nfqnl_recv_config` and `nfnetlink_rcv_msg`.
            if matches!(errno, Errno::EPERM | Errno::EBUSY) {
                OpenError::Taken { queue, port: counters::owner(queue) }
            } else if errno == Errno::EINVAL {
                OpenError::NoQueues
            } else {
                refused(errno)
            }
        })?;
        message.clear();
        netlink::configure(&mut message, queue, LONGEST_QUEUE, gso);
        self.ask(&message).map_err(refused)
    }

    /// Sends a message and waits for the kernel's consent. A packet that comes
    /// before it, by a queue that is ours already, is dropped: there is nobody
    /// yet who could translate it.
    fn ask(&self, message: &[u8]) -> Result<(), Errno> {
        self.send(&[IoSlice::new(message)])?;
        let mut buffer = vec![0; SLOT];
        loop {
            let length =
                nix::sys::socket::recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            match netlink::parse(buffer.get(..length).unwrap_or_default()) {
                Message::Answer(0) => return Ok(()),
                Message::Answer(errno) => return Err(Errno::from_raw(errno)),
                Message::Packet(Packet { queue, id, .. }) => {
                    let mut drop = Vec::with_capacity(32);
                    netlink::reply(
                        &mut drop,
                        Reply { queue, id, fate: Fate::Drop, mark: None },
                        None,
                    );
                    self.send(&[IoSlice::new(&drop)])?;
                }
                Message::Other => {}
            }
        }
    }

    /// Takes what is there, at most one message per slot of `arena`, without
    /// waiting. `lengths` are those of the messages; returns how many.
    #[expect(unsafe_code, reason = "nix keeps the headers of recvmmsg in a type that is not Send")]
    pub(super) fn receive(
        &self,
        arena: &mut [u8],
        lengths: &mut [usize; BATCH],
    ) -> Result<usize, Errno> {
        let nowhere = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let mut places = [nowhere; BATCH];
        let mut slots = 0;
        for (place, slot) in places.iter_mut().zip(arena.chunks_exact_mut(SLOT)) {
            *place = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
            slots += 1;
        }
        // SAFETY: all zeroes is a valid mmsghdr: no name, no data, no control.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        for (header, place) in headers.iter_mut().zip(&mut places) {
            header.msg_hdr.msg_iov = place;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: the first `slots` headers point to places that point to
        // disjoint parts of `arena`, which is borrowed until the call is over.
        let count = Errno::result(unsafe {
            libc::recvmmsg(
                self.0.as_raw_fd(),
                headers.as_mut_ptr(),
                slots,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        })?;
        for (length, header) in lengths.iter_mut().zip(&headers) {
            *length = usize::try_from(header.msg_len).unwrap_or(0);
        }
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// Sends one datagram made of `parts` to the kernel, which has acted on it
    /// when this returns.
    pub(super) fn send(&self, parts: &[IoSlice<'_>]) -> Result<(), Errno> {
        let kernel = NetlinkAddr::new(0, 0);
        loop {
            match sendmsg(self.0.as_raw_fd(), parts, &[], MsgFlags::empty(), Some(&kernel)) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
