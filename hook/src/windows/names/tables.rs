//! What `GetIpAddrTable`, `GetUnicastIpAddressTable` and `GetAdaptersInfo` answer.

use super::{MOST, address_at, give_at};
use crate::names::{List, Row};
use std::mem::offset_of;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ptr::null_mut;
use windows_sys::Win32::NetworkManagement::IpHelper::{
    IP_ADAPTER_INFO, IP_ADDR_STRING, MIB_IPADDRROW_XP, MIB_IPADDRTABLE, MIB_UNICASTIPADDRESS_ROW,
    MIB_UNICASTIPADDRESS_TABLE,
};
use windows_sys::Win32::Networking::WinSock::SOCKADDR_IN6;

/// Rows of one length, one after the other, and their number before them.
#[derive(Debug)]
pub struct Table {
    count: *mut u32,
    rows: *mut u8,
    /// How long a row is.
    width: usize,
    /// Only IPv4, without a family.
    is_ipv4: bool,
}

/// The table that `GetIpAddrTable` writes to a buffer of the caller's.
///
/// # Safety
/// It is what the system has just written; nobody else looks at it, and it lives as
/// long as the list.
#[expect(unsafe_code, reason = "a pointer is followed")]
pub unsafe fn ip_addresses(table: *mut MIB_IPADDRTABLE) -> Table {
    // SAFETY: by the caller's word; no reference is made.
    let (count, rows) = unsafe { (&raw mut (*table).dwNumEntries, &raw mut (*table).table) };
    Table { count, rows: rows.cast(), width: size_of::<MIB_IPADDRROW_XP>(), is_ipv4: true }
}

/// The table that `GetUnicastIpAddressTable` makes, and the system frees as a whole.
///
/// # Safety
/// As [`ip_addresses`].
#[expect(unsafe_code, reason = "a pointer is followed")]
pub unsafe fn unicast_addresses(table: *mut MIB_UNICASTIPADDRESS_TABLE) -> Table {
    // SAFETY: by the caller's word; no reference is made.
    let (count, rows) = unsafe { (&raw mut (*table).NumEntries, &raw mut (*table).Table) };
    Table { count, rows: rows.cast(), width: size_of::<MIB_UNICASTIPADDRESS_ROW>(), is_ipv4: false }
}

const _: () = {
    assert!(offset_of!(MIB_IPADDRROW_XP, dwAddr) == 0);
    assert!(offset_of!(MIB_UNICASTIPADDRESS_ROW, Address) == 0);
};

#[expect(unsafe_code, reason = "rows of a table that the system wrote")]
impl Table {
    fn length(&self) -> usize {
        // SAFETY: the number of the rows.
        let count = unsafe { self.count.read_unaligned() };
        usize::try_from(count).unwrap_or(0).min(MOST)
    }

    fn row(&self, row: usize) -> *mut u8 {
        self.rows.wrapping_add(row * self.width)
    }

    fn address(&self, row: usize) -> Option<Ipv6Addr> {
        let at = self.row(row);
        // SAFETY: it is a row, which begins with the address.
        unsafe {
            if self.is_ipv4 {
                let octets = at.cast::<[u8; 4]>().read_unaligned();
                Some(Ipv4Addr::from(octets).to_ipv6_mapped())
            } else {
                address_at(at.cast(), size_of::<SOCKADDR_IN6>())
            }
        }
    }

    /// Puts the rows in the order of their addresses, as a caller may ask for.
    pub fn sort(&mut self) {
        // Few rows, and in order but for one.
        for from in 1..self.length() {
            let mut at = from;
            while at > 0 && self.address(at) < self.address(at - 1) {
                self.swap(at, at - 1);
                at -= 1;
            }
        }
    }
}

#[expect(unsafe_code, reason = "rows of a table that the system wrote")]
impl List for Table {
    fn rows(&self) -> Vec<Row> {
        (0..self.length()).map(|row| Row { address: self.address(row), kind: 0 }).collect()
    }

    fn swap(&mut self, one: usize, other: usize) {
        if one != other && one.max(other) < self.length() {
            // SAFETY: two rows of the table, as bytes.
            unsafe { std::ptr::swap_nonoverlapping(self.row(one), self.row(other), self.width) };
        }
    }

    fn give(&mut self, row: usize, address: Ipv6Addr) {
        if row >= self.length() {
            return;
        }
        let at = self.row(row);
        // SAFETY: it is a row, which begins with the address.
        unsafe {
            match (self.is_ipv4, address.to_ipv4_mapped()) {
                (true, Some(address)) => at.cast::<[u8; 4]>().write_unaligned(address.octets()),
                (true, None) => {}
                (false, _) => give_at(at.cast(), address),
            }
        }
    }

    fn cut(&mut self, length: usize) {
        if let Ok(length) = u32::try_from(length) {
            // SAFETY: the number of the rows.
            unsafe { self.count.write_unaligned(length) };
        }
    }
}

/// The addresses of an adapter as `GetAdaptersInfo` has them: as text. The first one is
/// a part of the adapter.
#[derive(Debug)]
pub struct Strings(Vec<*mut IP_ADDR_STRING>);

/// What an adapter without any address has.
const NONE: [i8; 16] = ascii(*b"0.0.0.0\0\0\0\0\0\0\0\0\0");

const fn ascii(bytes: [u8; 16]) -> [i8; 16] {
    let mut text = [0; 16];
    let mut at = 0;
    while at < text.len() {
        #[expect(clippy::indexing_slicing, reason = "below the length")]
        {
            text[at] = bytes[at].cast_signed();
        }
        at += 1;
    }
    text
}

/// The addresses of each adapter.
///
/// # Safety
/// `first` is null, or what the system has just written to a buffer, which nobody else
/// looks at and which lives as long as the lists.
#[expect(unsafe_code, reason = "a list of pointers")]
pub unsafe fn adapter_infos(first: *mut IP_ADAPTER_INFO) -> Vec<Strings> {
    let (mut lists, mut adapter) = (Vec::new(), first);
    while !adapter.is_null() && lists.len() < MOST {
        // SAFETY: by the caller's word it is an adapter, and so is what follows; no
        // reference is made.
        unsafe {
            let (mut nodes, mut node) = (Vec::new(), &raw mut (*adapter).IpAddressList);
            while !node.is_null() && nodes.len() < MOST {
                nodes.push(node);
                node = (&raw const (*node).Next).read_unaligned();
            }
            lists.push(Strings(nodes));
            adapter = (&raw const (*adapter).Next).read_unaligned();
        }
    }
    lists
}

#[expect(unsafe_code, reason = "nodes of a list that `adapter_infos` was given")]
impl List for Strings {
    fn rows(&self) -> Vec<Row> {
        let address = |node: &*mut IP_ADDR_STRING| {
            // SAFETY: it is a node of the list.
            let text = unsafe { (&raw const (**node).IpAddress.String).read_unaligned() };
            let bytes = text.iter().map(|byte| byte.cast_unsigned()).take_while(|byte| *byte != 0);
            let text = String::from_utf8(bytes.collect()).ok()?;
            text.parse().ok().map(|address: Ipv4Addr| address.to_ipv6_mapped())
        };
        self.0.iter().map(|node| Row { address: address(node), kind: 0 }).collect()
    }

    /// The nodes stay where they are, the first in its adapter.
    fn swap(&mut self, one: usize, other: usize) {
        let (Some(one), Some(other)) = (self.0.get(one), self.0.get(other)) else { return };
        // SAFETY: two nodes of the list.
        unsafe {
            let ((first, mut here), (second, mut there)) =
                ((*one, one.read_unaligned()), (*other, other.read_unaligned()));
            std::mem::swap(&mut here.Next, &mut there.Next);
            first.write_unaligned(there);
            second.write_unaligned(here);
        }
    }

    fn give(&mut self, row: usize, address: Ipv6Addr) {
        let (Some(node), Some(address)) = (self.0.get(row), address.to_ipv4_mapped()) else {
            return;
        };
        let mut text = [0_i8; 16];
        for (unit, byte) in text.iter_mut().zip(address.to_string().bytes()) {
            *unit = byte.cast_signed();
        }
        // SAFETY: it is a node of the list.
        unsafe { (&raw mut (**node).IpAddress.String).write_unaligned(text) };
    }

    fn cut(&mut self, length: usize) {
        let Some(last) = self.0.get(length.saturating_sub(1)) else { return };
        // SAFETY: it is a node of the list.
        unsafe {
            (&raw mut (**last).Next).write_unaligned(null_mut());
            if length == 0 {
                (&raw mut (**last).IpAddress.String).write_unaligned(NONE);
                (&raw mut (**last).IpMask.String).write_unaligned(NONE);
            }
        }
        self.0.truncate(length.max(1));
    }
}

#[cfg(test)]
#[expect(unsafe_code, reason = "structs of the test's own")]
mod tests {
    use super::super::address::tests::{mapped, system, text};
    use super::*;
    use crate::names::{Kept, keep};

    fn said(list: &impl List) -> String {
        list.rows().iter().map(|row| text(row.address)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_table_is_shortened_in_the_callers_buffer_and_sorted_again() {
        let addresses = [[10_u8, 77, 0, 1], [10, 77, 0, 104], [10, 88, 0, 1], [127, 0, 0, 1]];
        for skip in [0, 1] {
            let row = size_of::<MIB_IPADDRROW_XP>();
            let mut buffer = vec![0_u8; 4 + 4 * row + 8];
            let start = buffer.as_mut_ptr().wrapping_add(skip);
            // SAFETY: there is room for all of it.
            let mut table = unsafe {
                start.cast::<u32>().write_unaligned(4);
                for (at, address) in addresses.iter().enumerate() {
                    let entry = MIB_IPADDRROW_XP {
                        dwAddr: u32::from_ne_bytes(*address),
                        dwIndex: u32::try_from(at).unwrap(),
                        ..Default::default()
                    };
                    start.add(4 + at * row).cast::<MIB_IPADDRROW_XP>().write_unaligned(entry);
                }
                ip_addresses(start.cast())
            };
            assert_eq!(said(&table), "10.77.0.1 10.77.0.104 10.88.0.1 127.0.0.1");
            let own = Some(mapped("10.99.0.1"));
            let kept = [(0, own), (2, None), (3, None)].map(|(row, given)| Kept { row, given });
            keep(&mut table, 4, &kept);
            assert_eq!(said(&table), "10.99.0.1 10.88.0.1 127.0.0.1");
            table.sort();
            assert_eq!(said(&table), "10.88.0.1 10.99.0.1 127.0.0.1");
            // The rest of a row goes with its address.
            let of = |at: usize| start.wrapping_add(4 + at * row).cast::<MIB_IPADDRROW_XP>();
            // SAFETY: they were written above.
            let indexes = [0, 1, 2].map(|at| unsafe { of(at).read_unaligned() }.dwIndex);
            assert_eq!(indexes, [2, 0, 3]);
        }
    }

    #[test]
    fn a_table_of_both_families_is_shortened_in_place() {
        #[repr(C)]
        struct Whole {
            head: MIB_UNICASTIPADDRESS_TABLE,
            more: [MIB_UNICASTIPADDRESS_ROW; 2],
        }
        let mut whole = Whole { head: Default::default(), more: Default::default() };
        whole.head.NumEntries = 3;
        let words = ["10.77.0.1", "fd77::104", "fd77::1"];
        let at = (&raw mut whole).cast::<MIB_UNICASTIPADDRESS_TABLE>();
        // SAFETY: the rows stand one after the other.
        let mut table = unsafe {
            let table = unicast_addresses(at);
            for (row, word) in words.into_iter().enumerate() {
                table.row(row).cast::<SOCKADDR_IN6>().write_unaligned(system(word).0);
            }
            table
        };
        assert_eq!(said(&table), words.join(" "));
        let own = Some(mapped("fd77::103"));
        keep(&mut table, 3, &[Kept { row: 0, given: None }, Kept { row: 2, given: own }]);
        assert_eq!(said(&table), "10.77.0.1 fd77::103");
        assert_eq!(whole.head.NumEntries, 2);
    }

    #[test]
    fn addresses_as_text_are_edited_and_an_adapter_may_have_none() {
        let string = |word: &str| {
            let mut node = IP_ADDR_STRING::default();
            for (unit, byte) in node.IpAddress.String.iter_mut().zip(word.bytes()) {
                *unit = byte.cast_signed();
            }
            node.Context = word.len() as u32;
            node
        };
        let mut third = string("10.77.0.103");
        let mut second = string("10.77.0.1");
        second.Next = &raw mut third;
        let first = IP_ADDR_STRING { Next: &raw mut second, ..string("10.77.0.104") };
        let mut adapter = IP_ADAPTER_INFO { IpAddressList: first, ..Default::default() };
        let at = &raw mut adapter;
        // SAFETY: all of it lives here.
        let mut lists = unsafe { adapter_infos(at) };
        assert_eq!(said(&lists[0]), "10.77.0.104 10.77.0.1 10.77.0.103");
        keep(&mut lists[0], 3, &[Kept { row: 1, given: Some(mapped("10.77.0.103")) }]);
        // SAFETY: as above.
        let mut lists = unsafe { adapter_infos(at) };
        assert_eq!((lists.len(), said(&lists[0])), (1, "10.77.0.103".to_owned()));
        // SAFETY: as above.
        assert_eq!(unsafe { (*at).IpAddressList.Context }, 9, "the rest of the row, too");
        keep(&mut lists[0], 1, &[]);
        // SAFETY: as above.
        assert_eq!(said(&unsafe { adapter_infos(at) }[0]), "0.0.0.0");
    }
}
