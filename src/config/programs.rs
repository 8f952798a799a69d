//! Does every program that is listed mean somebody on this machine?

use super::{Config, Finding, ProgramPattern, reading};
use std::ffi::OsStr;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Where programs lie that are started by their name. Windows has none of these.
pub(crate) const FOLDERS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Entries that mean nobody, or not whom they seem to. `real` is the path that a
/// path leads to, if there is a file. Only ever warnings: a program that is removed
/// or updated must not keep the daemon from starting.
pub(super) fn findings(config: &Config, real: impl Fn(&Path) -> Option<PathBuf>) -> Vec<Finding> {
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
        let (message, help) = wrong(pattern, &real)?;
        Some(Finding::warning(key, message, help).item(index))
    });
    findings.collect()
}

/// Extensions of what an interpreter runs.
const SCRIPTS: [&str; 25] = [
    "py", "pyw", "pyz", "sh", "bash", "ksh", "zsh", "pl", "rb", "rbw", "js", "mjs", "cjs", "php",
    "lua", "tcl", "jar", "war", "exp", "bat", "cmd", "ps1", "vbs", "vbe", "wsf",
];

/// Is it called as scripts are?
pub(crate) fn has_extension(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    SCRIPTS.iter().any(|script| script.eq_ignore_ascii_case(extension))
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The system runs it by itself (ELF, PE).
    Program,
    /// It names its interpreter (`#!`).
    NamesInterpreter,
    Other,
}

/// `None`: there is no file.
pub(crate) fn kind(path: &Path) -> Option<Kind> {
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
    real: &impl Fn(&Path) -> Option<PathBuf>,
) -> Option<(String, String)> {
    match pattern {
        ProgramPattern::All => None,
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
        findings(&config, real).into_iter().map(|finding| finding.message).collect()
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
            let wrong = wrong(&pattern, &|path| Some(path.to_owned()));
            found.push((name, wrong.is_some()));
        }
        let wanted = [("program", false), ("script", false), ("a.jar", false), ("notes", true)];
        assert_eq!(found, wanted);
    }
}
