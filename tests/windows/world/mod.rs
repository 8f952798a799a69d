//! Where are Windows and the world? At the two ends of a wire: at one Wine with the
//! official WinDivert.dll, the stand-ins, and sessionip; at the other whoever talks
//! to it. Gone with the value that holds them.

mod program;
mod wire;

pub(crate) use program::{Met, Program};
pub(crate) use wire::{FAR, FAR_IPV6, HOST, HOST_IPV6, WHO};

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, thread};
use wire::Wire;

/// Wine is slow to start, and the machine is small: one test at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Who logs on, in the words of the stand-in.
pub(crate) const LOGONS: [&str; 4] = [
    "session 0 disconnected Services -",
    r"session 1 active Console HOST\admin console",
    r"session 2 active RDP-Tcp#1 CORP\ana rdp",
    r"session 3 active RDP-Tcp#2 CORP\ben rdp",
];
/// The sessions of [`LOGONS`], who they are, and what they are given.
pub(crate) const ANA: Session = Session {
    id: "2",
    user: "ana",
    address: "10.77.0.101",
    ipv6: "fd77::101",
    loopback: "127.0.0.3",
    private: "fd73:6970::2",
};
pub(crate) const BEN: Session = Session {
    id: "3",
    user: r"CORP\ben",
    address: "10.77.0.102",
    ipv6: "fd77::102",
    loopback: "127.0.0.4",
    private: "fd73:6970::3",
};

/// A login session.
#[derive(Clone, Copy)]
pub(crate) struct Session {
    pub(crate) id: &'static str,
    pub(crate) user: &'static str,
    pub(crate) address: &'static str,
    /// Where the pool has IPv6.
    pub(crate) ipv6: &'static str,
    /// Of its own, where that is on, and what `::1` is then.
    pub(crate) loopback: &'static str,
    pub(crate) private: &'static str,
}

/// The two namespaces, and all that runs there.
pub(crate) struct World {
    prefix: String,
    /// The prefix's `C:`.
    drive: PathBuf,
    /// Where the programs are.
    folder: tempfile::TempDir,
    agent: Option<Child>,
    peer: Option<Child>,
    wire: Wire,
    _alone: MutexGuard<'static, ()>,
}

impl World {
    /// A host with two users logged on and sessionip not yet started. `more` goes
    /// into its configuration.
    pub(crate) fn new(what: &str, more: &str) -> Self {
        Self::with_ranges(what, "'10.77.0.101-10.77.0.110'", more)
    }

    /// As [`new`](Self::new), with these `pool.ranges`.
    pub(crate) fn with_ranges(what: &str, ranges: &str, more: &str) -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let rig = PathBuf::from(
            std::env::var_os("SESSIONIP_RIG").unwrap_or("/var/cache/sessionip-rig".into()),
        );
        let name = format!("sip{}{what}", std::process::id());
        let prefix = format!("/w/{name}");
        let drive = rig.join("wine").join(prefix.trim_start_matches('/')).join("drive_c");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let folder = tempfile::Builder::new().prefix("windows").tempdir_in(target).unwrap();
        fs::write(folder.path().join("CACHEDIR.TAG"), "").unwrap();
        let mut it = Self {
            prefix,
            drive,
            folder,
            agent: None,
            peer: None,
            wire: Wire::lay(&name),
            _alone: alone,
        };
        it.bring_programs(&rig);
        it.begin(ranges, more);
        it
    }

    /// What an administrator would unpack, and the programs of his users.
    fn bring_programs(&self, rig: &Path) {
        let folder = self.folder.path();
        for file in fs::read_dir(driver()).unwrap().map(Result::unwrap) {
            if file.file_type().unwrap().is_file() {
                fs::copy(file.path(), folder.join(file.file_name())).unwrap();
            }
        }
        let built = built();
        for name in [
            "sessionip.exe",
            "sessionip_hook.dll",
            "sessionip_hook32.dll",
            "sessionip_inject32.exe",
            "sessionip_inject64.exe",
            "session-run.exe",
            "listener.exe",
        ] {
            let from = built.join(name);
            fs::copy(&from, folder.join(name))
                .unwrap_or_else(|e| panic!("{}: {e}: run 'make windows-build'", from.display()));
        }
        let dll = rig.join("windivert/WinDivert.dll");
        fs::copy(dll, folder.join("WinDivert.dll")).expect("'make windows-setup' brings it");
    }

    fn begin(&mut self, ranges: &str, more: &str) {
        let install = script("install-standins");
        let done = self.inside(&install, &[&self.prefix, "sessionip.exe"]).output().unwrap();
        assert!(done.status.success(), "install-standins: {done:?}");
        self.configure(ranges, more);
        self.log_on(&LOGONS);
        let standin = self.drive.join("standin").display().to_string();
        let mut agent = self.inside(&script("standins/addresses-agent"), &[&standin]);
        self.agent = Some(ready(agent.stdout(Stdio::piped()).spawn().expect("python3 runs")));
        let peer = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../debug/sessionip-test-peer");
        assert!(peer.exists(), "{} is built by: cargo test --workspace", peer.display());
        let mut peer = self.inside(&peer.display().to_string(), &[&standin]);
        self.peer = Some(ready(peer.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()));
        self.wire.serve();
    }

    /// Writes the configuration. What holds is what it says when it is read next.
    pub(crate) fn configure(&self, ranges: &str, more: &str) {
        let data = self.drive.join("ProgramData/sessionip");
        fs::create_dir_all(&data).unwrap();
        // Wine on a small machine is far slower than Windows: a packet waits longer.
        let hold = if more.contains("divert.hold") { "" } else { "divert.hold = '1s'\n" };
        let text = format!("pool.ranges = [{ranges}]\npool.quarantine = '0s'\n{hold}{more}\n");
        fs::write(data.join("sessionip.toml"), text).unwrap();
    }

    /// Replaces who is logged on.
    pub(crate) fn log_on(&self, lines: &[&str]) {
        self.standin("sessions.txt", &lines.join("\n"));
    }

    /// What goes wrong in the driver from now on (`driver/misbehave.c`).
    pub(crate) fn misbehave(&self, lines: &str) {
        self.standin("misbehave.txt", lines);
        // It is read every 50 ms.
        thread::sleep(Duration::from_millis(150));
    }

    fn standin(&self, name: &str, text: &str) {
        let folder = self.drive.join("standin");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("whole"), format!("{text}\n")).unwrap();
        fs::rename(folder.join("whole"), folder.join(name)).unwrap();
    }

    /// A program of the Linux side where Windows is.
    fn inside(&self, program: &str, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.wire.windows, program]).args(words);
        command.env("SESSIONIP_WINEPREFIX", &self.prefix).env("SESSIONIP_WINDOWS", built());
        command.current_dir(self.folder.path());
        command
    }

    /// `sessionip peer` on the far side, which is Linux.
    pub(crate) fn far_peer(&self) -> Program {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.wire.far, env!("CARGO_BIN_EXE_sessionip"), "peer"]);
        Program::start(command, "listening at")
    }

    /// A program of the folder, under Wine.
    pub(crate) fn wine(&self, words: &[&str]) -> Command {
        let mut command = self.inside(&script("wine"), words);
        command.stdin(Stdio::null());
        command
    }

    /// A place on `C:`.
    pub(crate) fn drive(&self, place: &str) -> PathBuf {
        self.drive.join(place)
    }

    /// What is in the bundle beside the programs.
    pub(crate) fn unpack(&self) {
        let from = Path::new(env!("CARGO_MANIFEST_DIR"));
        for (place, name) in [
            ("config/windows/install.cmd", "install.cmd"),
            ("config/windows/uninstall.cmd", "uninstall.cmd"),
            ("config/windows/README.txt", "README.txt"),
            ("config/rds.toml", "sessionip.toml"),
            ("NOTICE", "NOTICE"),
            ("LICENSE-MIT", "LICENSE-MIT"),
            ("LICENSE-APACHE", "LICENSE-APACHE"),
            // These two come from the crates when a bundle is made.
            ("LICENSE-MIT", "LICENSE-WinDivert"),
            ("LICENSE-MIT", "THIRD-PARTY.txt"),
        ] {
            fs::copy(from.join(place), self.folder.path().join(name)).unwrap();
        }
    }

    /// The stand-in driver looks for it where it lies itself; WinDivert's has none.
    pub(crate) fn bring_driver_s_helper(&self, folder: &Path) {
        fs::copy(self.folder.path().join("wdnet.dll"), folder.join("wdnet.dll")).unwrap();
    }

    /// A script of the folder, to its end.
    pub(crate) fn cmd(&self, words: &[&str]) -> Output {
        let rig = std::env::var("SESSIONIP_RIG").unwrap_or("/var/cache/sessionip-rig".into());
        let cmd = format!("{rig}/wine/usr/lib/x86_64-linux-gnu/wine/x86_64-windows/cmd.exe");
        let script = self.folder.path().join(words[0]);
        if !script.exists() {
            // As an administrator who took only the script out of the archive.
            let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/windows");
            fs::copy(from.join(words[0]), script).unwrap();
        }
        let all: Vec<&str> = [cmd.as_str(), "/c"].iter().chain(words).copied().collect();
        self.wine(&all).output().unwrap()
    }

    /// sessionip, to its end.
    pub(crate) fn sessionip(&self, words: &[&str]) -> Output {
        let all: Vec<&str> = ["./sessionip.exe"].iter().chain(words).copied().collect();
        self.wine(&all).output().unwrap()
    }

    /// What it prints; it has to succeed.
    pub(crate) fn says(&self, words: &[&str]) -> String {
        let done = self.sessionip(words);
        let said = String::from_utf8_lossy(&done.stdout).replace('\r', "");
        assert!(done.status.success(), "{words:?}: {said}{done:?}\n{}", self.log());
        said
    }

    /// What it prints as JSON.
    pub(crate) fn json(&self, command: &str) -> Value {
        serde_json::from_str(&self.says(&[command, "--json"])).expect("JSON")
    }

    /// The service, installed and running.
    pub(crate) fn start_service(&self) {
        self.says(&["service", "install"]);
        self.says(&["service", "start"]);
    }

    /// Kills the daemon as the task manager does.
    pub(crate) fn kill_daemon(&self) {
        let taskkill = self.drive.join("windows/system32/taskkill.exe").display().to_string();
        let done = self.wine(&[&taskkill, "/f", "/im", "sessionip.exe"]).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }

    /// The end of the service's log, for a message.
    pub(crate) fn log(&self) -> String {
        let path = self.drive.join("ProgramData/sessionip/state/sessionip.log");
        fs::read_to_string(path).unwrap_or_default()
    }

    /// Starts a program in a session by `sessionip exec`, and waits until it has
    /// said `word`.
    pub(crate) fn exec(&self, session: Session, words: &[&str], word: &str) -> Program {
        let Session { id, user, .. } = session;
        let exec = ["./sessionip.exe", "exec", "--session", id, "--user", user, "--"];
        let all: Vec<&str> = exec.iter().chain(words).copied().collect();
        Program::start(self.wine(&all), word)
    }

    /// Has a program that knows nothing of sessionip ask, in a session or in none;
    /// what it was answered.
    pub(crate) fn ask(&self, session: Option<Session>, protocol: &str, at: (&str, &str)) -> String {
        self.runs(session, &["./talk.exe", "talk", protocol, at.0, at.1, "hello"])
    }

    /// The same, and which addresses it sees at both ends: `own A far B answer ..`.
    pub(crate) fn meet(&self, session: Session, protocol: &str, at: (&str, &str)) -> Met {
        let words = ["./talk.exe", "meet", protocol, at.0, at.1, "hello"];
        Met::of(&self.runs(Some(session), &words))
    }

    /// Runs a program in a session or in none, to its end; what it prints.
    pub(crate) fn runs(&self, session: Option<Session>, program: &[&str]) -> String {
        let id = session.map(|session| session.id);
        let mut words = id.map_or_else(Vec::new, |id| vec!["./session-run.exe", id]);
        words.extend(program);
        let done = self.wine(&words).output().unwrap();
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }

    /// Starts a program in a session or in none, past sessionip, and waits until it
    /// has said `word`.
    pub(crate) fn start(&self, session: Option<Session>, program: &[&str], word: &str) -> Program {
        let id = session.map(|session| session.id);
        let mut words = id.map_or_else(Vec::new, |id| vec!["./session-run.exe", id]);
        words.extend(program);
        Program::start(self.wine(&words), word)
    }

    /// Another program, as far as lists are concerned.
    pub(crate) fn call_talk(&self, name: &str) {
        let folder = self.folder.path();
        fs::copy(folder.join("talk.exe"), folder.join(name)).unwrap();
    }

    /// How often `reason` was counted.
    pub(crate) fn count(&self, reason: &str) -> u64 {
        self.json("status")["reasons"][reason].as_u64().unwrap_or_default()
    }

    /// Asks from the far side; what came back, or why nothing did.
    pub(crate) fn ask_from_afar(&self, address: &str, port: u16, text: &str) -> String {
        self.wire.ask_from_afar(address, port, text)
    }

    /// The same by UDP: who answered, and what.
    pub(crate) fn ask_by_udp(&self, address: &str, port: u16, text: &str) -> String {
        self.wire.ask_by_udp(address, port, text)
    }

    /// The addresses of the host's card, as Linux has them.
    pub(crate) fn addresses(&self) -> String {
        run(&format!("ip -n {} -o address show", self.wire.windows))
    }

    /// Waits until it is so.
    pub(crate) fn comes_to(&self, what: &str, so: impl Fn() -> bool) {
        let begin = Instant::now();
        while !so() {
            let log = self.log();
            assert!(begin.elapsed() < PATIENCE, "{what} never came\n{log}");
            thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            let complaints = self.drive.join("standin/complaints.txt");
            let complaints = fs::read_to_string(complaints).unwrap_or_default();
            println!("log:\n{}\ncomplaints:\n{complaints}", self.log());
        }
        let _ = Command::new(script("wine-end")).args(["--remove", &self.prefix]).status();
        for child in [&mut self.agent, &mut self.peer].into_iter().flatten() {
            drop(child.stdin.take());
            let _ = child.kill();
            let _ = child.wait();
        }
        // The wire goes after them.
    }
}

/// Waits for the word of a helper that it can be asked.
fn ready(mut child: Child) -> Child {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

/// The stand-in driver and the programs beside it. Compiled once: it takes as long
/// as all else that a world begins with.
fn driver() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("windows-driver");
        run(&format!("{} {}", script("driver/build.sh"), folder.display()));
        folder
    })
}

/// Where cargo built for Windows.
fn built() -> PathBuf {
    std::env::var_os("SESSIONIP_WINDOWS").expect("SESSIONIP_WINDOWS is set: run 'make test'").into()
}

fn script(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/windows").join(name).display().to_string()
}

/// Runs a command that has to succeed; what it prints.
fn run(command: &str) -> String {
    let words: Vec<&str> = command.split(' ').collect();
    let done = Command::new(words[0]).args(&words[1..]).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command}: {said}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}
