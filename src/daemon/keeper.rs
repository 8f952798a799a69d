//! What follows when a session comes or goes, or the configuration changes?
//!
//! The keeper holds what there is one of: leases, addresses on the host, the
//! hook's tables, the rules, and the packet line. Each session's lease is put on
//! the host, told to the hook and to the line, in this order, before anybody is
//! told that the session is open; it is taken back the other way round.

use super::RunError;
use super::admission::Held;
use super::line::{self, Line, Numbers};
use super::neighbours::{self, Neighbours};
use crate::address::{self, Adapter, Addresses, RouteNews};
use crate::companion::{self, Companion, Counters, HostAddress};
use crate::config::{Config, Severity};
use crate::control::access::Peer;
use crate::control::{OpenedSession, Start, Started};
use crate::divert::Switch;
use crate::lease::{Family, Leases, Refused, store::Store};
use crate::observe::event::Event as Record;
use crate::owner::{AtPool, Watch};
use crate::policy::Policy;
use crate::session::{Event, SessionId, Sessions, UserId};
use crate::verdict::{Reason, Reasons};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Instant;

/// How many programs without the hook are named at once.
const UNHOOKED: usize = 20;

/// Everything that is kept in step with the sessions.
pub(super) struct Keeper {
    pub(super) config: Config,
    pub(super) config_path: PathBuf,
    pub(super) logins: Sessions,
    pub(super) adapter: Adapter,
    pub(super) addresses: Addresses,
    pub(super) route_news: RouteNews,
    pub(super) host_addresses: Vec<HostAddress>,
    pub(super) leases: Leases,
    pub(super) store: Store,
    pub(super) companion: Companion,
    pub(super) watch: Watch,
    /// What of sockets the packet line was told last.
    pub(super) at_pool: AtPool,
    pub(super) switch: Switch,
    pub(super) line: Line,
    pub(super) policy: Policy,
    pub(super) neighbours: Neighbours,
    pub(super) sessions: BTreeMap<SessionId, Held>,
    /// Programs without the hook that an administrator has been told of.
    pub(super) told_unhooked: BTreeSet<(SessionId, u32)>,
    /// Tables of the hook of which was told that they are full.
    pub(super) told_full: BTreeSet<&'static str>,
    pub(super) since: Timestamp,
    /// Whether programs have a loopback of their session's own, as far as the hook
    /// was told.
    pub(super) loopback_on: bool,
    /// Something could not be told to hook or line: mending tells them all.
    pub(super) untold: bool,
    /// The rules could not be laid: mending does.
    pub(super) unselected: bool,
    /// What listens at its session's addresses is found at all of them.
    pub(super) found: bool,
    /// When rules and routes were last looked after; `None`: they have to be.
    pub(super) mended: Option<Instant>,
}

impl Keeper {
    /// Takes over what a crash left, admits who is logged on, and lays the rules:
    /// from here on packets come, and are looked at.
    pub(super) fn begin(&mut self, logged_on: Vec<Event>) -> Result<(), RunError> {
        self.tell_hook()?;
        for event in logged_on {
            self.session_event(event)?;
        }
        self.forget_the_dead()?;
        // The hook works before packets are led to a line that does not yet.
        self.tell_hook_all()?;
        self.companion.begin()?;
        let found = self.companion.relieve(&self.logins).map_err(RunError::not_found);
        self.found = found.is_ok();
        warn_on("look for listeners from before", found);
        self.lead()?;
        self.follow_sockets()?;
        // What met the rules of a daemon that crashed is none of our count.
        self.switch.count_anew();
        self.line.begin()?;
        Ok(())
    }

    /// Takes everything of ours back. What fails is logged, and the rest is
    /// still taken back. Sessions that go on keep their sockets: those bound to a
    /// virtual address are reached there again after the next start.
    pub(super) fn end(mut self) {
        warn_on("let go of the packets", self.switch.release());
        // Before the addresses: a bind must not be moved to one that is gone.
        warn_on("unload the companion hook", self.companion.unload());
        for address in self.sessions.values().flat_map(Held::addresses) {
            warn_on("take off a session's address", self.addresses.take_off(address));
        }
        let leased = self.leases.iter().map(|lease| lease.address).collect();
        let swept = sweep(&mut self.addresses, &self.config, &leased, &BTreeSet::new());
        warn_on("look for stale addresses", swept);
        warn_on("end the packet line", self.line.stop());
    }

    /// A session came or went. Trouble with one is its own; only a packet line
    /// that is gone is everybody's.
    pub(super) fn session_event(&mut self, event: Event) -> Result<(), line::Gone> {
        let (id, done) = match event {
            Event::Started(session) => (session.id, self.admit(session)),
            Event::Ended(id) => (id, self.dismiss(id)),
        };
        match done {
            Err(RunError::Line(gone)) => return Err(gone),
            Err(error) => tracing::warn!(session = %id, "{}", in_full(&error)),
            Ok(()) => {}
        }
        Ok(())
    }

    /// Opens session `id` for `uid`, or finds the one there is, for `exec`: when
    /// this returns, the session has its address and the hook knows it.
    ///
    /// # Errors
    /// Why not, as a sentence.
    pub(super) fn open_session(
        &mut self,
        id: SessionId,
        user: UserId,
    ) -> Result<OpenedSession, String> {
        let (session, scope) = self.logins.open(id, user).map_err(|e| in_full(&e))?;
        self.admit(session).map_err(|e| in_full(&e))?;
        let virtual_ip = self.sessions.get(&id).and_then(|held| held.leased().next());
        Ok(OpenedSession { scope, virtual_ip })
    }

    /// Starts a program in a session, for `exec` where a caller cannot enter one
    /// himself.
    ///
    /// # Errors
    /// Why not, as a sentence.
    pub(super) fn start(&self, peer: &Peer, start: &Start) -> Result<Started, String> {
        let id = start.session;
        let held = self.sessions.get(&id).ok_or_else(|| format!("no session {id} is logged on"))?;
        let user = &held.session.user;
        let wanted = match &start.user {
            None => user.id == peer.user,
            Some(name) => user.is_called(name),
        };
        if !wanted {
            return Err(format!("session {id} is {}'s: name him with --user", user.name));
        }
        self.companion.start(peer.pid, &held.session, start)
    }

    /// Reads the configuration file again. New flows, binds and logins go by it;
    /// what has begun goes on. Returns sentences about what needs a restart.
    ///
    /// # Errors
    /// Why it was not done: the file is wrong, and nothing was changed; or what
    /// could not be told to hook, line or rules, which the next second tries again.
    pub(super) fn reload(&mut self) -> Result<Vec<String>, String> {
        let adapters = address::cards().map_err(|e| e.to_string())?;
        let (mut new, warnings) = Config::load_for(&self.config_path, &adapters, Severity::Error)
            .inspect_err(|error| Record::ConfigRefused { why: &error.to_string() }.record())
            .map_err(|e| in_full(&e))?;
        let mut notes: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        let mut keep = |key: &str, differs: bool| {
            if differs {
                notes.push(format!("{key} changed: it takes effect when the daemon is restarted"));
            }
        };
        keep("control", new.control != self.config.control);
        keep("state-dir", new.state_dir != self.config.state_dir);
        keep("metrics.listen", new.metrics != self.config.metrics);
        keep("pool.adapter", new.pool.adapter != self.config.pool.adapter);
        keep("loopback.mapping", new.loopback.mapping != self.config.loopback.mapping);
        new.control.clone_from(&self.config.control);
        new.state_dir.clone_from(&self.config.state_dir);
        new.metrics = self.config.metrics;
        new.pool.adapter.clone_from(&self.config.pool.adapter);
        new.loopback.mapping = self.config.loopback.mapping;

        self.config = new;
        self.policy = Policy::compile(&self.config, companion::standing);
        self.leases.set_pool(&self.config.pool, self.adapter.reserved());
        self.mended = None;
        self.apply().map_err(|e| in_full(&e))?;
        tracing::info!("configuration reloaded");
        Record::Reloaded.record();
        Ok(notes)
    }

    /// What changes by time: host addresses that came or went, listed files that
    /// were replaced.
    pub(super) fn tick(&mut self, now: Instant) -> Result<(), RunError> {
        // Also how a line that hangs is found out: it does not answer.
        self.line.numbers()?;
        self.neighbours.ask(now, self.leases.upcoming(self::now(), neighbours::AHEAD));
        self.tell_unhooked();
        self.tell_full();
        let done = [
            self.companion.refresh_programs().map_err(RunError::from),
            self.follow_programs(),
            self.follow_host_addresses(),
            self.replace_duplicates(),
            self.follow_sockets(),
            self.mend(now),
            self.follow_routes(),
        ];
        // Each was done, whatever became of those before.
        done.into_iter().collect()
    }

    /// Listed files that were replaced.
    fn follow_programs(&mut self) -> Result<(), RunError> {
        let policy = Policy::compile(&self.config, companion::standing);
        if policy != self.policy {
            self.policy = policy;
            self.line.set_policy(self.policy.clone())?;
        }
        Ok(())
    }

    /// Dual-stack sockets that were moved are to be found by IPv6 as well.
    pub(super) fn find_dual(&mut self) {
        warn_on("have dual-stack sockets found by IPv6", self.companion.find_dual());
    }

    /// What listens at its session's addresses is to be found at all of them: those
    /// that it had before a stop, and one that has come since. What fails is tried
    /// again.
    pub(super) fn find_again(&mut self) -> Result<(), RunError> {
        if !self.found {
            self.companion.find_again(&self.logins).map_err(RunError::not_found)?;
            self.found = true;
        }
        Ok(())
    }

    /// Tells of programs that run without the hook, of each once.
    fn tell_unhooked(&mut self) {
        let unhooked = self.companion.unhooked();
        for it in unhooked.iter().filter(|it| !it.is_usual()) {
            let Some(held) = self.sessions.get(&it.session) else { continue };
            if self.told_unhooked.insert((it.session, it.pid)) {
                tracing::warn!("{it}");
                let (program, session) = (it.program.as_str(), it.session);
                let user = held.session.user.name.as_str();
                Record::NotVirtualized { program, session, user }.record();
            }
        }
        self.told_unhooked.retain(|told| unhooked.iter().any(|it| (it.session, it.pid) == *told));
    }

    /// Another machine answers for this address: no session gets it.
    pub(super) fn avoid(&mut self, address: IpAddr) {
        // Given meanwhile, and it was we who answered; or asked about once more.
        let known = self.leases.avoided().any(|(it, _)| it == address);
        if known || self.leases.holder_of(address).is_some() {
            return;
        }
        self.leases.avoid(address, "another machine answers for it");
        Record::AddressConflict { address }.record();
        tracing::warn!("another machine uses an address of the pool: `status` says which");
    }

    /// Another machine turned out to have an address after it was given: its
    /// session gets another one.
    fn replace_duplicates(&mut self) -> Result<(), RunError> {
        for address in self.addresses.duplicates()? {
            let held = self.sessions.values().find(|held| held.leased().any(|it| it == address));
            let Some(session) = held.map(|held| held.session.clone()) else { continue };
            tracing::warn!(session = %session.id, "another machine has the session's address");
            self.dismiss(session.id)?;
            self.avoid(address);
            self.admit(session)?;
        }
        Ok(())
    }

    pub(super) fn hook_counters(&self) -> Counters {
        self.companion.counters().unwrap_or_default()
    }

    /// Tables of the hook that were full, a sentence for each.
    fn full_tables(&self) -> Vec<(&'static str, String)> {
        let full = self.hook_counters().full().filter(|(_, times, _)| *times > 0);
        let sentence = |(table, times, lacks): (&'static str, u64, &str)| {
            let sentence = format!("the hook's table `{table}` was full {times} times: {lacks}");
            (table, sentence)
        };
        full.map(sentence).collect()
    }

    /// Tells of tables of the hook that are full, of each once.
    fn tell_full(&mut self) {
        for (table, sentence) in self.full_tables() {
            if self.told_full.insert(table) {
                tracing::warn!("{sentence}");
            }
        }
    }

    /// Packets by what became of them: those that the engine saw, and those that
    /// never came so far, for the hook refused them or no queue could hold them.
    pub(super) fn reasons(&self, numbers: &Numbers) -> Reasons {
        let mut reasons = numbers.reasons.clone();
        let hook = self.hook_counters();
        reasons.add(Reason::ForeignSource, hook.foreign_source);
        reasons.add(Reason::ForeignListener, hook.foreign_listener);
        reasons.add(Reason::ForeignLoopback, hook.foreign_loopback);
        reasons.add(Reason::Malformed, self.switch.malformed());
        reasons
    }

    /// What an administrator should know, as sentences.
    pub(super) fn notices(&self) -> Vec<String> {
        let mut notices = Vec::new();
        for held in self.sessions.values().filter(|held| !held.lacks.is_empty()) {
            let lacks = match held.lacks[..] {
                [family] if held.leased().next().is_some() => format!(" ({family})"),
                _ => String::new(),
            };
            notices.push(format!("session {}{lacks}: {}", held.session.id, Refused::Exhausted));
        }
        if self.config.pool.has(Family::Ipv6) && !companion::FINDS_DUAL {
            let sentence = "listeners for both IP versions are reached by IPv4 only on this system";
            notices.push(sentence.to_owned());
        }
        for held in self.sessions.values().filter(|held| held.ipv6_withheld) {
            let (id, card) = (held.session.id, &self.adapter.name);
            notices.push(format!(
                "session {id}: its IPv6 address waits until {card} has an IPv6 address of its own"
            ));
        }
        notices.extend(self.loopback_notices());
        notices.extend(self.switch.notices());
        notices.extend(self.full_tables().into_iter().map(|(_, sentence)| sentence));
        for (address, why) in self.leases.avoided() {
            notices.push(format!("{address} is not given, {why}: take it out of pool.ranges"));
        }
        let unhooked = self.companion.unhooked();
        let unusual = unhooked.iter().filter(|it| !it.is_usual());
        notices.extend(unusual.map(ToString::to_string).take(UNHOOKED));
        for path in self.companion.missing_programs() {
            notices.push(format!("listed program {} does not exist", path.display()));
        }
        notices
    }

    /// Sessions that ended while no daemon was there.
    fn forget_the_dead(&mut self) -> Result<(), RunError> {
        let live: BTreeSet<SessionId> = self.sessions.keys().copied().collect();
        let leased: BTreeSet<IpAddr> = self.leases.iter().map(|lease| lease.address).collect();
        for lease in self.leases.give_back_all_but(now(), &live) {
            tracing::info!(session = %lease.session, "session had ended meanwhile");
        }
        let held: BTreeSet<IpAddr> = self.sessions.values().flat_map(Held::addresses).collect();
        sweep(&mut self.addresses, &self.config, &leased, &held)?;
        self.companion.keep_only(self.sessions.values().map(|held| &held.session))?;
        self.save();
        Ok(())
    }

    pub(super) fn save(&self) {
        // The leases in memory go on being right; the next change tries again.
        warn_on("save the leases", self.store.save(&self.leases.saved()));
    }
}

/// Takes off what is on the host, but for nobody. Where an address of ours does not
/// say so itself, it is known by having been `leased`.
fn sweep(
    addresses: &mut Addresses,
    config: &Config,
    leased: &BTreeSet<IpAddr>,
    held: &BTreeSet<IpAddr>,
) -> Result<(), address::ListError> {
    for stale in addresses.ours_on_host()? {
        let ours = address::MARKED
            || config.pool.ranges.iter().any(|range| range.contains(&stale))
            || leased.contains(&stale)
            || matches!(stale, IpAddr::V6(six) if address::PRIVATE_IPV6.contains(&six));
        if ours && !held.contains(&stale) {
            warn_on("take off a stale address", addresses.take_off(stale));
        }
    }
    Ok(())
}

/// Goes on after a failure that leaves something undone, and says so.
pub(super) fn warn_on<T, E: std::error::Error>(what: &str, done: Result<T, E>) {
    if let Err(error) = done {
        tracing::warn!("could not {what}: {}", in_full(&error));
    }
}

/// An error with its causes, as one sentence.
pub(super) fn in_full(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |cause| cause.source())
        .fold(error.to_string(), |sentence, cause| format!("{sentence}: {cause}"))
}

pub(super) fn now() -> Timestamp {
    Timestamp::now()
}
