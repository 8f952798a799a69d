//! Where does this daemon's hook live?

use super::{Companion, LoadError, Options, TableError, forget_stale};
use crate::companion::{SessionEntry, Unhooked};
use crate::control::{Start, Started};
use crate::session::{Session, Sessions};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const PINS: &str = "bpf";

/// Where the daemon with this control socket pins links and maps.
pub(crate) fn pins(control: &Path) -> Option<PathBuf> {
    Some(control.with_file_name(PINS))
}

/// What was there of the hook before a start.
#[derive(Debug)]
pub struct Before {
    pins: PathBuf,
    was_there: bool,
}

impl Before {
    /// Looks, and changes nothing. `control` is the daemon's control socket.
    pub fn look(control: &Path) -> Self {
        let pins = control.with_file_name(PINS);
        Self { was_there: pins.exists(), pins }
    }

    /// After a start that failed: takes away what it made. A hook that a daemon
    /// left that crashed stays for the next start.
    pub fn restore(&self) {
        if !self.was_there
            && let Err(error) = forget_stale(&self.pins)
        {
            tracing::debug!(%error, "something of the companion hook stays");
        }
    }

    /// Loads the hook, or takes over the one that is there.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(&self, sessions: &Sessions) -> Result<Companion, LoadError> {
        Companion::load(&Options {
            pin_directory: self.pins.clone(),
            cgroup_root: sessions.cgroup_root().to_owned(),
        })
    }
}

impl Companion {
    /// A session has come, or has other addresses now, which must be on the host
    /// already.
    ///
    /// # Errors
    /// The map is full.
    pub fn admit(&mut self, session: &Session, entry: &SessionEntry) -> Result<(), TableError> {
        self.set_session(session.scope.cgroup, entry)
    }

    /// Which programs the hook does not reach: none, for the kernel asks nobody.
    pub fn unhooked(&self) -> Vec<Unhooked> {
        Vec::new()
    }

    /// On Linux `exec` enters a session by itself: nobody has to start anything.
    ///
    /// # Errors
    /// Always.
    pub fn start(&self, _caller: u32, _: &Session, _: &Start) -> Result<Started, String> {
        Err("`start` is for Windows: `open-session` says where to enter".into())
    }

    /// A session has ended. Its sockets stay where they are.
    ///
    /// # Errors
    /// The map could not be written.
    pub fn dismiss(&mut self, session: &Session) -> Result<(), TableError> {
        self.remove_session(session.scope.cgroup)
    }

    /// Forgets all sessions but these.
    ///
    /// # Errors
    /// A map could not be read or written.
    pub fn keep_only<'s>(
        &mut self,
        sessions: impl Iterator<Item = &'s Session>,
    ) -> Result<(), TableError> {
        let cgroups: BTreeSet<u64> = sessions.map(|session| session.scope.cgroup).collect();
        self.retain(|cgroup, _| cgroups.contains(&cgroup))
    }
}
