//! What does the kernel answer over netlink?
//!
//! One blocking request at a time (netlink(7), rtnetlink(7)).

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::io;
use std::marker::PhantomData;

/// How often a list that changed while it was read is read again.
const ATTEMPTS: usize = 8;
/// As much as the kernel sends at once: 32 KiB in a list (`netlink_dump` of
/// net/netlink/af_netlink.c).
const LARGEST: usize = 65_536;
/// `struct nlmsghdr`.
const HEADER: usize = 16;

/// A conversation with the kernel, in the network namespace where it began.
#[derive(Debug)]
pub(crate) struct Netlink<M = RouteNetlinkMessage> {
    socket: Socket,
    sequence: u32,
    speaks: PhantomData<M>,
}

impl Netlink {
    pub(super) fn open() -> io::Result<Self> {
        Self::speaking(NETLINK_ROUTE)
    }
}

impl<M: NetlinkSerializable + NetlinkDeserializable + Clone> Netlink<M> {
    /// A conversation in messages of that protocol of netlink's.
    pub(crate) fn speaking(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // The kernel then lists only what was asked for (Linux 4.20).
        socket.set_netlink_get_strict_chk(true)?;
        Ok(Self { socket, sequence: 0, speaks: PhantomData })
    }

    /// All that is like `what`.
    pub(crate) fn list(&mut self, what: &M) -> io::Result<Vec<M>> {
        self.pick(what, Some)
    }

    /// What is `wanted` of all that is like `what`. Nothing else is kept while the
    /// list is read.
    pub(crate) fn pick<T>(
        &mut self,
        what: &M,
        wanted: impl Fn(M) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        for _ in 0..ATTEMPTS {
            let (listed, whole) =
                self.exchange(what.clone(), NLM_F_REQUEST | NLM_F_DUMP, &wanted)?;
            if whole {
                return Ok(listed);
            }
        }
        Err(io::Error::other("the list changes faster than it can be read"))
    }

    /// The answer to one question.
    pub(crate) fn ask(&mut self, what: M) -> io::Result<Vec<M>> {
        self.exchange(what, NLM_F_REQUEST | NLM_F_ACK, Some).map(|(answers, _)| answers)
    }

    /// Makes `what` true; `flags` says how.
    pub(crate) fn change(&mut self, what: M, flags: u16) -> io::Result<()> {
        self.exchange(what, NLM_F_REQUEST | NLM_F_ACK | flags, Some).map(drop)
    }

    /// One request, and which of its answers are wanted; also whether nothing changed
    /// in between.
    fn exchange<T>(
        &mut self,
        what: M,
        flags: u16,
        wanted: impl Fn(M) -> Option<T>,
    ) -> io::Result<(Vec<T>, bool)> {
        self.sequence = self.sequence.wrapping_add(1);
        let payload = NetlinkPayload::InnerMessage(what);
        let mut request = NetlinkMessage::new(NetlinkHeader::default(), payload);
        request.header.flags = flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        let mut answers = Vec::new();
        let mut whole = true;
        let mut buffer = Vec::with_capacity(LARGEST);
        loop {
            buffer.clear();
            self.socket.recv(&mut buffer, 0)?;
            for frame in Frames(&buffer) {
                // What this version of the crate cannot read is nothing we use.
                let Ok(frame) = NetlinkMessage::<M>::deserialize(frame) else {
                    continue;
                };
                if frame.header.sequence_number != self.sequence {
                    continue;
                }
                whole &= frame.header.flags & NLM_F_DUMP_INTR == 0;
                if let NetlinkPayload::InnerMessage(answer) = frame.payload {
                    answers.extend(wanted(answer));
                } else if let NetlinkPayload::Error(status) = frame.payload {
                    // Without a code it is the acknowledgement.
                    return match status.code {
                        Some(_) => Err(status.to_io()),
                        None => Ok((answers, whole)),
                    };
                } else if let NetlinkPayload::Done(done) = frame.payload {
                    return match done.code {
                        code if code < 0 => Err(io::Error::from_raw_os_error(-code)),
                        _ => Ok((answers, whole)),
                    };
                }
            }
        }
    }
}

/// The messages of one datagram: each begins with its length, and the next is at
/// a multiple of four (`NLMSG_ALIGN`).
struct Frames<'a>(&'a [u8]);

impl<'a> Iterator for Frames<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let length = u32::from_ne_bytes(*self.0.first_chunk()?) as usize;
        let frame = self.0.get(..length).filter(|frame| frame.len() >= HEADER)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_datagram_falls_into_its_messages() {
        let mut datagram = Vec::new();
        for length in [16_u32, 18, 20] {
            let mut frame = vec![0; length.next_multiple_of(4) as usize];
            frame[..4].copy_from_slice(&length.to_ne_bytes());
            datagram.extend(frame);
        }
        let lengths: Vec<usize> = Frames(&datagram).map(<[u8]>::len).collect();
        assert_eq!(lengths, [16, 18, 20]);
    }

    proptest! {
        #[test]
        fn any_bytes_come_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            prop_assert!(Frames(&bytes).count() <= bytes.len() / HEADER);
        }
    }
}
