//! Which folders did this start make, and are they still of use?

use std::path::{Path, PathBuf};

/// Folders that were missing before a start. They are taken away where it is over
/// and has left nothing in them: a start that is refused leaves nothing behind.
#[derive(Debug)]
pub(super) struct Missing(Vec<PathBuf>);

impl Missing {
    /// Looks which of `folders` is missing, and which of those that it lies in.
    pub(super) fn look<'p>(folders: impl IntoIterator<Item = &'p Path>) -> Self {
        let missing = folders.into_iter().flat_map(|folder| {
            folder.ancestors().take_while(|it| !it.exists()).map(Path::to_owned)
        });
        let mut missing: Vec<_> = missing.collect();
        missing.sort();
        missing.dedup();
        Self(missing)
    }
}

impl Drop for Missing {
    fn drop(&mut self) {
        // The innermost first. One that is not empty stays, and so do those around it.
        for folder in self.0.iter().rev() {
            if let Err(error) = std::fs::remove_dir(folder) {
                tracing::debug!(%error, folder = %folder.display(), "a folder stays");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_was_made_and_is_empty_goes() {
        let there = tempfile::tempdir().unwrap();
        let path = |name: &str| there.path().join(name);
        let (run, state) = (path("run/sessionip"), path("lib/sessionip"));
        let missing = Missing::look([&*run, &*state, &*path("run")]);
        for folder in [&run, &state] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(state.join("leases.json"), "").unwrap();
        drop(missing);
        assert!(!path("run").exists());
        assert!(state.join("leases.json").exists());
    }

    #[test]
    fn what_was_there_stays() {
        let there = tempfile::tempdir().unwrap();
        let (old, new) = (there.path().join("old"), there.path().join("old/new"));
        fs::create_dir(&old).unwrap();
        let missing = Missing::look([&*old, &*new]);
        fs::create_dir(&new).unwrap();
        drop(missing);
        assert!(old.exists() && !new.exists());
    }
}
