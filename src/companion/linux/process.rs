//! Which file does a process run, and where does it stand?

use crate::policy::Standing;
use sessionip_hook::layout::FileId;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The file at that path as the kernel tells files apart: (device, inode). On
/// btrfs and some overlays stat(2) tells another device than the kernel's: there
/// a program is known by its path and its name only.
pub fn file_of(path: &Path) -> Option<(u32, u64)> {
    file_id(path).map(|id| (id.device, id.inode))
}

/// What stands at a listed path now.
pub fn standing(path: &Path) -> Option<Standing> {
    Some(Standing { paths: vec![crate::companion::real_path(path)], file: file_of(path) })
}

pub(super) fn file_id(path: &Path) -> Option<FileId> {
    fs::metadata(path).ok().map(|file| id_of(&file))
}

/// The kernel's own form: MKDEV of include/linux/kdev_t.h.
fn id_of(file: &Metadata) -> FileId {
    let device = (libc::major(file.dev()) << 20) | libc::minor(file.dev());
    FileId { inode: file.ino(), device, zero: 0 }
}

/// The program that a process runs now: the path that it was started from, also
/// where another file stands there by now, or none (proc_pid_exe(5)), and
/// (device, inode).
pub fn executable(pid: u32) -> Option<(PathBuf, (u32, u64))> {
    let link = format!("/proc/{pid}/exe");
    let file = id_of(&fs::metadata(&link).ok()?);
    let path = fs::read_link(&link).ok()?;
    let path = match path.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
        // A file may be called so.
        Some(before) if file_id(&path) != Some(file) => PathBuf::from(OsStr::from_bytes(before)),
        Some(_) | None => path,
    };
    Some((path, (file.device, file.inode)))
}

/// The processes that there are.
pub(super) fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Fields 22 and 4 of /proc/PID/stat, proc_pid_stat(5). The name before them
/// may have spaces and parentheses of its own.
pub(super) fn start_and_parent(pid: u32) -> Option<(u64, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let parent = fields.nth(1)?.parse().ok()?;
    let start = fields.nth(17)?.parse().ok()?;
    Some((start, parent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    fn sleeper(path: &Path) -> Child {
        fs::copy("/bin/sleep", path).unwrap();
        Command::new(path).arg("60").stdin(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn a_program_has_the_path_it_was_started_from() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
        let path = at("program (deleted)");
        let mut child = sleeper(&path);
        let file = file_of(&path).unwrap();
        assert_eq!(executable(child.id()), Some((path.clone(), file)), "a name like any other");
        // Another link keeps the file, and it is gone from its path all the same.
        fs::hard_link(&path, at("kept")).unwrap();
        fs::write(at("new"), "").unwrap();
        fs::rename(at("new"), &path).unwrap();
        assert_eq!(executable(child.id()), Some((path, file)));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(executable(u32::MAX), None);
    }

    #[test]
    fn this_process_has_a_parent_and_a_start() {
        let (start, parent) = start_and_parent(std::process::id()).unwrap();
        assert_eq!(parent, std::os::unix::process::parent_id());
        assert!(start > 0);
        assert!(all().any(|pid| pid == std::process::id()));
    }
}
