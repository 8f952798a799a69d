//! How does a Windows program run here?
//!
//! Wine in its chroot, in the namespace of the world's Windows side, with the
//! official WinDivert.dll, the stand-in driver and the peer. All that depends on
//! where the rig is installed and how Wine is entered is in this file.

use crate::world::{World, run};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(120);

/// A machine with the driver's files in one folder and the peer at work.
pub(crate) struct Windows<'a> {
    world: &'a World,
    folder: PathBuf,
    peer: Child,
    standin: PathBuf,
}

impl<'a> Windows<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        let rig = rig();
        for needed in ["wine/usr/lib/wine/wine64", "windivert/WinDivert.dll"] {
            let path = rig.join(needed);
            assert!(path.exists(), "{} is missing: install the rig first", path.display());
        }
        let folder = built(&rig);
        let prefix = rig.join("wine").join(prefix().trim_start_matches('/'));
        let standin = prefix.join("drive_c/standin");
        // Makes the prefix, and starts what of Wine outlives a program.
        let cmd = rig.join("wine/usr/lib/x86_64-linux-gnu/wine/x86_64-windows/cmd.exe");
        let mut first = wine(&folder, &cmd, &["/c", "exit"]);
        let started = world.windows(|| first.stdin(Stdio::null()).status()).expect("wine");
        assert!(started.success(), "Wine does not start: {started}");
        let _ = fs::remove_file(standin.join("misbehave.txt"));
        let mut peer = Command::new(env!("CARGO_BIN_EXE_sessionip-test-peer"));
        peer.arg(&standin).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut peer = world.windows(|| peer.spawn()).expect("the peer");
        let mut said = String::new();
        let output = peer.stdout.as_mut().expect("its output");
        BufReader::new(output).read_line(&mut said).expect("its first line");
        assert_eq!(said, "ready\n", "the peer did not start");
        Self { world, folder, peer, standin }
    }

    /// Runs a program to its end; returns what it printed.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> String {
        self.start(program, arguments).end()
    }

    /// Starts a program of the folder.
    pub(crate) fn start(&self, program: &str, arguments: &[&str]) -> Program {
        let mut command = wine(&self.folder, &self.folder.join(program), arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = self.world.windows(|| command.spawn()).expect("wine");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        Program { child, output, said: String::new() }
    }
}

impl Drop for Windows<'_> {
    fn drop(&mut self) {
        // Ends this prefix's Wine, the driver with it.
        let _ = Command::new(script("wine-end")).args(["--remove", &prefix()]).status();
        drop(self.peer.stdin.take());
        let ended = self.peer.wait();
        assert!(std::thread::panicking() || ended.is_ok_and(|code| code.success()), "the peer");
        let left = self.standin.join("port");
        assert!(std::thread::panicking() || !left.exists(), "{} stays", left.display());
    }
}

/// A Windows program that runs.
pub(crate) struct Program {
    child: Child,
    output: BufReader<ChildStdout>,
    said: String,
}

impl Program {
    /// Reads on until it says this.
    #[expect(clippy::disallowed_methods, reason = "a test has patience, but not for ever")]
    pub(crate) fn wait_for(&mut self, words: &str) {
        let begin = Instant::now();
        while !self.said.contains(words) {
            let got = self.output.read_line(&mut self.said).expect("text");
            assert!(got > 0 && begin.elapsed() < PATIENCE, "{words} never came: {}", self.said);
        }
    }

    /// What it reads.
    pub(crate) fn input(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("its input")
    }

    /// Kills it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("to kill it");
        self.child.wait().expect("its end");
    }

    /// Ends its input and waits for it; returns all it said.
    pub(crate) fn end(mut self) -> String {
        drop(self.child.stdin.take());
        self.output.read_to_string(&mut self.said).expect("text");
        self.child.wait().expect("its end");
        std::mem::take(&mut self.said)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The folder with driver, DLL and programs. Always the same: a Wine that was
/// killed remembers where its driver was.
fn built(rig: &Path) -> PathBuf {
    static BUILT: Once = Once::new();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("windows-rig");
    BUILT.call_once(|| {
        let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("../driver/build.sh");
        run(&format!("{} {}", build.display(), folder.display()));
        let dll = "WinDivert.dll";
        fs::copy(rig.join("windivert").join(dll), folder.join(dll)).expect("the DLL");
    });
    folder
}

fn rig() -> PathBuf {
    std::env::var_os("SESSIONIP_RIG")
        .map_or_else(|| "/var/cache/sessionip-rig".into(), PathBuf::from)
}

/// Inside Wine's folder. One that stayed would remember where its driver was.
fn prefix() -> String {
    format!("/w/rig{}", std::process::id())
}

/// A program under Wine, not yet started.
fn wine(folder: &Path, program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(script("wine"));
    command.arg(program).args(arguments).env("SESSIONIP_WINEPREFIX", prefix());
    command.current_dir(folder).process_group(0);
    command
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}
