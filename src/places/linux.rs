//! The file system hierarchy (hier(7)).

use std::path::PathBuf;

/// The configuration.
pub fn config_file() -> PathBuf {
    "/etc/sessionip/sessionip.toml".into()
}

/// The folder of the leases and the journal.
pub fn state_directory() -> String {
    "/var/lib/sessionip".into()
}

/// The control socket.
pub fn control() -> String {
    "/run/sessionip/control.sock".into()
}

/// How the daemon is started.
pub const START: &str = "systemctl start sessionip";
