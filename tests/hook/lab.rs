//! A host with two sessions, and programs in them.

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage, sockopt};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, Uid, fork, setresuid};
use sessionip::companion::{Companion, HostAddress, Options, PolicyView, SessionEntry};
use sessionip::config::{Loopback, ProgramPattern};
use sessionip::session::SessionId;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The host's address on the pool's NIC, and another NIC's.
pub(crate) const P: &str = "10.77.0.1";
pub(crate) const P6: &str = "fd77::1";
pub(crate) const OTHER_NIC: &str = "10.88.0.1";
/// Session 1.
pub(crate) const V1: &str = "10.77.0.101";
pub(crate) const V1_6: &str = "fd77::101";
pub(crate) const PRIVATE1: &str = "fd73:6970::1";
pub(crate) const L1: &str = "127.0.0.2";
/// Session 2: it has no IPv6 address.
pub(crate) const V2: &str = "10.77.0.102";
pub(crate) const PRIVATE2: &str = "fd73:6970::2";
pub(crate) const L2: &str = "127.0.0.3";
/// In the pool, and nobody's.
pub(crate) const FREE: &str = "10.77.0.150";

const SCOPES: [&str; 3] = ["session-1.scope/below", "session-2.scope/below", "outside"];

/// A person's account, and a service's.
pub(crate) const PERSON: u32 = 5000;
pub(crate) const SERVICE: u32 = 200;

pub(crate) struct Lab {
    companion: Option<Companion>,
    pub(crate) options: Options,
    folder: PathBuf,
}

/// Where a program runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum In {
    Session(u32),
    /// A folder inside the session's.
    Below(u32),
    /// No session.
    Outside,
}

impl Lab {
    /// The hook is loaded, for all programs of two sessions.
    pub(crate) fn new() -> Self {
        let mut lab = Self::bare();
        lab.load();
        lab
    }

    /// No hook yet.
    pub(crate) fn bare() -> Self {
        assert!(Uid::effective().is_root(), "the hook's tests need root: sudo -E cargo test");
        static LABS: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("hook-test-{}-{}", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace of the test's own");
        let v6 = "nodad preferred_lft 0";
        for command in [
            "link set lo up".to_owned(),
            "link add pool type veth peer name wire".to_owned(),
            "link add other type veth peer name wire2".to_owned(),
            "link set pool up".to_owned(),
            "link set wire up".to_owned(),
            "link set other up".to_owned(),
            "link set wire2 up".to_owned(),
            format!("address add {P}/24 dev pool"),
            format!("address add {P6}/64 dev pool nodad"),
            format!("address add {OTHER_NIC}/24 dev other"),
            format!("route add local {V1}/32 dev lo table local src {P}"),
            format!("route add local {V2}/32 dev lo table local src {P}"),
            format!("address add {V1_6}/128 dev pool {v6}"),
            format!("address add {PRIVATE1}/128 dev lo {v6}"),
            format!("address add {PRIVATE2}/128 dev lo {v6}"),
        ] {
            ip(&command);
        }
        let root = cgroup_root();
        let folder = root.join(&name);
        for scope in SCOPES {
            fs::create_dir_all(folder.join(scope)).expect("a cgroup of the test's own");
        }
        let pin_directory = std::env::temp_dir().join(&name);
        Self { companion: None, options: Options { pin_directory, cgroup_root: root }, folder }
    }

    pub(crate) fn load(&mut self) {
        let mut companion = Companion::load(&self.options).expect("the hook is loaded");
        let host =
            |address: &str, pool_nic| HostAddress { address: address.parse().unwrap(), pool_nic };
        let hosts = [host(P, true), host(P6, true), host(OTHER_NIC, false)];
        companion.set_host_addresses(&hosts).unwrap();
        let range = |first: &str, last: &str| first.parse().unwrap()..=last.parse().unwrap();
        let pool = [
            range("10.77.0.100", "10.77.0.199"),
            range("fd77::100", "fd77::1ff"),
            range("fd73:6970::", "fd73:6970::ffff:ffff:ffff:ffff"),
        ];
        companion.set_pool(&pool).unwrap();
        for (id, entry) in [(1, session1()), (2, session2())] {
            companion.set_session(self.cgroup(In::Session(id)), &entry).unwrap();
        }
        companion.set_policy(&policy()).unwrap();
        companion.begin().unwrap();
        self.companion = Some(companion);
    }

    pub(crate) fn hook(&mut self) -> &mut Companion {
        self.companion.as_mut().expect("the hook is loaded")
    }

    /// The daemon dies: nothing of the hook is undone.
    pub(crate) fn kill(&mut self) {
        self.companion = None;
    }

    pub(crate) fn unload(&mut self) {
        self.companion.take().expect("the hook is loaded").unload().expect("all is removed");
    }

    pub(crate) fn policy(&mut self, change: impl FnOnce(&mut PolicyView)) {
        let mut policy = policy();
        change(&mut policy);
        self.hook().set_policy(&policy).unwrap();
    }

    pub(crate) fn cgroup_folder(&self, place: In) -> PathBuf {
        match place {
            In::Session(id) => self.folder.join(format!("session-{id}.scope")),
            In::Below(id) => self.folder.join(format!("session-{id}.scope/below")),
            In::Outside => self.folder.join("outside"),
        }
    }

    pub(crate) fn cgroup(&self, place: In) -> u64 {
        fs::metadata(self.cgroup_folder(place)).unwrap().ino()
    }

    /// Runs `act` in another process and returns what it returned.
    pub(crate) fn run(&self, place: In, uid: u32, act: impl FnOnce() -> String) -> String {
        let program = self.start(place, uid, |_| act());
        program.line()
    }

    /// Starts `act` in another process; the last line is what it returns.
    #[expect(unsafe_code, reason = "cgroups hold processes, and a closure is the handiest one")]
    pub(crate) fn start(
        &self,
        place: In,
        uid: u32,
        act: impl FnOnce(&mut Talk) -> String,
    ) -> Program {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let folder = self.cgroup_folder(place);
        // SAFETY: glibc makes malloc usable in the child of a process with
        // threads; the child uses no lock of another kind, and leaves by _exit.
        match unsafe { fork() }.expect("another process") {
            ForkResult::Parent { child } => {
                ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                Program { pid: child, lines: BufReader::new(ours).into() }
            }
            ForkResult::Child => {
                let mut talk = Talk(BufReader::new(theirs));
                let last = catch_unwind(AssertUnwindSafe(|| {
                    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).unwrap();
                    fs::write(folder.join("cgroup.procs"), "0").unwrap();
                    if uid != 0 {
                        let uid = Uid::from_raw(uid);
                        setresuid(uid, uid, uid).unwrap();
                    }
                    act(&mut talk)
                }));
                let last = last.unwrap_or_else(|panic| {
                    panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "panic".into())
                });
                talk.say(&last);
                // SAFETY: ends the child at once, without what the test
                // process registered for its own end.
                unsafe { libc::_exit(0) }
            }
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.kill();
        let pins = sessionip::companion::forget_stale(&self.options.pin_directory);
        // A process that was killed may take a moment to leave its cgroup.
        for _ in 0..50 {
            for scope in SCOPES {
                let mut folder = self.folder.join(scope);
                while folder.starts_with(&self.folder) {
                    let _ = fs::remove_dir(&folder);
                    folder.pop();
                }
            }
            if !self.folder.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if !std::thread::panicking() {
            pins.expect("the pins are removed");
            assert!(!self.folder.exists(), "the cgroups are removed");
        }
    }
}

pub(crate) fn session1() -> SessionEntry {
    SessionEntry {
        id: SessionId(1),
        ipv4: V1.parse().ok(),
        ipv6: V1_6.parse().ok(),
        private_ipv6: PRIVATE1.parse().ok(),
        loopback: None,
    }
}

pub(crate) fn session2() -> SessionEntry {
    SessionEntry {
        id: SessionId(2),
        ipv4: V2.parse().ok(),
        ipv6: None,
        private_ipv6: PRIVATE2.parse().ok(),
        loopback: None,
    }
}

pub(crate) fn policy() -> PolicyView {
    PolicyView {
        enabled: true,
        programs: vec![ProgramPattern::All],
        except: vec![],
        children: false,
        connect: false,
        exclude_ports: vec![],
        exclude: vec![],
        sources: true,
        listeners: true,
        loopback: Loopback::default(),
        isolate_loopback: true,
    }
}

fn cgroup_root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let mount = mount.expect("the hook's tests need a cgroup2 hierarchy");
    PathBuf::from(mount.split(' ').nth(1).unwrap())
}

pub(crate) fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.expect("the hook's tests need iproute2");
    assert!(output.status.success(), "ip {arguments}: {output:?}");
}

/// A program that was started in a session; it is ended with its handle.
pub(crate) struct Program {
    pub(crate) pid: Pid,
    lines: std::cell::RefCell<BufReader<UnixStream>>,
}

impl Program {
    /// What it said next.
    pub(crate) fn line(&self) -> String {
        let mut line = String::new();
        self.lines.borrow_mut().read_line(&mut line).expect("the program says something");
        line.trim_end().to_owned()
    }

    /// Lets it go on from [`Talk::wait`].
    pub(crate) fn go_on(&self) {
        self.lines.borrow_mut().get_mut().write_all(b"\n").unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(self.pid, Signal::SIGKILL);
        let _ = waitpid(self.pid, None);
    }
}

/// The program's end.
pub(crate) struct Talk(BufReader<UnixStream>);

impl Talk {
    pub(crate) fn say(&mut self, line: &str) {
        let line = line.replace('\n', " ");
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    pub(crate) fn wait(&mut self) {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
    }

    /// Has [`Program::go_on`] been called?
    pub(crate) fn told(&mut self) -> bool {
        self.0.get_mut().set_nonblocking(true).unwrap();
        let told = self.0.read_line(&mut String::new()).is_ok();
        self.0.get_mut().set_nonblocking(false).unwrap();
        told
    }
}

/// An unbound socket.
pub(crate) fn socket(protocol: &str, address: &str) -> OwnedFd {
    let kind = if protocol == "udp" { SockType::Datagram } else { SockType::Stream };
    let address: SocketAddr = address.parse().unwrap();
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, None).unwrap()
}

/// Binds as C programs do. A leading `v6only` is an option of the socket.
pub(crate) fn bind(protocol: &str, address: &str) -> nix::Result<OwnedFd> {
    let (v6only, address) = match address.strip_prefix("v6only ") {
        Some(address) => (true, address),
        None => (false, address),
    };
    let fd = socket(protocol, address);
    if v6only {
        socket::setsockopt(&fd, sockopt::Ipv6V6Only, &true).unwrap();
    }
    bind_fd(&fd, address)?;
    if protocol == "tcp" {
        socket::listen(&fd, socket::Backlog::new(16).unwrap())?;
    }
    Ok(fd)
}

pub(crate) fn bind_fd(fd: &OwnedFd, address: &str) -> nix::Result<()> {
    socket::bind(fd.as_raw_fd(), &storage(address))
}

pub(crate) fn connect(fd: &OwnedFd, address: &str) -> nix::Result<()> {
    socket::connect(fd.as_raw_fd(), &storage(address))
}

pub(crate) fn storage(address: &str) -> SockaddrStorage {
    SockaddrStorage::from(address.parse::<SocketAddr>().unwrap())
}

/// The socket's own address, `address:port`, or the error's name.
pub(crate) fn name(bound: nix::Result<OwnedFd>) -> String {
    match bound {
        Ok(fd) => local(&fd),
        Err(errno) => format!("{errno:?}"),
    }
}

pub(crate) fn local(fd: &OwnedFd) -> String {
    text(&socket::getsockname(fd.as_raw_fd()).unwrap())
}

pub(crate) fn peer(fd: &OwnedFd) -> String {
    text(&socket::getpeername(fd.as_raw_fd()).unwrap())
}

pub(crate) fn text(address: &SockaddrStorage) -> String {
    match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(address), _) => SocketAddr::from((address.ip(), address.port())).to_string(),
        (_, Some(address)) => SocketAddr::from((address.ip(), address.port())).to_string(),
        (None, None) => "none".into(),
    }
}
