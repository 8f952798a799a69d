//! Where does a packet of a batch begin and end, and what goes on in one call?

use super::facts::Address;
use std::ops::Range;

/// The shortest headers (RFC 791, section 3.1; RFC 8200, section 3).
const IPV4: usize = 20;
const IPV6: usize = 40;

/// A packet of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) length: usize,
    pub(super) fate: Fate,
}

/// What becomes of a packet in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Somebody is to decide.
    Shown,
    /// Goes on as it is now.
    Send,
    /// Does not go on from here: dropped, or put aside.
    Leave,
}

/// Packets that go on together: they and their addresses lie one behind the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) bytes: Range<usize>,
    pub(super) packets: Range<usize>,
}

/// Finds the packets of a batch by the length that each says. Where one does not
/// say what its address says, nothing behind it can be trusted. Returns how many
/// addresses no packet was found for: what they stood for is lost, as the driver
/// would not take it back either.
pub(super) fn split(bytes: &[u8], addresses: &[Address], packets: &mut Vec<Packet>) -> usize {
    packets.clear();
    let mut rest = bytes;
    for address in addresses {
        let Some(length) = length(rest, address.ipv6()) else { break };
        let Some((_, after)) = rest.split_at_checked(length) else { break };
        rest = after;
        packets.push(Packet { length, fate: Fate::Leave });
    }
    addresses.len() - packets.len()
}

fn length(bytes: &[u8], ipv6: bool) -> Option<usize> {
    let word = |at: usize| {
        let word = bytes.get(at..)?.first_chunk()?;
        Some(usize::from(u16::from_be_bytes(*word)))
    };
    let first = bytes.first()?;
    match (first >> 4, ipv6) {
        (4, false) => {
            let header = usize::from(first & 0xf) * 4;
            word(2).filter(|length| header >= IPV4 && *length >= header)
        }
        (6, true) if bytes.len() >= IPV6 => word(4).map(|payload| IPV6 + payload),
        _ => None,
    }
}

/// Those that go on, in as few calls as they can.
pub(super) fn runs(packets: &[Packet]) -> impl Iterator<Item = Run> {
    let (mut at, mut offset) = (0, 0);
    std::iter::from_fn(move || {
        let rest = packets.get(at..)?;
        let skipped = rest.iter().take_while(|packet| packet.fate != Fate::Send);
        let (count, length) = sum(skipped);
        (at, offset) = (at + count, offset + length);
        let taken = packets.get(at..)?.iter().take_while(|packet| packet.fate == Fate::Send);
        let (count, length) = sum(taken);
        let run = Run { bytes: offset..offset + length, packets: at..at + count };
        (at, offset) = (at + count, offset + length);
        (count > 0).then_some(run)
    })
}

fn sum<'a>(packets: impl Iterator<Item = &'a Packet>) -> (usize, usize) {
    packets.fold((0, 0), |(count, length), packet| (count + 1, length + packet.length))
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::address;
    use super::*;
    use proptest::prelude::*;

    fn ipv4(length: u16) -> Vec<u8> {
        let mut packet = vec![0; length.into()];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        packet
    }

    fn ipv6(payload: u16) -> Vec<u8> {
        let mut packet = vec![0; IPV6 + usize::from(payload)];
        packet[0] = 0x60;
        packet[4..6].copy_from_slice(&payload.to_be_bytes());
        packet
    }

    fn lengths(bytes: &[u8], addresses: &[Address]) -> (Vec<usize>, usize) {
        let mut packets = Vec::new();
        let lost = split(bytes, addresses, &mut packets);
        (packets.iter().map(|packet| packet.length).collect(), lost)
    }

    #[test]
    fn packets_are_as_long_as_they_say() {
        let bytes = [ipv4(20), ipv6(0), ipv4(1500), ipv6(9)].concat();
        let addresses = [address(false), address(true), address(false), address(true)];
        assert_eq!(lengths(&bytes, &addresses), (vec![20, 40, 1500, 49], 0));
    }

    #[test]
    fn behind_a_packet_that_lies_nothing_is_believed() {
        let [four, six] = [address(false), address(true)];
        for liar in [ipv4(19), ipv6(0), vec![0x44; 60], vec![0x45; 3], vec![], vec![0x45; 60]] {
            let bytes = [ipv4(40), liar].concat();
            assert_eq!(lengths(&bytes, &[four.clone(), four.clone(), four.clone()]), (vec![40], 2));
        }
        assert_eq!(lengths(&ipv4(40), std::slice::from_ref(&six)), (vec![], 1));
        assert_eq!(lengths(&[ipv4(40), vec![0; 7]].concat(), &[four]), (vec![40], 0), "a trailer");
    }

    #[test]
    fn what_lies_together_goes_together() {
        let fates = [Fate::Send, Fate::Send, Fate::Leave, Fate::Leave, Fate::Send, Fate::Leave];
        let packets: Vec<_> =
            (1..).zip(fates).map(|(length, fate)| Packet { length, fate }).collect();
        let runs: Vec<_> = runs(&packets).collect();
        let run = |bytes, packets| Run { bytes, packets };
        assert_eq!(runs, [run(0..3, 0..2), run(10..15, 4..5)]);
        assert_eq!(super::runs(&[]).count(), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            versions in proptest::collection::vec(any::<bool>(), 0..20),
        ) {
            let addresses: Vec<_> = versions.into_iter().map(address).collect();
            let (lengths, lost) = lengths(&bytes, &addresses);
            prop_assert!(lengths.iter().sum::<usize>() <= bytes.len());
            prop_assert_eq!(lengths.len() + lost, addresses.len());
        }
    }
}
