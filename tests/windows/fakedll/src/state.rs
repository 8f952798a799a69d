//! Which handles are open, what waits for them, and what they did.

use crate::shape::{Address, Feed, Tally};
use crate::sums;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use windows_sys::Win32::Foundation::{
    NTSTATUS, STATUS_DEVICE_DOES_NOT_EXIST, STATUS_PIPE_EMPTY, STATUS_SUCCESS,
};
use windows_sys::Win32::System::IO::OVERLAPPED;
use windows_sys::Win32::System::Performance::QueryPerformanceCounter;
use windows_sys::Win32::System::Threading::SetEvent;

/// As `WINDIVERT_BATCH_MAX`.
const BATCH: usize = 255;
/// Of how many sending calls one has its checksums looked at.
const SAMPLE: u64 = 61;

static STATE: Mutex<Option<State>> = Mutex::new(None);

pub(crate) fn with<T>(action: impl FnOnce(&mut State) -> T) -> T {
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    action(state.get_or_insert_with(State::new))
}

pub(crate) struct State {
    pub(crate) handles: BTreeMap<usize, Open>,
    pub(crate) tally: Tally,
    pub(crate) refuse: u32,
    pub(crate) version: (u64, u64),
    pub(crate) vanished: bool,
    pub(crate) kept: Option<Vec<u8>>,
}

#[derive(Default)]
pub(crate) struct Open {
    pub(crate) filter: String,
    pub(crate) priority: i16,
    pub(crate) flags: u64,
    pub(crate) parameters: Vec<(u32, u64)>,
    pub(crate) shut: u32,
    pub(crate) waiting: VecDeque<Waiting>,
    pub(crate) queue: VecDeque<Queue>,
}

/// A call for packets, and the caller's memory.
pub(crate) struct Waiting {
    pub(crate) packets: *mut u8,
    pub(crate) length: usize,
    pub(crate) addresses: *mut Address,
    pub(crate) addresses_length: *mut u32,
    pub(crate) overlapped: *mut OVERLAPPED,
}

// SAFETY: the caller's memory is valid, on any thread, until the call has ended.
unsafe impl Send for Waiting {}

/// Packets that are handed out again and again.
pub(crate) struct Queue {
    packets: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
    addresses: Vec<Address>,
    alone: Vec<bool>,
    at: usize,
    left: u64,
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            handles: BTreeMap::new(),
            tally: Tally::default(),
            refuse: 0,
            version: (2, 2),
            vanished: false,
            kept: None,
        }
    }

    pub(crate) fn open(&mut self, open: Open) -> usize {
        self.tally.opened += 1;
        let id = self.tally.opened as usize * 4;
        self.handles.insert(id, open);
        id
    }

    pub(crate) fn tally(&self) -> Tally {
        Tally { open: self.handles.len() as u64, ..self.tally }
    }

    pub(crate) fn describe(&self) -> String {
        self.handles.values().fold(String::new(), |mut text, open| {
            let Open { priority, flags, parameters, filter, .. } = open;
            writeln!(text, "{priority} {flags} {parameters:?} {filter}").ok();
            text
        })
    }

    pub(crate) fn vanish(&mut self) {
        self.vanished = true;
        for open in self.handles.values_mut() {
            open.waiting.drain(..).for_each(|call| call.end(STATUS_DEVICE_DOES_NOT_EXIST, 0));
        }
    }

    /// # Safety
    /// What `feed` points to is as long as it says.
    pub(crate) unsafe fn feed(&mut self, feed: &Feed) {
        let receives = |open: &&mut Open| open.priority == feed.priority && open.flags & 2 == 0;
        let Some(open) = self.handles.values_mut().rev().find(receives) else { return };
        // SAFETY: the caller's promise.
        let queue = unsafe {
            let lengths = std::slice::from_raw_parts(feed.lengths, feed.count);
            let ends: Vec<usize> = lengths
                .iter()
                .scan(0, |end, length| {
                    *end += *length as usize;
                    Some(*end)
                })
                .collect();
            let length = ends.last().copied().unwrap_or_default();
            Queue {
                packets: std::slice::from_raw_parts(feed.packets, length).to_vec(),
                ends,
                addresses: std::slice::from_raw_parts(feed.addresses, feed.count).to_vec(),
                alone: std::slice::from_raw_parts(feed.alone, feed.count).to_vec(),
                at: 0,
                left: feed.total,
            }
        };
        open.queue.push_back(queue);
        while let Some(call) = open.waiting.pop_front() {
            // SAFETY: whoever called keeps the memory until the call has ended.
            if !unsafe { open.fill(&call, &mut self.tally) } {
                open.waiting.push_front(call);
                break;
            }
        }
    }

    /// Counts what is sent; false where the driver would not take it.
    pub(crate) fn send(&mut self, packets: &[u8], addresses: &[Address]) -> bool {
        self.tally.sends += 1;
        self.tally.sent += addresses.len() as u64;
        if self.kept.is_none() && !self.tally.sends.is_multiple_of(SAMPLE) {
            return true;
        }
        let mut rest = packets;
        for address in addresses {
            let Some((packet, after)) = sums::split(rest) else { return false };
            rest = after;
            self.tally.checked += 1;
            self.tally.wrong += u64::from(!sums::are_right(packet, address));
            if let Some(kept) = &mut self.kept {
                kept.extend_from_slice(address);
                kept.extend_from_slice(&(packet.len() as u32).to_le_bytes());
                kept.extend_from_slice(packet);
            }
        }
        rest.is_empty()
    }
}

impl Open {
    /// Answers a call with as many packets as there are and fit.
    ///
    /// # Safety
    /// The call's memory is valid.
    pub(crate) unsafe fn fill(&mut self, call: &Waiting, tally: &mut Tally) -> bool {
        let Some(queue) = self.queue.front_mut() else { return false };
        // SAFETY: the caller's promise.
        let room = unsafe { *call.addresses_length } as usize / size_of::<Address>();
        let from = queue.at;
        let start = from.checked_sub(1).map_or(0, |before| queue.ends[before]);
        let most = room.min(BATCH).min(usize::try_from(queue.left).unwrap_or(usize::MAX));
        let mut to = from;
        while to < queue.ends.len() && to - from < most && queue.ends[to] - start <= call.length {
            if queue.alone[to] && to > from {
                break;
            }
            to += 1;
            if queue.alone[to - 1] {
                break;
            }
        }
        let (count, bytes) = (to - from, queue.ends[to - 1] - start);
        // SAFETY: there is room for so many, and the memory is the caller's.
        unsafe {
            std::ptr::copy_nonoverlapping(queue.packets[start..].as_ptr(), call.packets, bytes);
            std::ptr::copy_nonoverlapping(queue.addresses[from..].as_ptr(), call.addresses, count);
            let mut now = 0;
            QueryPerformanceCounter(&raw mut now);
            for at in 0..count {
                call.addresses.add(at).cast::<[u8; 8]>().write(now.to_le_bytes());
            }
            *call.addresses_length = (count * size_of::<Address>()) as u32;
        }
        queue.at = to % queue.ends.len();
        queue.left -= count as u64;
        if queue.left == 0 {
            self.queue.pop_front();
        }
        tally.received += count as u64;
        tally.receives += 1;
        call.end(STATUS_SUCCESS, bytes);
        self.end_if_shut();
        true
    }

    /// Ends what waits for packets that will not come.
    pub(crate) fn end_if_shut(&mut self) {
        if self.shut & 1 != 0 && self.queue.is_empty() {
            self.waiting.drain(..).for_each(|call| call.end(STATUS_PIPE_EMPTY, 0));
        }
    }
}

impl Waiting {
    fn end(&self, status: NTSTATUS, length: usize) {
        // SAFETY: whoever called keeps the memory until the call has ended, which it
        // has with the status.
        unsafe {
            let event = (*self.overlapped).hEvent;
            (*self.overlapped).InternalHigh = length;
            std::sync::atomic::AtomicUsize::from_ptr(&raw mut (*self.overlapped).Internal)
                .store(status as u32 as usize, std::sync::atomic::Ordering::Release);
            SetEvent(event);
        }
    }
}
