//! Do children carry the hook?

use crate::width;
use crate::world::{Program, World, content, pattern, this_file};
use hook::decide::Flags;
use hook::section::{Content, Pattern};
use std::path::PathBuf;

#[test]
fn children_and_grandchildren_are_hooked() {
    let world = World::new();
    let mut program = world.hooked();
    let file = this_file();
    assert_eq!(program.does(&format!("start {file}")), "ready");
    assert_eq!(program.does("child bind tcp 0.0.0.0:9100"), "127.0.0.2:9100");
    assert_eq!(program.does(&format!("child start {file}")), "ready");
    assert_eq!(program.does("child child bind udp 0.0.0.0:9100"), "127.0.0.2:9100");
    program.end();
}

#[test]
fn a_program_in_c_is_moved() {
    let world = World::new();
    let mut program = world.hooked();
    let victim = victim_in_c();
    let moved = program.does(&format!("start {} -- 9101", victim.display()));
    assert_eq!(moved, "tcp=127.0.0.2:9101 udp=127.0.0.2:9101");
    let mut plain = world.unhooked(&this_file());
    let left = plain.does(&format!("start {} -- 9101", victim.display()));
    assert_eq!(left, "tcp=0.0.0.0:9101 udp=0.0.0.0:9101");
}

fn victim_in_c() -> PathBuf {
    width::victim(width::OWN)
}

#[test]
fn a_child_that_is_to_be_suspended_stays_so() {
    let world = World::new();
    let mut program = world.hooked();
    let answer = program.does(&format!("suspended {}", this_file()));
    assert_eq!(answer, "still there it ended", "it said nothing before its end");
}

#[test]
fn an_excepted_child_is_not_touched() {
    let mut world = World::new();
    let mut program = world.hooked();
    let plumbing = world.copy("plumbing.exe");
    let excepted = Pattern { excepted: true, ..pattern("Plumbing.exe", 6) };
    world.publish(&Content { programs: vec![excepted], ..content() });
    assert_eq!(program.does(&format!("start {plumbing}")), "ready");
    // Were the DLL in it, it would be moved under this policy.
    world.publish(&content());
    assert_eq!(program.does("child bind tcp 0.0.0.0:9102"), "0.0.0.0:9102");
    program.end();
}

#[test]
fn descendants_count_where_that_is_asked_for() {
    let mut world = World::new();
    let listed = Pattern { listed: true, ..pattern("launcher.exe", 6) };
    let policy = |children, lists| Content {
        flags: Flags { enabled: true, sources: true, children, ..Flags::default() },
        all_listed: false,
        lists,
        programs: vec![listed.clone()],
        ..content()
    };
    world.publish(&policy(true, 7));
    let mut launcher: Program = world.unhooked(&world.copy("launcher.exe"));
    launcher.inject().unwrap();
    let child = world.copy("child.exe");
    assert_eq!(launcher.does(&format!("start {child}")), "ready");
    let moved = "127.0.0.2:9103";
    assert_eq!(launcher.does("child bind tcp 0.0.0.0:9103"), moved);
    assert_eq!(launcher.does(&format!("child start {child}")), "ready");
    assert_eq!(launcher.does("child child bind tcp 0.0.0.0:9103"), moved, "a grandchild");
    world.publish(&policy(false, 7));
    assert_eq!(launcher.does("child bind tcp 0.0.0.0:9103"), "0.0.0.0:9103", "turned off");
    world.publish(&policy(true, 8));
    assert_eq!(launcher.does("child bind tcp 0.0.0.0:9103"), "0.0.0.0:9103", "other lists");
    launcher.end();
    world.publish(&policy(true, 7));
    let mut stranger = world.unhooked(&world.copy("stranger.exe"));
    stranger.inject().unwrap();
    assert_eq!(stranger.does(&format!("start {child}")), "ready");
    assert_eq!(stranger.does("child bind tcp 0.0.0.0:9103"), "0.0.0.0:9103", "nobody listed");
    stranger.end();
}
