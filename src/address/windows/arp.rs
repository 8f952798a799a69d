//! Does somebody else on the network have that address?
//!
//! Windows speaks ARP for us. An announcement is its own affair: it makes one when
//! an address is put on, when the link comes up and when the machine has slept.

use super::table::Standing;
use crate::address::Adapter;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use windows_sys::Win32::Foundation::{
    ERROR_BAD_NET_NAME, ERROR_GEN_FAILURE, ERROR_NOT_FOUND, ERROR_SUCCESS,
};
use windows_sys::Win32::NetworkManagement::IpHelper::SendARP;

/// How long a question may take: as long as Windows repeats it, which cannot be
/// chosen. Only the thread that asks ahead waits for it; no logon does.
pub const LONGEST_PROBE: Duration = Duration::from_secs(3);

/// The neighbours cannot be asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot speak ARP on {adapter}")]
pub struct ArpError {
    adapter: String,
    #[source]
    source: io::Error,
}

/// Asks whether another host has `address`. Nobody answers on an adapter that does
/// not speak ARP, nor for an address that this machine has itself. To be asked
/// before the address is put on.
///
/// # Errors
/// The adapter is gone or down.
#[expect(unsafe_code, reason = "a call into iphlpapi")]
pub fn probe(adapter: &Adapter, address: Ipv4Addr, _: Duration) -> Result<bool, ArpError> {
    let Some(own) = adapter.mac else { return Ok(false) };
    let failed = |source| ArpError { adapter: adapter.name.clone(), source };
    let is_here: Option<Standing> = super::standing(address.into()).map_err(failed)?;
    if is_here.is_some() {
        return Ok(false);
    }
    let source = match adapter.host_address(address.into()) {
        Some(IpAddr::V4(source)) => source,
        Some(IpAddr::V6(_)) | None => Ipv4Addr::UNSPECIFIED,
    };
    let mut mac = [0_u8; 8];
    let mut length = mac.len() as u32;
    let number = |address: Ipv4Addr| u32::from_ne_bytes(address.octets());
    // SAFETY: the buffer is as long as said.
    let status = unsafe {
        SendARP(number(address), number(source), mac.as_mut_ptr().cast(), &raw mut length)
    };
    match status {
        ERROR_SUCCESS => Ok(mac.get(..length as usize).is_some_and(|mac| mac != own)),
        ERROR_GEN_FAILURE | ERROR_BAD_NET_NAME | ERROR_NOT_FOUND => Ok(false),
        error => Err(failed(io::Error::from_raw_os_error(error.cast_signed()))),
    }
}

/// Windows has told the neighbours already.
///
/// # Errors
/// None here.
pub fn announce(_: &Adapter, _: Ipv4Addr) -> Result<(), ArpError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_asked_where_nobody_answers() {
        let silent = Adapter { index: 9, name: "ppp0".into(), addresses: vec![], mac: None };
        assert!(!probe(&silent, Ipv4Addr::new(192, 0, 2, 9), LONGEST_PROBE).unwrap());
        let mac = Some([2, 0, 0, 0, 0, 1]);
        let card = Adapter { mac, ..silent };
        assert!(!probe(&card, Ipv4Addr::LOCALHOST, LONGEST_PROBE).unwrap(), "it is ours");
        announce(&card, Ipv4Addr::new(192, 0, 2, 9)).unwrap();
    }
}
