//! What does a turn wait for, and who ends the waiting?

use std::io;
use std::sync::Arc;
use std::time::Duration;
use windows_sys::Win32::Foundation::{CloseHandle, HANDLE, WAIT_FAILED};
use windows_sys::Win32::System::Threading::{
    CREATE_WAITABLE_TIMER_HIGH_RESOLUTION, CreateEventW, CreateWaitableTimerExW, INFINITE,
    SetEvent, SetWaitableTimer, TIMER_ALL_ACCESS, WaitForMultipleObjects, WaitForSingleObject,
};

/// Waits shorter than this are left to the timer: the others end only with one of
/// the system's ticks, which are up to 16 ms apart.
const TICK: Duration = Duration::from_millis(16);

/// Something that is signalled or is not.
#[derive(Debug)]
pub(super) struct Event(HANDLE);

#[expect(unsafe_code, reason = "raw handles are not Send by themselves")]
// SAFETY: a handle is a number of the process, for any of its threads.
unsafe impl Send for Event {}
#[expect(unsafe_code, reason = "raw handles are not Sync by themselves")]
// SAFETY: the system's functions on events may be called from several threads.
unsafe impl Sync for Event {}

impl Event {
    /// Stays signalled until it is used anew.
    pub(super) fn manual() -> io::Result<Self> {
        Self::create(true)
    }

    /// Is signalled until one waiter saw it.
    fn automatic() -> io::Result<Self> {
        Self::create(false)
    }

    fn create(manual: bool) -> io::Result<Self> {
        #[expect(unsafe_code, reason = "nothing safe makes an event")]
        // SAFETY: no attributes and no name: both may be null.
        owned(unsafe { CreateEventW(std::ptr::null(), manual.into(), 0, std::ptr::null()) })
    }

    /// Signals it.
    fn set(&self) {
        #[expect(unsafe_code, reason = "nothing safe signals an event")]
        // SAFETY: the event is open as long as this is.
        if unsafe { SetEvent(self.0) } == 0 {
            tracing::debug!(error = %io::Error::last_os_error(), "an event is not signalled");
        }
    }

    pub(super) fn wait(&self, wait: Duration) {
        #[expect(unsafe_code, reason = "nothing safe waits for an event")]
        // SAFETY: the event is open as long as this is.
        unsafe {
            WaitForSingleObject(self.0, milliseconds(wait));
        }
    }

    pub(super) const fn raw(&self) -> HANDLE {
        self.0
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "nothing safe closes a raw handle")]
        // SAFETY: it is open, and nobody has it after this.
        unsafe {
            CloseHandle(self.0);
        }
    }
}

fn owned(raw: HANDLE) -> io::Result<Event> {
    if raw.is_null() { Err(io::Error::last_os_error()) } else { Ok(Event(raw)) }
}

/// Ends the waiting of a [`Divert::turn`](crate::divert::Divert::turn) from
/// another thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<Event>);

impl Waker {
    pub(super) fn new() -> io::Result<Self> {
        Event::automatic().map(Arc::new).map(Self)
    }

    /// The turn that waits now, or else the next one to wait, comes back.
    pub fn wake(&self) {
        self.0.set();
    }

    pub(super) fn event(&self) -> &Event {
        &self.0
    }
}

/// A clock that rings more exactly than the system's ticks.
#[derive(Debug)]
pub(super) struct Timer(Event);

impl Timer {
    /// Of high resolution where the system has that: since Windows 10, version
    /// 1803, and Windows Server 2019.
    pub(super) fn new() -> io::Result<Self> {
        let create = |flags| {
            let (attributes, name) = (std::ptr::null(), std::ptr::null());
            #[expect(unsafe_code, reason = "nothing safe makes a timer")]
            // SAFETY: no attributes and no name: both may be null.
            owned(unsafe { CreateWaitableTimerExW(attributes, name, flags, TIMER_ALL_ACCESS) })
        };
        create(CREATE_WAITABLE_TIMER_HIGH_RESOLUTION).or_else(|_| create(0)).map(Self)
    }

    /// Has it ring once, after `wait`.
    fn set(&self, wait: Duration) -> bool {
        // Relative times are negative, in units of 100 ns.
        let due = -i64::try_from(wait.as_nanos() / 100).unwrap_or(i64::MAX).max(1);
        let (routine, argument) = (None, std::ptr::null());
        #[expect(unsafe_code, reason = "nothing safe sets a timer")]
        // SAFETY: the timer is open as long as this is; no routine is called.
        unsafe {
            SetWaitableTimer(self.0.raw(), &raw const due, 0, routine, argument, 0) != 0
        }
    }
}

/// What is waited for at once.
#[derive(Debug, Default)]
pub(super) struct Waits {
    events: [HANDLE; 4],
    count: usize,
}

impl Waits {
    /// The caller keeps the event for as long as it waits.
    pub(super) fn add(&mut self, event: &Event) {
        if let Some(place) = self.events.get_mut(self.count) {
            *place = event.raw();
            self.count += 1;
        }
    }

    /// Waits until something is signalled, or as long as `wait`.
    pub(super) fn wait(mut self, wait: Duration, timer: &Timer) -> io::Result<()> {
        let mut longest = milliseconds(wait);
        if wait < TICK && timer.set(wait) {
            self.add(&timer.0);
            longest = INFINITE;
        }
        #[expect(unsafe_code, reason = "nothing safe waits for several events")]
        // SAFETY: as many handles as `count` says, whose events the caller keeps.
        let woken =
            unsafe { WaitForMultipleObjects(self.count as u32, self.events.as_ptr(), 0, longest) };
        if woken == WAIT_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Rounded up: waiting less than was asked for would be waiting twice.
fn milliseconds(wait: Duration) -> u32 {
    u32::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(INFINITE - 1).min(INFINITE - 1)
}
