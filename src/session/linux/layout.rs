//! Where in the cgroup tree are the sessions?

use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// Where the scopes of sessions are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The folder where the cgroup v2 tree begins.
    pub cgroup_root: PathBuf,
    /// The folder under the root that holds our own scopes: `sessionip`, or
    /// `sessionip.net-INODE` in a network namespace that is not PID 1's.
    pub own_parent: String,
    /// The folder under the root that holds logind's slices; `None`: logind's
    /// sessions are none of ours.
    pub logind: Option<PathBuf>,
    /// Where logind says what each of its sessions is.
    pub logind_state: PathBuf,
}

/// Why the cgroup tree of this machine cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// Something in `/proc` cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// What was to be read.
        path: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// There is no cgroup v2 tree.
    #[error(
        "no cgroup v2 file system is mounted, and sessions are told apart by their cgroup; \
         mount one: mkdir -p /sys/fs/cgroup/unified && \
         mount -t cgroup2 none /sys/fs/cgroup/unified"
    )]
    NoCgroup2,
}

impl Layout {
    /// The layout of this machine, seen from the calling thread's network
    /// namespace: logind's sessions belong to PID 1's, and any other has scopes
    /// of its own, so that a daemon in a laboratory never takes the host's.
    ///
    /// # Errors
    /// No cgroup v2 tree is mounted, or `/proc` is not readable.
    pub fn of_this_machine() -> Result<Self, LayoutError> {
        const MOUNTS: &str = "/proc/self/mountinfo";
        let mounts =
            fs::read(MOUNTS).map_err(|source| LayoutError::Read { path: MOUNTS, source })?;
        let cgroup_root = cgroup2_mount(&mounts).ok_or(LayoutError::NoCgroup2)?;
        let here = inode("/proc/thread-self/ns/net")?;
        // Every network namespace has files of its own here. `/proc/1/ns/net` would
        // say the same, but only to those who may trace PID 1.
        let first = inode("/proc/thread-self/net/dev")? == inode("/proc/1/net/dev")?;
        Ok(Self {
            cgroup_root,
            own_parent: if first { "sessionip".into() } else { format!("sessionip.net-{here}") },
            logind: first.then(|| PathBuf::from("user.slice")),
            logind_state: PathBuf::from("/run/systemd/sessions"),
        })
    }

    /// The parents of session scopes, below the root: what `iptables -m cgroup
    /// --path` and the like are told.
    pub fn parents(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(Path::new(&self.own_parent)).chain(self.logind.as_deref())
    }

    /// The folder of our own scopes.
    pub fn own_folder(&self) -> PathBuf {
        self.cgroup_root.join(&self.own_parent)
    }

    /// The folder of logind's slices.
    pub(super) fn logind_folder(&self) -> Option<PathBuf> {
        self.logind.as_ref().map(|slices| self.cgroup_root.join(slices))
    }

    /// What the folder `path` is, or lies in: the nearest scope of a session,
    /// else the slice of a user, else `None`.
    pub(super) fn place_of(&self, path: &Path) -> Option<Place> {
        let inside = path.strip_prefix(&self.cgroup_root).ok()?;
        if let Ok(below) = inside.strip_prefix(&self.own_parent) {
            let number = number(scope_name(names(below).next()?)?)?;
            return Some(Place::Own { number });
        }
        let below = inside.strip_prefix(self.logind.as_ref()?).ok()?;
        let mut names = names(below);
        let uid = number(names.next()?.strip_prefix("user-")?.strip_suffix(".slice")?)?;
        Some(match names.next().and_then(scope_name) {
            Some(name) => Place::Logind { uid, name: name.to_owned() },
            None => Place::User { uid },
        })
    }

    /// The folder of a place.
    pub(super) fn folder(&self, place: &Place) -> PathBuf {
        let slice = |uid: &u32| {
            let slices = self.logind_folder().unwrap_or_else(|| self.cgroup_root.clone());
            slices.join(format!("user-{uid}.slice"))
        };
        match place {
            Place::Own { number } => self.own_folder().join(format!("session-{number}.scope")),
            Place::Logind { uid, name } => slice(uid).join(format!("session-{name}.scope")),
            Place::User { uid } => slice(uid),
        }
    }
}

/// What a folder of the cgroup tree means to us.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// A scope of our own.
    Own { number: u32 },
    /// A session scope of logind's; its name is mostly, not always, a number.
    Logind { uid: u32, name: String },
    /// A user's slice, where his `user@UID.service` runs too.
    User { uid: u32 },
}

/// `session-ID.scope` -> `ID`.
fn scope_name(folder: &str) -> Option<&str> {
    folder.strip_prefix("session-")?.strip_suffix(".scope").filter(|name| !name.is_empty())
}

/// A number as it is written into a folder's name: `7`, never `007`.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number: &u32| number.to_string() == text)
}

fn names(path: &Path) -> impl Iterator<Item = &str> {
    path.components().map_while(|component| match component {
        Component::Normal(name) => name.to_str(),
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => {
            None
        }
    })
}

fn inode(path: &'static str) -> Result<u64, LayoutError> {
    let metadata = fs::metadata(path).map_err(|source| LayoutError::Read { path, source })?;
    Ok(metadata.ino())
}

/// The mount point of the whole cgroup v2 tree (proc_pid_mountinfo(5)). A mount
/// of only a part of it would hide sessions.
fn cgroup2_mount(mountinfo: &[u8]) -> Option<PathBuf> {
    mountinfo.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let root = fields.nth(3)?;
        let mount_point = fields.next()?;
        let file_system = fields.skip_while(|field| *field != b"-").nth(1)?;
        (file_system == b"cgroup2" && root == b"/")
            .then(|| PathBuf::from(std::ffi::OsString::from_vec(unescape(mount_point))))
    })
}

/// Space, tab, newline and backslash are written as `\` and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let octal = match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if *first == b'\\' => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        plain.push(octal.unwrap_or(*first));
        if octal.is_some() {
            rest = &after[3..];
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        Layout {
            cgroup_root: "/cg".into(),
            own_parent: "sessionip".into(),
            logind: Some("user.slice".into()),
            logind_state: "/run/systemd/sessions".into(),
        }
    }

    #[test]
    fn the_cgroup2_mount_is_found_by_its_type() {
        let mounts = b"31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
            40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
            42 31 0:38 /part /mnt/part rw shared:4 master:1 - cgroup2 cgroup2 rw\n\
            41 31 0:38 / /sys/fs/my\\040groups rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup2_mount(mounts), Some("/sys/fs/my groups".into()));
        assert_eq!(cgroup2_mount(b"1 2 0:1 / / rw - ext4 cgroup2 rw\n"), None);
        assert_eq!(cgroup2_mount(b"nonsense\n\n"), None);
        assert_eq!(unescape(br"\1\0400\"), br"\1 0\");
    }

    #[test]
    fn a_folder_belongs_to_its_nearest_scope() {
        let layout = layout();
        let at = |path: &str| layout.place_of(Path::new(path));
        let own = Place::Own { number: 7 };
        assert_eq!(at("/cg/sessionip/session-7.scope"), Some(own.clone()));
        assert_eq!(at("/cg/sessionip/session-7.scope/a/session-8.scope"), Some(own));
        let c5 = Place::Logind { uid: 1000, name: "c5".into() };
        assert_eq!(at("/cg/user.slice/user-1000.slice/session-c5.scope/x"), Some(c5));
        let user = Some(Place::User { uid: 1000 });
        assert_eq!(at("/cg/user.slice/user-1000.slice"), user);
        assert_eq!(at("/cg/user.slice/user-1000.slice/user@1000.service/app.slice"), user);
        for none in [
            "/cg",
            "/cg/sessionip",
            "/cg/sessionip/other",
            "/cg/sessionip/session-x.scope",
            "/cg/sessionip/session-007.scope",
            "/cg/user.slice/user-01000.slice/session-7.scope",
            "/cg/sessionip.net-4/session-7.scope",
            "/cg/user.slice/user-x.slice/session-7.scope",
            "/cg/system.slice/cron.service",
            "/elsewhere/sessionip/session-7.scope",
        ] {
            assert_eq!(at(none), None, "{none}");
        }
    }

    #[test]
    fn a_place_knows_its_folder() {
        let layout = layout();
        for place in [
            Place::Own { number: 7 },
            Place::Logind { uid: 5, name: "c5".into() },
            Place::User { uid: 5 },
        ] {
            assert_eq!(layout.place_of(&layout.folder(&place)), Some(place));
        }
    }

    #[test]
    fn this_machine_has_a_layout() {
        let layout = Layout::of_this_machine().expect("these tests need a cgroup v2 mount");
        assert!(layout.cgroup_root.join("cgroup.procs").exists());
        assert!(layout.own_parent.starts_with("sessionip"));
    }
}
