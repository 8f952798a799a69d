//! Does somebody else on the network have that IPv6 address?
//!
//! Windows asks by itself when an address is put on, and does not let it be used
//! until nobody has answered (duplicate address detection, RFC 4862): one that
//! another machine has is found by
//! [`duplicates`](super::Addresses::duplicates), a second later. It announces by
//! itself as well.

use crate::address::Adapter;
use std::net::Ipv6Addr;
use std::time::Duration;

/// How long a question may take.
pub const LONGEST_PROBE: Duration = Duration::ZERO;

/// The neighbours cannot be asked: never.
#[derive(Debug, thiserror::Error)]
pub enum NdError {}

/// Nobody is asked beforehand.
///
/// # Errors
/// None here.
pub fn probe(_: &Adapter, _: Ipv6Addr, _: Duration) -> Result<bool, NdError> {
    Ok(false)
}

/// Windows has told the neighbours already.
///
/// # Errors
/// None here.
pub fn announce(_: &Adapter, _: Ipv6Addr) -> Result<(), NdError> {
    Ok(())
}
