//! How is an answer written into the caller's buffer?
//!
//! The buffer is glibc's: of any length and alignment. What does not fit is asked
//! for again with a larger one.

use std::ffi::{c_char, c_int};
use std::net::IpAddr;
use std::ptr;

/// `struct gaih_addrtuple` of nss.h.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct AddressTuple {
    next: *mut Self,
    name: *mut c_char,
    family: c_int,
    address: [u8; 16],
    scope: u32,
}

/// Memory that a caller lends.
#[derive(Debug)]
pub(crate) struct Buffer {
    at: *mut u8,
    left: usize,
}

impl Buffer {
    /// `at` has to be writable for `length` bytes for as long as this is used.
    pub(crate) fn new(at: *mut c_char, length: usize) -> Self {
        Self { at: at.cast(), left: if at.is_null() { 0 } else { length } }
    }

    /// Room for `count` values; `None`: there is not enough left.
    fn room<T>(&mut self, count: usize) -> Option<*mut T> {
        let skipped = self.at.align_offset(align_of::<T>());
        let size = size_of::<T>().checked_mul(count)?;
        let left = self.left.checked_sub(skipped)?.checked_sub(size)?;
        let room = self.at.wrapping_add(skipped);
        self.at = room.wrapping_add(size);
        self.left = left;
        Some(room.cast())
    }

    fn put<T: Copy>(&mut self, values: &[T]) -> Option<*mut T> {
        let room = self.room::<T>(values.len())?;
        copy(values, room);
        Some(room)
    }

    fn text(&mut self, text: &str) -> Option<*mut c_char> {
        let with_end: Vec<u8> = text.bytes().chain([0]).collect();
        self.put(&with_end).map(<*mut u8>::cast)
    }
}

#[expect(unsafe_code, reason = "the buffer is the caller's")]
fn copy<T: Copy>(values: &[T], room: *mut T) {
    // SAFETY: `room` comes from `Buffer::room`, which found it aligned and inside
    // what the caller lends for writing; nothing of ours lies there.
    unsafe { ptr::copy_nonoverlapping(values.as_ptr(), room, values.len()) }
}

/// A host of one family.
pub(crate) fn host(name: &str, addresses: &[IpAddr], buffer: &mut Buffer) -> Option<libc::hostent> {
    let is_ipv4 = addresses.first()?.is_ipv4();
    let h_name = buffer.text(name)?;
    let h_aliases = buffer.put(&[ptr::null_mut()])?;
    let mut list = Vec::with_capacity(addresses.len() + 1);
    for address in addresses {
        list.push(match address {
            IpAddr::V4(address) => buffer.put(&[u32::from_ne_bytes(address.octets())])?.cast(),
            IpAddr::V6(address) => buffer.put(&[u128::from_ne_bytes(address.octets())])?.cast(),
        });
    }
    list.push(ptr::null_mut());
    Some(libc::hostent {
        h_name,
        h_aliases,
        h_addrtype: family(is_ipv4),
        h_length: if is_ipv4 { 4 } else { 16 },
        h_addr_list: buffer.put(&list)?,
    })
}

/// A list of both families; the first of it.
pub(crate) fn tuples(
    name: &str,
    addresses: &[IpAddr],
    buffer: &mut Buffer,
) -> Option<*mut AddressTuple> {
    let name = buffer.text(name)?;
    let mut next = ptr::null_mut();
    for address in addresses.iter().rev() {
        let mut bytes = [0; 16];
        match address {
            IpAddr::V4(it) => {
                bytes.iter_mut().zip(it.octets()).for_each(|(byte, octet)| *byte = octet);
            }
            IpAddr::V6(it) => bytes = it.octets(),
        }
        let family = family(address.is_ipv4());
        let room = buffer.room::<AddressTuple>(1)?;
        write(AddressTuple { next, name, family, address: bytes, scope: 0 }, room);
        next = room;
    }
    Some(next).filter(|first| !first.is_null())
}

#[expect(unsafe_code, reason = "the buffer is the caller's")]
fn write(tuple: AddressTuple, room: *mut AddressTuple) {
    // SAFETY: as in `copy`.
    unsafe { room.write(tuple) }
}

fn family(is_ipv4: bool) -> c_int {
    if is_ipv4 { libc::AF_INET } else { libc::AF_INET6 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_not_begun_beyond_the_end() {
        let addresses: Vec<IpAddr> = vec!["10.77.0.101".parse().unwrap(); 3];
        let mut memory = [0xaa_u8; 512];
        let whole = (0..=400).find(|length| {
            memory.fill(0xaa);
            let mut buffer = Buffer::new(memory.as_mut_ptr().wrapping_add(1).cast(), *length);
            let fits = host("ts1", &addresses, &mut buffer).is_some();
            assert!(memory.iter().skip(1 + *length).all(|byte| *byte == 0xaa), "beyond {length}");
            fits
        });
        assert!(whole.is_some_and(|length| length > 3 * 4 + 4 * 8), "{whole:?}");
    }

    #[test]
    #[expect(unsafe_code, reason = "as glibc reads it")]
    fn a_list_goes_through_both_families() {
        let addresses = ["10.77.0.101", "fd77::101"].map(|it| it.parse::<IpAddr>().unwrap());
        let mut memory = [0_u8; 512];
        let mut buffer = Buffer::new(memory.as_mut_ptr().cast(), memory.len());
        let first = tuples("ts1", &addresses, &mut buffer).unwrap();
        // SAFETY: the list was just written into `memory`, which is still there.
        let (first, second) = unsafe { (&*first, &*(*first).next) };
        assert_eq!((first.family, second.family), (libc::AF_INET, libc::AF_INET6));
        assert_eq!(first.address[..5], [10, 77, 0, 101, 0]);
        assert_eq!(IpAddr::from(second.address), addresses[1]);
        assert!(second.next.is_null());
    }
}
