//! The companion as the daemon has it, with programs of this machine.
//!
//! Under Wine every process is in session 1; 127.0.0.2 stands for its address.

#![cfg(windows)]
#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

/// A configuration to begin with.
#[path = "../support/policy.rs"]
mod policy;
/// Do the hook and the packet engine agree on whom a list means?
mod scripts;

use sessionip::companion::{
    Companion, Injected, LoadError, Moved, Options, PolicyView, Refusal, SessionEntry,
};
use sessionip::config::{Loopback, ProgramPattern};
use sessionip::control::Start;
use sessionip::packet::{Endpoint, Protocol};
use sessionip::session::{Scope, Session as Login, SessionId, User};
use sessionip_hook::windows::{DLL, process};
use std::io::Write;
use std::net::UdpSocket;
use std::os::windows::io::{AsHandle, AsRawHandle};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// There is one section of that name on a machine.
static ONE: Mutex<()> = Mutex::new(());

const V: &str = "127.0.0.2";
const ROLE: &str = "SESSIONIP_COMPANION_VICTIM";
const ACTS: [&str; 3] = ["--exact", "acts", "--nocapture"];

/// Not a test but the program that the tests start: it binds when it is told.
#[test]
fn acts() {
    let Ok(address) = std::env::var(ROLE) else { return };
    let (waits, address) = match address.strip_prefix("now ") {
        Some(address) => (false, address),
        None => (true, address.as_str()),
    };
    let wait = || waits.then(|| std::io::stdin().read_line(&mut String::new()));
    wait();
    match UdpSocket::bind(address) {
        Ok(socket) => println!("\n={}", socket.local_addr().unwrap()),
        Err(error) => println!("\n=error {}", error.raw_os_error().unwrap_or_default()),
    }
    std::io::stdout().flush().unwrap();
    wait();
}

fn options() -> Options {
    // target/TARGET/PROFILE/deps/this.exe
    let file = std::env::current_exe().unwrap();
    let dll = file.ancestors().nth(2).unwrap().join(DLL);
    assert!(dll.exists(), "cargo build -p sessionip-hook-dll builds {}", dll.display());
    Options { dll }
}

fn session() -> SessionId {
    SessionId(process::session_of(std::process::id()).unwrap())
}

fn entry() -> SessionEntry {
    SessionEntry {
        id: session(),
        ipv4: V.parse().ok(),
        ipv6: None,
        private_ipv6: None,
        loopback: None,
    }
}

fn login() -> Login {
    Login {
        id: session(),
        user: User { id: "S-1-5-21-0-0-0-1000".to_owned(), name: "ana".to_owned() },
        since: jiff::Timestamp::UNIX_EPOCH,
        scope: Scope { logon: 0 },
    }
}

fn everybody() -> PolicyView {
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

/// A program that waits.
struct Victim(Child);

impl Victim {
    fn start() -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(ACTS).env(ROLE, "0.0.0.0:9300");
        Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    fn binds(&mut self) -> String {
        writeln!(self.0.stdin.as_mut().unwrap()).unwrap();
        answer(self.0.stdout.as_mut().unwrap())
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn answer(output: &mut impl std::io::Read) -> String {
    let lines = std::io::BufRead::lines(std::io::BufReader::new(output));
    let answer = lines.map_while(Result::ok).find_map(|it| it.strip_prefix('=').map(str::to_owned));
    answer.unwrap_or_else(|| "it said nothing".to_owned())
}

#[test]
fn programs_that_run_get_the_hook_and_report() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut victim = Victim::start();
    let mut companion = Companion::load(&options()).unwrap();
    companion.set_policy(&everybody()).unwrap();
    companion.set_session(&entry()).unwrap();
    let pid = victim.0.id();
    assert_eq!(companion.inject(pid), Injected::Hooked);
    assert_eq!(companion.inject(pid), Injected::AlreadyHooked);
    assert_eq!(victim.binds(), "127.0.0.2:9300");
    let endpoint = |address: &str| Endpoint::new(address.parse().unwrap(), 9300);
    let wanted = Moved {
        session: session(),
        pid,
        protocol: Protocol::Udp,
        asked: endpoint("0.0.0.0"),
        bound: endpoint(V),
    };
    for _ in 0..500 {
        if !companion.moved().unwrap().is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(companion.moved().unwrap(), [wanted]);
    assert_eq!(companion.counters().unwrap().moved_binds, 1);
    drop(victim);
    assert_eq!(companion.moved().unwrap(), [], "its process has gone");
    companion.unload().unwrap();
}

/// The program in C that `make -C tests/windows/victims` builds, as a 32-bit one: it
/// listens when it is told.
struct ThirtyTwoBit(Child);

fn file_of_32_bits() -> PathBuf {
    // target/TARGET/PROFILE/deps/this.exe
    let this = std::env::current_exe().unwrap();
    let target = this.ancestors().nth(4).unwrap();
    let file = target.join("i686-pc-windows-gnu").join("victims").join("bind.exe");
    assert!(file.exists(), "make -C tests/windows/victims builds {}", file.display());
    file
}

impl ThirtyTwoBit {
    fn start() -> Self {
        let mut command = Command::new(file_of_32_bits());
        command.args(["9310", "--later"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.spawn().unwrap();
        assert!(process::is_32_bit(child.as_handle()));
        Self(child)
    }

    fn listens(mut self) -> String {
        writeln!(self.0.stdin.as_mut().unwrap()).unwrap();
        let said = self.0.wait_with_output().unwrap().stdout;
        String::from_utf8(said).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

#[test]
fn programs_of_32_bits_get_the_hook_too() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = ThirtyTwoBit::start();
    let mut companion = Companion::load(&options()).unwrap();
    companion.set_policy(&everybody()).unwrap();
    companion.admit(&login(), &entry()).unwrap();
    let pid = before.0.id();
    assert!(companion.unhooked().iter().all(|it| it.pid != pid), "the sweep hooked it");
    assert_eq!(companion.inject(pid), Injected::AlreadyHooked);
    let after = ThirtyTwoBit::start();
    assert_eq!(companion.inject(after.0.id()), Injected::Hooked);
    assert_eq!(before.listens(), "ready tcp=127.0.0.2:9310 udp=127.0.0.2:9310");
    assert_eq!(after.listens(), "ready tcp=127.0.0.2:9310 udp=127.0.0.2:9310");
    companion.unload().unwrap();
}

#[test]
fn without_the_hook_for_32_bits_such_programs_are_named_and_run_on() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let dll = folder.path().join(DLL);
    std::fs::copy(options().dll, &dll).unwrap();
    let mut companion = Companion::load(&Options { dll }).unwrap();
    companion.set_policy(&everybody()).unwrap();
    let program = ThirtyTwoBit::start();
    companion.admit(&login(), &entry()).unwrap();
    let unhooked = companion.unhooked();
    let named = unhooked.iter().find(|it| it.pid == program.0.id()).expect("it is named");
    assert_eq!(named.refusal, Refusal::NoHelper);
    assert_eq!(program.listens(), "ready tcp=0.0.0.0:9310 udp=0.0.0.0:9310");
    companion.unload().unwrap();
}

#[test]
fn a_session_is_swept_and_who_is_excepted_is_left_alone() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut companion = Companion::load(&options()).unwrap();
    let mut plain = Victim::start();
    companion.set_session(&entry()).unwrap();
    let this = std::env::current_exe().unwrap();
    let except = vec![ProgramPattern::Path(this)];
    companion.set_policy(&PolicyView { except, ..everybody() }).unwrap();
    assert_eq!(companion.inject(plain.0.id()), Injected::Excepted);
    assert_eq!(plain.binds(), "0.0.0.0:9300");
    drop(plain);
    let mut victim = Victim::start();
    let pid = victim.0.id();
    // The policy is for everybody again: the sweep finds who is new.
    companion.set_policy(&everybody()).unwrap();
    companion.refresh_programs().unwrap();
    assert_eq!(companion.inject(pid), Injected::AlreadyHooked);
    assert_eq!(victim.binds(), "127.0.0.2:9300");
    let unhooked = companion.unhooked();
    assert!(unhooked.iter().all(|it| it.pid != pid), "{unhooked:?}");
    companion.unload().unwrap();
}

#[test]
fn after_its_end_the_hook_does_nothing() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut companion = Companion::load(&options()).unwrap();
    companion.set_policy(&everybody()).unwrap();
    companion.set_session(&entry()).unwrap();
    let mut victim = Victim::start();
    assert_eq!(companion.inject(victim.0.id()), Injected::Hooked);
    companion.unload().unwrap();
    assert_eq!(victim.binds(), "0.0.0.0:9300");
}

#[test]
fn sessions_come_and_go() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut companion = Companion::load(&options()).unwrap();
    companion.set_session(&entry()).unwrap();
    let other = SessionEntry { id: SessionId(session().0 + 1), ..entry() };
    companion.set_session(&other).unwrap();
    assert_eq!(companion.sessions(), [entry(), other]);
    companion.retain(|entry| entry.id == session()).unwrap();
    assert_eq!(companion.sessions(), [entry()]);
    companion.remove_session(session()).unwrap();
    assert_eq!(companion.sessions(), []);
    assert_eq!(companion.inject(u32::MAX - 3), Injected::Refused(Refusal::Gone));
    companion.unload().unwrap();
}

#[test]
fn without_its_dll_there_is_no_companion() {
    let nowhere = Options { dll: r"C:\nowhere\sessionip_hook.dll".into() };
    assert!(matches!(Companion::load(&nowhere), Err(LoadError::NoDll { .. })));
    let other = Options { dll: std::env::current_exe().unwrap() };
    assert!(matches!(Companion::load(&other), Err(LoadError::OtherDll { .. })));
}

#[test]
fn exec_starts_a_program_with_the_hook_in_it() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut companion = Companion::load(&options()).unwrap();
    companion.set_policy(&everybody()).unwrap();
    companion.set_session(&entry()).unwrap();
    // The program's output is a file that the caller holds.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("output");
    let output = std::fs::File::create(&path).unwrap();
    let handle = output.as_raw_handle().expose_provenance() as u64;
    let this = std::env::current_exe().unwrap();
    let line =
        format!("cmd /c set {ROLE}=now 0.0.0.0:9301&& \"{}\" {}", this.display(), ACTS.join(" "));
    let started = companion.start(
        std::process::id(),
        &login(),
        &Start {
            session: session(),
            user: None,
            command_line: line,
            folder: std::env::current_dir().unwrap(),
            standard: [0, handle, handle],
        },
    );
    let started = started.unwrap();
    let mut said = String::new();
    for _ in 0..400 {
        said = std::fs::read_to_string(&path).unwrap();
        if said.contains("\n=") {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let given = said.lines().find_map(|line| line.strip_prefix('='));
    assert_eq!(given, Some("127.0.0.2:9301"), "process {}: {said}", started.pid);
    companion.unload().unwrap();
}
