//! Which address may be used for a minute, and on which card?

use super::{Why, in_full};
use crate::address::{self, Adapter, Addresses, Spare, arp};
use crate::config::Config;
use crate::lease::Leases;
use crate::lease::store::Store;
use jiff::Timestamp;
use std::net::{IpAddr, Ipv4Addr};

/// How many addresses of the pool are looked at: each takes Windows up to three
/// seconds to ask about.
const CANDIDATES: usize = 4;

/// An address that nobody has, and where it is put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    /// The spare address.
    pub(super) address: Ipv4Addr,
    /// The host address of the card.
    pub(super) host: Ipv4Addr,
    /// The card's index.
    pub(super) interface: u32,
}

/// Takes `asked`, or else the address that the pool would give next.
pub(super) fn choose(config: Option<&Config>, asked: Option<Ipv4Addr>) -> Result<Spot, Why> {
    let mut addresses = Addresses::open().map_err(|error| unknown(&error))?;
    let adapters = addresses.adapters().map_err(|error| unknown(&error))?;
    let (adapter, candidates) = match (asked, config) {
        (Some(asked), _) => (near(&adapters, asked)?, vec![asked]),
        (None, Some(config)) => {
            let adapter = address::choose(&config.pool, &adapters)
                .map_err(|error| Why::failed("the pool fits no network card", in_full(&error)))?;
            let next = upcoming(config, &adapter)?;
            (adapter, next)
        }
        (None, None) => {
            return Err(Why::NotRun(
                "there is no configuration: give --address with one that nobody has".into(),
            ));
        }
    };
    for address in candidates {
        let Some(IpAddr::V4(host)) = adapter.host_address(address.into()) else { continue };
        if Spare::is_on(address).map_err(|error| unknown(&error))? {
            continue;
        }
        let is_taken = arp::probe(&adapter, address, arp::LONGEST_PROBE);
        if !is_taken.map_err(|error| unknown(&error))? {
            return Ok(Spot { address, host, interface: adapter.index });
        }
    }
    Err(Why::NotRun(
        "no spare address was found: give --address with one that no machine has".into(),
    ))
}

/// The card whose subnet has the address.
fn near(adapters: &[Adapter], address: Ipv4Addr) -> Result<Adapter, Why> {
    let holds = |adapter: &&Adapter| {
        let nets = &adapter.addresses;
        nets.iter().any(|net| net.contains(&IpAddr::V4(address)))
    };
    adapters.iter().find(holds).cloned().ok_or_else(|| {
        Why::failed(
            format!("no network card's subnet has {address}"),
            "give --address with one of the subnet that the sessions are to have addresses of",
        )
    })
}

fn upcoming(config: &Config, adapter: &Adapter) -> Result<Vec<Ipv4Addr>, Why> {
    #[expect(clippy::disallowed_methods, reason = "which leases rest is a matter of the time")]
    let now = Timestamp::try_from(std::time::SystemTime::now()).unwrap_or_default();
    let (_, saved) = Store::open(&config.state_dir, now).map_err(|error| unknown(&error))?;
    let leases = Leases::restore(now, &config.pool, adapter.reserved(), saved);
    let next = leases.upcoming(now, 4 * CANDIDATES).into_iter();
    let next = next.filter_map(|address| match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    Ok(next.take(CANDIDATES).collect())
}

fn unknown(error: &dyn std::error::Error) -> Why {
    Why::NotRun(format!("no spare address is known: {}", in_full(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_card_is_the_one_whose_subnet_has_it() {
        let card = |index, net: &str| Adapter {
            index,
            name: format!("card {index}"),
            addresses: vec![net.parse().unwrap()],
            mac: None,
        };
        let cards = [card(3, "192.0.2.1/24"), card(7, "10.77.0.1/24")];
        assert_eq!(near(&cards, Ipv4Addr::new(10, 77, 0, 9)).unwrap().index, 7);
        assert!(matches!(near(&cards, Ipv4Addr::new(10, 78, 0, 9)), Err(Why::Failed { .. })));
    }

    #[test]
    fn without_a_configuration_nothing_is_chosen() {
        assert!(matches!(choose(None, None), Err(Why::NotRun(_))));
    }
}
