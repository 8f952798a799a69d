//! What `WSAIoctl` answers about the host's addresses, in a buffer of the caller's.

use super::{address_at, give_at};
use crate::names::{List, Row};
use std::mem::offset_of;
use std::net::Ipv6Addr;
use windows_sys::Win32::Networking::WinSock::{
    INTERFACE_INFO, SOCKADDR, SOCKET_ADDRESS, SOCKET_ADDRESS_LIST, sockaddr_gen,
};

/// `SIO_ADDRESS_LIST_QUERY`: a number, and so many pointers to addresses.
#[derive(Debug)]
pub struct Addresses {
    count: *mut i32,
    rows: Vec<*mut SOCKET_ADDRESS>,
}

/// # Safety
/// The system has just written `length` bytes at `output`, which nobody else looks at,
/// and which live as long as the list.
#[expect(unsafe_code, reason = "a pointer is followed")]
pub unsafe fn addresses(output: *mut u8, length: usize) -> Option<Addresses> {
    let rows = length.checked_sub(offset_of!(SOCKET_ADDRESS_LIST, Address))?;
    let count = output.cast::<i32>();
    // SAFETY: the list begins with its number.
    let told = usize::try_from(unsafe { count.read_unaligned() }).ok()?;
    let first = output.wrapping_add(offset_of!(SOCKET_ADDRESS_LIST, Address));
    let fits = told.min(rows / size_of::<SOCKET_ADDRESS>());
    let rows = (0..fits).map(|row| first.cast::<SOCKET_ADDRESS>().wrapping_add(row));
    Some(Addresses { count, rows: rows.collect() })
}

#[expect(unsafe_code, reason = "rows of a list that `addresses` was given")]
impl List for Addresses {
    fn rows(&self) -> Vec<Row> {
        let row = |row: &*mut SOCKET_ADDRESS| Row { address: address(*row).1, kind: 0 };
        self.rows.iter().map(row).collect()
    }

    fn swap(&mut self, one: usize, other: usize) {
        let (Some(one), Some(other)) = (self.rows.get(one), self.rows.get(other)) else { return };
        // SAFETY: two rows of the list.
        unsafe {
            let (here, there) = (one.read_unaligned(), other.read_unaligned());
            one.write_unaligned(there);
            other.write_unaligned(here);
        }
    }

    fn give(&mut self, row: usize, given: Ipv6Addr) {
        let Some(row) = self.rows.get(row) else { return };
        if let (at, Some(_)) = address(*row) {
            // SAFETY: an address was read there.
            unsafe { give_at(at, given) };
        }
    }

    fn cut(&mut self, length: usize) {
        if let Ok(count) = i32::try_from(length) {
            // SAFETY: the number of the rows.
            unsafe { self.count.write_unaligned(count) };
            self.rows.truncate(length);
        }
    }
}

/// Where the row's address is, and which.
#[expect(unsafe_code, reason = "a row of a list that `addresses` was given")]
fn address(row: *const SOCKET_ADDRESS) -> (*mut SOCKADDR, Option<Ipv6Addr>) {
    // SAFETY: it is a row; what it points to is in the same buffer.
    unsafe {
        let SOCKET_ADDRESS { lpSockaddr, iSockaddrLength } = row.read_unaligned();
        (lpSockaddr, address_at(lpSockaddr, usize::try_from(iSockaddrLength).unwrap_or(0)))
    }
}

/// `SIO_GET_INTERFACE_LIST`: as many rows as fit into what was returned.
#[derive(Debug)]
pub struct Interfaces {
    rows: Vec<*mut INTERFACE_INFO>,
    returned: *mut u32,
}

/// # Safety
/// The system has just written `*returned` bytes at `output`, which nobody else looks
/// at, and which live as long as the list, as does `returned`.
#[expect(unsafe_code, reason = "a pointer is followed")]
pub unsafe fn interfaces(output: *mut u8, returned: *mut u32) -> Interfaces {
    // SAFETY: by the caller's word.
    let length = usize::try_from(unsafe { returned.read_unaligned() }).unwrap_or(0);
    let first = output.cast::<INTERFACE_INFO>();
    let rows = 0..length / size_of::<INTERFACE_INFO>();
    Interfaces { rows: rows.map(|row| first.wrapping_add(row)).collect(), returned }
}

#[expect(unsafe_code, reason = "rows of a list that `interfaces` was given")]
impl List for Interfaces {
    fn rows(&self) -> Vec<Row> {
        let row = |row: &*mut INTERFACE_INFO| {
            // SAFETY: it is a row; its addresses have room for either family.
            let address = unsafe {
                address_at((&raw const (**row).iiAddress).cast(), size_of::<sockaddr_gen>())
            };
            Row { address, kind: 0 }
        };
        self.rows.iter().map(row).collect()
    }

    fn swap(&mut self, one: usize, other: usize) {
        let (Some(one), Some(other)) = (self.rows.get(one), self.rows.get(other)) else { return };
        // SAFETY: two rows of the list.
        unsafe {
            let (here, there) = (one.read_unaligned(), other.read_unaligned());
            one.write_unaligned(there);
            other.write_unaligned(here);
        }
    }

    /// The broadcast address and the mask are the subnet's, and stay.
    fn give(&mut self, row: usize, given: Ipv6Addr) {
        let Some(row) = self.rows.get(row) else { return };
        // SAFETY: it is a row.
        unsafe {
            let at = (&raw mut (**row).iiAddress).cast::<SOCKADDR>();
            if address_at(at, size_of::<sockaddr_gen>()).is_some() {
                give_at(at, given);
            }
        }
    }

    fn cut(&mut self, length: usize) {
        if let Ok(bytes) = u32::try_from(length.saturating_mul(size_of::<INTERFACE_INFO>())) {
            // SAFETY: by the word of who made this.
            unsafe { self.returned.write_unaligned(bytes) };
            self.rows.truncate(length);
        }
    }
}

/// `SIO_ROUTING_INTERFACE_QUERY`: one address, from which packets would leave.
#[derive(Debug)]
pub struct One {
    at: *mut SOCKADDR,
    length: usize,
}

impl One {
    /// # Safety
    /// As [`addresses`].
    #[expect(unsafe_code, reason = "a pointer will be followed")]
    pub unsafe fn new(at: *mut SOCKADDR, length: usize) -> Self {
        Self { at, length }
    }
}

#[expect(unsafe_code, reason = "the address that `new` was given")]
impl List for One {
    fn rows(&self) -> Vec<Row> {
        // SAFETY: by the word of who made this.
        vec![Row { address: unsafe { address_at(self.at, self.length) }, kind: 0 }]
    }

    fn swap(&mut self, _: usize, _: usize) {}

    fn give(&mut self, _: usize, given: Ipv6Addr) {
        // SAFETY: as above.
        unsafe {
            if address_at(self.at, self.length).is_some() {
                give_at(self.at, given);
            }
        }
    }

    /// There is no less than one.
    fn cut(&mut self, _: usize) {}
}

#[cfg(test)]
#[expect(unsafe_code, reason = "structs of the test's own")]
mod tests {
    use super::super::address::tests::{mapped, system, text};
    use super::*;
    use crate::names::{Kept, keep};
    use windows_sys::Win32::Networking::WinSock::SOCKADDR_IN;

    fn said(list: &impl List) -> String {
        list.rows().iter().map(|row| text(row.address)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_list_of_addresses_is_shortened() {
        let mut names = ["10.77.0.104", "10.77.0.1", "10.88.0.1"].map(system);
        let from = offset_of!(SOCKET_ADDRESS_LIST, Address);
        let row = size_of::<SOCKET_ADDRESS>();
        for skip in [0, 1] {
            let mut buffer = vec![0_u8; from + 3 * row + 8];
            let output = buffer.as_mut_ptr().wrapping_add(skip);
            names[1] = system("10.77.0.1");
            // SAFETY: there is room for all of it.
            unsafe {
                output.cast::<i32>().write_unaligned(3);
                for (at, (name, length)) in names.iter_mut().enumerate() {
                    let length = i32::try_from(*length).unwrap();
                    let address = SOCKET_ADDRESS {
                        lpSockaddr: (&raw mut *name).cast(),
                        iSockaddrLength: length,
                    };
                    let place = output.add(from + at * row).cast::<SOCKET_ADDRESS>();
                    place.write_unaligned(address);
                }
                let length = from + 3 * row;
                assert!(addresses(output, 1).is_none(), "too short for anything");
                assert_eq!(said(&addresses(output, length - 1).unwrap()), "10.77.0.104 10.77.0.1");
                let mut list = addresses(output, length).unwrap();
                let own = Some(mapped("10.77.0.103"));
                keep(&mut list, 3, &[Kept { row: 1, given: own }, Kept { row: 2, given: None }]);
                let again = addresses(output, length).unwrap();
                assert_eq!((said(&list), said(&again)), (said(&again), said(&list)));
                assert_eq!(said(&list), "10.77.0.103 10.88.0.1");
            }
        }
    }

    #[test]
    fn a_list_of_interfaces_is_shortened() {
        let mut rows = [INTERFACE_INFO::default(); 3];
        for (row, word) in rows.iter_mut().zip(["127.0.0.1", "10.77.0.104", "10.77.0.1"]) {
            let (name, _) = system(word);
            // SAFETY: an IPv4 address fits.
            row.iiAddress.AddressIn = unsafe { (&raw const name).cast::<SOCKADDR_IN>().read() };
            row.iiFlags = word.len() as u32;
        }
        let mut returned = size_of_val(&rows) as u32;
        // SAFETY: all of it lives here.
        let mut list = unsafe { interfaces(rows.as_mut_ptr().cast(), &raw mut returned) };
        assert_eq!(said(&list), "127.0.0.1 10.77.0.104 10.77.0.1");
        let own = Some(mapped("10.77.0.103"));
        keep(&mut list, 3, &[Kept { row: 0, given: None }, Kept { row: 2, given: own }]);
        // SAFETY: as above.
        let again = unsafe { interfaces(rows.as_mut_ptr().cast(), &raw mut returned) };
        assert_eq!(said(&again), "127.0.0.1 10.77.0.103");
        assert_eq!(returned as usize, 2 * size_of::<INTERFACE_INFO>());
        assert_eq!(rows[1].iiFlags, 9, "the rest of the row, too");
    }

    #[test]
    fn one_address_is_exchanged() {
        let (mut name, length) = system("10.77.0.1");
        // SAFETY: it lives here.
        let mut one = unsafe { One::new((&raw mut name).cast(), length) };
        keep(&mut one, 1, &[Kept { row: 0, given: Some(mapped("10.77.0.103")) }]);
        assert_eq!(said(&one), "10.77.0.103");
        keep(&mut one, 1, &[]);
        assert_eq!(said(&one), "10.77.0.103", "there is no less than one");
    }
}
