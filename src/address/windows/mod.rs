//! How does Windows come to answer for an address?
//!
//! A virtual address is a unicast address of the adapter that has the host
//! address, with two marks: `SkipAsSource`, so that nothing is sent from it that
//! does not ask for it, and an on-link prefix of /32 (IPv6: /128), so that it brings
//! no route of its subnet (the host address has that one already). Both together are also
//! how one of ours is known again after a crash: an administrator's own addresses
//! have the prefix of their subnet. It is in the active store only, and gone after
//! a reboot.
//!
//! Windows asks and tells the neighbours by itself: until nobody has answered for
//! an address it is *tentative* (about three seconds, RFC 5227) and cannot be
//! bound; if somebody has, it is a *duplicate* for good ([`Addresses::duplicates`]).
//!
//! Session-private IPv6 addresses are the loopback interface's, /128.

mod adapters;
pub mod arp;
pub mod nd;
mod routes;
mod spare;
#[cfg(test)]
mod stood_in;
mod table;

pub use adapters::cards;
pub use routes::RouteNews;
pub(crate) use spare::{Spare, mtu};

use super::{Adapter, LocalAddress, PRIVATE_IPV6};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};
use table::{Row, Standing};
use windows_sys::Win32::Foundation::{
    ERROR_NOT_FOUND, ERROR_NOT_SUPPORTED, ERROR_OBJECT_ALREADY_EXISTS,
};

/// An address of ours looks like any that somebody gave that prefix and flag.
pub const MARKED: bool = false;

/// The loopback interface (`NDIS` gives it the first index, on every machine).
const LOOPBACK: u32 = 1;
/// No logon waits longer than that for its address to be a usable one; most often
/// it is a moment later.
const LONGEST_WAIT: Duration = Duration::from_millis(200);
const GLANCE: Duration = Duration::from_millis(20);

/// The addresses of this machine.
#[derive(Debug)]
pub struct Addresses(());

/// The system's addresses are out of reach.
#[derive(Debug, thiserror::Error)]
#[error("cannot list the addresses of this machine")]
pub struct OpenError(#[source] io::Error);

/// Something cannot be listed.
#[derive(Debug, thiserror::Error)]
#[error("cannot list the {what} of this machine")]
pub struct ListError {
    what: &'static str,
    #[source]
    source: io::Error,
}

/// An address cannot be put on.
#[derive(Debug, thiserror::Error)]
pub enum PutOnError {
    /// This machine answers for it already, and not by us; or another machine does.
    #[error("{0} is an address of this machine, or of another one, already")]
    Taken(IpAddr),
    /// There is no adapter to put it on.
    #[error("cannot put {address} on this machine: no network card has {host_address} any more")]
    NoAdapter {
        /// The virtual address.
        address: IpAddr,
        /// Where it was to be put.
        host_address: IpAddr,
    },
    /// The system refuses it.
    #[error("cannot put {address} on this machine")]
    System {
        /// The virtual address.
        address: IpAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// An address cannot be taken off.
#[derive(Debug, thiserror::Error)]
#[error("cannot take {address} off this machine")]
pub struct TakeOffError {
    address: IpAddr,
    #[source]
    source: io::Error,
}

impl Addresses {
    /// # Errors
    /// The system does not list its addresses.
    pub fn open() -> Result<Self, OpenError> {
        table::rows().map(|_| Self(())).map_err(OpenError)
    }

    /// The network interfaces but the loopback, by index, without the addresses
    /// that are ours.
    ///
    /// # Errors
    /// The system does not list them.
    pub fn adapters(&mut self) -> Result<Vec<Adapter>, ListError> {
        let failed = |source| ListError { what: "network interfaces", source };
        let ours = self.ours_on_host()?;
        let mut adapters = adapters::adapters().map_err(failed)?;
        adapters.retain(|adapter| adapter.index != LOOPBACK);
        for adapter in &mut adapters {
            adapter.addresses.retain(|net| !ours.contains(&net.addr()));
        }
        adapters.sort_by_key(|adapter| adapter.index);
        Ok(adapters)
    }

    /// The addresses of all interfaces but the virtual ones.
    ///
    /// # Errors
    /// The system does not list them.
    pub fn local_addresses(&mut self) -> Result<Vec<LocalAddress>, ListError> {
        let rows = table::rows().map_err(|source| ListError { what: "addresses", source })?;
        let local = rows.into_iter().filter(|row| !is_ours(row));
        let local =
            local.map(|row| LocalAddress { address: row.address, interface: row.interface });
        Ok(local.collect())
    }

    /// Puts a virtual address on the adapter that has `host_address`, or moves it
    /// there. Waits until it can be bound, but not long: see
    /// [`duplicates`](Self::duplicates).
    ///
    /// # Errors
    /// Somebody has it already, or the system refuses it.
    pub fn put_on(
        &mut self,
        virtual_address: IpAddr,
        host_address: IpAddr,
    ) -> Result<(), PutOnError> {
        let address = virtual_address;
        let system = |source| PutOnError::System { address, source };
        let rows = table::rows().map_err(system)?;
        let home = rows.iter().find(|row| row.address == host_address);
        let interface = home.ok_or(PutOnError::NoAdapter { address, host_address })?.interface;
        if let Some(there) = rows.iter().find(|row| row.address == address) {
            if !is_ours(there) {
                return Err(PutOnError::Taken(virtual_address));
            }
            if there.interface == interface && there.standing != Standing::Duplicate {
                return Ok(());
            }
            table::remove(there).map_err(system)?;
        }
        match table::add(address, interface, true) {
            Err(error) if says(&error, ERROR_OBJECT_ALREADY_EXISTS) => {
                return Err(PutOnError::Taken(virtual_address));
            }
            added => added.map_err(system)?,
        }
        let until = now() + LONGEST_WAIT;
        loop {
            match standing(address).map_err(system)? {
                Some(Standing::Usable) => return Ok(()),
                Some(Standing::Duplicate) => {
                    self.take_off(address).ok();
                    return Err(PutOnError::Taken(virtual_address));
                }
                Some(Standing::Tentative) | None if now() >= until => return Ok(()),
                Some(Standing::Tentative) | None => std::thread::sleep(GLANCE),
            }
        }
    }

    /// Virtual addresses that turned out to be another machine's after they were put
    /// on. No session can use them; they stay until they are taken off.
    ///
    /// # Errors
    /// The system does not list them.
    pub fn duplicates(&mut self) -> Result<Vec<IpAddr>, ListError> {
        let rows = table::rows().map_err(|source| ListError { what: "addresses", source })?;
        let duplicates =
            rows.into_iter().filter(|row| is_ours(row) && row.standing == Standing::Duplicate);
        Ok(duplicates.map(|row| row.address).collect())
    }

    /// Puts a session-private IPv6 address on the loopback interface, where it can
    /// be bound at once. Returns whether it is there: not where IPv6 is turned off.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn put_on_private_ipv6(&mut self, address: Ipv6Addr) -> Result<bool, PutOnError> {
        match table::add(address.into(), LOOPBACK, true) {
            Ok(()) => Ok(true),
            Err(error) if says(&error, ERROR_OBJECT_ALREADY_EXISTS) => Ok(true),
            Err(error) if says(&error, ERROR_NOT_SUPPORTED) => Ok(false),
            Err(error) if says(&error, ERROR_NOT_FOUND) => Ok(false),
            Err(source) => Err(PutOnError::System { address: address.into(), source }),
        }
    }

    /// Takes off what [`put_on`](Self::put_on) or
    /// [`put_on_private_ipv6`](Self::put_on_private_ipv6) put on, and nothing else.
    /// One that is gone already is no error.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn take_off(&mut self, address: IpAddr) -> Result<(), TakeOffError> {
        let failed = |source| TakeOffError { address, source };
        let rows = table::rows().map_err(failed)?;
        let Some(row) = rows.iter().find(|row| row.address == address && is_ours(row)) else {
            return Ok(());
        };
        match table::remove(row) {
            Err(error) if says(&error, ERROR_NOT_FOUND) => Ok(()),
            removed => removed.map_err(failed),
        }
    }

    /// All addresses that were put on and not taken off again, by this daemon or by
    /// one that was killed: see the top of this room for how they are known.
    ///
    /// # Errors
    /// The system does not list them.
    pub fn ours_on_host(&mut self) -> Result<Vec<IpAddr>, ListError> {
        let rows = table::rows().map_err(|source| ListError { what: "addresses", source })?;
        Ok(rows.into_iter().filter(is_ours).map(|row| row.address).collect())
    }

    /// Those of [`ours_on_host`](Self::ours_on_host) that lack nothing: all, for an
    /// address is one thing here.
    ///
    /// # Errors
    /// The system does not list them.
    pub fn whole(&mut self) -> Result<Vec<IpAddr>, ListError> {
        self.ours_on_host()
    }
}

/// Does it carry our marks?
fn is_ours(row: &Row) -> bool {
    match row.address {
        IpAddr::V6(address) if row.interface == LOOPBACK => PRIVATE_IPV6.contains(&address),
        IpAddr::V4(_) | IpAddr::V6(_) => {
            let whole = if row.address.is_ipv4() { 32 } else { 128 };
            row.skip_as_source && row.prefix_length == whole && row.interface != LOOPBACK
        }
    }
}

fn standing(address: IpAddr) -> io::Result<Option<Standing>> {
    let rows = table::rows()?;
    Ok(rows.iter().find(|row| row.address == address).map(|row| row.standing))
}

fn says(error: &io::Error, code: u32) -> bool {
    error.raw_os_error().map(i32::cast_unsigned) == Some(code)
}

#[expect(clippy::disallowed_methods, reason = "it waits for the network, in real time")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn row(address: &str, prefix_length: u8, skip_as_source: bool, interface: u32) -> Row {
        let address = address.parse().unwrap();
        Row { address, interface, prefix_length, skip_as_source, standing: Standing::Usable }
    }

    #[test]
    fn ours_carry_both_marks() {
        assert!(is_ours(&row("10.77.0.101", 32, true, 12)));
        assert!(is_ours(&row("fd73:6970::7", 128, true, LOOPBACK)));
        assert!(is_ours(&row("fd77::101", 128, true, 12)));
        for strange in [
            row("10.77.0.101", 24, true, 12),
            row("10.77.0.101", 32, false, 12),
            row("127.0.0.1", 32, true, LOOPBACK),
            row("fd77::101", 64, true, 12),
            row("fd77::101", 128, false, 12),
            row("::1", 128, true, LOOPBACK),
        ] {
            assert!(!is_ours(&strange), "{strange:?}");
        }
    }

    #[test]
    fn this_machine_has_addresses_and_none_of_ours() {
        let mut addresses = Addresses::open().unwrap();
        let local = addresses.local_addresses().unwrap();
        assert!(local.iter().any(|it| it.address == Ipv4Addr::LOCALHOST), "{local:?}");
        assert_eq!(addresses.ours_on_host().unwrap(), [] as [IpAddr; 0]);
        assert_eq!(addresses.duplicates().unwrap(), [] as [IpAddr; 0]);
        for adapter in addresses.adapters().unwrap() {
            assert!(!adapter.name.is_empty() && adapter.index != LOOPBACK, "{adapter:?}");
            assert!(adapter.addresses.iter().all(|net| !net.addr().is_loopback()), "{adapter:?}");
        }
    }

    #[test]
    fn what_is_not_ours_is_neither_taken_off_nor_replaced() {
        let mut addresses = Addresses::open().unwrap();
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        addresses.take_off(localhost).unwrap();
        let error = addresses.put_on(localhost, localhost).unwrap_err();
        assert!(matches!(error, PutOnError::Taken(it) if it == localhost), "{error:?}");
        let nowhere = IpAddr::from([192, 0, 2, 1]);
        let error = addresses.put_on([192, 0, 2, 9].into(), nowhere).unwrap_err();
        assert!(matches!(error, PutOnError::NoAdapter { .. }), "{error:?}");
    }
}
