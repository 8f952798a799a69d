//! What `getaddrinfo`, `GetAddrInfoW` and `GetAddrInfoExW` answer.

use super::{MOST, address_at, give_at};
use crate::names::{Cut, List, Row};
use std::mem::offset_of;
use std::net::Ipv6Addr;
use std::ptr::null_mut;
use windows_sys::Win32::Networking::WinSock::{ADDRINFOA, ADDRINFOEXW, ADDRINFOW};

/// Which struct it is. They begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `ADDRINFOA` and `ADDRINFOW`.
    Plain,
    /// `ADDRINFOEXW`.
    Extended,
}

const _: () = {
    assert!(offset_of!(ADDRINFOA, ai_next) == offset_of!(ADDRINFOW, ai_next));
    assert!(offset_of!(ADDRINFOA, ai_addr) == offset_of!(ADDRINFOW, ai_addr));
    assert!(offset_of!(ADDRINFOA, ai_addr) == offset_of!(ADDRINFOEXW, ai_addr));
    assert!(offset_of!(ADDRINFOA, ai_addrlen) == offset_of!(ADDRINFOEXW, ai_addrlen));
    assert!(offset_of!(ADDRINFOA, ai_protocol) == offset_of!(ADDRINFOEXW, ai_protocol));
};

impl Shape {
    /// Where the next node stands in one.
    fn next(self, node: *mut ADDRINFOA) -> *mut *mut ADDRINFOA {
        let offset = match self {
            Self::Plain => offset_of!(ADDRINFOA, ai_next),
            Self::Extended => offset_of!(ADDRINFOEXW, ai_next),
        };
        node.wrapping_byte_add(offset).cast()
    }
}

/// The nodes of a list. The first one stays the first, for by it the list is freed.
#[derive(Debug)]
pub struct Infos {
    nodes: Vec<*mut ADDRINFOA>,
    shape: Shape,
}

impl Infos {
    /// # Safety
    /// `head` is null or a list of that shape, which nobody else looks at, and which
    /// lives as long as this is used.
    #[expect(unsafe_code, reason = "a list of pointers")]
    pub unsafe fn new(head: *mut ADDRINFOA, shape: Shape) -> Self {
        let (mut nodes, mut node) = (Vec::new(), head);
        while !node.is_null() && nodes.len() < MOST {
            nodes.push(node);
            // SAFETY: it is a node, by the caller's word.
            node = unsafe { shape.next(node).read_unaligned() };
        }
        Self { nodes, shape }
    }

    /// What is hidden if the list is cut after so many.
    pub fn cut_at(&self, length: usize) -> Option<Cut> {
        let node = |at: usize| self.nodes.get(at).map(|node| node.addr());
        Some(Cut { head: node(0)?, last: node(length.checked_sub(1)?)?, rest: node(length)? })
    }

    /// Puts back what was hidden. Not if the list is no more what it was.
    #[expect(unsafe_code, reason = "a list of pointers")]
    pub fn mend(&mut self, cut: Cut) {
        let Some(last) = self.nodes.last().copied().filter(|last| last.addr() == cut.last) else {
            return;
        };
        // SAFETY: it is the list's last node, and `rest` was the one after it.
        unsafe {
            let rest = std::ptr::with_exposed_provenance_mut(cut.rest);
            self.shape.next(last).write_unaligned(rest);
        }
    }

    fn node(&self, at: usize) -> *mut ADDRINFOA {
        self.nodes.get(at).copied().unwrap_or(null_mut())
    }
}

#[expect(unsafe_code, reason = "nodes of a list that `new` was given")]
impl List for Infos {
    fn rows(&self) -> Vec<Row> {
        let row = |node: &*mut ADDRINFOA| {
            // SAFETY: it is a node of the list, with its address.
            let (node, address) = unsafe {
                let node = node.read_unaligned();
                (node, address_at(node.ai_addr, node.ai_addrlen))
            };
            let (sort, protocol) = (node.ai_socktype.cast_unsigned(), node.ai_protocol);
            Row { address, kind: u64::from(sort) << 32 | u64::from(protocol.cast_unsigned()) }
        };
        self.nodes.iter().map(row).collect()
    }

    fn swap(&mut self, one: usize, other: usize) {
        let (one, other) = (self.node(one), self.node(other));
        if one == other || one.is_null() || other.is_null() {
            return;
        }
        // SAFETY: two nodes of the list. Each keeps its place in it and its name, and
        // gets the other's address, which is freed with it then.
        unsafe {
            let (here, there) = (one.read_unaligned(), other.read_unaligned());
            for (node, from) in [(one, there), (other, here)] {
                (&raw mut (*node).ai_family).write_unaligned(from.ai_family);
                (&raw mut (*node).ai_socktype).write_unaligned(from.ai_socktype);
                (&raw mut (*node).ai_protocol).write_unaligned(from.ai_protocol);
                (&raw mut (*node).ai_addrlen).write_unaligned(from.ai_addrlen);
                (&raw mut (*node).ai_addr).write_unaligned(from.ai_addr);
            }
        }
    }

    fn give(&mut self, row: usize, address: Ipv6Addr) {
        let Some(node) = self.nodes.get(row) else { return };
        // SAFETY: a node of the list, and its own address.
        unsafe {
            let ADDRINFOA { ai_addr, ai_addrlen, .. } = node.read_unaligned();
            if address_at(ai_addr, ai_addrlen).is_some() {
                give_at(ai_addr, address);
            }
        }
    }

    /// Of nothing at all the list does not consist: free it, and say so.
    fn cut(&mut self, length: usize) {
        let Some(last) = length.checked_sub(1).map(|last| self.node(last)) else { return };
        let Some(rest) = self.nodes.get(length) else { return };
        let _ = rest.expose_provenance();
        if !last.is_null() {
            // SAFETY: a node of the list.
            unsafe { self.shape.next(last).write_unaligned(null_mut()) };
            self.nodes.truncate(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::address::tests::{mapped, system, text};
    use super::*;
    use crate::names::{Cuts, Kept, keep};
    use windows_sys::Win32::Networking::WinSock::SOCKADDR_IN6;

    /// A list as the system would make it, and what it is made of.
    struct Made {
        plain: Vec<ADDRINFOA>,
        extended: Vec<ADDRINFOEXW>,
        addresses: Vec<(SOCKADDR_IN6, usize)>,
    }

    impl Made {
        fn new(addresses: &[&str]) -> Self {
            let mut made = Self {
                plain: vec![ADDRINFOA::default(); addresses.len()],
                extended: vec![ADDRINFOEXW::default(); addresses.len()],
                addresses: addresses.iter().map(|address| system(address)).collect(),
            };
            for at in (0..addresses.len()).rev() {
                let (name, length) = &mut made.addresses[at];
                let (family, at_name) = (i32::from(name.sin6_family), (&raw mut *name).cast());
                let next = made.plain.get_mut(at + 1).map_or(null_mut(), |next| &raw mut *next);
                let plain = &mut made.plain[at];
                plain.ai_family = family;
                (plain.ai_addrlen, plain.ai_addr, plain.ai_next) = (*length, at_name, next);
                plain.ai_socktype = 1 + at.cast_signed() as i32 % 2;
                let next = made.extended.get_mut(at + 1).map_or(null_mut(), |next| &raw mut *next);
                let extended = &mut made.extended[at];
                extended.ai_family = family;
                (extended.ai_addrlen, extended.ai_addr, extended.ai_next) =
                    (*length, at_name, next);
            }
            made
        }

        #[expect(unsafe_code, reason = "a list of the test's own")]
        fn list(&mut self, shape: Shape) -> Infos {
            let head = match shape {
                Shape::Plain => self.plain.as_mut_ptr(),
                Shape::Extended => self.extended.as_mut_ptr().cast(),
            };
            // SAFETY: it was just made, and lives in `self`.
            unsafe { Infos::new(head, shape) }
        }
    }

    fn said(list: &Infos) -> String {
        list.rows().iter().map(|row| text(row.address)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_stays_comes_first_and_what_is_cut_comes_back() {
        for shape in [Shape::Plain, Shape::Extended] {
            let mut made =
                Made::new(&["10.77.0.104", "fe80::1", "10.77.0.1", "fd77::1", "10.9.9.9"]);
            let mut list = made.list(shape);
            let kept = [
                Kept { row: 2, given: Some(mapped("10.77.0.103")) },
                Kept { row: 3, given: Some(mapped("fd77::103")) },
            ];
            let cut = list.cut_at(2).unwrap();
            keep(&mut list, 5, &kept);
            assert_eq!(said(&list), "10.77.0.103 fd77::103");
            assert_eq!(said(&made.list(shape)), "10.77.0.103 fd77::103", "as a program reads it");
            // The families go with the addresses.
            let families: Vec<_> = match shape {
                Shape::Plain => made.plain.iter().map(|node| node.ai_family).collect(),
                Shape::Extended => made.extended.iter().map(|node| node.ai_family).collect(),
            };
            assert_eq!(families[..2], [2, 23]);
            // Nothing is lost, and nothing is there twice.
            let mut cuts = Cuts::new();
            cuts.add(cut);
            let mut whole = made.list(shape);
            let cut = cuts.take(whole.nodes[0].addr()).unwrap();
            whole.mend(cut);
            let mut all: Vec<_> = made.list(shape).nodes.iter().map(|node| node.addr()).collect();
            assert_eq!(all.len(), 5);
            all.dedup();
            assert_eq!(all.len(), 5);
            let mut addresses: Vec<_> = match shape {
                Shape::Plain => made.plain.iter().map(|node| node.ai_addr.addr()).collect(),
                Shape::Extended => made.extended.iter().map(|node| node.ai_addr.addr()).collect(),
            };
            addresses.sort_unstable();
            addresses.dedup();
            assert_eq!(addresses.len(), 5, "each node has an address of its own to free");
        }
    }

    /// What `AI_V4MAPPED` asks for: IPv4 addresses in the form of IPv6 ones.
    #[test]
    fn an_ipv4_address_in_the_other_form_is_edited_too() {
        for shape in [Shape::Plain, Shape::Extended] {
            let mut made = Made::new(&["::ffff:10.77.0.104", "fd77::1", "::ffff:10.77.0.1"]);
            let mut list = made.list(shape);
            let kept = [
                Kept { row: 0, given: Some(mapped("10.77.0.103")) },
                Kept { row: 1, given: Some(mapped("fd77::103")) },
            ];
            keep(&mut list, 3, &kept);
            assert_eq!(said(&made.list(shape)), "10.77.0.103 fd77::103");
            assert_eq!(made.addresses[0].0.sin6_family, 23, "and keeps its form");
        }
    }

    /// Wine's lists are like that: what precedes a node is as long as it is.
    #[test]
    #[expect(unsafe_code, reason = "a list of the test's own")]
    fn nodes_may_lie_anywhere() {
        let mut made = Made::new(&["10.77.0.104", "10.77.0.1"]);
        let size = size_of::<ADDRINFOA>();
        let mut buffer = vec![0_u8; 2 * size + 16];
        let second = buffer.as_mut_ptr().wrapping_add(4).cast::<ADDRINFOA>();
        let first = second.wrapping_byte_add(size + 5);
        let node = |at: usize, next| ADDRINFOA { ai_next: next, ..made.plain[at] };
        let (one, two) = (node(0, second), node(1, null_mut()));
        // SAFETY: there is room for both, and all lives here.
        let mut list = unsafe {
            first.write_unaligned(one);
            second.write_unaligned(two);
            Infos::new(first, Shape::Plain)
        };
        let cut = list.cut_at(1).unwrap();
        keep(&mut list, 2, &[Kept { row: 1, given: Some(mapped("10.77.0.103")) }]);
        assert_eq!(said(&list), "10.77.0.103");
        list.mend(cut);
        // SAFETY: as above.
        let whole = unsafe { Infos::new(first, Shape::Plain) };
        assert_eq!(said(&whole), "10.77.0.103 10.77.0.104");
        made.addresses.clear();
    }

    #[test]
    fn a_list_that_has_changed_meanwhile_is_not_touched() {
        let mut made = Made::new(&["10.77.0.1", "10.77.0.2", "10.77.0.3"]);
        let cut = made.list(Shape::Plain).cut_at(1).unwrap();
        // Nothing was cut off: the end is elsewhere.
        let mut list = made.list(Shape::Plain);
        list.mend(cut);
        assert_eq!(said(&made.list(Shape::Plain)), "10.77.0.1 10.77.0.2 10.77.0.3");
    }

    #[test]
    fn kinds_are_told_apart_and_nothing_is_a_list_too() {
        let mut made = Made::new(&["10.77.0.1", "10.77.0.1"]);
        let rows = made.list(Shape::Plain).rows();
        assert_ne!(rows[0].kind, rows[1].kind);
        // SAFETY: nothing is there to look at.
        #[expect(unsafe_code, reason = "no list")]
        let nothing = unsafe { Infos::new(null_mut(), Shape::Plain) };
        assert!(nothing.rows().is_empty() && nothing.cut_at(0).is_none());
    }
}
