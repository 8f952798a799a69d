//! Where do links and maps live while no daemon does?
//!
//! `<pin directory>/v<layout>/` has the maps under their own names and the
//! links as `link-<program>`, and programs for rules to run as `program-<program>`. The pin directory is a bpffs of its own, mounted
//! here unless it lies in one already.

use super::links;
use crate::companion::{LoadError, UnloadError};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The pins of this layout.
#[derive(Debug)]
pub(super) struct Pins {
    directory: PathBuf,
    current: PathBuf,
    /// Nobody left anything of this layout.
    is_new: bool,
}

impl Pins {
    pub(super) fn prepare(directory: &Path) -> Result<Self, LoadError> {
        let failed =
            |action, source| LoadError::Pins { action, path: directory.to_owned(), source };
        fs::create_dir_all(directory).map_err(|error| failed("create", error))?;
        let filesystem = statfs(directory).map_err(|error| failed("read", error.into()))?;
        if filesystem.filesystem_type() != BPF_FS_MAGIC {
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            mount(Some("bpf"), directory, Some("bpf"), flags, Some("mode=0700"))
                .map_err(|error| failed("mount", error.into()))?;
        }
        let current = directory.join(format!("v{}", sessionip_hook::LAYOUT));
        let is_new = !current.exists();
        fs::create_dir_all(&current).map_err(|error| failed("create a folder in", error))?;
        Ok(Self { directory: directory.to_owned(), current, is_new })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// There is nothing to take over.
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    /// The folder of this layout.
    pub(super) fn current(&self) -> &Path {
        &self.current
    }

    /// Where a program is that rules run, and no link.
    pub(super) fn program(&self, program: &str) -> PathBuf {
        self.current.join(format!("program-{program}"))
    }

    pub(super) fn link(&self, program: &str) -> PathBuf {
        self.current.join(format!("{LINK}{program}"))
    }

    /// A daemon of another version has left a hook here.
    pub(super) fn has_other_layouts(&self) -> bool {
        folders(&self.directory).into_iter().any(|folder| folder != self.current)
    }

    /// Ends a hook that a daemon of another version left. What cannot be
    /// removed only costs memory: its links are detached first.
    pub(super) fn remove_other_layouts(&self) {
        for folder in folders(&self.directory) {
            if folder != self.current
                && let Err(error) = remove_folder(&folder)
            {
                tracing::warn!(%error, "an older companion hook is still there");
            }
        }
    }
}

const LINK: &str = "link-";

/// Takes away whatever a daemon left at that pin directory, without loading
/// anything: for a stop, or a start after a crash when there is nothing to take
/// over. That nothing is there is fine.
///
/// # Errors
/// Something is still there.
pub fn forget_stale(directory: &Path) -> Result<(), UnloadError> {
    let Ok(filesystem) = statfs(directory) else { return Ok(()) };
    if filesystem.filesystem_type() == BPF_FS_MAGIC {
        for folder in folders(directory) {
            remove_folder(&folder)?;
        }
        if is_mount_point(directory) {
            umount2(directory, MntFlags::MNT_DETACH).map_err(|error| UnloadError {
                action: "unmount",
                path: directory.to_owned(),
                source: error.into(),
            })?;
        }
    }
    remove(directory, "remove", fs::remove_dir)
}

/// Only ours: a bpffs may be shared.
fn folders(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let ours = entries.filter_map(Result::ok).filter(|entry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|name| {
            name.len() == 17
                && name.starts_with('v')
                && name.bytes().skip(1).all(|byte| byte.is_ascii_hexdigit())
        })
    });
    ours.map(|entry| entry.path()).collect()
}

fn remove_folder(folder: &Path) -> Result<(), UnloadError> {
    let failed = |action| {
        let path = folder.to_owned();
        move |source| UnloadError { action, path, source }
    };
    for entry in fs::read_dir(folder).map_err(failed("read"))? {
        let entry = entry.map_err(failed("read"))?;
        if entry.file_name().to_string_lossy().starts_with(LINK) {
            // A tracepoint's goes with its pin only.
            let _ = links::detach(&entry.path());
        }
        remove(&entry.path(), "remove", fs::remove_file)?;
    }
    remove(folder, "remove", fs::remove_dir)
}

fn remove(
    path: &Path,
    action: &'static str,
    by: fn(PathBuf) -> io::Result<()>,
) -> Result<(), UnloadError> {
    match by(path.to_owned()) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(UnloadError { action, path: path.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn is_mount_point(directory: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|folder| folder.dev()).ok();
    directory.parent().is_some_and(|parent| device(parent) != device(directory))
}
