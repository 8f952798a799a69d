//! What does each thread beside the main one and the packet line wait for?

use super::{Event, LOOK_UP, now};
use crate::control::Response;
use crate::control::server::Server;
use crate::observe;
use crate::session::linux::Watcher;
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
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

/// Takes questions and signals.
pub(super) fn serve_control(
    mut server: Server,
    signals: SignalFd,
    events: Sender<Event>,
    stop: Receiver<()>,
) -> io::Result<JoinHandle<()>> {
    let asked = events.clone();
    let mut answer = move |peer, request| {
        let (reply, answer) = bounded(1);
        let sent = asked.send(Event::Asked(peer, request, reply));
        sent.ok()
            .and_then(|()| answer.recv().ok())
            .unwrap_or_else(|| Response::Error("the daemon is stopping".into()))
    };
    spawn("control", move || {
        while runs(&stop) {
            match server.turn(now(), LOOK_UP, &signals, &mut answer) {
                Ok(false) => {}
                Ok(true) => {
                    while let Ok(Some(caught)) = signals.read_signal() {
                        let number = i32::try_from(caught.ssi_signo).unwrap_or_default();
                        let Ok(signal) = Signal::try_from(number) else { continue };
                        if events.send(Event::Signalled(signal)).is_err() {
                            return;
                        }
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "the control socket is gone");
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
