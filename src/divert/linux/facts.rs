//! What does the queue say of a packet, and how is a verdict said to the kernel?

use super::netlink::{Fate, Packet, Reply};
use super::{OTHER_OUT_TRANSLATED, PINGS, TCP_OUT_TRANSLATED, TRANSLATED};
use crate::engine::{Begun, Checksum, Direction, Facts};
use crate::verdict::Verdict;
use std::time::Duration;

/// `NF_INET_LOCAL_OUT` of linux/netfilter.h.
const LOCAL_OUT: u8 = 3;

/// What stands in a place that no packet has been put in.
pub(super) const NO_FACTS: Facts = Facts {
    direction: Direction::Out,
    loopback: false,
    interface: 0,
    checksum: Checksum::Absent,
    begun: Begun::Unknown,
    held: Duration::ZERO,
};

pub(super) fn facts_of(packet: &Packet, base: u16, lo: u32) -> Facts {
    let (direction, interface) = match packet.hook {
        LOCAL_OUT => (Direction::Out, packet.leaves_by),
        _ => (Direction::In, packet.came_by),
    };
    Facts {
        direction,
        loopback: interface == lo,
        interface,
        checksum: checksum_of(packet, direction),
        begun: if comes_translated(packet, base) { Begun::Translated } else { Begun::Unknown },
        held: Duration::ZERO,
    }
}

/// A packet with new bytes counts as one without any offload (`CHECKSUM_NONE`,
/// `nfqnl_mangle`), so that a checksum still pending would stay unfinished. Only
/// what is split on its way out gets one per segment from `tcp_gso_segment`,
/// which builds on the pseudo-header; on the way in nobody does.
fn checksum_of(packet: &Packet, direction: Direction) -> Checksum {
    match (packet.segmented_later, direction) {
        (true, Direction::Out) => Checksum::Partial,
        (true, Direction::In) => Checksum::Absent,
        (false, _) if packet.checksum_pending => Checksum::Absent,
        (false, _) => Checksum::Real,
    }
}

fn comes_translated(packet: &Packet, base: u16) -> bool {
    matches!(packet.queue.wrapping_sub(base), TCP_OUT_TRANSLATED | OTHER_OUT_TRANSLATED)
}

/// The kernel's words for a verdict, and whether the packet's bytes go with it.
/// A packet that nothing was said of is dropped. A changed packet is marked, so
/// that its flow's next packets come as those of a translated flow; but for pings,
/// which are all looked at.
pub(super) fn answer(packet: &Packet, base: u16, verdict: Option<Verdict>) -> (Reply, bool) {
    let (fate, changed) = match verdict {
        Some(Verdict::Pass(_)) => (Fate::Accept, false),
        Some(Verdict::Rewrite(_)) => (Fate::Accept, true),
        Some(Verdict::Drop(_) | Verdict::Hold) | None => (Fate::Drop, false),
    };
    let keeps_mark = matches!(
        packet.queue.wrapping_sub(base),
        TCP_OUT_TRANSLATED | OTHER_OUT_TRANSLATED | PINGS
    );
    let mark = (changed && !keeps_mark).then_some(packet.mark | TRANSLATED);
    (Reply { queue: packet.queue, id: packet.id, fate, mark }, changed)
}

#[cfg(test)]
mod tests {
    use super::super::{OTHER_IN, OTHER_OUT_NEW, TCP_IN, TCP_OUT_NEW};
    use super::*;
    use crate::verdict::Reason;

    const BASE: u16 = 7770;

    fn packet(queue: u16, hook: u8, checksum_pending: bool, segmented_later: bool) -> Packet {
        Packet {
            queue: BASE + queue,
            hook,
            checksum_pending,
            segmented_later,
            came_by: 2,
            leaves_by: 1,
            mark: 0x11,
            ..Packet::default()
        }
    }

    #[test]
    fn facts_come_from_queue_hook_and_offload() {
        let out = facts_of(&packet(TCP_OUT_TRANSLATED, LOCAL_OUT, true, true), BASE, 1);
        assert_eq!((out.direction, out.interface, out.loopback), (Direction::Out, 1, true));
        assert_eq!((out.checksum, out.begun), (Checksum::Partial, Begun::Translated));
        let small = facts_of(&packet(TCP_OUT_NEW, LOCAL_OUT, true, false), BASE, 1);
        assert_eq!((small.checksum, small.begun), (Checksum::Absent, Begun::Unknown));
        let inbound = facts_of(&packet(TCP_IN, 0, true, true), BASE, 1);
        assert_eq!((inbound.direction, inbound.loopback), (Direction::In, false));
        assert_eq!(inbound.checksum, Checksum::Absent);
        assert_eq!(facts_of(&packet(OTHER_IN, 0, false, false), BASE, 1).checksum, Checksum::Real);
    }

    #[test]
    fn only_a_flow_not_known_as_translated_is_marked() {
        let rewrite = Some(Verdict::Rewrite(Reason::SessionSource));
        let (reply, changed) =
            answer(&packet(OTHER_OUT_NEW, LOCAL_OUT, false, false), BASE, rewrite);
        assert_eq!((reply.fate, reply.mark, changed), (Fate::Accept, Some(0x0800_0011), true));
        let known = packet(OTHER_OUT_TRANSLATED, LOCAL_OUT, false, false);
        assert_eq!(answer(&known, BASE, rewrite).0.mark, None);
        assert_eq!(answer(&packet(PINGS, LOCAL_OUT, false, false), BASE, rewrite).0.mark, None);
        let pass = Some(Verdict::Pass(Reason::NotListed));
        assert_eq!(answer(&known, BASE, pass), (Reply { mark: None, ..reply_of(&known) }, false));
        assert_eq!(answer(&known, BASE, None).0.fate, Fate::Drop);
    }

    fn reply_of(packet: &Packet) -> Reply {
        Reply { queue: packet.queue, id: packet.id, fate: Fate::Accept, mark: None }
    }
}
