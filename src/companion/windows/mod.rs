//! The DLL in the programs of the sessions, and the section it reads.

mod error;
mod inject;
mod lists;
mod open;
mod reports;
mod start;

pub use error::{LoadError, PolicyError, TableError, UnloadError};
pub use inject::Injected;
pub(crate) use open::pins;
pub use open::{Before, standing};
pub use reports::Moved;
pub use sessionip_hook::refusal::Refusal;

use super::{Counters, HostAddress, PolicyView, SessionEntry, Unhooked};
use crate::address::Leading;
use crate::session::{SessionId, Sessions};
use inject::Injector;
use lists::Lists;
use reports::Reports;
use sessionip_hook::decide::Session;
use sessionip_hook::section::{self, BYTES, Content, NAME, Writer};
use sessionip_hook::windows::shared::{READABLE, Shared};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A dual-stack socket that was moved is not found by IPv6.
pub const FINDS_DUAL: bool = false;

/// The hook knows `scope = "connect"`.
pub const CHOOSES_SOURCES: bool = true;

/// Where the companion comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The DLL. Every user must be able to read it.
    pub dll: PathBuf,
}

/// The published section, and the DLL for whoever is to read it. Dropping it
/// leaves what programs have read last in force, until another daemon speaks;
/// [`Companion::unload`] says good-bye.
#[derive(Debug)]
pub struct Companion {
    /// What is set is published.
    begun: bool,
    section: Shared,
    stamp: u64,
    content: Content,
    policy: Option<PolicyView>,
    missing: Vec<PathBuf>,
    injector: Injector,
    reports: Mutex<Reports>,
}

/// News of sockets that are to be found by IPv6 as well: never any.
#[derive(Debug)]
pub enum NewDual {}

impl NewDual {
    /// Waits for news.
    ///
    /// # Errors
    /// None.
    pub fn wait(&mut self, _: Duration) -> io::Result<bool> {
        match *self {}
    }
}

impl Companion {
    /// Publishes the section, or takes over the one that a daemon before left to
    /// programs that still hold it. Nothing is moved before
    /// [`set_policy`](Self::set_policy).
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(options: &Options) -> Result<Self, LoadError> {
        let mut companion = Self::prepare(options)?;
        companion.begin()?;
        Ok(companion)
    }

    /// As [`load`](Self::load), but nothing is said, and no program is touched,
    /// before [`begin`](Self::begin): programs go by what a daemon before said last.
    pub(super) fn prepare(options: &Options) -> Result<Self, LoadError> {
        let injector = Injector::new(&options.dll)?;
        let section = Shared::create(NAME, READABLE, BYTES)?;
        Ok(Self {
            begun: false,
            section,
            stamp: stamp(),
            content: Content::default(),
            policy: None,
            missing: Vec::new(),
            injector,
            reports: Mutex::new(Reports::open()),
        })
    }

    /// Says all at once what has been set so far, and gets the hook into programs.
    ///
    /// # Errors
    /// The section is full.
    pub fn begin(&mut self) -> Result<(), TableError> {
        self.begun = true;
        self.publish()?;
        self.sweep();
        Ok(())
    }

    /// From now on this is whom the hook works for. Programs of sessions that do
    /// not have it yet get it.
    ///
    /// # Errors
    /// The section is full: what held before holds on.
    pub fn set_policy(&mut self, policy: &PolicyView) -> Result<(), PolicyError> {
        self.policy = Some(policy.clone());
        self.apply(policy)?;
        self.injector.begin_anew();
        self.sweep();
        Ok(())
    }

    /// Looks again for the files that the lists name by path, and for programs of
    /// the sessions that do not have the hook yet: what the system itself starts in
    /// a session is no child of a program that has it. Cheap enough for every few
    /// seconds.
    ///
    /// # Errors
    /// The section is full.
    pub fn refresh_programs(&mut self) -> Result<(), TableError> {
        if let Some(policy) = self.policy.clone() {
            self.apply(&policy)?;
        }
        self.reports().open_if_closed();
        self.sweep();
        Ok(())
    }

    /// A session has come, or has other addresses now, which must be on the host
    /// already.
    ///
    /// # Errors
    /// The section is full.
    pub fn set_session(&mut self, entry: &SessionEntry) -> Result<(), TableError> {
        let before = self.content.sessions.clone();
        self.content.sessions.retain(|session| session.id != entry.id.0);
        self.content.sessions.push(to_section(entry));
        self.publish().inspect_err(|_| self.content.sessions = before)
    }

    /// A session has ended. Its sockets stay where they are.
    ///
    /// # Errors
    /// The section could not be written.
    pub fn remove_session(&mut self, id: SessionId) -> Result<(), TableError> {
        self.content.sessions.retain(|session| session.id != id.0);
        self.injector.forget(id.0);
        self.reports().forget(id);
        self.publish()
    }

    /// The sessions that the hook knows.
    pub fn sessions(&self) -> Vec<SessionEntry> {
        self.content.sessions.iter().map(from_section).collect()
    }

    /// Removes the sessions for which `keep` says no.
    ///
    /// # Errors
    /// The section could not be written.
    pub fn retain(
        &mut self,
        mut keep: impl FnMut(&SessionEntry) -> bool,
    ) -> Result<(), TableError> {
        self.content.sessions.retain(|session| keep(&from_section(session)));
        self.publish()
    }

    /// The host's own addresses, all of them.
    ///
    /// # Errors
    /// The section is full.
    pub fn set_host_addresses(&mut self, addresses: &[HostAddress]) -> Result<(), TableError> {
        let host = addresses.iter().map(|host| (mapped(host.address), host.pool_nic)).collect();
        let before = std::mem::replace(&mut self.content.host, host);
        self.publish().inspect_err(|_| self.content.host = before)
    }

    /// The addresses that only a lease makes anybody's. Add the prefix of the
    /// session-private IPv6 addresses.
    ///
    /// # Errors
    /// The section is full.
    pub fn set_pool(&mut self, ranges: &[RangeInclusive<IpAddr>]) -> Result<(), TableError> {
        let pool = ranges.iter().map(|range| mapped(*range.start())..=mapped(*range.end()));
        let before = std::mem::replace(&mut self.content.pool, pool.collect());
        self.publish().inspect_err(|_| self.content.pool = before)
    }

    /// A dual-stack socket is moved to an IPv4 address here, and is found at no other.
    ///
    /// # Errors
    /// None.
    pub fn find_dual(&mut self) -> Result<(), TableError> {
        Ok(())
    }

    /// A program's own DLL knows what it has moved.
    ///
    /// # Errors
    /// None.
    pub fn find_again(&mut self, _: &Sessions) -> Result<(), TableError> {
        Ok(())
    }

    /// There is never a hook of another layout beside this one.
    ///
    /// # Errors
    /// None.
    pub fn relieve(&mut self, _: &Sessions) -> Result<(), TableError> {
        Ok(())
    }

    /// There is never any news of that.
    pub fn new_dual(&mut self) -> Option<NewDual> {
        None
    }

    /// Where packets leave by the pool's NIC, for `scope = "connect"`.
    ///
    /// # Errors
    /// The section is full.
    pub fn set_leading(&mut self, leading: &[Leading]) -> Result<(), TableError> {
        let routes = leading.iter().map(to_route).collect();
        let before = std::mem::replace(&mut self.content.routes, routes);
        if self.content.routes == before {
            return Ok(());
        }
        self.publish().inspect_err(|_| self.content.routes = before)
    }

    /// The sockets that are not bound where their programs asked, as the programs
    /// say: believe it where a socket of that process is there.
    ///
    /// # Errors
    /// None: on Linux there is a map to read.
    pub fn moved(&self) -> Result<Vec<Moved>, TableError> {
        let mut reports = self.reports();
        reports.read(&self.content);
        Ok(reports.moved())
    }

    /// What the hook has done so far, as programs reported it.
    ///
    /// # Errors
    /// None: on Linux there is a map to read.
    pub fn counters(&self) -> Result<Counters, TableError> {
        let mut reports = self.reports();
        reports.read(&self.content);
        Ok(reports.counters())
    }

    /// The listed paths at which there is no file now.
    pub fn missing_programs(&self) -> Vec<PathBuf> {
        self.missing.clone()
    }

    /// The programs of sessions that run without the hook although they are listed,
    /// each with its reason. Processes that have ended since are not among them.
    pub fn unhooked(&self) -> Vec<Unhooked> {
        self.injector.unhooked(&self.content)
    }

    /// Gets the hook into a process of a session, unless its program is excepted.
    pub fn inject(&mut self, pid: u32) -> Injected {
        self.injector.inject(pid, &self.content)
    }

    /// Gets the hook into all processes of a session that do not have it and are
    /// not excepted.
    pub fn inject_session(&mut self, id: SessionId) -> Vec<(u32, Injected)> {
        if !self.begun {
            return Vec::new();
        }
        self.injector.sweep(&[id.0], &self.content)
    }

    /// Programs that run go on with the hook in them, and it does nothing any more.
    ///
    /// # Errors
    /// Programs could not be told.
    pub fn unload(mut self) -> Result<(), UnloadError> {
        self.content = Content::default();
        Ok(self.publish()?)
    }

    fn apply(&mut self, policy: &PolicyView) -> Result<(), TableError> {
        let lists = Lists::compile(policy);
        let before = self.content.clone();
        lists.write_to(&mut self.content);
        self.missing = lists.missing;
        if self.content == before {
            return Ok(());
        }
        self.publish().inspect_err(|_| self.content = before)
    }

    fn sweep(&mut self) {
        let sessions: Vec<u32> = self.content.sessions.iter().map(|session| session.id).collect();
        let flags = self.content.flags;
        if self.begun && (flags.enabled || flags.loopback || flags.sources) {
            self.injector.sweep(&sessions, &self.content);
        }
    }

    fn publish(&mut self) -> Result<(), TableError> {
        if !self.begun {
            return Ok(());
        }
        let mut writer = Writer::new(self.section.words(), self.stamp).ok_or(TableError::Small)?;
        Ok(writer.publish(&self.content)?)
    }

    /// A report that came while somebody panicked is a report.
    fn reports(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// No two sections of this machine have the same: a process and its beginning.
fn stamp() -> u64 {
    let made = sessionip_hook::windows::process::this_made_at().unwrap_or_default();
    made.rotate_left(20) ^ u64::from(std::process::id())
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

fn to_route(leading: &Leading) -> section::Leading {
    let to = leading.net.trunc();
    let before = if to.addr().is_ipv4() { 96 } else { 0 };
    let length = to.prefix_len() + before;
    section::Leading { to: mapped(to.addr()), length, over: leading.over }
}

fn to_section(entry: &SessionEntry) -> Session {
    let SessionEntry { id, ipv4, ipv6, private_ipv6, loopback } = *entry;
    Session { id: id.0, ipv4, ipv6, private_ipv6, loopback }
}

fn from_section(session: &Session) -> SessionEntry {
    let Session { id, ipv4, ipv6, private_ipv6, loopback } = *session;
    SessionEntry { id: SessionId(id), ipv4, ipv6, private_ipv6, loopback }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_counted_as_mapped_ones() {
        for (net, to, length) in [
            ("10.77.0.1/24", "::ffff:10.77.0.0", 120),
            ("0.0.0.0/0", "::ffff:0.0.0.0", 96),
            ("fd77::/64", "fd77::", 64),
            ("::/0", "::", 0),
        ] {
            let leading = Leading { net: net.parse().unwrap(), over: true };
            let to = to.parse().unwrap();
            assert_eq!(to_route(&leading), section::Leading { to, length, over: true }, "{net}");
        }
    }
}
