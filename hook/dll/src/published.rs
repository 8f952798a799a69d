//! Which table holds now? Looked up at every bind, as daemons come and go.

use hook::section::{BYTES, NAME, Tables, View};
use hook::windows::shared::Shared;
use hook::windows::wide;
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use windows_sys::Win32::System::SystemInformation::GetTickCount64;

/// The newest section that this process has seen. A daemon that was killed takes
/// the name with it, and its last word holds until another speaks.
static NEWEST: AtomicPtr<Shared> = AtomicPtr::new(null_mut());

/// Looks something up in what the daemon published. `None`: nothing is, or
/// something is wrong with it.
pub(crate) fn look<T>(look: impl Fn(Tables<'_>) -> T) -> Option<T> {
    static WIDE: OnceLock<Vec<u16>> = OnceLock::new();
    match Shared::open(WIDE.get_or_init(|| wide(NAME)), BYTES) {
        Some(section) => {
            let view = View::new(section.words())?;
            let (found, stamp) = (view.look(look), view.stamp());
            if found.is_some() {
                remember(section, stamp);
            }
            found
        }
        None => View::new(newest()?.words())?.look(look),
    }
}

/// The same for what is asked for each datagram: a section of another daemon's is
/// looked for once a second only.
pub(crate) fn glance<T>(look: impl Fn(Tables<'_>) -> T) -> Option<T> {
    static LOOKED: AtomicU64 = AtomicU64::new(0);
    let now = milliseconds();
    if now.saturating_sub(LOOKED.load(Ordering::Relaxed)) < 1000
        && let Some(newest) = newest()
    {
        return View::new(newest.words())?.look(look);
    }
    LOOKED.store(now, Ordering::Relaxed);
    self::look(look)
}

/// Since the system began.
#[expect(unsafe_code, reason = "a call of the system")]
fn milliseconds() -> u64 {
    // SAFETY: it takes nothing.
    unsafe { GetTickCount64() }
}

/// Keeps the section, mapped, if it is another than the one that is kept.
fn remember(section: Shared, stamp: u64) {
    let known = newest().and_then(|newest| View::new(newest.words())).map(View::stamp);
    if known != Some(stamp) {
        // Another thread may be reading the former: it is never given back.
        // There is one for each daemon that ran meanwhile.
        NEWEST.store(Box::into_raw(Box::new(section)), Ordering::Release);
    }
}

#[expect(unsafe_code, reason = "a pointer that many threads share")]
fn newest() -> Option<&'static Shared> {
    // SAFETY: it is null, or remember() leaked what it points to.
    unsafe { NEWEST.load(Ordering::Acquire).as_ref() }
}
