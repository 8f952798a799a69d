//! The table of command lines, `lines.toml`.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lines {
    pub(crate) case: Vec<Line>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    program: Option<String>,
    pub(crate) line: String,
    pub(crate) file: Option<String>,
}

impl Lines {
    pub(crate) fn read() -> Self {
        toml::from_str(include_str!("../../lines.toml")).unwrap()
    }
}

impl Line {
    /// The file name of the program that is handed the line: the line's first word
    /// where nothing else is said.
    pub(crate) fn program(&self) -> String {
        let first = || match self.line.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next().unwrap(),
            None => self.line.split(' ').next().unwrap(),
        };
        let program = self.program.as_deref().unwrap_or_else(first);
        program.rsplit('\\').next().unwrap().to_owned()
    }
}
