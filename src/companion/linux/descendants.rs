//! Which running processes descend from a listed program?
//!
//! The kernel side keeps DESCENDANTS from its attachment on; this is for the
//! processes that were there before. An ancestor that has exited by then is not
//! seen.

use super::lists::Lists;
use super::process::{all, executable, start_and_parent};
use super::table::Table;
use crate::companion::TableError;
use sessionip_hook::layout::FileId;
use std::collections::BTreeMap;

/// A process forked meanwhile by one that is not marked yet is found by the
/// next look; each look takes milliseconds, so that few are needed.
const LOOKS: usize = 4;

/// Takes the marks away that an entry left which lists nobody any more.
pub(super) fn prune(descendants: &mut Table<u32, u32>, lists: &Lists) -> Result<(), TableError> {
    for (pid, id) in descendants.all()? {
        if !lists.lists(id) {
            descendants.remove(&pid)?;
        }
    }
    Ok(())
}

/// Marks the processes that run, or descend from one that runs, a listed
/// program. Call it while the kernel side is attached. Returns for how many there
/// was no room.
pub(super) fn seed(descendants: &mut Table<u32, u32>, lists: &Lists) -> Result<u64, TableError> {
    let mut left_out = 0;
    for _ in 0..LOOKS {
        let processes = processes(lists);
        let known = descendants.all()?;
        left_out = 0;
        let mut marked = known.clone();
        spread(&processes, &mut marked);
        for (pid, process) in &processes {
            let (Some(id), false) = (marked.get(pid), known.contains_key(pid)) else { continue };
            if !descendants.set_if_room(pid, id)? {
                left_out += 1;
                continue;
            }
            // It may have ended before it was marked, and nobody would ever
            // take the mark away again.
            if start_and_parent(*pid).is_none_or(|(start, _)| start != process.start) {
                descendants.remove(pid)?;
            }
        }
        if marked.len() == known.len() || left_out > 0 {
            break;
        }
    }
    Ok(left_out)
}

#[derive(Clone, Copy, Debug)]
struct Process {
    parent: u32,
    start: u64,
    /// By which entry its program is listed.
    listed: Option<u32>,
}

/// Adds the listed ones and all their descendants.
fn spread(processes: &BTreeMap<u32, Process>, marked: &mut BTreeMap<u32, u32>) {
    loop {
        let before = marked.len();
        for (pid, process) in processes {
            let inherited = marked.get(&process.parent).copied();
            if let Some(id) = process.listed.or(inherited) {
                marked.entry(*pid).or_insert(id);
            }
        }
        if marked.len() == before {
            return;
        }
    }
}

fn processes(lists: &Lists) -> BTreeMap<u32, Process> {
    let known = all().filter_map(|pid| {
        let (start, parent) = start_and_parent(pid)?;
        Some((pid, Process { parent, start, listed: listed_by(pid, lists) }))
    });
    known.collect()
}

fn listed_by(pid: u32, lists: &Lists) -> Option<u32> {
    let (path, (device, inode)) = executable(pid)?;
    lists.listing(&path, Some(FileId { inode, device, zero: 0 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_spreads_to_grandchildren_and_not_upwards() {
        let process = |parent, listed| Process { parent, start: 0, listed };
        let processes = BTreeMap::from([
            (1, process(0, None)),
            (50, process(70, None)),
            (60, process(1, Some(7))),
            (70, process(60, None)),
            (80, process(1, None)),
        ]);
        let mut marked = BTreeMap::new();
        spread(&processes, &mut marked);
        assert_eq!(marked, BTreeMap::from([(50, 7), (60, 7), (70, 7)]));
    }
}
