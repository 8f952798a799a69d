//! Where can packets be diverted without harm? In two network namespaces with a
//! wire between them, gone with the value that holds them.

use nix::sched::{CloneFlags, setns, unshare};
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The host address, two virtual ones, and the other end of the wire.
pub(crate) const P: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub(crate) const V: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 101);
pub(crate) const V2: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 102);
pub(crate) const PEER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// Sockets belong to the cgroup of the process: one test at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Two hosts and the wire between them.
pub(crate) struct Wire {
    host: File,
    peer: File,
    scopes: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

impl Wire {
    pub(crate) fn new() -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(nix::unistd::geteuid().is_root(), "these tests divert packets and need root");
        let scopes = cgroup_root().join(format!("divert-test-{}", std::process::id()));
        fs::create_dir_all(scopes.join("session-1.scope")).expect("a cgroup of our own");
        let wire = Self { host: namespace(), peer: namespace(), scopes, _alone: alone };
        wire.host(|| {
            // The name exists for as long as this thread does not leave.
            let here = format!("/proc/{}/ns/net", nix::unistd::gettid());
            wire.peer(|| {
                run(&format!("ip link add peer type veth peer name wire netns {here}"));
                run(&format!("ip address add {PEER}/24 dev peer"));
                run("ip link set peer up");
                run("ip link set lo up");
            });
            run(&format!("ip address add {P}/24 dev wire"));
            run("ip link set wire up");
            run("ip link set lo up");
            for lease in [V, V2] {
                run(&format!("ip route add local {lease}/32 dev lo table local src {P} mtu 65500"));
            }
        });
        wire
    }

    /// Does it on the host whose packets are diverted.
    pub(crate) fn host<T: Send>(&self, does: impl FnOnce() -> T + Send) -> T {
        inside(&self.host, does)
    }

    /// Does it at the far end of the wire.
    pub(crate) fn peer<T: Send>(&self, does: impl FnOnce() -> T + Send) -> T {
        inside(&self.peer, does)
    }

    /// Does it on the host, in a session: what sockets are made are its own.
    pub(crate) fn session<T: Send>(&self, does: impl FnOnce() -> T + Send) -> T {
        let before = fs::read_to_string("/proc/self/cgroup").expect("our cgroup");
        let before = before.lines().find_map(|line| line.strip_prefix("0::/")).expect("in cgroup2");
        enter(&self.scopes.join("session-1.scope"));
        let done = self.host(does);
        enter(&cgroup_root().join(before));
        done
    }

    /// The folder of the sessions' cgroups, as a rule names it.
    pub(crate) fn scopes(&self) -> String {
        self.scopes.file_name().expect("a name").to_string_lossy().into_owned()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for folder in [&self.scopes.join("session-1.scope"), &self.scopes] {
            let removed = fs::remove_dir(folder);
            // One panic is enough to see what failed.
            assert!(std::thread::panicking() || removed.is_ok(), "{} stays", folder.display());
        }
    }
}

/// Runs a command that has to succeed; returns what it prints.
pub(crate) fn run(command: &str) -> String {
    let mut words = command.split(' ');
    let program = words.next().expect("a program");
    let output = Command::new(program).args(words).output().expect(program);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn inside<T: Send>(namespace: &File, does: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("to enter a namespace needs root");
            does()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn namespace() -> File {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
            File::open("/proc/thread-self/ns/net").expect("a namespace")
        });
        thread.join().expect("a namespace")
    })
}

fn enter(cgroup: &Path) {
    fs::write(cgroup.join("cgroup.procs"), std::process::id().to_string()).expect("a cgroup");
}

fn cgroup_root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    line.and_then(|line| line.split(' ').nth(4)).expect("cgroup2 has to be mounted").into()
}
