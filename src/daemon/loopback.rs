//! Which loopback address has a session, and who has to know?

use super::RunError;
use super::admission::Held;
use super::keeper::{Keeper, in_full};
use crate::companion::SessionEntry;
use crate::owner;
use crate::session::SessionId;
use std::net::Ipv4Addr;

/// Why a session has none: its number is too high, or it is in use.
const TAKEN: &str = "loopback-taken: this host uses the session's loopback address itself, \
                     and its programs share 127.0.0.1 with the host";

impl Keeper {
    /// The loopback address of a session that comes, or comes by the feature.
    /// `None`: it has none, or the host uses it.
    pub(super) fn loopback(&self, id: SessionId) -> Option<Ipv4Addr> {
        let address = id.loopback(self.config.loopback.mapping)?;
        match owner::host_uses(address, &self.logins) {
            Ok(false) => return Some(address),
            Ok(true) if self.config.loopback.enabled => tracing::warn!(session = %id, "{TAKEN}"),
            Ok(true) => {}
            Err(error) => {
                tracing::warn!(session = %id, "no loopback address for now: {}", in_full(&error));
            }
        }
        None
    }

    /// A session as the hook is told of it.
    pub(super) fn entry(&self, held: &Held) -> SessionEntry {
        SessionEntry {
            id: held.session.id,
            ipv4: held.ipv4,
            ipv6: held.given_ipv6(),
            private_ipv6: held.private_ipv6,
            loopback: held.loopback.filter(|_| self.config.loopback.enabled),
        }
    }

    /// Tells the hook if the configuration has turned it on or off. Sockets stay
    /// where they are bound.
    pub(super) fn turn_loopback(&mut self) -> Result<(), RunError> {
        if self.loopback_on == self.config.loopback.enabled {
            return Ok(());
        }
        for id in self.sessions.keys().copied().collect::<Vec<_>>() {
            let loopback = self.loopback(id);
            let Some(held) = self.sessions.get_mut(&id) else { continue };
            held.loopback = loopback;
            let Some(held) = self.sessions.get(&id) else { continue };
            self.companion.admit(&held.session, &self.entry(held))?;
        }
        self.loopback_on = self.config.loopback.enabled;
        Ok(())
    }

    /// Sessions without a loopback address although programs are to have one.
    pub(super) fn loopback_notices(&self) -> Vec<String> {
        let without = self.sessions.values().filter(|held| held.loopback.is_none());
        let without = without.filter(|_| self.config.loopback.enabled);
        without.map(|held| format!("session {}: {TAKEN}", held.session.id)).collect()
    }
}
