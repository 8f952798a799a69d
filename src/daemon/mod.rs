//! Which threads are there, and in which order does everything start and stop?
//!
//! | thread | does |
//! |---|---|
//! | main | keeps sessions, leases, addresses and the hook in step; answers |
//! | packets | the line: divert, engine, and nothing else |
//! | sessions | watches logins |
//! | control | signals and the control socket |
//! | metrics | `GET /metrics` |
//! | neighbours | asks whether somebody else has an address of the pool |
//!
//! They talk through bounded channels. Start: check, take the lock, open what
//! packets need, admit the sessions, and only then lay the rules that send
//! packets here. Stop: the same backwards. A daemon that dies leaves everything
//! as it is, on purpose: bound sockets go on, translated flows wait, and the
//! next start takes it over.

mod answers;
mod keeper;
mod line;
mod lock;
mod neighbours;
mod tables;
mod threads;

use crate::address::linux::{self as addresses, Addresses};
use crate::address::{self, ChooseError};
use crate::companion::{self, Companion};
use crate::config::{Config, LoadError, Severity, machine};
use crate::control::access::Peer;
use crate::control::server::Server;
use crate::control::{Request, Response};
use crate::divert::linux::rules::{self, Packets};
use crate::divert::linux::{Nfqueue, OpenError};
use crate::lease::Leases;
use crate::lease::store::{Store, StoreError};
use crate::observe::metrics;
use crate::owner::linux::{KernelSockets, Sources};
use crate::policy::Policy;
use crate::session;
use crate::session::linux::{Layout, LayoutError, WatchError, Watcher};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use keeper::Keeper;
use line::Line;
use lock::Lock;
use neighbours::Neighbours;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use sd_notify::NotifyState;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

/// The first of the six queues that packets are diverted to.
pub const QUEUES: u16 = 7770;
/// How often the main thread looks after what changes by time.
const TICK: Duration = Duration::from_secs(1);
/// How often a thread looks whether it is to end.
const LOOK_UP: Duration = Duration::from_millis(250);

/// Why the daemon did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each says what it is by what it wraps")]
pub enum RunError {
    #[error("sessionip must run as root (it diverts packets and loads eBPF): use sudo or systemd")]
    NotRoot,
    #[error("the network card {adapter} has no IPv4 address any more: sessions need one to share")]
    NoHostAddress { adapter: String },
    #[error("it is no IPv4 address, and sessions get IPv4 addresses only in this version")]
    NotIpv4,
    #[error("cannot listen on {place}: {source}")]
    Listen { place: String, source: io::Error },
    #[error(transparent)]
    Config(#[from] LoadError),
    #[error(transparent)]
    Lock(#[from] lock::LockError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Watch(#[from] WatchError),
    #[error(transparent)]
    Choose(#[from] ChooseError),
    #[error(transparent)]
    Netlink(#[from] addresses::OpenError),
    #[error(transparent)]
    Addresses(#[from] addresses::ListError),
    #[error(transparent)]
    PutOn(#[from] addresses::PutOnError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Companion(#[from] companion::LoadError),
    #[error(transparent)]
    Policy(#[from] companion::PolicyError),
    #[error(transparent)]
    Table(#[from] companion::TableError),
    #[error(transparent)]
    Divert(#[from] OpenError),
    #[error(transparent)]
    Rules(#[from] rules::RulesError),
    #[error(transparent)]
    Line(#[from] line::Gone),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl RunError {
    fn listen(place: impl Display, source: io::Error) -> Self {
        Self::Listen { place: place.to_string(), source }
    }
}

/// What reaches the main thread.
enum Event {
    Asked(Peer, Request, Sender<Response>),
    Sessions(Vec<session::Event>),
    Measured(Sender<metrics::Numbers>),
    Signalled(Signal),
    AnsweredElsewhere(Ipv4Addr),
}

/// Runs until SIGTERM or SIGINT; SIGHUP reloads.
///
/// # Errors
/// [`RunError`], each of which says what is missing and how to get it.
pub fn run(path: &Path) -> Result<(), RunError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(RunError::NotRoot);
    }
    let (config, warnings) = Config::load_for(path, &machine::adapters()?, Severity::Error)?;
    for warning in &warnings {
        tracing::warn!(key = warning.key, line = warning.line, "{}", warning.message);
    }
    let signals = catch_signals()?;
    let lock = Lock::take(&config.control)?;
    let control = config.control.clone();
    let ended = serve(path, config, signals);
    // A line that is gone is a crash: what is ours stays for the next start.
    if !matches!(ended, Err(RunError::Line(_))) {
        if let Err(error) = std::fs::remove_file(&control) {
            tracing::debug!(%error, "the control socket stays");
        }
        lock.release();
    }
    ended
}

/// Everything that happens while the lock is held.
fn serve(path: &Path, config: Config, signals: SignalFd) -> Result<(), RunError> {
    let server = Server::listen(&config.control)
        .map_err(|e| RunError::listen(config.control.display(), e))?;
    let pages = config
        .metrics
        .map(|at| TcpListener::bind(at).map_err(|e| RunError::listen(at, e)))
        .transpose()?;
    let (neighbours, questions) = Neighbours::new();
    let (watcher, mut keeper, logged_on) = open(path, config, neighbours)?;

    let (events, happening) = bounded(64);
    let (running, stop) = bounded(0);
    let adapter = keeper.adapter.clone();
    let mut threads = vec![
        neighbours::answer(adapter, questions, events.clone(), stop.clone())?,
        threads::watch_sessions(watcher, events.clone(), stop.clone())?,
        threads::serve_control(server, signals, events.clone(), stop.clone())?,
    ];
    if let Some(pages) = pages {
        threads.push(threads::serve_metrics(pages, events, stop)?);
    }
    let ended = keeper.begin(logged_on).and_then(|()| {
        tracing::info!(config = %path.display(), "ready");
        notify(&[NotifyState::Ready]);
        attend(&mut keeper, &happening)
    });
    // Whoever waits for an answer or looks whether to go on hears of it now.
    drop((running, happening));
    for thread in threads {
        thread.join().ok();
    }
    if !matches!(ended, Err(RunError::Line(_))) {
        notify(&[NotifyState::Stopping]);
        keeper.end();
    }
    ended
}

/// What [`open`] gives: who tells of sessions, who keeps up with them, and who is
/// logged on.
type Opened = (Watcher, Keeper, Vec<session::Event>);

/// Opens all that packets need; nothing is led here yet. Where it fails, what it
/// made is taken back, and what was there before, as of a crash, stays.
fn open(path: &Path, config: Config, neighbours: Neighbours) -> Result<Opened, RunError> {
    let layout = Layout::of_this_machine()?;
    let scopes = layout.own_folder();
    let pins = config.control.with_file_name("bpf");
    let (no_scopes, no_pins) = (!scopes.exists(), !pins.exists());
    open_in(path, config, layout, &pins, neighbours).inspect_err(|_| {
        if no_scopes {
            std::fs::remove_dir(scopes).ok();
        }
        if no_pins && let Err(error) = companion::forget_stale(&pins) {
            tracing::debug!(%error, "something of the companion hook stays");
        }
    })
}

fn open_in(
    path: &Path,
    config: Config,
    layout: Layout,
    pins: &Path,
    neighbours: Neighbours,
) -> Result<Opened, RunError> {
    // Whether iptables is there is said before anything is made.
    rules::packets()?;
    let mut addresses = Addresses::open()?;
    let adapter = address::choose(&config.pool, &addresses.adapters()?)?;
    let (mut watcher, scopes) = Watcher::open(&layout)?;
    let logged_on = watcher.next(Duration::ZERO);
    let (store, saved) = Store::open(&config.state_dir, keeper::now())?;
    let leases = Leases::restore(keeper::now(), &config.pool, adapter.reserved(), saved);
    let policy = Policy::compile(&config, companion::file_of);
    let (divert, waker) = Nfqueue::open(QUEUES)?;
    let mut companion = Companion::load(&companion::Options {
        pin_directory: pins.to_owned(),
        cgroup_root: layout.cgroup_root.clone(),
    })?;
    let sources = Sources {
        scopes: scopes.clone(),
        owners: Some(companion.owners()?),
        closed: companion.closed(),
        interface: adapter.index,
    };
    let mut sockets = KernelSockets::open(sources, now())?;
    for event in &logged_on {
        if let session::Event::Started(session) = event {
            sockets.learn(session);
        }
    }
    let line = Line::start(divert, waker, sockets, policy.clone())?;
    let keeper = Keeper {
        config_path: path.to_owned(),
        sessions: BTreeMap::new(),
        host_addresses: Vec::new(),
        since: keeper::now(),
        config,
        layout,
        scopes,
        adapter,
        addresses,
        leases,
        store,
        companion,
        line,
        policy,
        neighbours,
        met: Packets::default(),
        mended: Some(now()),
    };
    Ok((watcher, keeper, logged_on))
}

/// The main thread's loop.
fn attend(keeper: &mut Keeper, happening: &Receiver<Event>) -> Result<(), RunError> {
    let mut ticked = now();
    let mut complained = String::new();
    loop {
        match happening.recv_timeout(TICK) {
            Ok(Event::Asked(peer, request, reply)) => {
                reply.send(answers::answer(keeper, peer, request)).ok();
            }
            Ok(Event::Measured(reply)) => {
                reply.send(answers::metrics(keeper)?).ok();
            }
            Ok(Event::Sessions(events)) => {
                for event in events {
                    keeper.session_event(event)?;
                }
            }
            Ok(Event::AnsweredElsewhere(address)) => keeper.avoid(address),
            Ok(Event::Signalled(Signal::SIGHUP)) => match keeper.reload() {
                Ok(notes) => notes.iter().for_each(|note| tracing::warn!("{note}")),
                Err(sentence) => tracing::warn!("not reloaded: {sentence}"),
            },
            Ok(Event::Signalled(signal)) => {
                tracing::info!(%signal, "stopping");
                return Ok(());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("every thread of the daemon ended").into());
            }
        }
        if now().duration_since(ticked) >= TICK {
            ticked = now();
            match keeper.tick(ticked) {
                Err(error @ RunError::Line(_)) => return Err(error),
                done => complained = complain(done.err(), &complained),
            }
            notify(&[NotifyState::Watchdog]);
        }
    }
}

/// Logs what goes wrong every second once, until something else does.
fn complain(error: Option<RunError>, before: &str) -> String {
    let complaint = error.map(|error| keeper::in_full(&error)).unwrap_or_default();
    if !complaint.is_empty() && complaint != before {
        tracing::warn!("{complaint}");
    }
    complaint
}

/// SIGTERM, SIGINT and SIGHUP as something to poll. Before any thread is made,
/// so that they all have them blocked.
fn catch_signals() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// Tells systemd, where it is systemd that runs us.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}

#[expect(clippy::disallowed_methods, reason = "the daemon is where clocks are read")]
fn now() -> Instant {
    Instant::now()
}
