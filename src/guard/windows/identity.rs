//! Who is that? Security identifiers, and what a token says of its user.

use super::wide;
use std::ffi::OsString;
use std::io;
use std::os::windows::ffi::OsStringExt;
use std::os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::ptr;
use windows_sys::Win32::Foundation::{HANDLE, LocalFree};
use windows_sys::Win32::Security::Authorization::{
    ConvertSidToStringSidW, GetSecurityInfo, SE_KERNEL_OBJECT,
};
use windows_sys::Win32::Security::{
    CheckTokenMembership, CreateWellKnownSid, GetTokenInformation, IsWellKnownSid,
    LookupAccountNameW, OWNER_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR, PSID,
    SECURITY_MAX_SID_SIZE, SID_NAME_USE, TOKEN_QUERY, TOKEN_USER, TokenUser,
    WinBuiltinAdministratorsSid, WinLocalSystemSid,
};
use windows_sys::Win32::System::RemoteDesktop::WTSQueryUserToken;
use windows_sys::Win32::System::Threading::{GetCurrentThread, OpenThreadToken};

/// As long as any SID, and aligned as one (its parts are at most 32 bits wide).
type SidBuffer = [u32; SECURITY_MAX_SID_SIZE as usize / size_of::<u32>()];

/// The SID of a token's user, as text.
///
/// # Errors
/// The token may not be asked.
#[expect(unsafe_code, reason = "advapi32 reads the token")]
pub(crate) fn user_of(token: BorrowedHandle<'_>) -> io::Result<String> {
    #[repr(C)]
    struct Answer {
        user: TOKEN_USER,
        sid: SidBuffer,
    }
    let mut answer = Answer { user: TOKEN_USER::default(), sid: SidBuffer::default() };
    let mut length = 0;
    // SAFETY: the handle is open, and the buffer is as long as said: the structure
    // and behind it the largest SID, to which the structure then points.
    let answered = unsafe {
        GetTokenInformation(
            token.as_raw_handle(),
            TokenUser,
            (&raw mut answer).cast(),
            size_of::<Answer>() as u32,
            &raw mut length,
        )
    };
    if answered == 0 {
        return Err(io::Error::last_os_error());
    }
    text(answer.user.User.Sid)
}

/// The token of the thread that calls, while it acts for somebody else.
///
/// # Errors
/// It does not, or the token may not be asked.
#[expect(unsafe_code, reason = "the token comes from the system")]
pub(crate) fn thread_token() -> io::Result<OwnedHandle> {
    let mut token: HANDLE = ptr::null_mut();
    // SAFETY: the pseudo handle is always valid; the call writes the handle. It is
    // opened as this process is allowed to, not as the one it acts for.
    let opened = unsafe { OpenThreadToken(GetCurrentThread(), TOKEN_QUERY, 1, &raw mut token) };
    if opened == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just given it to us.
    Ok(unsafe { OwnedHandle::from_raw_handle(token) })
}

/// The SID of the user of a Windows session; SYSTEM may ask.
///
/// # Errors
/// Nobody is logged on there, or it is not SYSTEM that asks.
#[expect(unsafe_code, reason = "the token comes from the system")]
pub(crate) fn user_of_session(session: u32) -> io::Result<String> {
    use std::os::windows::io::AsHandle;
    let mut token: HANDLE = ptr::null_mut();
    // SAFETY: the call writes the handle.
    if unsafe { WTSQueryUserToken(session, &raw mut token) } == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just given it to us.
    let token = unsafe { OwnedHandle::from_raw_handle(token) };
    user_of(token.as_handle())
}

/// Is this token, which a thread acts with, an administrator's with all his
/// rights, or SYSTEM's? One that was filtered at logon (UAC) is not: there the
/// group only denies.
#[expect(unsafe_code, reason = "advapi32 reads the token")]
pub(crate) fn is_administrator_s(token: BorrowedHandle<'_>) -> bool {
    let mut administrators = SidBuffer::default();
    let mut length = size_of::<SidBuffer>() as u32;
    let mut is = 0;
    // SAFETY: the buffer takes any SID and is as long as said; both handles and the
    // SID live until the calls are over.
    unsafe {
        let sid: PSID = administrators.as_mut_ptr().cast();
        CreateWellKnownSid(WinBuiltinAdministratorsSid, ptr::null_mut(), sid, &raw mut length) != 0
            && CheckTokenMembership(token.as_raw_handle(), sid, &raw mut is) != 0
            && is != 0
    }
}

/// Is a kernel object's owner SYSTEM, or the administrators?
///
/// # Errors
/// The object does not say whose it is.
#[expect(unsafe_code, reason = "advapi32 reads the descriptor")]
pub(crate) fn is_the_host_s(object: BorrowedHandle<'_>) -> io::Result<bool> {
    let mut owner: PSID = ptr::null_mut();
    let mut descriptor: PSECURITY_DESCRIPTOR = ptr::null_mut();
    // SAFETY: the handle is open; the call writes both pointers, of which the
    // first points into what the second owns.
    let status = unsafe {
        GetSecurityInfo(
            object.as_raw_handle(),
            SE_KERNEL_OBJECT,
            OWNER_SECURITY_INFORMATION,
            &raw mut owner,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            &raw mut descriptor,
        )
    };
    if status != 0 {
        return Err(io::Error::from_raw_os_error(status.cast_signed()));
    }
    // SAFETY: the SID is valid until the descriptor is freed, which nobody uses
    // afterwards; a missing owner is a null pointer, and nobody's.
    unsafe {
        let is = !owner.is_null()
            && (IsWellKnownSid(owner, WinLocalSystemSid) != 0
                || IsWellKnownSid(owner, WinBuiltinAdministratorsSid) != 0);
        LocalFree(descriptor);
        Ok(is)
    }
}

/// The SID of an account, `DOMAIN\user`, as text.
///
/// # Errors
/// Nobody knows the account.
#[expect(unsafe_code, reason = "advapi32 knows the accounts")]
pub(crate) fn user_named(account: &str) -> io::Result<String> {
    /// More than DNS lets a domain's name have.
    const LONGEST_DOMAIN: usize = 256;
    let account = wide(account.as_ref());
    let mut sid = SidBuffer::default();
    let mut sid_length = size_of::<SidBuffer>() as u32;
    let mut domain = [0; LONGEST_DOMAIN];
    let mut domain_length = LONGEST_DOMAIN as u32;
    let mut kind: SID_NAME_USE = 0;
    // SAFETY: the name ends with a zero, and both buffers are as long as said.
    let found = unsafe {
        LookupAccountNameW(
            ptr::null(),
            account.as_ptr(),
            sid.as_mut_ptr().cast(),
            &raw mut sid_length,
            domain.as_mut_ptr(),
            &raw mut domain_length,
            &raw mut kind,
        )
    };
    if found == 0 { Err(io::Error::last_os_error()) } else { text(sid.as_mut_ptr().cast()) }
}

/// `sid`, which is valid, as text: `S-1-5-18`.
#[expect(unsafe_code, reason = "advapi32 writes the text")]
fn text(sid: PSID) -> io::Result<String> {
    let mut text = ptr::null_mut();
    // SAFETY: the callers have the SID from the system; the call writes the pointer.
    if unsafe { ConvertSidToStringSidW(sid, &raw mut text) } == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the text ends with a zero and is ours, made with LocalAlloc.
    unsafe {
        let length = (0..).take_while(|at| *text.add(*at) != 0).count();
        let copy = OsString::from_wide(std::slice::from_raw_parts(text, length));
        LocalFree(text.cast());
        Ok(copy.to_string_lossy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_is_known_by_its_number() {
        assert_eq!(user_named(r"NT AUTHORITY\SYSTEM").unwrap(), "S-1-5-18");
        assert!(user_named(r"NOWHERE\nobody-of-this-name").is_err());
    }

    #[test]
    fn a_thread_that_acts_for_nobody_has_no_token() {
        assert!(thread_token().is_err());
    }
}
