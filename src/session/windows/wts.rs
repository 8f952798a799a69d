//! What does the system say of its sessions? (Windows Terminal Services)

use crate::guard::windows::narrow;
use std::io;
use std::ptr;
use windows_sys::Win32::System::RemoteDesktop::{
    WTS_CURRENT_SERVER_HANDLE, WTS_INFO_CLASS, WTS_SESSION_INFOW, WTSActive, WTSClientProtocolType,
    WTSConnected, WTSDisconnected, WTSEnumerateSessionsW, WTSFreeMemory,
    WTSGetActiveConsoleSessionId, WTSINFOW, WTSQuerySessionInformationW, WTSSessionInfo,
};

/// `WTSClientProtocolType` of the console, which no protocol is spoken to.
const CONSOLE_PROTOCOL: u16 = 0;

/// A session with a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Logon {
    pub(super) id: u32,
    /// `DOMAIN\user`.
    pub(super) user: String,
    /// FILETIME.
    pub(super) at: i64,
    /// It is what sits at the machine itself.
    pub(super) console: bool,
}

/// The sessions that somebody is logged on to.
///
/// # Errors
/// The system does not list them.
pub(super) fn logons() -> io::Result<Vec<Logon>> {
    let console = active_console();
    Ok(ids_in_use()?.into_iter().filter_map(|id| logon(id, console)).collect())
}

/// One of them, `None`: nobody is logged on to it, or there is none.
pub(super) fn logon_to(id: u32) -> Option<Logon> {
    let is_there = ids_in_use().is_ok_and(|ids| ids.contains(&id));
    is_there.then(|| logon(id, active_console())).flatten()
}

fn logon(id: u32, console: u32) -> Option<Logon> {
    if id == 0 {
        return None;
    }
    let told: WTSINFOW = information(id, WTSSessionInfo)?;
    let name = narrow(&told.UserName);
    if name.is_empty() || !is_in_use(told.State) {
        return None;
    }
    let domain = narrow(&told.Domain);
    let user = if domain.is_empty() { name } else { format!(r"{domain}\{name}") };
    // A session that was disconnected has the protocol of the console, too.
    let protocol = || information::<u16>(id, WTSClientProtocolType);
    let console = id == console && protocol().is_none_or(|protocol| protocol == CONSOLE_PROTOCOL);
    Some(Logon { id, user, at: told.LogonTime, console })
}

/// Not a listener, and nothing that comes or goes just now.
fn is_in_use(state: i32) -> bool {
    [WTSActive, WTSConnected, WTSDisconnected].contains(&state)
}

#[expect(unsafe_code, reason = "a call into kernel32")]
fn active_console() -> u32 {
    // SAFETY: it takes nothing and gives a number.
    unsafe { WTSGetActiveConsoleSessionId() }
}

#[expect(unsafe_code, reason = "wtsapi32 allocates the list")]
fn ids_in_use() -> io::Result<Vec<u32>> {
    let mut list: *mut WTS_SESSION_INFOW = ptr::null_mut();
    let mut count = 0;
    // SAFETY: the call writes both; 0 and 1 are what its documentation asks for.
    let listed = unsafe {
        WTSEnumerateSessionsW(WTS_CURRENT_SERVER_HANDLE, 0, 1, &raw mut list, &raw mut count)
    };
    if listed == 0 {
        return Err(io::Error::last_os_error());
    }
    if list.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: the system has written so many entries there, and we free them once,
    // after the last use.
    unsafe {
        let entries = std::slice::from_raw_parts(list, count as usize);
        let in_use = entries.iter().filter(|entry| is_in_use(entry.State));
        let ids = in_use.map(|entry| entry.SessionId).collect();
        WTSFreeMemory(list.cast());
        Ok(ids)
    }
}

/// What `class` says of a session; `None`: nothing, or less than was asked for.
#[expect(unsafe_code, reason = "wtsapi32 allocates the answer")]
fn information<T: Plain>(id: u32, class: WTS_INFO_CLASS) -> Option<T> {
    let mut answer = ptr::null_mut();
    let mut length = 0;
    // SAFETY: the call writes both.
    let answered = unsafe {
        WTSQuerySessionInformationW(
            WTS_CURRENT_SERVER_HANDLE,
            id,
            class,
            &raw mut answer,
            &raw mut length,
        )
    };
    if answered == 0 || answer.is_null() {
        return None;
    }
    let complete = length as usize >= size_of::<T>();
    // SAFETY: so many bytes are there, perhaps not aligned, and every bit pattern
    // is a T; we free them once, after the last use.
    unsafe {
        let told = complete.then(|| answer.cast::<T>().read_unaligned());
        WTSFreeMemory(answer.cast());
        told
    }
}

/// Numbers only: any bytes are one.
trait Plain {}
impl Plain for u16 {}
impl Plain for WTSINFOW {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_listed_and_services_are_none() {
        assert!(logons().unwrap().iter().all(|logon| logon.id != 0 && !logon.user.is_empty()));
        assert_eq!(logon_to(0), None);
        assert_eq!(logon_to(0x7fff_0000), None);
    }
}
