//! Does this machine do what sessionip builds on?
//!
//! WinDivert, the network card and the other software of a server decide that, and
//! nobody but the server itself can say. `sessionip selftest` has it show each
//! thing once, with narrow filters, an address of its own that it takes off again,
//! and no daemon. What it is made of is pure here; the checks are the platform's.

mod lag;
mod matrix;
#[cfg(windows)]
pub mod windows;

pub use lag::Lags;
pub use matrix::{Bind, Case, Manner, Matrix, Place};

use serde::Serialize;

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The machine does it.
    Ok,
    /// It does not.
    Failed,
    /// Nobody knows.
    NotRun,
}

impl Outcome {
    /// As in the table and in JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::NotRun => "not-run",
        }
    }
}

/// A check that was made, or could not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// What came of it.
    pub result: Outcome,
    /// What was seen.
    pub sentence: String,
    /// What to do; empty: nothing.
    pub help: String,
}

/// Why a check did not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The machine does not do it.
    Failed {
        /// What was seen.
        sentence: String,
        /// What to do.
        help: String,
    },
    /// It could not be tried.
    NotRun(String),
}

impl Why {
    /// The machine does not do it.
    pub fn failed(sentence: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Failed { sentence: sentence.into(), help: help.into() }
    }
}

impl Check {
    /// Of what a check says.
    pub fn of(name: &'static str, said: Result<String, Why>) -> Self {
        let (result, sentence, help) = match said {
            Ok(sentence) => (Outcome::Ok, sentence, String::new()),
            Err(Why::Failed { sentence, help }) => (Outcome::Failed, sentence, help),
            Err(Why::NotRun(sentence)) => (Outcome::NotRun, sentence, String::new()),
        };
        Self { name, result, sentence, help }
    }
}

/// All of them, in the order in which they were made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Nothing failed, and nobody stopped it.
    pub ok: bool,
    /// Each.
    pub checks: Vec<Check>,
}

impl Report {
    /// Of these checks.
    pub fn of(checks: Vec<Check>, stopped: bool) -> Self {
        let ok = !stopped && checks.iter().all(|check| check.result != Outcome::Failed);
        Self { ok, checks }
    }

    /// What to do, a line for each check that needs something.
    pub fn advice(&self) -> impl Iterator<Item = String> {
        let needed = self.checks.iter().filter(|check| !check.help.is_empty());
        needed.map(|check| format!("{}: {}", check.name, check.help))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Vec<Check> {
        vec![
            Check::of("driver", Ok("WinDivert 2.2 opens".into())),
            Check::of("inbound", Err(Why::NotRun("give --peer HOST".into()))),
            Check::of("stop", Err(Why::failed("the peer still hears 10.77.0.101", "restart"))),
        ]
    }

    #[test]
    fn one_failure_is_enough_and_what_did_not_run_is_none() {
        let mut checks = some();
        assert!(!Report::of(checks.clone(), false).ok);
        checks.pop();
        assert!(Report::of(checks.clone(), false).ok);
        assert!(!Report::of(checks, true).ok, "stopped");
    }

    #[test]
    fn a_report_is_json_and_advice() {
        let report = Report::of(some(), false);
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            r#"{"ok":false,"checks":[{"name":"driver","result":"ok","sentence":"WinDivert 2.2 opens","help":""},{"name":"inbound","result":"not-run","sentence":"give --peer HOST","help":""},{"name":"stop","result":"failed","sentence":"the peer still hears 10.77.0.101","help":"restart"}]}"#
        );
        assert_eq!(report.advice().collect::<Vec<_>>(), ["stop: restart"]);
        for outcome in [Outcome::Ok, Outcome::Failed, Outcome::NotRun] {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.word());
        }
    }
}
