//! Does every program that is listed mean somebody on this machine?

use super::{Config, Finding, ProgramPattern, reading};
use std::ffi::OsStr;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Where programs lie that are started by their name. Windows has none of these.
pub(crate) const FOLDERS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Entries that mean nobody, or not whom they seem to. `real` is the path that a
/// path leads to, if there is a file; `scripts`: they are followed here. Only ever
/// warnings: a program that is
/// removed or updated must not keep the daemon from starting.
pub(super) fn findings(
    config: &Config,
    scripts: bool,
    real: impl Fn(&Path) -> Option<PathBuf>,
) -> Vec<Finding> {
    let lists = [
        ("virtual-ip.programs", &config.virtual_ip.programs),
        ("virtual-ip.except", &config.virtual_ip.except),
        ("loopback.programs", &config.loopback.programs),
        ("loopback.prefer", &config.loopback.prefer),
    ];
    let listed = lists.into_iter().flat_map(|(key, list)| {
        list.iter().enumerate().map(move |(index, pattern)| (key, index, pattern))
    });
    let excluded = config.hook_exclude.iter().enumerate();
    let excluded =
        excluded.filter_map(|(index, it)| Some(("hook.exclude", index, it.program.as_ref()?)));
    let findings = listed.chain(excluded).filter_map(|(key, index, pattern)| {
        let (message, help) = wrong(pattern, scripts, &real)?;
        Some(Finding::warning(key, message, help).item(index))
    });
    findings.collect()
}

/// Extensions of what an interpreter runs.
const SCRIPTS: [&str; 22] = [
    "py", "pyw", "pyz", "sh", "bash", "ksh", "zsh", "pl", "rb", "js", "mjs", "cjs", "php", "lua",
    "tcl", "jar", "war", "exp", "bat", "cmd", "ps1", "vbs",
];

/// May this entry be a script, so that it means the process of its interpreter? A
/// file is one unless it is a program of the system's own kind; what is not there
/// says so by its name.
pub(crate) fn may_be_script(pattern: &ProgramPattern) -> bool {
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

fn has_extension(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    SCRIPTS.iter().any(|script| script.eq_ignore_ascii_case(extension))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The system runs it by itself (ELF, PE).
    Program,
    /// It names its interpreter (`#!`).
    NamesInterpreter,
    Other,
}

/// `None`: there is no file.
fn kind(path: &Path) -> Option<Kind> {
    let mut first = Vec::new();
    reading::open(path).ok()?.take(4).read_to_end(&mut first).ok()?;
    Some(match first.as_slice() {
        [0x7f, b'E', b'L', b'F'] | [b'M', b'Z', ..] => Kind::Program,
        [b'#', b'!', ..] => Kind::NamesInterpreter,
        _ => Kind::Other,
    })
}

fn wrong(
    pattern: &ProgramPattern,
    scripts: bool,
    real: &impl Fn(&Path) -> Option<PathBuf>,
) -> Option<(String, String)> {
    let not_followed = |entry: String| {
        let message = format!("{entry} is a script, and here only its interpreter is a program");
        Some((message, "list the interpreter".to_owned()))
    };
    match pattern {
        ProgramPattern::All => None,
        ProgramPattern::Path(path) if !scripts && may_be_script(pattern) => {
            not_followed(path.display().to_string())
        }
        ProgramPattern::Name(name) if !scripts && may_be_script(pattern) => {
            not_followed(name.clone())
        }
        ProgramPattern::Path(path) => {
            let Some(real) = real(path) else {
                let message = format!("there is no {} on this machine", path.display());
                return Some((message, "look for a slip of the pen, or take it out".to_owned()));
            };
            (kind(&real) == Some(Kind::Other) && !has_extension(&real)).then(|| {
                let message = format!("nobody is known to run {}", path.display());
                let help = "list a program, or a script that has a #! line or an extension";
                (message, help.to_owned())
            })
        }
        ProgramPattern::Name(name) => {
            let (path, real) = FOLDERS.into_iter().find_map(|folder| {
                let path = Path::new(folder).join(name);
                real(&path).map(|real| (path, real))
            })?;
            let own = real.file_name().filter(|own| *own != OsStr::new(name))?;
            let message = format!("{} is a link to a program of another name", path.display());
            let help = format!("write {:?}, or the full path", own.to_string_lossy());
            Some((message, help))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// This machine has /there, /usr/bin/crm, and a link to it.
    fn real(path: &Path) -> Option<PathBuf> {
        // As paths, not as texts: on Windows they may be joined by a backslash.
        let is = |known: &&str| path == Path::new(known);
        if is(&"/usr/local/bin/ledger") {
            return Some("/usr/bin/crm".into());
        }
        ["/there", "/usr/bin/crm"].iter().find(|known| is(known)).map(Into::into)
    }

    fn messages(text: &str) -> Vec<String> {
        let text = format!("pool.ranges = [\"10.77.0.2-10.77.0.9\"]\n{text}");
        let (config, _) = Config::parse("test", &text).unwrap();
        findings(&config, true, real).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn a_listed_path_that_is_not_there_is_a_warning() {
        let absent = ["there is no /gone on this machine"];
        assert_eq!(messages(r#"virtual-ip.programs = ["*", "/there", "/gone"]"#), absent);
        assert_eq!(
            messages(r#"hook.exclude = ["/there:udp/68", "/gone:udp/68", "udp/67"]"#),
            absent
        );
    }

    #[test]
    fn a_name_that_only_a_link_has_is_a_warning() {
        let ledger = Path::new("/usr/local/bin").join("ledger");
        let link = [format!("{} is a link to a program of another name", ledger.display())];
        assert_eq!(messages(r#"virtual-ip.programs = ["crm", "ledger", "unknown"]"#), link);
        assert_eq!(messages(r#"virtual-ip.except = ["crm", "ledger", "unknown"]"#), link);
    }

    #[test]
    fn what_nobody_runs_is_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let mut found = Vec::new();
        for (name, text) in
            [("program", "\x7fELF"), ("script", "#!/bin/sh"), ("a.jar", "PK"), ("notes", "Dear")]
        {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            let pattern = ProgramPattern::Path(path);
            let wrong = wrong(&pattern, true, &|path| Some(path.to_owned()));
            found.push((name, may_be_script(&pattern), wrong.is_some()));
        }
        let wanted = [
            ("program", false, false),
            ("script", true, false),
            ("a.jar", true, false),
            ("notes", true, true),
        ];
        assert_eq!(found, wanted);
        for (text, is_script) in
            [("/nowhere/x.py", true), ("/nowhere/x", false), ("x.JAR", true), ("x", false)]
        {
            assert_eq!(may_be_script(&text.parse().unwrap()), is_script, "{text}");
        }
        assert!(!may_be_script(&ProgramPattern::All));
    }

    #[test]
    fn a_script_is_a_warning_where_scripts_are_not_followed() {
        for text in [r"C:\CRM\crm.py", "crm.jar"] {
            let pattern = text.parse().unwrap();
            assert!(wrong(&pattern, true, &|path| Some(path.to_owned())).is_none());
            let (message, _) = wrong(&pattern, false, &|path| Some(path.to_owned())).unwrap();
            assert!(message.starts_with(text), "{message}");
        }
    }
}
