//! For whose session does a token stand?

use core::ptr;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use windows_sys::Win32::{
    Foundation::{CloseHandle, GetLastError, HANDLE, WIN32_ERROR},
    Security::{
        DuplicateTokenEx, GetTokenInformation, SecurityImpersonation, TOKEN_ALL_ACCESS,
        TOKEN_STATISTICS, TokenPrimary, TokenStatistics,
    },
    System::Threading::{GetCurrentProcess, OpenProcessToken},
};

/// Bounds what is remembered; a test takes fewer tokens.
const REMEMBERED: usize = 4096;

/// By the token's own number: handles are given out again, these are not.
static SESSIONS: Mutex<Option<HashMap<u64, u32>>> = Mutex::new(None);

/// A new token that stands for that session.
#[expect(unsafe_code, reason = "asks Windows")]
pub(crate) fn of_session(session: u32) -> Result<HANDLE, WIN32_ERROR> {
    let (mut own, mut new) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: the process's own handle is always open; the token is closed below.
    let mut done = unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_ALL_ACCESS, &raw mut own) };
    if done != 0 {
        // SAFETY: `own` is open, `new` is ours to write to.
        done = unsafe {
            DuplicateTokenEx(
                own,
                TOKEN_ALL_ACCESS,
                ptr::null(),
                SecurityImpersonation,
                TokenPrimary,
                &raw mut new,
            )
        };
    }
    // SAFETY: takes no pointers.
    let error = unsafe { GetLastError() };
    if !own.is_null() {
        // SAFETY: the handle is ours, and not used again.
        unsafe { CloseHandle(own) };
    }
    if done == 0 {
        return Err(error);
    }
    remember(new, session);
    Ok(new)
}

/// The session that a token stands for; `None` if it came from elsewhere.
pub(crate) fn session(token: HANDLE) -> Option<u32> {
    let number = number(token)?;
    SESSIONS.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.get(&number).copied()
}

/// A copy stands for the same session as the original.
pub(crate) fn copied(original: HANDLE, copy: HANDLE) {
    if let Some(session) = session(original) {
        remember(copy, session);
    }
}

fn remember(token: HANDLE, session: u32) {
    let Some(number) = number(token) else { return };
    let mut sessions = SESSIONS.lock().unwrap_or_else(PoisonError::into_inner);
    let sessions = sessions.get_or_insert_default();
    if sessions.len() < REMEMBERED {
        sessions.insert(number, session);
    }
}

fn number(token: HANDLE) -> Option<u64> {
    let mut all = TOKEN_STATISTICS::default();
    let size = u32::try_from(size_of_val(&all)).ok()?;
    let mut filled = 0;
    // SAFETY: the structure is ours, and of the size that is said.
    #[expect(unsafe_code, reason = "asks Windows")]
    let done = unsafe {
        GetTokenInformation(token, TokenStatistics, (&raw mut all).cast(), size, &raw mut filled)
    };
    let [low, high] =
        [u64::from(all.TokenId.LowPart), u64::from(all.TokenId.HighPart.cast_unsigned())];
    (done != 0).then_some(high << 32 | low)
}
