//! Whom does the hook work for?

use super::lists::Lists;
use super::{Companion, descendants, programs};
use crate::companion::{PolicyError, PolicyView, TableError};
use sessionip_hook::layout::{self, flag};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

impl Companion {
    /// The sessions, their addresses and the policy are told: the hook works. One of
    /// another layout, which a daemon before left, has done so until now, and does till
    /// it is [relieved](Self::relieve).
    ///
    /// # Errors
    /// As [`set_policy`](Self::set_policy).
    pub fn begin(&mut self) -> Result<(), PolicyError> {
        self.waits = false;
        if self.pins.is_new()
            && let Some(policy) = self.policy.clone()
        {
            self.set_policy(&policy)?;
        }
        Ok(())
    }

    /// From now on this is whom the hook works for, if it has [begun](Self::begin) or
    /// taken over what was there.
    ///
    /// # Errors
    /// It took effect in part; it may be set again.
    pub fn set_policy(&mut self, policy: &PolicyView) -> Result<(), PolicyError> {
        self.policy = Some(policy.clone());
        if self.waits {
            return Ok(());
        }
        let lists = Lists::compile(policy);
        let scripts = lists.scripts && self.can_follow_scripts();
        let optional = [
            (programs::SOURCES, policy.sources),
            (programs::LISTENERS, policy.listeners),
            (programs::LOOPBACK, policy.loopback.enabled && policy.isolate_loopback),
            (programs::NAMES, policy.connect),
            (programs::LINEAGE, policy.children || scripts),
            (programs::SCRIPTS, scripts),
        ];
        self.follows_scripts = scripts;
        self.apply(policy)?;
        for (group, wanted) in optional {
            if wanted {
                self.programs.verify(group)?;
                self.programs.attach(group, &self.pins)?;
            } else {
                self.programs.detach(group, &self.pins)?;
            }
        }
        if scripts {
            self.full_scripts += self.scripts.look_again(&lists)?;
        } else {
            self.scripts.forget()?;
        }
        if policy.children {
            descendants::prune(&mut self.descendants, &lists)?;
            self.full_descendants += descendants::seed(&mut self.descendants, &lists)?;
        } else {
            // Nobody takes marks away any more, and numbers of processes return.
            self.descendants.replace(&BTreeMap::new())?;
        }
        Ok(self.begin_epoch()?)
    }

    /// Older kernels cannot: there a listed script means nobody.
    fn can_follow_scripts(&mut self) -> bool {
        let verify = || {
            let verified = self.programs.verify(programs::SCRIPTS);
            if let Err(error) = &verified {
                tracing::warn!(%error, "a script is listed, and this kernel cannot follow scripts");
            }
            verified.is_ok()
        };
        *self.can_follow_scripts.get_or_insert_with(verify)
    }

    /// From now on sockets are recorded with marks by the lists that hold; those
    /// recorded before are looked up anew when they are asked for.
    fn begin_epoch(&mut self) -> Result<(), TableError> {
        let known = self.config.value()?;
        let epoch = known.epoch.wrapping_add(1);
        self.config.set(layout::Config { epoch, ..known })?;
        self.epoch.store(epoch, Ordering::Relaxed);
        Ok(())
    }

    /// Looks again for the files that the lists name by path: a package upgrade
    /// puts a new file there. Cheap enough for every few seconds.
    ///
    /// # Errors
    /// It took effect in part; it may be called again.
    pub fn refresh_programs(&mut self) -> Result<(), PolicyError> {
        let Some(policy) = self.policy.clone().filter(|_| !self.waits) else { return Ok(()) };
        let is_first_script = !self.follows_scripts && Lists::compile(&policy).scripts;
        if is_first_script && self.can_follow_scripts() {
            return self.set_policy(&policy);
        }
        Ok(self.apply(&policy)?)
    }

    fn apply(&mut self, policy: &PolicyView) -> Result<(), TableError> {
        let mut lists = Lists::compile(policy);
        if self.follows_scripts {
            // Also while the file of the last one is replaced.
            lists.flags |= flag::FOLLOW_SCRIPTS;
        }
        let known = self.config.value()?;
        // Flags say which tables are worth a look: they are set after what
        // they promise is there, and cleared before it goes.
        let next = layout::Config { flags: lists.flags, ..known };
        let all = flag::BY_FILE | flag::BY_PATH | flag::BY_NAME;
        self.by_file.add(&lists.by_file)?;
        self.by_path.add(&lists.by_path)?;
        self.by_name.add(&lists.by_name)?;
        self.config.set(layout::Config { flags: next.flags | known.flags & all, ..next })?;
        self.excluded.replace(&lists.excluded)?;
        self.by_file.replace(&lists.by_file)?;
        self.by_path.replace(&lists.by_path)?;
        self.by_name.replace(&lists.by_name)?;
        self.config.set(next)
    }

    /// The listed paths at which there is no file now.
    pub fn missing_programs(&self) -> Vec<PathBuf> {
        self.policy.as_ref().map(|policy| Lists::compile(policy).missing).unwrap_or_default()
    }
}
