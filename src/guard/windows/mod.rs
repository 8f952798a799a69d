//! Access control lists, and elevated tokens.

pub(crate) mod identity;

use std::ffi::c_void;
use std::os::windows::ffi::OsStrExt;
use std::path::Path;
use std::{io, ptr};
use windows_sys::Win32::Foundation::{ERROR_ALREADY_EXISTS, LocalFree};
use windows_sys::Win32::Security::Authorization::{
    ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1, SE_FILE_OBJECT,
    SetNamedSecurityInfoW,
};
use windows_sys::Win32::Security::{
    DACL_SECURITY_INFORMATION, GetSecurityDescriptorDacl, GetSecurityDescriptorOwner,
    OWNER_SECURITY_INFORMATION, PROTECTED_DACL_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR,
    SECURITY_ATTRIBUTES,
};
use windows_sys::Win32::Storage::FileSystem::CreateDirectoryW;
use windows_sys::Win32::UI::Shell::IsUserAnAdmin;

/// Everybody may read it, and SYSTEM and administrators may do everything; what is
/// made inside inherits it.
const SHARED: &str = "O:BAD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;0x1200a9;;;BU)";

/// SYSTEM and administrators, and what is made inside is theirs as well; nothing
/// is inherited from above (`%ProgramData%` lets everybody make files).
const PRIVATE: &str = "D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)";

/// May this process do what the daemon does? True for SYSTEM and for an elevated
/// administrator.
pub fn is_administrator() -> bool {
    // SAFETY: it takes nothing and looks at the token of this process only.
    #[expect(unsafe_code, reason = "a call into shell32")]
    let is = unsafe { IsUserAnAdmin() };
    is != 0
}

/// Makes `folder`, and those above it that are missing, for SYSTEM and
/// administrators alone. One that is there is left as it is.
///
/// # Errors
/// It cannot be made.
pub fn private_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let descriptor = Descriptor::parse(PRIVATE)?;
    let attributes = descriptor.attributes();
    let name = wide(folder.as_os_str());
    // SAFETY: the name ends with a zero, and the attributes point to a descriptor
    // that lives until the end of this function.
    #[expect(unsafe_code, reason = "a folder that is private from its first moment on")]
    let made = unsafe { CreateDirectoryW(name.as_ptr(), &raw const attributes) };
    if made != 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    let there = error.raw_os_error().map(i32::cast_unsigned) == Some(ERROR_ALREADY_EXISTS);
    if there && folder.is_dir() { Ok(()) } else { Err(error) }
}

/// Names reach the disk by themselves: NTFS keeps a journal of them, and no handle
/// of a folder's can be flushed.
///
/// # Errors
/// None here.
pub fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Makes `folder` one that only administrators write to and everybody may read. One
/// that is there is taken over, whoever made it (`%ProgramData%` lets everybody
/// make folders): from here on it is the administrators'.
///
/// # Errors
/// It cannot be made, or does not let administrators take it over.
pub(crate) fn shared_folder(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    claim(folder, SHARED)
}

/// Takes over what is there already of a folder's private part.
///
/// # Errors
/// It does not let administrators take it over.
pub(crate) fn claim_private(path: &Path) -> io::Result<()> {
    claim(path, PRIVATE)
}

/// Gives what is at `path`, and what inherits from it, the administrators as owner
/// and the access list of `text`.
#[expect(unsafe_code, reason = "calls into advapi32")]
fn claim(path: &Path, text: &str) -> io::Result<()> {
    let owner = Descriptor::parse("O:BA")?;
    let list = Descriptor::parse(text)?;
    let name = wide(path.as_os_str());
    let (mut sid, mut acl) = (ptr::null_mut(), ptr::null_mut());
    let (mut defaulted, mut present) = (0, 0);
    // SAFETY: both descriptors live to the end of this function, and so do the SID
    // and the list that point into them; the name ends with a zero.
    let status = unsafe {
        let read = GetSecurityDescriptorOwner(owner.0, &raw mut sid, &raw mut defaulted) != 0
            && GetSecurityDescriptorDacl(
                list.0,
                &raw mut present,
                &raw mut acl,
                &raw mut defaulted,
            ) != 0;
        if !read {
            return Err(io::Error::last_os_error());
        }
        SetNamedSecurityInfoW(
            name.as_ptr(),
            SE_FILE_OBJECT,
            OWNER_SECURITY_INFORMATION
                | DACL_SECURITY_INFORMATION
                | PROTECTED_DACL_SECURITY_INFORMATION,
            sid,
            ptr::null_mut(),
            acl,
            ptr::null(),
        )
    };
    if status == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(status.cast_signed())) }
}

/// A security descriptor, from its text (SDDL).
#[derive(Debug)]
pub(crate) struct Descriptor(PSECURITY_DESCRIPTOR);

// SAFETY: memory of the process's heap, which is only read once it is made.
#[expect(unsafe_code, reason = "raw pointers are not Send by themselves")]
unsafe impl Send for Descriptor {}

impl Descriptor {
    /// # Errors
    /// The text is not SDDL.
    pub(crate) fn parse(text: &str) -> io::Result<Self> {
        let text = wide(text.as_ref());
        let mut descriptor: PSECURITY_DESCRIPTOR = ptr::null_mut();
        // SAFETY: the text ends with a zero; the function writes the pointer it
        // allocates, and a size nobody asks for.
        #[expect(unsafe_code, reason = "a call into advapi32")]
        let parsed = unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text.as_ptr(),
                SDDL_REVISION_1,
                &raw mut descriptor,
                ptr::null_mut(),
            )
        };
        if parsed == 0 { Err(io::Error::last_os_error()) } else { Ok(Self(descriptor)) }
    }

    /// For functions that make something: they read it before they return.
    pub(crate) fn attributes(&self) -> SECURITY_ATTRIBUTES {
        const SIZE: u32 = size_of::<SECURITY_ATTRIBUTES>() as u32;
        SECURITY_ATTRIBUTES { nLength: SIZE, lpSecurityDescriptor: self.0, bInheritHandle: 0 }
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: ours alone, allocated with LocalAlloc as its maker documents.
        #[expect(unsafe_code, reason = "advapi32 allocated it")]
        unsafe {
            LocalFree(self.0.cast::<c_void>());
        }
    }
}

/// UTF-16 with a zero at its end, as the system takes it.
pub(crate) fn wide(text: &std::ffi::OsStr) -> Vec<u16> {
    text.encode_wide().chain([0]).collect()
}

/// The text in a buffer of the system's, up to its first zero.
pub(crate) fn narrow(text: &[u16]) -> String {
    let end = text.iter().position(|unit| *unit == 0).unwrap_or(text.len());
    String::from_utf16_lossy(text.get(..end).unwrap_or_default())
}

/// Does its access list let SYSTEM in, and no group that everybody is in? What is in a
/// folder inherits its list, which is therefore the one that is looked at.
#[cfg(test)]
#[expect(unsafe_code, reason = "calls into advapi32")]
pub(crate) fn is_private(path: &Path) -> bool {
    use windows_sys::Win32::Security::Authorization::{
        ConvertSecurityDescriptorToStringSecurityDescriptorW, GetNamedSecurityInfoW,
    };
    let folder = if path.is_file() { path.parent().unwrap() } else { path };
    let name = wide(folder.as_os_str());
    let (mut descriptor, mut text) = (ptr::null_mut(), ptr::null_mut());
    let (mut acl, mut length) = (ptr::null_mut(), 0);
    // SAFETY: the name ends with a zero; the calls write the pointers and the length
    // of the text, which includes its zero. Both are left to the end of the test.
    let list = unsafe {
        let status = GetNamedSecurityInfoW(
            name.as_ptr(),
            SE_FILE_OBJECT,
            DACL_SECURITY_INFORMATION,
            ptr::null_mut(),
            ptr::null_mut(),
            &raw mut acl,
            ptr::null_mut(),
            &raw mut descriptor,
        );
        assert_eq!(status, 0, "{}", path.display());
        let converted = ConvertSecurityDescriptorToStringSecurityDescriptorW(
            descriptor,
            SDDL_REVISION_1,
            DACL_SECURITY_INFORMATION,
            &raw mut text,
            &raw mut length,
        );
        assert_ne!(converted, 0, "{}", io::Error::last_os_error());
        narrow(std::slice::from_raw_parts(text, length as usize))
    };
    // World, users, authenticated and interactive ones. (Wine writes the user that it
    // runs as where it was told administrators.)
    let everybody = [";;;WD)", ";;;BU)", ";;;AU)", ";;;IU)"];
    list.contains(";;;SY)") && !everybody.iter().any(|group| list.contains(group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_private_or_the_administrators_to_write() {
        let within = tempfile::tempdir().unwrap();
        let folder = within.path().join("a/b");
        private_folder(&folder).unwrap();
        assert!(is_private(&folder));
        private_folder(&folder).unwrap();
        shared_folder(&folder).unwrap();
        assert!(!is_private(&folder), "everybody may read it");
        // Wine takes this, too, but does not narrow a list that it has widened.
        claim_private(&folder).unwrap();
        std::fs::write(folder.join("file"), "").unwrap();
        private_folder(&folder.join("file")).unwrap_err();
    }

    #[test]
    fn texts_end_at_a_zero() {
        assert_eq!(narrow(&wide("Übung".as_ref())), "Übung");
        assert_eq!(narrow(&[]), "");
        assert_eq!(narrow(&[0x61, 0, 0x62]), "a");
    }
}
