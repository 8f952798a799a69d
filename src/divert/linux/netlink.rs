//! How does NFQUEUE write a packet, and how is it answered?
//!
//! The messages of `linux/netfilter/nfnetlink_queue.h` as bytes, both ways. No
//! system calls, no allocation: what comes in is parsed in place, what goes out
//! is appended to a buffer of the caller.

use std::ops::Range;

/// The longest payload that one attribute can carry: its length is 16 bits wide
/// and counts its own header.
pub(super) const LONGEST_PAYLOAD: usize = 0xffff - ATTRIBUTE_HEADER;

/// More than any message around a payload takes (packet header, mark,
/// interfaces, hardware address, timestamp, checksum state, bridge facts).
pub(super) const LARGEST_ENVELOPE: usize = 512;

/// What stands in one datagram from the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// A packet that waits for its verdict.
    Packet(Packet),
    /// The kernel refused a message of ours: errno, positive; 0 is its consent.
    Answer(i32),
    /// Something that asks for nothing.
    Other,
}

/// A packet that waits for its verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Packet {
    /// The queue it came by.
    pub(super) queue: u16,
    /// Its number in that queue.
    pub(super) id: u32,
    /// `NF_INET_PRE_ROUTING`, `NF_INET_LOCAL_OUT`, ...
    pub(super) hook: u8,
    /// The packet mark.
    pub(super) mark: u32,
    /// The interface it came in by, 0 if none.
    pub(super) came_by: u32,
    /// The interface it leaves by, 0 if none.
    pub(super) leaves_by: u32,
    /// Its transport checksum is yet to be completed (`CHECKSUM_PARTIAL`).
    pub(super) checksum_pending: bool,
    /// It is longer than one packet on the wire (GSO or GRO).
    pub(super) segmented_later: bool,
    /// It was longer than what the message could carry.
    pub(super) cut: bool,
    /// Where its bytes are in the message.
    pub(super) payload: Range<usize>,
}

/// A verdict as the kernel knows it (`linux/netfilter.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Fate {
    /// `NF_DROP`.
    Drop = 0,
    /// `NF_ACCEPT`.
    Accept = 1,
}

/// What one message says about one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    /// The packet's queue.
    pub(super) queue: u16,
    /// The packet's number.
    pub(super) id: u32,
    /// What becomes of it.
    pub(super) fate: Fate,
    /// The packet mark it is given, unless it keeps its own.
    pub(super) mark: Option<u32>,
}

const HEADER: usize = 20; // nlmsghdr and nfgenmsg
const ATTRIBUTE_HEADER: usize = 4;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const SUBSYSTEM: u16 = 3 << 8; // NFNL_SUBSYS_QUEUE
const PACKET: u16 = SUBSYSTEM;
const VERDICT: u16 = SUBSYSTEM | 1;
const CONFIG: u16 = SUBSYSTEM | 2;

/// The attributes of `enum nfqnl_attr_type` that are read or written here.
mod attribute {
    pub(super) const PACKET_HEADER: u16 = 1;
    pub(super) const VERDICT_HEADER: u16 = 2;
    pub(super) const MARK: u16 = 3;
    pub(super) const CAME_BY: u16 = 5;
    pub(super) const LEAVES_BY: u16 = 6;
    pub(super) const PAYLOAD: u16 = 10;
    pub(super) const WHOLE_LENGTH: u16 = 13;
    pub(super) const STATE: u16 = 14;
}

/// The attributes of `enum nfqnl_attr_config`.
mod setting {
    pub(super) const COMMAND: u16 = 1;
    pub(super) const COPY: u16 = 2;
    pub(super) const LONGEST_QUEUE: u16 = 3;
    pub(super) const MASK: u16 = 4;
    pub(super) const FLAGS: u16 = 5;
}

const CHECKSUM_NOT_READY: u32 = 1; // NFQA_SKB_CSUMNOTREADY
const SEGMENTED_LATER: u32 = 2; // NFQA_SKB_GSO
const COMMAND_BIND: u8 = 1;
const COPY_PACKET: u8 = 2;
const FLAG_FAIL_OPEN: u32 = 1;
const FLAG_GSO: u32 = 4;

/// Reads one datagram; whatever its bytes are.
pub(super) fn parse(datagram: &[u8]) -> Message {
    let Some(length) = u32_at(datagram, 0).and_then(|length| usize::try_from(length).ok()) else {
        return Message::Other;
    };
    let message = datagram.get(..length).unwrap_or(datagram);
    match u16_at(message, 4) {
        Some(PACKET) => parse_packet(message).map_or(Message::Other, Message::Packet),
        Some(NLMSG_ERROR) => match u32_at(message, 16) {
            Some(code) => Message::Answer(code.cast_signed().saturating_neg()),
            None => Message::Other,
        },
        _ => Message::Other,
    }
}

fn parse_packet(message: &[u8]) -> Option<Packet> {
    let mut packet = Packet { queue: be16_at(message, 18)?, ..Packet::default() };
    let mut numbered = false;
    let mut at = HEADER;
    while let (Some(length), Some(kind)) = (u16_at(message, at), u16_at(message, at + 2)) {
        let length = usize::from(length);
        let value = at + ATTRIBUTE_HEADER..at + length;
        let Some(bytes) = message.get(value.clone()) else { break };
        match kind & 0x3fff {
            attribute::PACKET_HEADER => {
                packet.id = be32_at(bytes, 0)?;
                packet.hook = *bytes.get(6)?;
                numbered = true;
            }
            attribute::MARK => packet.mark = be32_at(bytes, 0)?,
            attribute::CAME_BY => packet.came_by = be32_at(bytes, 0)?,
            attribute::LEAVES_BY => packet.leaves_by = be32_at(bytes, 0)?,
            attribute::PAYLOAD => packet.payload = value,
            attribute::WHOLE_LENGTH => packet.cut = true,
            attribute::STATE => {
                let state = be32_at(bytes, 0)?;
                packet.checksum_pending = state & CHECKSUM_NOT_READY != 0;
                packet.segmented_later = state & SEGMENTED_LATER != 0;
            }
            _ => {}
        }
        at += length.next_multiple_of(4);
    }
    numbered.then_some(packet)
}

/// Appends the message that makes `queue` ours, answered by the kernel.
pub(super) fn claim(out: &mut Vec<u8>, queue: u16) {
    let start = begin(out, CONFIG, NLM_F_ACK, queue);
    attribute(out, setting::COMMAND, &[COMMAND_BIND, 0, 0, 0]);
    end(out, start, 0);
}

/// Appends the message that sets how `queue` works, answered by the kernel:
/// whole packets, at most `longest` of them waiting, and with `gso` in the size
/// the host works with instead of the wire's. Never fail-open: packets that
/// find the queue full are dropped, for they would leave untranslated.
pub(super) fn configure(out: &mut Vec<u8>, queue: u16, longest: u32, gso: bool) {
    let start = begin(out, CONFIG, NLM_F_ACK, queue);
    let [a, b, c, d] = 0xffff_u32.to_be_bytes(); // the kernel takes LONGEST_PAYLOAD from it
    attribute(out, setting::COPY, &[a, b, c, d, COPY_PACKET]);
    attribute(out, setting::LONGEST_QUEUE, &longest.to_be_bytes());
    attribute(out, setting::MASK, &(FLAG_FAIL_OPEN | FLAG_GSO).to_be_bytes());
    attribute(out, setting::FLAGS, &(if gso { FLAG_GSO } else { 0 }).to_be_bytes());
    end(out, start, 0);
}

/// Appends a whole verdict, and with `payload` the packet's new bytes.
pub(super) fn reply(out: &mut Vec<u8>, reply: Reply, payload: Option<&[u8]>) {
    match payload {
        None => {
            let start = begin_reply(out, reply);
            end(out, start, 0);
        }
        Some(bytes) => {
            reply_to_be_continued(out, reply, bytes.len());
            out.extend_from_slice(bytes);
            pad(out);
        }
    }
}

/// Appends a verdict up to the packet's new bytes, which the caller sends right
/// after it as the end of the same datagram.
pub(super) fn reply_to_be_continued(out: &mut Vec<u8>, reply: Reply, payload: usize) {
    let start = begin_reply(out, reply);
    attribute_header(out, attribute::PAYLOAD, payload);
    end(out, start, payload);
}

fn begin_reply(out: &mut Vec<u8>, reply: Reply) -> usize {
    let start = begin(out, VERDICT, 0, reply.queue);
    let [a, b, c, d] = (reply.fate as u32).to_be_bytes();
    let [e, f, g, h] = reply.id.to_be_bytes();
    attribute(out, attribute::VERDICT_HEADER, &[a, b, c, d, e, f, g, h]);
    if let Some(mark) = reply.mark {
        attribute(out, attribute::MARK, &mark.to_be_bytes());
    }
    start
}

/// Starts a message; `queue` is the resource of an `nfgenmsg`.
fn begin(out: &mut Vec<u8>, kind: u16, flags: u16, queue: u16) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; 4]); // the length: see `end`
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
    out.extend_from_slice(&[0; 8]); // sequence number and port
    out.extend_from_slice(&[0, 0]); // any family, version 0
    out.extend_from_slice(&queue.to_be_bytes());
    start
}

/// Ends the message that started at `start` and goes on for `more` bytes.
fn end(out: &mut [u8], start: usize, more: usize) {
    let length = u32::try_from(out.len() - start + more).unwrap_or(u32::MAX);
    if let Some(field) = out.get_mut(start..start + 4) {
        field.copy_from_slice(&length.to_ne_bytes());
    }
}

fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    attribute_header(out, kind, value.len());
    out.extend_from_slice(value);
    pad(out);
}

/// A value longer than [`LONGEST_PAYLOAD`] has no encoding: the length says 0
/// and the kernel refuses the message.
fn attribute_header(out: &mut Vec<u8>, kind: u16, length: usize) {
    let length = u16::try_from(length + ATTRIBUTE_HEADER).unwrap_or(0);
    out.extend_from_slice(&length.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes_at(bytes, at).map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes_at(bytes, at).map(u32::from_ne_bytes)
}

fn be16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes_at(bytes, at).map(u16::from_be_bytes)
}

fn be32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes_at(bytes, at).map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the kernel sends for a packet (`nfqnl_build_packet_message`).
    fn message_of(packet: &Packet, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let start = begin(&mut out, PACKET, 0, packet.queue);
        let mut header = packet.id.to_be_bytes().to_vec();
        header.extend_from_slice(&[8, 0, packet.hook]);
        attribute(&mut out, attribute::PACKET_HEADER, &header);
        attribute(&mut out, attribute::CAME_BY, &packet.came_by.to_be_bytes());
        attribute(&mut out, attribute::LEAVES_BY, &packet.leaves_by.to_be_bytes());
        attribute(&mut out, attribute::MARK, &packet.mark.to_be_bytes());
        attribute(&mut out, 9, &[0; 13]);
        if packet.cut {
            attribute(&mut out, attribute::WHOLE_LENGTH, &70000_u32.to_be_bytes());
        }
        let state = u32::from(packet.checksum_pending) | u32::from(packet.segmented_later) << 1;
        attribute(&mut out, attribute::STATE, &state.to_be_bytes());
        attribute(&mut out, attribute::PAYLOAD, payload);
        end(&mut out, start, 0);
        out
    }

    #[test]
    fn verdict_is_laid_out_as_the_kernel_reads_it() {
        let mut out = Vec::new();
        let verdict = Reply { queue: 0x0102, id: 7, fate: Fate::Accept, mark: Some(9) };
        reply(&mut out, verdict, Some(b"abcde"));
        assert_eq!(out.len(), 20 + 12 + 8 + 4 + 8);
        assert_eq!(u32_at(&out, 0), Some(20 + 12 + 8 + 4 + 5));
        assert_eq!(u16_at(&out, 4), Some(0x0301));
        assert_eq!(&out[18..20], [1, 2]);
        assert_eq!(&out[24..32], [0, 0, 0, 1, 0, 0, 0, 7]);
        assert_eq!(&out[36..40], [0, 0, 0, 9]);
        assert_eq!(&out[44..52], b"abcde\0\0\0");
    }

    #[test]
    fn refusal_is_a_positive_errno() {
        let mut out = 36_u32.to_ne_bytes().to_vec();
        out.extend_from_slice(&NLMSG_ERROR.to_ne_bytes());
        out.extend_from_slice(&[0; 10]);
        out.extend_from_slice(&(-2_i32).to_ne_bytes());
        assert_eq!(parse(&out), Message::Answer(2));
    }

    #[test]
    fn packet_without_its_header_is_no_packet() {
        let mut out = Vec::new();
        let start = begin(&mut out, PACKET, 0, 1);
        attribute(&mut out, attribute::PAYLOAD, b"x");
        end(&mut out, start, 0);
        assert_eq!(parse(&out), Message::Other);
    }

    proptest! {
        #[test]
        fn what_the_kernel_says_is_read(
            queue: u16, id: u32, hook: u8, mark: u32, came_by: u32, leaves_by: u32,
            flags: (bool, bool, bool), payload in proptest::collection::vec(any::<u8>(), 0..2000),
        ) {
            let (checksum_pending, segmented_later, cut) = flags;
            let mut packet = Packet {
                queue, id, hook, mark, came_by, leaves_by,
                checksum_pending, segmented_later, cut, payload: 0..0,
            };
            let message = message_of(&packet, &payload);
            let Message::Packet(read) = parse(&message) else { panic!("not read") };
            prop_assert_eq!(&message[read.payload.clone()], &payload[..]);
            packet.payload = read.payload.clone();
            prop_assert_eq!(read, packet);
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_damaged_message_never_points_outside_itself(
            cut in 0_usize..200, at in 0_usize..200, byte: u8,
        ) {
            let mut message = message_of(&Packet::default(), &[7; 60]);
            message.truncate(cut);
            if let Some(damaged) = message.get_mut(at) {
                *damaged = byte;
            }
            if let Message::Packet(packet) = parse(&message) {
                prop_assert!(message.get(packet.payload).is_some());
            }
        }
    }
}
