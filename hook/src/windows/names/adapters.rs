//! What `GetAdaptersAddresses` answers: for each adapter lists of its addresses, in a
//! buffer of the caller's.

use super::{MOST, address_at, give_at};
use crate::names::{List, Row};
use std::mem::offset_of;
use std::net::Ipv6Addr;
use std::ptr::null_mut;
use windows_sys::Win32::NetworkManagement::IpHelper::{
    IP_ADAPTER_ADDRESSES_LH, IP_ADAPTER_PREFIX_XP, IP_ADAPTER_UNICAST_ADDRESS_LH,
};
use windows_sys::Win32::Networking::WinSock::{SOCKADDR, SOCKET_ADDRESS};

/// A list of an adapter's. Nodes are linked anew: how long each is depends on who asked.
#[derive(Debug)]
pub struct Chain {
    /// Where the pointer to the first node stands.
    head: *mut Node,
    nodes: Vec<Node>,
    kind: Kind,
}

type Node = *mut u8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Addresses,
    /// Of these only the hosts are about an address of this host.
    Prefixes,
}

impl Kind {
    fn next(self, node: Node) -> *mut Node {
        let offset = match self {
            Self::Addresses => offset_of!(IP_ADAPTER_UNICAST_ADDRESS_LH, Next),
            Self::Prefixes => offset_of!(IP_ADAPTER_PREFIX_XP, Next),
        };
        node.wrapping_add(offset).cast()
    }

    fn address(self, node: Node) -> *mut SOCKET_ADDRESS {
        let offset = match self {
            Self::Addresses => offset_of!(IP_ADAPTER_UNICAST_ADDRESS_LH, Address),
            Self::Prefixes => offset_of!(IP_ADAPTER_PREFIX_XP, Address),
        };
        node.wrapping_add(offset).cast()
    }
}

/// The lists of all adapters that have a say here: their addresses, and the prefixes,
/// among which each address is once more.
///
/// # Safety
/// `first` is null, or what the system has just written to a buffer, which nobody else
/// looks at and which lives as long as the lists.
#[expect(unsafe_code, reason = "a list of pointers")]
pub unsafe fn adapters(first: *mut IP_ADAPTER_ADDRESSES_LH) -> Vec<Chain> {
    let (mut chains, mut adapter) = (Vec::new(), first);
    while !adapter.is_null() && chains.len() < MOST {
        // SAFETY: by the caller's word it is an adapter, and so is what follows.
        unsafe {
            let addresses = &raw mut (*adapter).FirstUnicastAddress;
            chains.push(Chain::new(addresses.cast(), Kind::Addresses));
            let prefixes = &raw mut (*adapter).FirstPrefix;
            chains.push(Chain::new(prefixes.cast(), Kind::Prefixes));
            adapter = (&raw const (*adapter).Next).read_unaligned();
        }
    }
    chains
}

#[expect(unsafe_code, reason = "nodes of a list that `adapters` was given")]
impl Chain {
    /// # Safety
    /// As [`adapters`].
    unsafe fn new(head: *mut Node, kind: Kind) -> Self {
        // SAFETY: by the caller's word.
        let (mut nodes, mut node) = unsafe { (Vec::new(), head.read_unaligned()) };
        while !node.is_null() && nodes.len() < MOST {
            nodes.push(node);
            // SAFETY: it is a node.
            node = unsafe { kind.next(node).read_unaligned() };
        }
        Self { head, nodes, kind }
    }

    /// Where the node's address is, and which.
    fn address(&self, node: Node) -> (*mut SOCKADDR, Option<Ipv6Addr>) {
        // SAFETY: it is a node; what it points to is in the same buffer.
        unsafe {
            let SOCKET_ADDRESS { lpSockaddr, iSockaddrLength } =
                self.kind.address(node).read_unaligned();
            let length = usize::try_from(iSockaddrLength).unwrap_or(0);
            (lpSockaddr, address_at(lpSockaddr, length).filter(|it| self.is_hosts(node, *it)))
        }
    }

    fn is_hosts(&self, node: Node, address: Ipv6Addr) -> bool {
        let whole = if address.to_ipv4_mapped().is_some() { 32 } else { 128 };
        let length = node.wrapping_add(offset_of!(IP_ADAPTER_PREFIX_XP, PrefixLength));
        // SAFETY: a node of prefixes has one.
        self.kind == Kind::Addresses || unsafe { length.cast::<u32>().read_unaligned() } == whole
    }

    fn link(&self) {
        let (mut place, mut nodes) = (self.head, self.nodes.iter());
        loop {
            let node = nodes.next().copied().unwrap_or(null_mut());
            // SAFETY: the head of the list, or the link of a node in it.
            unsafe { place.write_unaligned(node) };
            if node.is_null() {
                return;
            }
            place = self.kind.next(node);
        }
    }
}

#[expect(unsafe_code, reason = "nodes of a list that `adapters` was given")]
impl List for Chain {
    fn rows(&self) -> Vec<Row> {
        let row = |node: &Node| Row { address: self.address(*node).1, kind: 0 };
        self.nodes.iter().map(row).collect()
    }

    fn swap(&mut self, one: usize, other: usize) {
        if one.max(other) < self.nodes.len() {
            self.nodes.swap(one, other);
            self.link();
        }
    }

    fn give(&mut self, row: usize, address: Ipv6Addr) {
        let Some(node) = self.nodes.get(row) else { return };
        if let (at, Some(_)) = self.address(*node) {
            // SAFETY: an address was read there.
            unsafe { give_at(at, address) };
        }
    }

    fn cut(&mut self, length: usize) {
        self.nodes.truncate(length);
        self.link();
    }
}

#[cfg(test)]
#[expect(unsafe_code, reason = "structs of the test's own")]
mod tests {
    use super::super::address::tests::{mapped, system, text};
    use super::*;
    use crate::names::{Kept, keep};
    use windows_sys::Win32::Networking::WinSock::SOCKADDR_IN6;

    fn said(chain: &Chain) -> String {
        chain.rows().iter().map(|row| text(row.address)).collect::<Vec<_>>().join(" ")
    }

    fn place(name: &mut (SOCKADDR_IN6, usize)) -> SOCKET_ADDRESS {
        let length = i32::try_from(name.1).unwrap();
        SOCKET_ADDRESS { lpSockaddr: (&raw mut name.0).cast(), iSockaddrLength: length }
    }

    #[test]
    fn addresses_and_prefixes_of_each_adapter_are_edited_in_the_callers_buffer() {
        let words = ["10.77.0.104", "fe80::1", "10.77.0.1"];
        let mut names = words.map(system);
        let mut unicast: [IP_ADAPTER_UNICAST_ADDRESS_LH; 3] = Default::default();
        for at in (0..3).rev() {
            unicast[at].Address = place(&mut names[at]);
            unicast[at].OnLinkPrefixLength = 24;
            unicast[at].Next = unicast.get_mut(at + 1).map_or(null_mut(), |next| &raw mut *next);
        }
        let nets = [("10.77.0.0", 24), ("10.77.0.1", 32), ("10.77.0.104", 32), ("fd77::", 64)];
        let mut nets = nets.map(|(address, length)| (system(address), length));
        let mut prefixes: [IP_ADAPTER_PREFIX_XP; 4] = Default::default();
        for at in (0..4).rev() {
            prefixes[at].Address = place(&mut nets[at].0);
            prefixes[at].PrefixLength = nets[at].1;
            prefixes[at].Next = prefixes.get_mut(at + 1).map_or(null_mut(), |next| &raw mut *next);
        }
        // At a place that is not aligned, as a 32-bit program may have it.
        let mut buffer = vec![0_u8; 2 * size_of::<IP_ADAPTER_ADDRESSES_LH>() + 16];
        let second = buffer.as_mut_ptr().wrapping_add(4).cast::<IP_ADAPTER_ADDRESSES_LH>();
        let first = second.wrapping_add(1);
        // SAFETY: there is room for both, and all lives here.
        let mut chains = unsafe {
            first.write_unaligned(IP_ADAPTER_ADDRESSES_LH {
                Next: second,
                FirstUnicastAddress: unicast.as_mut_ptr(),
                FirstPrefix: prefixes.as_mut_ptr(),
                ..Default::default()
            });
            second.write_unaligned(IP_ADAPTER_ADDRESSES_LH::default());
            adapters(first)
        };
        let lists: Vec<_> = chains.iter().map(said).collect();
        assert_eq!(lists, ["10.77.0.104 fe80::1 10.77.0.1", "- 10.77.0.1 10.77.0.104 -", "", ""]);
        let own = Some(mapped("10.77.0.103"));
        keep(&mut chains[0], 3, &[Kept { row: 1, given: None }, Kept { row: 2, given: own }]);
        let kept = [(0, None), (1, own), (3, None)].map(|(row, given)| Kept { row, given });
        keep(&mut chains[1], 4, &kept);
        // SAFETY: as above.
        let lists: Vec<_> = unsafe { adapters(first) }.iter().map(said).collect();
        assert_eq!(lists, ["fe80::1 10.77.0.103", "- 10.77.0.103 -", "", ""]);
        keep(&mut chains[0], 2, &[]);
        // SAFETY: as above.
        assert_eq!(said(&unsafe { adapters(first) }[0]), "", "an adapter may have none");
        // SAFETY: nothing is there.
        assert!(unsafe { adapters(null_mut()) }.is_empty());
    }
}
