//! Where does the driver write packets while we do something else?

use super::BATCH;
use super::event::Event;
use super::facts::Address;
use super::handle::Handle;
use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use windivert_sys::WINDIVERT_MTU_MAX;
use windows_sys::Win32::Foundation::{ERROR_IO_PENDING, STATUS_PENDING};
use windows_sys::Win32::System::IO::{CancelIoEx, GetOverlappedResult, OVERLAPPED};

/// Room for a batch: 85 packets of 1500 bytes or 255 of 500. The first packet
/// that waits always fits, however long, and one that does not fit behind it is
/// the first of the next batch.
const ROOM: usize = 128 << 10;
const _: () = assert!(ROOM >= WINDIVERT_MTU_MAX as usize);

/// How long a cancelled call may take to end before its memory is given up.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the driver writes to.
#[repr(C)]
struct Memory {
    overlapped: OVERLAPPED,
    /// In bytes, before and after.
    addresses_length: u32,
    addresses: [Address; BATCH],
    packets: [u8; ROOM],
}

/// A call for packets, and the memory that they come to. Between
/// [`issue`](Self::issue) and the end of the call the memory is the driver's.
#[derive(Debug)]
pub(super) struct Slot {
    memory: NonNull<Memory>,
    /// Not closed while the driver may still signal it.
    event: ManuallyDrop<Event>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was asked for.
    Idle,
    /// The memory is the driver's until it says otherwise.
    Issued,
    /// The driver did not take the call.
    Refused(i32),
}

#[expect(unsafe_code, reason = "a pointer is not Send by itself")]
// SAFETY: the memory is on the heap and belongs to the slot alone, or to the driver.
unsafe impl Send for Slot {}

impl Slot {
    pub(super) fn new() -> io::Result<Self> {
        let event = ManuallyDrop::new(Event::manual()?);
        let layout = Layout::new::<Memory>();
        #[expect(unsafe_code, reason = "too large to be made on the stack and moved")]
        // SAFETY: the layout is not of zero bytes. Memory is numbers, and pointers that
        // may be null: zeros are valid.
        let memory = unsafe { alloc_zeroed(layout) }.cast();
        let Some(memory) = NonNull::new(memory) else { handle_alloc_error(layout) };
        Ok(Self { memory, event, state: State::Idle })
    }

    /// Asks for packets.
    pub(super) fn issue(&mut self, handle: &Handle) {
        debug_assert_ne!(self.state, State::Issued, "the memory is not ours");
        let memory = self.memory.as_ptr();
        #[expect(unsafe_code, reason = "the memory is handed to the driver")]
        // SAFETY: the memory is ours while nothing is issued, and is not touched again
        // before `is_done`. Only raw pointers are made of it, so that no reference
        // exists while the driver writes.
        let asked = unsafe {
            (*memory).overlapped = OVERLAPPED { hEvent: self.event.raw(), ..OVERLAPPED::default() };
            (*memory).addresses_length = size_of::<[Address; BATCH]>() as u32;
            handle.receive(
                (&raw mut (*memory).packets).cast(),
                ROOM as u32,
                (&raw mut (*memory).addresses).cast(),
                &raw mut (*memory).addresses_length,
                &raw mut (*memory).overlapped,
            )
        };
        self.state = match asked.map_err(|error| error.raw_os_error().unwrap_or_default()) {
            Ok(()) => State::Issued,
            Err(code) if code == ERROR_IO_PENDING.cast_signed() => State::Issued,
            Err(code) => State::Refused(code),
        };
    }

    pub(super) const fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Is there something to [`take`](Self::take)? Costs no system call.
    pub(super) fn is_done(&self) -> bool {
        match self.state {
            State::Idle => false,
            State::Refused(_) => true,
            State::Issued => self.status() != STATUS_PENDING as usize,
        }
    }

    fn status(&self) -> usize {
        #[expect(unsafe_code, reason = "the driver writes here meanwhile")]
        // SAFETY: the memory is there as long as the slot is, the field is aligned, and
        // both sides access it as a whole.
        let status =
            unsafe { AtomicUsize::from_ptr(&raw mut (*self.memory.as_ptr()).overlapped.Internal) };
        // What was written before the status is seen after it.
        status.load(Ordering::Acquire)
    }

    /// Signalled once the call has ended.
    pub(super) fn event(&self) -> &Event {
        &self.event
    }

    /// The packets that a call which [is done](Self::is_done) brought, one behind
    /// the other, and their addresses. The slot is idle afterwards.
    pub(super) fn take(&mut self, handle: &Handle) -> io::Result<(&mut [u8], &mut [Address])> {
        if let State::Refused(code) = self.state {
            self.state = State::Idle;
            return Err(io::Error::from_raw_os_error(code));
        }
        if !self.is_done() {
            return Ok((&mut [], &mut []));
        }
        let mut length = 0;
        let overlapped = self.overlapped();
        #[expect(unsafe_code, reason = "nothing safe asks how a call has ended")]
        // SAFETY: the call has ended, so that this only reads its result.
        let ended = unsafe { GetOverlappedResult(handle.raw(), overlapped, &raw mut length, 0) };
        self.state = State::Idle;
        if ended == 0 {
            return Err(io::Error::last_os_error());
        }
        #[expect(unsafe_code, reason = "the memory has been the driver's")]
        // SAFETY: the call has ended: the memory is ours again, and borrowed from the
        // slot, which issues no other while it is. Any bytes are valid in it.
        let memory = unsafe { self.memory.as_mut() };
        let count = memory.addresses_length as usize / size_of::<Address>();
        let packets = memory.packets.get_mut(..length as usize).unwrap_or_default();
        Ok((packets, memory.addresses.get_mut(..count).unwrap_or_default()))
    }

    /// Ends a call that is under way; whatever it brought is lost.
    pub(super) fn cancel(&mut self, handle: &Handle) {
        if self.state != State::Issued {
            return;
        }
        if !self.is_done() {
            let overlapped = self.overlapped();
            #[expect(unsafe_code, reason = "nothing safe cancels a call")]
            // SAFETY: both are those that the call was made with. It fails where the
            // call has ended meanwhile.
            unsafe {
                CancelIoEx(handle.raw(), overlapped);
            }
            self.event.wait(PATIENCE);
        }
        if self.is_done() {
            self.state = State::Idle;
        }
    }

    const fn overlapped(&self) -> *mut OVERLAPPED {
        #[expect(unsafe_code, reason = "a place in memory that may be the driver's")]
        // SAFETY: the memory is there as long as the slot is; only its address is taken.
        unsafe {
            &raw mut (*self.memory.as_ptr()).overlapped
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.state == State::Issued && !self.is_done() {
            // The driver may still write: a leak is the lesser evil.
            tracing::warn!("a call to the WinDivert driver does not end: its memory is given up");
            return;
        }
        #[expect(unsafe_code, reason = "the memory was shared with the driver")]
        // SAFETY: it was allocated as a box would, nothing is under way, and nobody has it or the
        // event after this.
        unsafe {
            ManuallyDrop::drop(&mut self.event);
            drop(Box::from_raw(self.memory.as_ptr()));
        }
    }
}
