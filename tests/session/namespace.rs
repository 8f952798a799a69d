//! A network namespace that lives as long as its thread.

use crossbeam_channel::{Sender, bounded};
use nix::sched::{CloneFlags, unshare};
use std::net::TcpStream;
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

type Task = Box<dyn FnOnce() + Send>;

/// A network of its own, with `lo` up; gone with everything in it when dropped.
pub(crate) struct Namespace {
    tasks: Option<Sender<Task>>,
    thread: Option<JoinHandle<()>>,
    thread_id: i32,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        let (tasks, todo) = bounded::<Task>(1);
        let (said, says) = bounded(1);
        let thread = std::thread::Builder::new()
            .name("session-namespace".into())
            .spawn(move || {
                unshare(CloneFlags::CLONE_NEWNET)
                    .expect("this test needs root, to make network namespaces");
                ip("link set lo up");
                said.send(nix::unistd::gettid().as_raw()).unwrap();
                for task in todo {
                    task();
                }
            })
            .unwrap();
        let thread_id = says.recv().expect("the namespace is made");
        Self { tasks: Some(tasks), thread: Some(thread), thread_id }
    }

    /// Two namespaces joined by a cable: `10.77.0.1/24` on `host0` in the first,
    /// `10.77.0.2/24` on `peer0` in the second.
    pub(crate) fn pair() -> (Self, Self) {
        let (host, peer) = (Self::new(), Self::new());
        let other = peer.thread_id;
        host.run(move || {
            ip(&format!("link add host0 type veth peer name peer0 netns {other}"));
            ip("address add 10.77.0.1/24 dev host0");
            ip("address add fd00:77::1/64 dev host0 nodad");
            ip("link set host0 addrgenmode none up");
        });
        peer.run(|| {
            ip("address add 10.77.0.2/24 dev peer0");
            ip("address add fd00:77::2/64 dev peer0 nodad");
            ip("link set peer0 addrgenmode none up");
        });
        // IPv6 routes come when the kernel has noticed that the cable is plugged in.
        for (from, to) in [(&host, "[fd00:77::2]:9"), (&peer, "[fd00:77::1]:9")] {
            let end = Instant::now() + Duration::from_secs(5);
            while !from.run(move || TcpStream::connect(to).is_err_and(is_refusal)) {
                assert!(Instant::now() < end, "{to} is not reached");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        (host, peer)
    }

    /// Runs `task` in this network and waits for it.
    pub(crate) fn run<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = bounded(1);
        let task = move || drop(done.send(task()));
        self.tasks.as_ref().unwrap().send(Box::new(task)).unwrap();
        result.recv().expect("the task in the namespace did not panic")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.tasks.take());
        // A task that panicked has said so already.
        let _ = self.thread.take().unwrap().join();
    }
}

fn is_refusal(error: std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::ConnectionRefused
}

/// Runs `ip ARGUMENTS` in the calling thread's network.
pub(crate) fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("iproute2 is here");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {error}");
    text
}
