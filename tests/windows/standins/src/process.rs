//! In which session is a process, and when did it begin?

use std::{
    collections::HashMap,
    fs,
    sync::{Mutex, PoisonError},
};

use windows_sys::Win32::{
    Foundation::{CloseHandle, FILETIME, HANDLE, INVALID_HANDLE_VALUE},
    System::{
        Diagnostics::ToolHelp::{
            CreateToolhelp32Snapshot, PROCESSENTRY32W, Process32FirstW, Process32NextW,
            TH32CS_SNAPPROCESS,
        },
        Threading::{GetProcessTimes, OpenProcess, PROCESS_QUERY_LIMITED_INFORMATION},
    },
};

use crate::registry::{self, Entry};

/// No chain of parents is longer.
const GENERATIONS: usize = 64;
/// Bounds what is remembered; a test starts fewer processes.
const REMEMBERED: usize = 4096;

/// By process and its beginning: a process stays in the session it was born in,
/// also when the parents by which that is told have ended.
static KNOWN: Mutex<Option<HashMap<(u32, u64), u32>>> = Mutex::new(None);

/// The session of a process: the one that it, or else the nearest of its
/// parents, was put into; 0 if none was. `None` if there is no such process.
pub(crate) fn session(process: u32) -> Option<u32> {
    // The idle process and "System", which Wine does not list.
    if matches!(process, 0 | 4) {
        return Some(0);
    }
    let parents = parents()?;
    let first = Process { id: process, began: began(process) };
    parents.get(&process)?;
    let mut at = first;
    let mut answer = 0;
    for _ in 0..GENERATIONS {
        if let Some(session) = at.entered().or_else(|| at.remembered()) {
            answer = session;
            break;
        }
        let Some(&parent) = parents.get(&at.id).filter(|parent| **parent != 0) else { break };
        let parent = Process { id: parent, began: began(parent) };
        // A parent that is younger only has the number of the one that has ended.
        if let (Some(parent), Some(child)) = (parent.began, at.began)
            && parent > child
        {
            break;
        }
        at = parent;
    }
    if answer != 0 {
        first.remember(answer);
    }
    Some(answer)
}

/// When a process began, as a `FILETIME`; `None` if it cannot be asked.
pub(crate) fn began(process: u32) -> Option<u64> {
    // SAFETY: takes no pointers; a handle is closed below.
    #[expect(unsafe_code, reason = "asks Windows")]
    let handle = unsafe { OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, process) };
    if handle.is_null() {
        return None;
    }
    let began = began_of(handle);
    // SAFETY: the handle is ours, and not used again.
    #[expect(unsafe_code, reason = "gives the handle back")]
    unsafe {
        CloseHandle(handle)
    };
    began
}

/// The same of a process that one holds.
pub(crate) fn began_of(handle: HANDLE) -> Option<u64> {
    let none = FILETIME { dwLowDateTime: 0, dwHighDateTime: 0 };
    let [mut began, mut ended, mut kernel, mut user] = [none; 4];
    // SAFETY: the handle is open for the call, the four places are ours.
    #[expect(unsafe_code, reason = "asks Windows")]
    let done = unsafe {
        GetProcessTimes(handle, &raw mut began, &raw mut ended, &raw mut kernel, &raw mut user)
    };
    let whole = u64::from(began.dwHighDateTime) << 32 | u64::from(began.dwLowDateTime);
    (done != 0).then_some(whole)
}

#[derive(Clone, Copy)]
struct Process {
    id: u32,
    began: Option<u64>,
}

impl Process {
    fn entered(self) -> Option<u32> {
        let entry = entry(self.id)?;
        let same = match (entry.began, self.began) {
            (Some(entered), Some(began)) => entered == began,
            _ => true,
        };
        same.then_some(entry.session)
    }

    fn remembered(self) -> Option<u32> {
        let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref()?.get(&(self.id, self.began?)).copied()
    }

    fn remember(self, session: u32) {
        let Some(began) = self.began else { return };
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get_or_insert_default();
        if known.len() < REMEMBERED {
            known.insert((self.id, began), session);
        }
    }
}

/// The session that a process was put into.
fn entry(process: u32) -> Option<Entry> {
    let text = fs::read_to_string(registry::path(process)).ok()?;
    let mut words = text.split_whitespace();
    let session = words.next()?.parse().ok()?;
    Some(Entry { session, began: words.next().and_then(|began| began.parse().ok()) })
}

/// The parent of every process.
#[expect(unsafe_code, reason = "asks Windows")]
fn parents() -> Option<HashMap<u32, u32>> {
    // SAFETY: takes no pointers; the handle is closed below.
    let snapshot = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0) };
    if snapshot == INVALID_HANDLE_VALUE {
        return None;
    }
    // SAFETY: a structure of numbers, for which zero is a value.
    let mut entry: PROCESSENTRY32W = unsafe { core::mem::zeroed() };
    entry.dwSize = u32::try_from(size_of::<PROCESSENTRY32W>()).ok()?;
    let mut parents = HashMap::new();
    // SAFETY: the snapshot is open, the entry says how large it is.
    let mut more = unsafe { Process32FirstW(snapshot, &raw mut entry) };
    while more != 0 {
        parents.insert(entry.th32ProcessID, entry.th32ParentProcessID);
        // SAFETY: as before.
        more = unsafe { Process32NextW(snapshot, &raw mut entry) };
    }
    // SAFETY: the handle is ours, and not used again.
    unsafe { CloseHandle(snapshot) };
    Some(parents)
}
