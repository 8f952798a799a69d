//! File modes, and root.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// May this process do what the daemon does?
pub fn is_administrator() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Makes `folder`, and those above it that are missing, for the daemon's user
/// alone. One that is there is left as it is.
///
/// # Errors
/// It cannot be made.
pub fn private_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Has the names in `folder` reach the disk (fsync(2)).
///
/// # Errors
/// They do not.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Can nobody but its owner open it?
#[cfg(test)]
pub(crate) fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|found| found.permissions().mode() & 0o077 == 0)
}
