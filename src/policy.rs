//! Which programs are on the list, and what happens where nothing is certain?

use crate::config::{
    Config, Ipv6WithoutLease, Isolation, ProgramPattern, UnknownOwner, WhenExhausted,
};
use crate::owner::{Owner, Program, one_spelling};
use crate::packet::Protocol;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the packet line asks of the configuration, ready to be looked up.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    enabled: bool,
    programs: Patterns,
    except: Patterns,
    children: bool,
    /// The programs whose localhost is their session's own; none where that is off.
    on_loopback: Patterns,
    exclude_ports: Vec<(Protocol, u16)>,
    pub(crate) when_exhausted: WhenExhausted,
    pub(crate) ipv6_without_lease: Ipv6WithoutLease,
    pub(crate) unknown_owner: UnknownOwner,
    pub(crate) hold: Duration,
    pub(crate) isolation: Isolation,
}

/// What stands at a listed path now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The path without links and short names, as running programs have it; then
    /// what else they may have.
    pub paths: Vec<PathBuf>,
    /// The file, where the platform tells files apart by number.
    pub file: Option<(u32, u64)>,
}

/// What the program list says of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// It is virtualised.
    Listed,
    /// It is not on the list.
    NotListed,
    /// It is excepted, whatever else the list says.
    Excepted,
}

impl Policy {
    /// Takes what `config` says. `standing` tells what a listed path leads to, so
    /// that a program is known however its path was written when it was started.
    pub fn compile(config: &Config, standing: impl Fn(&Path) -> Option<Standing>) -> Self {
        let listed = &config.virtual_ip;
        let on_loopback: &[_] =
            if config.loopback.enabled { &config.loopback.programs } else { &[] };
        Self {
            enabled: listed.enabled,
            programs: Patterns::compile(&listed.programs, &standing),
            except: Patterns::compile(&listed.except, &standing),
            children: listed.children,
            on_loopback: Patterns::compile(on_loopback, &standing),
            exclude_ports: config.divert.exclude_ports.clone(),
            when_exhausted: listed.when_exhausted,
            ipv6_without_lease: listed.ipv6_without_lease,
            unknown_owner: config.divert.unknown_owner,
            hold: config.divert.hold,
            isolation: config.isolation,
        }
    }

    /// Is this owner's program listed, or the script that it interprets? An
    /// exception wins over everything, a listed ancestor over not being listed.
    /// Off, the list is empty.
    pub fn program(&self, owner: &Owner) -> Listing {
        if !self.enabled {
            Listing::NotListed
        } else if self.excepts(owner) {
            Listing::Excepted
        } else if owner.marks.script_listed
            || self.programs.has_owner(owner)
            || self.children && self.descends(owner)
        {
            Listing::Listed
        } else {
            Listing::NotListed
        }
    }

    fn excepts(&self, owner: &Owner) -> bool {
        owner.marks.script_excepted || self.except.has_owner(owner)
    }

    /// Did a listed program, or one that runs a listed script, start it? Through
    /// whatever is in between; but what is excepted hands nothing on of its own.
    fn descends(&self, owner: &Owner) -> bool {
        let mut ancestors = owner.lineage.iter().flat_map(|lineage| &lineage.ancestors);
        owner.marks.descends
            || ancestors.any(|runs| {
                let is_on = |list: &Patterns| runs.iter().any(|program| list.has(program));
                is_on(&self.programs) && !is_on(&self.except)
            })
    }

    /// Is this owner's localhost its session's own? An exception wins here, too;
    /// the virtual address need not be on.
    pub fn has_own_loopback(&self, owner: &Owner) -> bool {
        self.on_loopback.has_owner(owner) && !self.excepts(owner)
    }

    /// `virtual-ip.enabled`.
    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Is this local port left alone?
    pub(crate) fn excludes(&self, protocol: Protocol, port: u16) -> bool {
        self.exclude_ports.contains(&(protocol, port))
    }
}

/// Program patterns, each kind where it is found at once.
#[derive(Clone, Debug, Default, PartialEq)]
struct Patterns {
    all: bool,
    files: HashSet<(u32, u64)>,
    paths: HashSet<String>,
    names: HashSet<String>,
}

impl Patterns {
    fn compile(patterns: &[ProgramPattern], standing: &impl Fn(&Path) -> Option<Standing>) -> Self {
        let mut compiled = Self::default();
        for pattern in patterns {
            match pattern {
                ProgramPattern::All => compiled.all = true,
                ProgramPattern::Path(path) => {
                    let now = standing(path);
                    let file = now.as_ref().and_then(|now| now.file);
                    compiled.files.extend(file.filter(|file| *file != UNKNOWN_FILE));
                    for path in std::iter::once(path).chain(now.iter().flat_map(|now| &now.paths)) {
                        compiled.paths.insert(one_spelling(&path.to_string_lossy()).into_owned());
                    }
                }
                ProgramPattern::Name(name) => {
                    compiled.names.insert(one_spelling(name).into_owned());
                }
            }
        }
        compiled
    }

    fn has_owner(&self, owner: &Owner) -> bool {
        let script = owner.lineage.as_ref().and_then(|lineage| lineage.script.as_ref());
        self.has(&owner.program) || script.is_some_and(|script| self.has(script))
    }

    fn has(&self, program: &Program) -> bool {
        self.all
            || self.files.contains(&program.file)
            || self.paths.contains(&*one_spelling(&program.path))
            || self.names.contains(&*one_spelling(program.name()))
    }
}

/// A [`Program::file`] that says nothing.
const UNKNOWN_FILE: (u32, u64) = (0, 0);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owner::{Lineage, Marks};
    use crate::session::SessionId;
    use std::sync::Arc;

    fn patterns(list: &[ProgramPattern]) -> Patterns {
        Patterns::compile(list, &|path: &Path| {
            (path == Path::new("/usr/bin/python3")).then(|| Standing {
                paths: vec!["/usr/bin/python3.11".into()],
                file: Some((8, 42)),
            })
        })
    }

    fn policy(programs: &[ProgramPattern], except: &[ProgramPattern]) -> Policy {
        Policy {
            enabled: true,
            programs: patterns(programs),
            except: patterns(except),
            children: false,
            on_loopback: patterns(&[name("crm")]),
            exclude_ports: vec![(Protocol::Tcp, 3389)],
            when_exhausted: WhenExhausted::HostAddress,
            ipv6_without_lease: Ipv6WithoutLease::Leave,
            unknown_owner: UnknownOwner::Pass,
            hold: Duration::ZERO,
            isolation: Isolation { listeners: true, loopback: true, sources: true },
        }
    }

    fn owner(path: &str, file: (u32, u64)) -> Owner {
        let program = Arc::new(Program { path: path.to_owned(), file });
        Owner {
            session: Some(SessionId(1)),
            pid: 7,
            program,
            marks: Marks::default(),
            lineage: None,
        }
    }

    fn path(path: &str) -> ProgramPattern {
        ProgramPattern::Path(path.into())
    }

    fn name(name: &str) -> ProgramPattern {
        ProgramPattern::Name(name.to_owned())
    }

    #[test]
    fn each_kind_of_pattern() {
        let policy = policy(&[path("/usr/bin/python3"), path("/opt/crm"), name("iperf3")], &[]);
        for (program, file, listing) in [
            ("/usr/bin/python3.11", (8, 42), Listing::Listed), // the same file by another name
            ("/usr/bin/python3", (8, 43), Listing::Listed),    // another file in its place
            ("/usr/bin/python3.11", (9, 42), Listing::Listed), // where the link leads
            ("/usr/bin/python3.12", (9, 42), Listing::NotListed),
            ("/opt/crm", (0, 0), Listing::Listed),
            ("/home/ana/crm", (0, 0), Listing::NotListed),
            ("/home/ana/iperf3", (1, 1), Listing::Listed),
            ("iperf3", (0, 0), Listing::Listed),
            ("iperf3.old", (0, 0), Listing::NotListed),
            ("", (0, 0), Listing::NotListed),
        ] {
            assert_eq!(policy.program(&owner(program, file)), listing, "{program} {file:?}");
        }
    }

    #[test]
    fn an_exception_wins() {
        let policy = policy(&[ProgramPattern::All, name("sshd")], &[name("sshd")]);
        assert_eq!(policy.program(&owner("/usr/sbin/sshd", (1, 2))), Listing::Excepted);
        assert_eq!(policy.program(&owner("/usr/bin/ssh", (1, 3))), Listing::Listed);
    }

    #[test]
    fn children_count_where_they_are_to() {
        let mut policy = policy(&[name("crm")], &[name("sshd")]);
        let child = |path| Owner {
            marks: Marks { descends: true, ..Marks::default() },
            ..owner(path, (0, 0))
        };
        assert_eq!(policy.program(&child("/bin/helper")), Listing::NotListed);
        policy.children = true;
        assert_eq!(policy.program(&child("/bin/helper")), Listing::Listed);
        assert_eq!(policy.program(&child("/usr/sbin/sshd")), Listing::Excepted);
        assert_eq!(policy.program(&owner("/bin/helper", (0, 0))), Listing::NotListed);
    }

    #[test]
    fn a_script_counts_as_its_interpreter_does() {
        let policy = policy(&[name("crm")], &[name("sshd")]);
        let python = |script_listed, script_excepted| Owner {
            marks: Marks { descends: false, script_listed, script_excepted },
            ..owner("/usr/bin/python3.11", (0, 0))
        };
        assert_eq!(policy.program(&python(false, false)), Listing::NotListed);
        assert_eq!(policy.program(&python(true, false)), Listing::Listed);
        assert_eq!(policy.program(&python(true, true)), Listing::Excepted);
        let of_listed = Owner { marks: python(false, true).marks, ..owner("/opt/crm", (0, 0)) };
        assert_eq!(policy.program(&of_listed), Listing::Excepted);
    }

    fn of_lineage(path: &str, script: Option<&str>, ancestors: &[&[&str]]) -> Owner {
        let program = |path: &str| Program { path: path.to_owned(), file: (0, 0) };
        let runs = |paths: &&[&str]| paths.iter().map(|path| program(path)).collect();
        let ancestors = ancestors.iter().map(runs).collect();
        let lineage = Some(Arc::new(Lineage { script: script.map(program), ancestors }));
        Owner { lineage, ..owner(path, (0, 0)) }
    }

    #[test]
    fn only_listed_programs_have_listed_children() {
        let mut policy = policy(&[name("crm"), name("sshd"), name("start.py")], &[name("sshd")]);
        let child = |ancestors: &[&[&str]]| of_lineage("/bin/helper", None, ancestors);
        let of_crm = child(&[&["/bin/sh"], &["/usr/sbin/sshd"], &["/opt/crm"]]);
        assert_eq!(policy.program(&of_crm), Listing::NotListed, "children do not count");
        // As a reload does it: the same socket, and another policy.
        policy.children = true;
        for (ancestors, listing) in [
            (&[&["/bin/sh"][..], &["/usr/sbin/sshd"], &["/opt/crm"]][..], Listing::Listed),
            (&[&["/usr/bin/python3", "/opt/start.py"]], Listing::Listed),
            (&[&["/usr/sbin/sshd"]], Listing::NotListed),
            (&[&["/usr/sbin/sshd", "/opt/start.py"]], Listing::NotListed),
            (&[&["/bin/sh"]], Listing::NotListed),
            (&[], Listing::NotListed),
        ] {
            assert_eq!(policy.program(&child(ancestors)), listing, "{ancestors:?}");
        }
        let excepted = of_lineage("/usr/sbin/sshd", None, &[&["/opt/crm"]]);
        assert_eq!(policy.program(&excepted), Listing::Excepted);
        policy.enabled = false;
        assert_eq!(policy.program(&of_crm), Listing::NotListed);
    }

    #[test]
    fn a_script_counts_in_every_list() {
        let list = |text: &str| patterns(&[name(text)]);
        let mut policy = policy(&[name("crm.py")], &[]);
        policy.on_loopback = list("crm.py");
        let script = of_lineage("/usr/bin/python3.11", Some("/srv/crm.py"), &[]);
        let other = of_lineage("/usr/bin/python3.11", Some("/srv/crm2.py"), &[]);
        assert_eq!(policy.program(&script), Listing::Listed);
        assert_eq!(policy.program(&other), Listing::NotListed);
        assert!(policy.has_own_loopback(&script) && !policy.has_own_loopback(&other));
        policy.except = list("crm.py");
        assert_eq!(policy.program(&script), Listing::Excepted);
        assert!(!policy.has_own_loopback(&script));
    }

    #[test]
    fn the_loopback_has_a_list_of_its_own() {
        let mut policy = policy(&[], &[path("/opt/other/crm")]);
        policy.enabled = false;
        assert!(policy.has_own_loopback(&owner("/opt/crm", (1, 1))));
        assert!(!policy.has_own_loopback(&owner("/opt/other/crm", (1, 2))), "excepted");
        assert!(!policy.has_own_loopback(&owner("/bin/sh", (1, 3))));
    }

    #[test]
    fn off_lists_nothing() {
        let mut policy = policy(&[ProgramPattern::All], &[name("sshd")]);
        policy.enabled = false;
        assert_eq!(policy.program(&owner("/usr/bin/ssh", (1, 3))), Listing::NotListed);
        assert_eq!(policy.program(&owner("/usr/sbin/sshd", (1, 3))), Listing::NotListed);
    }

    #[test]
    fn ports_are_excluded_by_protocol() {
        let policy = policy(&[], &[]);
        assert!(policy.excludes(Protocol::Tcp, 3389));
        assert!(!policy.excludes(Protocol::Udp, 3389));
    }
}
