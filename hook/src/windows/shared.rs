//! How does the block of [`crate::section`] get from the daemon to programs?

use super::trust::{Owner, owner_of};
use super::wide;
use std::os::windows::io::{AsHandle, AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::AtomicU32;
use std::{fmt, io};
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_ALREADY_EXISTS, ERROR_INVALID_OWNER, ERROR_PRIVILEGE_NOT_HELD,
    GetLastError, HANDLE, INVALID_HANDLE_VALUE, LocalFree, SetLastError,
};
use windows_sys::Win32::Security::Authorization::{
    ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1,
};
use windows_sys::Win32::Security::{PSECURITY_DESCRIPTOR, SECURITY_ATTRIBUTES};
use windows_sys::Win32::Storage::FileSystem::READ_CONTROL;
use windows_sys::Win32::System::Memory::{
    CreateFileMappingW, FILE_MAP_READ, FILE_MAP_WRITE, MEMORY_MAPPED_VIEW_ADDRESS, MapViewOfFile,
    OpenFileMappingW, PAGE_READWRITE, UnmapViewOfFile,
};

/// The administrators own it, SYSTEM may do everything, and everybody may read,
/// programs in an AppContainer too (`S-1-15-2-1`, and `-2` for the restricted
/// ones): the last two are not among "everybody".
pub const READABLE: &str =
    "O:BAD:P(A;;GA;;;SY)(A;;GR;;;WD)(A;;GR;;;S-1-15-2-1)(A;;GR;;;S-1-15-2-2)";

/// A section in memory, here. The daemon's may be written.
#[derive(Debug)]
pub struct Shared {
    view: NonNull<AtomicU32>,
    bytes: usize,
    /// The daemon keeps it: the name lives as long as a handle does.
    _section: Option<OwnedHandle>,
}

// SAFETY: the memory is made of atomic words, for any thread, and stays where
// it is until this value is dropped.
#[expect(unsafe_code, reason = "a pointer alone does not say so")]
unsafe impl Send for Shared {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "a pointer alone does not say so")]
unsafe impl Sync for Shared {}

/// Why the section could not be made.
#[derive(Debug)]
#[non_exhaustive]
pub enum CreateError {
    /// The caller is not privileged enough.
    Privilege,
    /// Somebody else made one of that name first.
    Foreign {
        /// Who, as a security identifier.
        owner: String,
    },
    /// Another copy of the daemon, or a program that holds on to a former one's
    /// section, keeps it, and it cannot be written.
    Held,
    /// What the system said.
    System {
        /// What was tried.
        action: &'static str,
        /// What came of it.
        source: io::Error,
    },
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Privilege => f.write_str(
                "publishing addresses to all sessions needs SeCreateGlobalPrivilege and \
                 membership of Administrators: run sessionip as a service, or elevated",
            ),
            Self::Foreign { owner } => write!(
                f,
                "a section of our name was made before by {owner}, who is neither SYSTEM nor \
                 the administrators: somebody lies in wait for us; end that program and start \
                 sessionip again"
            ),
            Self::Held => f.write_str(
                "the section of another sessionip is still there and cannot be written: stop \
                 it, or run as the service, which may take it over",
            ),
            Self::System { action, source } => write!(f, "cannot {action}: {source}"),
        }
    }
}

impl std::error::Error for CreateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::System { source, .. } => Some(source),
            Self::Privilege | Self::Foreign { .. } | Self::Held => None,
        }
    }
}

impl Shared {
    /// Makes the section, all zeroes, or takes over one that a daemon before
    /// left behind: with what is in it, so that the programs which read it
    /// notice nothing.
    ///
    /// # Errors
    /// See [`CreateError`].
    #[expect(unsafe_code, reason = "calls of the system")]
    pub fn create(name: &str, sddl: &str, bytes: usize) -> Result<Self, CreateError> {
        let name = wide(name);
        let descriptor = Descriptor::parse(sddl).map_err(system("read our own descriptor"))?;
        let attributes = descriptor.attributes();
        let (high, low) = ((bytes as u64 >> 32) as u32, bytes as u32);
        // SAFETY: name and attributes outlive the call, and the handle is new. The
        // last error is the only way to learn that the section was there before.
        let (section, error) = unsafe {
            SetLastError(0);
            let section = CreateFileMappingW(
                INVALID_HANDLE_VALUE,
                &raw const attributes,
                PAGE_READWRITE,
                high,
                low,
                name.as_ptr(),
            );
            let error = GetLastError();
            (owned(section), error)
        };
        let Some(section) = section else {
            return Err(match error {
                ERROR_ACCESS_DENIED => why_denied(&name),
                ERROR_PRIVILEGE_NOT_HELD | ERROR_INVALID_OWNER => CreateError::Privilege,
                other => system("make the hook's section")(io::Error::from_raw_os_error(
                    other.cast_signed(),
                )),
            });
        };
        if error == ERROR_ALREADY_EXISTS {
            match owner_of(section.as_handle()) {
                Some(Owner { is_system: true, .. }) => {}
                Some(Owner { sid, .. }) => return Err(CreateError::Foreign { owner: sid }),
                None => return Err(CreateError::Held),
            }
        }
        map(&section, FILE_MAP_READ | FILE_MAP_WRITE, bytes)
            .map(|view| Self { view, bytes, _section: Some(section) })
            .ok_or_else(|| system("map the hook's section")(io::Error::last_os_error()))
    }

    /// Opens the section for reading. `None`: there is none, it is smaller, or
    /// it is not the system's.
    #[expect(unsafe_code, reason = "calls of the system")]
    pub fn open(name: &[u16], bytes: usize) -> Option<Self> {
        if name.last() != Some(&0) {
            return None;
        }
        // SAFETY: the name ends in a zero, and the handle is new.
        let section =
            unsafe { owned(OpenFileMappingW(FILE_MAP_READ | READ_CONTROL, 0, name.as_ptr())) }?;
        if !owner_of(section.as_handle())?.is_system {
            return None;
        }
        let view = map(&section, FILE_MAP_READ, bytes)?;
        Some(Self { view, bytes, _section: None })
    }

    /// The block. A reader's must only be loaded from, [`View`] and nothing
    /// else, as it cannot be written.
    ///
    /// [`View`]: crate::section::View
    #[expect(unsafe_code, reason = "memory that the system mapped")]
    pub fn words(&self) -> &[AtomicU32] {
        // SAFETY: `bytes` bytes are mapped at `view`, which is aligned to a
        // page, until this value is dropped; any bits are a word, and another
        // process only writes them as whole words.
        unsafe { std::slice::from_raw_parts(self.view.as_ptr(), self.bytes / 4) }
    }
}

impl Drop for Shared {
    #[expect(unsafe_code, reason = "a call of the system")]
    fn drop(&mut self) {
        // SAFETY: it was mapped here, and words() borrows this value.
        unsafe {
            UnmapViewOfFile(MEMORY_MAPPED_VIEW_ADDRESS { Value: self.view.as_ptr().cast() });
        }
    }
}

/// A name that may not be opened for writing: whose is it?
#[expect(unsafe_code, reason = "a call of the system")]
fn why_denied(name: &[u16]) -> CreateError {
    // SAFETY: the name ends in a zero, and the handle is new.
    let section = unsafe { owned(OpenFileMappingW(READ_CONTROL, 0, name.as_ptr())) };
    match section.map(|section| owner_of(section.as_handle())) {
        None => CreateError::Privilege,
        Some(Some(Owner { is_system: false, sid })) => CreateError::Foreign { owner: sid },
        Some(_) => CreateError::Held,
    }
}

#[expect(unsafe_code, reason = "a call of the system")]
fn map(section: &OwnedHandle, access: u32, bytes: usize) -> Option<NonNull<AtomicU32>> {
    // SAFETY: the section is open; the system chooses the place.
    let view = unsafe { MapViewOfFile(section.as_raw_handle(), access, 0, 0, bytes) };
    NonNull::new(view.Value.cast())
}

/// Keeps a handle that the system just gave us. `None`: it gave none.
///
/// # Safety
/// It is null, `INVALID_HANDLE_VALUE`, or open, and nobody else closes it.
#[expect(unsafe_code, reason = "a handle that the system just gave us")]
pub(super) unsafe fn owned(handle: HANDLE) -> Option<OwnedHandle> {
    // SAFETY: it is open, and ours alone, by the caller's word.
    (!handle.is_null() && handle != INVALID_HANDLE_VALUE)
        .then(|| unsafe { OwnedHandle::from_raw_handle(handle) })
}

fn system(action: &'static str) -> impl FnOnce(io::Error) -> CreateError {
    move |source| CreateError::System { action, source }
}

/// A security descriptor, made from its text.
#[derive(Debug)]
pub(super) struct Descriptor(PSECURITY_DESCRIPTOR);

impl Descriptor {
    #[expect(unsafe_code, reason = "calls of the system")]
    pub(super) fn parse(sddl: &str) -> io::Result<Self> {
        let (text, mut descriptor) = (wide(sddl), null_mut());
        // SAFETY: the text ends in a zero; `descriptor` takes one pointer.
        let parsed = unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text.as_ptr(),
                SDDL_REVISION_1,
                &raw mut descriptor,
                null_mut(),
            )
        };
        if parsed == 0 { Err(io::Error::last_os_error()) } else { Ok(Self(descriptor)) }
    }

    /// For a call that makes something; not to outlive the descriptor.
    pub(super) fn attributes(&self) -> SECURITY_ATTRIBUTES {
        SECURITY_ATTRIBUTES {
            nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
            lpSecurityDescriptor: self.0,
            bInheritHandle: 0,
        }
    }
}

impl Drop for Descriptor {
    #[expect(unsafe_code, reason = "a call of the system")]
    fn drop(&mut self) {
        // SAFETY: the system allocated it for us, and it is given back once.
        unsafe {
            LocalFree(self.0);
        }
    }
}
