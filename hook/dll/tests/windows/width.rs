//! Do programs of the other width get the hook? To 64-bit tests those are 32-bit
//! programs, and the other way round.

use crate::victim;
use crate::world::{Program, World, built, content, dll, hooks, pattern, this_file};
use hook::decide::Flags;
use hook::refusal::Refusal;
use hook::section::{Content, Pattern};
use hook::windows::HELPER;
use hook::windows::helper::{self, Errand, Helped, is_for_helper};
use hook::windows::inject::inject;
use std::io::Write;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::AsHandle;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The targets of 64-bit and 32-bit programs.
const TARGETS: [&str; 2] = ["x86_64-pc-windows-gnu", "i686-pc-windows-gnu"];
pub(crate) const OWN: &str = TARGETS[cfg!(target_pointer_width = "32") as usize];
const OTHER: &str = TARGETS[cfg!(target_pointer_width = "64") as usize];

/// The program in C, for a target.
pub(crate) fn victim(target: &str) -> PathBuf {
    let path = built(target).join("victims").join("bind.exe");
    assert!(path.exists(), "make -C tests/windows/victims builds {}", path.display());
    path
}

fn folder(folder: &Path) -> Vec<u16> {
    folder.as_os_str().encode_wide().collect()
}

/// A program of the other width that runs, and listens when it is told.
struct Stranger(Child);

impl Stranger {
    fn start(file: &Path, port: &str) -> Self {
        let mut command = Command::new(file);
        command.args([port, "--later"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        assert_eq!(victim::line(&mut child), "ready");
        assert!(is_for_helper(child.as_handle()), "it is of this width");
        Self(child)
    }

    fn sent(&self, hooks: &Path, lists: u64) -> Result<Helped, Refusal> {
        let errand = Errand { pid: self.0.id(), lists, wait: Duration::from_secs(20) };
        helper::send(&folder(hooks), &errand, &helper::make)
    }

    /// Where it comes to listen.
    fn listens(&mut self) -> String {
        writeln!(self.0.stdin.as_mut().unwrap()).unwrap();
        let tcp = victim::line(&mut self.0);
        format!("{tcp} {}", victim::line(&mut self.0))
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn one_that_runs_gets_the_hook_by_the_helper() {
    let world = World::new();
    let mut stranger = Stranger::start(&victim(OTHER), "9110");
    assert_eq!(stranger.sent(&hooks(), 0), Ok(Helped::Hooked));
    assert_eq!(stranger.sent(&hooks(), 0), Ok(Helped::AlreadyHooked));
    assert_eq!(stranger.listens(), "tcp=127.0.0.2:9110 udp=127.0.0.2:9110");
    let mut plain = Stranger::start(&victim(OTHER), "9110");
    assert_eq!(plain.listens(), "tcp=0.0.0.0:9110 udp=0.0.0.0:9110");
    drop(world);
}

#[test]
fn only_the_helper_gets_near_it() {
    let world = World::new();
    let mut stranger = Stranger::start(&victim(OTHER), "9111");
    let refused = inject(stranger.0.as_handle(), &dll(), Duration::from_secs(20));
    assert_eq!(refused, Err(Refusal::NoHelper));
    let nowhere = Path::new(r"C:\nowhere");
    assert_eq!(stranger.sent(nowhere, 0), Err(Refusal::NoHelper), "there is none");
    // One without its DLL.
    let alone = world.folder("alone");
    std::fs::copy(hooks().join(HELPER), alone.join(HELPER)).unwrap();
    assert_eq!(stranger.sent(&alone, 0), Err(Refusal::NotLoaded));
    assert_eq!(stranger.listens(), "tcp=0.0.0.0:9111 udp=0.0.0.0:9111", "and it runs on");
    stranger.0.wait().unwrap();
    assert_eq!(stranger.sent(&hooks(), 0), Err(Refusal::Gone));
}

#[test]
fn children_of_the_other_width_are_hooked() {
    let world = World::new();
    let (other, own) = (victim(OTHER), victim(OWN));
    let mut program = world.hooked();
    let moved = program.does(&format!("start {} -- 9112", other.display()));
    assert_eq!(moved, "tcp=127.0.0.2:9112 udp=127.0.0.2:9112");
    // And theirs, of either width.
    for (grandchild, port) in [(&own, 9113), (&other, 9114)] {
        let said = program.does(&format!(
            "start {} -- {} --start {} {port}",
            other.display(),
            port + 10,
            grandchild.display()
        ));
        let both = |port| format!("tcp=127.0.0.2:{port} udp=127.0.0.2:{port}");
        assert_eq!(said, format!("{} {}", both(port + 10), both(port)));
    }
    let mut plain = world.unhooked(&this_file());
    let left = plain.does(&format!("start {} -- 9112", other.display()));
    assert_eq!(left, "tcp=0.0.0.0:9112 udp=0.0.0.0:9112");
}

#[test]
fn a_suspended_one_stays_so() {
    let world = World::new();
    let mut program = world.hooked();
    let answer = program.does(&format!("suspended {}", victim(OTHER).display()));
    assert_eq!(answer, "still there it ended", "it said nothing before its end");
}

#[test]
fn descendants_of_the_other_width_count_where_that_is_asked_for() {
    let mut world = World::new();
    let listed = Pattern { listed: true, ..pattern("launcher.exe", 6) };
    let policy = |children| Content {
        flags: Flags { children, ..content().flags },
        all_listed: false,
        lists: 7,
        programs: vec![listed.clone()],
        ..content()
    };
    world.publish(&policy(true));
    let mut launcher: Program = world.unhooked(&world.copy("launcher.exe"));
    launcher.inject().unwrap();
    let (other, own) = (victim(OTHER), victim(OWN));
    let start = format!("start {} -- 9115 --start {} 9116", other.display(), own.display());
    let both = |address, port| format!("tcp={address}:{port} udp={address}:{port}");
    let moved = format!("{} {}", both("127.0.0.2", 9115), both("127.0.0.2", 9116));
    assert_eq!(launcher.does(&start), moved, "a child, and a grandchild of this width");
    world.publish(&policy(false));
    let left = format!("{} {}", both("0.0.0.0", 9115), both("0.0.0.0", 9116));
    assert_eq!(launcher.does(&start), left, "turned off");

    // The daemon, too, says so by the helper.
    world.publish(&policy(true));
    let mut stranger = Stranger::start(&other, "9117");
    assert_eq!(stranger.sent(&hooks(), 0), Ok(Helped::Hooked));
    assert_eq!(stranger.sent(&hooks(), 7), Ok(Helped::AlreadyHooked));
    assert_eq!(stranger.listens(), both("127.0.0.2", 9117));
    let mut unlisted = Stranger::start(&other, "9118");
    assert_eq!(unlisted.sent(&hooks(), 8), Ok(Helped::Hooked));
    assert_eq!(unlisted.listens(), both("0.0.0.0", 9118), "by other lists");
}
