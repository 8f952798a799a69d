//! The eBPF programs and the maps through which they are told what to do.

mod again;
mod descendants;
mod error;
mod handles;
mod links;
mod lists;
mod open;
mod pins;
mod policy;
mod prefixes;
mod process;
mod programs;
mod scripts;
mod sessions;
mod table;
mod told;

pub use error::{FindError, LoadError, PolicyError, ProgramError, TableError, UnloadError};
pub use handles::{ClosedSockets, NewDual, NotedPings, OwnerMap};
pub use open::Before;
pub(crate) use open::pins;
pub use pins::forget_stale;
pub use process::{executable, file_of, standing};
pub use told::{Closed, Moved, SocketOwner};

use super::PolicyView;
use aya::EbpfLoader;
use aya::maps::{MapData, RingBuf};
use pins::Pins;
use programs::{ALWAYS, FINDERS, Programs};
use scripts::Scripts;
use sessionip_hook::layout::{self, Address};
use std::net::Ipv4Addr;
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
    /// How often there was no room in them for processes that were there before.
    full_descendants: u64,
    full_scripts: u64,
    /// `None`: no list had a script yet.
    can_follow_scripts: Option<bool>,
    follows_scripts: bool,
    epoch: Arc<AtomicU32>,
    moved: Table<u64, layout::Moved>,
    to_mark: Table<u64, layout::Bound>,
    /// There was nothing to take over, and [`begin`](Self::begin) is to come.
    waits: bool,
    counters: Sums,
}

impl Companion {
    /// Loads the hook, or takes over one that a daemon before left behind: its
    /// maps, with the sessions in them, and without a moment in which a bind
    /// goes unseen. Sessions that have ended since are for the caller to
    /// [`retain`](Self::retain). Works for the network namespace of the
    /// calling thread, from the first [`set_policy`](Self::set_policy) on; where
    /// there was nothing to take over, from [`begin`](Self::begin) on.
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
        let to_mark = Table::open(&mut ebpf, "TO_MARK")?;
        let counters = Sums::open(&mut ebpf)?;
        let closed = Some(take(&mut ebpf, "CLOSED")?);
        let pings = Some(take(&mut ebpf, "PINGS")?);
        let new_dual = Some(take(&mut ebpf, "NEW_DUAL")?);
        let mut programs = Programs::new(ebpf, cgroup);
        programs.verify(ALWAYS)?;
        scripts.teach()?;
        programs.verify(FINDERS)?;
        let waits = pins.is_new();
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
            full_descendants: 0,
            full_scripts: 0,
            can_follow_scripts: None,
            follows_scripts: false,
            epoch: Arc::default(),
            moved,
            to_mark,
            waits,
            counters,
        };
        let known = companion.config.value()?;
        companion.epoch.store(known.epoch, Ordering::Relaxed);
        companion.config.set(layout::Config { netns, ..known })?;
        companion.programs.attach(ALWAYS, &companion.pins)?;
        Ok(companion)
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
