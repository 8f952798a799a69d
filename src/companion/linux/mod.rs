//! The eBPF programs and the maps through which they are told what to do.

mod descendants;
mod error;
mod handles;
mod links;
mod lists;
mod open;
mod pins;
mod prefixes;
mod process;
mod programs;
mod scripts;
mod table;
mod told;

pub use error::{LoadError, PolicyError, ProgramError, TableError, UnloadError};
pub use handles::{ClosedSockets, NewDual, NotedPings, OwnerMap};
pub use open::Before;
pub use pins::forget_stale;
pub use process::{executable, file_of, standing};
pub use scripts::FOLLOWS_SCRIPTS;
pub use told::{Closed, Moved, SocketOwner};

use super::{Counters, HostAddress, PolicyView, SessionEntry};
use crate::address::Leading;
use crate::packet::{Endpoint, Protocol};
use crate::session::SessionId;
use aya::EbpfLoader;
use aya::maps::{MapData, RingBuf};
use lists::Lists;
use pins::Pins;
use programs::{ALWAYS, FINDERS, Programs};
use scripts::Scripts;
use sessionip_hook::layout::{self, Address, Counter, flag};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fmt, io};
use table::{Array, Prefixes, Sums, Table, take};

/// The hook knows `scope = "connect"`.
pub const CHOOSES_SOURCES: bool = true;

/// A dual-stack socket that was moved is found by IPv6 as well.
pub const FINDS_DUAL: bool = true;

/// Where the companion is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Links and maps are pinned here. A bpffs is mounted on it unless it
    /// already lies in one; the mount namespace must outlive the daemon.
    pub pin_directory: PathBuf,
    /// The root of the cgroup2 hierarchy.
    pub cgroup_root: PathBuf,
}

/// The loaded hook. Dropping it leaves the hook in place, for the next daemon;
/// [`Companion::unload`] takes it away.
pub struct Companion {
    programs: Programs,
    pins: Pins,
    policy: Option<PolicyView>,
    closed: Option<RingBuf<MapData>>,
    pings: Option<RingBuf<MapData>>,
    new_dual: Option<RingBuf<MapData>>,
    config: Array<layout::Config>,
    sessions: Table<u64, layout::Session>,
    holders: Table<Address, u32>,
    host: Table<Address, u32>,
    pool: Prefixes,
    routes: Prefixes,
    by_file: Table<layout::FileId, layout::Program>,
    by_path: Table<u64, layout::Program>,
    by_name: Table<layout::FileName, layout::Program>,
    excluded: Table<layout::Exclusion, u32>,
    descendants: Table<u32, u32>,
    scripts: Scripts,
    /// `None`: no list had a script yet.
    can_follow_scripts: Option<bool>,
    follows_scripts: bool,
    epoch: Arc<AtomicU32>,
    moved: Table<u64, layout::Moved>,
    counters: Sums,
}

impl Companion {
    /// Loads the hook, or takes over one that a daemon before left behind: its
    /// maps, with the sessions in them, and without a moment in which a bind
    /// goes unseen. Sessions that have ended since are for the caller to
    /// [`retain`](Self::retain). Works for the network namespace of the
    /// calling thread, from the first [`set_policy`](Self::set_policy) on.
    ///
    /// # Errors
    /// See [`LoadError`]; a hook that was there before is left as it was.
    pub fn load(options: &Options) -> Result<Self, LoadError> {
        if !nix::unistd::geteuid().is_root() {
            return Err(LoadError::NotRoot);
        }
        let cgroup = programs::open_cgroup_root(&options.cgroup_root)?;
        if !Path::new(programs::TYPES).exists() {
            return Err(LoadError::NoBtf);
        }
        let netns = netns_cookie().map_err(LoadError::Namespace)?;
        let pins = Pins::prepare(&options.pin_directory)?;
        let mut ebpf = EbpfLoader::new()
            .default_map_pin_directory(pins.current())
            .load(sessionip_hook::OBJECT)
            .map_err(|error| LoadError::Object(Box::new(error)))?;
        let config = Array::open(&mut ebpf, "CONFIG")?;
        let sessions = Table::open(&mut ebpf, "SESSIONS")?;
        let holders = Table::open(&mut ebpf, "HOLDERS")?;
        let host = Table::open(&mut ebpf, "HOST")?;
        let pool = Prefixes::open(&mut ebpf, "POOL")?;
        let routes = Prefixes::open(&mut ebpf, "ROUTES")?;
        let by_file = Table::open(&mut ebpf, "PROGRAMS_BY_FILE")?;
        let by_path = Table::open(&mut ebpf, "PROGRAMS_BY_PATH")?;
        let by_name = Table::open(&mut ebpf, "PROGRAMS_BY_NAME")?;
        let excluded = Table::open(&mut ebpf, "EXCLUDED")?;
        let descendants = Table::open(&mut ebpf, "DESCENDANTS")?;
        let mut scripts = Scripts::open(&mut ebpf)?;
        let moved = Table::open(&mut ebpf, "MOVED")?;
        let counters = Sums::open(&mut ebpf)?;
        let closed = Some(take(&mut ebpf, "CLOSED")?);
        let pings = Some(take(&mut ebpf, "PINGS")?);
        let new_dual = Some(take(&mut ebpf, "NEW_DUAL")?);
        let mut programs = Programs::new(ebpf, cgroup);
        programs.verify(ALWAYS)?;
        scripts.teach()?;
        programs.verify(FINDERS)?;
        let mut companion = Self {
            programs,
            pins,
            policy: None,
            closed,
            pings,
            new_dual,
            config,
            sessions,
            holders,
            host,
            pool,
            routes,
            by_file,
            by_path,
            by_name,
            excluded,
            descendants,
            scripts,
            can_follow_scripts: None,
            follows_scripts: false,
            epoch: Arc::default(),
            moved,
            counters,
        };
        let known = companion.config.value()?;
        companion.epoch.store(known.epoch, Ordering::Relaxed);
        companion.config.set(layout::Config { netns, ..known })?;
        companion.programs.attach(ALWAYS, &companion.pins)?;
        Ok(companion)
    }

    /// From now on this is whom the hook works for.
    ///
    /// # Errors
    /// It took effect in part; it may be set again.
    pub fn set_policy(&mut self, policy: &PolicyView) -> Result<(), PolicyError> {
        self.policy = Some(policy.clone());
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
            self.scripts.look_again(&lists)?;
        } else {
            self.scripts.forget()?;
        }
        if policy.children {
            descendants::prune(&mut self.descendants, &lists)?;
            descendants::seed(&mut self.descendants, &lists)?;
        } else {
            // Nobody takes marks away any more, and numbers of processes return.
            self.descendants.replace(&BTreeMap::new())?;
        }
        self.begin_epoch()?;
        self.pins.remove_other_layouts();
        Ok(())
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
        let Some(policy) = self.policy.clone() else { return Ok(()) };
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

    /// A session has come, or has other addresses now, which must be on the
    /// host already. `cgroup` is the inode of its folder.
    ///
    /// # Errors
    /// The map is full.
    pub fn set_session(&mut self, cgroup: u64, entry: &SessionEntry) -> Result<(), TableError> {
        let session = to_layout(entry);
        let mut sessions = self.sessions.all()?;
        sessions.insert(cgroup, session);
        self.holders.add(&holders(&sessions))?;
        self.sessions.set(&cgroup, &session)?;
        self.holders.replace(&holders(&sessions))
    }

    /// A session has ended. Its sockets stay where they are.
    ///
    /// # Errors
    /// The map could not be written.
    pub fn remove_session(&mut self, cgroup: u64) -> Result<(), TableError> {
        self.sessions.remove(&cgroup)?;
        self.holders.replace(&holders(&self.sessions.all()?))
    }

    /// The sessions that the hook knows, by cgroup.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn sessions(&self) -> Result<Vec<(u64, SessionEntry)>, TableError> {
        let sessions = self.sessions.all()?;
        Ok(sessions.into_iter().map(|(cgroup, session)| (cgroup, from_layout(session))).collect())
    }

    /// Removes the sessions for which `keep` says no.
    ///
    /// # Errors
    /// A map could not be read or written.
    pub fn retain(
        &mut self,
        mut keep: impl FnMut(u64, &SessionEntry) -> bool,
    ) -> Result<(), TableError> {
        for (cgroup, entry) in self.sessions()? {
            if !keep(cgroup, &entry) {
                self.sessions.remove(&cgroup)?;
            }
        }
        self.holders.replace(&holders(&self.sessions.all()?))
    }

    /// The host's own addresses, all of them.
    ///
    /// # Errors
    /// The map is full.
    pub fn set_host_addresses(&mut self, addresses: &[HostAddress]) -> Result<(), TableError> {
        let wanted = addresses.iter().map(|host| {
            (Address::from(host.address), if host.pool_nic { layout::POOL_NIC } else { 0 })
        });
        self.host.replace(&wanted.collect())
    }

    /// The addresses that only a lease makes anybody's. Add the prefix of the
    /// session-private IPv6 addresses.
    ///
    /// # Errors
    /// The map is full.
    pub fn set_pool(&mut self, ranges: &[RangeInclusive<IpAddr>]) -> Result<(), TableError> {
        let prefixes = ranges.iter().flat_map(prefixes::of_range);
        self.pool.replace(&prefixes.map(|prefix| (prefix, 1)).collect())
    }

    /// Where packets leave by the pool's NIC, and where not: there sources are
    /// chosen, if the policy says so.
    ///
    /// # Errors
    /// The map is full.
    pub fn set_leading(&mut self, leading: &[Leading]) -> Result<(), TableError> {
        let wanted = leading
            .iter()
            .map(|it| (prefixes::of_net(it.net), if it.over { layout::OVER_POOL_NIC } else { 0 }));
        self.routes.replace(&wanted.collect())
    }

    /// A handle on the owners of sockets, for any thread.
    ///
    /// # Errors
    /// The pins have gone.
    pub fn owners(&self) -> Result<OwnerMap, TableError> {
        OwnerMap::open(self.pins.current(), Arc::clone(&self.epoch))
    }

    /// The closed sockets, for one thread: only the first call gets them.
    pub fn closed(&mut self) -> Option<ClosedSockets> {
        self.closed.take().map(ClosedSockets::new)
    }

    /// Has dual-stack UDP sockets that were moved found by IPv6 as well: those that
    /// are there now.
    ///
    /// # Errors
    /// The kernel does not run the program.
    pub fn find_dual(&mut self) -> Result<(), ProgramError> {
        self.programs.find_dual()
    }

    /// Tells when there is another one for [`find_dual`](Self::find_dual), for one
    /// thread: only the first call gets it.
    pub fn new_dual(&mut self) -> Option<NewDual> {
        self.new_dual.take().map(NewDual::new)
    }

    /// The notes of pings, for one thread: only the first call gets them.
    pub fn noted_pings(&mut self) -> Option<NotedPings> {
        self.pings.take().map(NotedPings::new)
    }

    /// The folder with the programs that rules run: see
    /// [`Selection::ping_programs`](crate::divert::Selection::ping_programs).
    pub fn ping_programs(&self) -> Option<PathBuf> {
        Some(self.pins.current().to_owned())
    }

    /// The sockets that are not bound where their programs asked.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn moved(&self) -> Result<Vec<Moved>, TableError> {
        let moved = self.moved.all()?.into_iter().filter_map(|(cookie, moved)| {
            Some(Moved {
                cookie,
                session: SessionId(moved.session),
                protocol: protocol(moved.protocol)?,
                asked: Endpoint::new(moved.asked.into(), moved.port),
                bound: Endpoint::new(moved.given.into(), moved.port),
            })
        });
        Ok(moved.collect())
    }

    /// What the hook has done so far.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn counters(&self) -> Result<Counters, TableError> {
        Ok(Counters {
            moved_binds: self.counters.of(Counter::MovedBinds)?,
            refused_binds: self.counters.of(Counter::RefusedBinds)?,
            redirected: self.counters.of(Counter::Redirected)?,
            foreign_source: self.counters.of(Counter::ForeignSource)?,
            foreign_listener: self.counters.of(Counter::ForeignListener)?,
            foreign_loopback: self.counters.of(Counter::ForeignLoopback)?,
            lost_events: self.counters.of(Counter::LostEvents)?,
        })
    }

    /// The listed paths at which there is no file now.
    pub fn missing_programs(&self) -> Vec<PathBuf> {
        self.policy.as_ref().map(|policy| Lists::compile(policy).missing).unwrap_or_default()
    }

    /// Takes the hook away: programs, links, maps, pins, and the mount.
    ///
    /// # Errors
    /// Something is still there.
    pub fn unload(self) -> Result<(), UnloadError> {
        let directory = self.pins.directory().to_owned();
        drop(self);
        forget_stale(&directory)
    }
}

impl fmt::Debug for Companion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Companion").field("pins", &self.pins).finish_non_exhaustive()
    }
}

/// What SESSIONS says of who holds what.
fn holders(sessions: &BTreeMap<u64, layout::Session>) -> BTreeMap<Address, u32> {
    let mut holders = BTreeMap::new();
    for session in sessions.values() {
        for ipv4 in [session.ipv4, session.loopback] {
            if ipv4 != [0; 4] {
                holders.insert(Address::from(IpAddr::from(ipv4)), session.id);
            }
        }
        for address in [session.ipv6, session.private_ipv6] {
            if address != Address::default() {
                holders.insert(address, session.id);
            }
        }
    }
    holders
}

fn to_layout(entry: &SessionEntry) -> layout::Session {
    let ipv4 = |address: Option<Ipv4Addr>| address.map_or([0; 4], |a| a.octets());
    let ipv6 = |address: Option<Ipv6Addr>| Address(address.map_or([0; 16], |a| a.octets()));
    layout::Session {
        id: entry.id.0,
        ipv4: ipv4(entry.ipv4),
        ipv6: ipv6(entry.ipv6),
        private_ipv6: ipv6(entry.private_ipv6),
        loopback: ipv4(entry.loopback),
    }
}

fn from_layout(session: layout::Session) -> SessionEntry {
    let ipv4 = |octets: [u8; 4]| (octets != [0; 4]).then(|| Ipv4Addr::from(octets));
    let ipv6 = |address: Address| (address.0 != [0; 16]).then(|| Ipv6Addr::from(address.0));
    SessionEntry {
        id: SessionId(session.id),
        ipv4: ipv4(session.ipv4),
        ipv6: ipv6(session.ipv6),
        private_ipv6: ipv6(session.private_ipv6),
        loopback: ipv4(session.loopback),
    }
}

fn protocol(number: u16) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp].into_iter().find(|protocol| *protocol as u16 == number)
}

/// The network namespace of the calling thread, by the number that eBPF knows
/// it by (`SO_NETNS_COOKIE`, socket(7)).
#[expect(unsafe_code, reason = "nix does not know this socket option")]
fn netns_cookie() -> io::Result<u64> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let mut cookie = 0_u64;
    let mut size = size_of_val(&cookie) as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes to `cookie`, which has as
    // many, and the length it wrote to `size`; both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut size,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}
