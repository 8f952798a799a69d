//! Which sessions have come and gone?

use super::Scope;
use super::layout::{Layout, Place};
use super::logind::Description;
use super::number::number_of;
use super::scope::{cgroup_id, close_scope, folders_in, is_populated};
use super::scopes::{Scopes, folder_time};
use crate::session::{Event, Session, SessionId, User};
use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// How long a scope that was opened waits for its first process.
const FIRST_PROCESS: Duration = Duration::from_secs(10);
/// How long one that had processes waits for the process it was opened for.
const NEXT_PROCESS: Duration = Duration::from_secs(1);
/// How often everything is looked at, whatever inotify said.
const RECONCILE: Duration = Duration::from_secs(5);

/// Tells of sessions as they come and go, by inotify on the cgroup tree: a scope
/// is made or removed in its parent, and `cgroup.events` says when its last
/// process has gone (Documentation/admin-guide/cgroup-v2.rst, "\[Un\]populated
/// Notification").
#[derive(Debug)]
pub struct Watcher {
    layout: Layout,
    scopes: Scopes,
    inotify: Inotify,
    watches: HashMap<WatchDescriptor, Watched>,
    known: BTreeMap<Place, Known>,
    /// The slices of users with a session of logind's, by cgroup id.
    slices: BTreeMap<u32, u64>,
    reconciled: Instant,
    /// What happened before the first call of [`next`](Self::next).
    early: Vec<Event>,
}

/// Sessions cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The kernel gives no inotify.
    #[error("cannot watch the cgroup tree (fs.inotify.max_user_instances may be too low)")]
    Inotify(#[source] io::Error),
    /// A folder cannot be watched.
    #[error("cannot watch {path}")]
    Watch {
        /// The folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The folder of our own scopes cannot be made.
    #[error("cannot make {path} for the scopes of sessions")]
    Parent {
        /// The folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A cgroup cannot be found by its id.
    #[error(
        "cannot open cgroups of {path} by their id \
         (that takes Linux 5.5 and the capability CAP_DAC_READ_SEARCH)"
    )]
    Handle {
        /// The root of the tree.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// What an inotify watch is on.
#[derive(Clone, Debug)]
enum Watched {
    /// A folder where scopes, or slices, come and go.
    Parent(PathBuf),
    /// The `cgroup.events` of a scope.
    Scope(Place),
}

/// A scope that is there.
#[derive(Debug)]
struct Known {
    cgroup: u64,
    /// `None`: nobody's session (yet).
    session: Option<Session>,
    first_seen: Instant,
    /// It has, or had, a process.
    entered: bool,
    /// It is empty and goes away then.
    ends: Option<Instant>,
}

impl Watcher {
    /// Begins to watch. The sessions that are logged on already are the first
    /// events.
    ///
    /// # Errors
    /// The cgroup tree of `layout` cannot be watched or used.
    pub fn open(layout: &Layout) -> Result<(Self, Scopes), WatchError> {
        let own = layout.own_folder();
        fs::create_dir_all(&own).map_err(|source| WatchError::Parent { path: own, source })?;
        let scopes = Scopes::new(layout)
            .map_err(|source| WatchError::Handle { path: layout.cgroup_root.clone(), source })?;
        let now = super::now();
        let mut watcher = Self {
            layout: layout.clone(),
            scopes: scopes.clone(),
            inotify: Inotify::init().map_err(WatchError::Inotify)?,
            watches: HashMap::new(),
            known: BTreeMap::new(),
            slices: BTreeMap::new(),
            reconciled: now,
            early: Vec::new(),
        };
        watcher.watch_parents()?;
        let mut early = Vec::new();
        watcher.reconcile(now, &mut early);
        watcher.early = early;
        Ok((watcher, scopes))
    }

    /// Waits up to `wait` and tells what has happened to sessions, in order; often
    /// nothing, also before the wait is over.
    pub fn next(&mut self, wait: Duration) -> Vec<Event> {
        let mut events = std::mem::take(&mut self.early);
        if events.is_empty() {
            self.sleep(wait);
        }
        let touched = self.touched();
        let now = super::now();
        match touched {
            Some(places) if now.duration_since(self.reconciled) < RECONCILE => {
                for place in places {
                    self.look_at(&place, true, now, &mut events);
                }
                for place in self.due(now) {
                    self.look_at(&place, false, now, &mut events);
                }
            }
            touched => {
                for place in touched.iter().flatten() {
                    self.look_at(place, true, now, &mut events);
                }
                self.reconcile(now, &mut events);
            }
        }
        events
    }

    /// Ends watching, at a clean stop, and removes what is empty of our own part of
    /// the tree. Scopes with processes stay: those sessions go on without us, and
    /// are found at the next start. Returns whether nothing is left.
    pub fn close(self) -> bool {
        let own = self.layout.own_folder();
        for scope in folders_in(&own) {
            if let Err(error) = close_scope(&scope) {
                debug!(error = &error as &dyn std::error::Error, "a session goes on");
            }
        }
        fs::remove_dir(own).is_ok()
    }

    /// Waits for inotify, but not past the time when something must be looked at.
    fn sleep(&self, wait: Duration) {
        let now = super::now();
        let ends = self.known.values().filter_map(|known| known.ends);
        let next = ends.chain([self.reconciled + RECONCILE]).min();
        let until_next = next.map_or(wait, |next| next.saturating_duration_since(now));
        // Rounded up, lest it wakes a moment too soon and turns in vain.
        let milliseconds = wait.min(until_next).as_micros().div_ceil(1000);
        let timeout = PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX);
        let mut descriptors = [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
        // A signal, the only way to fail, ends the wait as an event does.
        let _ = poll(&mut descriptors, timeout);
    }

    /// The scopes that inotify names; `None`: look at everything, because events
    /// were lost or a user's slice has come or gone.
    fn touched(&mut self) -> Option<BTreeSet<Place>> {
        let mut places = BTreeSet::new();
        let mut everything = false;
        let mut buffer = [0; 16_384];
        loop {
            let events = match self.inotify.read_events(&mut buffer) {
                Ok(events) => events,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    warn!(%error, "inotify cannot be read; sessions are looked for instead");
                    return None;
                }
            };
            for event in events {
                everything |= event.mask.contains(EventMask::Q_OVERFLOW);
                let watched = if event.mask.contains(EventMask::IGNORED) {
                    self.watches.remove(&event.wd)
                } else {
                    self.watches.get(&event.wd).cloned()
                };
                match (watched, event.name) {
                    (Some(Watched::Scope(place)), _) => drop(places.insert(place)),
                    (Some(Watched::Parent(parent)), Some(name)) => {
                        let path = parent.join(name);
                        match self.layout.place_of(&path) {
                            Some(Place::User { .. }) => everything = true,
                            Some(place) => drop(places.insert(place)),
                            None => everything |= self.layout.logind_folder() == Some(path),
                        }
                    }
                    (Some(Watched::Parent(_)) | None, _) => {}
                }
            }
        }
        (!everything).then_some(places)
    }

    /// The empty scopes whose time is over.
    fn due(&self, now: Instant) -> Vec<Place> {
        let due = self.known.iter().filter(|(_, known)| known.ends.is_some_and(|at| at <= now));
        due.map(|(place, _)| place.clone()).collect()
    }

    /// Looks at every scope that is there, and at every one that was.
    fn reconcile(&mut self, now: Instant, events: &mut Vec<Event>) {
        self.reconciled = now;
        if let Err(error) = self.watch_parents() {
            warn!(error = &error as &dyn std::error::Error, "sessions are noticed late");
        }
        let slices = self.slices_there();
        let parents = slices.into_iter().chain([self.layout.own_folder()]);
        let there = parents.flat_map(|parent| folders_in(&parent));
        let mut places: BTreeSet<Place> =
            there.filter_map(|folder| self.layout.place_of(&folder)).collect();
        places.extend(self.known.keys().cloned());
        for place in places {
            self.look_at(&place, false, now, events);
        }
    }

    /// Watches the folders where scopes come and go; one that is watched already
    /// stays so.
    fn watch_parents(&mut self) -> Result<(), WatchError> {
        let mask = WatchMask::CREATE | WatchMask::DELETE | WatchMask::ONLYDIR;
        let logind = self.layout.logind_folder();
        let root = logind.is_some().then(|| self.layout.cgroup_root.clone());
        // Each before what is below it, so that nothing can come unseen.
        let mut parents: Vec<PathBuf> =
            [self.layout.own_folder()].into_iter().chain(root).chain(logind).collect();
        parents.extend(self.slices_there());
        for path in parents {
            match self.inotify.watches().add(&path, mask) {
                Ok(watch) => drop(self.watches.insert(watch, Watched::Parent(path))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(WatchError::Watch { path, source }),
            }
        }
        Ok(())
    }

    /// The users' slices that are there.
    fn slices_there(&self) -> Vec<PathBuf> {
        let folders = self.layout.logind_folder().map(|slices| folders_in(&slices));
        let is_slice =
            |folder: &PathBuf| matches!(self.layout.place_of(folder), Some(Place::User { .. }));
        folders.into_iter().flatten().filter(is_slice).collect()
    }

    /// Looks at one scope: has its session begun or ended? `touched` says that its
    /// processes have changed, even if it is empty by now.
    fn look_at(&mut self, place: &Place, touched: bool, now: Instant, events: &mut Vec<Event>) {
        let path = self.layout.folder(place);
        let cgroup = cgroup_id(&path);
        if self.known.get(place).is_some_and(|known| Some(known.cgroup) != cgroup) {
            self.forget(place, events);
        }
        let Some(cgroup) = cgroup else { return };
        let is_new = !self.known.contains_key(place);
        if is_new {
            self.watch_scope(place, &path);
        }
        let Some(populated) = is_populated(&path) else { return };
        let known = self.known.entry(place.clone()).or_insert(Known {
            cgroup,
            session: None,
            first_seen: now,
            entered: false,
            ends: None,
        });
        known.entered |= populated || (touched && !is_new);
        match place {
            Place::Own { number } => self.look_at_own(SessionId(*number), populated, now, events),
            Place::Logind { uid, name } => {
                self.look_at_logind(*uid, name, &path, populated, events);
            }
            Place::User { .. } => {}
        }
    }

    fn look_at_own(
        &mut self,
        id: SessionId,
        populated: bool,
        now: Instant,
        events: &mut Vec<Event>,
    ) {
        let place = Place::Own { number: id.0 };
        let Some(known) = self.known.get_mut(&place) else { return };
        if known.session.is_none() {
            // A folder without a user is not ours; `open_scope` may yet make it so.
            let found =
                self.scopes.own_session(id).filter(|found| found.scope.cgroup == known.cgroup);
            let Some(session) = found else { return };
            self.scopes.register(&session);
            events.push(Event::Started(session.clone()));
            known.session = Some(session);
        }
        let Some(session) = &known.session else { return };
        if populated {
            known.ends = None;
            return;
        }
        let patience = if known.entered { NEXT_PROCESS } else { FIRST_PROCESS };
        let ends = match self.scopes.opened_at(session.scope.cgroup) {
            Some(opened) => opened + patience,
            None if known.entered => now,
            None => known.first_seen + patience,
        };
        known.ends = Some(ends);
        if now < ends {
            return;
        }
        match self.scopes.end_own(session, now) {
            Ok(true) => self.forget(&place, events),
            // Opened or entered again at this very moment.
            Ok(false) => known.ends = Some(now + NEXT_PROCESS),
            Err(error) => {
                known.ends = Some(now + RECONCILE);
                warn!(session = %id, error = &error as &dyn std::error::Error, "not removed");
            }
        }
    }

    fn look_at_logind(
        &mut self,
        uid: u32,
        name: &str,
        path: &Path,
        populated: bool,
        events: &mut Vec<Event>,
    ) {
        let place = Place::Logind { uid, name: name.to_owned() };
        let Some(known) = self.known.get_mut(&place) else { return };
        let description = Description::read(&self.layout.logind_state, name);
        let is_session = populated && description.is_a_users();
        match (&known.session, is_session) {
            (None, true) => {
                let Some(id) = number_of(name, |id| self.scopes.is_taken(id)) else { return };
                let session = Session {
                    id,
                    user: User::of(uid),
                    since: description.since.or_else(|| folder_time(path)).unwrap_or_default(),
                    scope: Scope { cgroup: known.cgroup, path: path.to_owned() },
                };
                self.scopes.register(&session);
                events.push(Event::Started(session.clone()));
                known.session = Some(session);
            }
            (Some(session), false) => {
                self.scopes.unregister(session);
                events.push(Event::Ended(session.id));
                known.session = None;
            }
            (None, false) | (Some(_), true) => return,
        }
        self.anchor_slice(uid);
    }

    /// Watches when the processes of a scope change.
    fn watch_scope(&mut self, place: &Place, path: &Path) {
        match self.inotify.watches().add(path.join("cgroup.events"), WatchMask::MODIFY) {
            Ok(watch) => drop(self.watches.insert(watch, Watched::Scope(place.clone()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // fs.inotify.max_user_watches, most likely.
            Err(error) => warn!(path = %path.display(), %error, "its end will be noticed late"),
        }
    }

    /// A scope is gone. The kernel removes its watch.
    fn forget(&mut self, place: &Place, events: &mut Vec<Event>) {
        let session = self.known.remove(place).and_then(|known| known.session);
        let Some(session) = session else { return };
        self.scopes.unregister(&session);
        events.push(Event::Ended(session.id));
        if let Place::Logind { uid, .. } = place {
            self.anchor_slice(*uid);
        }
    }

    /// Lets a user's slice stand for the oldest of his sessions.
    fn anchor_slice(&mut self, uid: u32) {
        let first = Place::Logind { uid, name: String::new() };
        let of_user = self.known.range(first..).take_while(
            |(place, _)| matches!(place, Place::Logind { uid: whose, .. } if *whose == uid),
        );
        let sessions = of_user.filter_map(|(_, known)| known.session.as_ref());
        let oldest = sessions.min_by_key(|session| (session.since, session.id)).map(|it| it.id);
        let slice = cgroup_id(&self.layout.folder(&Place::User { uid }));
        if let Some(gone) = self.slices.remove(&uid).filter(|known| Some(*known) != slice) {
            self.scopes.anchor_slice(gone, None);
        }
        if let Some(slice) = slice {
            debug!(uid, session = ?oldest, "programs outside the user's scopes count as");
            self.scopes.anchor_slice(slice, oldest);
            self.slices.insert(uid, slice);
        }
    }
}
