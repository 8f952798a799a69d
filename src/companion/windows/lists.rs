//! What do the program lists mean to the hook?

use super::open::standing;
use crate::companion::PolicyView;
use crate::config::ProgramPattern;
use sessionip_hook::decide::{Exclusion, Flags, LEFT_PORTS};
use sessionip_hook::digest::fnv_1a;
use sessionip_hook::section::{Content, Pattern, fold};
use std::os::windows::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The lists as tables.
#[derive(Debug, Default)]
pub(super) struct Lists {
    flags: Flags,
    all_listed: bool,
    all_excepted: bool,
    all_on_loopback: bool,
    all_preferred: bool,
    programs: Vec<Pattern>,
    excluded: Vec<Exclusion>,
    digest: u64,
    /// Paths without a file.
    pub(super) missing: Vec<PathBuf>,
}

impl Lists {
    pub(super) fn compile(policy: &PolicyView) -> Self {
        let mut lists = Self {
            flags: Flags {
                enabled: policy.enabled,
                sources: policy.sources,
                children: policy.children,
                connect: policy.connect,
                loopback: policy.loopback.enabled,
            },
            digest: digest(&format!("{:?}{:?}", policy.programs, policy.except)),
            ..Self::default()
        };
        for pattern in &policy.programs {
            lists.all_listed |= *pattern == ProgramPattern::All;
            lists.add(pattern, |entry| entry.listed = true);
        }
        for pattern in &policy.except {
            lists.all_excepted |= *pattern == ProgramPattern::All;
            lists.add(pattern, |entry| entry.excepted = true);
        }
        for pattern in policy.on_loopback() {
            lists.all_on_loopback |= *pattern == ProgramPattern::All;
            lists.add(pattern, |entry| entry.on_loopback = true);
        }
        for pattern in policy.preferring_loopback() {
            lists.all_preferred |= *pattern == ProgramPattern::All;
            lists.add(pattern, |entry| entry.preferred = true);
        }
        for exclusion in &policy.exclude {
            let program = match &exclusion.program {
                None => 0,
                Some(pattern) => match lists.add(pattern, |_| ()) {
                    Some(id) => id,
                    None => continue,
                },
            };
            let protocol = exclusion.protocol as u16;
            lists.excluded.push(Exclusion { program, port: exclusion.port, protocol });
        }
        for (protocol, port) in &policy.exclude_ports {
            let (port, protocol) = (*port, *protocol as u16);
            lists.excluded.push(Exclusion { program: LEFT_PORTS, port, protocol });
        }
        lists
    }

    pub(super) fn write_to(&self, content: &mut Content) {
        content.flags = self.flags;
        content.all_listed = self.all_listed;
        content.all_excepted = self.all_excepted;
        content.all_on_loopback = self.all_on_loopback;
        content.all_preferred = self.all_preferred;
        content.lists = self.digest;
        content.programs.clone_from(&self.programs);
        content.excluded.clone_from(&self.excluded);
    }

    /// Returns what exclusions call the program; the same file or name has the
    /// same number wherever it is listed.
    fn add(&mut self, pattern: &ProgramPattern, mark: impl Fn(&mut Pattern)) -> Option<u32> {
        match pattern {
            ProgramPattern::All => None,
            ProgramPattern::Name(name) => {
                let text = fold(&name.encode_utf16().collect::<Vec<_>>());
                let id = self.number(false, &text);
                Some(self.entry(text, false, id, mark))
            }
            ProgramPattern::Path(path) => {
                let text = folded(path);
                let now = standing(path).map(|now| now.paths).unwrap_or_default();
                let spellings: Vec<_> = now.iter().map(|path| folded(path)).collect();
                if !path.exists() {
                    self.missing.push(path.clone());
                }
                // Programs are known by the path without links, above all.
                let real = spellings.first().unwrap_or(&text);
                let id = self.number(true, real);
                for spelling in std::iter::once(text.clone()).chain(spellings) {
                    self.entry(spelling, true, id, &mark);
                }
                Some(id)
            }
        }
    }

    /// The number of an entry, or the next one that is free.
    fn number(&self, is_path: bool, text: &[u16]) -> u32 {
        let known = self.programs.iter().find(|it| it.is_path == is_path && it.text == text);
        let next = || self.programs.iter().map(|entry| entry.id).max().unwrap_or(0) + 1;
        known.map_or_else(next, |entry| entry.id)
    }

    fn entry(
        &mut self,
        text: Vec<u16>,
        is_path: bool,
        id: u32,
        mark: impl Fn(&mut Pattern),
    ) -> u32 {
        match self.programs.iter_mut().find(|it| it.is_path == is_path && it.text == text) {
            Some(entry) => {
                mark(entry);
                entry.id
            }
            None => {
                let mut entry = Pattern { text, is_path, id, ..Pattern::default() };
                mark(&mut entry);
                self.programs.push(entry);
                id
            }
        }
    }
}

fn folded(path: &Path) -> Vec<u16> {
    fold(&path.as_os_str().encode_wide().collect::<Vec<_>>())
}

/// Never 0, which stands for no lists at all.
fn digest(text: &str) -> u64 {
    fnv_1a(text.bytes().map(u64::from)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Loopback;
    use crate::packet::Protocol;

    #[test]
    fn a_program_has_one_number_wherever_it_is_listed() {
        let crm = ProgramPattern::Name("CRM.exe".into());
        let lists = Lists::compile(&PolicyView {
            enabled: true,
            programs: vec![ProgramPattern::All, crm.clone()],
            except: vec![ProgramPattern::Name("crm.EXE".into())],
            children: true,
            connect: true,
            exclude_ports: vec![(Protocol::Tcp, 3389)],
            exclude: vec![
                crate::config::Exclusion { program: Some(crm), protocol: Protocol::Udp, port: 68 },
                crate::config::Exclusion { program: None, protocol: Protocol::Tcp, port: 80 },
            ],
            sources: false,
            listeners: false,
            loopback: Loopback::default(),
            isolate_loopback: true,
        });
        let [entry] = &lists.programs[..] else { panic!("{:?}", lists.programs) };
        assert!(entry.listed && entry.excepted && !entry.is_path);
        assert!(lists.all_listed && !lists.all_excepted);
        let wanted = [
            Exclusion { program: entry.id, port: 68, protocol: 17 },
            Exclusion { program: 0, port: 80, protocol: 6 },
            Exclusion { program: LEFT_PORTS, port: 3389, protocol: 6 },
        ];
        assert_eq!(lists.excluded, wanted);
        assert!(lists.flags.connect);
    }

    #[test]
    fn a_path_that_is_none_is_told_and_listed_all_the_same() {
        let nowhere = PathBuf::from(r"C:\nowhere\crm.exe");
        let lists = Lists::compile(&PolicyView {
            enabled: true,
            programs: vec![ProgramPattern::Path(nowhere.clone())],
            except: vec![],
            children: false,
            connect: false,
            exclude_ports: vec![],
            exclude: vec![],
            sources: false,
            listeners: false,
            loopback: Loopback::default(),
            isolate_loopback: true,
        });
        assert_eq!(lists.missing, [nowhere]);
        assert_eq!(lists.programs.len(), 1, "it may be installed later");
    }
}
