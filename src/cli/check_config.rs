//! `sessionip check-config FILE`: what is wrong with a configuration?

use crate::address;
use crate::config::machine::AdapterView;
use crate::config::{Config, Finding, LoadError, Severity};
use serde::Serialize;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// The answer in JSON; `doctor` gives the same.
#[derive(Serialize)]
struct Report<'f> {
    ok: bool,
    findings: &'f [Finding],
}

/// Writes every finding about `file` to `out`, for people or as JSON. What
/// depends on this machine is a warning. Succeeds where nothing is an error.
pub fn check_config(file: &Path, json: bool, out: &mut dyn Write) -> io::Result<ExitCode> {
    // Without its network cards a machine can still have its file read.
    let adapters = address::cards().unwrap_or_default();
    check_for(file, &adapters, json, out)
}

fn check_for(
    file: &Path,
    adapters: &[AdapterView],
    json: bool,
    out: &mut dyn Write,
) -> io::Result<ExitCode> {
    let (ok, findings) = match Config::load_for(file, adapters, Severity::Warning) {
        Ok((_, warnings)) => (true, warnings),
        Err(LoadError::Wrong(findings)) => (false, findings),
        Err(LoadError::Read { path, source }) => (false, vec![Finding::unreadable(&path, &source)]),
    };
    if json {
        serde_json::to_writer(&mut *out, &Report { ok, findings: &findings })?;
        writeln!(out)?;
    } else {
        for finding in &findings {
            writeln!(out, "{finding}\n")?;
        }
        writeln!(out, "{}: {}", file.display(), tally(&findings))?;
    }
    out.flush()?;
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tally(findings: &[Finding]) -> String {
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    let count = |number: usize, word| match number {
        0 => None,
        1 => Some(format!("1 {word}")),
        _ => Some(format!("{number} {word}s")),
    };
    let counts = [count(errors, "error"), count(findings.len() - errors, "warning")];
    match counts.into_iter().flatten().collect::<Vec<_>>().join(", ") {
        counts if counts.is_empty() => "no findings".into(),
        counts => counts,
    }
}
