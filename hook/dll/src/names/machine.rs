//! What is this machine called? Asked once: a new name takes a restart.

use hook::names::Called;
use std::ffi::{CStr, CString};
use std::sync::OnceLock;
use windows_sys::Win32::System::SystemInformation::{
    COMPUTER_NAME_FORMAT, ComputerNamePhysicalDnsFullyQualified, ComputerNamePhysicalNetBIOS,
    GetComputerNameExW,
};

/// Its names.
pub(super) fn called() -> &'static Called {
    static CALLED: OnceLock<Called> = OnceLock::new();
    CALLED.get_or_init(|| {
        Called::new(name(ComputerNamePhysicalDnsFullyQualified), name(ComputerNamePhysicalNetBIOS))
    })
}

/// Its full name, for those who keep no copy of it.
pub(super) fn full() -> Option<&'static CStr> {
    static FULL: OnceLock<Option<CString>> = OnceLock::new();
    let full = FULL.get_or_init(|| {
        let full = called().full();
        (full.is_ascii() && !full.is_empty()).then(|| CString::new(full).ok()).flatten()
    });
    full.as_deref()
}

/// Empty: the system does not say.
#[expect(unsafe_code, reason = "a call of the system")]
fn name(format: COMPUTER_NAME_FORMAT) -> String {
    // A full name has at most 255 letters (RFC 1035).
    let mut text = [0_u16; 512];
    let mut length = text.len() as u32;
    // SAFETY: it writes at most as many units as there is room for.
    let told = unsafe { GetComputerNameExW(format, text.as_mut_ptr(), &raw mut length) };
    let text = text.get(..length as usize).filter(|_| told != 0).unwrap_or_default();
    String::from_utf16(text).unwrap_or_default()
}
