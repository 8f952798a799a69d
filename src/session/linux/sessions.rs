//! The sessions of this machine: where they are, and how one is opened.

use super::layout::{Layout, LayoutError};
use super::scopes::{OpenError, Scopes};
use super::watcher::{WatchError, Watcher};
use crate::session::{Session, SessionId, UserId};
use std::path::PathBuf;

/// The sessions of this machine; cheap to clone, shared by threads.
#[derive(Clone, Debug)]
pub struct Sessions {
    layout: Layout,
    pub(crate) scopes: Scopes,
}

/// Sessions cannot be followed.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub enum SessionsError {
    /// There is no cgroup tree to find them in.
    Layout(#[from] LayoutError),
    /// It cannot be watched.
    Watch(#[from] WatchError),
}

impl Sessions {
    /// Begins to watch; those that are logged on already are the first events.
    ///
    /// # Errors
    /// [`SessionsError`]; what was made is taken back.
    pub fn watch() -> Result<(Watcher, Self), SessionsError> {
        let layout = Layout::of_this_machine()?;
        let own = layout.own_folder();
        let was_there = own.exists();
        match Watcher::open(&layout) {
            Ok((watcher, scopes)) => Ok((watcher, Self { layout, scopes })),
            Err(error) => {
                if !was_there {
                    // Only where it is empty.
                    std::fs::remove_dir(own).ok();
                }
                Err(error.into())
            }
        }
    }

    /// Opens session `id` for `user`, or finds the one there is; and says where it is
    /// entered: the folder of its cgroup.
    ///
    /// # Errors
    /// It is somebody else's, or the cgroup tree refuses it.
    pub fn open(&self, id: SessionId, user: UserId) -> Result<(Session, PathBuf), OpenError> {
        let session = self.scopes.open_scope(id, user)?;
        let folder = session.scope.path.clone();
        Ok((session, folder))
    }

    /// The cgroups that sessions are below, relative to the root of the tree. They
    /// are there, and the same as long as this is.
    pub fn parents(&self) -> Vec<String> {
        let parents = self.layout.parents();
        // A host without logind has no such folder, and a rule needs one.
        let parents = parents.filter(|path| self.layout.cgroup_root.join(path).is_dir());
        parents.map(|path| path.to_string_lossy().into_owned()).collect()
    }

    /// The root of the cgroup2 tree.
    pub(crate) fn cgroup_root(&self) -> &std::path::Path {
        &self.layout.cgroup_root
    }
}
