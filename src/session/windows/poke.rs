//! When are the sessions to be looked at, before it is time to?

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Somebody said that sessions have changed.
static POKED: Mutex<bool> = Mutex::new(false);
static CHANGED: Condvar = Condvar::new();

/// Has the watcher of this process look at once. For the service's control
/// handler: it neither waits nor fails.
pub fn poke() {
    *POKED.lock().unwrap_or_else(PoisonError::into_inner) = true;
    CHANGED.notify_all();
}

/// Waits for a poke, up to `wait`; whether there was one since the last call.
pub(super) fn wait_for_poke(wait: Duration) -> bool {
    let poked = POKED.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = CHANGED.wait_timeout_while(poked, wait, |poked| !*poked);
    let (mut poked, _) = waited.unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut *poked)
}
