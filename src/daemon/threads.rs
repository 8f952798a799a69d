//! What does each thread beside the main one and the packet line wait for?

use super::{Event, LOOK_UP, now};
use crate::companion::NewDual;
use crate::control::Response;
use crate::control::Server;
use crate::control::access::Peer;
use crate::observe;
use crate::owner::Reader;
use crate::service::Orders;
use crate::session::Watcher;
use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};
use std::io;
use std::net::TcpListener;
use std::thread::JoinHandle;

/// Tells of logons and logoffs.
pub(super) fn watch_sessions(
    mut watcher: Watcher,
    events: Sender<Event>,
    stop: Receiver<()>,
) -> io::Result<JoinHandle<()>> {
    spawn("sessions", move || {
        while runs(&stop) {
            let happened = watcher.next(LOOK_UP);
            if !happened.is_empty() && events.send(Event::Sessions(happened)).is_err() {
                break;
            }
        }
        // Sessions of ours that still have processes keep their folder.
        watcher.close();
    })
}

/// Tells of sockets, where the system has to be listened to for that.
pub(super) fn read_sockets(
    mut reader: Reader,
    events: Sender<Event>,
    stop: Receiver<()>,
) -> io::Result<JoinHandle<()>> {
    spawn("owners", move || {
        while runs(&stop) {
            match reader.turn(LOOK_UP) {
                // It never waits for the main thread, which looks every second
                // anyway: packets wait for what is read here.
                Ok(told) if told.at_pool => match events.try_send(Event::Sockets) {
                    Ok(()) | Err(TrySendError::Full(_)) => {}
                    Err(TrySendError::Disconnected(_)) => return,
                },
                Ok(_) => {}
                Err(error) => {
                    events.send(Event::NobodyTells(error)).ok();
                    return;
                }
            }
        }
    })
}

/// Tells of sockets that are to be found by IPv6 as well, where there are any.
pub(super) fn watch_dual(
    mut news: NewDual,
    events: Sender<Event>,
    stop: Receiver<()>,
) -> io::Result<JoinHandle<()>> {
    spawn("dual-stack", move || {
        while runs(&stop) {
            match news.wait(LOOK_UP) {
                Ok(false) => {}
                Ok(true) => {
                    if events.send(Event::DualStack).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "new dual-stack sockets are not found by IPv6");
                    return;
                }
            }
        }
    })
}

/// Takes questions.
pub(super) fn serve_control(
    mut server: Server,
    events: Sender<Event>,
    stop: Receiver<()>,
) -> io::Result<JoinHandle<()>> {
    let mut answer = move |peer: &Peer, request| {
        let (reply, answer) = bounded(1);
        let sent = events.send(Event::Asked(peer.clone(), request, reply));
        sent.ok()
            .and_then(|()| answer.recv().ok())
            .unwrap_or_else(|| Response::Error("the daemon is stopping".into()))
    };
    spawn("control", move || {
        while runs(&stop) {
            if let Err(error) = server.turn(now(), LOOK_UP, &mut answer) {
                tracing::error!(%error, "the control socket is gone");
                return;
            }
        }
    })
}

/// Takes what the system asks.
pub(super) fn obey_system(
    mut orders: Orders,
    events: Sender<Event>,
    stop: Receiver<()>,
) -> io::Result<JoinHandle<()>> {
    spawn("service", move || {
        while runs(&stop) {
            match orders.next(LOOK_UP) {
                Ok(None) => {}
                Ok(Some(order)) => {
                    if events.send(Event::Ordered(order)).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "the system can tell the daemon nothing any more");
                    return;
                }
            }
        }
    })
}

/// Answers `GET /metrics`.
pub(super) fn serve_metrics(
    pages: TcpListener,
    events: Sender<Event>,
    stop: Receiver<()>,
) -> io::Result<JoinHandle<()>> {
    spawn("metrics", move || {
        let numbers = || {
            let (reply, answer) = bounded(1);
            let sent = events.send(Event::Measured(reply));
            sent.ok().and_then(|()| answer.recv().ok()).unwrap_or_default()
        };
        if let Err(error) = observe::serve(&pages, numbers, &stop) {
            tracing::error!(%error, "metrics are gone");
        }
    })
}

/// Is the other end of `stop` still there?
fn runs(stop: &Receiver<()>) -> bool {
    stop.try_recv() == Err(TryRecvError::Empty)
}

/// The only place that makes threads, each with a name.
pub(super) fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.into()).spawn(body)
}
