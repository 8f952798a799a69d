//! What aya does not do with a pinned link: swap its program, detach it.

#![expect(unsafe_code, reason = "bpf(2) has no safe wrapper")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

// enum bpf_cmd of linux/bpf.h.
const OBJ_GET: libc::c_long = 7;
const LINK_UPDATE: libc::c_long = 29;
const LINK_DETACH: libc::c_long = 34;

/// The beginning of `union bpf_attr` for the three commands above; the kernel
/// takes the rest for zero.
#[derive(Default)]
#[repr(C)]
struct Attributes {
    first: u32,
    second: u32,
    third: u32,
    fourth: u32,
}

/// Gives the link pinned at `path` another program, atomically.
///
/// # Errors
/// There is no link, it is detached, or is of a kind that keeps its program.
pub(super) fn update(path: &Path, program: BorrowedFd<'_>) -> io::Result<()> {
    let link = open(path)?;
    let attributes = Attributes {
        first: link.as_raw_fd().cast_unsigned(),
        second: program.as_raw_fd().cast_unsigned(),
        ..Attributes::default()
    };
    bpf(LINK_UPDATE, &attributes).map(drop)
}

/// Detaches the link pinned at `path` now; removing its pin alone lets the
/// kernel take its time.
///
/// # Errors
/// There is no link, or it is of a kind that goes with its pin only.
pub(super) fn detach(path: &Path) -> io::Result<()> {
    let link = open(path)?;
    let attributes =
        Attributes { first: link.as_raw_fd().cast_unsigned(), ..Attributes::default() };
    bpf(LINK_DETACH, &attributes).map(drop)
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let pointer = path.as_ptr().addr() as u64;
    // `__aligned_u64 pathname` over the first two words.
    let [a, b, c, d, e, f, g, h] = pointer.to_ne_bytes();
    let attributes = Attributes {
        first: u32::from_ne_bytes([a, b, c, d]),
        second: u32::from_ne_bytes([e, f, g, h]),
        ..Attributes::default()
    };
    let fd = bpf(OBJ_GET, &attributes)?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf(command: libc::c_long, attributes: &Attributes) -> io::Result<i32> {
    // SAFETY: the kernel reads `size` bytes of `attributes`, which has as many,
    // and of these three commands only OBJ_GET follows a pointer in it: to the
    // C string that `open` keeps alive over the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, &raw const *attributes, size_of::<Attributes>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
