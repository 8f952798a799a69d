//! Which threads are there, and in which order does everything start and stop?
//!
//! | thread | does |
//! |---|---|
//! | main | keeps sessions, leases, addresses and the hook in step; answers |
//! | packets | the line: divert, engine, and nothing else |
//! | sessions | watches logins |
//! | owners | follows sockets, where the system has to be listened to for that |
//! | control | the control socket |
//! | service | signals, what the system asks |
//! | metrics | `GET /metrics` |
//! | neighbours | asks whether somebody else has an address of the pool |
//!
//! They talk through bounded channels. Start: check, take the lock, open what
//! packets need, admit the sessions, and only then lay the rules that send
//! packets here. Stop: the same backwards. A daemon that dies leaves everything
//! as it is, on purpose: bound sockets go on, translated flows wait, and the
//! next start takes it over.

mod admission;
mod answers;
mod folders;
mod host;
mod keeper;
mod line;
pub(crate) mod lock;
mod loopback;
mod neighbours;
mod tables;
mod threads;

use crate::address::{self, Addresses, ChooseError, RouteNews};
use crate::companion::{self, Before};
use crate::config::{Config, LoadError, Severity};
use crate::control::access::Peer;
use crate::control::{Request, Response, Server};
use crate::divert::{self, DivertError, Diverter, SelectError, Switch};
use crate::guard;
use crate::lease::store::{Store, StoreError};
use crate::lease::{Family, Leases};
use crate::observe::event::Event as Record;
use crate::observe::log::LogError;
use crate::observe::metrics;
use crate::owner::{self, AtPool, OwnerError, Reader};
use crate::policy::Policy;
use crate::service::{self, Order, Orders, State};
use crate::session::{self, Sessions, SessionsError, Watcher};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use folders::Missing;
use keeper::Keeper;
use line::Line;
use lock::Lock;
use neighbours::Neighbours;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

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
    #[error("the network card {adapter} has no {family} address: sessions need one to share")]
    NoHostAddress { adapter: String, family: Family },
    #[error("nobody tells of sockets any more: {0}")]
    NobodyTells(io::Error),
    #[error("not every listener of a session is found at all its addresses yet")]
    NotFound(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("cannot listen on {place}: {source}")]
    Listen { place: String, source: io::Error },
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Config(#[from] LoadError),
    #[error(transparent)]
    Lock(#[from] lock::LockError),
    #[error(transparent)]
    Sessions(#[from] SessionsError),
    #[error(transparent)]
    Choose(#[from] ChooseError),
    #[error(transparent)]
    Netlink(#[from] address::OpenError),
    #[error(transparent)]
    Addresses(#[from] address::ListError),
    #[error(transparent)]
    PutOn(#[from] address::PutOnError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Companion(#[from] companion::LoadError),
    #[error(transparent)]
    Owner(#[from] OwnerError),
    #[error(transparent)]
    Policy(#[from] companion::PolicyError),
    #[error(transparent)]
    Table(#[from] companion::TableError),
    #[error(transparent)]
    Divert(#[from] DivertError),
    #[error(transparent)]
    Select(#[from] SelectError),
    #[error(transparent)]
    Line(#[from] line::Gone),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl RunError {
    fn listen(place: impl Display, source: io::Error) -> Self {
        Self::Listen { place: place.to_string(), source }
    }

    fn not_found(why: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::NotFound(Box::new(why))
    }
}

/// What reaches the main thread.
enum Event {
    Asked(Peer, Request, Sender<Response>),
    Sessions(Vec<session::Event>),
    Sockets,
    DualStack,
    NobodyTells(io::Error),
    Measured(Sender<metrics::Numbers>),
    Ordered(Order),
    AnsweredElsewhere(IpAddr),
}

/// Runs until SIGTERM or SIGINT; SIGHUP reloads.
///
/// # Errors
/// [`RunError`], each of which says what is missing and how to get it.
pub fn run(path: &Path) -> Result<(), RunError> {
    if !guard::is_administrator() {
        return Err(RunError::NotRoot);
    }
    let (config, warnings) = Config::load_for(path, &address::cards()?, Severity::Error)
        .inspect_err(|error| Record::ConfigRefused { why: &error.to_string() }.record())?;
    for warning in &warnings {
        tracing::warn!(key = warning.key, line = warning.line, "{}", warning.message);
    }
    let orders = Orders::catch()?;
    // Dropped last of all.
    let _missing = Missing::look([&*config.state_dir].into_iter().chain(config.control.parent()));
    let lock = Lock::take(&config.state_dir)?;
    let ended = serve(path, config, orders);
    // A line that is gone is a crash: what is ours stays for the next start.
    if !matches!(ended, Err(RunError::Line(_))) {
        lock.release();
    }
    ended
}

/// Everything that happens while the lock is held.
fn serve(path: &Path, config: Config, orders: Orders) -> Result<(), RunError> {
    let server = Server::listen(&config.control)
        .map_err(|e| RunError::listen(config.control.display(), e))?;
    let pages = config
        .metrics
        .map(|at| TcpListener::bind(at).map_err(|e| RunError::listen(at, e)))
        .transpose()?;
    let (neighbours, questions) = Neighbours::new();
    let Opened { watcher, mut keeper, logged_on, reader } = open(path, config, neighbours)?;

    let (events, happening) = bounded(64);
    let (running, stop) = bounded(0);
    let adapter = keeper.adapter.clone();
    let mut threads = vec![
        neighbours::answer(adapter, questions, events.clone(), stop.clone())?,
        threads::watch_sessions(watcher, events.clone(), stop.clone())?,
        threads::obey_system(orders, events.clone(), stop.clone())?,
        threads::serve_control(server, events.clone(), stop.clone())?,
    ];
    if let Some(news) = keeper.companion.new_dual() {
        threads.push(threads::watch_dual(news, events.clone(), stop.clone())?);
    }
    if let Some(reader) = reader {
        threads.push(threads::read_sockets(reader, events.clone(), stop.clone())?);
    }
    if let Some(pages) = pages {
        threads.push(threads::serve_metrics(pages, events, stop)?);
    }
    let ended = keeper.begin(logged_on).and_then(|()| {
        tracing::info!(config = %path.display(), "ready");
        Record::Started { version: env!("CARGO_PKG_VERSION") }.record();
        service::tell(State::Ready);
        attend(&mut keeper, &happening)
    });
    // Whoever waits for an answer or looks whether to go on hears of it now.
    drop((running, happening));
    for thread in threads {
        thread.join().ok();
    }
    if !matches!(ended, Err(RunError::Line(_))) {
        service::tell(State::Stopping);
        keeper.end();
        Record::Stopped.record();
    }
    ended
}

/// What [`open`] gives.
struct Opened {
    /// Tells of sessions.
    watcher: Watcher,
    /// Keeps up with them.
    keeper: Keeper,
    /// Who is logged on.
    logged_on: Vec<session::Event>,
    /// Has to be given a thread.
    reader: Option<Reader>,
}

/// Opens all that packets need; nothing is led here yet. Where it fails, what it
/// made is taken back, and what was there before, as of a crash, stays.
fn open(path: &Path, config: Config, neighbours: Neighbours) -> Result<Opened, RunError> {
    let (divert, switch) = divert::open()
        .inspect_err(|error| Record::NotDiverted { why: &error.to_string() }.record())?;
    let (mut watcher, logins) = Sessions::watch()?;
    let logged_on = watcher.next(Duration::ZERO);
    let before = Before::look(&config.control);
    match assemble(path, config, neighbours, (divert, switch), logins, &before, &logged_on) {
        Ok((keeper, reader)) => Ok(Opened { watcher, keeper, logged_on, reader }),
        Err(error) => {
            before.restore();
            watcher.close();
            Err(error)
        }
    }
}

fn assemble(
    path: &Path,
    config: Config,
    neighbours: Neighbours,
    (divert, switch): (Diverter, Switch),
    logins: Sessions,
    before: &Before,
    logged_on: &[session::Event],
) -> Result<(Keeper, Option<Reader>), RunError> {
    let mut addresses = Addresses::open()?;
    let adapter = address::choose(&config.pool, &addresses.adapters()?)?;
    let (store, saved) = Store::open(&config.state_dir, keeper::now())?;
    let leases = Leases::restore(keeper::now(), &config.pool, adapter.reserved(), saved);
    let policy = Policy::compile(&config, companion::standing);
    let mut companion = before.load(&logins)?;
    let (mut sockets, watch, reader) = owner::open(&logins, &mut companion, adapter.index, now())?;
    for event in logged_on {
        if let session::Event::Started(session) = event {
            sockets.learn(session);
        }
    }
    let line = Line::start(divert, switch.waker(), sockets, policy.clone())?;
    let keeper = Keeper {
        config_path: path.to_owned(),
        sessions: BTreeMap::new(),
        host_addresses: Vec::new(),
        told_unhooked: BTreeSet::new(),
        told_full: BTreeSet::new(),
        since: keeper::now(),
        loopback_on: config.loopback.enabled,
        untold: false,
        unselected: false,
        found: true,
        config,
        logins,
        adapter,
        addresses,
        route_news: RouteNews::listen()?,
        leases,
        store,
        companion,
        watch,
        at_pool: AtPool::default(),
        switch,
        line,
        policy,
        neighbours,
        mended: Some(now()),
    };
    Ok((keeper, reader))
}

/// The main thread's loop.
fn attend(keeper: &mut Keeper, happening: &Receiver<Event>) -> Result<(), RunError> {
    let mut ticked = now();
    let mut complained = String::new();
    loop {
        match happening.recv_timeout(TICK) {
            Ok(Event::Asked(peer, request, reply)) => {
                reply.send(answers::answer(keeper, &peer, request)).ok();
            }
            Ok(Event::Measured(reply)) => {
                reply.send(answers::metrics(keeper)?).ok();
            }
            Ok(Event::Sessions(events)) => {
                for event in events {
                    keeper.session_event(event)?;
                }
            }
            Ok(Event::Sockets) => complained = complain(keeper.follow_sockets().err(), &complained),
            Ok(Event::DualStack) => keeper.find_dual(),
            Ok(Event::NobodyTells(error)) => return Err(RunError::NobodyTells(error)),
            Ok(Event::AnsweredElsewhere(address)) => keeper.avoid(address),
            Ok(Event::Ordered(Order::Reload)) => match keeper.reload() {
                Ok(notes) => notes.iter().for_each(|note| tracing::warn!("{note}")),
                Err(sentence) => tracing::warn!("not reloaded: {sentence}"),
            },
            Ok(Event::Ordered(Order::Resumed)) => keeper.announce_all(),
            Ok(Event::Ordered(Order::Stop)) => {
                tracing::info!("stopping");
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
            service::tell(State::Alive);
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

#[expect(clippy::disallowed_methods, reason = "the daemon is where clocks are read")]
fn now() -> Instant {
    Instant::now()
}
