//! Do the stand-ins do under Wine what Windows does?
//!
//! Each test has a network namespace and a prefix of its own, and asks the
//! witness there, a program that calls what sessionip calls.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by it")]

use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

const WITNESS: &str = "standin-witness.exe";

/// A network namespace, and a prefix whose Wine runs in it.
struct Host {
    name: String,
    prefix: String,
    /// The prefix's `C:\standin`, as Linux has it.
    folder: PathBuf,
    /// What was started on the Linux side.
    agent: Option<Child>,
}

impl Host {
    fn new(what: &str) -> Self {
        let name = format!("sip{}{what}", std::process::id());
        let prefix = format!("/w/{name}");
        let rig = env::var("SESSIONIP_RIG").unwrap_or("/var/cache/sessionip-rig".into());
        let folder = PathBuf::from(format!("{rig}/wine{prefix}/drive_c/standin"));
        let host = Self { name, prefix, folder, agent: None };
        run("ip", &["netns", "add", &host.name]);
        run("ip", &["-n", &host.name, "link", "set", "lo", "up"]);
        let install = script("install-standins");
        let done = host.inside(&install, &[&host.prefix, WITNESS]).output().unwrap();
        succeeded("install-standins", &done);
        host
    }

    /// A program of the Linux side in the namespace.
    fn inside(&self, program: &str, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]).args(words);
        command.env("SESSIONIP_WINEPREFIX", &self.prefix).env("SESSIONIP_WINDOWS", windows());
        command
    }

    /// A program under Wine; fails if it does, unless that is what is asked.
    fn wine(&self, program: &str, words: &[&str]) -> Output {
        let program = windows().join(program);
        let all: Vec<&str> =
            [program.to_str().unwrap()].into_iter().chain(words.iter().copied()).collect();
        self.inside(&script("wine"), &all).stdin(Stdio::null()).output().unwrap()
    }

    fn ask(&self, words: &[&str]) -> String {
        let done = self.wine(WITNESS, words);
        succeeded(&format!("{words:?}"), &done);
        String::from_utf8(done.stdout).unwrap().replace('\r', "").trim_end().to_owned()
    }

    fn refusal(&self, words: &[&str]) -> String {
        let done = self.wine(WITNESS, words);
        assert!(!done.status.success(), "{words:?}: {done:?}");
        String::from_utf8_lossy(&done.stderr).into_owned()
    }

    /// Replaces a file of the stand-ins, whole.
    fn write(&self, name: &str, text: &str) {
        let whole = self.folder.join("whole");
        fs::write(&whole, text).unwrap();
        fs::rename(whole, self.folder.join(name)).unwrap();
    }

    /// Waits until a file of the stand-ins reads so.
    fn comes_to_read(&self, name: &str, expected: &str) {
        let mut text = String::new();
        for _ in 0..200 {
            text = fs::read_to_string(self.folder.join(name)).unwrap_or_default();
            if text == expected {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(text, expected, "{name} after ten seconds");
    }

    fn start_agent(&mut self) {
        let agent = script("standins/addresses-agent");
        let folder = self.folder.to_str().unwrap().to_owned();
        let mut child =
            self.inside(&agent, &[&folder]).stdout(Stdio::piped()).spawn().expect("python3 runs");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        self.agent = Some(child);
        assert_eq!(line, "ready\n");
    }

    fn complaints(&self) -> String {
        fs::read_to_string(self.folder.join("complaints.txt")).unwrap_or_default()
    }

    /// Whether Linux has an address on a device.
    fn has(&self, device: &str, address: &str) -> bool {
        let shown = run("ip", &["-n", &self.name, "-o", "addr", "show", "dev", device]);
        shown.contains(&format!(" {address}/"))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        let _ = Command::new(script("wine-end")).args(["--remove", &self.prefix]).status();
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Where cargo built for Windows.
fn windows() -> PathBuf {
    let built = PathBuf::from(env::var_os("SESSIONIP_WINDOWS").expect("SESSIONIP_WINDOWS is set"));
    assert!(built.join(WITNESS).exists(), "{WITNESS} is built: make windows-build");
    built
}

fn script(name: &str) -> String {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    here.join(name).to_str().unwrap().to_owned()
}

fn run(program: &str, words: &[&str]) -> String {
    let done = Command::new(program).args(words).output().unwrap();
    succeeded(&format!("{program} {words:?}"), &done);
    String::from_utf8(done.stdout).unwrap()
}

fn succeeded(what: &str, done: &Output) {
    assert!(done.status.success(), "{what}: {}\n{done:?}", done.status);
}

const NOBODY: &str = "session 0 disconnected Services -\nsession 1 connected Console -\n";

fn with(lines: &str) -> String {
    format!("{NOBODY}{lines}")
}

#[test]
fn sessions_are_seen_and_processes_are_in_them() {
    let host = Host::new("a");
    assert_eq!(host.ask(&["sessions"]), "console -1", "without a file nobody is there");
    host.write(
        "sessions.txt",
        &with("session 2 active RDP-Tcp#1 EXAMPLE\\anna rdp logon=0\nnonsense\n"),
    );
    let seen = host.ask(&["sessions"]);
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(
        lines,
        [
            r"0 4 Services \ 0 0 ",
            r"1 1 Console \ 0 0 ",
            r"2 0 RDP-Tcp#1 EXAMPLE\anna 2 116444736000000000 anna",
            "console 1",
        ]
    );
    assert_eq!(host.ask(&["users"]), r"2 EXAMPLE\anna");
    assert!(host.complaints().contains("nonsense"), "{}", host.complaints());

    // Of itself, a child, and a child's child by way of a program without stand-ins.
    assert_eq!(host.ask(&["family"]), "0 Some(0) Some(0)");
    let family = host.wine("session-run.exe", &["2", &witness(), "family"]);
    assert_eq!(String::from_utf8_lossy(&family.stdout).trim_end(), "2 Some(2) Some(2)");
    assert_eq!(
        host.wine("session-run.exe", &["9", &witness(), "own-session"]).status.code(),
        Some(9)
    );
    assert_eq!(host.ask(&["session-of", "4"]), "0");
    assert!(host.refusal(&["session-of", "999996"]).contains("os error 87"));

    // A process that runs already, put into a session from outside.
    host.write("processes/4", "3");
    assert_eq!(host.ask(&["session-of", "4"]), "0", "the system's own processes stay in 0");
    let services = host.ask(&["process", "services.exe"]);
    assert_eq!(host.ask(&["session-of", &services]), "0");
    host.write(&format!("processes/{services}"), "3");
    assert_eq!(host.ask(&["session-of", &services]), "3");
    host.write(&format!("processes/{services}"), "3 4711");
    assert_eq!(host.ask(&["session-of", &services]), "0", "an earlier one with that number was");

    assert_eq!(host.ask(&["pipe", "6"]), "6", "who connects to a pipe");
    assert_eq!(host.ask(&["run-as", "2"]), "2", "a child is born in its token's session");
    assert!(host.refusal(&["run-as", "1"]).contains("os error 1008"), "nobody has logged on there");
    assert!(host.refusal(&["run-as", "7"]).contains("os error 7022"), "there is no such session");
}

fn witness() -> String {
    windows().join(WITNESS).to_str().unwrap().to_owned()
}

#[test]
fn a_service_is_told_what_happens_while_it_runs() {
    let host = Host::new("b");
    host.write("sessions.txt", NOBODY);
    assert_eq!(host.ask(&["service", "install", "told"]), "installed");
    assert_eq!(host.ask(&["service", "start", "told"]), "Running");

    host.write("sessions.txt", &with("session 2 active RDP-Tcp#1 EXAMPLE\\anna\n"));
    let mut expected = "SessionCreate 2\nRemoteConnect 2\nSessionLogon 2\n".to_owned();
    host.comes_to_read("told.txt", &expected);

    host.write("sessions.txt", &with("session 2 disconnected RDP-Tcp#1 EXAMPLE\\anna\npower\n"));
    expected += "RemoteDisconnect 2\nResumeAutomatic\n";
    host.comes_to_read("told.txt", &expected);

    host.write("sessions.txt", &with("power\nevent lock 5\npower suspend\n"));
    expected += "SessionLogoff 2\nSessionTerminate 2\nSessionLock 5\nSuspend\n";
    host.comes_to_read("told.txt", &expected);

    // Nothing is told to a service that has stopped.
    assert_eq!(host.ask(&["service", "stop", "told"]), "Stopped");
    host.write("sessions.txt", &with("session 3 active RDP-Tcp#2 EXAMPLE\\ben\n"));
    thread::sleep(Duration::from_millis(300));
    host.comes_to_read("told.txt", &expected);
    assert_eq!(host.complaints(), "");
}

#[test]
fn addresses_come_and_go() {
    let mut host = Host::new("c");
    let outside = format!("{}o", host.name);
    run("ip", &["netns", "add", &outside]);
    let _outside = Namespace(outside.clone());
    let veth = ["-n", &host.name, "link", "add", "eth7", "type", "veth", "peer", "name", "eth7"];
    run("ip", &[&veth[..], &["netns", &outside]].concat());
    for (namespace, address) in [(&host.name, "10.77.0.1/24"), (&outside, "10.77.0.2/24")] {
        run("ip", &["-n", namespace, "addr", "add", address, "dev", "eth7"]);
        run("ip", &["-n", namespace, "link", "set", "eth7", "up"]);
    }
    let shown = run("ip", &["-n", &host.name, "-o", "link", "show", "dev", "eth7"]);
    let index = shown.split(':').next().unwrap().to_owned();

    assert_eq!(host.ask(&["add", &index, "10.77.0.9", "24"]), "1062", "nobody to ask");
    host.start_agent();

    // At once, as without duplicate address detection.
    assert_eq!(host.ask(&["state", &index, "10.77.0.9"]), "1168");
    assert_eq!(host.ask(&["add", &index, "10.77.0.9", "24"]), "0");
    assert!(host.has("eth7", "10.77.0.9"));
    assert_eq!(host.ask(&["add", &index, "10.77.0.9", "24"]), "5010");
    assert_eq!(host.ask(&["add", &index, "10.77.0.1", "24"]), "5010", "the host's own");
    assert_eq!(host.ask(&["add", "4711", "10.77.0.9", "24"]), "1168", "no such interface");
    assert_eq!(host.ask(&["state", &index, "10.77.0.9"]), "0 4 24 true");
    assert_eq!(host.ask(&["bind", "10.77.0.9"]), "10.77.0.9");
    let table = host.ask(&["table", &index]);
    assert!(table.starts_with("10.77.0.1 4 false\n10.77.0.9 4 true"), "{table}");
    assert_eq!(host.ask(&["delete", &index, "10.77.0.9"]), "0");
    assert!(!host.has("eth7", "10.77.0.9"));
    assert_eq!(host.ask(&["delete", &index, "10.77.0.9"]), "1168");
    assert!(host.ask(&["bind", "10.77.0.9"]).contains("10049"), "not an address of the host");

    // IPv6 the same way.
    assert_eq!(host.ask(&["add", &index, "fd77::9", "128"]), "0");
    assert_eq!(host.ask(&["bind", "fd77::9"]), "fd77::9");
    assert_eq!(host.ask(&["delete", &index, "fd77::9"]), "0");

    // Who watches is told; the list of adapters is Wine's own.
    assert_eq!(host.ask(&["watch", &index, "10.77.0.12"]), "0 Some(1) true");
    assert_eq!(host.ask(&["delete", &index, "10.77.0.12"]), "0");

    // With it: first tentative, then usable; or another's.
    host.write("addresses.txt", "tentative 600000\nduplicate 10.77.0.11\n");
    assert_eq!(host.ask(&["add", &index, "10.77.0.10", "255"]), "0");
    assert_eq!(host.ask(&["state", &index, "10.77.0.10"]), "0 1 32 true");
    assert!(host.ask(&["bind", "10.77.0.10"]).contains("10049"));
    assert_eq!(host.ask(&["add", &index, "10.77.0.11", "32"]), "0");
    let table = host.ask(&["table", &index]);
    assert!(table.contains("10.77.0.10 1 true\n10.77.0.11 1 true"), "{table}");
    assert!(!host.has("eth7", "10.77.0.10"));
    host.write("addresses.txt", "tentative 1\nduplicate 10.77.0.11\n");
    thread::sleep(Duration::from_millis(500));
    assert_eq!(host.ask(&["state", &index, "10.77.0.10"]), "0 4 32 true");
    assert_eq!(host.ask(&["bind", "10.77.0.10"]), "10.77.0.10");
    assert_eq!(host.ask(&["state", &index, "10.77.0.11"]), "0 2 32 true");
    assert!(!host.has("eth7", "10.77.0.11"));
    assert_eq!(host.ask(&["delete", &index, "10.77.0.11"]), "0");

    // Who has it: the neighbour, the host itself, nobody.
    let mac = |namespace: &str| {
        let shown = run("ip", &["-n", namespace, "-o", "link", "show", "dev", "eth7"]);
        let mac = shown.split("link/ether ").nth(1).unwrap();
        format!("0 6 [{}]", mac.split(' ').next().unwrap().replace(':', ", "))
    };
    assert_eq!(host.ask(&["arp", "10.77.0.2"]), mac(&outside));
    assert_eq!(host.ask(&["arp", "10.77.0.1"]), mac(&host.name));
    assert!(host.ask(&["arp", "10.77.0.200"]).starts_with("67 "));

    let agent = host.agent.as_mut().unwrap();
    assert!(agent.try_wait().unwrap().is_none(), "the agent has not ended");
}

/// A network namespace, while it is needed.
struct Namespace(String);

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

#[test]
fn the_runner_gives_back_what_the_program_gave() {
    let host = Host::new("d");
    host.write("sessions.txt", NOBODY);
    // From a folder with a space in its name, whose paths are the same inside.
    let folder = tempfile::Builder::new().prefix("with a space ").tempdir().unwrap();
    let copy = folder.path().join("its own.exe");
    fs::copy(windows().join("session-run.exe"), &copy).unwrap();
    let start = |words: &[&str]| {
        let all: Vec<&str> =
            [copy.to_str().unwrap()].into_iter().chain(words.iter().copied()).collect();
        host.inside(&script("wine"), &all).current_dir(folder.path()).output().unwrap()
    };
    let done = start(&["5", "cmd.exe", "/c", "cd && exit 42"]);
    assert_eq!(done.status.code(), Some(42), "{done:?}");
    let said = String::from_utf8_lossy(&done.stdout).replace('\\', "/");
    assert!(said.contains(folder.path().to_str().unwrap()), "{said}");
    assert_eq!(start(&["5", "no-such-program"]).status.code(), Some(127));

    // Many at once meet one wineserver.
    let code = |number: usize| {
        let number = number.to_string();
        start(&["5", "cmd.exe", "/c", &format!("exit {number}")]).status.code()
    };
    let codes: Vec<Option<i32>> = thread::scope(|scope| {
        let all: Vec<_> = (1..7).map(|number| scope.spawn(move || code(number))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(codes, (1..7).map(Some).collect::<Vec<_>>());

    // Nothing that was mounted for it is seen outside.
    let mut mounts = String::new();
    fs::File::open("/proc/self/mounts").unwrap().read_to_string(&mut mounts).unwrap();
    assert!(
        !mounts.contains("its\\040own") && !mounts.contains("with\\040a\\040space"),
        "{mounts}"
    );
}
