//! How do leases outlive the daemon?
//!
//! In `leases.json` of the state directory, written whole or not at all.

use super::Saved;
use crate::guard::{private_folder, sync_folder};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tracing::warn;

const FILE: &str = "leases.json";
/// What is being written, until it becomes the file.
const UNFINISHED: &str = ".leases.json.";
/// Counted up when a newer daemon writes what an older one would misread.
const VERSION: u32 = 1;

/// The lease file.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
}

/// The leases cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The state directory cannot be made.
    #[error("cannot make the state directory {path}")]
    Folder {
        /// The state directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is there and cannot be read.
    #[error("cannot read the leases in {path}")]
    Read {
        /// The lease file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A damaged file cannot be put aside.
    #[error("cannot move the damaged {path} aside")]
    Aside {
        /// The lease file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The state directory cannot be written to.
    #[error("cannot write leases to the state directory {path}")]
    Write {
        /// The state directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    #[serde(flatten)]
    saved: &'a Saved,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    #[serde(rename = "version")]
    _version: u32,
    leases: Vec<super::Lease>,
    returned: Vec<super::Returned>,
}

/// Why a file is not believed.
#[derive(Debug, thiserror::Error)]
enum Damage {
    #[error("it is not what was written")]
    Json(#[from] serde_json::Error),
    #[error("it is of version {0}, and this daemon knows {VERSION}")]
    Version(u32),
}

impl Store {
    /// Opens the store in `folder` (`state-dir`, made if it is not there) with what
    /// was saved: nothing, at the first start. A damaged file is put aside as
    /// `leases.json.damaged-TIMESTAMP`, and the daemon starts without it.
    ///
    /// # Errors
    /// The directory cannot be made, read or written to.
    pub fn open(folder: &Path, now: Timestamp) -> Result<(Self, Saved), StoreError> {
        let store = Self { folder: folder.to_owned() };
        private_folder(folder)
            .map_err(|source| StoreError::Folder { path: folder.to_owned(), source })?;
        let saved = store.load(now)?;
        // Better now than at the first logon.
        store.unfinished().map_err(|source| store.unwritable(source))?;
        store.sweep();
        Ok((store, saved))
    }

    /// Replaces what is saved. When this returns it has reached the disk.
    ///
    /// # Errors
    /// The directory cannot be written to; what was saved before is unharmed.
    pub fn save(&self, saved: &Saved) -> Result<(), StoreError> {
        self.replace(saved).map_err(|source| self.unwritable(source))
    }

    /// The lease file.
    pub fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    fn load(&self, now: Timestamp) -> Result<Saved, StoreError> {
        let path = self.path();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Saved::default()),
            Err(source) => return Err(StoreError::Read { path, source }),
        };
        match parse(&bytes) {
            Ok(saved) => Ok(saved),
            Err(damage) => {
                let aside =
                    self.put_aside(now).map_err(|source| StoreError::Aside { path, source })?;
                warn!(
                    error = &damage as &dyn std::error::Error,
                    moved_to = %aside.display(),
                    "the lease file is damaged; sessions may get other addresses than before"
                );
                Ok(Saved::default())
            }
        }
    }

    fn replace(&self, saved: &Saved) -> io::Result<()> {
        let mut file = self.unfinished()?;
        let mut buffer = io::BufWriter::new(&mut file);
        serde_json::to_writer_pretty(&mut buffer, &Written { version: VERSION, saved })?;
        buffer.write_all(b"\n")?;
        buffer.flush()?;
        drop(buffer);
        file.as_file().sync_all()?;
        file.persist(self.path())?;
        sync_folder(&self.folder)
    }

    /// A file of mode 0600 that goes away unless it is finished.
    fn unfinished(&self) -> io::Result<tempfile::NamedTempFile> {
        tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.folder)
    }

    /// Removes what a killed daemon left unfinished.
    fn sweep(&self) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for entry in entries {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                // Left again, it harms nobody.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Moves the file to a name that nothing has yet.
    fn put_aside(&self, now: Timestamp) -> io::Result<PathBuf> {
        let name = format!("{FILE}.damaged-{}", now.strftime("%Y%m%dT%H%M%SZ"));
        let names = std::iter::once(name.clone()).chain((2..).map(|n| format!("{name}-{n}")));
        for aside in names.map(|name| self.folder.join(name)) {
            // A link is refused where a rename would overwrite.
            match fs::hard_link(self.path(), &aside) {
                Ok(()) => return fs::remove_file(self.path()).map(|()| aside),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::from(io::ErrorKind::AlreadyExists))
    }

    fn unwritable(&self, source: io::Error) -> StoreError {
        StoreError::Write { path: self.folder.clone(), source }
    }
}

fn parse(bytes: &[u8]) -> Result<Saved, Damage> {
    let Version { version } = serde_json::from_slice(bytes)?;
    if version != VERSION {
        return Err(Damage::Version(version));
    }
    let Read { leases, returned, _version } = serde_json::from_slice(bytes)?;
    Ok(Saved { leases, returned })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::is_private;
    use crate::lease::{Lease, Returned};
    use crate::session::SessionId;

    fn now() -> Timestamp {
        "2026-11-21T20:58:00Z".parse().unwrap()
    }

    fn some() -> Saved {
        let address = "10.77.0.101".parse().unwrap();
        let lease = Lease { session: SessionId(7), user: "ana".into(), address, since: now() };
        let address = "10.77.0.102".parse().unwrap();
        Saved {
            leases: vec![lease],
            returned: vec![Returned { address, user: "bo".into(), at: now() }],
        }
    }

    fn files(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_saved_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("var/lib/sessionip");
        let (store, saved) = Store::open(&folder, now()).unwrap();
        assert_eq!(saved, Saved::default());
        store.save(&some()).unwrap();
        assert_eq!(Store::open(&folder, now()).unwrap().1, some());
        assert_eq!(files(&folder), ["leases.json"]);
        assert!(is_private(&store.path()) && is_private(&folder));
    }

    /// As every daemon before IPv6 has written it.
    #[test]
    fn a_file_from_before_ipv6_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"version": 1,
            "leases": [{"session": 7, "user": "ana", "address": "10.77.0.101",
                        "since": "2026-11-21T20:58:00Z"}],
            "returned": [{"address": "10.77.0.102", "user": "bo", "at": "2026-11-21T20:58:00Z"}]}"#;
        fs::write(folder.path().join(FILE), text).unwrap();
        let (store, saved) = Store::open(folder.path(), now()).unwrap();
        assert_eq!(saved, some());
        let six = Lease { address: "fd77::101".parse().unwrap(), ..some().leases[0].clone() };
        let both = Saved { leases: vec![some().leases[0].clone(), six], ..some() };
        store.save(&both).unwrap();
        assert_eq!(Store::open(folder.path(), now()).unwrap().1, both);
    }

    #[test]
    fn a_damaged_file_is_put_aside_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let whole = serde_json::to_string(&Written { version: VERSION, saved: &some() }).unwrap();
        let damaged = [
            String::new(),
            whole[..whole.len() / 2].to_owned(),
            whole.replace("10.77.0.101", "10.77.0"),
            whole.replace("\"version\":1", "\"version\":2"),
            whole.replace("\"user\"", "\"usre\""),
        ];
        for text in &damaged {
            fs::write(folder.path().join(FILE), text).unwrap();
            assert_eq!(Store::open(folder.path(), now()).unwrap().1, Saved::default(), "{text}");
        }
        let name = "leases.json.damaged-20261121T205800Z";
        let expected = ["".into(), "-2".into(), "-3".into(), "-4".into(), "-5".to_owned()]
            .map(|suffix| format!("{name}{suffix}"));
        assert_eq!(files(folder.path()), expected);
        for (name, text) in expected.iter().zip(&damaged) {
            assert_eq!(&fs::read_to_string(folder.path().join(name)).unwrap(), text);
        }
    }

    #[test]
    fn what_was_left_unfinished_is_swept_away() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".leases.json.x1y2z3"), "{").unwrap();
        Store::open(folder.path(), now()).unwrap();
        assert!(files(folder.path()).is_empty());
    }

    #[test]
    fn a_state_directory_that_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "").unwrap();
        let error = Store::open(&path, now()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot make the state directory {}", path.display())
        );
        // Nobody can make a file in /proc, not even root. Windows has no such place.
        let proc = Path::new("/proc/self");
        if proc.exists() {
            let error = Store::open(proc, now()).unwrap_err();
            assert_eq!(error.to_string(), "cannot write leases to the state directory /proc/self");
        }
    }
}
