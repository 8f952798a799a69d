//! Is this session id a login's? As of the last look.

use super::poke::poke;
use super::watcher::{WatchError as SessionsError, Watcher};
use super::wts;
use crate::session::{Session, SessionId, UserId};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

/// What every session was when it was last looked at, for the reader of sockets:
/// cheap to clone, and to ask from any thread.
#[derive(Clone, Debug, Default)]
pub struct Sessions(Arc<RwLock<BTreeMap<u32, bool>>>);

/// A session cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("sessions are opened by logging on: there is no other way on Windows")]
pub struct OpenError;

impl Sessions {
    /// Begins to watch; those that are logged on already are the first events.
    ///
    /// # Errors
    /// [`SessionsError`].
    pub fn watch() -> Result<(Watcher, Self), SessionsError> {
        Watcher::open()
    }

    /// Nobody opens a session here: `exec` has a program started in one.
    ///
    /// # Errors
    /// Always.
    pub fn open(&self, _: SessionId, _: UserId) -> Result<(Session, PathBuf), OpenError> {
        Err(OpenError)
    }

    /// There are no cgroups.
    pub fn parents(&self) -> Vec<String> {
        Vec::new()
    }

    /// Is it somebody's login? Not so session 0 and the console. One that was never
    /// seen is looked at now, and the watcher with it: its logon may be news.
    pub fn is_login(&self, id: u32) -> bool {
        if id == 0 {
            return false;
        }
        let seen = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&id).copied();
        seen.unwrap_or_else(|| {
            let is = wts::logon_to(id).is_some_and(|logon| !logon.console);
            self.0.write().unwrap_or_else(PoisonError::into_inner).insert(id, is);
            poke();
            is
        })
    }

    /// What is so now; whatever else was known is forgotten.
    pub(super) fn replace(&self, sessions: BTreeMap<u32, bool>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = sessions;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_and_the_console_are_no_logins() {
        let sessions = Sessions::default();
        sessions.replace(BTreeMap::from([(1, false), (2, true)]));
        assert!(!sessions.is_login(0));
        assert!(!sessions.is_login(1));
        assert!(sessions.is_login(2));
        assert!(sessions.clone().is_login(2));
        assert!(!sessions.is_login(0x7fff_0000), "there is none, says the system");
    }
}
