//! Where do the suites run? On a host without the product, and in sessions.

use sessionip::lab::network::Network;
use sessionip::lab::process::{self, Running};
use sessionip::lab::wait;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// Whose the programs are, everywhere: a user that every Debian host has.
const USER: &str = "games";

/// What the daemon is told, and how many sessions run the suites (pairs have two
/// of each).
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) sessions: u32,
    /// Whether every session has a localhost of its own.
    pub(crate) loopback: bool,
    /// Whether every session has an IPv6 address, too.
    pub(crate) ipv6: bool,
    configuration: &'static str,
}

const BIND: Setting =
    Setting { name: "bind", sessions: 2, loopback: false, ipv6: false, configuration: "" };

/// Every combination that programs could tell apart.
pub(crate) const SETTINGS: [Setting; 6] = [
    BIND,
    Setting { name: "bind-ipv6", sessions: 1, ipv6: true, ..BIND },
    Setting { name: "connect", sessions: 1, configuration: "[hook]\nscope = 'connect'\n", ..BIND },
    Setting {
        name: "bind-loopback",
        sessions: 1,
        loopback: true,
        configuration: "[loopback]\nenabled = true\nprograms = ['*']\n",
        ..BIND
    },
    Setting { name: "connect-loopback", ..EVERYTHING },
    Setting { ipv6: true, ..EVERYTHING },
];

const EVERYTHING: Setting = Setting {
    name: "connect-loopback-ipv6",
    sessions: 0,
    loopback: true,
    configuration: "[loopback]\nenabled = true\nprograms = ['*']\n\
                    [hook]\nscope = 'connect'\n",
    ..BIND
};

/// A host of its own, or a session there.
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) session: Option<u32>,
    host: Arc<Host>,
}

/// A network and perhaps the daemon. The order is that of taking down.
struct Host {
    daemon: Option<Running>,
    network: Network,
    /// The executable, where users can reach it.
    program: PathBuf,
    directory: TempDir,
}

impl Place {
    /// A host without the product.
    pub(crate) fn plain() -> Self {
        Self { name: "plain".to_owned(), session: None, host: Arc::new(Host::new()) }
    }

    /// The sessions of a host with that setting.
    pub(crate) fn sessions(setting: &Setting, count: u32) -> Vec<Self> {
        let mut host = Host::new();
        host.start(setting);
        let host = Arc::new(host);
        let place = |session| Self {
            name: format!("{} session {session}", setting.name),
            session: Some(session),
            host: Arc::clone(&host),
        };
        (1..=count).map(place).collect()
    }

    pub(crate) fn is_plain(&self) -> bool {
        self.session.is_none()
    }

    /// The setting's name, as `differences.toml` has it.
    pub(crate) fn setting(&self) -> &str {
        self.name.split(' ').next().unwrap_or_default()
    }

    /// A new folder of the user's.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = self.host.directory.path().join(format!("{name}-{number}"));
        std::fs::create_dir(&folder).unwrap();
        let user = nix::unistd::User::from_name(USER).unwrap().unwrap();
        nix::unistd::chown(&folder, Some(user.uid), Some(user.gid)).unwrap();
        folder
    }

    /// Starts a program here, in `folder` and with it as home.
    pub(crate) fn start(&self, words: &[impl AsRef<OsStr>], folder: &Path) -> Running {
        let mut command = match self.session {
            None => {
                let user = nix::unistd::User::from_name(USER).unwrap().unwrap();
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={}", user.uid));
                command.arg(format!("--regid={}", user.gid));
                command.args(["--clear-groups", "--"]);
                command
            }
            Some(session) => {
                let mut command = self.host.sessionip("exec");
                command.args(["--session", &session.to_string(), "--user", USER, "--"]);
                command
            }
        };
        // Nothing of the environment of who runs the tests.
        command.args(["env", "-i", "PATH=/usr/bin:/bin:/usr/sbin:/sbin", "LANG=C.UTF-8"]);
        for name in ["HOME", "TMPDIR"] {
            command.arg(format!("{name}={}", folder.display()));
        }
        command.args(words);
        let name = format!("{} in {}", words[0].as_ref().display(), self.name);
        self.host.network.host.start(name, &mut command).unwrap()
    }
}

impl Host {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("sip-suites-{}-{number}", std::process::id());
        let directory = tempfile::Builder::new().prefix(&name).tempdir().unwrap();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(directory.path(), open).unwrap();
        let program = directory.path().join("sessionip");
        let built = env!("CARGO_BIN_EXE_sessionip");
        if std::fs::hard_link(built, &program).is_err() {
            std::fs::copy(built, &program).unwrap();
        }
        let network = Network::new(&name).expect("these tests need root and iproute2");
        Self { daemon: None, network, program, directory }
    }

    fn start(&mut self, setting: &Setting) {
        let (place, rest) = (self.directory.path().display(), setting.configuration);
        let ipv6 = if setting.ipv6 { ", 'fd77::101-fd77::104'" } else { "" };
        let text = format!(
            "state-dir = '{place}/state'\n\
             control = '{place}/control/control.sock'\n\
             metrics.listen = ''\n\
             [pool]\nranges = ['10.77.0.101-10.77.0.104'{ipv6}]\n{rest}"
        );
        std::fs::write(self.config(), text).unwrap();
        let mut run = self.sessionip("run");
        let mut daemon = self.network.host.start("sessionip run", &mut run).unwrap();
        let started = wait::until("the daemon's start", Duration::from_secs(60), || {
            if daemon.ended()?.is_some() {
                return Err(daemon.failure());
            }
            let answer = process::output(&mut self.sessionip("status"), Duration::from_secs(10));
            Ok(answer.ok().map(drop))
        });
        started.unwrap_or_else(|error| panic!("{error}"));
        self.daemon = Some(daemon);
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("sessionip.toml")
    }

    fn sessionip(&self, name: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(name).arg("--config").arg(self.config()).env_remove("SESSIONIP_LOG");
        command
    }
}
