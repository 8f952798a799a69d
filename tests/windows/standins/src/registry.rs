//! Which processes were put into a session, rather than born there?
//!
//! A file `C:\standin\processes\PID` holds the number of a session, and, if it
//! was written by [`enter`], when that process began, so that the next process
//! with that number is not taken for it.

use std::{fs, io, path::PathBuf};

/// A process that was put into a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The session's number.
    pub(crate) session: u32,
    /// The process's beginning, a `FILETIME`; `None` if a test wrote the file.
    pub(crate) began: Option<u64>,
}

/// A process that is in a session until this is dropped.
#[derive(Debug)]
pub(crate) struct Entered(PathBuf);

impl Drop for Entered {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Puts a process into a session.
pub(crate) fn enter(process: u32, entry: Entry) -> io::Result<Entered> {
    let path = path(process);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // Readers see all of it or nothing.
    let whole = path.with_extension("new");
    let began = entry.began.map(|began| format!(" {began}")).unwrap_or_default();
    fs::write(&whole, format!("{}{began}\n", entry.session))?;
    fs::rename(&whole, &path)?;
    Ok(Entered(path))
}

/// Where it says so of a process.
pub(crate) fn path(process: u32) -> PathBuf {
    PathBuf::from(format!(r"C:\standin\processes\{process}"))
}
