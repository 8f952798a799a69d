//! What becomes of a program that the lab started?

use super::{LabError, wait};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// How long a program may take to end once it is asked to.
const GRACE: Duration = Duration::from_secs(10);

/// How often a program is tried that is being written to, every 10 ms.
const TRIES: usize = 200;

/// A program that was started; ended when dropped, together with its children.
#[derive(Debug)]
pub struct Running {
    /// How messages call it.
    name: String,
    child: Child,
    /// Unnamed files, not pipes: however much it says, it is never held up.
    stdout: File,
    stderr: File,
    ended: Option<ExitStatus>,
    disowned: bool,
}

impl Running {
    /// Starts `command` in the caller's network namespace, in a process group of
    /// its own, so that Ctrl-C reaches the lab alone and the lab ends the rest in
    /// order.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(name: impl Into<String>, command: &mut Command) -> Result<Self, LabError> {
        let name = name.into();
        let mut start = || -> io::Result<(Child, File, File)> {
            let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
            let_signals_through(command);
            command
                .stdin(Stdio::null())
                .stdout(stdout.try_clone()?)
                .stderr(stderr.try_clone()?)
                .process_group(0);
            Ok((spawn(command)?, stdout, stderr))
        };
        let (child, stdout, stderr) =
            start().map_err(|source| LabError::io(format!("starting {name}"), source))?;
        Ok(Self { name, child, stdout, stderr, ended: None, disowned: false })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to its standard output so far.
    pub fn said(&self) -> String {
        contents(&self.stdout)
    }

    /// What it has written to its standard error so far.
    pub fn complained(&self) -> String {
        contents(&self.stderr)
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, LabError> {
        if self.ended.is_none() {
            let ended = self.child.try_wait();
            self.ended = ended
                .map_err(|source| LabError::io(format!("waiting for {}", self.name), source))?;
        }
        Ok(self.ended)
    }

    /// Waits for its end and gives what it wrote to its standard output.
    ///
    /// # Errors
    /// It failed, or did not end within the limit.
    pub fn finish(mut self, limit: Duration) -> Result<String, LabError> {
        let name = self.name.clone();
        let status = wait::until(&name, limit, || self.ended())?;
        if status.success() { Ok(self.said()) } else { Err(self.failure()) }
    }

    /// The error that tells what it complained of.
    pub fn failure(&self) -> LabError {
        let complaint = self.complained();
        let said = if complaint.trim().is_empty() { self.said() } else { complaint };
        let lines: Vec<_> = said.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n");
        let status = match self.ended {
            Some(status) => status.to_string(),
            None => "still running".to_owned(),
        };
        LabError::Failed { command: self.name.clone(), status, said: last }
    }

    /// Asks it to end, and ends it after a while if it does not; says whether it
    /// went by itself.
    pub fn end(&mut self) -> bool {
        let group = i32::try_from(self.pid()).map(Pid::from_raw);
        let (Ok(group), Ok(None)) = (group, self.ended()) else { return true };
        let began = wait::now();
        // A process that is gone already is what was wanted.
        let _ = killpg(group, Signal::SIGTERM);
        while began.elapsed() < GRACE {
            if !matches!(self.ended(), Ok(None)) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = killpg(group, Signal::SIGKILL);
        self.ended = self.child.wait().ok();
        false
    }

    /// Lets it run on when this is dropped.
    pub fn disown(&mut self) {
        self.disowned = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.disowned {
            self.end();
        }
    }
}

/// A program that was copied a moment ago is busy (`ETXTBSY`) while a process that
/// another thread forked meanwhile has the copy open, until it becomes a program too.
fn spawn(command: &mut Command) -> io::Result<Child> {
    for _ in 1..TRIES {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(10));
            }
            other => return other,
        }
    }
    command.spawn()
}

/// `std::process` hands on the mask of the thread that starts a program, and the
/// lab has signals blocked. Unblocked in the child alone: a thread of the lab that
/// let them through for a moment would have the lab ended by one, and nothing
/// removed.
#[expect(unsafe_code, reason = "std gives no other way into the child")]
fn let_signals_through(command: &mut Command) {
    // SAFETY: between fork and exec only what is async-signal-safe may be called;
    // this is pthread_sigmask(3) on a set that was made before.
    unsafe {
        let watched = wait::watched_signals();
        command.pre_exec(move || Ok(watched.thread_unblock()?));
    }
}

/// The command of these words; without any, one that fails to start.
pub fn command(words: &[impl AsRef<OsStr>]) -> Command {
    let mut words = words.iter();
    let mut command = Command::new(words.next().map_or(OsStr::new(""), AsRef::as_ref));
    command.args(words);
    command
}

/// Runs a program to its end and gives what it wrote.
///
/// # Errors
/// It cannot be started, failed, or did not end within the limit.
pub fn output(command: &mut Command, limit: Duration) -> Result<String, LabError> {
    Running::start(line(command), command)?.finish(limit)
}

/// The command as one would type it.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Reads from the beginning: the offset is shared with the program that writes.
fn contents(file: &File) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 << 10];
    while let Ok(n @ 1..) = file.read_at(&mut buffer, bytes.len() as u64) {
        bytes.extend(buffer.iter().take(n));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        command(&["sh", "-c", script])
    }

    #[test]
    fn a_failure_names_the_command_and_what_it_complained_of() {
        let error = output(&mut shell("echo no such luck >&2; exit 3"), GRACE).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("sh -c") && text.contains("no such luck"), "{text}");
        assert!(text.contains('3'), "{text}");
    }

    #[test]
    fn more_output_than_a_pipe_holds_is_read_whole() {
        let said = output(&mut shell("head -c 300000 /dev/zero | tr '\\0' x"), GRACE).unwrap();
        assert_eq!(said.len(), 300_000);
    }

    #[test]
    fn a_program_that_is_being_written_to_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("true");
        std::fs::copy("/bin/true", &program).unwrap();
        let writing = File::options().append(true).open(&program).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(100));
                drop(writing);
            });
            output(&mut command(&[&program]), GRACE).unwrap();
        });
    }

    #[test]
    fn ending_a_program_ends_its_children() {
        let mut running = Running::start("sleepers", &mut shell("sleep 60 & wait")).unwrap();
        let group = Pid::from_raw(running.pid() as i32);
        assert!(running.end());
        let gone = wait::until("the children's end", GRACE, || {
            Ok(killpg(group, None).is_err().then_some(()))
        });
        assert!(gone.is_ok());
    }
}
