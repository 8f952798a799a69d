//! Who is logged on, and which processes are theirs?

#![expect(unsafe_code, reason = "asks Windows")]

use core::{ptr, slice};
use std::{
    env, io,
    process::{Command, ExitCode},
};

use windows_sys::{
    Win32::{
        Foundation::{CloseHandle, HANDLE},
        Security::{DuplicateTokenEx, SecurityImpersonation, TOKEN_ALL_ACCESS, TokenPrimary},
        System::{
            Diagnostics::ToolHelp::{
                CreateToolhelp32Snapshot, PROCESSENTRY32W, Process32FirstW, Process32NextW,
                TH32CS_SNAPPROCESS,
            },
            RemoteDesktop::{
                ProcessIdToSessionId, WTS_INFO_CLASS, WTSClientProtocolType, WTSDomainName,
                WTSEnumerateSessionsExW, WTSEnumerateSessionsW, WTSFreeMemory, WTSFreeMemoryExW,
                WTSGetActiveConsoleSessionId, WTSINFOW, WTSQuerySessionInformationW,
                WTSQueryUserToken, WTSSessionInfo, WTSTypeSessionInfoLevel1, WTSUserName,
            },
            Threading::{
                CreateProcessAsUserW, GetExitCodeProcess, INFINITE, PROCESS_INFORMATION,
                STARTUPINFOW, WaitForSingleObject,
            },
        },
    },
    core::PWSTR,
};

use super::Answer;

/// A line for each session, and the console's.
pub(super) fn all() -> Answer {
    let (mut rows, mut count) = (ptr::null_mut(), 0);
    // SAFETY: both are ours to write to.
    if unsafe { WTSEnumerateSessionsW(ptr::null_mut(), 0, 1, &raw mut rows, &raw mut count) } == 0 {
        return Err(io::Error::last_os_error().into());
    }
    let mut lines = Vec::new();
    // SAFETY: the call gave that many rows, until they are freed below.
    for row in unsafe { slice::from_raw_parts(rows, count as usize) } {
        let user = text(row.SessionId, WTSUserName)?;
        let domain = text(row.SessionId, WTSDomainName)?;
        // SAFETY: the classes have these types.
        let (protocol, info) = unsafe {
            let protocol: u16 = value(row.SessionId, WTSClientProtocolType)?;
            let info: WTSINFOW = value(row.SessionId, WTSSessionInfo)?;
            (protocol, info)
        };
        // SAFETY: a text with its end, in the block of the rows.
        let station = unsafe { read(row.pWinStationName) };
        let again = String::from_utf16_lossy(&info.UserName);
        lines.push(format!(
            r"{} {} {station} {domain}\{user} {protocol} {} {}",
            row.SessionId,
            row.State,
            info.LogonTime,
            again.trim_end_matches('\0'),
        ));
    }
    // SAFETY: given by the call above, and not used again.
    unsafe { WTSFreeMemory(rows.cast()) };
    // SAFETY: takes nothing.
    lines.push(format!("console {}", unsafe { WTSGetActiveConsoleSessionId() }.cast_signed()));
    Ok(lines.join("\n"))
}

/// A line for each session that someone has logged on to, by the newer function.
pub(super) fn users() -> Answer {
    let (mut level, mut rows, mut count) = (1, ptr::null_mut(), 0);
    // SAFETY: all are ours to write to.
    let done = unsafe {
        WTSEnumerateSessionsExW(ptr::null_mut(), &raw mut level, 0, &raw mut rows, &raw mut count)
    };
    if done == 0 {
        return Err(io::Error::last_os_error().into());
    }
    let mut lines = Vec::new();
    // SAFETY: the call gave that many rows, until they are freed below.
    for row in unsafe { slice::from_raw_parts(rows, count as usize) } {
        if row.pUserName.is_null() {
            continue;
        }
        // SAFETY: texts with their ends, in the block of the rows.
        let (domain, user) = unsafe { (read(row.pDomainName), read(row.pUserName)) };
        lines.push(format!(r"{} {domain}\{user}", row.SessionId));
    }
    // SAFETY: given by the call above, and not used again.
    unsafe { WTSFreeMemoryExW(WTSTypeSessionInfoLevel1, rows.cast(), count) };
    Ok(lines.join("\n"))
}

/// The session of a process.
pub(super) fn of(id: &str) -> Answer {
    Ok(session(id.parse()?)?.to_string())
}

/// The number of a process of that name.
pub(super) fn process(name: &str) -> Answer {
    // SAFETY: takes no pointers; the handle lives as long as this process.
    let snapshot = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0) };
    let size = u32::try_from(size_of::<PROCESSENTRY32W>())?;
    let mut entry = PROCESSENTRY32W { dwSize: size, ..PROCESSENTRY32W::default() };
    // SAFETY: the entry says how large it is.
    let mut more = unsafe { Process32FirstW(snapshot, &raw mut entry) };
    while more != 0 {
        let found = String::from_utf16_lossy(&entry.szExeFile);
        if found.split('\0').next().is_some_and(|found| found.eq_ignore_ascii_case(name)) {
            return Ok(entry.th32ProcessID.to_string());
        }
        // SAFETY: as before.
        more = unsafe { Process32NextW(snapshot, &raw mut entry) };
    }
    Err(format!("{name} does not run").into())
}

/// The session of this process, as what it returns.
pub(super) fn own() -> ExitCode {
    let own = session(std::process::id()).ok().and_then(|session| u8::try_from(session).ok());
    ExitCode::from(own.unwrap_or(u8::MAX))
}

/// The sessions of this process, of a child, and of a child's child.
pub(super) fn family() -> Answer {
    let own = session(std::process::id())?;
    let program = env::current_exe()?;
    let child = Command::new(&program).arg("own-session").status()?.code();
    // `cmd` loads no stand-in: what it starts is found by its parents all the same.
    let line = format!("{} own-session", program.display());
    let grandchild = Command::new("cmd.exe").arg("/c").arg(line).status()?.code();
    Ok(format!("{own} {child:?} {grandchild:?}"))
}

/// The session of a process that is started for a session's user.
pub(super) fn run_as(session: &str) -> Answer {
    let (mut users, mut token): (HANDLE, HANDLE) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: both are ours to write to; the first is open for the second.
    let done = unsafe {
        WTSQueryUserToken(session.parse()?, &raw mut users) != 0
            && DuplicateTokenEx(
                users,
                TOKEN_ALL_ACCESS,
                ptr::null(),
                SecurityImpersonation,
                TokenPrimary,
                &raw mut token,
            ) != 0
    };
    if !done {
        return Err(io::Error::last_os_error().into());
    }
    let line = format!("\"{}\" own-session\0", env::current_exe()?.display());
    let mut line: Vec<u16> = line.encode_utf16().collect();
    let startup =
        STARTUPINFOW { cb: u32::try_from(size_of::<STARTUPINFOW>())?, ..STARTUPINFOW::default() };
    let mut made = PROCESS_INFORMATION::default();
    // SAFETY: the token is open, the line is ours and ends with NUL, as Windows
    // may write to it; the last two are what they have to be.
    let done = unsafe {
        CreateProcessAsUserW(
            token,
            ptr::null(),
            line.as_mut_ptr(),
            ptr::null(),
            ptr::null(),
            0,
            0,
            ptr::null(),
            ptr::null(),
            &raw const startup,
            &raw mut made,
        )
    };
    if done == 0 {
        return Err(io::Error::last_os_error().into());
    }
    let mut code = 0;
    // SAFETY: the four handles are ours and open, and not used again.
    unsafe {
        WaitForSingleObject(made.hProcess, INFINITE);
        GetExitCodeProcess(made.hProcess, &raw mut code);
        for handle in [made.hProcess, made.hThread, token, users] {
            CloseHandle(handle);
        }
    }
    Ok(code.to_string())
}

fn session(process: u32) -> io::Result<u32> {
    let mut session = u32::MAX;
    // SAFETY: ours to write to.
    match unsafe { ProcessIdToSessionId(process, &raw mut session) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(session),
    }
}

fn text(session: u32, what: WTS_INFO_CLASS) -> io::Result<String> {
    let buffer = ask(session, what)?;
    // SAFETY: these classes are texts; freed once read.
    unsafe {
        let text = read(buffer);
        WTSFreeMemory(buffer.cast());
        Ok(text)
    }
}

/// `T` must be the type of that class.
unsafe fn value<T>(session: u32, what: WTS_INFO_CLASS) -> io::Result<T> {
    let buffer = ask(session, what)?;
    // SAFETY: by contract; freed once read.
    unsafe {
        let value = buffer.cast::<T>().read_unaligned();
        WTSFreeMemory(buffer.cast());
        Ok(value)
    }
}

fn ask(session: u32, what: WTS_INFO_CLASS) -> io::Result<PWSTR> {
    let (mut buffer, mut bytes) = (ptr::null_mut(), 0);
    // SAFETY: both are ours to write to.
    let done = unsafe {
        WTSQuerySessionInformationW(ptr::null_mut(), session, what, &raw mut buffer, &raw mut bytes)
    };
    if done == 0 { Err(io::Error::last_os_error()) } else { Ok(buffer) }
}

/// `text` must be one, with its end.
unsafe fn read(text: PWSTR) -> String {
    let mut units = Vec::new();
    // SAFETY: by contract, up to its end.
    unsafe {
        for at in 0.. {
            match text.add(at).read() {
                0 => break,
                unit => units.push(unit),
            }
        }
    }
    String::from_utf16_lossy(&units)
}
