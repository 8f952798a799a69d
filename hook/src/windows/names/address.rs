//! A socket's address, wherever it lies.

use std::mem::offset_of;
use std::net::{Ipv4Addr, Ipv6Addr};
use windows_sys::Win32::Networking::WinSock::{
    AF_INET, AF_INET6, SOCKADDR, SOCKADDR_IN, SOCKADDR_IN6,
};

/// What it says, `::ffff:a.b.c.d` for an IPv4 one. `None`: it is no IP address, or too
/// short for one.
///
/// # Safety
/// `at` is null, or `length` bytes can be read there.
#[expect(unsafe_code, reason = "a pointer is followed")]
pub unsafe fn address_at(at: *const SOCKADDR, length: usize) -> Option<Ipv6Addr> {
    if at.is_null() || length < size_of::<u16>() {
        return None;
    }
    // SAFETY: by the caller's word, and never beyond `length`.
    unsafe {
        match at.cast::<u16>().read_unaligned() {
            AF_INET if length >= size_of::<SOCKADDR_IN>() => {
                let octets = at.byte_add(offset_of!(SOCKADDR_IN, sin_addr)).cast::<[u8; 4]>();
                Some(Ipv4Addr::from(octets.read_unaligned()).to_ipv6_mapped())
            }
            AF_INET6 if length >= size_of::<SOCKADDR_IN6>() => {
                let octets = at.byte_add(offset_of!(SOCKADDR_IN6, sin6_addr)).cast::<[u8; 16]>();
                Some(Ipv6Addr::from(octets.read_unaligned()))
            }
            _ => None,
        }
    }
}

/// Has it say another address of its family, of no interface in particular. The port
/// stays.
///
/// # Safety
/// [`address_at`] has read an address there, which can be written, too.
#[expect(unsafe_code, reason = "a pointer is followed")]
pub unsafe fn give_at(at: *mut SOCKADDR, address: Ipv6Addr) {
    // SAFETY: by the caller's word the struct of its family is there.
    unsafe {
        match (at.cast::<u16>().read_unaligned(), address.to_ipv4_mapped()) {
            (AF_INET, Some(address)) => {
                let octets = at.byte_add(offset_of!(SOCKADDR_IN, sin_addr)).cast::<[u8; 4]>();
                octets.write_unaligned(address.octets());
            }
            (AF_INET6, ipv4) => {
                let octets = at.byte_add(offset_of!(SOCKADDR_IN6, sin6_addr)).cast::<[u8; 16]>();
                // An IPv4 address in an IPv6 one's form stays one (`AI_V4MAPPED`).
                let had = Ipv6Addr::from(octets.read_unaligned()).to_ipv4_mapped();
                if had.is_some() == ipv4.is_some() {
                    octets.write_unaligned(address.octets());
                    let scope = at.byte_add(offset_of!(SOCKADDR_IN6, Anonymous)).cast::<u32>();
                    scope.write_unaligned(0);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[expect(unsafe_code, reason = "structs in memory of the test's own")]
pub(super) mod tests {
    use super::*;
    use std::net::{IpAddr, SocketAddr};

    pub(in crate::windows::names) fn mapped(text: &str) -> Ipv6Addr {
        match text.parse().unwrap() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        }
    }

    pub(in crate::windows::names) fn text(address: Option<Ipv6Addr>) -> String {
        match address.map(|address| (address, address.to_ipv4_mapped())) {
            Some((_, Some(address))) => address.to_string(),
            Some((address, None)) => address.to_string(),
            None => "-".to_owned(),
        }
    }

    /// The system's form, and how long it is; `port 7` for IPv4, and a scope for IPv6.
    pub(in crate::windows::names) fn system(text: &str) -> (SOCKADDR_IN6, usize) {
        let mut name = SOCKADDR_IN6::default();
        let length = match SocketAddr::new(text.parse().unwrap(), 7) {
            SocketAddr::V4(address) => {
                let name = (&raw mut name).cast::<SOCKADDR_IN>();
                // SAFETY: the larger struct has room for the smaller one.
                unsafe {
                    (*name).sin_family = AF_INET;
                    (*name).sin_port = 7_u16.to_be();
                    (*name).sin_addr.S_un.S_addr = u32::from_ne_bytes(address.ip().octets());
                }
                size_of::<SOCKADDR_IN>()
            }
            SocketAddr::V6(address) => {
                name.sin6_family = AF_INET6;
                name.sin6_port = 7_u16.to_be();
                name.sin6_addr.u.Byte = address.ip().octets();
                name.Anonymous.sin6_scope_id = 5;
                size_of::<SOCKADDR_IN6>()
            }
        };
        (name, length)
    }

    #[test]
    fn an_address_is_read_and_written_in_place() {
        for (before, after) in [
            ("10.77.0.1", "10.77.0.103"),
            ("fe80::1", "fd77::103"),
            ("::ffff:10.77.0.104", "10.77.0.103"),
        ] {
            // At an odd place, too.
            for skip in [0, 1] {
                let mut bytes = [0xaa_u8; 64];
                let (name, length) = system(before);
                let at = bytes.as_mut_ptr().wrapping_add(skip).cast::<SOCKADDR>();
                // SAFETY: there is room for it.
                unsafe {
                    at.cast::<SOCKADDR_IN6>().write_unaligned(name);
                    assert_eq!(address_at(at, length), Some(mapped(before)));
                    assert_eq!(address_at(at, length - 1), None, "too short");
                    assert_eq!(address_at(at, 0), None);
                    give_at(at, mapped(after));
                    assert_eq!(address_at(at, length), Some(mapped(after)));
                    let name = at.cast::<SOCKADDR_IN6>().read_unaligned();
                    assert_eq!(name.sin6_port, 7_u16.to_be());
                    if before.contains(':') {
                        assert_eq!(name.Anonymous.sin6_scope_id, 0);
                    }
                }
                assert_eq!(bytes[skip + size_of::<SOCKADDR_IN6>()..], [0xaa; 36][skip..]);
            }
        }
    }

    #[test]
    fn what_is_no_address_is_left() {
        let (mut name, length) = system("10.77.0.1");
        name.sin6_family = 17;
        let at = (&raw mut name).cast::<SOCKADDR>();
        // SAFETY: it is there.
        unsafe {
            assert_eq!(address_at(at, length), None);
            assert_eq!(address_at(std::ptr::null(), 28), None);
            at.cast::<u16>().write(AF_INET);
            give_at(at, mapped("fd77::1"));
            assert_eq!(address_at(at, length), Some(mapped("10.77.0.1")), "of the other family");
            for (had, other) in [("::ffff:10.77.0.1", "fd77::1"), ("fd77::2", "10.77.0.1")] {
                let (mut name, length) = system(had);
                let at = (&raw mut name).cast::<SOCKADDR>();
                give_at(at, mapped(other));
                assert_eq!(address_at(at, length), Some(mapped(had)), "not what it was asked for");
            }
        }
    }
}
