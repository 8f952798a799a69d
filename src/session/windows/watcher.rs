//! Which sessions have come and gone?

use super::poke::wait_for_poke;
use super::wts::{self, Logon};
use super::{Scope, Sessions, account};
use crate::session::{Event, Session, SessionId, User};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

/// How often everything is looked at, whether or not the service control manager
/// said something: it says nothing to a daemon in a console.
const RECONCILE: Duration = Duration::from_secs(2);

/// 1970 as FILETIME: 100 nanoseconds since 1601.
const EPOCH: i64 = 116_444_736_000_000_000;

/// Tells of sessions as they come and go.
#[derive(Debug)]
pub struct Watcher {
    sessions: Sessions,
    known: BTreeMap<u32, Known>,
    reconciled: Instant,
    /// What happened before the first call of [`next`](Self::next).
    early: Vec<Event>,
    /// The system did not answer when it was last asked.
    silent: bool,
}

/// Sessions cannot be watched.
#[derive(Debug, thiserror::Error)]
#[error("cannot list the sessions of this machine")]
pub struct WatchError(#[source] io::Error);

/// A session that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    user: String,
    logon: i64,
    /// It was the machine's own when it was first seen: what it is does not change
    /// when it is taken to or from the console.
    console: bool,
}

impl Watcher {
    /// Begins to watch. The sessions that are logged on already are the first
    /// events.
    ///
    /// # Errors
    /// The system does not list sessions.
    pub fn open() -> Result<(Self, Sessions), WatchError> {
        let sessions = Sessions::default();
        let mut watcher = Self {
            sessions: sessions.clone(),
            known: BTreeMap::new(),
            reconciled: now(),
            early: Vec::new(),
            silent: false,
        };
        watcher.early = watcher.take_note(wts::logons().map_err(WatchError)?);
        Ok((watcher, sessions))
    }

    /// Waits up to `wait` and tells what has happened to sessions, in order; often
    /// nothing, also before the wait is over.
    pub fn next(&mut self, wait: Duration) -> Vec<Event> {
        if !self.early.is_empty() {
            return std::mem::take(&mut self.early);
        }
        let until_next = (self.reconciled + RECONCILE).saturating_duration_since(now());
        let poked = wait_for_poke(wait.min(until_next));
        if !poked && now() < self.reconciled + RECONCILE {
            return Vec::new();
        }
        self.reconciled = now();
        match wts::logons() {
            Ok(logons) => {
                self.silent = false;
                self.take_note(logons)
            }
            // Nobody is logged off because the system does not answer.
            Err(error) => {
                if !self.silent {
                    tracing::warn!(%error, "the sessions cannot be listed; as before, then");
                }
                self.silent = true;
                Vec::new()
            }
        }
    }

    /// Ends watching. There is nothing of ours to be taken back.
    pub fn close(self) -> bool {
        true
    }

    fn take_note(&mut self, logons: Vec<Logon>) -> Vec<Event> {
        let (known, changes) = compare(&self.known, logons);
        self.known = known;
        self.sessions.replace(self.known.iter().map(|(id, it)| (*id, !it.console)).collect());
        changes.into_iter().map(|change| self.event(change)).collect()
    }

    fn event(&self, change: Change) -> Event {
        match change {
            Change::Ended(id) => Event::Ended(SessionId(id)),
            Change::Started(id, Known { user, logon, .. }) => Event::Started(Session {
                id: SessionId(id),
                user: User { id: account::user_id(id, &user), name: user },
                since: time(logon),
                scope: Scope { logon },
            }),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Change {
    Started(u32, Known),
    Ended(u32),
}

/// What there is now, and how that differs from what there was. A session id with
/// another user or logon is another session.
fn compare(
    before: &BTreeMap<u32, Known>,
    logons: Vec<Logon>,
) -> (BTreeMap<u32, Known>, Vec<Change>) {
    let now: BTreeMap<u32, Known> = logons
        .into_iter()
        .map(|Logon { id, user, at, console }| {
            let same = before.get(&id).filter(|known| known.user == user && known.logon == at);
            let console = same.map_or(console, |known| known.console);
            (id, Known { user, logon: at, console })
        })
        .collect();
    let logins = |sessions: &BTreeMap<u32, Known>| -> Vec<(u32, Known)> {
        let logins = sessions.iter().filter(|(_, known)| !known.console);
        logins.map(|(id, known)| (*id, known.clone())).collect()
    };
    let ended = logins(before).into_iter().filter(|(id, known)| now.get(id) != Some(known));
    let started = logins(&now).into_iter().filter(|(id, known)| before.get(id) != Some(known));
    let changes = ended
        .map(|(id, _)| Change::Ended(id))
        .chain(started.map(|(id, known)| Change::Started(id, known)))
        .collect();
    (now, changes)
}

/// A logon's time; the beginning of 1970 where the system has none that is right.
fn time(filetime: i64) -> Timestamp {
    let since_epoch = i128::from(filetime) - i128::from(EPOCH);
    Timestamp::from_nanosecond(since_epoch * 100).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[expect(clippy::disallowed_methods, reason = "sessions live in real time")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::super::poke;
    use super::*;
    use proptest::prelude::*;

    fn logon(id: u32, user: &str, at: i64) -> Logon {
        Logon { id, user: user.into(), at, console: false }
    }

    fn started(id: u32, user: &str, logon: i64) -> Change {
        Change::Started(id, Known { user: user.into(), logon, console: false })
    }

    #[test]
    fn logons_and_logoffs_are_what_differs() {
        let (known, changes) =
            compare(&BTreeMap::new(), vec![logon(3, r"CORP\bo", 20), logon(2, r"CORP\ana", 10)]);
        assert_eq!(changes, [started(2, r"CORP\ana", 10), started(3, r"CORP\bo", 20)]);
        let (known, changes) = compare(&known, vec![logon(3, r"CORP\bo", 20)]);
        assert_eq!(changes, [Change::Ended(2)]);
        let (_, changes) = compare(&known, vec![logon(3, r"CORP\bo", 20)]);
        assert_eq!(changes, []);
    }

    #[test]
    fn a_session_id_that_was_used_again_is_another_session() {
        let (known, _) = compare(&BTreeMap::new(), vec![logon(2, "ana", 10)]);
        let (_, changes) = compare(&known, vec![logon(2, "ana", 11)]);
        assert_eq!(changes, [Change::Ended(2), started(2, "ana", 11)]);
        let (_, changes) = compare(&known, vec![logon(2, "bo", 10)]);
        assert_eq!(changes, [Change::Ended(2), started(2, "bo", 10)]);
    }

    #[test]
    fn the_console_is_none_and_what_a_session_is_stays() {
        let console = |console| vec![Logon { console, ..logon(1, "ana", 10) }];
        let (known, changes) = compare(&BTreeMap::new(), console(true));
        assert_eq!(changes, []);
        assert_eq!(compare(&known, console(false)).1, [], "it was locked");
        let (known, changes) = compare(&BTreeMap::new(), console(false));
        assert_eq!(changes.len(), 1);
        assert_eq!(compare(&known, console(true)).1, [], "it was taken to the console");
        assert_eq!(compare(&known, Vec::new()).1, [Change::Ended(1)]);
    }

    #[test]
    fn a_logon_has_its_time() {
        assert_eq!(time(133_484_544_000_000_000).to_string(), "2023-12-31T00:00:00Z");
        assert_eq!(time(EPOCH), Timestamp::UNIX_EPOCH);
        assert_eq!(time(i64::MAX), Timestamp::UNIX_EPOCH);
    }

    #[test]
    fn a_poke_ends_the_wait() {
        let (mut watcher, _) = Watcher::open().unwrap();
        watcher.next(Duration::ZERO);
        poke();
        let began = now();
        watcher.next(Duration::from_secs(30));
        assert!(now().duration_since(began) < Duration::from_secs(1));
        assert!(watcher.close());
    }

    proptest! {
        #[test]
        fn what_started_ends(
            before in prop::collection::vec((1_u32..5, 0_i64..3, any::<bool>()), 0..5),
            after in prop::collection::vec((1_u32..5, 0_i64..3, any::<bool>()), 0..5),
        ) {
            let logons = |rows: &[(u32, i64, bool)]| -> Vec<Logon> {
                let rows = rows.iter().map(|(id, at, console)| {
                    Logon { console: *console, ..logon(*id, "ana", *at) }
                });
                rows.collect()
            };
            let (known, first) = compare(&BTreeMap::new(), logons(&before));
            let (_, second) = compare(&known, logons(&after));
            let (_, third) = compare(&compare(&known, logons(&after)).0, Vec::new());
            let mut open = std::collections::BTreeSet::new();
            for change in first.into_iter().chain(second).chain(third) {
                match change {
                    Change::Started(id, _) => prop_assert!(open.insert(id)),
                    Change::Ended(id) => prop_assert!(open.remove(&id)),
                }
            }
            prop_assert!(open.is_empty());
        }
    }
}
