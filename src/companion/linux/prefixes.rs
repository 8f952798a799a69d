//! Which prefixes make up a range of addresses?

use ipnet::IpNet;
use sessionip_hook::layout::Address;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// A prefix; IPv4 addresses are IPv4-mapped ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Prefix {
    pub(super) address: [u8; 16],
    pub(super) length: u32,
}

/// The fewest prefixes that make up the range: at most 2 * 128 - 2 of them.
pub(super) fn of_range(range: &RangeInclusive<IpAddr>) -> Vec<Prefix> {
    let number = |address: &IpAddr| u128::from_be_bytes(Address::from(*address).0);
    let (mut first, last) = (number(range.start()), number(range.end()));
    let mut prefixes = Vec::new();
    while first <= last {
        // The largest block that begins at `first` and does not pass `last`.
        let aligned = first.trailing_zeros();
        let fitting = match (last - first).checked_add(1) {
            Some(count) => count.ilog2(),
            None => 128,
        };
        let bits = aligned.min(fitting);
        prefixes.push(Prefix { address: first.to_be_bytes(), length: 128 - bits });
        match 1_u128.checked_shl(bits).and_then(|size| first.checked_add(size)) {
            Some(next) => first = next,
            None => break,
        }
    }
    prefixes
}

/// The prefix that a network is.
pub(super) fn of_net(net: IpNet) -> Prefix {
    let length = match net {
        IpNet::V4(net) => 96 + u32::from(net.prefix_len()),
        IpNet::V6(net) => u32::from(net.prefix_len()),
    };
    Prefix { address: Address::from(net.network()).0, length }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn covers(prefix: &Prefix, address: u128) -> bool {
        let shift = 128 - prefix.length;
        let shifted = |number: u128| number.checked_shr(shift).unwrap_or(0);
        shifted(u128::from_be_bytes(prefix.address)) == shifted(address)
    }

    #[test]
    fn a_cidr_range_is_one_prefix() {
        let range = "10.77.0.0".parse().unwrap()..="10.77.255.255".parse().unwrap();
        let [prefix] = of_range(&range)[..] else { panic!("more than one") };
        assert_eq!(prefix.length, 96 + 16);
    }

    #[test]
    fn everything_is_one_prefix() {
        let all =
            "::".parse().unwrap()..="ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap();
        let [prefix] = of_range(&all)[..] else { panic!("more than one") };
        assert_eq!(prefix.length, 0);
    }

    proptest! {
        #[test]
        fn exactly_the_range_is_covered(first: u32, length in 0_u32..5000, near in 0_u32..6000) {
            let last = first.saturating_add(length);
            let ip = |number: u32| IpAddr::from(number.to_be_bytes());
            let prefixes = of_range(&(ip(first)..=ip(last)));
            let probe = first.saturating_sub(500).saturating_add(near);
            let mapped = u128::from_be_bytes(Address::from(ip(probe)).0);
            let hits = prefixes.iter().filter(|prefix| covers(prefix, mapped)).count();
            prop_assert_eq!(hits, usize::from((first..=last).contains(&probe)));
        }
    }
}
