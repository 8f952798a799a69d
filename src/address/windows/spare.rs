//! How does the machine do with one address more, for a moment?

use super::{PutOnError, Standing, now, says, standing, table};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use windows_sys::Win32::Foundation::{ERROR_OBJECT_ALREADY_EXISTS, NO_ERROR};
use windows_sys::Win32::NetworkManagement::IpHelper::{GetIfEntry2, MIB_IF_ROW2};

/// How often it is asked whether it can be bound.
const GLANCE: Duration = Duration::from_millis(50);

/// An address that was put on, taken off when this is dropped. With
/// `skip_as_source` it carries the marks of a virtual one, so that the daemon
/// takes it off if this process dies first; without, it stays until a reboot.
#[derive(Debug)]
pub(crate) struct Spare {
    address: Ipv4Addr,
}

impl Spare {
    /// Puts it on the adapter that has `host_address`.
    ///
    /// # Errors
    /// The machine has it already, or the system refuses it.
    pub(crate) fn put_on(
        address: Ipv4Addr,
        host_address: Ipv4Addr,
        skip_as_source: bool,
    ) -> Result<Self, PutOnError> {
        let ip = IpAddr::V4(address);
        let system = |source| PutOnError::System { address: ip, source };
        let rows = table::rows().map_err(system)?;
        if rows.iter().any(|row| row.address == ip) {
            return Err(PutOnError::Taken(ip));
        }
        let home = rows.iter().find(|row| row.address == IpAddr::V4(host_address));
        let interface = home
            .ok_or(PutOnError::NoAdapter { address: ip, host_address: host_address.into() })?
            .interface;
        match table::add(ip, interface, skip_as_source) {
            Err(error) if says(&error, ERROR_OBJECT_ALREADY_EXISTS) => Err(PutOnError::Taken(ip)),
            added => added.map(|()| Self { address }).map_err(system),
        }
    }

    /// Waits until it can be bound, which is never where another machine has it.
    ///
    /// # Errors
    /// The system does not say.
    pub(crate) fn is_usable_within(&self, wait: Duration) -> io::Result<bool> {
        let until = now() + wait;
        loop {
            match standing(self.address.into())? {
                Some(Standing::Usable) => return Ok(true),
                Some(Standing::Duplicate) | None => return Ok(false),
                Some(Standing::Tentative) if now() >= until => return Ok(false),
                Some(Standing::Tentative) => std::thread::sleep(GLANCE),
            }
        }
    }

    /// Is it on this machine?
    ///
    /// # Errors
    /// The system does not say.
    pub(crate) fn is_on(address: Ipv4Addr) -> io::Result<bool> {
        Ok(standing(address.into())?.is_some())
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        let ip = IpAddr::V4(self.address);
        let rows = table::rows().unwrap_or_default();
        let Some(row) = rows.iter().find(|row| row.address == ip) else { return };
        if let Err(error) = table::remove(row) {
            tracing::warn!(%error, address = %self.address, "an address could not be taken off");
        }
    }
}

/// The longest packet that a card sends. `None`: the system does not say.
pub(crate) fn mtu(interface: u32) -> Option<u32> {
    let mut row = MIB_IF_ROW2 { InterfaceIndex: interface, ..MIB_IF_ROW2::default() };
    #[expect(unsafe_code, reason = "a call into iphlpapi")]
    // SAFETY: the row is ours, and says by its index which card is meant.
    let status = unsafe { GetIfEntry2(&raw mut row) };
    (status == NO_ERROR && row.Mtu > 0).then_some(row.Mtu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_has_no_mtu() {
        assert_eq!(mtu(0x7fff_ffff), None);
    }

    #[test]
    fn an_address_of_this_machine_is_not_spare() {
        let home = Ipv4Addr::LOCALHOST;
        assert!(Spare::is_on(home).unwrap());
        assert!(!Spare::is_on(Ipv4Addr::new(192, 0, 2, 9)).unwrap());
        assert!(matches!(Spare::put_on(home, home, true), Err(PutOnError::Taken(_))));
    }
}
