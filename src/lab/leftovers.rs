//! Is anything left? Rules, routes, addresses, eBPF, cgroups, processes, files.

use super::network::{Namespace, Network};
use super::{LabError, process, wait};
use crate::session::linux::close_scope;
use aya::programs::{loaded_links, loaded_programs};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the kernel may take to free what was let go of: eBPF programs and
/// namespaces go in the background.
const PATIENCE: Duration = Duration::from_secs(10);

/// What lists the rules, routes and addresses of a network namespace. An
/// `ip6tables` that is missing has no rules.
const LISTS: [&[&str]; 7] = [
    &["iptables-save"],
    &["ip6tables-save"],
    &["ip", "-4", "rule", "show"],
    &["ip", "-6", "rule", "show"],
    &["ip", "-4", "route", "show", "table", "all"],
    &["ip", "-6", "route", "show", "table", "all"],
    &["ip", "-oneline", "address", "show"],
];

/// Rules, routes and addresses of a network namespace, one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables(BTreeSet<String>);

impl Tables {
    /// Of `namespace`, or of the lab's own surroundings.
    ///
    /// # Errors
    /// `ip` or `iptables` fails.
    pub fn read(namespace: Option<&Namespace>) -> Result<Self, LabError> {
        let mut lines = BTreeSet::new();
        for words in LISTS {
            let mut command = process::command(words);
            let listed = match namespace {
                Some(namespace) => namespace.output(&mut command),
                None => process::output(&mut command, PATIENCE),
            };
            let listed = match listed {
                Err(LabError::Io { .. }) if words == ["ip6tables-save"] => continue,
                other => other?,
            };
            lines.extend(listed.lines().filter_map(|line| lasting(words, line)));
        }
        Ok(Self(lines))
    }

    /// What is there now and was not then, or the other way round.
    pub fn since(&self, before: &Self) -> Vec<String> {
        let more = self.0.difference(&before.0).map(|line| format!("new: {line}"));
        more.chain(before.0.difference(&self.0).map(|line| format!("gone: {line}"))).collect()
    }
}

/// The part of a line that does not change by itself.
fn lasting(words: &[&str], line: &str) -> Option<String> {
    let command = words.join(" ");
    if command.ends_with("tables-save") {
        // Empty built-in chains appear with their table and stay; counters run.
        let kept = line.starts_with("-A") || (line.starts_with(':') && line.contains(" - "));
        let line = line.split(" [").next().unwrap_or(line);
        return kept.then(|| format!("{command}: {line}"));
    }
    // `valid_lft 86021sec`, `expires 1790sec`: lifetimes run down.
    let mut lasting = Vec::new();
    for word in line.split_ascii_whitespace() {
        let ticking = word.strip_suffix("sec").is_some_and(|n| n.parse::<u64>().is_ok());
        lasting.push(if ticking { "…" } else { word });
    }
    (!lasting.is_empty()).then(|| format!("{command}: {}", lasting.join(" ")))
}

/// What of a running daemon could outlive it.
#[derive(Debug)]
pub struct Trace {
    host: Tables,
    /// By which its cgroups and processes are told from anybody else's.
    namespaces: BTreeSet<u64>,
    cgroup: PathBuf,
    directory: PathBuf,
    bpf: Bpf,
}

impl Trace {
    /// Before the daemon starts.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn begin(network: &Network, directory: &Path) -> Result<Self, LabError> {
        let host = network.host.inode()?;
        let cgroup = cgroup_of(host)?;
        // The namespace is new: a folder of its number is a dead one's, whose
        // daemon was killed.
        close_scope(&cgroup)
            .map_err(|error| LabError::io("an old cgroup", io::Error::other(error)))?;
        Ok(Self {
            host: Tables::read(Some(&network.host))?,
            namespaces: BTreeSet::from([host, network.client.inode()?]),
            cgroup,
            directory: directory.to_owned(),
            bpf: Bpf::default(),
        })
    }

    /// While the daemon runs: which eBPF is its?
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn watch(&mut self, daemon: u32) -> Result<(), LabError> {
        self.bpf = Bpf::of(daemon)?;
        Ok(())
    }

    /// Once the daemon and the sessions have ended, the network still there:
    /// what is left of them, as sentences, after some patience; and how much
    /// eBPF was looked for.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn left(&self, network: &Network) -> Result<Vec<String>, LabError> {
        patiently(|| {
            let mut left = Tables::read(Some(&network.host))?.since(&self.host);
            left.extend(self.bpf.still_loaded()?);
            if self.cgroup.exists() {
                left.push(format!("cgroup {}", self.cgroup.display()));
            }
            left.extend(processes(&self.namespaces));
            let control = self.directory.join("control");
            for entry in fs::read_dir(&control).into_iter().flatten().flatten() {
                left.push(format!("file {}", entry.path().display()));
            }
            let mounts = fs::read_to_string("/proc/self/mountinfo");
            let mounts = mounts.map_err(|source| LabError::io("mountinfo", source))?;
            let ours = self.directory.display().to_string();
            left.extend(mounts.lines().filter(|m| m.contains(&ours)).map(|m| format!("mount {m}")));
            Ok(left)
        })
    }

    /// How many eBPF programs and links the daemon had.
    pub fn bpf(&self) -> (usize, usize) {
        (self.bpf.programs.len(), self.bpf.links.len())
    }
}

/// The lab's surroundings: what it must not change.
#[derive(Debug)]
pub struct Surroundings(Tables, BTreeSet<PathBuf>);

/// Where a daemon keeps its things unless told otherwise.
const DEFAULT_PLACES: [&str; 2] = ["/run/sessionip", "/var/lib/sessionip"];

impl Surroundings {
    /// As they are now.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn look() -> Result<Self, LabError> {
        let places = DEFAULT_PLACES.iter().map(PathBuf::from).filter(|place| place.exists());
        Ok(Self(Tables::read(None)?, places.collect()))
    }

    /// Once everything has been removed: what is different, after some patience.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn changed(&self, network: &str, directory: &Path) -> Result<Vec<String>, LabError> {
        patiently(|| {
            let now = Self::look()?;
            let mut changed = now.0.since(&self.0);
            changed
                .extend(now.1.difference(&self.1).map(|place| format!("file {}", place.display())));
            for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with(network) {
                    changed.push(format!("namespace {}", entry.path().display()));
                }
            }
            if directory.exists() {
                changed.push(format!("file {}", directory.display()));
            }
            Ok(changed)
        })
    }
}

/// Looks until nothing is left, or the patience is over.
fn patiently(
    mut look: impl FnMut() -> Result<Vec<String>, LabError>,
) -> Result<Vec<String>, LabError> {
    let mut left = Vec::new();
    let gone = wait::until("the end of everything", PATIENCE, || {
        left = look()?;
        Ok(left.is_empty().then_some(()))
    });
    match gone {
        Ok(()) | Err(LabError::Slow { .. }) => Ok(left),
        Err(other) => Err(other),
    }
}

/// eBPF objects by the kernel's numbers: names may be anybody's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Bpf {
    programs: BTreeSet<u32>,
    links: BTreeSet<u32>,
}

impl Bpf {
    /// Those that process `pid` holds open, and the links of its programs, which
    /// may be pinned and closed (proc(5), `fdinfo`).
    fn of(pid: u32) -> Result<Self, LabError> {
        let mut held = Self::default();
        let folder = format!("/proc/{pid}/fdinfo");
        let entries = fs::read_dir(&folder).map_err(|source| LabError::io(folder, source))?;
        for entry in entries.flatten() {
            // A descriptor may be closed between the listing and the reading.
            let info = fs::read_to_string(entry.path()).unwrap_or_default();
            held.programs.extend(numbers(&info, "prog_id:"));
            held.links.extend(numbers(&info, "link_id:"));
        }
        for (link, program) in links()? {
            if held.programs.contains(&program) || held.links.contains(&link) {
                held.links.insert(link);
                held.programs.insert(program);
            }
        }
        Ok(held)
    }

    fn still_loaded(&self) -> Result<Vec<String>, LabError> {
        let mut left = Vec::new();
        for (link, _) in links()? {
            if self.links.contains(&link) {
                left.push(format!("eBPF link {link}"));
            }
        }
        // A program that goes away between its number and its description.
        for program in loaded_programs().flatten() {
            if self.programs.contains(&program.id()) {
                let name = program.name_as_str().unwrap_or("?");
                left.push(format!("eBPF program {} ({name})", program.id()));
            }
        }
        Ok(left)
    }
}

/// Every eBPF link of this machine and its program.
fn links() -> Result<Vec<(u32, u32)>, LabError> {
    Ok(loaded_links().flatten().map(|link| (link.id(), link.program_id())).collect())
}

fn numbers(fdinfo: &str, key: &str) -> Option<u32> {
    fdinfo.lines().find_map(|line| line.strip_prefix(key))?.trim().parse().ok()
}

/// Processes that are in one of these network namespaces, this one aside.
pub fn processes(namespaces: &BTreeSet<u64>) -> Vec<String> {
    let mut left = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let link = fs::read_link(entry.path().join("ns/net")).unwrap_or_default();
        let link = link.to_string_lossy();
        let inode = link.strip_prefix("net:[").and_then(|rest| rest.strip_suffix(']'));
        let inside =
            inode.and_then(|inode| inode.parse().ok()).is_some_and(|i| namespaces.contains(&i));
        if inside && pid != std::process::id() {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            left.push(format!("process {pid} ({})", name.trim()));
        }
    }
    left
}

/// The folder of the sessions of a daemon in this network namespace.
///
/// # Errors
/// The mounts cannot be read.
pub fn cgroup_of(namespace: u64) -> Result<PathBuf, LabError> {
    // proc(5), `mountinfo`: where cgroup v2 is mounted.
    let path = "/proc/self/mountinfo";
    let mounts = fs::read_to_string(path).map_err(|source| LabError::io(path, source))?;
    let tree = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let tree = tree.and_then(|line| line.split_ascii_whitespace().nth(4));
    let tree = Path::new(tree.unwrap_or("/sys/fs/cgroup"));
    Ok(tree.join(format!("sessionip.net-{namespace}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_down_by_itself_is_no_change() {
        let address = ["ip", "-oneline", "address", "show"];
        let earlier = lasting(&address, "2: eth0 inet 10.0.0.2/24 valid_lft 86021sec");
        assert_eq!(earlier, lasting(&address, "2: eth0 inet 10.0.0.2/24 valid_lft 86020sec"));
        assert!(earlier.unwrap().contains("10.0.0.2/24"));

        let rules = ["iptables-save"];
        assert_eq!(lasting(&rules, ":PREROUTING ACCEPT [12:34]"), None);
        assert_eq!(lasting(&rules, "# Generated by iptables-save"), None);
        let chain = lasting(&rules, ":SESSIONIP-OUT - [0:0]").unwrap();
        assert_eq!(chain, "iptables-save: :SESSIONIP-OUT -");
    }

    #[test]
    fn fdinfo_tells_the_numbers() {
        let info = "pos:\t0\nflags:\t02000002\nlink_type:\tcgroup\nlink_id:\t7\nprog_tag:\tab\nprog_id:\t31\n";
        assert_eq!(numbers(info, "link_id:"), Some(7));
        assert_eq!(numbers(info, "prog_id:"), Some(31));
        assert_eq!(numbers("pos:\t0\n", "prog_id:"), None);
    }
}
