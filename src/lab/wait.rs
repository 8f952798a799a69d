//! How long is something waited for, and what ends the wait early?

use super::LabError;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often [`until`] looks.
const STEP: Duration = Duration::from_millis(20);

/// Signals belong to the process, so the one that watches for them does too.
static WATCHED: Mutex<Option<SignalFd>> = Mutex::new(None);
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// While it lives, SIGINT, SIGTERM and SIGHUP end the next wait instead of the
/// process, so that what was made is removed. To be made before any thread is.
#[derive(Debug)]
pub struct Interruptible(SigSet);

impl Interruptible {
    /// Starts to watch for the signals.
    ///
    /// # Errors
    /// The system gives no descriptor for it.
    pub fn new() -> Result<Self, LabError> {
        let before = SigSet::thread_get_mask().map_err(signals)?;
        let signals_to_watch = watched_signals();
        signals_to_watch.thread_block().map_err(signals)?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let descriptor = SignalFd::with_flags(&signals_to_watch, flags).map_err(signals)?;
        INTERRUPTED.store(false, Ordering::Relaxed);
        if let Ok(mut watched) = WATCHED.lock() {
            *watched = Some(descriptor);
        }
        Ok(Self(before))
    }
}

impl Drop for Interruptible {
    fn drop(&mut self) {
        if let Ok(mut watched) = WATCHED.lock() {
            *watched = None;
        }
        // Nothing to be done about a failure: the process is about to end.
        let _ = self.0.thread_set_mask();
    }
}

/// Looks until there is something, for at most `limit`.
///
/// # Errors
/// What `look` says; [`LabError::Slow`] after the limit; [`LabError::Interrupted`]
/// where an [`Interruptible`] saw a signal.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>, LabError>,
) -> Result<T, LabError> {
    let began = now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if interrupted() {
            return Err(LabError::Interrupted);
        }
        if began.elapsed() >= limit {
            return Err(LabError::Slow { what: what.to_owned(), limit });
        }
        std::thread::sleep(STEP);
    }
}

/// Whether a signal has asked for the end.
pub fn interrupted() -> bool {
    if INTERRUPTED.load(Ordering::Relaxed) {
        return true;
    }
    let Ok(watched) = WATCHED.lock() else { return false };
    let seen = watched.as_ref().is_some_and(|watched| matches!(watched.read_signal(), Ok(Some(_))));
    if seen {
        INTERRUPTED.store(true, Ordering::Relaxed);
    }
    seen
}

/// The lab's clock.
#[expect(clippy::disallowed_methods, reason = "the lab is a shell around the product: it waits")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// What asks for the end.
pub(super) fn watched_signals() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect()
}

fn signals(source: nix::Error) -> LabError {
    LabError::io("watching for signals", source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_what_was_found_or_at_its_limit() {
        let mut looks = 0;
        let found = until("the third look", Duration::from_secs(5), || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        });
        assert!(matches!(found, Ok(3)));

        let slow = until::<()>("a miracle", Duration::ZERO, || Ok(None));
        assert_eq!(slow.unwrap_err().to_string(), "a miracle took longer than 0ns");
    }
}
