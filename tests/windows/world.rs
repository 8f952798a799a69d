//! Where are Windows and the world? In two network namespaces with a wire
//! between them: in one Wine with the official WinDivert.dll, the stand-ins, and
//! sessionip; in the other whoever talks to it. Gone with the value that holds them.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{fs, thread};

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
pub(crate) const ANA: Session = Session { id: "2", user: "ana", address: "10.77.0.101" };
pub(crate) const BEN: Session = Session { id: "3", user: r"CORP\ben", address: "10.77.0.102" };
/// The host address, and the far side's.
pub(crate) const HOST: &str = "10.77.0.1";
pub(crate) const FAR: &str = "10.77.0.2";
/// The far side's server, TCP and UDP: it answers with who asked.
pub(crate) const WHO: &str = "7777";

/// A login session.
#[derive(Clone, Copy)]
pub(crate) struct Session {
    pub(crate) id: &'static str,
    pub(crate) user: &'static str,
    pub(crate) address: &'static str,
}

/// The two namespaces, and all that runs there.
pub(crate) struct World {
    windows: String,
    world: String,
    prefix: String,
    /// The prefix's `C:`.
    drive: PathBuf,
    /// Where the programs are.
    folder: tempfile::TempDir,
    agent: Option<Child>,
    peer: Option<Child>,
    server: Option<JoinHandle<()>>,
    _alone: MutexGuard<'static, ()>,
}

impl World {
    /// A host with two users logged on and sessionip not yet started. `more` goes
    /// into its configuration.
    pub(crate) fn new(what: &str, more: &str) -> Self {
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
            windows: name.clone(),
            world: format!("{name}f"),
            prefix,
            drive,
            folder,
            agent: None,
            peer: None,
            server: None,
            _alone: alone,
        };
        it.lay_wire();
        it.bring_programs(&rig);
        it.begin(more);
        it
    }

    fn lay_wire(&self) {
        let (windows, world) = (&self.windows, &self.world);
        for command in [
            format!("ip netns add {windows}"),
            format!("ip netns add {world}"),
            format!("ip -n {windows} link add wire type veth peer name far netns {world}"),
            format!("ip -n {windows} address add {HOST}/24 dev wire"),
            format!("ip -n {windows} link set wire up"),
            format!("ip -n {windows} link set lo up"),
            format!("ip -n {world} address add {FAR}/24 dev far"),
            format!("ip -n {world} link set far up"),
            format!("ip -n {world} link set lo up"),
        ] {
            run(&command);
        }
    }

    /// What an administrator would unpack, and the programs of his users.
    fn bring_programs(&self, rig: &Path) {
        let folder = self.folder.path();
        run(&format!("{} {}", script("driver/build.sh"), folder.display()));
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

    fn begin(&mut self, more: &str) {
        let install = script("install-standins");
        let done = self.inside(&install, &[&self.prefix, "sessionip.exe"]).output().unwrap();
        assert!(done.status.success(), "install-standins: {done:?}");
        let data = self.drive.join("ProgramData/sessionip");
        fs::create_dir_all(&data).unwrap();
        // Wine on a small machine is far slower than Windows: a packet waits longer.
        let hold = if more.contains("divert.hold") { "" } else { "divert.hold = '1s'\n" };
        let text = "pool.ranges = ['10.77.0.101-10.77.0.110']\npool.quarantine = '0s'\n";
        fs::write(data.join("sessionip.toml"), format!("{text}{hold}{more}\n")).unwrap();
        self.log_on(&LOGONS);
        let standin = self.drive.join("standin").display().to_string();
        let mut agent = self.inside(&script("standins/addresses-agent"), &[&standin]);
        self.agent = Some(ready(agent.stdout(Stdio::piped()).spawn().expect("python3 runs")));
        let peer = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../debug/sessionip-test-peer");
        assert!(peer.exists(), "{} is built by: cargo test --workspace", peer.display());
        let mut peer = self.inside(&peer.display().to_string(), &[&standin]);
        self.peer = Some(ready(peer.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()));
        let (tell, told) = std::sync::mpsc::channel();
        let world = self.world.clone();
        self.server = Some(thread::spawn(move || serve(&world, &tell)));
        told.recv_timeout(PATIENCE).expect("the far side's server");
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
        command.args(["netns", "exec", &self.windows, program]).args(words);
        command.env("SESSIONIP_WINEPREFIX", &self.prefix).env("SESSIONIP_WINDOWS", built());
        command.current_dir(self.folder.path());
        command
    }

    /// `sessionip peer` on the far side, which is Linux.
    pub(crate) fn far_peer(&self) -> Program {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.world, env!("CARGO_BIN_EXE_sessionip"), "peer"]);
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
        let id = session.map(|session| session.id);
        let mut words = id.map_or_else(Vec::new, |id| vec!["./session-run.exe", id]);
        words.extend(["./talk.exe", "talk", protocol, at.0, at.1, "hello"]);
        let done = self.wine(&words).output().unwrap();
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }

    /// Asks from the far side; what came back, or why nothing did.
    pub(crate) fn ask_from_afar(&self, address: &str, port: u16, text: &str) -> String {
        let to = SocketAddr::new(address.parse::<IpAddr>().unwrap(), port);
        let text = text.to_owned();
        within(&self.world, move || {
            let answer = || -> std::io::Result<String> {
                let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
                stream.set_read_timeout(Some(Duration::from_secs(10)))?;
                stream.write_all(text.as_bytes())?;
                let mut answer = [0; 256];
                let got = stream.read(&mut answer)?;
                Ok(String::from_utf8_lossy(&answer[..got]).into_owned())
            };
            answer().unwrap_or_else(|error| format!("{:?}", error.kind()))
        })
    }

    /// The addresses of the host's card, as Linux has them.
    pub(crate) fn addresses(&self) -> String {
        run(&format!("ip -n {} -o address show", self.windows))
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
        let _ = Command::new("ip").args(["netns", "delete", &self.windows]).status();
        let _ = Command::new("ip").args(["netns", "delete", &self.world]).status();
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// A Windows program that runs, and what it has said.
pub(crate) struct Program {
    child: Child,
    _input: ChildStdin,
    said: std::sync::Arc<Mutex<String>>,
}

impl Program {
    fn start(mut command: Command, word: &str) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = std::sync::Arc::new(Mutex::new(String::new()));
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in streams {
            let said = std::sync::Arc::clone(&said);
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                    *said += line.trim_end();
                    *said += "\n";
                }
            });
        }
        let it = Self { _input: child.stdin.take().unwrap(), child, said };
        let begin = Instant::now();
        while !it.said().contains(word) {
            assert!(begin.elapsed() < PATIENCE, "it never said {word:?} but: {}", it.said());
            thread::sleep(Duration::from_millis(50));
        }
        it
    }

    /// All of it so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for its end; its exit status.
    pub(crate) fn end(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The far side's server: TCP and UDP, until the namespace is left alone for long.
fn serve(world: &str, tell: &std::sync::mpsc::Sender<()>) {
    within(world, || {
        let at: SocketAddr = format!("0.0.0.0:{WHO}").parse().unwrap();
        let (tcp, udp) = (TcpListener::bind(at).unwrap(), UdpSocket::bind(at).unwrap());
        tcp.set_nonblocking(true).unwrap();
        udp.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        tell.send(()).unwrap();
        // Ended by the namespace that goes: its card is then gone from under it.
        while Path::new(&format!("/run/netns/{world}")).exists() {
            if let Ok((mut stream, from)) = tcp.accept() {
                thread::spawn(move || answer(&mut stream, from));
            }
            let mut question = [0; 256];
            if let Ok((_, from)) = udp.recv_from(&mut question) {
                let _ = udp.send_to(from.ip().to_string().as_bytes(), from);
            }
        }
    });
}

/// Says who asks, for each line.
fn answer(stream: &mut TcpStream, from: SocketAddr) {
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let mut question = [0; 256];
    while let Ok(1..) = stream.read(&mut question) {
        let _ = stream.write_all(from.ip().to_string().as_bytes());
    }
}

/// Does it in a thread of that namespace.
fn within<T: Send>(namespace: &str, does: impl FnOnce() -> T + Send) -> T {
    use nix::sched::{CloneFlags, setns};
    let file = fs::File::open(format!("/run/netns/{namespace}")).expect("a namespace");
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(&file, CloneFlags::CLONE_NEWNET).expect("to enter a namespace needs root");
            does()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Waits for the word of a helper that it can be asked.
fn ready(mut child: Child) -> Child {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
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
