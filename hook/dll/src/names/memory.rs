//! What lies at a program's pointer? If it points to nothing, that is for the system
//! to say.

use crate::identity::this;
use std::ffi::c_void;
use std::os::windows::io::AsRawHandle;
use std::ptr::null_mut;
use windows_sys::Win32::System::Diagnostics::Debug::ReadProcessMemory;

/// No name is longer (RFC 1035), a dot at its end included.
const LONGEST: usize = 256;
/// Memory is there or not by pages of this size.
const PAGE: usize = 4096;

/// `N` bytes.
pub(super) fn bytes<const N: usize>(at: *const c_void) -> Option<[u8; N]> {
    let mut bytes = [0_u8; N];
    read(at, &mut bytes).then_some(bytes)
}

/// A text that ends in a zero, of bytes. `None`: it is none, or too long for a name.
pub(super) fn text(at: *const u8) -> Option<String> {
    let bytes = until_zero(at.cast(), u8::from_ne_bytes)?;
    String::from_utf8(bytes).ok()
}

/// The same, of UTF-16.
pub(super) fn wide(at: *const u16) -> Option<String> {
    String::from_utf16(&until_zero(at.cast(), u16::from_ne_bytes)?).ok()
}

fn until_zero<const N: usize, T: Default + PartialEq>(
    at: *const c_void,
    unit: impl Fn([u8; N]) -> T,
) -> Option<Vec<T>> {
    let mut bytes = Vec::new();
    while bytes.len() < LONGEST * N {
        // What ends on this page may be all that is there.
        let place = at.wrapping_byte_add(bytes.len());
        let mut part = [0_u8; 128];
        let length = part.len().min(PAGE - place.addr() % PAGE);
        let part = part.get_mut(..length).unwrap_or_default();
        if !read(place, part) {
            return None;
        }
        bytes.extend_from_slice(part);
        let units = bytes.as_chunks().0.iter().map(|bytes| unit(*bytes));
        let text: Vec<T> = units.take_while(|unit| *unit != T::default()).collect();
        if text.len() < bytes.len() / N {
            return Some(text);
        }
    }
    None
}

#[expect(unsafe_code, reason = "a program's pointer is followed")]
fn read(at: *const c_void, to: &mut [u8]) -> bool {
    let process = this().as_raw_handle();
    // SAFETY: there is room for as many bytes; the system checks `at`.
    unsafe { ReadProcessMemory(process, at, to.as_mut_ptr().cast(), to.len(), null_mut()) != 0 }
}
