//! How are socket events received from the driver?

use super::bell::event;
use super::notice::Notice;
use crate::divert::OpenError;
use crate::divert::windows::{Dll, Handle};
use std::ffi::CStr;
use std::io;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::time::Duration;
use windivert::prelude::{WinDivertFlags, WinDivertLayer, WinDivertParam, WinDivertShutdownMode};
use windivert_sys::{
    WINDIVERT_BATCH_MAX, WINDIVERT_PARAM_QUEUE_LENGTH_MAX, WINDIVERT_PARAM_QUEUE_TIME_MAX,
};
use windows_sys::Win32::Foundation::{
    ERROR_IO_INCOMPLETE, ERROR_IO_PENDING, HANDLE, WAIT_FAILED, WAIT_OBJECT_0,
};
use windows_sys::Win32::System::IO::{CancelIoEx, GetOverlappedResult, OVERLAPPED};
use windows_sys::Win32::System::Threading::{
    ResetEvent, WaitForMultipleObjects, WaitForSingleObject,
};

/// What is told. Closing sockets are told by two layers of the system, and only
/// these two protocols are translated.
const FILTER: &CStr = c"(tcp or udp) and (event == BIND or event == CONNECT or \
    event == LISTEN or event == ACCEPT or event == CLOSE)";

/// How many events are taken at once: as many as the driver gives.
const BATCH: usize = WINDIVERT_BATCH_MAX as usize;

/// How long the driver may take to let go of the buffers at the end.
const LETTING_GO: u32 = 5000;

/// The socket layer of WinDivert, to listen to only.
#[derive(Debug)]
pub(crate) struct Events {
    driver: Handle,
    ready: OwnedHandle,
    /// What the driver writes to; `None` once it would not let go of it.
    request: Option<Box<Request>>,
    is_pending: bool,
}

/// A receive that the driver works on. It must not move or end meanwhile.
struct Request {
    overlapped: OVERLAPPED,
    notices: [Notice; BATCH],
    /// How many bytes of them there are; then, how many were written.
    length: u32,
}

impl Events {
    /// Opens a handle of that priority: the highest are told first.
    ///
    /// # Errors
    /// There is no driver, or this process may not.
    pub(crate) fn open(priority: i16) -> Result<Self, OpenError> {
        let flags = WinDivertFlags::new().set_sniff().set_recv_only();
        let dll = Dll::beside_program()?;
        let driver = Handle::open(dll, FILTER, WinDivertLayer::Socket, priority, flags)
            .map_err(|error| OpenError::of(&error))?;
        Self::of(driver).map_err(OpenError::System)
    }

    fn of(driver: Handle) -> io::Result<Self> {
        // A reader that is late must lose as little as can be.
        driver.set(WinDivertParam::QueueLength, WINDIVERT_PARAM_QUEUE_LENGTH_MAX)?;
        driver.set(WinDivertParam::QueueTime, WINDIVERT_PARAM_QUEUE_TIME_MAX)?;
        let ready = event(true)?;
        let overlapped = OVERLAPPED { hEvent: ready.as_raw_handle(), ..OVERLAPPED::default() };
        let notices = [Notice::default(); BATCH];
        let request = Some(Box::new(Request { overlapped, notices, length: 0 }));
        Ok(Self { driver, ready, request, is_pending: false })
    }

    /// Waits for events, or for `bell`, and takes what is there: at the most one
    /// batch.
    ///
    /// # Errors
    /// The driver is gone, or its handle was shut down.
    pub(crate) fn turn(
        &mut self,
        bell: HANDLE,
        wait: Duration,
        mut take: impl FnMut(&Notice),
    ) -> io::Result<usize> {
        self.begin()?;
        let milliseconds = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX - 1);
        let both = [self.ready.as_raw_handle(), bell];
        // SAFETY: both handles are open, and as many as is said.
        #[expect(unsafe_code, reason = "a call into kernel32")]
        let woken = unsafe { WaitForMultipleObjects(2, both.as_ptr(), 0, milliseconds) };
        match woken {
            WAIT_OBJECT_0 => {}
            WAIT_FAILED => return Err(io::Error::last_os_error()),
            _ => return Ok(0),
        }
        self.finish(false)?;
        let Some(request) = &self.request else { return Ok(0) };
        let count = usize::try_from(request.length).unwrap_or(0) / size_of::<Notice>();
        let notices = request.notices.iter().take(count);
        notices.for_each(&mut take);
        Ok(count.min(BATCH))
    }

    /// Gives the driver something to write to.
    fn begin(&mut self) -> io::Result<()> {
        let Some(request) = self.request.as_mut().filter(|_| !self.is_pending) else {
            return Ok(());
        };
        request.length = BYTES;
        // SAFETY: the event is open. The request is on the heap and is neither
        // moved, read nor freed until the driver has finished it; a notice is what
        // an address is in this layer. No packet is asked for: it has none.
        #[expect(unsafe_code, reason = "the driver writes to it later")]
        let asked = unsafe {
            ResetEvent(self.ready.as_raw_handle());
            self.driver.receive(
                std::ptr::null_mut(),
                0,
                request.notices.as_mut_ptr().cast(),
                &raw mut request.length,
                &raw mut request.overlapped,
            )
        };
        match asked {
            Err(error) if error.raw_os_error() != Some(ERROR_IO_PENDING.cast_signed()) => {
                return Err(error);
            }
            _ => {}
        }
        self.is_pending = true;
        Ok(())
    }

    /// Takes the driver's answer, which is there unless this is to wait for it.
    fn finish(&mut self, wait: bool) -> io::Result<()> {
        let Some(request) = self.request.as_mut().filter(|_| self.is_pending) else {
            return Ok(());
        };
        let mut bytes = 0;
        // SAFETY: the handle is open, and this is the request that it works on.
        #[expect(unsafe_code, reason = "a call into kernel32")]
        let done = unsafe {
            GetOverlappedResult(
                self.driver.raw(),
                &raw const request.overlapped,
                &raw mut bytes,
                i32::from(wait),
            )
        };
        if done == 0 {
            let error = io::Error::last_os_error();
            let incomplete = Some(ERROR_IO_INCOMPLETE.cast_signed());
            self.is_pending = error.raw_os_error() == incomplete;
            return Err(error);
        }
        self.is_pending = false;
        Ok(())
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if let Err(error) = self.driver.shutdown(WinDivertShutdownMode::Both) {
            tracing::debug!(%error, "the handle of socket events");
        }
        let Some(request) = self.request.take_if(|_| self.is_pending) else { return };
        // SAFETY: the handles are open, and this is the request that is to end.
        #[expect(unsafe_code, reason = "a call into kernel32")]
        let ended = unsafe {
            CancelIoEx(self.driver.raw(), &raw const request.overlapped);
            WaitForSingleObject(self.ready.as_raw_handle(), LETTING_GO)
        };
        if ended != WAIT_OBJECT_0 {
            // The driver may still write to it.
            Box::leak(request);
        }
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").finish_non_exhaustive()
    }
}

// SAFETY: the request's only pointers are the driver's, which does not care which
// thread asks.
#[expect(unsafe_code, reason = "an OVERLAPPED holds raw pointers")]
unsafe impl Send for Request {}

const BYTES: u32 = size_of::<[Notice; BATCH]>() as u32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_one_of_the_socket_layer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("WinDivert.dll");
        let official = include_bytes!(concat!(env!("WINDIVERT_PATH"), "/WinDivert.dll"));
        std::fs::write(&path, official).unwrap();
        let dll = Dll::load(&path).unwrap();
        assert_eq!(dll.check(FILTER, WinDivertLayer::Socket), Ok(()));
        assert!(dll.check(FILTER, WinDivertLayer::Network).is_err());
    }
}
