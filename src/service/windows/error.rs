//! Why did the service control manager say no, and what helps?

use std::io;
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_DEPENDENT_SERVICES_RUNNING, ERROR_FAILED_SERVICE_CONTROLLER_CONNECT,
    ERROR_FILE_NOT_FOUND, ERROR_PATH_NOT_FOUND, ERROR_SERVICE_ALREADY_RUNNING,
    ERROR_SERVICE_CANNOT_ACCEPT_CTRL, ERROR_SERVICE_DEPENDENCY_DELETED,
    ERROR_SERVICE_DEPENDENCY_FAIL, ERROR_SERVICE_DISABLED, ERROR_SERVICE_DOES_NOT_EXIST,
    ERROR_SERVICE_EXISTS, ERROR_SERVICE_LOGON_FAILED, ERROR_SERVICE_MARKED_FOR_DELETE,
    ERROR_SERVICE_NOT_ACTIVE, ERROR_SERVICE_REQUEST_TIMEOUT,
};

/// Something about the service was not done.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The manager refused.
    #[error("cannot {what}{}", advice(source))]
    Refused {
        /// What was to be done.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It was asked to, and is not there yet.
    #[error(
        "the service does not {what} within {seconds} s; the event log (source sessionip) and \
         {} say more",
        crate::places::log_file().display()
    )]
    Slow {
        /// `start` or `stop`.
        what: &'static str,
        /// How long was waited.
        seconds: u64,
    },
    /// It came to its end while it was starting.
    #[error(
        "the service started and ended again; the event log (source sessionip) and {} say why",
        crate::places::log_file().display()
    )]
    Ended,
}

impl ServiceError {
    pub(super) fn refused(what: &'static str) -> impl FnOnce(windows_service::Error) -> Self {
        move |error| Self::Refused { what, source: say(error) }
    }

    /// The system's number for it.
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::Refused { source, .. } => source.raw_os_error().map(i32::cast_unsigned),
            Self::Slow { .. } | Self::Ended => None,
        }
    }
}

/// The system's error behind one of the crate's, which prints only that there
/// was one.
pub fn say(error: windows_service::Error) -> io::Error {
    if let windows_service::Error::Winapi(source) = error {
        return source;
    }
    io::Error::other(error)
}

/// What helps.
fn advice(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(i32::cast_unsigned) {
        Some(ERROR_ACCESS_DENIED) => {
            " (that takes an elevated administrator: \"Run as administrator\")"
        }
        Some(ERROR_SERVICE_EXISTS) => " (it is installed already)",
        Some(ERROR_SERVICE_DOES_NOT_EXIST) => {
            " (it is not installed: `sessionip service install` does that)"
        }
        Some(ERROR_SERVICE_MARKED_FOR_DELETE) => {
            " (it was uninstalled, and goes when its last handle is closed: close services.msc \
             and Task Manager, then try again)"
        }
        Some(ERROR_SERVICE_ALREADY_RUNNING) => " (it runs already)",
        Some(ERROR_SERVICE_NOT_ACTIVE) => " (it does not run)",
        Some(ERROR_SERVICE_DISABLED) => " (it is disabled: set its start type to Automatic)",
        Some(ERROR_SERVICE_DEPENDENCY_FAIL | ERROR_SERVICE_DEPENDENCY_DELETED) => {
            " (the Base Filtering Engine, BFE, does not run, and WinDivert needs it)"
        }
        Some(ERROR_SERVICE_REQUEST_TIMEOUT) => " (the program did not answer in time)",
        Some(ERROR_SERVICE_CANNOT_ACCEPT_CTRL) => " (it is starting or stopping: wait a moment)",
        Some(ERROR_SERVICE_LOGON_FAILED) => " (its account was changed: it must be LocalSystem)",
        Some(ERROR_DEPENDENT_SERVICES_RUNNING) => " (a service that depends on it runs)",
        Some(ERROR_FILE_NOT_FOUND | ERROR_PATH_NOT_FOUND) => {
            " (sessionip.exe was moved: install the service again from where it is now)"
        }
        Some(ERROR_FAILED_SERVICE_CONTROLLER_CONNECT) => " (no service control manager waits)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_helps_is_said() {
        let refused = |code: u32| {
            let source = io::Error::from_raw_os_error(code.cast_signed());
            ServiceError::Refused { what: "start the service", source }
        };
        for (code, hint) in [(5, "elevated"), (1060, "service install"), (1072, "services.msc")] {
            let error = refused(code);
            assert_eq!(error.code(), Some(code));
            assert!(error.to_string().contains(hint), "{error}");
        }
        assert_eq!(refused(1).to_string(), "cannot start the service");
    }
}
