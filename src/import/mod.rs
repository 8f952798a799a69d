//! What did the system before sessionip have, and how is that said here?
//!
//! From the registry of a host that used Citrix virtual IP and virtual loopback,
//! or RD IP Virtualization, as `reg export` writes it, to a configuration. What
//! has no counterpart, or stood elsewhere, is said and never made up.

mod draft;
mod keys;
pub mod reg;

use crate::config::{Config, Finding, Severity};
use draft::Draft;
use reg::{Export, NoExport, Unread};
use std::fmt;

/// A configuration, and what else an administrator has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The file, whose comments say all that `notes` say.
    pub toml: String,
    /// What to tell whoever imports.
    pub notes: Vec<Note>,
}

/// What to tell whoever imports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// It was in the registry and is not in the configuration.
    NotCarriedOver(String),
    /// It is in the configuration and needs a hand.
    FillIn(String),
    /// It was taken, and may have meant something else.
    Check(String),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCarriedOver(what) => write!(f, "not carried over: {what}"),
            Self::FillIn(what) => write!(f, "to be filled in: {what}"),
            Self::Check(what) => write!(f, "to be checked: {what}"),
        }
    }
}

/// Why nothing could be imported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// It is another kind of file.
    #[error("{file} is no registry export")]
    NoExport {
        /// Its name.
        file: String,
        /// What tells so.
        source: NoExport,
    },
    /// It has none of the keys.
    #[error(
        "none of the keys of Citrix virtual IP or RD IP Virtualization is in there: export {keys}",
        keys = keys::PLACES.join(" and ")
    )]
    NothingKnown,
    /// What was given besides is wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n"))]
    Wrong(Vec<Finding>),
}

/// Makes a configuration of registry exports, each with its name; later ones
/// count more. The ranges stood elsewhere: they are the ones given, or left to be
/// filled in.
///
/// # Errors
/// See [`ImportError`].
pub fn import(files: &[(String, Vec<u8>)], ranges: &[String]) -> Result<Import, ImportError> {
    let mut all = Export::default();
    let mut draft = Draft::default();
    for (file, bytes) in files {
        let mut export = Export::read(bytes, |key| keys::place(key).is_some())
            .map_err(|source| ImportError::NoExport { file: file.clone(), source })?;
        for Unread { line, why } in export.unread.drain(..) {
            draft.note(Note::NotCarriedOver(format!("line {line} of {file}: {why}")));
        }
        all.add(export);
    }
    let found = keys::Found::among(&all).ok_or(ImportError::NothingKnown)?;
    draft.ranges(&found, ranges);
    draft.virtual_ip(&found);
    draft.loopback(&found);
    draft.left_over(&found);
    let names: Vec<_> = files.iter().map(|(file, _)| &**file).collect();
    let import = draft.finish(&names.join(" and "));
    match Config::parse("the result", &import.toml) {
        Err(findings) if !ranges.is_empty() => Err(ImportError::Wrong(
            findings.into_iter().filter(|it| it.severity == Severity::Error).collect(),
        )),
        Ok(_) | Err(_) => Ok(import),
    }
}

#[cfg(test)]
mod tests;
