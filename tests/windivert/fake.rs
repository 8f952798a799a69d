//! The stand-in for WinDivert.dll, and what is asked of it.

#![expect(unsafe_code, reason = "functions of a DLL")]

#[path = "../windows/fakedll/src/shape.rs"]
#[expect(unreachable_pub, reason = "the stand-in offers it to others")]
mod shape;

use sessionip::divert::{Diverter, Switch};
pub(crate) use shape::{Address, Tally};
use std::ffi::{CStr, c_void};
use std::os::windows::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use windows_sys::Win32::System::LibraryLoader::{GetProcAddress, LoadLibraryW};

/// There is one of it in a process, and so one test at a time.
static ONE: Mutex<()> = Mutex::new(());

/// What the flag bits of an address say (`windivert.h`), as a number of its word.
pub(crate) const OUTBOUND: u32 = 1 << 17;
pub(crate) const LOOPBACK: u32 = 1 << 18;
pub(crate) const IMPOSTOR: u32 = 1 << 19;
pub(crate) const CHECKSUMS: u32 = 0b111 << 21;

pub(crate) struct Fake {
    functions: Functions,
    _alone: MutexGuard<'static, ()>,
}

type Refuse = extern "C" fn(u32);
type Version = extern "C" fn(u64, u64);
type Command = extern "C" fn();
type Feed = unsafe extern "C" fn(&shape::Feed);
type Text = unsafe extern "C" fn(*mut u8, usize) -> usize;
type Count = extern "C" fn(&mut Tally);

struct Functions {
    refuse: Refuse,
    version: Version,
    vanish: Command,
    feed: Feed,
    keep: Command,
    kept: Text,
    handles: Text,
    tally: Count,
}

/// Packets to be handed out, each with its address.
#[derive(Default)]
pub(crate) struct Packets {
    bytes: Vec<u8>,
    lengths: Vec<u32>,
    addresses: Vec<Address>,
    alone: Vec<bool>,
}

impl Packets {
    pub(crate) fn add(&mut self, packet: &[u8], flags: u32) {
        self.bytes.extend_from_slice(packet);
        self.lengths.push(packet.len() as u32);
        self.addresses.push(address(flags));
        self.alone.push(false);
    }

    /// In a call of its own: what the driver would not have handed out with others.
    pub(crate) fn add_alone(&mut self, packet: &[u8], flags: u32) {
        self.add(packet, flags);
        self.alone.last_mut().into_iter().for_each(|alone| *alone = true);
    }
}

/// An address of interface 2.
pub(crate) fn address(flags: u32) -> Address {
    let mut address = [0; 80];
    address[8..12].copy_from_slice(&flags.to_le_bytes());
    address[16] = 2;
    address
}

impl Fake {
    pub(crate) fn new() -> Self {
        let alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let wide: Vec<u16> = path().as_os_str().encode_wide().chain([0]).collect();
        // SAFETY: the path ends with a zero.
        let module = unsafe { LoadLibraryW(wide.as_ptr()) };
        assert!(!module.is_null(), "{}", path().display());
        let find = |name: &CStr| {
            // SAFETY: the module is loaded for good, and the name ends with a zero.
            let found = unsafe { GetProcAddress(module, name.as_ptr().cast()) };
            found.expect("a function of the stand-in") as *const c_void
        };
        // SAFETY: the types are those of the stand-in's lib.rs.
        let (reset, functions) = unsafe {
            (
                std::mem::transmute::<*const c_void, Command>(find(c"FakeReset")),
                Functions {
                    refuse: std::mem::transmute::<*const c_void, Refuse>(find(c"FakeRefuse")),
                    version: std::mem::transmute::<*const c_void, Version>(find(c"FakeVersion")),
                    vanish: std::mem::transmute::<*const c_void, Command>(find(c"FakeVanish")),
                    feed: std::mem::transmute::<*const c_void, Feed>(find(c"FakeFeed")),
                    keep: std::mem::transmute::<*const c_void, Command>(find(c"FakeKeep")),
                    kept: std::mem::transmute::<*const c_void, Text>(find(c"FakeKept")),
                    handles: std::mem::transmute::<*const c_void, Text>(find(c"FakeHandles")),
                    tally: std::mem::transmute::<*const c_void, Count>(find(c"FakeTally")),
                },
            )
        };
        reset();
        Self { functions, _alone: alone }
    }

    pub(crate) fn open(&self) -> (Diverter, Switch) {
        Diverter::open_with(&path()).expect("the stand-in")
    }

    pub(crate) fn refuse(&self, code: u32) {
        (self.functions.refuse)(code);
    }

    pub(crate) fn version(&self, major: u64, minor: u64) {
        (self.functions.version)(major, minor);
    }

    pub(crate) fn vanish(&self) {
        (self.functions.vanish)();
    }

    /// Has the newest handle of this priority hand out packets, in a ring.
    pub(crate) fn feed(&self, priority: i16, packets: &Packets, total: u64) {
        let feed = shape::Feed {
            priority,
            packets: packets.bytes.as_ptr(),
            lengths: packets.lengths.as_ptr(),
            addresses: packets.addresses.as_ptr(),
            alone: packets.alone.as_ptr(),
            count: packets.lengths.len(),
            total,
        };
        // SAFETY: all lists are of `count` packets, and copied before this returns.
        unsafe { (self.functions.feed)(&feed) };
    }

    /// Keeps from now on what is sent.
    pub(crate) fn keep(&self) {
        (self.functions.keep)();
    }

    /// What was sent since, with the flags of its address.
    pub(crate) fn kept(&self) -> Vec<(u32, Vec<u8>)> {
        let bytes = self.text(self.functions.kept);
        let mut rest = &*bytes;
        let mut kept = Vec::new();
        while let Some((address, after)) = rest.split_first_chunk::<80>() {
            let (length, after) = after.split_first_chunk().expect("a length");
            let (packet, after) = after.split_at(u32::from_le_bytes(*length) as usize);
            let flags = u32::from_le_bytes(*address[8..].first_chunk().expect("flags"));
            kept.push((flags, packet.to_vec()));
            rest = after;
        }
        kept
    }

    /// A line for each open handle.
    pub(crate) fn handles(&self) -> String {
        String::from_utf8(self.text(self.functions.handles)).expect("text")
    }

    fn text(&self, read: Text) -> Vec<u8> {
        // SAFETY: there is no room, of which it makes no use.
        let length = unsafe { read(std::ptr::NonNull::dangling().as_ptr(), 0) };
        let mut text = vec![0; length];
        // SAFETY: there is as much room as is said.
        unsafe { read(text.as_mut_ptr(), length) };
        text
    }

    pub(crate) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        (self.functions.tally)(&mut tally);
        tally
    }
}

/// Cargo builds it beside the tests.
pub(crate) fn path() -> PathBuf {
    let program = std::env::current_exe().expect("a program");
    program.with_file_name("fakedivert.dll")
}
