//! A small world for each test: a network namespace, two sessions, programs.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says so")]

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use sessionip::companion::{Companion, Options, PolicyView, SessionEntry};
use sessionip::config::{Loopback, ProgramPattern};
use sessionip::owner::Bound;
use sessionip::owner::Sockets as _;
use sessionip::owner::linux::diag::{SockDiag, Socket};
use sessionip::owner::linux::{KernelSockets, Sources};
use sessionip::packet::{Endpoint, Protocol};
use sessionip::session::SessionId;
use sessionip::session::linux::{Layout, Scopes, Watcher, close_scope};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A network namespace with a NIC and its addresses, and two sessions, of which
/// the second has the virtual address 10.88.0.102.
pub(crate) struct World {
    pub(crate) sockets: KernelSockets,
    pub(crate) diag: SockDiag,
    pub(crate) hook: Option<Companion>,
    scopes: Scopes,
    layout: Layout,
    interface: u32,
    now: Instant,
    folder: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self::without_hook();
        world.load_hook();
        world
    }

    pub(crate) fn without_hook() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("these tests need root");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        for command in [
            "link set lo up",
            "link add nic type veth peer name wire",
            "link set wire up",
            "address add 10.88.0.1/24 dev nic",
            "address add fd88::1/64 dev nic nodad",
            "address add 10.88.0.102/32 dev lo",
            "link set nic up",
        ] {
            let ip = Command::new("ip").args(command.split(' ')).status();
            assert!(ip.expect("these tests need iproute2").success(), "ip {command}");
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let own_parent = format!("owner-test-{}-{number}", std::process::id());
        let layout = Layout {
            cgroup_root: cgroup2_mount().expect("these tests need a cgroup v2 mount"),
            own_parent,
            logind: None,
            logind_state: PathBuf::new(),
        };
        let (_, scopes) = Watcher::open(&layout).unwrap();
        for session in 1..=2 {
            scopes.open_scope(SessionId(session), 0).unwrap();
        }
        let interface = nix::net::if_::if_nametoindex("nic").unwrap();
        let now = now();
        let sources =
            Sources { scopes: scopes.clone(), owners: None, closed: None, pings: None, interface };
        Self {
            sockets: KernelSockets::open(sources, now).unwrap(),
            diag: SockDiag::open().unwrap(),
            hook: None,
            scopes,
            layout,
            interface,
            now,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// From now on sockets are recorded.
    pub(crate) fn load_hook(&mut self) {
        let mut hook = Companion::load(&Options {
            pin_directory: self.folder.path().join("bpf"),
            cgroup_root: self.layout.own_folder(),
        })
        .expect("these tests need eBPF");
        hook.set_policy(&PolicyView {
            enabled: true,
            programs: vec![ProgramPattern::All],
            except: Vec::new(),
            children: false,
            connect: false,
            exclude_ports: vec![],
            exclude: Vec::new(),
            sources: false,
            listeners: false,
            loopback: Loopback::default(),
            isolate_loopback: true,
        })
        .unwrap();
        hook.begin().unwrap();
        for (session, ipv4) in [(1, None), (2, Some(Ipv4Addr::new(10, 88, 0, 102)))] {
            let id = SessionId(session);
            let cgroup = self.scopes.session(id).unwrap().scope.cgroup;
            let entry = SessionEntry { id, ipv4, ipv6: None, private_ipv6: None, loopback: None };
            hook.set_session(cgroup, &entry).unwrap();
        }
        let sources = Sources {
            scopes: self.scopes.clone(),
            owners: Some(hook.owners().unwrap()),
            closed: hook.closed(),
            pings: None,
            interface: self.interface,
        };
        self.sockets = KernelSockets::open(sources, self.now).unwrap();
        self.hook = Some(hook);
    }

    pub(crate) fn learn(&mut self, session: u32) {
        self.sockets.learn(&self.scopes.session(SessionId(session)).unwrap());
    }

    /// The folder of a session's scope.
    pub(crate) fn scope(&self, session: u32) -> PathBuf {
        self.scopes.session(SessionId(session)).unwrap().scope.path
    }

    pub(crate) fn program(&self, session: u32, script: &str) -> Program {
        self.program_in(&self.scope(session), script)
    }

    pub(crate) fn program_in(&self, cgroup: &Path, script: &str) -> Program {
        Program::start(cgroup, script)
    }

    pub(crate) fn find(&mut self, protocol: Protocol, local: Endpoint, remote: Endpoint) -> Socket {
        self.diag.find(protocol, local, remote, 0).unwrap().expect("the socket is there")
    }

    pub(crate) fn owner(
        &mut self,
        protocol: Protocol,
        local: Endpoint,
        remote: Endpoint,
    ) -> Option<(Option<SessionId>, u32)> {
        self.rested();
        let owner = self.sockets.owner(protocol, local, remote)?;
        Some((owner.session, owner.pid))
    }

    pub(crate) fn receiver(
        &mut self,
        protocol: Protocol,
        local: Endpoint,
        remote: Endpoint,
    ) -> Option<(Bound, Option<SessionId>, u32)> {
        self.rested();
        let receiver = self.sockets.receiver(protocol, local, remote)?;
        Some((receiver.bound, receiver.owner.session, receiver.owner.pid))
    }

    /// Lets enough time pass for sessions to be searched again.
    fn rested(&mut self) {
        self.pass(Duration::from_millis(20));
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.sockets.tend(self.now);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let unloaded = self.hook.take().map_or(Ok(()), Companion::unload);
        // A process that was killed a moment ago may not be gone yet.
        let closed = (0..100).any(|_| {
            let closed = close_scope(&self.layout.own_folder()).is_ok();
            closed || {
                std::thread::sleep(Duration::from_millis(10));
                false
            }
        });
        if !std::thread::panicking() {
            unloaded.unwrap();
            assert!(closed, "{:?} is still there", self.layout.own_folder());
        }
    }
}

fn cgroup2_mount() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    })
}

/// A program of a session, in Python; ended when dropped.
pub(crate) struct Program {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Program {
    fn start(cgroup: &Path, script: &str) -> Self {
        const PRELUDE: &str = "from socket import *\nimport sys\n\
            wait = sys.stdin.readline\n\
            tell = lambda s: sys.stdout.write('%s %s\\n' % s.getsockname()[:2])\n";
        let mut child = Command::new("sh")
            .args(["-c", r#"echo 0 > "$1/cgroup.procs" && exec python3 -u -c "$2""#, "sh"])
            .arg(cgroup)
            .arg(format!("{PRELUDE}{script}\nwait()\n"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "the program (python3) failed");
        line
    }

    /// Where a socket is, as the program tells next.
    pub(crate) fn endpoint(&mut self) -> Endpoint {
        let line = self.line();
        let (address, port) = line.trim().split_once(' ').unwrap();
        let address: std::net::IpAddr = address.parse().unwrap();
        Endpoint::new(address.to_canonical(), port.parse().unwrap())
    }

    pub(crate) fn go_on(&mut self) {
        writeln!(self.child.stdin.as_mut().unwrap()).unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn endpoint(text: &str) -> Endpoint {
    let address: SocketAddr = text.parse().unwrap();
    Endpoint::new(address.ip(), address.port())
}

#[expect(clippy::disallowed_methods, reason = "a moment to count from")]
fn now() -> Instant {
    Instant::now()
}
