//! Which running processes descend from a listed program?
//!
//! The kernel side keeps DESCENDANTS from its attachment on; this is for the
//! processes that were there before. An ancestor that has exited by then is not
//! seen.

use super::lists::{Lists, file_id, file_name};
use super::table::Table;
use crate::companion::TableError;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A process forked meanwhile by one that is not marked yet is found by the
/// next look; each look takes milliseconds, so that few are needed.
const LOOKS: usize = 4;

/// Marks the processes that run, or descend from one that runs, a listed
/// program. Call it while the kernel side is attached.
pub(super) fn seed(descendants: &mut Table<u32, u32>, lists: &Lists) -> Result<(), TableError> {
    for _ in 0..LOOKS {
        let processes = processes(lists);
        let mut marked: BTreeSet<u32> = descendants.all()?.into_keys().collect();
        let known = marked.len();
        spread(&processes, &mut marked);
        let new = marked.len() - known;
        for (pid, process) in &processes {
            if !marked.contains(pid) {
                continue;
            }
            descendants.set(pid, &1)?;
            // It may have ended before it was marked, and nobody would ever
            // take the mark away again.
            if start_and_parent(*pid).is_none_or(|(start, _)| start != process.start) {
                descendants.remove(pid)?;
            }
        }
        if new == 0 {
            break;
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug)]
struct Process {
    parent: u32,
    start: u64,
    listed: bool,
}

/// Adds the listed ones and all their descendants.
fn spread(processes: &BTreeMap<u32, Process>, marked: &mut BTreeSet<u32>) {
    loop {
        let before = marked.len();
        for (pid, process) in processes {
            if process.listed || marked.contains(&process.parent) {
                marked.insert(*pid);
            }
        }
        if marked.len() == before {
            return;
        }
    }
}

fn processes(lists: &Lists) -> BTreeMap<u32, Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let known = pids.filter_map(|pid| {
        let (start, parent) = start_and_parent(pid)?;
        Some((pid, Process { parent, start, listed: is_listed(pid, lists) }))
    });
    known.collect()
}

fn is_listed(pid: u32, lists: &Lists) -> bool {
    let link = format!("/proc/{pid}/exe");
    let Ok(target) = fs::read_link(&link) else { return false };
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(" (deleted)").unwrap_or(&name);
    lists.has(file_id(Path::new(&link)), &file_name(name))
}

/// Fields 22 and 4 of /proc/PID/stat, proc_pid_stat(5). The name before them
/// may have spaces and parentheses of its own.
fn start_and_parent(pid: u32) -> Option<(u64, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let parent = fields.nth(1)?.parse().ok()?;
    let start = fields.nth(17)?.parse().ok()?;
    Some((start, parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_spreads_to_grandchildren_and_not_upwards() {
        let process = |parent, listed| Process { parent, start: 0, listed };
        let processes = BTreeMap::from([
            (1, process(0, false)),
            (50, process(70, false)),
            (60, process(1, true)),
            (70, process(60, false)),
            (80, process(1, false)),
        ]);
        let mut marked = BTreeSet::new();
        spread(&processes, &mut marked);
        assert_eq!(marked, BTreeSet::from([50, 60, 70]));
    }

    #[test]
    fn this_process_has_a_parent_and_a_start() {
        let (start, parent) = start_and_parent(std::process::id()).unwrap();
        assert_eq!(parent, std::os::unix::process::parent_id());
        assert!(start > 0);
    }
}
