//! What do the program lists mean to the kernel?

use super::process::file_id;
use super::scripts::{links_to, may_be_script};
use crate::companion::{PolicyView, real_path};
use crate::config::ProgramPattern;
use sessionip_hook::digest::fnv_1a;
use sessionip_hook::layout::{
    EXCEPTED, Exclusion, FileId, FileName, LEFT_PORTS, LISTED, LOOPBACK_LISTED, PATH_ENDS,
    PREFERRED, Program, Script, flag, path_digest,
};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The lists as maps.
#[derive(Debug, Default)]
pub(super) struct Lists {
    pub(super) by_file: BTreeMap<FileId, Program>,
    pub(super) by_path: BTreeMap<u64, Program>,
    pub(super) by_name: BTreeMap<FileName, Program>,
    pub(super) excluded: BTreeMap<Exclusion, u32>,
    pub(super) flags: u32,
    /// An entry may be a script: what interpreters run has to be followed.
    pub(super) scripts: bool,
    /// Paths without a file.
    pub(super) missing: Vec<PathBuf>,
}

impl Lists {
    pub(super) fn compile(policy: &PolicyView) -> Self {
        let mut lists = Self::default();
        lists.add_all(&policy.programs, LISTED, flag::ALL_LISTED);
        lists.add_all(&policy.except, EXCEPTED, flag::ALL_EXCEPTED);
        lists.add_all(policy.on_loopback(), LOOPBACK_LISTED, flag::ALL_LOOPBACK);
        lists.add_all(policy.preferring_loopback(), PREFERRED, flag::ALL_PREFERRED);
        for exclusion in &policy.exclude {
            let program = match &exclusion.program {
                None => 0,
                Some(pattern) => match lists.add(pattern, 0) {
                    Some(id) => id,
                    None => continue,
                },
            };
            let protocol = exclusion.protocol as u16;
            lists.excluded.insert(Exclusion { program, port: exclusion.port, protocol }, 1);
        }
        for (protocol, port) in &policy.exclude_ports {
            let protocol = *protocol as u16;
            lists.excluded.insert(Exclusion { program: LEFT_PORTS, port: *port, protocol }, 1);
        }
        lists.add_links(policy);
        for (wanted, bit) in [
            (policy.enabled, flag::ENABLED),
            (!lists.by_file.is_empty(), flag::BY_FILE),
            (!lists.by_path.is_empty(), flag::BY_PATH),
            (!lists.by_name.is_empty(), flag::BY_NAME),
            (policy.children, flag::CHILDREN),
            (policy.sources, flag::SOURCES),
            (policy.listeners, flag::LISTENERS),
            (policy.connect, flag::CONNECT),
            (policy.loopback.enabled, flag::LOOPBACK),
            (policy.loopback.enabled && policy.isolate_loopback, flag::ISOLATE_LOOPBACK),
        ] {
            if wanted {
                lists.flags |= bit;
            }
        }
        lists
    }

    /// The rule of `is_listed` in `bpf/who.h`, children and scripts aside. Returns
    /// the number of the entry that lists the program; 0: `*` does.
    pub(super) fn listing(&self, path: &Path, file: Option<FileId>) -> Option<u32> {
        let found = self.look_up(path, file);
        let found = found.iter().flatten();
        if self.flags & flag::ALL_EXCEPTED != 0 || found.clone().any(|it| it.flags & EXCEPTED != 0)
        {
            return None;
        }
        let everything = (self.flags & flag::ALL_LISTED != 0).then_some(0);
        found.filter(|it| it.flags & LISTED != 0).map(|it| it.id).next_back().or(everything)
    }

    /// What the entries say of a script; `None`: there is none for it.
    pub(super) fn found(&self, path: &Path, file: Option<FileId>) -> Option<Script> {
        let [by_file, by_name] = self.look_up(path, file);
        let id = |program: Option<&Program>| program.map_or(0, |program| program.id);
        let flags = |program: Option<&Program>| program.map_or(0, |it| it.flags & !PATH_ENDS);
        let (flags, by_file, by_name) = (flags(by_file) | flags(by_name), id(by_file), id(by_name));
        (by_file != 0 || by_name != 0).then_some(Script { flags, by_file, by_name })
    }

    /// By its file or path, and by its name.
    fn look_up(&self, path: &Path, file: Option<FileId>) -> [Option<&Program>; 2] {
        let name = path.file_name().map(|name| file_name(name.as_bytes()));
        let by_file = file.and_then(|file| self.by_file.get(&file));
        let by_path =
            || path_digest(path.as_os_str().as_bytes()).and_then(|it| self.by_path.get(&it));
        [by_file.or_else(by_path), name.and_then(|name| self.by_name.get(&name))]
    }

    /// What the entry of that number says: 0, and there may be none.
    pub(super) fn flags_of(&self, id: u32) -> u32 {
        self.entries(id).fold(0, |flags, program| flags | program.flags & !PATH_ENDS)
    }

    /// Is there an entry of that number?
    pub(super) fn knows(&self, id: u32) -> bool {
        self.entries(id).next().is_some()
    }

    /// Does the entry of that number still list anybody?
    pub(super) fn lists(&self, id: u32) -> bool {
        self.flags_of(id) & (LISTED | EXCEPTED) == LISTED
    }

    fn entries(&self, id: u32) -> impl Iterator<Item = &Program> {
        let all = self.by_name.values().chain(self.by_path.values()).chain(self.by_file.values());
        all.filter(move |program| id != 0 && program.id == id)
    }

    fn add_all(&mut self, patterns: &[ProgramPattern], entry: u32, all: u32) {
        for pattern in patterns {
            if *pattern == ProgramPattern::All {
                self.flags |= all;
            } else {
                self.add(pattern, entry);
            }
        }
    }

    /// Returns what exclusions call the program; the same file, path or name has
    /// the same number wherever it is listed.
    fn add(&mut self, pattern: &ProgramPattern, entry: u32) -> Option<u32> {
        match pattern {
            ProgramPattern::All => None,
            ProgramPattern::Path(path) => Some(self.add_path(path, entry)),
            ProgramPattern::Name(name) => {
                let program = self.by_name.entry(file_name(name.as_bytes())).or_default();
                program.id = number(name.as_bytes());
                program.flags |= entry;
                Some(program.id)
            }
        }
    }

    /// A path means the file that stands there now, whatever it is called
    /// elsewhere, and whatever file stood there or will stand there: the walk up
    /// from a program's file gives its path without links.
    fn add_path(&mut self, path: &Path, entry: u32) -> u32 {
        let real = real_path(path);
        let digest = |path: &Path| path_digest(path.as_os_str().as_bytes());
        let known = file_id(path)
            .and_then(|file| self.by_file.get(&file))
            .or_else(|| digest(&real).and_then(|digest| self.by_path.get(&digest)));
        let id = known.map_or_else(|| number(path.as_os_str().as_bytes()), |program| program.id);
        match file_id(path) {
            Some(file) => {
                self.by_file.entry(file).or_insert(Program { id, flags: 0 }).flags |= entry
            }
            None => self.missing.push(path.to_owned()),
        }
        self.spell(path, id, entry);
        self.spell(&real, id, entry);
        id
    }

    fn spell(&mut self, path: &Path, id: u32, entry: u32) {
        let digest = path_digest(path.as_os_str().as_bytes());
        let (Some(digest), Some(name)) = (digest, path.file_name()) else { return };
        self.by_path.entry(digest).or_insert(Program { id, flags: 0 }).flags |= entry;
        self.by_name.entry(file_name(name.as_bytes())).or_default().flags |= PATH_ENDS;
    }

    /// Scripts are known by how they are called: the usual links to them count as
    /// well. A program's links need none of this.
    fn add_links(&mut self, policy: &PolicyView) {
        let excluded = policy.exclude.iter().filter_map(|exclusion| exclusion.program.as_ref());
        let loopback = policy.on_loopback().iter().chain(policy.preferring_loopback());
        let all = policy.programs.iter().chain(&policy.except).chain(loopback).chain(excluded);
        let scripts = all.filter(|pattern| may_be_script(pattern));
        let mut files = BTreeSet::new();
        for pattern in scripts {
            self.scripts = true;
            if let ProgramPattern::Path(path) = pattern {
                files.insert(real_path(path));
            }
        }
        if files.is_empty() {
            return;
        }
        for (link, file) in links_to(&files) {
            let known = path_digest(file.as_os_str().as_bytes())
                .and_then(|digest| self.by_path.get(&digest).copied());
            if let Some(Program { id, flags }) = known {
                self.spell(&link, id, flags);
            }
        }
    }
}

/// As the kernel side writes names: cut to 63 bytes.
pub(super) fn file_name(name: &[u8]) -> FileName {
    let mut bytes = [0; 64];
    for (to, from) in bytes.iter_mut().take(63).zip(name) {
        *to = *from;
    }
    FileName(bytes)
}

/// The same in every run, for it outlives the daemon in the maps. Never 0, which
/// stands for every program, nor [`LEFT_PORTS`].
fn number(text: &[u8]) -> u32 {
    let digest = fnv_1a(text.iter().copied().map(u64::from));
    ((digest ^ (digest >> 32)) as u32).clamp(1, LEFT_PORTS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Loopback;
    use crate::packet::Protocol;

    fn policy() -> PolicyView {
        PolicyView {
            enabled: true,
            programs: vec![],
            except: vec![],
            children: false,
            connect: false,
            exclude_ports: vec![],
            exclude: vec![],
            sources: false,
            listeners: false,
            loopback: Loopback::default(),
            isolate_loopback: true,
        }
    }

    #[test]
    fn except_wins_over_programs() {
        let sshd = ProgramPattern::Name("sshd".into());
        let lists = Lists::compile(&PolicyView {
            programs: vec![ProgramPattern::All, sshd.clone()],
            except: vec![sshd],
            ..policy()
        });
        assert_eq!(lists.listing(Path::new("/usr/bin/iperf3"), None), Some(0));
        assert_eq!(lists.listing(Path::new("/usr/sbin/sshd"), None), None);
    }

    #[test]
    fn a_path_is_its_file_and_its_place_and_a_missing_one_is_told() {
        let here = std::env::current_exe().unwrap();
        let nowhere = Path::new("/nowhere/at/all");
        let lists = Lists::compile(&PolicyView {
            programs: vec![
                ProgramPattern::Path(here.clone()),
                ProgramPattern::Path(nowhere.to_owned()),
            ],
            ..policy()
        });
        let here_id = number(here.as_os_str().as_bytes());
        assert_eq!(lists.listing(Path::new("/any/thing"), file_id(&here)), Some(here_id));
        assert_eq!(lists.listing(&here, None), Some(here_id), "another file in its place");
        assert_eq!(lists.listing(Path::new("/any/thing"), file_id(Path::new("/"))), None);
        assert_eq!(lists.listing(Path::new("/nowhere/at/aLL"), None), None);
        assert_eq!(lists.missing, [nowhere]);
        let wanted = flag::ENABLED | flag::BY_FILE | flag::BY_PATH | flag::BY_NAME;
        assert_eq!(lists.flags, wanted);
        assert!(lists.lists(here_id) && !lists.lists(here_id ^ 1));
    }

    #[test]
    fn a_path_beside_the_same_name_leaves_the_name_its_own_number() {
        let path = ProgramPattern::Path("/opt/crm".into());
        let name = ProgramPattern::Name("crm".into());
        for programs in [vec![path.clone(), name.clone()], vec![name, path]] {
            let lists = Lists::compile(&PolicyView { programs, ..policy() });
            let crm = lists.by_name[&file_name(b"crm")];
            assert_eq!((crm.id, crm.flags), (number(b"crm"), LISTED | PATH_ENDS));
        }
        let alone = Lists::compile(&PolicyView {
            programs: vec![ProgramPattern::Path("/opt/crm".into())],
            ..policy()
        });
        assert_eq!(alone.by_name[&file_name(b"crm")], Program { id: 0, flags: PATH_ENDS });
        assert_eq!(alone.listing(Path::new("/home/ana/crm"), None), None);
    }

    #[test]
    fn an_exclusion_knows_a_program_that_no_list_has() {
        let lists = Lists::compile(&PolicyView {
            exclude: vec![crate::config::Exclusion {
                program: Some(ProgramPattern::Name("dhcpcd".into())),
                protocol: Protocol::Udp,
                port: 68,
            }],
            ..policy()
        });
        let program = lists.by_name[&file_name(b"dhcpcd")];
        assert_eq!(program.flags, 0, "it is known, not listed");
        let key = Exclusion { program: program.id, port: 68, protocol: 17 };
        assert!(lists.excluded.contains_key(&key));
    }
}
