//! Where does this daemon's hook live?

use super::{Companion, LoadError, Options, TableError};
use crate::companion::SessionEntry;
use crate::policy::Standing;
use crate::session::{Session, SessionId, Sessions};
use sessionip_hook::windows::DLL;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::windows::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use windows_sys::Win32::Storage::FileSystem::GetShortPathNameW;

/// Nothing of the hook is a file that the daemon makes.
pub(crate) fn pins(_control: &Path) -> Option<PathBuf> {
    None
}

/// What was there of the hook before a start: nothing that would outlive a
/// daemon, as a section goes with the last who knows it.
#[derive(Debug)]
pub struct Before;

impl Before {
    /// Looks, and changes nothing.
    pub fn look(_control: &Path) -> Self {
        Self
    }

    /// After a start that failed there is nothing to take away.
    pub fn restore(&self) {}

    /// Publishes the section. The DLL lies beside the executable. Of the sessions
    /// nothing is needed: Windows itself numbers them.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(&self, _sessions: &Sessions) -> Result<Companion, LoadError> {
        let executable = std::env::current_exe().unwrap_or_default();
        Companion::prepare(&Options { dll: executable.with_file_name(DLL) })
    }
}

impl Companion {
    /// A session has come, or has other addresses now, which must be on the host
    /// already: it is published, then its programs get the hook.
    ///
    /// # Errors
    /// The section is full.
    pub fn admit(&mut self, session: &Session, entry: &SessionEntry) -> Result<(), TableError> {
        self.set_session(entry)?;
        self.inject_session(session.id);
        Ok(())
    }

    /// Programs have the kernel ping for them, and no rule could ask whose it is.
    pub fn ping_programs(&self) -> Option<PathBuf> {
        None
    }

    /// A session has ended. Its sockets stay where they are.
    ///
    /// # Errors
    /// The section could not be written.
    pub fn dismiss(&mut self, session: &Session) -> Result<(), TableError> {
        self.remove_session(session.id)
    }

    /// Forgets all sessions but these.
    ///
    /// # Errors
    /// The section could not be written.
    pub fn keep_only<'s>(
        &mut self,
        sessions: impl Iterator<Item = &'s Session>,
    ) -> Result<(), TableError> {
        let live: BTreeSet<SessionId> = sessions.map(|session| session.id).collect();
        self.retain(|entry| live.contains(&entry.id))
    }
}

/// Windows knows programs by their paths, whatever file stands there: by the long
/// one, or by the short one (8.3) if they were started by that.
pub fn standing(path: &Path) -> Option<Standing> {
    let real = crate::companion::real_path(path);
    let short = short(&real);
    Some(Standing { paths: std::iter::once(real).chain(short).collect(), file: None })
}

/// With short names wherever there are some. `None`: nothing is there.
fn short(path: &Path) -> Option<PathBuf> {
    let path: Vec<u16> = path.as_os_str().encode_wide().chain([0]).collect();
    // The longest path there is.
    let mut room = vec![0_u16; 32_768];
    // SAFETY: the path ends in a zero; at most as much is written as there is room
    // for.
    #[expect(unsafe_code, reason = "a call of the system")]
    let length = unsafe { GetShortPathNameW(path.as_ptr(), room.as_mut_ptr(), 32_768) };
    let short = room.get(..length as usize).filter(|short| !short.is_empty())?;
    Some(OsString::from_wide(short).into())
}
