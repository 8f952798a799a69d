//! How is the reader told that somebody waits for it?

use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::System::Threading::{CreateEventW, SetEvent};

/// Asks the reader to look at the system's list of sockets, or to come back from
/// its wait. A clone rings the same one.
#[derive(Clone, Debug)]
pub struct Bell(Arc<Wire>);

#[derive(Debug)]
struct Wire {
    event: OwnedHandle,
    rung: AtomicBool,
}

impl Bell {
    /// # Errors
    /// The system has no event left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(Wire { event: event(false)?, rung: AtomicBool::new(false) })))
    }

    /// Somebody sent a packet that nobody knows: the list is looked at soon. Costs
    /// a system call only if nobody has asked before.
    pub fn ring(&self) {
        if !self.0.rung.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }

    /// Ends the reader's wait, whatever it waits for.
    pub fn wake(&self) {
        // SAFETY: the event is open while this is.
        #[expect(unsafe_code, reason = "a call into kernel32")]
        unsafe {
            SetEvent(self.0.event.as_raw_handle());
        }
    }

    pub(super) fn has_rung(&self) -> bool {
        self.0.rung.load(Ordering::Acquire)
    }

    /// From now on it may be rung again: before the list is looked at, so that no
    /// question is missed.
    pub(super) fn silence(&self) {
        self.0.rung.store(false, Ordering::Release);
    }

    pub(crate) fn raw(&self) -> HANDLE {
        self.0.event.as_raw_handle()
    }
}

/// An event that is not set; one that is not `manual` is reset by who waited.
pub(super) fn event(manual: bool) -> io::Result<OwnedHandle> {
    // SAFETY: it takes no attributes and no name. What it gives is a handle of
    // ours alone, or null.
    #[expect(unsafe_code, reason = "a call into kernel32")]
    unsafe {
        let event = CreateEventW(std::ptr::null(), i32::from(manual), 0, std::ptr::null());
        if event.is_null() {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedHandle::from_raw_handle(event))
    }
}
