//! Which tests end differently in a session, and why may they?

use crate::places::{Place, SETTINGS};
use crate::results::Outcomes;
use serde::Deserialize;

/// The list, `differences.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Differences {
    difference: Vec<Difference>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Difference {
    test: String,
    settings: Vec<String>,
    /// In one sentence.
    why: String,
}

impl Differences {
    pub(crate) fn read() -> Self {
        let list: Self = toml::from_str(include_str!("differences.toml")).unwrap();
        for entry in &list.difference {
            assert!(entry.why.ends_with('.'), "{}: why?", entry.test);
            for setting in &entry.settings {
                assert!(SETTINGS.iter().any(|known| known.name == setting), "{setting}?");
            }
        }
        list
    }

    /// Whether a test should end differently there.
    pub(crate) fn expects(&self, test: &str, place: &Place) -> bool {
        let setting = place.setting();
        self.difference
            .iter()
            .any(|entry| entry.test == test && entry.settings.iter().any(|name| name == setting))
    }

    /// The entries that name no test at all, of those that belong to pairs or not.
    pub(crate) fn of_no_test<'a>(
        &self,
        pairs: bool,
        outcomes: impl Iterator<Item = &'a Outcomes>,
    ) -> Vec<String> {
        let outcomes: Vec<_> = outcomes.collect();
        let known = |test: &String| outcomes.iter().any(|outcomes| outcomes.contains_key(test));
        let concerned = |entry: &&Difference| entry.test.starts_with("pairs.") == pairs;
        let unknown = self.difference.iter().filter(concerned).filter(|entry| !known(&entry.test));
        unknown.map(|entry| format!("{} is listed, and is no test", entry.test)).collect()
    }
}
