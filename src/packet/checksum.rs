//! What is the checksum of these bytes, and how does it follow a change to them?
//!
//! The Internet checksum is the complement of the one's complement sum of 16-bit
//! words (RFC 1071). The sum does not depend on the order of bytes in a word, so
//! everything here is added up as the machine has it and never swapped.

use std::ops::{Add, Sub};

/// A one's complement sum under way: RFC 1071's, before it is folded.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum(u64);

impl Sum {
    /// The sum of bytes that begin at an even offset of what is summed; an odd
    /// last byte is followed by a zero.
    ///
    /// Large payloads go through here at the rate of the wire. The loop is plain
    /// so that it vectorises: x86-64 has no carry between vector lanes, but room
    /// above two halves of a word that are added up in 64 bits.
    #[inline]
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<8>();
        let sum: u64 = words.iter().map(|word| halved(u64::from_ne_bytes(*word))).sum();

        let (words, rest) = rest.as_chunks::<2>();
        let tail: u64 = words.iter().map(|word| u64::from(u16::from_ne_bytes(*word))).sum();
        let last = rest.first().map_or(0, |last| u64::from(u16::from_ne_bytes([*last, 0])));
        Self(halved(sum) + tail + last)
    }

    /// The checksum of what was summed, as it is written in a header.
    pub(crate) fn checksum(self) -> [u8; 2] {
        (!self.folded()).to_ne_bytes()
    }

    fn folded(self) -> u16 {
        let mut sum = halved(self.0);
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }
}

/// The same one's complement sum in 33 bits.
const fn halved(sum: u64) -> u64 {
    (sum & 0xffff_ffff) + (sum >> 32)
}

impl Add for Sum {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(halved(self.0) + halved(other.0))
    }
}

impl Sub for Sum {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(halved(self.0) + u64::from(!other.folded()))
    }
}

/// Overwrites a field, and says how the sum over it changed.
#[inline]
pub(crate) fn replace<const N: usize>(field: &mut [u8; N], new: [u8; N]) -> Sum {
    let old = std::mem::replace(field, new);
    Sum::of(&new) - Sum::of(&old)
}

/// Corrects a checksum for a change to what it covers: equation 3 of RFC 1624.
/// A checksum that was wrong stays wrong, and by as much.
#[inline]
pub(crate) fn correct(checksum: &mut [u8; 2], change: Sum) {
    let sum = Sum(u64::from(!u16::from_ne_bytes(*checksum)));
    *checksum = (sum + change).checksum();
}

/// Corrects the sum that stands in for a checksum which the network card is to
/// complete: it is not complemented, and covers the pseudo-header only.
#[inline]
pub(crate) fn correct_partial(sum: &mut [u8; 2], change: Sum) {
    let covered = Sum(u64::from(u16::from_ne_bytes(*sum)));
    *sum = (covered + change).folded().to_ne_bytes();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071, section 4.1, word by word and in network order.
    fn by_the_book(bytes: &[u8]) -> u16 {
        let mut sum = 0u64;
        for pair in bytes.chunks(2) {
            sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn rfc_1071_example() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::of(&bytes).checksum(), (!0xddf2_u16).to_be_bytes());
    }

    #[test]
    fn rfc_1624_example() {
        // Section 4: equation 2 would give 0xffff here.
        let mut checksum = 0xdd2f_u16.to_be_bytes();
        let mut field = 0x5555_u16.to_be_bytes();
        let change = replace(&mut field, 0x3285_u16.to_be_bytes());
        correct(&mut checksum, change);
        assert_eq!(checksum, [0, 0]);
    }

    #[test]
    fn largest_packet_of_largest_words() {
        assert_eq!(Sum::of(&[0xff; 65_535]).checksum(), by_the_book(&[0xff; 65_535]).to_be_bytes());
    }

    proptest! {
        #[test]
        fn agrees_with_the_book(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(Sum::of(&bytes).checksum(), by_the_book(&bytes).to_be_bytes());
        }

        #[test]
        fn follows_a_change(
            mut bytes in prop::collection::vec(any::<u8>(), 40..80),
            at in 0usize..18,
            new: [u8; 4],
        ) {
            // A header is never all zero, so its sum is not either.
            bytes[38] = 1;
            let mut checksum = Sum::of(&bytes).checksum();
            let field = bytes[at * 2..].first_chunk_mut().unwrap();
            let change = replace(field, new);
            correct(&mut checksum, change);
            prop_assert_eq!(checksum, Sum::of(&bytes).checksum());
        }

        #[test]
        fn partial_follows_a_change(mut bytes: [u8; 16], new: [u8; 4]) {
            bytes[15] = 6;
            let mut partial = Sum::of(&bytes).folded().to_ne_bytes();
            let change = replace(bytes.first_chunk_mut().unwrap(), new);
            correct_partial(&mut partial, change);
            prop_assert_eq!(partial, Sum::of(&bytes).folded().to_ne_bytes());
        }
    }
}
