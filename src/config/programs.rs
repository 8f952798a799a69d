//! Does every program that is listed mean somebody on this machine?

use super::{Config, Finding, ProgramPattern};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Where programs lie that are started by their name. Windows has none of these.
const FOLDERS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Entries that mean nobody, or not whom they seem to. `real` is the path that a
/// path leads to, if there is a file. Only ever warnings: a program that is
/// removed or updated must not keep the daemon from starting.
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

fn wrong(
    pattern: &ProgramPattern,
    real: &impl Fn(&Path) -> Option<PathBuf>,
) -> Option<(String, String)> {
    match pattern {
        ProgramPattern::All => None,
        ProgramPattern::Path(path) => real(path).is_none().then(|| {
            let message = format!("there is no {} on this machine", path.display());
            (message, "look for a slip of the pen, or take it out".to_owned())
        }),
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

    /// This machine has /there, /usr/bin/crm, and a link to it.
    fn real(path: &Path) -> Option<PathBuf> {
        match path.to_str()? {
            "/usr/local/bin/ledger" => Some("/usr/bin/crm".into()),
            path @ ("/there" | "/usr/bin/crm") => Some(path.into()),
            _ => None,
        }
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
        let link = ["/usr/local/bin/ledger is a link to a program of another name"];
        assert_eq!(messages(r#"virtual-ip.programs = ["crm", "ledger", "unknown"]"#), link);
        assert_eq!(messages(r#"virtual-ip.except = ["crm", "ledger", "unknown"]"#), link);
    }
}
