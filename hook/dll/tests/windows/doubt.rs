//! Whom does the hook believe, and what if something is wrong?

use crate::world::{World, content, dll, is_readable, this_file};
use hook::refusal::Refusal;
use hook::section::{BYTES, Content, NAME};
use hook::windows::mark::{self, Offset};
use hook::windows::shared::{CreateError, READABLE, Shared};
use hook::windows::wide;
use std::os::windows::io::AsHandle;
use std::sync::atomic::Ordering;
use windows_sys::Win32::Foundation::{ERROR_ACCESS_DENIED, GetLastError};
use windows_sys::Win32::System::Memory::{FILE_MAP_WRITE, OpenFileMappingW};

const ASKED: &str = "bind tcp 0.0.0.0:9200";
const LEFT: &str = "0.0.0.0:9200";
const MOVED: &str = "127.0.0.2:9200";

#[test]
fn without_a_daemon_nothing_is_moved() {
    let world = World::silent();
    assert_eq!(world.hooked().does(ASKED), LEFT);
}

#[test]
fn a_killed_daemons_word_holds_until_another_speaks() {
    let mut world = World::new();
    let mut program = world.hooked();
    assert_eq!(program.does(ASKED), MOVED);
    world.kill();
    assert!(!is_readable(), "the name goes with the daemon");
    assert_eq!(program.does(ASKED), MOVED);
    world.start();
    world.publish(&Content { sessions: vec![], ..content() });
    assert_eq!(program.does(ASKED), LEFT, "the new daemon knows of no session");
    world.publish(&content());
    assert_eq!(program.does(ASKED), MOVED);
    // A daemon that stops says so.
    world.publish(&Content::default());
    world.kill();
    assert_eq!(program.does(ASKED), LEFT);
}

#[test]
fn garbage_leaves_calls_alone() {
    let mut world = World::new();
    let mut program = world.hooked();
    assert_eq!(program.does(ASKED), MOVED);
    for value in [0, 1, 0xdead_beef, u32::MAX] {
        for word in world.section().words() {
            word.store(value, Ordering::Relaxed);
        }
        assert_eq!(program.does(ASKED), LEFT, "all words are {value:#x}");
    }
    // The head is right, and nothing after it.
    for word in world.section().words() {
        word.store(0, Ordering::Relaxed);
    }
    world.publish(&content());
    for word in world.section().words().iter().skip(17) {
        word.store(u32::MAX, Ordering::Relaxed);
    }
    let given = program.does(ASKED);
    assert!(given == LEFT || given.starts_with("error"), "{given}");
    assert_eq!(program.does("bind tcp 127.0.0.1:9200"), "127.0.0.1:9200", "and it lives");
}

#[test]
fn nobody_else_may_write() {
    let world = World::new();
    assert!(is_readable());
    let name = wide(NAME);
    // SAFETY: the name ends in a zero.
    #[expect(unsafe_code, reason = "calls of the system")]
    let (section, error) =
        unsafe { (OpenFileMappingW(FILE_MAP_WRITE, 0, name.as_ptr()), GetLastError()) };
    assert!(section.is_null(), "a client opened it for writing");
    assert_eq!(error, ERROR_ACCESS_DENIED);
    drop(world);
}

#[test]
fn nobody_else_is_believed() {
    let world = World::silent();
    let anybodys = "O:S-1-5-21-1-2-3-1001D:P(A;;GA;;;WD)";
    let squatter = Shared::create(NAME, anybodys, BYTES).unwrap();
    let section = hook::section::Writer::new(squatter.words(), 9);
    section.unwrap().publish(&content()).unwrap();
    assert!(!is_readable(), "it is not the system's");
    assert_eq!(world.hooked().does(ASKED), LEFT);
    let error = Shared::create(NAME, READABLE, BYTES).unwrap_err();
    let CreateError::Foreign { owner } = &error else { panic!("{error}") };
    assert_eq!(owner, "S-1-5-21-1-2-3-1001");
    assert!(error.to_string().contains("S-1-5-21-1-2-3-1001"), "{error}");
}

#[test]
fn a_second_copy_does_not_get_the_section() {
    let world = World::new();
    let second = Shared::create(NAME, READABLE, BYTES).unwrap_err();
    assert!(matches!(second, CreateError::Held), "{second}");
    drop(world);
}

#[test]
fn a_program_that_has_ended_is_gone() {
    let world = World::new();
    let mut program = world.unhooked(&this_file());
    program.end();
    assert_eq!(program.inject(), Err(Refusal::Gone));
}

#[test]
fn a_dll_that_is_not_there_is_not_loaded() {
    let world = World::new();
    let mut program = world.unhooked(&this_file());
    let wait = std::time::Duration::from_secs(20);
    let nowhere = wide(r"C:\nowhere\sessionip_hook.dll");
    let refused = hook::windows::inject::inject(program.child().as_handle(), &nowhere, wait);
    assert_eq!(refused, Err(Refusal::NotLoaded));
    assert!(!program.is_hooked());
    assert_eq!(program.does(ASKED), LEFT, "and it runs on");
}

#[test]
fn the_hook_is_there_once() {
    let world = World::new();
    let mut program = world.unhooked(&this_file());
    let first = program.inject().unwrap();
    assert!(program.is_hooked());
    assert_eq!(program.inject(), Ok(first), "a second time changes nothing");
    assert_eq!(program.does(ASKED), MOVED);
}

#[test]
fn a_mark_is_only_written_where_there_is_one() {
    let world = World::new();
    let program = world.unhooked(&this_file());
    let base = program.inject().unwrap();
    let offset = Offset::of(&dll()).expect("the DLL exports its mark");
    let process = program.child().as_handle();
    assert!(mark::tell(process, base, offset, 1));
    assert!(!mark::tell(process, base + 8, offset, 1), "another edition of the DLL");
    assert!(!mark::tell(process, 8, offset, 1), "nothing is there");
}
