//! Where are the named objects of a session?
//!
//! Windows gives each session a folder of names, with a link to the one that all
//! share (`Global\`). Wine has one for its only session: a program that believes in
//! another finds no name at all, unless somebody makes the folder.

use core::ptr::null;
use std::io;
use windows_sys::Wdk::Foundation::OBJECT_ATTRIBUTES;
use windows_sys::Wdk::Storage::FileSystem::NtCreateDirectoryObject;
use windows_sys::Win32::Foundation::{
    HANDLE, OBJ_CASE_INSENSITIVE, OBJ_OPENIF, OBJ_PERMANENT, UNICODE_STRING,
};

/// `DIRECTORY_ALL_ACCESS` and `SYMBOLIC_LINK_ALL_ACCESS` (wdm.h).
const ALL_OF_A_FOLDER: u32 = 0x000F_000F;
const ALL_OF_A_LINK: u32 = 0x000F_0001;

/// Makes them, for as long as this Wine runs.
///
/// # Errors
/// Wine refuses.
pub(crate) fn make(session: u32) -> io::Result<()> {
    let own = format!(r"\Sessions\{session}");
    let names = format!(r"{own}\BaseNamedObjects");
    for folder in [&own, &names] {
        make_folder(folder)?;
    }
    make_link(&format!(r"{names}\Global"), r"\BaseNamedObjects")?;
    make_link(&format!(r"{names}\Local"), &names)
}

fn make_folder(path: &str) -> io::Result<()> {
    named(path, |attributes| {
        let mut handle = core::ptr::null_mut();
        // SAFETY: the attributes live during the call; the handle is kept open on
        // purpose, until this process ends.
        #[expect(unsafe_code, reason = "asks the kernel")]
        unsafe {
            NtCreateDirectoryObject(&raw mut handle, ALL_OF_A_FOLDER, attributes)
        }
    })
}

fn make_link(path: &str, target: &str) -> io::Result<()> {
    #[link(name = "ntdll", kind = "raw-dylib")]
    #[expect(unsafe_code, reason = "asks the kernel")]
    unsafe extern "system" {
        fn NtCreateSymbolicLinkObject(
            link: *mut HANDLE,
            access: u32,
            attributes: *const OBJECT_ATTRIBUTES,
            target: *const UNICODE_STRING,
        ) -> i32;
    }
    let mut wide: Vec<u16> = target.encode_utf16().collect();
    let target = text(&mut wide);
    named(path, |attributes| {
        let mut handle = core::ptr::null_mut();
        // SAFETY: as above; the target's text lives during the call as well.
        #[expect(unsafe_code, reason = "asks the kernel")]
        unsafe {
            NtCreateSymbolicLinkObject(
                &raw mut handle,
                ALL_OF_A_LINK,
                attributes,
                &raw const target,
            )
        }
    })
}

fn named(path: &str, make: impl FnOnce(*const OBJECT_ATTRIBUTES) -> i32) -> io::Result<()> {
    const COLLISION: i32 = 0xC000_0035_u32.cast_signed(); // STATUS_OBJECT_NAME_COLLISION
    let mut wide: Vec<u16> = path.encode_utf16().collect();
    let name = text(&mut wide);
    let attributes = OBJECT_ATTRIBUTES {
        Length: size_of::<OBJECT_ATTRIBUTES>() as u32,
        RootDirectory: core::ptr::null_mut(),
        ObjectName: &raw const name,
        Attributes: OBJ_CASE_INSENSITIVE | OBJ_OPENIF | OBJ_PERMANENT,
        SecurityDescriptor: null(),
        SecurityQualityOfService: null(),
    };
    let status = make(&raw const attributes);
    if status >= 0 || status == COLLISION {
        return Ok(());
    }
    Err(io::Error::other(format!("{path}: {status:#x}")))
}

fn text(wide: &mut [u16]) -> UNICODE_STRING {
    let bytes = size_of_val(wide) as u16;
    UNICODE_STRING { Length: bytes, MaximumLength: bytes, Buffer: wide.as_mut_ptr() }
}
