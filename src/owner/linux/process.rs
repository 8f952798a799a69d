//! Which program does a process run, and which process holds a socket?

use crate::companion::executable;
use crate::owner::Program;
use crate::session::SessionId;
use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An executable file: (device, inode) as the kernel has them.
pub(super) type File = (u32, u64);

/// How many programs, and how many sockets, are remembered. At the limit all
/// are forgotten, which costs one more look each.
const LIMIT: usize = 65_536;

/// How many file descriptors one search on the packet line looks at, at about
/// a microsecond each.
const SEARCHED: usize = 4096;

/// How long a session is left alone after a search on the packet line.
const REST: Duration = Duration::from_millis(20);

/// The programs of processes, as seen when they were first asked for.
#[derive(Debug, Default)]
pub(super) struct Programs {
    known: HashMap<(u32, File), Arc<Program>>,
}

impl Programs {
    /// The program that `pid` ran when its socket was recorded with `file`. Its
    /// path, if the process still runs it; else the `name` that was recorded.
    pub(super) fn of(
        &mut self,
        pid: u32,
        file: File,
        name: impl FnOnce() -> Option<String>,
    ) -> Arc<Program> {
        if let Some(program) = self.known.get(&(pid, file)) {
            return Arc::clone(program);
        }
        if self.known.len() >= LIMIT {
            self.known.clear();
        }
        let path = match (running(pid), name()) {
            // On some file systems (overlayfs, btrfs) stat(2) numbers files
            // otherwise than the kernel does; the name tells then.
            (Some(now), name) if now.file == file || name.as_deref() == Some(now.name()) => {
                now.path
            }
            (_, name) => name.unwrap_or_default(),
        };
        let program = Arc::new(Program { path, file });
        self.known.insert((pid, file), Arc::clone(&program));
        program
    }
}

/// The program that a process runs now.
fn running(pid: u32) -> Option<Program> {
    let (path, file) = executable(pid)?;
    Some(Program { path: path.to_string_lossy().into_owned(), file })
}

/// A process that holds a socket open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) pid: u32,
    pub(super) program: Arc<Program>,
}

/// What is known of who holds a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Holder(Holder),
    /// No process of the session holds it.
    Nobody,
    /// The session was searched a moment ago: ask again.
    Later,
}

/// The sockets that nobody recorded when they were made (they are older than
/// this daemon), by the number of their file. Found in the file descriptors of
/// their session's processes, all sockets of a session in one search.
#[derive(Debug, Default)]
pub(super) struct Holders {
    known: HashMap<u32, Holder>,
    searched: HashMap<SessionId, Instant>,
}

impl Holders {
    /// Who holds `inode`, of a `session` that has these processes?
    pub(super) fn find(
        &mut self,
        now: Instant,
        session: SessionId,
        inode: u32,
        processes: impl FnOnce() -> Vec<u32>,
    ) -> Found {
        if let Some(holder) = self.known.get(&inode) {
            return Found::Holder(holder.clone());
        }
        let rests = |before: &Instant| now.saturating_duration_since(*before) < REST;
        if self.searched.get(&session).is_some_and(rests) {
            return Found::Later;
        }
        if self.searched.len() >= LIMIT {
            self.searched.clear();
        }
        self.searched.insert(session, now);
        if self.known.len() + SEARCHED > LIMIT {
            self.known.clear();
        }
        self.search(processes(), SEARCHED);
        self.known.get(&inode).cloned().map_or(Found::Nobody, Found::Holder)
    }

    /// Remembers all sockets of these processes, for the start of the daemon
    /// when no packet waits yet.
    pub(super) fn learn(&mut self, processes: Vec<u32>) {
        self.search(processes, usize::MAX);
    }

    fn search(&mut self, processes: Vec<u32>, limit: usize) {
        let mut seen = 0;
        for pid in processes {
            let mut holder = None;
            for inode in sockets(pid, &mut seen, limit) {
                if holder.is_none() {
                    holder = running(pid).map(|p| Holder { pid, program: Arc::new(p) });
                }
                // It is gone: its sockets are, or another process has them.
                let Some(holder) = &holder else { break };
                if self.known.len() >= LIMIT {
                    return;
                }
                // The first that holds it is nearest to whoever made it.
                self.known.entry(inode).or_insert_with(|| holder.clone());
            }
        }
    }
}

/// The sockets that a process holds, by inode; `seen` counts its descriptors
/// up to `limit`.
fn sockets(pid: u32, seen: &mut usize, limit: usize) -> Vec<u32> {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let left = limit.saturating_sub(*seen);
    let mut sockets = Vec::new();
    for descriptor in descriptors.flatten().take(left) {
        *seen += 1;
        let Ok(link) = fs::read_link(descriptor.path()) else { continue };
        sockets.extend(link.to_str().and_then(socket_inode));
    }
    sockets
}

/// `socket:[12345]`, as proc_pid_fd(5) names a socket.
fn socket_inode(link: &str) -> Option<u32> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;

    const ONE: SessionId = SessionId(1);

    fn inode_of(socket: &impl AsRawFd) -> u32 {
        let link = format!("/proc/self/fd/{}", socket.as_raw_fd());
        socket_inode(fs::read_link(link).unwrap().to_str().unwrap()).unwrap()
    }

    #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_running_program_has_its_path_and_file() {
        let pid = std::process::id();
        let program = running(pid).unwrap();
        assert_eq!(program.path, std::env::current_exe().unwrap().to_str().unwrap());
        let by_file = Programs::default().of(pid, program.file, || None);
        assert_eq!(*by_file, program);
    }

    #[test]
    fn a_process_that_runs_something_else_by_now_has_the_recorded_name() {
        let mut programs = Programs::default();
        let pid = std::process::id();
        let other = programs.of(pid, (1, 2), || Some("curl".into()));
        assert_eq!(*other, Program { path: "curl".into(), file: (1, 2) });
        let gone = programs.of(u32::MAX, (1, 2), || None);
        assert_eq!(*gone, Program { path: String::new(), file: (1, 2) });
        let asked_once = programs.of(pid, (1, 2), || panic!("it is known"));
        assert!(Arc::ptr_eq(&other, &asked_once));
    }

    #[test]
    fn a_file_numbered_otherwise_is_known_by_its_name() {
        let program = running(std::process::id()).unwrap();
        let name = program.name().to_owned();
        let by_name = Programs::default().of(std::process::id(), (1, 2), || Some(name));
        assert_eq!(by_name.path, program.path);
    }

    #[test]
    fn a_socket_is_found_among_descriptors() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let inode = inode_of(&socket);
        let mut holders = Holders::default();
        let Found::Holder(holder) = holders.find(now(), ONE, inode, || vec![std::process::id()])
        else {
            panic!("not found")
        };
        assert_eq!(holder.pid, std::process::id());
        let again = holders.find(now(), ONE, inode, || panic!("it is known"));
        assert_eq!(again, Found::Holder(holder));
    }

    #[test]
    fn a_session_is_searched_once_in_a_while() {
        let mut holders = Holders::default();
        let start = now();
        assert_eq!(holders.find(start, ONE, u32::MAX, Vec::new), Found::Nobody);
        assert_eq!(holders.find(start, ONE, u32::MAX, || panic!("it rests")), Found::Later);
        assert_eq!(holders.find(start, SessionId(2), u32::MAX, Vec::new), Found::Nobody);
        assert_eq!(holders.find(start + REST, ONE, u32::MAX, Vec::new), Found::Nobody);
    }

    #[test]
    fn only_sockets_have_inodes() {
        assert_eq!(socket_inode("socket:[42]"), Some(42));
        for link in ["socket:[]", "socket:[x]", "pipe:[42]", "/tmp/socket:[42]", "socket:[42"] {
            assert_eq!(socket_inode(link), None, "{link}");
        }
    }
}
