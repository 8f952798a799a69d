//! Where are Windows and the world? In two network namespaces with a wire
//! between them, gone with the value that holds them.

use crate::server::Server;
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One Wine prefix, so one test at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Host 10.77.0.1, with the virtual address 10.77.0.101, and server 10.77.0.2.
pub(crate) struct World {
    windows: File,
    _server: Server,
    _alone: MutexGuard<'static, ()>,
}

impl World {
    pub(crate) fn new() -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(nix::unistd::geteuid().is_root(), "the rig diverts packets and needs root");
        let (windows, world) = (namespace(), namespace());
        inside(&windows, || {
            // The name exists for as long as this thread does not leave.
            let here = format!("/proc/{}/ns/net", nix::unistd::gettid());
            inside(&world, || {
                run(&format!("ip link add peer type veth peer name wire netns {here}"));
                run("ip address add 10.77.0.2/24 dev peer");
                run("ip link set peer up");
                run("ip link set lo up");
            });
            run("ip address add 10.77.0.1/24 dev wire");
            run("ip address add 10.77.0.101/24 dev wire");
            run("ip link set wire up");
            run("ip link set lo up");
        });
        let server = inside(&world, Server::start);
        Self { windows, _server: server, _alone: alone }
    }

    /// Does it where Windows is.
    pub(crate) fn windows<T: Send>(&self, does: impl FnOnce() -> T + Send) -> T {
        inside(&self.windows, does)
    }

    /// The rules there.
    pub(crate) fn rules(&self) -> String {
        self.windows(|| run("iptables-save -t mangle"))
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
