//! Which session does a cgroup belong to?

use super::Scope;
use super::attribute;
use super::layout::{Layout, Place};
use super::number;
use super::scope::{CloseError, cgroup_id, close_scope, is_populated};
use crate::session::{Session, SessionId, User};
use dashmap::DashMap;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How many cgroups that are not a session's own are remembered.
const REMEMBERED: usize = 16_384;

/// The sessions' place in the cgroup tree; cheap to clone, shared by threads.
#[derive(Clone, Debug)]
pub struct Scopes(Arc<Tables>);

#[derive(Debug)]
struct Tables {
    layout: Layout,
    /// Any file of the cgroup tree: where its handles are opened.
    root: File,
    sessions: DashMap<SessionId, Session>,
    /// The cgroups that stand for a session: its scope, and for one session of
    /// each user his slice.
    anchors: DashMap<u64, SessionId>,
    /// Any other cgroup: the id of the scope or slice that it lies in. That never
    /// changes, whichever sessions come and go.
    leaves: DashMap<u64, Option<u64>>,
    /// When the daemon last opened a scope, by its cgroup's id. Whoever opens or
    /// removes one holds the lock, so that no scope goes away between.
    opened: Mutex<BTreeMap<u64, Instant>>,
}

/// A session could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The number is no session's.
    #[error("a session's number is from 1 to {last}, not {0}", last = number::LAST)]
    Number(SessionId),
    /// It is somebody else's.
    #[error("session {id} is {who}'s: take another number, or --user {who}")]
    OtherUser {
        /// The session.
        id: SessionId,
        /// Its user.
        who: String,
    },
    /// There are processes in such a scope, and it was not opened by us.
    #[error("{0} has processes and was not opened by sessionip")]
    Foreign(PathBuf),
    /// The scope cannot be made.
    #[error("cannot open the scope {path}")]
    Make {
        /// Its folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl Scopes {
    /// # Errors
    /// The cgroup tree cannot be opened, or its handles cannot.
    pub(super) fn new(layout: &Layout) -> io::Result<Self> {
        let root = File::open(&layout.cgroup_root)?;
        let tables = Tables {
            layout: layout.clone(),
            root,
            sessions: DashMap::new(),
            anchors: DashMap::new(),
            leaves: DashMap::new(),
            opened: Mutex::default(),
        };
        if let Some(id) = cgroup_id(&layout.cgroup_root) {
            tables.path_of(id)?;
        }
        Ok(Self(Arc::new(tables)))
    }

    /// The session that a socket or process of this cgroup belongs to.
    ///
    /// A session's own scope and a cgroup seen before cost one or two look-ups in
    /// a table; any other is opened by its id once (about 10 µs), and remembered
    /// with its answer. What runs outside the scopes of its user, below
    /// `user@UID.service`, counts as his oldest session of logind's.
    pub fn session_of(&self, cgroup_id: u64) -> Option<SessionId> {
        if let Some(session) = self.anchored(cgroup_id) {
            return Some(session);
        }
        // Sockets in TIME_WAIT have cgroup 0.
        if cgroup_id == 0 {
            return None;
        }
        let remembered = self.0.leaves.get(&cgroup_id).map(|anchor| *anchor);
        let anchor = match remembered {
            Some(anchor) => anchor,
            None => {
                let anchor = self.0.anchor_of(cgroup_id).ok()?;
                if self.0.leaves.len() >= REMEMBERED {
                    self.0.leaves.clear();
                }
                self.0.leaves.insert(cgroup_id, anchor);
                anchor
            }
        };
        self.anchored(anchor?)
    }

    /// The session of that number, if it is logged on.
    pub fn session(&self, id: SessionId) -> Option<Session> {
        self.0.sessions.get(&id).map(|session| session.clone())
    }

    /// Opens session `id` for a user: the session that is there if it is his, else
    /// a new scope of our own. It belongs to him from now on; the
    /// [`Watcher`](super::Watcher) tells of it, and ends it if no process
    /// [enters](super::enter_scope) it soon.
    ///
    /// # Errors
    /// It is another user's, the number is none, or the scope cannot be made.
    pub fn open_scope(&self, id: SessionId, uid: u32) -> Result<Session, OpenError> {
        if !(1..=number::LAST).contains(&id.0) {
            return Err(OpenError::Number(id));
        }
        let mut opened = self.opened();
        let there =
            self.session(id).filter(|it| cgroup_id(&it.scope.path) == Some(it.scope.cgroup));
        let session = match there {
            Some(session) => session,
            None => self.make(id, uid)?,
        };
        if session.user.id != uid {
            return Err(OpenError::OtherUser { id, who: session.user.name });
        }
        if session.scope.path.starts_with(self.0.layout.own_folder()) {
            opened.insert(session.scope.cgroup, super::now());
        }
        self.register(&session);
        Ok(session)
    }

    /// The session of our own scope `id`; `None`: its folder is not there, or not
    /// opened by us.
    pub(super) fn own_session(&self, id: SessionId) -> Option<Session> {
        let _unchanging = self.opened();
        self.0.read_own(id).ok().flatten()
    }

    /// Removes our own scope, and its session, if it has no process and nobody has
    /// opened it after `unless_since`. Returns whether it is gone.
    pub(super) fn end_own(
        &self,
        session: &Session,
        unless_since: Instant,
    ) -> Result<bool, CloseError> {
        let mut opened = self.opened();
        let opened_since = opened.get(&session.scope.cgroup).is_some_and(|at| *at > unless_since);
        if opened_since || is_populated(&session.scope.path) == Some(true) {
            return Ok(false);
        }
        match close_scope(&session.scope.path) {
            Err(error) if error.has_processes() => return Ok(false),
            other => other?,
        }
        self.0.forget(session, &mut opened);
        Ok(true)
    }

    /// When the daemon last opened the scope of this cgroup; `None`: it did not,
    /// since it runs.
    pub(super) fn opened_at(&self, cgroup: u64) -> Option<Instant> {
        self.opened().get(&cgroup).copied()
    }

    pub(super) fn is_taken(&self, id: SessionId) -> bool {
        self.0.sessions.contains_key(&id)
    }

    pub(super) fn register(&self, session: &Session) {
        self.0.sessions.insert(session.id, session.clone());
        self.0.anchors.insert(session.scope.cgroup, session.id);
    }

    /// Forgets a session, unless its number is another one's by now.
    pub(super) fn unregister(&self, session: &Session) {
        self.0.forget(session, &mut self.opened());
    }

    /// Lets a user's slice stand for one of his sessions, or for none.
    pub(super) fn anchor_slice(&self, slice: u64, session: Option<SessionId>) {
        match session {
            Some(session) => drop(self.0.anchors.insert(slice, session)),
            None => drop(self.0.anchors.remove(&slice)),
        }
    }

    fn anchored(&self, cgroup_id: u64) -> Option<SessionId> {
        self.0.anchors.get(&cgroup_id).map(|session| *session)
    }

    fn opened(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        // The map is whole after every statement that changes it.
        self.0.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the scope of session `id`, or takes over the one that is there.
    fn make(&self, id: SessionId, uid: u32) -> Result<Session, OpenError> {
        let path = self.0.layout.folder(&Place::Own { number: id.0 });
        let failed = |source| OpenError::Make { path: path.clone(), source };
        fs::create_dir_all(&path).map_err(failed)?;
        if let Some(there) = self.0.read_own(id).map_err(failed)? {
            return Ok(there);
        }
        if is_populated(&path) == Some(true) {
            return Err(OpenError::Foreign(path));
        }
        // The user comes last: a folder without one is nobody's session, so a
        // crash in between leaves nothing half made.
        let made = fs::metadata(&path).and_then(|folder| folder.modified()).map_err(failed)?;
        let since = Timestamp::try_from(made).unwrap_or_default();
        attribute::write(&path, attribute::SINCE, &since.to_string()).map_err(failed)?;
        attribute::write(&path, attribute::USER, &uid.to_string()).map_err(failed)?;
        let gone = || failed(io::Error::from(io::ErrorKind::NotFound));
        self.0.read_own(id).map_err(failed)?.ok_or_else(gone)
    }
}

impl Tables {
    fn forget(&self, session: &Session, opened: &mut BTreeMap<u64, Instant>) {
        opened.remove(&session.scope.cgroup);
        self.anchors.remove(&session.scope.cgroup);
        self.sessions.remove_if(&session.id, |_, there| there.scope.cgroup == session.scope.cgroup);
    }

    /// Reads our own scope `id` from its folder and what is written on it.
    fn read_own(&self, id: SessionId) -> io::Result<Option<Session>> {
        let path = self.layout.folder(&Place::Own { number: id.0 });
        let Some(cgroup) = cgroup_id(&path) else { return Ok(None) };
        let uid = attribute::read(&path, attribute::USER)?.and_then(|uid| uid.parse().ok());
        let Some(uid) = uid else { return Ok(None) };
        let since = match attribute::read(&path, attribute::SINCE)?.and_then(|t| t.parse().ok()) {
            Some(since) => since,
            None => folder_time(&path).unwrap_or_default(),
        };
        Ok(Some(Session { id, user: User::of(uid), since, scope: Scope { cgroup, path } }))
    }

    /// The scope or slice that a cgroup lies in. A cgroup that is gone lies in
    /// none, even where a socket outlived it.
    ///
    /// # Errors
    /// It cannot be told now.
    fn anchor_of(&self, cgroup: u64) -> io::Result<Option<u64>> {
        let path = match self.path_of(cgroup) {
            Err(error) if error.raw_os_error() == Some(libc::ESTALE) => return Ok(None),
            path => path?,
        };
        let place = self.layout.place_of(&path);
        Ok(place.and_then(|place| cgroup_id(&self.layout.folder(&place))))
    }

    /// The folder of a cgroup, by its id: the kernel takes the id as a file
    /// handle (`kernfs_fh_to_dentry` in fs/kernfs/mount.c), so nothing is searched.
    #[expect(unsafe_code, reason = "nix has no open_by_handle_at")]
    fn path_of(&self, cgroup: u64) -> io::Result<PathBuf> {
        /// `FILEID_KERNFS` of include/linux/exportfs.h.
        const KERNFS: i32 = 0xfe;
        /// `struct file_handle` with its bytes.
        #[repr(C)]
        struct Handle {
            head: libc::file_handle,
            id: [u8; 8],
        }
        let mut handle = Handle {
            head: libc::file_handle { handle_bytes: 8, handle_type: KERNFS, f_handle: [] },
            id: cgroup.to_ne_bytes(),
        };
        // SAFETY: the root's descriptor is open, and the pointer is to a file_handle
        // that is followed by as many bytes as it says; the kernel only reads it.
        let descriptor = unsafe {
            libc::open_by_handle_at(
                self.root.as_raw_fd(),
                (&raw mut handle).cast(),
                libc::O_PATH | libc::O_CLOEXEC,
            )
        };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor, and nobody else has it.
        let folder = unsafe { OwnedFd::from_raw_fd(descriptor) };
        fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd()))
    }
}

impl User {
    /// The user of that number.
    pub fn of(uid: u32) -> Self {
        let known = nix::unistd::User::from_uid(uid.into()).ok().flatten();
        Self { id: uid, name: known.map_or_else(|| uid.to_string(), |user| user.name) }
    }
}

/// When a folder was made, as far as the file system knows.
pub(super) fn folder_time(path: &Path) -> Option<Timestamp> {
    let made = fs::metadata(path).and_then(|folder| folder.modified()).ok()?;
    Timestamp::try_from(made).ok()
}
