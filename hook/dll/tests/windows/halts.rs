//! How often does a program stand still for the hook?
//!
//! Each time all threads of the machine are listed, under the loader's lock at first,
//! and those of the program suspended.

use crate::world::{P, World, content};
use hook::decide::Flags;
use hook::section::Content;
use minhook::MinHook;
use std::ffi::c_void;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

type Snapshot = unsafe extern "system" fn(u32, u32) -> *mut c_void;

/// `TH32CS_SNAPTHREAD`.
const THREADS: u32 = 4;

static ORIGINAL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
static TIMES: AtomicU32 = AtomicU32::new(0);

/// In the program: counts from now on, and says how often since.
#[expect(unsafe_code, reason = "code in memory is changed")]
pub(crate) fn halts() -> String {
    if ORIGINAL.load(Ordering::Acquire).is_null() {
        // SAFETY: the detour has the function's signature.
        unsafe {
            let function = "CreateToolhelp32Snapshot";
            let original = MinHook::create_hook_api("kernel32.dll", function, count as *mut c_void);
            ORIGINAL.store(original.unwrap(), Ordering::Release);
            MinHook::enable_all_hooks().unwrap();
        }
    }
    TIMES.swap(0, Ordering::AcqRel).to_string()
}

#[expect(unsafe_code, reason = "it stands in for a function of the system")]
unsafe extern "system" fn count(flags: u32, process: u32) -> *mut c_void {
    if flags & THREADS != 0 {
        TIMES.fetch_add(1, Ordering::AcqRel);
    }
    // SAFETY: it is called through the detour, the arguments are the caller's own.
    unsafe {
        let original = ORIGINAL.load(Ordering::Acquire);
        std::mem::transmute::<*mut c_void, Snapshot>(original)(flags, process)
    }
}

#[test]
fn a_program_stands_still_once_for_all_detours() {
    let mut world = World::new();
    let default = content();
    let connect = Content { flags: Flags { connect: true, ..default.flags }, ..default.clone() };
    for (what, first) in [("by default", &default), ("with connect", &connect)] {
        world.publish(first);
        let mut program = world.unhooked(&crate::world::this_file());
        assert_eq!(program.does("halts"), "0");
        program.inject().unwrap();
        assert_eq!(program.does("halts"), "1", "{what}");
        // Asked for later, and once.
        world.publish(&connect);
        let later = if std::ptr::eq(first, &raw const default) { "1" } else { "0" };
        for halts in [later, "0"] {
            program.does(&format!("bind tcp {P}:0"));
            assert_eq!(program.does("halts"), halts, "{what}");
        }
    }
}
