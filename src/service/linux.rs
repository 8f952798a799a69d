//! Signals, and systemd where it is systemd that runs us (sd_notify(3)).

use super::{Order, State};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use sd_notify::NotifyState;
use std::fmt::Display;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

/// Runs the daemon as whoever started it expects: here, just so.
///
/// # Errors
/// None; the inner result is the daemon's.
pub fn host<E: Display + Send + 'static>(
    daemon: impl FnOnce() -> Result<(), E> + Send + 'static,
) -> io::Result<Result<(), E>> {
    Ok(daemon())
}

/// SIGTERM, SIGINT and SIGHUP, as orders.
#[derive(Debug)]
pub struct Orders(SignalFd);

impl Orders {
    /// Catches the signals. To be called before any thread is made, so that all of
    /// them have them blocked.
    ///
    /// # Errors
    /// The system has no descriptor left.
    pub fn catch() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block()?;
        Ok(Self(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// The next order, waited for up to `wait`.
    ///
    /// # Errors
    /// There will be no more orders.
    pub fn next(&mut self, wait: Duration) -> io::Result<Option<Order>> {
        let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let caught = self.0.read_signal()?;
        Ok(caught.map(|caught| match i32::try_from(caught.ssi_signo).map(Signal::try_from) {
            Ok(Ok(Signal::SIGHUP)) => Order::Reload,
            _ => Order::Stop,
        }))
    }
}

/// Tells systemd how the daemon is.
pub fn tell(state: State) {
    let state = match state {
        State::Ready => NotifyState::Ready,
        State::Alive => NotifyState::Watchdog,
        State::Stopping => NotifyState::Stopping,
    };
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "systemd was not told");
    }
}
