//! How does the packet line get its thread, and how is it spoken to?

use crate::companion::Moved;
use crate::divert::{Divert, Diverter, Waker, run_ahead};
use crate::engine::{Counts, Engine, Host};
use crate::flow::FlowView;
use crate::observe::event::Event as Record;
use crate::owner::{KernelSockets, SocketRow};
use crate::policy::Policy;
use crate::verdict::Reasons;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The flow table's limit: 256 MB at the most.
const FLOWS: usize = 1 << 20;
/// How often the tables are swept. A sweep is bounded, so it is done often.
const SWEEP: Duration = Duration::from_millis(100);
/// How long the line may take to answer before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the line is told between two batches.
enum Order {
    Begin(Sender<()>),
    Host(Arc<Host>, Sender<()>),
    Policy(Box<Policy>, Sender<()>),
    Flows(u32, Sender<FlowPage>),
    Sockets(Vec<Moved>, Sender<io::Result<Vec<SocketRow>>>),
    Numbers(Sender<Numbers>),
    Stop,
}

/// Some of the flows, and where to go on.
pub(super) type FlowPage = (Vec<FlowView>, Option<u32>);

/// What the line has counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers {
    pub(super) reasons: Reasons,
    pub(super) counts: Counts,
    pub(super) flows: usize,
    /// Owner look-ups that the kernel did not answer.
    pub(super) unanswered: u64,
}

/// The packet line in its thread.
#[derive(Debug)]
pub(super) struct Line {
    orders: Sender<Order>,
    waker: Waker,
    thread: JoinHandle<io::Result<()>>,
}

/// The line does not answer: its thread ended or hangs.
#[derive(Debug, thiserror::Error)]
#[error("the packet line does not answer")]
pub struct Gone;

impl Line {
    /// Starts the thread. Packets wait in the kernel until [`begin`](Self::begin).
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(
        divert: Diverter,
        waker: Waker,
        sockets: KernelSockets,
        policy: Policy,
    ) -> io::Result<Self> {
        let (orders, taken) = bounded(64);
        let engine = Engine::new(sockets, policy, FLOWS);
        let thread = super::threads::spawn("packets", move || {
            run(divert, engine, &taken).inspect_err(|error| {
                tracing::error!(%error, "packets are not diverted any more");
                Record::NotDiverted { why: &error.to_string() }.record();
            })
        })?;
        Ok(Self { orders, waker, thread })
    }

    /// From now on packets are taken: host and policy are known. Before, what
    /// began translated under a daemon that crashed would be taken for a flow of
    /// no session, and go on unchanged.
    pub(super) fn begin(&self) -> Result<(), Gone> {
        self.ask(Order::Begin)
    }

    /// New flows are judged by these addresses once this has returned.
    pub(super) fn set_host(&self, host: Arc<Host>) -> Result<(), Gone> {
        self.ask(|reply| Order::Host(host, reply))
    }

    /// New flows are judged by this policy once this has returned.
    pub(super) fn set_policy(&self, policy: Policy) -> Result<(), Gone> {
        self.ask(|reply| Order::Policy(Box::new(policy), reply))
    }

    /// A bounded number of flows, from a place that the page before said.
    pub(super) fn flows(&self, from: u32) -> Result<FlowPage, Gone> {
        self.ask(|reply| Order::Flows(from, reply))
    }

    /// The sessions' listening and bound sockets; `moved` are those whose bind the
    /// hook moved.
    pub(super) fn sockets(&self, moved: Vec<Moved>) -> Result<io::Result<Vec<SocketRow>>, Gone> {
        self.ask(|reply| Order::Sockets(moved, reply))
    }

    /// What has been counted; also shows that the line lives.
    pub(super) fn numbers(&self) -> Result<Numbers, Gone> {
        self.ask(Order::Numbers)
    }

    /// Ends the thread. Whatever is still queued is dropped with its queues.
    pub(super) fn stop(self) -> io::Result<()> {
        if self.orders.send_timeout(Order::Stop, PATIENCE).is_ok() {
            self.waker.wake();
        }
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the packet line panicked")))
    }

    fn ask<T>(&self, order: impl FnOnce(Sender<T>) -> Order) -> Result<T, Gone> {
        let (reply, answer) = bounded(1);
        self.orders.send_timeout(order(reply), PATIENCE).map_err(|_| Gone)?;
        self.waker.wake();
        answer.recv_timeout(PATIENCE).map_err(|_| Gone)
    }
}

#[expect(clippy::disallowed_methods, reason = "the line's shell is where its clock is read")]
fn run(
    mut divert: Diverter,
    mut engine: Engine<KernelSockets>,
    orders: &Receiver<Order>,
) -> io::Result<()> {
    if let Err(error) = run_ahead() {
        tracing::debug!(%error, "packets wait in line with everything else");
    }
    let mut state = State::Waits;
    while state == State::Waits {
        // Who gives orders has gone without a beginning.
        let Ok(order) = orders.recv() else { return Ok(()) };
        state = obey(order, state, &mut engine);
    }
    let mut swept = Instant::now();
    while state == State::Runs {
        divert.turn(SWEEP, &mut |batch, verdicts| {
            engine.process_batch(Instant::now(), batch, verdicts);
        })?;
        while let Ok(order) = orders.try_recv() {
            state = obey(order, state, &mut engine);
        }
        let now = Instant::now();
        if now.duration_since(swept) >= SWEEP {
            swept = now;
            engine.expire(now);
            engine.sockets().tend(now);
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waits,
    Runs,
    Ends,
}

/// Does what the line is told. Who asked may have given up: then nobody wants
/// the answer.
fn obey(order: Order, state: State, engine: &mut Engine<KernelSockets>) -> State {
    match order {
        Order::Begin(reply) => {
            reply.send(()).ok();
            return State::Runs;
        }
        Order::Stop => return State::Ends,
        Order::Host(host, reply) => {
            engine.set_host(host);
            reply.send(()).ok();
        }
        Order::Policy(policy, reply) => {
            engine.set_policy(*policy);
            reply.send(()).ok();
        }
        Order::Flows(from, reply) => {
            reply.send(engine.flows_from(from, FLOWS_A_PAGE)).ok();
        }
        Order::Sockets(moved, reply) => {
            reply.send(engine.sockets().listing(&moved)).ok();
        }
        Order::Numbers(reply) => {
            reply.send(numbers(engine)).ok();
        }
    }
    state
}

/// As many flows as are listed without the packets noticing.
const FLOWS_A_PAGE: usize = 2048;

fn numbers(engine: &mut Engine<KernelSockets>) -> Numbers {
    Numbers {
        reasons: engine.reasons().clone(),
        counts: engine.counts(),
        flows: engine.flow_count(),
        unanswered: engine.sockets().unanswered(),
    }
}
