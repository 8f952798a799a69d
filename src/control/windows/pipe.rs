//! One end of a pipe that does not block: at most one read and one write are under
//! way, in buffers of their own.

use std::io::{self, Read, Write};
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::ptr;
use std::time::Duration;
use windows_sys::Win32::Foundation::{
    ERROR_BROKEN_PIPE, ERROR_IO_INCOMPLETE, ERROR_IO_PENDING, ERROR_PIPE_CONNECTED,
    ERROR_PIPE_NOT_CONNECTED, HANDLE, STATUS_PENDING,
};
use windows_sys::Win32::Storage::FileSystem::{ReadFile, WriteFile};
use windows_sys::Win32::System::IO::{CancelIoEx, GetOverlappedResult, OVERLAPPED};
use windows_sys::Win32::System::Pipes::ConnectNamedPipe;
use windows_sys::Win32::System::Threading::{CreateEventW, WaitForSingleObject};

/// What is read or written at once.
const BUFFER: usize = 4096;

/// Becomes set when anything that was begun with it is over. Whatever is begun
/// resets it: so who waits for it looks at what is over after the last beginning
/// and before he waits, and misses nothing.
#[derive(Debug)]
pub(super) struct Signal(OwnedHandle);

impl Signal {
    #[expect(unsafe_code, reason = "the event comes from the system")]
    pub(super) fn new() -> io::Result<Self> {
        use std::os::windows::io::FromRawHandle;
        // SAFETY: an event without a name, which resets itself when it was waited for.
        let event = unsafe { CreateEventW(ptr::null(), 0, 0, ptr::null()) };
        if event.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has just given it to us.
        Ok(Self(unsafe { OwnedHandle::from_raw_handle(event) }))
    }

    /// Waits until it is set, up to `wait`.
    #[expect(unsafe_code, reason = "a call into kernel32")]
    pub(super) fn wait(&self, wait: Duration) {
        // Rounded up, lest it wakes a moment too soon and turns in vain.
        let milliseconds = u32::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(u32::MAX - 1);
        // SAFETY: the handle is open. Whatever it says, the callers look themselves.
        unsafe { WaitForSingleObject(self.raw(), milliseconds) };
    }

    fn raw(&self) -> HANDLE {
        self.0.as_raw_handle()
    }
}

/// An end of a pipe, opened for overlapped use. [`Read`] and [`Write`] say
/// `WouldBlock` where they would wait.
#[derive(Debug)]
pub(super) struct Pipe {
    // Before the handle: what is under way is called off while it is open.
    reading: Operation,
    writing: Operation,
    handle: OwnedHandle,
    signal: HANDLE,
}

// SAFETY: the handle and the event may be used from any thread, and the buffers are
// only touched through the pipe.
#[expect(unsafe_code, reason = "raw handles are not Send by themselves")]
unsafe impl Send for Pipe {}

impl Pipe {
    /// `signal` outlives it.
    pub(super) fn new(handle: OwnedHandle, signal: &Signal) -> Self {
        let raw = handle.as_raw_handle();
        let (reading, writing) = (Operation::new(raw), Operation::new(raw));
        Self { reading, writing, handle, signal: signal.raw() }
    }

    pub(super) fn handle(&self) -> &OwnedHandle {
        &self.handle
    }

    /// Begins to wait for a client. Who has come already is found by
    /// [`is_read`](Self::is_read), too.
    #[expect(unsafe_code, reason = "a call into kernel32")]
    pub(super) fn begin_to_connect(&mut self) -> io::Result<()> {
        // SAFETY: the handle is open; the operation stays where it is until it is over.
        self.reading.begin(self.signal, |handle, _, overlapped| unsafe {
            ConnectNamedPipe(handle, overlapped)
        })
    }

    /// Takes note that a client has come, and begins to listen to him. `false`: not
    /// yet.
    pub(super) fn has_connected(&mut self) -> io::Result<bool> {
        match self.reading.end()? {
            None => Ok(false),
            Some(_) => self.begin_to_read().map(|()| true),
        }
    }

    /// Begins to listen.
    #[expect(unsafe_code, reason = "a call into kernel32")]
    pub(super) fn begin_to_read(&mut self) -> io::Result<()> {
        // SAFETY: the handle is open; buffer and operation stay where they are until
        // it is over, and nobody else touches them meanwhile.
        self.reading.begin(self.signal, |handle, buffer, overlapped| unsafe {
            ReadFile(handle, buffer, BUFFER as u32, ptr::null_mut(), overlapped)
        })
    }

    /// A read is over, and its bytes wait to be taken (or its error).
    pub(super) fn is_read(&self) -> bool {
        self.reading.is_over()
    }

    /// Nothing is being written.
    pub(super) fn is_written(&self) -> bool {
        self.writing.is_over()
    }
}

impl Read for Pipe {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if self.reading.left() == 0 {
            match self.reading.end() {
                Ok(Some(_)) => {}
                Ok(None) => return Err(io::ErrorKind::WouldBlock.into()),
                // The other end has gone.
                Err(error) if is_the_end(&error) => return Ok(0),
                Err(error) => return Err(error),
            }
        }
        let taken = self.reading.take(bytes);
        if self.reading.left() == 0
            && let Err(error) = self.begin_to_read()
        {
            // He has gone after what he said, which counts; the next read tells.
            self.reading.failed = Some(error);
        }
        Ok(taken)
    }
}

impl Write for Pipe {
    #[expect(unsafe_code, reason = "a call into kernel32")]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.writing.end()?.is_none() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let length = self.writing.fill(bytes);
        // SAFETY: the handle is open; buffer and operation stay where they are until
        // it is over, and nobody else touches them meanwhile.
        self.writing.begin(self.signal, |handle, buffer, overlapped| unsafe {
            WriteFile(handle, buffer, length, ptr::null_mut(), overlapped)
        })?;
        Ok(length as usize)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Something that the system does meanwhile, with its buffer.
#[derive(Debug)]
struct Operation {
    /// On the heap, where the system finds it though the pipe be moved. `None`: it
    /// was left to the system.
    shared: Option<Box<Shared>>,
    handle: HANDLE,
    /// It was begun, and its end was not taken note of.
    under_way: bool,
    /// What it came to, from `taken` on not yet taken.
    length: usize,
    taken: usize,
    /// It could not even be begun.
    failed: Option<io::Error>,
}

struct Shared {
    overlapped: OVERLAPPED,
    buffer: [u8; BUFFER],
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Operation {
    fn new(handle: HANDLE) -> Self {
        let shared = Shared { overlapped: OVERLAPPED::default(), buffer: [0; BUFFER] };
        Self {
            shared: Some(Box::new(shared)),
            handle,
            under_way: false,
            length: 0,
            taken: 0,
            failed: None,
        }
    }

    /// Begins it, where it is not under way.
    fn begin(
        &mut self,
        signal: HANDLE,
        call: impl FnOnce(HANDLE, *mut u8, *mut OVERLAPPED) -> i32,
    ) -> io::Result<()> {
        let Some(shared) = self.shared.as_mut() else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        shared.overlapped = OVERLAPPED { hEvent: signal, ..OVERLAPPED::default() };
        (self.length, self.taken) = (0, 0);
        let begun = call(self.handle, shared.buffer.as_mut_ptr(), &raw mut shared.overlapped);
        if begun == 0 {
            let error = io::Error::last_os_error();
            match error.raw_os_error().map(i32::cast_unsigned) {
                Some(ERROR_IO_PENDING) => {}
                // Only said of connecting, which is over then without having begun.
                Some(ERROR_PIPE_CONNECTED) => return Ok(()),
                _ => return Err(error),
            }
        }
        self.under_way = true;
        Ok(())
    }

    #[expect(unsafe_code, reason = "the system writes there, too")]
    fn is_over(&self) -> bool {
        let Some(shared) = self.shared.as_ref().filter(|_| self.under_way) else { return true };
        // SAFETY: the address is valid; the system writes it when the operation is
        // over, and so it is read anew each time (HasOverlappedIoCompleted).
        let status = unsafe { (&raw const shared.overlapped.Internal).read_volatile() };
        status != STATUS_PENDING as usize
    }

    /// Takes note of its end: how many bytes; `None`: it is under way.
    #[expect(unsafe_code, reason = "a call into kernel32")]
    fn end(&mut self) -> io::Result<Option<usize>> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let Some(shared) = self.shared.as_mut() else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        if !self.under_way {
            return Ok(Some(self.length));
        }
        let mut length = 0;
        // SAFETY: the operation was begun with this handle; the call does not wait.
        let over = unsafe {
            GetOverlappedResult(self.handle, &raw const shared.overlapped, &raw mut length, 0)
        };
        if over == 0 {
            let error = io::Error::last_os_error();
            if error.raw_os_error().map(i32::cast_unsigned) == Some(ERROR_IO_INCOMPLETE) {
                return Ok(None);
            }
            self.under_way = false;
            return Err(error);
        }
        self.under_way = false;
        self.length = length as usize;
        Ok(Some(self.length))
    }

    /// Bytes that were read and not taken.
    fn left(&self) -> usize {
        if self.under_way { 0 } else { self.length.saturating_sub(self.taken) }
    }

    fn take(&mut self, bytes: &mut [u8]) -> usize {
        let read = self.shared.as_ref().and_then(|it| it.buffer.get(self.taken..self.length));
        let read = read.unwrap_or_default();
        let length = read.len().min(bytes.len());
        for (to, from) in bytes.iter_mut().zip(read) {
            *to = *from;
        }
        self.taken += length;
        length
    }

    fn fill(&mut self, bytes: &[u8]) -> u32 {
        let Some(shared) = self.shared.as_mut() else { return 0 };
        for (to, from) in shared.buffer.iter_mut().zip(bytes) {
            *to = *from;
        }
        bytes.len().min(BUFFER) as u32
    }
}

impl Drop for Operation {
    /// Calls it off. The system must be done with the buffer before it is freed; one
    /// that it does not let go of is left to it.
    #[expect(unsafe_code, reason = "a call into kernel32")]
    fn drop(&mut self) {
        /// A local pipe lets go at once.
        const GLANCES: usize = 100;
        if self.is_over() {
            return;
        }
        let Some(shared) = self.shared.take() else { return };
        // SAFETY: the operation was begun with this handle, which is still open.
        unsafe { CancelIoEx(self.handle, &raw const shared.overlapped) };
        self.shared = Some(shared);
        for _ in 0..GLANCES {
            if self.is_over() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        std::mem::forget(self.shared.take());
    }
}

/// The other end has gone; that is no failure.
pub(super) fn is_the_end(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(i32::cast_unsigned);
    matches!(code, Some(ERROR_BROKEN_PIPE | ERROR_PIPE_NOT_CONNECTED))
}
