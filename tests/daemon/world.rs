//! A network, a configuration, a daemon, and programs inside and outside sessions.

use crate::actor::{self, Actor, PYTHON};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use sessionip::lab::network::{FAR, FAR_IPV6, Network};
use sessionip::lab::process::{self, Running};
use sessionip::lab::wait;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Users of sessions, such as every Linux host has.
pub(crate) const ANA: &str = "games";
pub(crate) const BEN: &str = "man";

/// A host with the product, and a far side. The order is that of taking down.
pub(crate) struct World {
    /// `None`: it was stopped or killed.
    pub(crate) daemon: Option<Running>,
    pub(crate) network: Network,
    pub(crate) program: PathBuf,
    pub(crate) config: PathBuf,
    pub(crate) directory: TempDir,
    /// Where the daemon looks for the system's programs first.
    pub(crate) programs: Option<PathBuf>,
}

impl World {
    /// A daemon with this pool; `rest` is more keys of `[pool]`, then tables.
    pub(crate) fn new(pool: u32, rest: &str) -> Self {
        let mut world = Self::without_daemon(pool, rest);
        world.start();
        world
    }

    pub(crate) fn without_daemon(pool: u32, rest: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("sip-daemon-{}-{number}", std::process::id());
        let directory = tempfile::Builder::new().prefix(&name).tempdir().unwrap();
        // The users of sessions must get at the executable.
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(directory.path(), open).unwrap();
        let program = directory.path().join("sessionip");
        let built = env!("CARGO_BIN_EXE_sessionip");
        if std::fs::hard_link(built, &program).is_err() {
            std::fs::copy(built, &program).unwrap();
        }
        let network = Network::new(&name).expect("these tests need root and iproute2");
        let config = directory.path().join("sessionip.toml");
        let world = Self { daemon: None, network, program, config, directory, programs: None };
        world.configure(pool, rest);
        world
    }

    /// Writes the configuration file.
    pub(crate) fn configure(&self, pool: u32, rest: &str) {
        self.configure_at(&self.config, "control", pool, rest);
    }

    pub(crate) fn configure_at(&self, file: &Path, control: &str, pool: u32, rest: &str) {
        self.write(file, control, &format!("'10.77.0.101-10.77.0.{}'", 100 + pool), rest);
    }

    /// A daemon that gives of these ranges.
    pub(crate) fn with_ranges(ranges: &str, rest: &str) -> Self {
        let mut world = Self::without_daemon(1, "");
        world.set_ranges(ranges, rest);
        world.start();
        world
    }

    /// Writes a configuration file with these ranges.
    pub(crate) fn set_ranges(&self, ranges: &str, rest: &str) {
        self.write(&self.config, "control", ranges, rest);
    }

    fn write(&self, file: &Path, control: &str, ranges: &str, rest: &str) {
        let place = self.directory.path().display();
        let text = format!(
            "state-dir = '{place}/state-{control}'\n\
             control = '{place}/{control}/control.sock'\n\
             metrics.listen = ''\n\
             [pool]\nranges = [{ranges}]\n{rest}\n"
        );
        std::fs::write(file, text).unwrap();
    }

    /// Starts the daemon and waits until it answers; how long that took.
    pub(crate) fn start(&mut self) -> Duration {
        let began = now();
        let mut daemon = self.launch(&self.config);
        let started = wait::until("the daemon's start", LIMIT, || {
            if daemon.ended()?.is_some() {
                return Err(daemon.failure());
            }
            Ok(self.answer(&["status", "--json"]).status.success().then_some(()))
        });
        started.unwrap_or_else(|error| panic!("{error}"));
        self.daemon = Some(daemon);
        began.elapsed()
    }

    /// `run` with that configuration, not waited for.
    pub(crate) fn launch(&self, config: &Path) -> Running {
        let mut run = Command::new(&self.program);
        run.args(["run", "--config"]).arg(config).env_remove("SESSIONIP_LOG");
        if let Some(folder) = &self.programs {
            run.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", folder.display()));
        }
        self.network.host.start("sessionip run", &mut run).unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().pid()
    }

    /// What the daemon has logged so far.
    pub(crate) fn log(&self) -> String {
        self.daemon.as_ref().unwrap().complained()
    }

    /// Sends the daemon a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().try_into().unwrap());
        kill(pid, signal).unwrap();
    }

    /// Ends the daemon by a signal; how it ended.
    pub(crate) fn end(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        let mut daemon = self.daemon.take().unwrap();
        wait::until("the daemon's end", LIMIT, || daemon.ended()).unwrap()
    }

    /// A command line of ours, with this configuration.
    pub(crate) fn sessionip(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(&self.config).args(words);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command line of ours, on the host, to its end.
    pub(crate) fn answer(&self, words: &[&str]) -> Output {
        let mut command = self.sessionip(words);
        self.network.host.within(|| command.output()).unwrap().unwrap()
    }

    /// What a command says with `--json`.
    pub(crate) fn json(&self, command: &str) -> Value {
        let output = self.answer(&[command, "--json"]);
        let complaint = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{command}: {error}: {complaint}"))
    }

    /// How many packets met a reason.
    pub(crate) fn count(&self, reason: &str) -> u64 {
        self.json("status")["reasons"][reason].as_u64().unwrap_or_default()
    }

    /// The virtual address of a session.
    pub(crate) fn address(&self, session: u32) -> IpAddr {
        let sessions = self.json("sessions");
        let row = sessions.as_array().unwrap().iter().find(|row| row["id"] == session);
        let row = row.unwrap_or_else(|| panic!("session {session} is not in {sessions}"));
        row["virtual_ip"].as_str().unwrap_or_else(|| panic!("no address: {row}")).parse().unwrap()
    }

    /// The virtual IPv6 address of a session.
    pub(crate) fn ipv6(&self, session: u32) -> IpAddr {
        let sessions = self.json("sessions");
        let row = sessions.as_array().unwrap().iter().find(|row| row["id"] == session);
        let row = row.unwrap_or_else(|| panic!("session {session} is not in {sessions}"));
        row["virtual_ipv6"].as_str().unwrap_or_else(|| panic!("no address: {row}")).parse().unwrap()
    }

    /// Waits until a session is not listed any more.
    pub(crate) fn gone(&self, session: u32) {
        let gone = wait::until("the end of a session", LIMIT, || {
            let sessions = self.json("sessions");
            let there = sessions.as_array().unwrap().iter().any(|row| row["id"] == session);
            Ok((!there).then_some(()))
        });
        gone.unwrap();
    }

    /// A program in a session: its name is `session-N`.
    pub(crate) fn actor(&self, session: u32, user: &str) -> Actor {
        self.actor_by(session, user, &actor::script(PYTHON))
    }

    /// The same, run by other words than usual.
    pub(crate) fn actor_by(&self, session: u32, user: &str, words: &[String]) -> Actor {
        let number = session.to_string();
        let mut command = self.sessionip(&["exec", "--session", &number, "--user", user, "--"]);
        command.args(words).arg(format!("session-{session}"));
        Actor::start(&self.network.host, &mut command)
    }

    /// A program on the host, outside any session: `outside`.
    pub(crate) fn outside(&self) -> Actor {
        let command = &mut process::command(&actor::script(PYTHON));
        Actor::start(&self.network.host, command.arg("outside"))
    }

    /// The same, of an ordinary user.
    pub(crate) fn outside_as(&self, user: &str) -> Actor {
        let mut command = become_user(user);
        command.args(actor::script(PYTHON)).arg("outside");
        Actor::start(&self.network.host, &mut command)
    }

    /// A program on the far side that listens at [`at_far`] by TCP and UDP: `far`.
    pub(crate) fn far(&self) -> Actor {
        let command = &mut process::command(&actor::script(PYTHON));
        let mut actor = Actor::start(&self.network.client, command.arg("far"));
        for place in [at_far(), at_far6()] {
            actor.listen("tcp", place);
            actor.listen("udp", place);
        }
        actor
    }

    /// What a command of the system says on the host.
    pub(crate) fn host(&self, words: &[&str]) -> String {
        self.network.host.output(&mut process::command(words)).unwrap()
    }

    /// Does something in the host's network.
    pub(crate) fn within_host<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.network.host.within(work).unwrap()
    }

    /// Rules, routes and addresses of the host, one a line, each as often as it is
    /// there.
    pub(crate) fn tables(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for words in [
            ["iptables-save", "-t", "raw"].as_slice(),
            &["iptables-save", "-t", "mangle"],
            &["ip6tables-save", "-t", "raw"],
            &["ip6tables-save", "-t", "mangle"],
            &["ip", "-4", "route", "show", "table", "all"],
            &["ip", "-6", "route", "show", "table", "all"],
            &["ip", "-oneline", "address", "show"],
        ] {
            let listed = self.host(words);
            // Comments and chains have times and counters; link-local addresses
            // take their time to appear.
            let lasting = listed.lines().filter(|line| {
                !line.starts_with(['#', ':']) && !line.contains("fe80:") && !line.contains("ff00:")
            });
            lines.extend(lasting.map(|line| line.trim().to_owned()));
        }
        lines.sort_unstable();
        lines
    }

    /// What there is of files and mounts of the daemon with that control folder.
    pub(crate) fn traces(&self, control: &str) -> Vec<String> {
        let folder = self.directory.path().join(control);
        let mut traces: Vec<_> = std::fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path().display().to_string())
            .collect();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let ours = folder.display().to_string();
        traces.extend(mounts.lines().filter(|line| line.contains(&ours)).map(str::to_owned));
        traces
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.daemon.take());
        // A daemon that was killed leaves its hook pinned.
        let _ = umount2(&self.directory.path().join("control/bpf"), MntFlags::MNT_DETACH);
    }
}

/// Where the far side listens.
pub(crate) fn at_far() -> SocketAddr {
    (FAR, 7000).into()
}

/// The same by IPv6.
pub(crate) fn at_far6() -> SocketAddr {
    (FAR_IPV6, 7000).into()
}

/// What runs the program that is added to it as this user, without `exec`.
pub(crate) fn become_user(name: &str) -> Command {
    let user = nix::unistd::User::from_name(name).unwrap().unwrap();
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid));
    command.args(["--clear-groups", "--"]);
    command
}

/// Where cgroup v2 is mounted.
pub(crate) fn cgroup_root() -> PathBuf {
    sessionip::session::linux::Layout::of_this_machine().unwrap().cgroup_root
}

/// An endpoint.
pub(crate) fn at(address: IpAddr, port: u16) -> SocketAddr {
    (address, port).into()
}

/// Looks until it is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    wait::until(what, LIMIT, || Ok(is_so().then_some(()))).unwrap();
}

/// What a command complained of.
pub(crate) fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim_end().to_owned()
}

#[expect(clippy::disallowed_methods, reason = "the test measures the product")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
