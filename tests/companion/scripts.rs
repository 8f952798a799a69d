//! Do the hook in a program and the packet engine agree on whom a list means, where
//! it names a script, a file by another spelling, or the ancestor of a program?

use crate::{ONE, entry, file_of_32_bits, login, options, policy};
use sessionip::companion::{Companion, Injected, PolicyView, standing};
use sessionip::config::{Config, ProgramPattern};
use sessionip::owner::Sockets;
use sessionip::owner::table::SocketTable;
use sessionip::owner::windows::{Census, KernelSockets};
use sessionip::packet::{Endpoint, Protocol};
use sessionip::policy::{Listing, Policy};
use std::io::{BufRead, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::windows::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, MutexGuard, PoisonError};

const ROLE: &str = "SESSIONIP_SCRIPTS_VICTIM";
const ACTS: &str = "--exact scripts::acts --nocapture";

/// Not a test but the program that the tests start: it binds what it is told to, and
/// keeps it.
#[test]
fn acts() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let mut kept = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let socket = UdpSocket::bind(line.unwrap()).unwrap();
        println!("\n={}", socket.local_addr().unwrap());
        std::io::stdout().flush().unwrap();
        kept.push(socket);
    }
}

/// A daemon as far as lists are concerned: a hook, a table of sockets, a policy.
struct World {
    folder: tempfile::TempDir,
    companion: Companion,
    census: Census,
    sockets: KernelSockets,
    policy: Policy,
    _one: MutexGuard<'static, ()>,
}

impl World {
    fn new() -> Self {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::Builder::new().prefix("a folder of a long name").tempdir().unwrap();
        let table = SocketTable::default();
        let census = Census::begin(table.clone(), Arc::new(|station| station != 0)).unwrap();
        let sockets = KernelSockets::new(table, census.bell().clone());
        let mut companion = Companion::load(&options()).unwrap();
        companion.admit(&login(), &entry()).unwrap();
        let policy = Policy::compile(&policy::config(), standing);
        Self { folder, companion, census, sockets, policy, _one: one }
    }

    /// What a reload does.
    fn reload(&mut self, config: &Config) {
        self.companion.set_policy(&PolicyView::from(config)).unwrap();
        self.policy = Policy::compile(config, standing);
    }

    fn path(&self, name: &str) -> PathBuf {
        // As the system spells it, without the prefix.
        let folder = self.folder.path().canonicalize().unwrap();
        Path::new(folder.to_str().unwrap().trim_start_matches(r"\\?\")).join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// This file under another name.
    fn copy(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        if !path.exists() {
            std::fs::copy(std::env::current_exe().unwrap(), &path).unwrap();
        }
        path
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Was it moved, and what does the engine say of its owner?
    fn binds(&mut self, program: &mut Program, port: u16) -> (bool, Listing) {
        let bound = program.binds(port);
        (bound.ip().to_string() == crate::V, self.listing(bound))
    }

    fn listing(&mut self, bound: SocketAddr) -> Listing {
        let bound = Endpoint::new(bound.ip(), bound.port());
        let far = Endpoint::new([10, 77, 0, 2].into(), 40_000);
        let owner = (0..500).find_map(|_| {
            let owner = self.sockets.owner(Protocol::Udp, bound, far);
            if owner.is_none() {
                std::thread::sleep(self.census.patience());
                self.census.tend();
            }
            owner
        });
        // It is in the system's list, sooner or later.
        self.policy.program(&owner.unwrap())
    }
}

/// A program that does what it is told.
struct Program(Child);

impl Program {
    /// `line` is what follows its name, as it stands.
    fn start(file: &Path, line: &str, folder: &Path) -> Self {
        let mut command = Command::new(file);
        command.raw_arg(line).env(ROLE, "1").current_dir(folder);
        Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    fn binds(&mut self, port: u16) -> SocketAddr {
        writeln!(self.0.stdin.as_mut().unwrap(), "0.0.0.0:{port}").unwrap();
        self.says("=").parse().unwrap()
    }

    /// The rest of its next line that begins so.
    fn says(&mut self, begin: &str) -> String {
        let output = self.0.stdout.as_mut().unwrap();
        // What comes after the answer is for the next call.
        let mut line = Vec::new();
        loop {
            let mut byte = [0];
            assert_eq!(std::io::Read::read(output, &mut byte).unwrap(), 1, "it has ended");
            if byte != *b"\n" {
                line.extend(byte);
                continue;
            }
            let text = String::from_utf8_lossy(&line).trim().to_owned();
            match text.strip_prefix(begin) {
                Some(rest) => return rest.to_owned(),
                None => line.clear(),
            }
        }
    }
}

impl Drop for Program {
    /// It ends, and what it started does, where there is nothing more to do.
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        if let Some(mut output) = self.0.stdout.take() {
            let _ = std::io::copy(&mut output, &mut std::io::sink());
        }
        let _ = self.0.wait();
    }
}

fn listing(programs: &[&str], except: &[&str]) -> Config {
    let mut config = policy::config();
    let parse = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
    config.virtual_ip.programs = parse(programs);
    config.virtual_ip.except = parse(except);
    config
}

const LISTED: (bool, Listing) = (true, Listing::Listed);
const NOT_LISTED: (bool, Listing) = (false, Listing::NotListed);
const EXCEPTED: (bool, Listing) = (false, Listing::Excepted);

#[test]
fn scripts_mean_the_same_to_hook_and_engine() {
    let mut world = World::new();
    world.write("crm.py", "");
    world.write("crm.jar", "");
    let folder = world.path("");
    let script = world.text("crm.py");
    let script = script.as_str();
    let elsewhere = std::env::temp_dir();
    let quoted = format!("\"{script}\"");
    let by_drive = format!("\"{}\"", script.get(2..).unwrap().replace('\\', "/"));
    let verbatim = format!(r"\\?\{script}");
    let short = short(script);
    assert!(short.contains('~'), "this file system has no short names: {short}");
    let (python, java) = (world.copy("Python.exe"), world.copy("java.exe"));
    let interpreter = python.to_str().unwrap();
    let cases = [
        (&python, quoted.as_str(), &elsewhere, vec![script], vec![], LISTED),
        (&python, &quoted, &elsewhere, vec![verbatim.as_str()], vec![], LISTED),
        (&python, &quoted, &elsewhere, vec![&short], vec![], LISTED),
        (&python, &short, &elsewhere, vec![script], vec![], LISTED),
        (&python, &by_drive, &folder, vec![script], vec![], LISTED),
        (&python, "CRM.PY", &folder, vec![script], vec![], LISTED),
        (&python, "crm.py", &elsewhere, vec![script], vec![], NOT_LISTED),
        (&python, "crm.py", &elsewhere, vec!["Crm.py"], vec![], LISTED),
        (&python, "crm2.py crm.py", &folder, vec![script], vec![], NOT_LISTED),
        (&python, "crm.py", &folder, vec!["*"], vec![script], EXCEPTED),
        (&python, "crm.py", &folder, vec![script], vec!["python.EXE"], EXCEPTED),
        (&python, "crm2.py", &folder, vec![interpreter, script], vec![script], LISTED),
        (&java, "crm.jar", &folder, vec!["crm.jar"], vec![], NOT_LISTED),
    ];
    for ((file, line, at, programs, except, wanted), port) in cases.into_iter().zip(9310..) {
        world.reload(&listing(&programs, &except));
        let mut program = Program::start(file, &format!("{line} {ACTS}"), at);
        let done = world.companion.inject(program.0.id());
        assert!(!matches!(done, Injected::Refused(_)), "{done:?}");
        let found = world.binds(&mut program, port);
        assert_eq!(found, wanted, "{line} in {}: {programs:?} {except:?}", at.display());
    }
    world.companion.unload().unwrap();
}

/// The 32-bit program in C under the name of an interpreter: its port is a script's
/// name.
#[test]
fn an_interpreter_of_32_bits_is_asked_as_well() {
    let mut world = World::new();
    let python = world.path("python.exe");
    std::fs::copy(file_of_32_bits(), &python).unwrap();
    let script = world.text("9330");
    for (entry, address, wanted) in
        [(script.as_str(), crate::V, Listing::Listed), ("9331", "0.0.0.0", Listing::NotListed)]
    {
        world.reload(&listing(&[entry], &[]));
        let mut program = Program::start(&python, "9330 --later --wait", &world.path(""));
        program.says("ready");
        assert_eq!(world.companion.inject(program.0.id()), Injected::Hooked);
        writeln!(program.0.stdin.as_mut().unwrap()).unwrap();
        let bound: SocketAddr = program.says("udp=").parse().unwrap();
        assert_eq!((bound.ip().to_string().as_str(), world.listing(bound)), (address, wanted));
    }
    world.companion.unload().unwrap();
}

#[test]
fn a_file_by_any_spelling_is_the_listed_one() {
    let mut world = World::new();
    let program = world.copy("a program of a long name.exe");
    let plain = program.to_str().unwrap().to_owned();
    let short = short(&plain);
    assert!(short.contains('~'), "this file system has no short names: {short}");
    let verbatim = format!(r"\\?\{plain}");
    let (upper, slashes) = (plain.to_uppercase(), plain.replace('\\', "/"));
    let dots = plain.replacen('\\', r"\.\nowhere\..\", 1);
    let mut port = 9340;
    for started in [&plain, &short] {
        for entry in [&plain, &short, &verbatim, &upper, &slashes, &dots] {
            world.reload(&listing(&[entry], &[]));
            let mut program = Program::start(started.as_ref(), ACTS, &std::env::temp_dir());
            assert_eq!(world.companion.inject(program.0.id()), Injected::Hooked);
            let found = world.binds(&mut program, port);
            assert_eq!(found, LISTED, "{started} and {entry}");
            port += 1;
        }
    }
    world.companion.unload().unwrap();
}

fn short(path: &str) -> String {
    use windows_sys::Win32::Storage::FileSystem::GetShortPathNameW;
    let path: Vec<u16> = path.encode_utf16().chain([0]).collect();
    let mut room = [0_u16; 1024];
    // SAFETY: the path ends in a zero; it writes at most as much as there is room for.
    #[expect(unsafe_code, reason = "a call of the system")]
    let length = unsafe { GetShortPathNameW(path.as_ptr(), room.as_mut_ptr(), room.len() as u32) };
    String::from_utf16(&room[..length as usize]).unwrap()
}

/// A real batch file in a real cmd, whose child is found by whoever descends from it;
/// the same sockets under one policy after the other.
#[test]
fn a_reload_counts_for_children_and_for_their_sockets() {
    let mut world = World::new();
    let child = world.copy("child.exe");
    world.write("start.cmd", &format!("@\"{}\" {ACTS}\r\n", child.display()));
    let script = world.text("start.cmd");
    let mut config = listing(&[&script], &[]);
    world.reload(&config);
    let cmd = PathBuf::from(std::env::var_os("SystemRoot").unwrap()).join("system32\\cmd.exe");
    let mut program = Program::start(&cmd, "/d /c start.cmd", &world.path(""));
    // The child has begun once it answers.
    let before = program.binds(9360);
    assert_eq!(before.to_string(), "0.0.0.0:9360");
    assert_eq!(world.listing(before), Listing::NotListed, "children do not count");

    config.virtual_ip.children = true;
    world.reload(&config);
    assert_eq!(world.listing(before), Listing::Listed, "the socket that was there");
    assert_eq!(world.binds(&mut program, 9361), LISTED);
    config.virtual_ip.except = vec![ProgramPattern::Name("child.exe".to_owned())];
    world.reload(&config);
    assert_eq!(world.listing(before), Listing::Excepted);
    assert_eq!(world.binds(&mut program, 9362), EXCEPTED);
    world.reload(&listing(&["other.cmd"], &[]));
    assert_eq!(world.listing(before), Listing::NotListed);
    assert_eq!(world.binds(&mut program, 9363), NOT_LISTED);
    let mut config = listing(&["START.CMD"], &[]);
    config.virtual_ip.children = true;
    world.reload(&config);
    assert_eq!(world.binds(&mut program, 9364), LISTED);
    world.companion.unload().unwrap();
}
