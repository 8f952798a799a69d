//! Who made a kernel object? Only the system's own word on addresses counts.

use std::os::windows::io::{AsRawHandle, BorrowedHandle};
use std::ptr::null_mut;
use windows_sys::Win32::Foundation::LocalFree;
use windows_sys::Win32::Security::Authorization::ConvertSidToStringSidW;
use windows_sys::Win32::Security::{
    GetKernelObjectSecurity, GetSecurityDescriptorOwner, IsWellKnownSid,
    OWNER_SECURITY_INFORMATION, PSID, WinBuiltinAdministratorsSid, WinLocalSystemSid,
};

/// The owner of a kernel object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// It is SYSTEM or the group of administrators: nobody else can make them
    /// the owner of an object.
    pub is_system: bool,
    /// Its security identifier as text.
    pub sid: String,
}

/// Asks for the owner; the handle needs `READ_CONTROL`.
#[expect(unsafe_code, reason = "security descriptors are behind pointers")]
pub fn owner_of(handle: BorrowedHandle<'_>) -> Option<Owner> {
    // An owner has at most 68 bytes; 8 are the alignment of a descriptor.
    let mut descriptor = [0_u64; 32];
    let room = u32::try_from(size_of_val(&descriptor)).ok()?;
    let (mut needed, mut sid, mut defaulted) = (0, null_mut(), 0);
    // SAFETY: the system writes at most `room` bytes to `descriptor`, and the
    // length to `needed`; the handle is borrowed, hence open.
    let told = unsafe {
        GetKernelObjectSecurity(
            handle.as_raw_handle(),
            OWNER_SECURITY_INFORMATION,
            descriptor.as_mut_ptr().cast(),
            room,
            &raw mut needed,
        )
    };
    if told == 0 {
        return None;
    }
    // SAFETY: `descriptor` holds what the call above wrote.
    let found = unsafe {
        GetSecurityDescriptorOwner(descriptor.as_mut_ptr().cast(), &raw mut sid, &raw mut defaulted)
    };
    if found == 0 || sid.is_null() {
        return None;
    }
    // SAFETY: `sid` points into `descriptor`, which is still there.
    unsafe {
        let is_system = [WinLocalSystemSid, WinBuiltinAdministratorsSid]
            .into_iter()
            .any(|known| IsWellKnownSid(sid, known) != 0);
        Some(Owner { is_system, sid: text(sid) })
    }
}

/// # Safety
/// `sid` is a valid security identifier.
#[expect(unsafe_code, reason = "the system hands out the text behind a pointer")]
unsafe fn text(sid: PSID) -> String {
    let mut text = null_mut();
    // SAFETY: the caller's word for `sid`; `text` takes one pointer.
    if unsafe { ConvertSidToStringSidW(sid, &raw mut text) } == 0 || text.is_null() {
        return String::from("somebody unknown");
    }
    // SAFETY: the text ends in a zero, is read up to it, and given back once.
    unsafe {
        let length = (0..256).take_while(|at| *text.add(*at) != 0).count();
        let owned = String::from_utf16_lossy(std::slice::from_raw_parts(text, length));
        LocalFree(text.cast());
        owned
    }
}
