//! What is in a scope, and how does a process get in?

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The calling process could not enter a scope.
#[derive(Debug, thiserror::Error)]
#[error("cannot enter {path}")]
pub struct EnterError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl EnterError {
    /// Has the session just ended? Then it can be opened again.
    pub fn is_gone(&self) -> bool {
        // The folder, or what was behind the open file.
        matches!(self.source.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
    }
}

/// A scope could not be removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot remove {path}{}", if self.has_processes() { ": it has processes" } else { "" })]
pub struct CloseError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl CloseError {
    /// Is it only that the scope is not empty?
    pub fn has_processes(&self) -> bool {
        self.source.kind() == io::ErrorKind::ResourceBusy
    }
}

/// Moves the calling process, with all its threads, into the scope at `path`.
/// What it starts from now on, and every socket it makes, belongs there too.
///
/// # Errors
/// The scope is gone (its session has just ended), or the caller is not root.
pub fn enter_scope(path: &Path) -> Result<(), EnterError> {
    // cgroups(7): 0 is the writing process.
    fs::write(path.join("cgroup.procs"), "0")
        .map_err(|source| EnterError { path: path.to_owned(), source })
}

/// The processes of the scope at `path` and of the cgroups below it; none if it
/// is gone.
pub fn processes(path: &Path) -> Vec<u32> {
    let mut found = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        let listed = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        // A process of a foreign PID namespace is listed as 0.
        found.extend(
            listed.lines().filter_map(|pid| pid.parse().ok()).filter(|pid: &u32| *pid != 0),
        );
        folders.extend(folders_in(&folder));
    }
    found
}

/// Removes the scope at `path` and the cgroups below it. One that is gone
/// already is no error.
///
/// # Errors
/// There are processes in it ([`CloseError::has_processes`]).
pub fn close_scope(path: &Path) -> Result<(), CloseError> {
    for folder in folders_in(path) {
        close_scope(&folder)?;
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|source| CloseError { path: path.to_owned(), source }),
    }
}

/// Does the scope at `path`, or a cgroup below it, have a process? `None`: it is
/// gone.
pub(super) fn is_populated(path: &Path) -> Option<bool> {
    let events = fs::read_to_string(path.join("cgroup.events")).ok()?;
    Some(events.lines().any(|line| line == "populated 1"))
}

/// The cgroup's id: the inode number of its folder. Never used twice.
pub(super) fn cgroup_id(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().map(|folder| folder.ino())
}

/// The folders right below `path`, in order.
pub(super) fn folders_in(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let mut folders: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect();
    folders.sort();
    folders
}
