//! What is written on a scope's folder?
//!
//! Extended attributes of the `trusted` kind: only root reads and writes them
//! (xattr(7)), they live as long as the folder, and need no file of ours.

use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The uid of the session's user, in decimal.
pub(super) const USER: &CStr = c"trusted.sessionip.user";
/// When the session began (RFC 3339): a cgroup folder's own times change.
pub(super) const SINCE: &CStr = c"trusted.sessionip.since";

/// The attribute's text; `None`: it is not there.
#[expect(unsafe_code, reason = "nix has no extended attributes")]
pub(super) fn read(folder: &Path, name: &CStr) -> io::Result<Option<String>> {
    let folder = CString::new(folder.as_os_str().as_bytes())?;
    let mut value = [0_u8; 64];
    // SAFETY: both strings end in NUL and outlive the call, and the kernel writes
    // at most the given length into `value`.
    let length = unsafe {
        libc::lgetxattr(folder.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len())
    };
    match usize::try_from(length) {
        Ok(length) => Ok(Some(String::from_utf8_lossy(&value[..length]).into_owned())),
        Err(_) => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENODATA) => Ok(None),
            error => Err(error),
        },
    }
}

/// Writes the attribute, whatever it was.
#[expect(unsafe_code, reason = "nix has no extended attributes")]
pub(super) fn write(folder: &Path, name: &CStr, value: &str) -> io::Result<()> {
    let folder = CString::new(folder.as_os_str().as_bytes())?;
    // SAFETY: both strings end in NUL, `value` is as long as said, and all three
    // outlive the call, which only reads them.
    let status = unsafe {
        libc::lsetxattr(folder.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
