//! The table of arguments, `scripts.toml`, as the tests of each side read it.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    pub(crate) case: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) program: String,
    arguments: Vec<String>,
    pub(crate) file: Option<String>,
}

impl Table {
    pub(crate) fn read() -> Self {
        toml::from_str(include_str!("../../scripts.toml")).unwrap()
    }
}

impl Case {
    /// `LONG` stands for one that is longer than any buffer.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let long = |text: &String| if text == "LONG" { "x".repeat(9000) } else { text.clone() };
        self.arguments.iter().map(long).collect()
    }
}
