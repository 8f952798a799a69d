//! What is wrong where WinDivert does not work, and what is to be done?

use std::io;
use std::path::{Path, PathBuf};

/// A hop limit ended (`ERROR_HOST_UNREACHABLE`).
pub(super) const HOST_UNREACHABLE: i32 = 1232;
/// The handle is shut down and its queue empty (`ERROR_NO_DATA`).
pub(super) const NO_DATA: i32 = 232;
/// The packet is longer than the room for it (`ERROR_INSUFFICIENT_BUFFER`).
pub(super) const INSUFFICIENT_BUFFER: i32 = 122;
/// `ERROR_NOT_ENOUGH_MEMORY`, `ERROR_NO_SYSTEM_RESOURCES`.
pub(super) const NO_RESOURCES: [i32; 2] = [8, 1450];

/// WinDivert cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No DLL.
    #[error("{} is missing: reinstall, or put it back beside the program", path.display())]
    NoDll {
        /// Where it should be.
        path: PathBuf,
    },
    /// A DLL that is not loaded.
    #[error("{} cannot be loaded: it has to be the 64-bit one of WinDivert 2.2", path.display())]
    BadDll {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A DLL that is not WinDivert's.
    #[error("{} has no {function}: it has to be the one of WinDivert 2.2", path.display())]
    OtherDll {
        /// Which.
        path: PathBuf,
        /// What it lacks.
        function: &'static str,
    },
    /// No driver file, or the driver service names one that is gone.
    #[error(
        "the driver WinDivert64.sys is not where it should be: put it back beside WinDivert.dll; \
         if it is there, the service WinDivert names an old place: `sc delete WinDivert`, and \
         restart the host if that says it is marked for deletion"
    )]
    NoDriver,
    /// Not elevated.
    #[error("diverting packets needs an elevated administrator or the SYSTEM account")]
    NotElevated,
    /// The driver's signature is refused.
    #[error(
        "Windows refuses the signature of WinDivert64.sys: use the official file of WinDivert \
         2.2.2, unchanged, and install the updates of the root certificates"
    )]
    Signature,
    /// Another product has loaded a driver of another major version.
    #[error(
        "another product has loaded an incompatible version of the WinDivert driver: stop that \
         product, then `sc stop WinDivert`"
    )]
    OtherVersion,
    /// Another product has loaded an older driver.
    #[error(
        "another product has loaded WinDivert {major}.{minor}, and 2.2 is needed: stop that \
         product, then `sc stop WinDivert`"
    )]
    OldDriver {
        /// Its version.
        major: u64,
        /// The rest of it.
        minor: u64,
    },
    /// The service is disabled, or was stopped while in use.
    #[error(
        "the service WinDivert is disabled or about to stop: end all programs that use \
         WinDivert, `sc stop WinDivert` until it says that it is not started, and `sc config \
         WinDivert start= demand` if it is disabled"
    )]
    Disabled,
    /// The service is to be deleted.
    #[error(
        "the service WinDivert is marked for deletion: end all programs that use WinDivert, \
         `sc stop WinDivert`, or restart the host"
    )]
    MarkedForDeletion,
    /// There is no service, and it could not be made.
    #[error("the service WinDivert does not exist and was not created: reinstall")]
    NoService,
    /// Windows or other software keeps the driver from loading.
    #[error(
        "Windows or security software blocks the WinDivert driver: allow WinDivert64.sys (by its \
         hash) in the antivirus, in application control and in the list of blocked drivers"
    )]
    Blocked,
    /// The Base Filtering Engine does not run.
    #[error("the Base Filtering Engine does not run: `sc config BFE start= auto`, `net start BFE`")]
    NoFilteringEngine,
    /// Parameters that the driver does not know.
    #[error("the WinDivert driver does not take what it is asked for: it has to be version 2.2")]
    Parameter,
    /// Something else of Windows failed.
    #[error("WinDivert cannot be opened")]
    System(#[source] io::Error),
}

impl OpenError {
    /// Of what `WinDivertOpen` said.
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.raw_os_error().unwrap_or_default() {
            2 | 3 => Self::NoDriver,
            5 => Self::NotElevated,
            87 => Self::Parameter,
            577 => Self::Signature,
            654 => Self::OtherVersion,
            1058 => Self::Disabled,
            1060 => Self::NoService,
            1072 => Self::MarkedForDeletion,
            // ERROR_DRIVER_BLOCKED, which the documentation has as 1257, too; by
            // policy; by code integrity; and what Avast makes of it.
            1275 | 1257 | 1260 | 4551 | 592 => Self::Blocked,
            1753 => Self::NoFilteringEngine,
            code => Self::System(io::Error::from_raw_os_error(code)),
        }
    }

    /// Of what `LoadLibraryExW` said.
    pub(super) fn of_dll(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.raw_os_error() {
            Some(2 | 3 | 126) => Self::NoDll { path },
            _ => Self::BadDll { path, source },
        }
    }
}

/// What is to be led here could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// The system does not say how many packets the host has had.
    #[error("the host's packets are not counted: {0}")]
    Uncounted(#[source] io::Error),
    /// A handle was refused.
    #[error("the {handle} handle cannot be opened")]
    Open {
        /// Which.
        handle: &'static str,
        /// Why.
        source: OpenError,
    },
    /// A filter was refused.
    #[error("the {handle} handle's filter is not understood: {flaw}")]
    Filter {
        /// Which.
        handle: &'static str,
        /// Why.
        flaw: String,
    },
    /// A queue could not be set up.
    #[error("the {handle} handle's queue cannot be set up")]
    Queue {
        /// Which.
        handle: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The diverter does not take turns.
    #[error("the packet thread does not take what is to be diverted: it hangs")]
    Hangs,
    /// There is no diverter any more.
    #[error("the packet thread has ended")]
    Gone,
}

/// What a turn says when no more packets will come.
pub(super) fn gone(source: &io::Error) -> io::Error {
    io::Error::new(source.kind(), format!("the WinDivert driver is gone: {source}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_fail_has_its_words() {
        let words = [
            (2, "put it back beside WinDivert.dll"),
            (3, "put it back beside WinDivert.dll"),
            (5, "elevated administrator"),
            (87, "has to be version 2.2"),
            (577, "refuses the signature"),
            (592, "security software"),
            (654, "another product has loaded"),
            (1058, "about to stop"),
            (1060, "does not exist"),
            (1072, "marked for deletion"),
            (1257, "security software"),
            (1260, "security software"),
            (1275, "security software"),
            (1753, "net start BFE"),
            (4551, "security software"),
            (31, "cannot be opened"),
        ];
        for (code, expected) in words {
            let error = OpenError::of(&io::Error::from_raw_os_error(code));
            assert!(error.to_string().contains(expected), "{code}: {error}");
        }
    }

    #[test]
    fn a_dll_is_missing_or_bad() {
        let path = Path::new("there").join("WinDivert.dll");
        let of = |code| OpenError::of_dll(&path, io::Error::from_raw_os_error(code));
        assert!(matches!(of(126), OpenError::NoDll { .. }));
        assert!(of(126).to_string().contains("WinDivert.dll is missing"));
        assert!(of(193).to_string().contains("64-bit"), "{}", of(193));
    }

    #[test]
    fn a_driver_that_vanished_is_named() {
        let error = gone(&io::Error::from_raw_os_error(995));
        assert!(error.to_string().starts_with("the WinDivert driver is gone: "), "{error}");
    }
}
