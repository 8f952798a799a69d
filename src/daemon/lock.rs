//! Is another daemon running here?

use crate::guard::private_folder;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// What is locked.
const LOCK: &str = "daemon.lock";
/// Who has it: on Windows nobody else can read a file that is locked.
const PID: &str = "daemon.pid";

/// Held as long as the daemon lives; the kernel lets go of it when it dies.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    folder: PathBuf,
}

/// Why the lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The first one.
    #[error(
        "sessionip is already running as process {pid} with the state directory {}: stop that \
         one first, or give this one a state-dir and a control of its own",
        folder.display()
    )]
    Taken {
        /// What it wrote beside the lock file.
        pid: String,
        /// The state directory that both want.
        folder: PathBuf,
    },
    /// The directory cannot be made or written.
    #[error("cannot lock {}: {source}", path.display())]
    Unusable {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Lock {
    /// Locks a file in the state directory, which is made if it is not there: two
    /// daemons must not write the same leases.
    ///
    /// # Errors
    /// [`LockError`].
    pub(crate) fn take(folder: &Path) -> Result<Self, LockError> {
        let path = folder.join(LOCK);
        let unusable = |source| LockError::Unusable { path: path.clone(), source };
        private_folder(folder).map_err(unusable)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = std::fs::read_to_string(folder.join(PID)).map_err(unusable)?;
                return Err(LockError::Taken { pid, folder: folder.to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        std::fs::write(folder.join(PID), std::process::id().to_string()).map_err(unusable)?;
        Ok(Self { file, folder: folder.to_owned() })
    }

    /// Lets go of it and takes the files away.
    pub(crate) fn release(self) {
        // Unlinked while still locked where the system can: who waits for it finds
        // a new file.
        for name in [PID, LOCK] {
            if let Err(error) = std::fs::remove_file(self.folder.join(name)) {
                tracing::debug!(%error, name, "a file of the lock stays");
            }
        }
        drop(self.file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_of_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("state");
        let first = Lock::take(&folder).unwrap();
        let refused = Lock::take(&folder).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {} ", std::process::id())), "{refused}");
        first.release();
        Lock::take(&folder).unwrap().release();
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    }
}
