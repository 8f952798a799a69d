//! How does the hook get into programs that run?

use super::LoadError;
use crate::companion::Unhooked;
use crate::session::SessionId;
use sessionip_hook::decide::Program;
use sessionip_hook::refusal::Refusal;
use sessionip_hook::section::{Content, Pattern, Runs, file_name, fold};
use sessionip_hook::windows::helper::{self, Errand, Helped, is_for_helper};
use sessionip_hook::windows::inject::{ACCESS, inject, is_protected};
use sessionip_hook::windows::mark::{self, Offset};
use sessionip_hook::windows::process::{self, Listed};
use sessionip_hook::windows::runs;
use std::collections::HashMap;
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::{AsHandle, BorrowedHandle, OwnedHandle};
use std::path::Path;
use std::time::{Duration, Instant};
use windows_sys::Win32::Foundation::ERROR_INVALID_PARAMETER;
use windows_sys::Win32::System::Threading::{
    PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_SYNCHRONIZE,
};

/// How long one process may take to load the hook.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long one that was made for it, and that somebody waits for.
const PATIENCE_WITH_OURS: Duration = Duration::from_secs(5);
/// How long a sweep may take: the next one goes on where it ended.
const SWEEP: Duration = Duration::from_secs(3);
/// What the system runs by itself.
const PROGRAMS: [&str; 3] = [".exe", ".com", ".scr"];
/// How far up an ancestor is looked for.
const ANCESTORS: usize = 64;

/// What came of an injection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injected {
    /// It has the hook from now on.
    Hooked,
    /// It had it before.
    AlreadyHooked,
    /// Its program is excepted: nothing of ours touches it.
    Excepted,
    /// It runs on without.
    Refused(Refusal),
}

/// The DLL, and who has been looked at.
#[derive(Debug)]
pub(super) struct Injector {
    /// The path, with a zero at the end.
    dll: Vec<u16>,
    /// Where it lies, with all for 32-bit programs beside it.
    folder: Vec<u16>,
    offset: Offset,
    /// By number; the beginning tells a number that was used again.
    seen: HashMap<u32, Seen>,
}

#[derive(Debug)]
struct Seen {
    made: u64,
    session: u32,
    runs: Runs,
    done: Injected,
}

impl Injector {
    pub(super) fn new(dll: &Path) -> Result<Self, LoadError> {
        if !dll.is_file() {
            return Err(LoadError::NoDll { path: dll.to_owned() });
        }
        let path: Vec<u16> = dll.as_os_str().encode_wide().chain([0]).collect();
        let offset =
            Offset::of(&path).ok_or_else(|| LoadError::OtherDll { path: dll.to_owned() })?;
        if let Err(error) = process::debug_privilege() {
            tracing::debug!(%error, "other users' programs may be out of the hook's reach");
        }
        let folder = dll.parent().unwrap_or(Path::new("")).as_os_str().encode_wide().collect();
        Ok(Self { dll: path, folder, offset, seen: HashMap::new() })
    }

    /// Other lists: whoever was left alone is looked at again, and who descends
    /// from whom.
    pub(super) fn begin_anew(&mut self) {
        self.seen.clear();
    }

    pub(super) fn forget(&mut self, session: u32) {
        self.seen.retain(|_, seen| seen.session != session);
    }

    pub(super) fn inject(&mut self, pid: u32, content: &Content) -> Injected {
        let all = process::all().unwrap_or_default();
        let Ok(process) = open(pid) else { return Injected::Refused(self.why_closed(pid)) };
        self.attach(pid, process.as_handle(), &Descent::new(&all, content), content, PATIENCE)
    }

    /// All processes of these sessions that were not looked at before.
    pub(super) fn sweep(&mut self, sessions: &[u32], content: &Content) -> Vec<(u32, Injected)> {
        let all = process::all().unwrap_or_else(|error| {
            tracing::debug!(%error, "processes cannot be listed");
            Vec::new()
        });
        self.seen.retain(|pid, _| all.iter().any(|listed| listed.pid == *pid));
        let descent = Descent::new(&all, content);
        let until = now() + SWEEP;
        let mut done = Vec::new();
        for Listed { pid, .. } in &all {
            if now() >= until {
                tracing::debug!("programs are slow to take the hook: the rest gets it later");
                break;
            }
            let Some(session) = process::session_of(*pid) else { continue };
            if sessions.contains(&session) && *pid != std::process::id() {
                done.extend(self.look_at(*pid, session, &descent, content).map(|it| (*pid, it)));
            }
        }
        done
    }

    /// `None`: it has been looked at before.
    fn look_at(
        &mut self,
        pid: u32,
        session: u32,
        descent: &Descent<'_>,
        content: &Content,
    ) -> Option<Injected> {
        let looked_at = |seen: &Seen, made| seen.made == made && seen.session == session;
        // Also of one that lets nobody near it so much is told.
        let near = process::open(pid, PROCESS_QUERY_LIMITED_INFORMATION).ok();
        let near = near.as_ref().map(AsHandle::as_handle);
        let made = near.and_then(process::made_at).unwrap_or_default();
        if self.seen.get(&pid).is_some_and(|seen| looked_at(seen, made)) {
            return None;
        }
        let done = match open(pid) {
            Ok(process) => self.attach(pid, process.as_handle(), descent, content, PATIENCE),
            Err(_) => Injected::Refused(self.why_closed(pid)),
        };
        let runs = near.map(|process| runs_of(pid, process, content)).unwrap_or_default();
        self.seen.insert(pid, Seen { made, session, runs, done });
        Some(done)
    }

    fn attach(
        &self,
        pid: u32,
        process: BorrowedHandle<'_>,
        descent: &Descent<'_>,
        content: &Content,
        patience: Duration,
    ) -> Injected {
        if listing(content, &runs_of(pid, process, content)).excepted {
            return Injected::Excepted;
        }
        if is_for_helper(process) {
            return self.send_helper(pid, process, descent, content, patience);
        }
        let (base, done) = match mark::base_in(process) {
            Some(base) => (base, Injected::AlreadyHooked),
            None => match inject(process, &self.dll, patience) {
                Ok(base) => (base, Injected::Hooked),
                Err(refusal) => return Injected::Refused(refusal),
            },
        };
        // One whose ancestors have gone may have been told by its parent's hook.
        if descent.is_of_listed(pid) && !mark::tell(process, base, self.offset, content.lists) {
            tracing::debug!(pid, "the hook in this process is another edition");
        }
        done
    }

    /// A 32-bit program. Whether it has the hook, and whether it knows of whom it
    /// descends, only the helper can see.
    fn send_helper(
        &self,
        pid: u32,
        process: BorrowedHandle<'_>,
        descent: &Descent<'_>,
        content: &Content,
        patience: Duration,
    ) -> Injected {
        // This alone can be seen before.
        if is_protected(process) {
            return Injected::Refused(Refusal::Protected);
        }
        let lists = if descent.is_of_listed(pid) { content.lists } else { 0 };
        let errand = Errand { pid, lists, wait: patience };
        match helper::send(&self.folder, &errand, &helper::make) {
            Ok(Helped::Hooked) => Injected::Hooked,
            Ok(Helped::AlreadyHooked) => Injected::AlreadyHooked,
            Err(refusal) => Injected::Refused(refusal),
        }
    }

    /// Gets the hook into a process that was just made for a session.
    pub(super) fn adopt(&self, process: BorrowedHandle<'_>, content: &Content) -> Injected {
        let nobody = Descent { parents: HashMap::new(), content };
        self.attach(process::number_of(process), process, &nobody, content, PATIENCE_WITH_OURS)
    }

    /// Why a process cannot be opened.
    fn why_closed(&self, pid: u32) -> Refusal {
        match process::open(pid, PROCESS_QUERY_LIMITED_INFORMATION) {
            Ok(process) if is_protected(process.as_handle()) => Refusal::Protected,
            Err(error) if code(&error) == Some(ERROR_INVALID_PARAMETER) => Refusal::Gone,
            Ok(_) | Err(_) => Refusal::AccessDenied,
        }
    }

    /// The listed ones that run without.
    pub(super) fn unhooked(&self, content: &Content) -> Vec<Unhooked> {
        let mut unhooked: Vec<_> = self
            .seen
            .iter()
            .filter_map(|(pid, seen)| {
                let Injected::Refused(refusal) = seen.done else { return None };
                let program = listing(content, &seen.runs);
                let there = refusal != Refusal::Gone && process::is_there(*pid);
                (there && program.listed && !program.excepted).then(|| Unhooked {
                    session: SessionId(seen.session),
                    pid: *pid,
                    program: seen.program(),
                    refusal,
                })
            })
            .collect();
        unhooked.sort_by_key(|it| (it.session, it.pid));
        unhooked
    }
}

fn open(pid: u32) -> io::Result<OwnedHandle> {
    process::open(pid, ACCESS)
}

fn code(error: &io::Error) -> Option<u32> {
    error.raw_os_error().map(i32::cast_unsigned)
}

#[expect(clippy::disallowed_methods, reason = "a sweep is bounded by the time it takes")]
fn now() -> Instant {
    Instant::now()
}

impl Seen {
    /// The path of its program.
    fn program(&self) -> String {
        String::from_utf16_lossy(&self.runs.program)
    }
}

/// What a process runs, as far as the lists ask for it: its memory is read for
/// nothing but a script.
fn runs_of(pid: u32, process: BorrowedHandle<'_>, content: &Content) -> Runs {
    let path = process::path_of(process).unwrap_or_default();
    let path = String::from_utf16_lossy(&path);
    if content.programs.iter().any(may_be_script) {
        runs::soon_of(pid, &path)
    } else {
        runs::runs(&path, None)
    }
}

/// No interpreter is given a file of the system's own kinds.
fn may_be_script(pattern: &Pattern) -> bool {
    let ends = |extension: &str| {
        let extension: Vec<u16> = extension.encode_utf16().collect();
        pattern.text.ends_with(&fold(&extension))
    };
    !PROGRAMS.into_iter().any(ends)
}

/// What the lists say of a process that runs this.
fn listing(content: &Content, runs: &Runs) -> Program {
    let mut program = Program {
        listed: content.all_listed,
        excepted: content.all_excepted,
        ..Program::default()
    };
    for path in std::iter::once(&runs.program).chain(&runs.script) {
        for pattern in &content.programs {
            let own = if pattern.is_path { path } else { file_name(path) };
            if pattern.text == own {
                program.listed |= pattern.listed;
                program.excepted |= pattern.excepted;
            }
        }
    }
    program
}

/// Who descends from a listed program, as far as ancestors are still there.
struct Descent<'a> {
    parents: HashMap<u32, u32>,
    content: &'a Content,
}

impl<'a> Descent<'a> {
    fn new(all: &[Listed], content: &'a Content) -> Self {
        let parents = all.iter().map(|listed| (listed.pid, listed.parent)).collect();
        Self { parents, content }
    }

    /// Does an ancestor run a listed program? One that is younger than its child
    /// is none: the number was used again.
    fn is_of_listed(&self, pid: u32) -> bool {
        if !self.content.flags.children {
            return false;
        }
        let look =
            |pid| process::open(pid, PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_SYNCHRONIZE);
        let Some(mut born) = look(pid).ok().and_then(|it| process::made_at(it.as_handle())) else {
            return false;
        };
        let mut child = pid;
        for _ in 0..ANCESTORS {
            let Some(parent) = self.parents.get(&child).copied() else { return false };
            let Ok(process) = look(parent) else { return false };
            let Some(made) = process::made_at(process.as_handle()) else { return false };
            if made > born {
                return false;
            }
            let program =
                listing(self.content, &runs_of(parent, process.as_handle(), self.content));
            if program.listed && !program.excepted {
                return true;
            }
            (child, born) = (parent, made);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn lists(entry: &str) -> Content {
        let text = fold(&entry.encode_utf16().collect::<Vec<_>>());
        let is_path = entry.contains('\\');
        let pattern = Pattern { text, is_path, listed: true, ..Pattern::default() };
        Content { programs: vec![pattern], ..Content::default() }
    }

    #[test]
    fn memory_is_read_only_where_a_list_may_name_a_script() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("wait.cmd");
        std::fs::write(&script, "@pause\r\n").unwrap();
        let mut child = Command::new("cmd.exe")
            .arg("/c")
            .arg(&script)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let knows = |entry| runs_of(child.id(), child.as_handle(), &lists(entry)).script.is_some();
        let known =
            ["crm.exe", r"C:\crm\Crm.EXE", "more.com", "wait.cmd", r"C:\crm\ledger"].map(knows);
        let unlisted = runs_of(child.id(), child.as_handle(), &Content::default()).script;
        drop(child.stdin.take());
        child.kill().ok();
        child.wait().unwrap();
        assert_eq!(known, [false, false, false, true, true]);
        assert_eq!(unlisted, None);
    }
}
