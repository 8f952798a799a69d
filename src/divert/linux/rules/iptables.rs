//! How are the programs of iptables run, and what do their refusals mean?

use crate::lease::Family;
use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

/// The rules could not be changed or read.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// iptables is not installed.
    #[error("`{program}` is missing: `apt install iptables` brings it")]
    Missing {
        /// What was to be run.
        program: &'static str,
    },
    /// It could not be run, or not be written to.
    #[error("`{program}` cannot be run")]
    Run {
        /// What was to be run.
        program: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Not root.
    #[error("changing iptables rules needs root")]
    NotPermitted,
    /// Another program holds the lock of the tables.
    #[error(
        "another program has held the lock of iptables for {PATIENCE} seconds: try again when \
         it is done"
    )]
    Locked,
    /// A rule was refused.
    #[error("the iptables rule `{rule}` was refused{}: {detail}", advice(.rule))]
    Refused {
        /// The rule.
        rule: String,
        /// What iptables said.
        detail: String,
    },
    /// Anything else.
    #[error("`{program}` failed: {detail}")]
    Failed {
        /// What was run.
        program: &'static str,
        /// What it said.
        detail: String,
    },
}

/// The programs for a family: what saves, what restores.
const fn programs(family: Family) -> (&'static str, &'static str) {
    match family {
        Family::Ipv4 => ("iptables-save", "iptables-restore"),
        Family::Ipv6 => ("ip6tables-save", "ip6tables-restore"),
    }
}

/// How many seconds to wait for the lock.
const PATIENCE: &str = "5";

/// What is in a table, with counters.
pub(super) fn save(family: Family, table: &str) -> Result<String, RulesError> {
    let output = run(programs(family).0, &["-c", "-t", table], "")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs the commands of `script`: of each table all or none.
pub(super) fn restore(family: Family, script: &str) -> Result<(), RulesError> {
    run(programs(family).1, &["--noflush", "-w", PATIENCE], script).map(|_| ())
}

fn run(program: &'static str, arguments: &[&str], input: &str) -> Result<Output, RulesError> {
    let failed = |source: io::Error| {
        if source.kind() == io::ErrorKind::NotFound {
            return RulesError::Missing { program };
        }
        RulesError::Run { program, source }
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        return Err(meaning(program, input, &String::from_utf8_lossy(&output.stderr)));
    }
    written.transpose().map_err(failed)?;
    Ok(output)
}

/// The exit status says little (4 is a lock, a right or a match that is
/// missing); the words do.
fn meaning(program: &'static str, script: &str, words: &str) -> RulesError {
    let detail = words.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.contains("xtables lock") {
        RulesError::Locked
    } else if words.contains("you must be root") || words.contains("Permission denied") {
        RulesError::NotPermitted
    } else if let Some(rule) = line_of(words).and_then(|line| script.lines().nth(line - 1)) {
        RulesError::Refused { rule: rule.to_owned(), detail }
    } else {
        RulesError::Failed { program, detail }
    }
}

/// The number in `line 4 failed`, `line 4: RULE_APPEND failed` or `Error
/// occurred at line: 4`.
fn line_of(words: &str) -> Option<usize> {
    let mut words = words.split_whitespace();
    words.find(|word| matches!(*word, "line" | "line:"))?;
    let number = words.next()?.trim_end_matches(':').parse().ok()?;
    (number > 0).then_some(number)
}

/// Names what the rule asks of the kernel.
fn advice(rule: &str) -> String {
    let needed: Vec<_> = rule
        .split(' ')
        .zip(rule.split(' ').skip(1))
        .filter_map(|(option, name)| match option {
            "-m" => Some(format!("the match `{name}` (kernel module xt_{name})")),
            "-j" if name == "NFQUEUE" || name.ends_with("MARK") => {
                Some(format!("the target `{name}` (kernel module xt_{name})"))
            }
            _ => None,
        })
        .collect();
    let folder = if rule.contains("-m cgroup ") {
        "; the folder has to exist under the cgroup2 mount"
    } else {
        ""
    };
    if needed.is_empty() {
        return String::new();
    }
    format!(" (it needs {}{folder})", needed.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_the_rule_and_what_it_needs() {
        let script = "*raw\n-A X -m socket -j RETURN\n-A Y -m cgroup --path a -j Z\nCOMMIT\n";
        for (words, line) in [
            ("Couldn't load match `socket':No such file\n\nError occurred at line: 2\n", 2),
            ("iptables-restore v1.8.9 (nf_tables): \nline 3: RULE_APPEND failed (Invalid)", 3),
            ("iptables-restore: line 4 failed: Bad rule", 4),
        ] {
            assert_eq!(line_of(words), Some(line));
        }
        let error =
            meaning("iptables-restore", script, "line 2: RULE_APPEND failed (No such file)");
        assert!(error.to_string().contains("the match `socket` (kernel module xt_socket)"));
        let error =
            meaning("iptables-restore", script, "line 3: RULE_APPEND failed (Invalid argument)");
        assert!(error.to_string().contains("the folder has to exist"), "{error}");
        let lock = "Another app is currently holding the xtables lock.";
        assert!(matches!(meaning("iptables-restore", script, lock), RulesError::Locked));
        let root = "Could not fetch rule set generation id: Permission denied (you must be root)";
        assert!(matches!(meaning("iptables-save", "", root), RulesError::NotPermitted));
        let other = meaning("iptables-restore", script, "line 99: odd");
        assert_eq!(other.to_string(), "`iptables-restore` failed: line 99: odd");
    }
}
