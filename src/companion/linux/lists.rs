//! What do the program lists mean to the kernel?

use crate::companion::PolicyView;
use crate::config::ProgramPattern;
use sessionip_hook::layout::{EXCEPTED, Exclusion, FileId, FileName, LISTED, Program, flag};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The file at that path as the kernel tells files apart: (device, inode). On
/// btrfs and some overlays stat(2) tells another device than the kernel's: a
/// program there is to be listed by name.
pub fn file_of(path: &Path) -> Option<(u32, u64)> {
    file_id(path).map(|id| (id.device, id.inode))
}

pub(super) fn file_id(path: &Path) -> Option<FileId> {
    let file = fs::metadata(path).ok()?;
    let device = (libc::major(file.dev()) << 20) | libc::minor(file.dev());
    Some(FileId { inode: file.ino(), device, zero: 0 })
}

/// The lists as maps.
#[derive(Debug, Default)]
pub(super) struct Lists {
    pub(super) by_file: BTreeMap<FileId, Program>,
    pub(super) by_name: BTreeMap<FileName, Program>,
    pub(super) excluded: BTreeMap<Exclusion, u32>,
    pub(super) flags: u32,
    /// Of what was listed, not of the files that stand there just now.
    pub(super) digest: u64,
    /// Paths without a file.
    pub(super) missing: Vec<PathBuf>,
}

impl Lists {
    pub(super) fn compile(policy: &PolicyView) -> Self {
        let mut lists = Self {
            digest: digest(format!("{:?}{:?}", policy.programs, policy.except).as_bytes()),
            ..Self::default()
        };
        lists.add_all(&policy.programs, LISTED, flag::ALL_LISTED);
        lists.add_all(&policy.except, EXCEPTED, flag::ALL_EXCEPTED);
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
        for (wanted, bit) in [
            (policy.enabled, flag::ENABLED),
            (!lists.by_file.is_empty(), flag::BY_FILE),
            (!lists.by_name.is_empty(), flag::BY_NAME),
            (policy.children, flag::CHILDREN),
            (policy.sources, flag::SOURCES),
            (policy.listeners, flag::LISTENERS),
        ] {
            if wanted {
                lists.flags |= bit;
            }
        }
        lists
    }

    /// The rule of `is_listed` in `bpf/who.h`, children aside.
    pub(super) fn has(&self, file: Option<FileId>, name: &FileName) -> bool {
        let by_file = file.and_then(|file| self.by_file.get(&file));
        let by_name = self.by_name.get(name);
        let flags =
            by_file.into_iter().chain(by_name).fold(0, |flags, program| flags | program.flags);
        let listed = flags & LISTED != 0 || self.flags & flag::ALL_LISTED != 0;
        let excepted = flags & EXCEPTED != 0 || self.flags & flag::ALL_EXCEPTED != 0;
        listed && !excepted
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

    /// Returns what exclusions call the program; the same file or name has the
    /// same number wherever it is listed.
    fn add(&mut self, pattern: &ProgramPattern, entry: u32) -> Option<u32> {
        let program = match pattern {
            ProgramPattern::All => return None,
            ProgramPattern::Path(path) => {
                let Some(file) = file_id(path) else {
                    self.missing.push(path.clone());
                    return None;
                };
                let id = format!("{}:{}", file.device, file.inode);
                self.by_file.entry(file).or_insert(Program { id: number(&id), flags: 0 })
            }
            ProgramPattern::Name(name) => {
                let id = number(name);
                self.by_name.entry(file_name(name)).or_insert(Program { id, flags: 0 })
            }
        };
        program.flags |= entry;
        Some(program.id)
    }
}

/// As the kernel side writes names: cut to 63 bytes.
pub(super) fn file_name(name: &str) -> FileName {
    let mut bytes = [0; 64];
    for (to, from) in bytes.iter_mut().take(63).zip(name.bytes()) {
        *to = from;
    }
    FileName(bytes)
}

/// Never 0, which stands for every program.
fn number(text: &str) -> u32 {
    let digest = digest(text.as_bytes());
    ((digest ^ (digest >> 32)) as u32).max(1)
}

/// FNV-1a: the same in every run, for it outlives the daemon in the maps.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |digest, byte| {
        (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
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
        assert!(lists.has(None, &file_name("iperf3")));
        assert!(!lists.has(None, &file_name("sshd")));
    }

    #[test]
    fn a_path_is_a_file_and_a_missing_one_is_told() {
        let here = std::env::current_exe().unwrap();
        let lists = Lists::compile(&PolicyView {
            programs: vec![
                ProgramPattern::Path(here.clone()),
                ProgramPattern::Path("/nowhere/at/all".into()),
            ],
            ..policy()
        });
        assert!(lists.has(file_id(&here), &file_name("anything")));
        assert!(!lists.has(file_id(Path::new("/")), &file_name("anything")));
        assert_eq!(lists.missing, [Path::new("/nowhere/at/all")]);
        assert_eq!(lists.flags, flag::ENABLED | flag::BY_FILE);
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
        let program = lists.by_name[&file_name("dhcpcd")];
        assert_eq!(program.flags, 0, "it is known, not listed");
        let key = Exclusion { program: program.id, port: 68, protocol: 17 };
        assert!(lists.excluded.contains_key(&key));
    }
}
