//! Why does the companion not work?

use std::io;
use std::path::PathBuf;

/// Why the companion could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The process may not do this.
    #[error(
        "loading the companion hook needs root \
         (CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON)"
    )]
    NotRoot,
    /// There is no cgroup2 hierarchy at that path.
    #[error(
        "{path} is not the root of a cgroup2 hierarchy: boot with one \
         (systemd.unified_cgroup_hierarchy=1) or mount it (mount -t cgroup2 none {path})",
        path = path.display()
    )]
    NoCgroup2 {
        /// What was asked for.
        path: PathBuf,
    },
    /// The kernel does not describe its own types.
    #[error(
        "this kernel has no type information (/sys/kernel/btf/vmlinux): \
         install one that is built with CONFIG_DEBUG_INFO_BTF"
    )]
    NoBtf,
    /// The pin directory could not be prepared.
    #[error("cannot {action} {path}: bpffs is needed there (CONFIG_BPF_SYSCALL)", path = path.display())]
    Pins {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The maps could not be made, or the object does not fit this kernel.
    #[error("the companion hook's maps could not be created")]
    Object(#[source] Box<aya::EbpfError>),
    /// A program was refused by the kernel or could not be attached.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A map could not be taken over or written.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The network namespace has no cookie.
    #[error("the network namespace could not be identified (SO_NETNS_COOKIE, Linux 5.14)")]
    Namespace(#[source] io::Error),
}

/// A program of the hook did not get into the kernel.
#[derive(Debug, thiserror::Error)]
#[error("the hook's program {program} could not be {action}{excerpt}")]
pub struct ProgramError {
    /// Its name in the object.
    pub program: &'static str,
    /// What was tried, as a participle.
    pub action: &'static str,
    /// The end of what the kernel's verifier said, where it said something.
    pub excerpt: String,
    /// What the system said.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// A map of the hook could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the hook's map {table} could not be {action}")]
pub struct TableError {
    /// Its name in the object.
    pub table: &'static str,
    /// What was tried, as a participle.
    pub action: &'static str,
    /// What the system said; "Argument list too long" means that it is full.
    #[source]
    pub source: Box<aya::maps::MapError>,
}

/// Why a policy did not take effect, or not whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// A map.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A program that this policy needs.
    #[error(transparent)]
    Program(#[from] ProgramError),
}

/// Why sockets are not found again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// The kernel lists none.
    #[error("the kernel does not list its sockets")]
    List(#[from] io::Error),
    /// A map.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A program that marks them.
    #[error(transparent)]
    Program(#[from] ProgramError),
}

/// Why something of the companion is still there.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}", path = path.display())]
pub struct UnloadError {
    /// What was tried.
    pub action: &'static str,
    /// Where.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}
