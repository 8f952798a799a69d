//! Which session and which program is a process of?
//!
//! A process is looked at when it does something with a socket, for a moment
//! later it may be gone. Its handle is kept: while it is open the system gives
//! its number to nobody else.

use super::clock::{Clock, file_time};
use crate::owner::table::{Holder, Moment};
use crate::owner::{Lineage, Owner, Program};
use crate::session::SessionId;
use sessionip_hook::windows::runs;
use std::collections::HashMap;
use std::fmt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::sync::Arc;
use std::time::Duration;
use windows_sys::Wdk::System::Threading::{NtQueryInformationProcess, ProcessBasicInformation};
use windows_sys::Win32::Foundation::{FILETIME, HANDLE, WAIT_TIMEOUT};
use windows_sys::Win32::System::RemoteDesktop::ProcessIdToSessionId;
use windows_sys::Win32::System::Threading::{
    GetProcessTimes, OpenProcess, PROCESS_NAME_WIN32, PROCESS_QUERY_LIMITED_INFORMATION,
    PROCESS_SYNCHRONIZE, QueryFullProcessImageNameW, WaitForSingleObject,
};

/// How many processes are remembered, more than a session host runs.
const LIMIT: usize = 8192;
/// How far up is looked for a listed ancestor.
const ANCESTORS: usize = 64;
/// The time of day and the performance counter are not read in the same instant.
const PRECISION: Duration = Duration::from_millis(20);
/// The longest path there is, in UTF-16.
const LONGEST_PATH: usize = 32_768;
/// The kernel's own process, and what idles.
const KERNEL: [u32; 2] = [0, 4];

/// Is this session of the system a login that is given an address?
pub type IsLogin = Arc<dyn Fn(u32) -> bool + Send + Sync>;
/// The processes that have sockets, and their ancestors.
pub(super) struct Processes {
    clock: Clock,
    is_login: IsLogin,
    known: HashMap<u32, Process>,
    kernel: Arc<Program>,
    path: Vec<u16>,
}

struct Process {
    handle: OwnedHandle,
    /// `None`: before the clock was set back.
    since: Option<Moment>,
    station: u32,
    program: Arc<Program>,
    /// Its program, and its script.
    runs: Arc<[Program]>,
    lineage: Option<Arc<Lineage>>,
}

impl Processes {
    pub(super) fn new(clock: Clock, is_login: IsLogin) -> Self {
        let kernel = Arc::new(Program { path: "System".to_owned(), file: (0, 0) });
        let path = vec![0; LONGEST_PATH];
        Self { clock, is_login, known: HashMap::new(), kernel, path }
    }

    /// Who did something at that moment under that number. `None`: it is gone, and
    /// another process may have its number.
    pub(super) fn holder(&mut self, pid: u32, at: Moment) -> Option<Holder> {
        if KERNEL.contains(&pid) {
            let program = Arc::clone(&self.kernel);
            let owner =
                Owner { session: None, pid, program, marks: Default::default(), lineage: None };
            return Some(Holder { owner, station: 0 });
        }
        let process = self.process(pid, ANCESTORS)?;
        if process.since.is_some_and(|since| at.after(PRECISION) < since) {
            return None;
        }
        let (station, program) = (process.station, Arc::clone(&process.program));
        let lineage = process.lineage.clone();
        let owner = Owner {
            session: (self.is_login)(station).then_some(SessionId(station)),
            pid,
            program,
            marks: Default::default(),
            lineage,
        };
        Some(Holder { owner, station })
    }

    /// Forgets processes that have ended.
    pub(super) fn sweep(&mut self) {
        self.known.retain(|_, process| is_running(&process.handle));
    }

    /// `ancestors`: how many of them are looked at, at the most.
    fn process(&mut self, pid: u32, ancestors: usize) -> Option<&Process> {
        if !self.known.contains_key(&pid) {
            let process = self.look(pid, ancestors)?;
            if self.known.len() >= LIMIT {
                self.sweep();
                // They are found again when they are needed.
                if self.known.len() >= LIMIT {
                    self.known.clear();
                }
            }
            self.known.insert(pid, process);
        }
        self.known.get(&pid)
    }

    fn look(&mut self, pid: u32, ancestors: usize) -> Option<Process> {
        let handle = open(pid)?;
        let since = began(&handle).and_then(|time| self.clock.of_time(time));
        let station = station_of(pid)?;
        let path = self.path_of(&handle).unwrap_or_default();
        let script = runs::script_soon(pid, &path).map(|path| Program { path, file: (0, 0) });
        let program = Program { path, file: (0, 0) };
        let runs = std::iter::once(&program).chain(&script).cloned().collect();
        let parent = parent_of(&handle).filter(|parent| *parent != pid && ancestors > 0);
        let above = parent.and_then(|parent| self.ancestry(parent, since, ancestors - 1));
        let ancestors = above.unwrap_or_default();
        let is_plain = script.is_none() && ancestors.is_empty();
        Some(Process {
            handle,
            since,
            station,
            program: Arc::new(program),
            runs,
            lineage: (!is_plain).then(|| Arc::new(Lineage { script, ancestors })),
        })
    }

    /// A parent and what is above it. Its number may be another's by now: who
    /// began after his child is not its parent.
    fn ancestry(
        &mut self,
        parent: u32,
        child_since: Option<Moment>,
        ancestors: usize,
    ) -> Option<Vec<Arc<[Program]>>> {
        if KERNEL.contains(&parent) {
            return None;
        }
        let process = self.process(parent, ancestors)?;
        if let (Some(parent), Some(child)) = (process.since, child_since)
            && parent > child
        {
            return None;
        }
        let above = process.lineage.iter().flat_map(|lineage| &lineage.ancestors);
        Some(std::iter::once(&process.runs).chain(above).take(ANCESTORS).cloned().collect())
    }

    fn path_of(&mut self, process: &OwnedHandle) -> Option<String> {
        let mut length = u32::try_from(self.path.len()).ok()?;
        // SAFETY: the handle is open, and the buffer is as long as is said.
        #[expect(unsafe_code, reason = "a call into kernel32")]
        let told = unsafe {
            QueryFullProcessImageNameW(
                raw(process),
                PROCESS_NAME_WIN32,
                self.path.as_mut_ptr(),
                &raw mut length,
            )
        };
        let path = self.path.get(..usize::try_from(length).ok()?)?;
        (told != 0).then(|| String::from_utf16_lossy(path))
    }
}

impl fmt::Debug for Processes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Processes").field("known", &self.known.len()).finish_non_exhaustive()
    }
}

fn open(pid: u32) -> Option<OwnedHandle> {
    const ACCESS: u32 = PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_SYNCHRONIZE;
    // SAFETY: it takes numbers only. What it gives is a handle of ours alone, or
    // null.
    #[expect(unsafe_code, reason = "a call into kernel32")]
    unsafe {
        let handle = OpenProcess(ACCESS, 0, pid);
        (!handle.is_null()).then(|| OwnedHandle::from_raw_handle(handle))
    }
}

fn is_running(process: &OwnedHandle) -> bool {
    // SAFETY: the handle is open, and was opened to be waited for.
    #[expect(unsafe_code, reason = "a call into kernel32")]
    let state = unsafe { WaitForSingleObject(raw(process), 0) };
    state == WAIT_TIMEOUT
}

/// The time of day when a process began.
fn began(process: &OwnedHandle) -> Option<u64> {
    let [mut began, mut ended, mut kernel, mut user] = [FILETIME::default(); 4];
    // SAFETY: the handle is open, and four times are written.
    #[expect(unsafe_code, reason = "a call into kernel32")]
    let told = unsafe {
        GetProcessTimes(
            raw(process),
            &raw mut began,
            &raw mut ended,
            &raw mut kernel,
            &raw mut user,
        )
    };
    (told != 0).then(|| file_time(&began))
}

fn station_of(pid: u32) -> Option<u32> {
    let mut station = 0;
    // SAFETY: it writes one number.
    #[expect(unsafe_code, reason = "a call into kernel32")]
    let told = unsafe { ProcessIdToSessionId(pid, &raw mut station) };
    (told != 0).then_some(station)
}

/// Who started a process; that one may be gone, and its number another's.
fn parent_of(process: &OwnedHandle) -> Option<u32> {
    /// `PROCESS_BASIC_INFORMATION` as 64-bit Windows has it: six words, the last
    /// of which is the parent's number.
    type Basic = [usize; 6];
    const SIZE: u32 = size_of::<Basic>() as u32;
    let mut basic: Basic = [0; 6];
    // SAFETY: the handle is open, and as much is written as is said to be there.
    #[expect(unsafe_code, reason = "a call into ntdll")]
    let status = unsafe {
        NtQueryInformationProcess(
            raw(process),
            ProcessBasicInformation,
            (&raw mut basic).cast(),
            SIZE,
            std::ptr::null_mut(),
        )
    };
    let [.., parent] = basic;
    (status >= 0).then(|| u32::try_from(parent).ok()).flatten()
}

fn raw(handle: &OwnedHandle) -> HANDLE {
    handle.as_raw_handle()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn processes() -> Processes {
        Processes::new(Clock::new(), Arc::new(|station| station != 0))
    }

    #[test]
    fn this_process_is_known_with_its_program() {
        let clock = Clock::new();
        let mut processes = processes();
        let Holder { owner, station } = processes.holder(std::process::id(), clock.now()).unwrap();
        assert_eq!(owner.program.path, std::env::current_exe().unwrap().to_str().unwrap());
        assert_eq!(owner.session.map(|session| session.0), Some(station).filter(|it| *it != 0));
    }

    #[test]
    fn what_happened_before_a_process_began_is_not_its_doing() {
        let mut processes = processes();
        assert_eq!(processes.holder(std::process::id(), Moment(0)), None);
    }

    #[test]
    fn the_kernel_is_of_no_session() {
        let mut processes = processes();
        let holder = processes.holder(4, Moment(0)).unwrap();
        assert_eq!((holder.owner.session, holder.station), (None, 0));
        assert_eq!(holder.owner.program.path, "System");
    }

    #[test]
    fn a_child_is_known_as_one_until_it_ends_and_is_forgotten_after() {
        let this = std::env::current_exe().unwrap();
        let mut processes = processes();
        let mut child = Command::new("cmd.exe")
            .args(["/c", "pause"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let owner = processes.holder(child.id(), Clock::new().now()).unwrap().owner;
        let lineage = owner.lineage.expect("it has a parent");
        let parent = lineage.ancestors.first().unwrap();
        assert_eq!(parent.first().unwrap().path, this.to_str().unwrap());
        assert_eq!(crate::owner::one_spelling(owner.program.name()), "CMD.EXE");
        processes.sweep();
        assert!(processes.known.contains_key(&child.id()));
        drop(child.stdin.take());
        child.kill().ok();
        child.wait().unwrap();
        processes.sweep();
        assert!(!processes.known.contains_key(&child.id()));
    }
}
