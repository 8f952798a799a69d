//! How do the programs get attached, swapped and detached?

use super::links;
use super::pins::Pins;
use crate::companion::{LoadError, ProgramError};
use aya::programs::links::FdLink;
use aya::programs::{
    CgroupAttachMode, CgroupSkbAttachType, Program, ProgramError as AyaError, TestRun as _,
    TestRunOptions,
};
use aya::{Btf, Ebpf};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use sessionip_hook::layout;
use std::collections::BTreeSet;
use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

/// Binds, targets and owners.
pub(super) const ALWAYS: &[&str] = &[
    "sock_create",
    "sock_release",
    "bind4",
    "bind6",
    "connect4",
    "connect6",
    "sendmsg4",
    "sendmsg6",
    "recvmsg4",
    "recvmsg6",
    "getpeername4",
    "getpeername6",
    "listens",
    "bound6",
    "find_dual",
    // Notes whose a ping is, and knows errors about one. They have no link: rules
    // of ours run them.
    "ping",
    "ping_error",
];
/// Run by [`Programs::find_dual`], [`Programs::mark`] and [`Programs::lead_to`], and
/// attached nowhere.
pub(super) const FINDERS: &[&str] = &["find_dual_udp", "mark_tcp", "lead_to_tcp"];
/// `isolation.sources`.
pub(super) const SOURCES: &[&str] = &["egress"];
/// `isolation.listeners`.
pub(super) const LISTENERS: &[&str] = &["ingress"];
/// `hook.scope = "connect"`: what getsockname tells.
pub(super) const NAMES: &[&str] = &["getsockname4", "getsockname6"];
/// `loopback.enabled` and `isolation.loopback`.
pub(super) const LOOPBACK: &[&str] = &["egress_loopback"];
/// `virtual-ip.children`, and scripts. The exit goes first, so that no mark is
/// left behind.
pub(super) const LINEAGE: &[&str] = &["process_exit", "process_fork", "process_exec"];
/// Scripts that a list names.
pub(super) const SCRIPTS: &[&str] = &["script_exec"];

/// Where the kernel describes its own types.
pub(super) const TYPES: &str = "/sys/kernel/btf/vmlinux";

/// The tracepoint that a program of [`LINEAGE`] or [`SCRIPTS`] is for.
fn tracepoint(program: &str) -> String {
    format!("sched_{}", program.replace("script_", "process_"))
}

/// The root of the cgroup2 hierarchy, to attach to.
pub(super) fn open_cgroup_root(path: &Path) -> Result<File, LoadError> {
    let missing = || LoadError::NoCgroup2 { path: path.to_owned() };
    let filesystem = statfs(path).map_err(|_| missing())?;
    if filesystem.filesystem_type() != CGROUP2_SUPER_MAGIC {
        return Err(missing());
    }
    File::open(path).map_err(|_| missing())
}

/// The programs of the loaded object.
#[derive(Debug)]
pub(super) struct Programs {
    ebpf: Ebpf,
    cgroup: File,
    verified: BTreeSet<&'static str>,
    attached: BTreeSet<&'static str>,
}

impl Programs {
    pub(super) fn new(ebpf: Ebpf, cgroup: File) -> Self {
        Self { ebpf, cgroup, verified: BTreeSet::new(), attached: BTreeSet::new() }
    }

    /// Has the kernel check and compile the group, which changes nothing yet.
    pub(super) fn verify(&mut self, group: &'static [&'static str]) -> Result<(), ProgramError> {
        for name in group {
            if self.verified.contains(name) {
                continue;
            }
            let program = program(&mut self.ebpf, name).map_err(failed(name, "loaded"))?;
            let mut loaded = load(program, name);
            for _ in 1..ATTEMPTS {
                if !matches!(&loaded, Err(error) if is_interrupted(error)) {
                    break;
                }
                loaded = load(program, name);
            }
            loaded.map_err(failed(name, "loaded"))?;
            self.verified.insert(name);
        }
        Ok(())
    }

    /// Attaches a verified group. Where a daemon before left a link, its program
    /// is swapped in place: there is no moment without one, nor with two.
    pub(super) fn attach(
        &mut self,
        group: &'static [&'static str],
        pins: &Pins,
    ) -> Result<(), ProgramError> {
        for name in group {
            if self.attached.contains(name) {
                continue;
            }
            let path = pins.link(name);
            let program = program(&mut self.ebpf, name).map_err(failed(name, "attached"))?;
            if let Program::SocketFilter(program) = program {
                let path = pins.program(name);
                remove_pin(&path).map_err(failed(name, "pinned"))?;
                program.pin(&path).map_err(failed(name, "pinned"))?;
                self.attached.insert(name);
                continue;
            }
            let fd = program.fd().map_err(failed(name, "attached"))?;
            if links::update(&path, fd.as_fd()).is_err() {
                // There is no link, or a tracepoint's, which keeps its program:
                // then the new one is there before the old one goes.
                let link = attach(program, &self.cgroup).map_err(failed(name, "attached"))?;
                remove_pin(&path).map_err(failed(name, "pinned"))?;
                link.pin(&path).map_err(failed(name, "pinned"))?;
            }
            self.attached.insert(name);
        }
        Ok(())
    }

    /// Has every UDP socket of this network namespace looked at that may have to be
    /// found by IPv6 as well.
    pub(super) fn find_dual(&mut self) -> Result<(), ProgramError> {
        self.iterate("find_dual_udp")
    }

    /// Has the sockets of TO_MARK marked, and those of UDP that are dual-stack found by
    /// IPv6 again.
    pub(super) fn mark(&mut self) -> Result<(), ProgramError> {
        self.iterate("mark_tcp")?;
        self.iterate("find_dual_udp")
    }

    /// Has these dual-stack listeners, which are [marked](Self::mark), found by IPv6
    /// again.
    pub(super) fn lead_to(&mut self, listeners: &[layout::Place]) -> Result<(), ProgramError> {
        for place in listeners {
            self.lead(place).map_err(failed("lead_to_tcp", "run"))?;
        }
        Ok(())
    }

    fn iterate(&mut self, name: &'static str) -> Result<(), ProgramError> {
        let run = |ebpf: &mut Ebpf| -> Result<(), Box<dyn Error + Send + Sync>> {
            let Program::Iter(program) = program(ebpf, name)? else {
                return Err(AyaError::UnexpectedProgramType.into());
            };
            let id = program.attach()?;
            let mut sockets = program.take_link(id)?.into_file()?;
            // It prints nothing: reading is what runs it.
            io::copy(&mut sockets, &mut io::sink())?;
            Ok(())
        };
        run(&mut self.ebpf).map_err(failed(name, "run"))
    }

    fn lead(&mut self, to: &layout::Place) -> Result<(), AyaError> {
        let Program::SchedClassifier(program) = program(&mut self.ebpf, "lead_to_tcp")? else {
            return Err(AyaError::UnexpectedProgramType);
        };
        // A frame without sender, receiver and type, and what the program reads.
        let [a, b] = to.port.to_ne_bytes();
        let [c, d] = to.protocol.to_ne_bytes();
        let frame = [&[0; 14], to.address.0.as_slice(), &[a, b, c, d]].concat();
        program.test_run(TestRunOptions { data_in: Some(&frame), ..TestRunOptions::new() })?;
        Ok(())
    }

    /// Detaches a group, also if it was a daemon before that attached it.
    pub(super) fn detach(
        &mut self,
        group: &'static [&'static str],
        pins: &Pins,
    ) -> Result<(), ProgramError> {
        for name in group {
            let path = pins.link(name);
            // Of a kind that goes with its pin only, or not there: fine.
            let _ = links::detach(&path);
            remove_pin(&path).map_err(failed(name, "detached"))?;
            self.attached.remove(name);
        }
        Ok(())
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program, AyaError> {
    ebpf.program_mut(name).ok_or(AyaError::NotLoaded)
}

/// A signal that arrives while the verifier runs makes it give up.
const ATTEMPTS: usize = 10;

fn is_interrupted(error: &AyaError) -> bool {
    matches!(error, AyaError::LoadError { io_error, .. }
        if io_error.kind() == io::ErrorKind::WouldBlock)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the object has nine of aya's many kinds")]
fn load(program: &mut Program, name: &str) -> Result<(), AyaError> {
    match program {
        Program::CgroupSockAddr(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        Program::CgroupSkb(program) => program.load(),
        Program::SocketFilter(program) => program.load(),
        Program::SockOps(program) => program.load(),
        Program::SkLookup(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        Program::Iter(program) => {
            let protocol = if name == "mark_tcp" { "tcp" } else { "udp" };
            program.load(protocol, &Btf::from_sys_fs()?)
        }
        Program::BtfTracePoint(program) => program.load(&tracepoint(name), &Btf::from_sys_fs()?),
        _ => Err(AyaError::UnexpectedProgramType),
    }
}

fn remove_pin(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Links to cgroups always allow several programs in one place: other tools'
/// run beside ours.
#[expect(clippy::wildcard_enum_match_arm, reason = "the object has nine of aya's many kinds")]
fn attach(program: &mut Program, cgroup: &File) -> Result<FdLink, Box<dyn Error + Send + Sync>> {
    const MODE: CgroupAttachMode = CgroupAttachMode::Single;
    match program {
        Program::CgroupSockAddr(program) => {
            let id = program.attach(cgroup, MODE)?;
            Ok(program.take_link(id)?.try_into()?)
        }
        Program::CgroupSock(program) => {
            let id = program.attach(cgroup, MODE)?;
            Ok(program.take_link(id)?.try_into()?)
        }
        Program::CgroupSkb(program) => {
            let direction = match program.expected_attach_type() {
                Some(CgroupSkbAttachType::Ingress) => CgroupSkbAttachType::Ingress,
                Some(CgroupSkbAttachType::Egress) | None => CgroupSkbAttachType::Egress,
            };
            let id = program.attach(cgroup, direction, MODE)?;
            Ok(program.take_link(id)?.try_into()?)
        }
        Program::SockOps(program) => {
            let id = program.attach(cgroup, MODE)?;
            Ok(program.take_link(id)?.try_into()?)
        }
        Program::SkLookup(program) => {
            // The network namespace of the calling thread.
            let id = program.attach(File::open("/proc/thread-self/ns/net")?)?;
            Ok(program.take_link(id)?.into())
        }
        Program::BtfTracePoint(program) => {
            let id = program.attach()?;
            Ok(program.take_link(id)?.into())
        }
        _ => Err(AyaError::UnexpectedProgramType.into()),
    }
}

/// How many lines of the verifier's log go into an error: its end says why.
const EXCERPT: usize = 12;

fn failed<E: Into<Box<dyn Error + Send + Sync>>>(
    program: &'static str,
    action: &'static str,
) -> impl FnOnce(E) -> ProgramError {
    move |source| {
        let source = source.into();
        ProgramError { program, action, excerpt: excerpt(&*source), source }
    }
}

fn excerpt(source: &(dyn Error + Send + Sync + 'static)) -> String {
    let Some(AyaError::LoadError { verifier_log, .. }) = source.downcast_ref() else {
        return String::new();
    };
    let log = verifier_log.to_string();
    let lines: Vec<_> = log.lines().filter(|line| !line.is_empty()).collect();
    let end = lines.get(lines.len().saturating_sub(EXCERPT)..).unwrap_or_default();
    format!("; the kernel's verifier: {}", end.join(" / "))
}
