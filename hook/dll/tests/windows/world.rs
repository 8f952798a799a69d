//! A daemon of the test's own, and programs around it.

use crate::victim;
use hook::decide::{Flags, Session};
use hook::refusal::Refusal;
use hook::section::{BYTES, Content, NAME, Pattern, View, Writer};
use hook::windows::shared::{READABLE, Shared};
use hook::windows::{DLL, inject, mark, process, wide};
use std::io::Write;
use std::net::Ipv6Addr;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::AsHandle;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The virtual address of this session, and the one of another.
pub(crate) const V: &str = "127.0.0.2";
pub(crate) const FOREIGN: &str = "127.0.0.3";
/// In the pool, and nobody's.
pub(crate) const FREE: &str = "127.0.0.9";
/// Stands for the address of the pool's NIC.
pub(crate) const P: &str = "127.0.0.77";

/// There is one section of that name on a machine: one test at a time.
static ONE: Mutex<()> = Mutex::new(());

/// The daemon: it publishes.
pub(crate) struct World {
    section: Option<Shared>,
    folder: PathBuf,
    _one: MutexGuard<'static, ()>,
}

impl World {
    /// All programs of this session are listed.
    pub(crate) fn new() -> Self {
        let mut world = Self::silent();
        world.start();
        world.publish(&content());
        world
    }

    /// Nothing is published.
    pub(crate) fn silent() -> Self {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = std::env::temp_dir().join(format!("hook-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self { section: None, folder, _one: one }
    }

    /// A daemon starts.
    pub(crate) fn start(&mut self) {
        self.section = Some(Shared::create(NAME, READABLE, BYTES).expect("it is the only one"));
    }

    /// The daemon dies.
    pub(crate) fn kill(&mut self) {
        self.section = None;
    }

    pub(crate) fn publish(&mut self, content: &Content) {
        let section = self.section.as_ref().expect("a daemon runs");
        // No two daemons have the same number.
        let stamp = (&raw const *section).addr() as u64 ^ u64::from(std::process::id()) << 32;
        let mut writer = Writer::new(section.words(), stamp).unwrap();
        writer.publish(content).expect("it fits");
    }

    pub(crate) fn section(&self) -> &Shared {
        self.section.as_ref().expect("a daemon runs")
    }

    /// This file under another name.
    pub(crate) fn copy(&self, name: &str) -> String {
        let path = self.folder.join(name);
        if !path.exists() {
            std::fs::copy(std::env::current_exe().unwrap(), &path).unwrap();
        }
        path.to_str().unwrap().to_owned()
    }

    /// An empty folder.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.folder.join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// A program that runs already when it gets the hook.
    pub(crate) fn hooked(&self) -> Program {
        let program = self.unhooked(&this_file());
        program.inject().expect("it takes the hook");
        program
    }

    /// A program as it is.
    pub(crate) fn unhooked(&self, file: &str) -> Program {
        Program::of(&mut victim::command(file))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

pub(crate) fn this_file() -> String {
    std::env::current_exe().unwrap().to_str().unwrap().to_owned()
}

/// The DLL for programs as wide as this one, with a zero at the end.
pub(crate) fn dll() -> Vec<u16> {
    let path = hooks().join(DLL);
    assert!(path.exists(), "make windows-build makes {}", path.display());
    path.as_os_str().encode_wide().chain([0]).collect()
}

/// The folder where the DLLs and helpers of both widths lie, as they do beside the
/// daemon.
pub(crate) fn hooks() -> PathBuf {
    built("x86_64-pc-windows-gnu").join("debug")
}

/// Of a target: this file is target/TARGET/PROFILE/deps/this.exe.
pub(crate) fn built(target: &str) -> PathBuf {
    let file = std::env::current_exe().unwrap();
    file.ancestors().nth(4).unwrap().join(target)
}

pub(crate) fn mapped(address: &str) -> Ipv6Addr {
    match address.parse().unwrap() {
        std::net::IpAddr::V4(address) => address.to_ipv6_mapped(),
        std::net::IpAddr::V6(address) => address,
    }
}

pub(crate) fn content() -> Content {
    let own = process::session_of(std::process::id()).unwrap();
    let session = |id, ipv4: &str, ipv6: &str| Session {
        id,
        ipv4: ipv4.parse().ok(),
        ipv6: ipv6.parse().ok(),
        private_ipv6: None,
        loopback: None,
    };
    Content {
        flags: Flags { enabled: true, sources: true, ..Flags::default() },
        all_listed: true,
        lists: 1,
        sessions: vec![session(own, V, "::1"), session(own + 1, FOREIGN, "")],
        host: vec![(mapped(P), true)],
        pool: vec![mapped(V)..=mapped(FREE)],
        ..Content::default()
    }
}

pub(crate) fn pattern(text: &str, id: u32) -> Pattern {
    let is_path = text.contains('\\');
    Pattern { text: text.encode_utf16().collect(), is_path, id, ..Pattern::default() }
}

/// Is the section as a client sees it there, and ours?
pub(crate) fn is_readable() -> bool {
    Shared::open(&wide(NAME), BYTES).is_some_and(|section| View::new(section.words()).is_some())
}

/// A running program; it ends with its handle.
pub(crate) struct Program(Child);

impl Program {
    pub(crate) fn of(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        assert_eq!(victim::next(&mut child), "ready");
        Self(child)
    }

    pub(crate) fn inject(&self) -> Result<usize, Refusal> {
        inject::inject(self.0.as_handle(), &dll(), Duration::from_secs(20))
    }

    pub(crate) fn is_hooked(&self) -> bool {
        mark::base_in(self.0.as_handle()).is_some()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn child(&self) -> &Child {
        &self.0
    }

    /// Has it do something, and returns its answer.
    pub(crate) fn does(&mut self, command: &str) -> String {
        let mut input = self.0.stdin.take().unwrap();
        writeln!(input, "{command}").unwrap();
        self.0.stdin = Some(input);
        victim::next(&mut self.0)
    }

    pub(crate) fn end(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
