//! The event source `sessionip` of the Application log.
//!
//! `service install` registers it: which file has the sentences. Without that the
//! viewer shows the insertions alone.

use super::super::event::{Event, Severity};
use crate::guard::windows::wide;
use crate::service::windows::NAME;
use std::io;
use std::path::Path;
use std::ptr;
use windows_sys::Win32::Foundation::{ERROR_FILE_NOT_FOUND, HANDLE};
use windows_sys::Win32::System::EventLog::{
    DeregisterEventSource, EVENTLOG_ERROR_TYPE, EVENTLOG_INFORMATION_TYPE, EVENTLOG_WARNING_TYPE,
    REPORT_EVENT_TYPE, RegisterEventSourceW, ReportEventW,
};
use windows_sys::Win32::System::Registry::{
    HKEY_LOCAL_MACHINE, REG_DWORD, REG_EXPAND_SZ, RegDeleteKeyW, RegSetKeyValueW,
};

/// Where the event log looks sources up (EventLog key of its documentation).
const SOURCES: &str = r"SYSTEM\CurrentControlSet\Services\EventLog\Application";

/// The log cuts a message at 31,839 characters; nothing that is read is so long.
const LONGEST: usize = 8_000;

/// Puts an event into the Application log.
pub(in crate::observe) fn record(event: &Event<'_>) {
    if let Err(error) = report(NAME, event) {
        tracing::debug!(%error, id = event.id(), "the event log did not take an event");
    }
}

/// Tells the event log that `executable` has the sentences of the source.
///
/// # Errors
/// The registry is not to be written to: it takes an administrator.
pub fn register(name: &str, executable: &Path) -> io::Result<()> {
    let file = wide(executable.as_os_str());
    let file_size = size_of_val(file.as_slice()) as u32;
    set_value(name, "EventMessageFile", REG_EXPAND_SZ, file.as_ptr().cast(), file_size)?;
    let types: u32 =
        (EVENTLOG_ERROR_TYPE | EVENTLOG_WARNING_TYPE | EVENTLOG_INFORMATION_TYPE).into();
    set_value(name, "TypesSupported", REG_DWORD, (&raw const types).cast(), size_of::<u32>() as u32)
}

/// Takes the source out again; one that is not there is none.
///
/// # Errors
/// The registry is not to be written to: it takes an administrator.
#[expect(unsafe_code, reason = "a call into advapi32")]
pub fn unregister(name: &str) -> io::Result<()> {
    let key = key(name);
    // SAFETY: the name ends with a zero.
    match unsafe { RegDeleteKeyW(HKEY_LOCAL_MACHINE, key.as_ptr()) } {
        0 | ERROR_FILE_NOT_FOUND => Ok(()),
        error => Err(io::Error::from_raw_os_error(error.cast_signed())),
    }
}

fn key(name: &str) -> Vec<u16> {
    wide(format!(r"{SOURCES}\{name}").as_ref())
}

/// Sets a value of the source's key, which is made if it is not there. `data`
/// points to `size` bytes of what `kind` says.
#[expect(unsafe_code, reason = "a call into advapi32")]
fn set_value(
    name: &str,
    value: &str,
    kind: u32,
    data: *const std::ffi::c_void,
    size: u32,
) -> io::Result<()> {
    let (key, value) = (key(name), wide(value.as_ref()));
    // SAFETY: both names end with a zero, and the callers' data is as long as they
    // say.
    let status = unsafe {
        RegSetKeyValueW(HKEY_LOCAL_MACHINE, key.as_ptr(), value.as_ptr(), kind, data, size)
    };
    if status == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(status.cast_signed())) }
}

/// Writes one event under a source's name.
#[expect(unsafe_code, reason = "calls into advapi32")]
fn report(name: &str, event: &Event<'_>) -> io::Result<()> {
    let insertions: Vec<Vec<u16>> = event
        .insertions()
        .into_iter()
        // Cut at a character; and a zero within would end the text there.
        .map(|text| text.chars().filter(|c| *c != '\0').take(LONGEST).collect::<String>())
        .map(|text| wide(text.as_ref()))
        .collect();
    let strings: Vec<*const u16> = insertions.iter().map(|text| text.as_ptr()).collect();
    let count = u16::try_from(strings.len()).unwrap_or(u16::MAX);
    let source = wide(name.as_ref());
    // SAFETY: all texts end with a zero and live until the calls are over; the
    // handle is open until it is closed, once.
    unsafe {
        let log: HANDLE = RegisterEventSourceW(ptr::null(), source.as_ptr());
        if log.is_null() {
            return Err(io::Error::last_os_error());
        }
        let reported = ReportEventW(
            log,
            kind(event.severity()),
            0,
            message_id(event),
            ptr::null_mut(),
            count,
            0,
            strings.as_ptr(),
            ptr::null(),
        );
        let failed = (reported == 0).then(io::Error::last_os_error);
        DeregisterEventSource(log);
        failed.map_or(Ok(()), Err)
    }
}

fn kind(severity: Severity) -> REPORT_EVENT_TYPE {
    match severity {
        Severity::Information => EVENTLOG_INFORMATION_TYPE,
        Severity::Warning => EVENTLOG_WARNING_TYPE,
        Severity::Error => EVENTLOG_ERROR_TYPE,
    }
}

/// An event's number in the message table: the viewer shows the lower half.
fn message_id(event: &Event<'_>) -> u32 {
    let severity: u32 = match event.severity() {
        Severity::Information => 1,
        Severity::Warning => 2,
        Severity::Error => 3,
    };
    severity << 30 | u32::from(event.id())
}

#[cfg(test)]
mod tests {
    use super::super::super::event::tests::all;
    use super::*;
    use crate::guard::windows::narrow;
    use windows_sys::Win32::System::Diagnostics::Debug::{
        FORMAT_MESSAGE_ARGUMENT_ARRAY, FORMAT_MESSAGE_FROM_HMODULE, FormatMessageW,
    };
    use windows_sys::Win32::System::Registry::{RRF_NOEXPAND, RRF_RT_REG_EXPAND_SZ, RegGetValueW};

    /// What the viewer makes of an event, from the table in this executable.
    #[expect(unsafe_code, reason = "a call into kernel32")]
    fn as_shown(event: &Event<'_>) -> String {
        let insertions: Vec<Vec<u16>> =
            event.insertions().iter().map(|text| wide(text.as_ref())).collect();
        let arguments: Vec<*const u16> = insertions.iter().map(|text| text.as_ptr()).collect();
        let mut buffer = [0_u16; 512];
        // SAFETY: the buffer is as long as said; there are as many arguments as the
        // message has insertions; no module is the executable itself.
        let length = unsafe {
            FormatMessageW(
                FORMAT_MESSAGE_FROM_HMODULE | FORMAT_MESSAGE_ARGUMENT_ARRAY,
                ptr::null(),
                message_id(event),
                0,
                buffer.as_mut_ptr(),
                512,
                arguments.as_ptr().cast_mut().cast(),
            )
        };
        assert_ne!(length, 0, "{event:?}: {}", io::Error::last_os_error());
        narrow(&buffer).replace("\r\n", "\n")
    }

    #[test]
    fn the_executable_has_every_sentence() {
        for event in all() {
            assert_eq!(as_shown(&event).trim_end(), event.to_string());
        }
    }

    #[test]
    fn the_event_log_takes_events() {
        for event in all() {
            report("sessionip-test", &event).unwrap();
        }
    }

    #[test]
    #[expect(unsafe_code, reason = "a call into advapi32")]
    fn a_source_is_registered_and_taken_out() {
        let name = "sessionip-test-source";
        let file = || {
            let mut buffer = [0_u16; 260];
            let mut size = size_of_val(&buffer) as u32;
            let value = wide("EventMessageFile".as_ref());
            // SAFETY: names end with a zero, the buffer is as long as said.
            let status = unsafe {
                RegGetValueW(
                    HKEY_LOCAL_MACHINE,
                    key(name).as_ptr(),
                    value.as_ptr(),
                    RRF_RT_REG_EXPAND_SZ | RRF_NOEXPAND,
                    ptr::null_mut(),
                    buffer.as_mut_ptr().cast(),
                    &raw mut size,
                )
            };
            (status == 0).then(|| narrow(&buffer))
        };
        register(name, Path::new(r"C:\a folder\sessionip.exe")).unwrap();
        assert_eq!(file().as_deref(), Some(r"C:\a folder\sessionip.exe"));
        unregister(name).unwrap();
        assert_eq!(file(), None);
        unregister(name).unwrap();
    }
}
