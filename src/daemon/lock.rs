//! Is another daemon running here?

use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Held as long as the daemon lives; the kernel lets go of it when it dies.
#[derive(Debug)]
pub(super) struct Lock {
    file: Flock<File>,
    path: PathBuf,
}

/// Why the lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The first one.
    #[error(
        "sessionip is already running as process {pid} with the control socket {}: stop that one \
         first, or give this one a control path of its own",
        control.display()
    )]
    Taken {
        /// What it wrote into the lock file.
        pid: String,
        /// The control socket that both want.
        control: PathBuf,
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
    /// Locks the file beside the control socket.
    ///
    /// # Errors
    /// [`LockError`].
    pub(super) fn take(control: &Path) -> Result<Self, LockError> {
        let mut path = control.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let unusable = |source| LockError::Unusable { path: path.clone(), source };
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(unusable)?;
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(unusable)?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((mut file, nix::Error::EWOULDBLOCK)) => {
                let mut pid = String::new();
                file.read_to_string(&mut pid).map_err(unusable)?;
                let pid = pid.trim().to_owned();
                return Err(LockError::Taken { pid, control: control.to_owned() });
            }
            Err((_, errno)) => return Err(unusable(errno.into())),
        };
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(unusable)?;
        Ok(Self { file, path })
    }

    /// Lets go of it and takes the file away.
    pub(super) fn release(self) {
        // Unlinked while still locked: who waits for it finds a new file.
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "the lock file stays");
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
        let control = directory.path().join("run/control.sock");
        let first = Lock::take(&control).unwrap();
        let refused = Lock::take(&control).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        first.release();
        Lock::take(&control).unwrap().release();
        assert!(!directory.path().join("run/control.sock.lock").exists());
    }
}
