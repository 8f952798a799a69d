//! The functions that `wtsapi32.dll` exports: who is logged on?

#![expect(unsafe_code, reason = "exported by their C names, and write where they are told to")]

use core::{ffi::c_void, ptr};

use windows_sys::{
    Win32::{
        Foundation::{
            ERROR_CTX_WINSTATION_NOT_FOUND, ERROR_FILE_NOT_FOUND, ERROR_INVALID_PARAMETER,
            ERROR_NO_TOKEN, ERROR_NOT_ENOUGH_MEMORY, ERROR_NOT_SUPPORTED, HANDLE, SetLastError,
            WIN32_ERROR,
        },
        System::RemoteDesktop::{
            WTS_CURRENT_SESSION, WTS_INFO_CLASS, WTS_SESSION_INFO_1W, WTS_SESSION_INFOW,
            WTS_TYPE_CLASS, WTSClientProtocolType, WTSConnectState, WTSDomainName, WTSINFOW,
            WTSIsRemoteSession, WTSSessionId, WTSSessionInfo, WTSUserName, WTSWinStationName,
        },
    },
    core::{BOOL, PWSTR},
};

use crate::{
    block::{self, Block, wide},
    process, tokens,
    world::{Session, World, complain},
};

/// All sessions, as `WTSEnumerateSessionsW` of Windows.
///
/// # Safety
///
/// `rows` and `count` can be written to.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn WTSEnumerateSessionsW(
    _server: HANDLE,
    reserved: u32,
    version: u32,
    rows: *mut *mut WTS_SESSION_INFOW,
    count: *mut u32,
) -> BOOL {
    if reserved != 0 || version != 1 || rows.is_null() || count.is_null() {
        return failed(ERROR_INVALID_PARAMETER);
    }
    let sessions = World::now().sessions;
    let stations: Vec<Vec<u16>> = sessions.iter().map(|session| wide(&session.station)).collect();
    let Some(mut block) = Block::with_room(sessions.len(), stations.iter().map(Vec::len).sum())
    else {
        return failed(ERROR_NOT_ENOUGH_MEMORY);
    };
    for (session, station) in sessions.iter().zip(&stations) {
        let row = WTS_SESSION_INFOW {
            SessionId: session.id,
            pWinStationName: block.text(station),
            State: session.state,
        };
        block.push(row);
    }
    // SAFETY: by contract.
    unsafe { hand_over(block, sessions.len(), rows, count) }
}

/// The same with the users' names, as `WTSEnumerateSessionsExW` of Windows.
///
/// # Safety
///
/// `level` can be read, `rows` and `count` can be written to.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn WTSEnumerateSessionsExW(
    _server: HANDLE,
    level: *mut u32,
    filter: u32,
    rows: *mut *mut WTS_SESSION_INFO_1W,
    count: *mut u32,
) -> BOOL {
    // SAFETY: by contract, and not null.
    let right = !level.is_null() && unsafe { *level } == 1;
    if !right || filter != 0 || rows.is_null() || count.is_null() {
        return failed(ERROR_INVALID_PARAMETER);
    }
    let sessions = World::now().sessions;
    let texts: Vec<[Vec<u16>; 3]> = sessions
        .iter()
        .map(|session| [&session.station, &session.user, &session.domain].map(|text| wide(text)))
        .collect();
    let units = texts.iter().flatten().map(Vec::len).sum();
    let Some(mut block) = Block::with_room(sessions.len(), units) else {
        return failed(ERROR_NOT_ENOUGH_MEMORY);
    };
    for (session, [station, user, domain]) in sessions.iter().zip(&texts) {
        // A session without a user has no names.
        let mut name = |text: &[u16]| match session.user.is_empty() {
            true => ptr::null_mut(),
            false => block.text(text),
        };
        let (user, domain) = (name(user), name(domain));
        let row = WTS_SESSION_INFO_1W {
            ExecEnvId: session.id,
            State: session.state,
            SessionId: session.id,
            pSessionName: block.text(station),
            pHostName: ptr::null_mut(),
            pUserName: user,
            pDomainName: domain,
            pFarmName: ptr::null_mut(),
        };
        block.push(row);
    }
    // SAFETY: by contract.
    unsafe { hand_over(block, sessions.len(), rows, count) }
}

/// One thing about one session, as `WTSQuerySessionInformationW` of Windows.
///
/// # Safety
///
/// `buffer` and `bytes` can be written to.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn WTSQuerySessionInformationW(
    _server: HANDLE,
    session: u32,
    what: WTS_INFO_CLASS,
    buffer: *mut PWSTR,
    bytes: *mut u32,
) -> BOOL {
    if buffer.is_null() || bytes.is_null() {
        return failed(ERROR_INVALID_PARAMETER);
    }
    let id = match session {
        WTS_CURRENT_SESSION => process::session(std::process::id()).unwrap_or_default(),
        id => id,
    };
    let world = World::now();
    let Some(session) = world.session(id) else { return failed(ERROR_FILE_NOT_FOUND) };
    // SAFETY: by contract.
    let answer = |text: &str| unsafe { text_out(text, buffer, bytes) };
    #[expect(non_upper_case_globals, reason = "as windows-sys has them")]
    match what {
        WTSUserName => answer(&session.user),
        WTSDomainName => answer(&session.domain),
        WTSWinStationName => answer(&session.station),
        // SAFETY: by contract.
        WTSSessionId => unsafe { value_out(session.id, buffer, bytes) },
        // SAFETY: by contract.
        WTSConnectState => unsafe { value_out(session.state, buffer, bytes) },
        // SAFETY: by contract.
        WTSClientProtocolType => unsafe { value_out(session.protocol, buffer, bytes) },
        // SAFETY: by contract.
        WTSIsRemoteSession => unsafe { value_out(u8::from(session.protocol != 0), buffer, bytes) },
        // SAFETY: by contract.
        WTSSessionInfo => unsafe { value_out(info(session), buffer, bytes) },
        other => {
            complain(&format!("WTSQuerySessionInformationW: class {other} is not stood in for"));
            failed(ERROR_NOT_SUPPORTED)
        }
    }
}

/// A token of the session's user, as `WTSQueryUserToken` of Windows: here it is
/// the caller's own, of which is remembered whose it stands for.
///
/// # Safety
///
/// `token` can be written to.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn WTSQueryUserToken(session: u32, token: *mut HANDLE) -> BOOL {
    if token.is_null() {
        return failed(ERROR_INVALID_PARAMETER);
    }
    let world = World::now();
    let Some(session) = world.session(session) else {
        return failed(ERROR_CTX_WINSTATION_NOT_FOUND);
    };
    if session.user.is_empty() {
        return failed(ERROR_NO_TOKEN);
    }
    match tokens::of_session(session.id) {
        Ok(new) => {
            // SAFETY: by contract, and not null.
            unsafe { token.write(new) };
            1
        }
        Err(error) => failed(error),
    }
}

/// Frees what the functions above gave.
#[unsafe(no_mangle)]
pub extern "system" fn WTSFreeMemory(memory: *mut c_void) {
    block::free(memory);
}

/// The same for what `WTSEnumerateSessionsExW` gave.
#[unsafe(no_mangle)]
pub extern "system" fn WTSFreeMemoryExW(
    _class: WTS_TYPE_CLASS,
    memory: *mut c_void,
    _count: u32,
) -> BOOL {
    block::free(memory);
    1
}

fn info(session: &Session) -> WTSINFOW {
    let mut info = WTSINFOW {
        State: session.state,
        SessionId: session.id,
        ConnectTime: session.logon,
        LastInputTime: session.logon,
        LogonTime: if session.user.is_empty() { 0 } else { session.logon },
        ..WTSINFOW::default()
    };
    // Each with its end within, whatever the length of the name.
    let fill = |to: &mut [u16], text: &str| {
        let room = to.len().saturating_sub(1);
        for (to, unit) in to.iter_mut().zip(text.encode_utf16().take(room)) {
            *to = unit;
        }
    };
    fill(&mut info.WinStationName, &session.station);
    fill(&mut info.Domain, &session.domain);
    fill(&mut info.UserName, &session.user);
    info
}

unsafe fn hand_over<T: Copy>(
    block: Block<T>,
    filled: usize,
    rows: *mut *mut T,
    count: *mut u32,
) -> BOOL {
    // SAFETY: both can be written to, by the contract of the callers.
    unsafe {
        rows.write(block.give());
        count.write(u32::try_from(filled).unwrap_or(u32::MAX));
    }
    1
}

unsafe fn text_out(text: &str, buffer: *mut PWSTR, bytes: *mut u32) -> BOOL {
    let text = wide(text);
    let Some(mut block) = Block::<u16>::with_room(0, text.len()) else {
        return failed(ERROR_NOT_ENOUGH_MEMORY);
    };
    block.text(&text);
    // SAFETY: both can be written to, by the contract of the callers.
    unsafe {
        buffer.write(block.give());
        bytes.write(u32::try_from(size_of_val(text.as_slice())).unwrap_or(u32::MAX));
    }
    1
}

unsafe fn value_out<T: Copy>(value: T, buffer: *mut PWSTR, bytes: *mut u32) -> BOOL {
    let Some(mut block) = Block::with_room(1, 0) else { return failed(ERROR_NOT_ENOUGH_MEMORY) };
    block.push(value);
    // SAFETY: both can be written to, by the contract of the callers.
    unsafe {
        buffer.write(block.give().cast());
        bytes.write(u32::try_from(size_of::<T>()).unwrap_or(u32::MAX));
    }
    1
}

fn failed(error: WIN32_ERROR) -> BOOL {
    // SAFETY: takes no pointers.
    unsafe { SetLastError(error) };
    0
}
