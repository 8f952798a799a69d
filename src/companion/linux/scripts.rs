//! Which processes run a script that a list names?
//!
//! The kernel side keeps SCRIPTS from its attachment on; this fills in the
//! rules by which it reads commands, and the processes that were there before.

use super::lists::Lists;
use super::process::{self, executable, file_id, start_and_parent};
use super::table::Table;
use crate::companion::TableError;
use crate::config::ProgramPattern;
use crate::config::programs::{FOLDERS, Kind, has_extension, kind};
use aya::Ebpf;
use sessionip_hook::layout::{
    CLUSTERS, Interpreter, InterpreterName, ONLY_JAR, OptionWord, PLUS, Script,
};
use sessionip_hook::script::{RULES, Rule, rule_of, script_of};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// May this entry be a script, so that it means the process of its interpreter? A
/// file is one unless it is a program of the system's own kind; what is not there
/// says so by its name.
pub(super) fn may_be_script(pattern: &ProgramPattern) -> bool {
    match pattern {
        ProgramPattern::All => false,
        ProgramPattern::Path(path) => {
            kind(path).map_or_else(|| has_extension(path), |kind| kind != Kind::Program)
        }
        ProgramPattern::Name(name) => {
            let path = FOLDERS.iter().map(|folder| Path::new(folder).join(name));
            let found = path.filter_map(|path| kind(&path)).next();
            has_extension(Path::new(name)) || found.is_some_and(|kind| kind != Kind::Program)
        }
    }
}

/// The links in the folders of programs that lead to one of these files: by them a
/// script is called most.
pub(super) fn links_to(files: &BTreeSet<PathBuf>) -> Vec<(PathBuf, PathBuf)> {
    let entries = FOLDERS.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    let links = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
    let pairs = links.filter_map(|entry| Some((entry.path(), entry.path().canonicalize().ok()?)));
    pairs.filter(|(_, file)| files.contains(file)).collect()
}

/// The tables of the kernel side that are about scripts.
#[derive(Debug)]
pub(super) struct Scripts {
    marks: Table<u32, Script>,
    interpreters: Table<InterpreterName, Interpreter>,
    options: Table<OptionWord, u32>,
}

impl Scripts {
    pub(super) fn open(ebpf: &mut Ebpf) -> Result<Self, TableError> {
        Ok(Self {
            marks: Table::open(ebpf, "SCRIPTS")?,
            interpreters: Table::open(ebpf, "INTERPRETERS")?,
            options: Table::open(ebpf, "OPTIONS")?,
        })
    }

    /// How interpreters read their arguments. To be called before the kernel
    /// side is attached.
    pub(super) fn teach(&mut self) -> Result<(), TableError> {
        let (mut interpreters, mut options) = (BTreeMap::new(), BTreeMap::new());
        for (kind, rule) in (1..).zip(RULES) {
            let names = rule.names.iter().map(|name| InterpreterName(padded(name)));
            interpreters.extend(names.map(|name| (name, interpreter(kind, rule))));
            let words = rule.words.iter();
            options.extend(
                words.map(|(word, meaning)| {
                    (OptionWord { kind, word: padded(word) }, *meaning as u32)
                }),
            );
        }
        self.options.replace(&options)?;
        self.interpreters.replace(&interpreters)
    }

    /// What the lists say now of the scripts that run. Call it while the kernel
    /// side is attached. Returns for how many there was no room.
    pub(super) fn look_again(&mut self, lists: &Lists) -> Result<u64, TableError> {
        let mut left_out = 0;
        for (pid, mark) in self.marks.all()? {
            let flags = lists.flags_of(mark.by_file) | lists.flags_of(mark.by_name);
            if flags == 0 && !lists.knows(mark.by_file) && !lists.knows(mark.by_name) {
                self.marks.remove(&pid)?;
            } else if flags != mark.flags {
                self.marks.set(&pid, &Script { flags, ..mark })?;
            }
        }
        for pid in process::all() {
            let Some((start, _)) = start_and_parent(pid) else { continue };
            let Some(mark) = running(pid).and_then(|script| mark(&script, lists)) else { continue };
            if !self.marks.set_if_room(&pid, &mark)? {
                left_out += 1;
                continue;
            }
            // As of descendants: nobody would take the mark away again.
            if start_and_parent(pid).is_none_or(|(again, _)| again != start) {
                self.marks.remove(&pid)?;
            }
        }
        Ok(left_out)
    }

    /// Nobody takes marks away any more, and numbers of processes return.
    pub(super) fn forget(&mut self) -> Result<(), TableError> {
        self.marks.replace(&BTreeMap::new())
    }
}

fn mark(script: &Path, lists: &Lists) -> Option<Script> {
    lists.found(script, file_id(script))
}

/// The script that a process runs, as far as its command tells: one that was
/// started by a `#!` line of an unknown interpreter is not seen.
fn running(pid: u32) -> Option<PathBuf> {
    let (program, _) = executable(pid)?;
    let rule = rule_of(program.file_name()?.to_str()?)?;
    let mut command = Vec::new();
    let file = File::open(format!("/proc/{pid}/cmdline")).ok()?;
    file.take(LONGEST_COMMAND).read_to_end(&mut command).ok()?;
    let command = String::from_utf8_lossy(&command);
    let script = script_of(rule, command.split_terminator('\0').skip(1))?;
    // Where it is now: most stay where they were started.
    let folder = PathBuf::from(format!("/proc/{pid}/cwd")).read_link().ok()?;
    folder.join(script).canonicalize().ok()
}

const LONGEST_COMMAND: u64 = 256 << 10;

fn interpreter(kind: u32, rule: &Rule) -> Interpreter {
    let mut letter = [0; 256];
    for (known, meaning) in rule.letters {
        if let Some(entry) = letter.get_mut(*known as usize) {
            *entry = *meaning as u8;
        }
    }
    let flags = [(rule.clusters, CLUSTERS), (rule.plus, PLUS), (rule.only_jar, ONLY_JAR)];
    let flags = flags.into_iter().filter(|(on, _)| *on).fold(0, |flags, (_, bit)| flags | bit);
    Interpreter { kind, flags, letter }
}

fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    for (to, from) in bytes.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_and_word_of_a_rule_fits_its_table() {
        let names = RULES.iter().flat_map(|rule| rule.names);
        assert!(names.clone().all(|name| name.len() < size_of::<InterpreterName>()));
        let words = RULES.iter().flat_map(|rule| rule.words);
        assert!(words.clone().all(|(word, _)| word.len() < size_of::<OptionWord>() - 4));
        // As hook/bpf/layout.h has room for them.
        assert!(names.count() <= 64 && words.count() <= 256);
        let letters = RULES.iter().flat_map(|rule| rule.letters);
        assert!(letters.clone().all(|(letter, _)| letter.is_ascii()));
    }

    #[test]
    fn what_the_system_does_not_run_by_itself_may_be_a_script() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text, may_be) in [
            ("program", "\x7fELF", false),
            ("script", "#!/bin/sh", true),
            ("a.jar", "PK", true),
            ("notes", "Dear", true),
        ] {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            assert_eq!(may_be_script(&ProgramPattern::Path(path)), may_be, "{name}");
        }
        for (text, may_be) in
            [("/nowhere/x.py", true), ("/nowhere/x", false), ("x.JAR", true), ("x", false)]
        {
            assert_eq!(may_be_script(&text.parse().unwrap()), may_be, "{text}");
        }
        assert!(!may_be_script(&ProgramPattern::All));
    }
}
