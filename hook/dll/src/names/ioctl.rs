//! Which of `WSAIoctl`'s answers are about the host's addresses?

use super::edit_hosts;
use super::inside::Inside;
use hook::windows::names::{One, addresses, interfaces};
use std::ffi::c_void;
use windows_sys::Win32::Networking::WinSock::{
    SIO_ADDRESS_LIST_QUERY, SIO_ROUTING_INTERFACE_QUERY,
};

/// `SIO_GET_INTERFACE_LIST` of ws2ipdef.h: `_IOR('t', 127, ULONG)`.
const SIO_GET_INTERFACE_LIST: u32 = 0x4004_747f;

/// A question about them that the program asks, not the system on its way to another
/// answer. Until this goes, what the system asks is its own.
pub(crate) struct Question {
    code: u32,
    _inside: Inside,
}

impl Question {
    pub(crate) fn of(code: u32) -> Option<Self> {
        let is_one = matches!(
            code,
            SIO_ADDRESS_LIST_QUERY | SIO_GET_INTERFACE_LIST | SIO_ROUTING_INTERFACE_QUERY
        );
        if is_one { Some(Self { code, _inside: Inside::enter()? }) } else { None }
    }

    /// Edits what the system has answered to it, which was to be answered at once.
    ///
    /// # Safety
    /// The call has succeeded and written `*returned` bytes to `output`.
    #[expect(unsafe_code, reason = "a buffer of the caller's")]
    pub(crate) unsafe fn answered(&self, output: *mut c_void, returned: *mut u32) {
        if output.is_null() || returned.is_null() {
            return;
        }
        // SAFETY: by the caller's word.
        unsafe {
            let length = returned.read_unaligned() as usize;
            match self.code {
                SIO_ADDRESS_LIST_QUERY => {
                    if let Some(list) = addresses(output.cast(), length) {
                        edit_hosts(&mut [list]);
                    }
                }
                SIO_GET_INTERFACE_LIST => {
                    edit_hosts(&mut [interfaces(output.cast(), returned)]);
                }
                _ => {
                    edit_hosts(&mut [One::new(output.cast(), length)]);
                }
            }
        }
    }
}
