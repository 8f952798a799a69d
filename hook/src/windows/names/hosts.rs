//! What `gethostbyname` and `gethostbyaddr` answer: a struct of the calling thread's,
//! which the system uses again for its next question.

use super::MOST;
use crate::names::{List, Row};
use std::ffi::CStr;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ptr::null_mut;
use windows_sys::Win32::Networking::WinSock::{AF_INET, AF_INET6, HOSTENT};

/// A host of one family.
#[derive(Debug)]
pub struct Host {
    entry: *mut HOSTENT,
    list: *mut *mut i8,
    addresses: Vec<*mut i8>,
    is_ipv4: bool,
}

impl Host {
    /// `None`: it is of another family than IP.
    ///
    /// # Safety
    /// `entry` is null, or what the system has just answered in this thread.
    #[expect(unsafe_code, reason = "a list of pointers")]
    pub unsafe fn new(entry: *mut HOSTENT) -> Option<Self> {
        if entry.is_null() {
            return None;
        }
        // SAFETY: by the caller's word; the list ends with a null.
        unsafe {
            let HOSTENT { h_addrtype, h_length, h_addr_list: list, .. } = entry.read_unaligned();
            let is_ipv4 = match (h_addrtype.cast_unsigned(), h_length) {
                (AF_INET, 4) => true,
                (AF_INET6, 16) => false,
                _ => return None,
            };
            let mut addresses = Vec::new();
            while !list.is_null() && addresses.len() < MOST {
                let address = list.add(addresses.len()).read_unaligned();
                if address.is_null() {
                    break;
                }
                addresses.push(address);
            }
            Some(Self { entry, list, addresses, is_ipv4 })
        }
    }

    /// Has it say this name, and no other.
    #[expect(unsafe_code, reason = "a list of pointers")]
    pub fn call(&mut self, name: &'static CStr) {
        // SAFETY: the struct is the system's answer. What its pointers point to is
        // not freed by them, but with the thread's buffer.
        unsafe {
            let text = name.as_ptr().cast_mut().cast();
            (&raw mut (*self.entry).h_name).write_unaligned(text);
            let aliases = (&raw const (*self.entry).h_aliases).read_unaligned();
            if !aliases.is_null() {
                aliases.write_unaligned(null_mut());
            }
        }
    }
}

#[expect(unsafe_code, reason = "addresses of a host that `new` was given")]
impl List for Host {
    fn rows(&self) -> Vec<Row> {
        let address = |at: &*mut i8| {
            // SAFETY: each is as long as the family has it.
            let address = unsafe {
                if self.is_ipv4 {
                    Ipv4Addr::from(at.cast::<[u8; 4]>().read_unaligned()).to_ipv6_mapped()
                } else {
                    Ipv6Addr::from(at.cast::<[u8; 16]>().read_unaligned())
                }
            };
            Row { address: Some(address), kind: 0 }
        };
        self.addresses.iter().map(address).collect()
    }

    fn swap(&mut self, one: usize, other: usize) {
        let (Some(&here), Some(&there)) = (self.addresses.get(one), self.addresses.get(other))
        else {
            return;
        };
        self.addresses.swap(one, other);
        // SAFETY: both are in the list.
        unsafe {
            self.list.add(one).write_unaligned(there);
            self.list.add(other).write_unaligned(here);
        }
    }

    fn give(&mut self, row: usize, address: Ipv6Addr) {
        let Some(at) = self.addresses.get(row) else { return };
        // SAFETY: as in `rows`.
        unsafe {
            match (self.is_ipv4, address.to_ipv4_mapped()) {
                (true, Some(address)) => at.cast::<[u8; 4]>().write_unaligned(address.octets()),
                (false, None) => at.cast::<[u8; 16]>().write_unaligned(address.octets()),
                _ => {}
            }
        }
    }

    fn cut(&mut self, length: usize) {
        if length < self.addresses.len() {
            // SAFETY: it is in the list.
            unsafe { self.list.add(length).write_unaligned(null_mut()) };
            self.addresses.truncate(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::address::tests::{mapped, text};
    use super::*;
    use crate::names::{Kept, keep};

    #[test]
    #[expect(unsafe_code, reason = "a struct of the test's own")]
    fn a_host_is_edited_in_its_threads_buffer() {
        let mut octets = [[10_u8, 77, 0, 104], [10, 77, 0, 1], [10, 88, 0, 1]];
        let mut list: Vec<*mut i8> = octets.iter_mut().map(|it| it.as_mut_ptr().cast()).collect();
        list.push(null_mut());
        let mut alias = *b"other\0";
        let mut aliases = [alias.as_mut_ptr().cast::<i8>(), null_mut()];
        let mut entry = HOSTENT {
            h_name: alias.as_mut_ptr(),
            h_aliases: aliases.as_mut_ptr(),
            h_addrtype: AF_INET.cast_signed(),
            h_length: 4,
            h_addr_list: list.as_mut_ptr(),
        };
        // SAFETY: all of it lives here.
        let mut host = unsafe { Host::new(&raw mut entry) }.unwrap();
        let said =
            |host: &Host| host.rows().iter().map(|row| text(row.address)).collect::<Vec<_>>();
        assert_eq!(said(&host), ["10.77.0.104", "10.77.0.1", "10.88.0.1"]);
        keep(&mut host, 3, &[Kept { row: 1, given: Some(mapped("10.77.0.103")) }]);
        host.call(c"ts1");
        // SAFETY: as above.
        let again = unsafe { Host::new(&raw mut entry) }.unwrap();
        assert_eq!((said(&host), said(&again)), (said(&again), vec!["10.77.0.103".to_owned()]));
        assert!(aliases[0].is_null());
        // SAFETY: the name is a text of the program's.
        assert_eq!(unsafe { CStr::from_ptr(entry.h_name.cast()) }, c"ts1");
        entry.h_length = 16;
        // SAFETY: it is not read.
        assert!(unsafe { Host::new(&raw mut entry) }.is_none(), "no such family");
        // SAFETY: nothing is there.
        assert!(unsafe { Host::new(null_mut()) }.is_none());
    }
}
