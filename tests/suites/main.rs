//! Can public test suites tell that they run in a session? CPython's network
//! tests and those of Go's standard library, unmodified, as Debian packages
//! them: each test must end as it does without the product, but for those that
//! `differences.toml` explains. Needs root, iproute2, iptables and what
//! `.ci/setup` installs of Python and Go.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "figures, for who reads the test's output")]

mod differences;
mod pairs;
mod places;
mod results;
mod run;
mod suites;

use differences::Differences;
use places::{Place, SETTINGS};
use results::{Ended, Outcomes};
use run::Ran;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use suites::{SUITES, Suite};

/// How often tests that differ are run again before that counts.
const AGAIN: usize = 3;

#[test]
fn every_test_ends_in_a_session_as_it_does_without() {
    let listed = Differences::read();
    let built = suites::build();
    let plain = Place::plain();
    let chosen = suites::chosen();
    let settings: Vec<_> = SETTINGS
        .iter()
        .filter(|setting| setting.sessions > 0)
        .map(|setting| Place::sessions(setting, setting.sessions))
        .collect();
    let sessions = settings.iter().flatten();
    let places: Vec<&Place> = std::iter::once(&plain).chain(sessions).collect();
    let ran = run::everywhere(&chosen, &places, built.path());

    let mut wrong = Vec::new();
    for suite in &chosen {
        let alone = &ran[&(plain.name.clone(), suite.name)];
        let passed = alone.outcomes.values().filter(|ended| **ended == Ended::Passed).count();
        println!("{:10} {:6} tests, {passed} passed", suite.name, alone.outcomes.len());
        if passed < suite.least {
            wrong.push(format!(
                "{}: {passed} tests passed without sessionip, not {}:\n{}",
                suite.name,
                suite.least,
                alone.tail()
            ));
        }
        for place in places.iter().filter(|place| !place.is_plain()) {
            let inside = &ran[&(place.name.clone(), suite.name)];
            println!("           {:20} {}", place.name, inside.beside(alone));
            wrong.extend(compare(suite, built.path(), [&plain, place], [alone, inside], &listed));
        }
    }
    if chosen.len() == SUITES.len() {
        wrong.extend(listed.of_no_test(false, ran.values().map(|ran| &ran.outcomes)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// What is not as it should be, one text for each test.
fn compare(
    suite: &Suite,
    built: &Path,
    places: [&Place; 2],
    ran: [&Ran; 2],
    listed: &Differences,
) -> Vec<String> {
    let place = places[1];
    let mut pair = ran.map(|ran| Seen::default().and(&ran.outcomes));
    let mut said = ran[1].said.clone();
    for _ in 0..AGAIN {
        let tests = doubtful(&pair, place, listed);
        let tests: Vec<_> = tests.into_iter().filter(|test| suite.has(test)).collect();
        if tests.is_empty() {
            return Vec::new();
        }
        println!("           {:20} again: {}", place.name, tests.join(" "));
        let ran = places.map(|place| run::run(suite, &tests, place, built));
        let [alone, inside] = pair;
        pair = [alone.and(&ran[0].outcomes), inside.and(&ran[1].outcomes)];
        said.extend(ran[1].said.clone());
    }
    let sentence = |test: String| {
        let [alone, inside] = [pair[0].words(&test), pair[1].words(&test)];
        let said = said.get(&test).map_or("", String::as_str);
        let expected = if listed.expects(&test, place) { ", as listed no more" } else { "" };
        format!("{}, {test}: {alone} without, {inside} within{expected}\n{said}", place.name)
    };
    doubtful(&pair, place, listed).into_iter().map(sentence).collect()
}

/// The tests that differ and should not, and those that should and do not.
fn doubtful(pair: &[Seen; 2], place: &Place, listed: &Differences) -> Vec<String> {
    let tests: BTreeSet<_> = pair.iter().flat_map(|seen| seen.0.keys()).collect();
    let differs = |test: &str| pair[0].of(test).is_disjoint(&pair[1].of(test));
    let doubtful = tests.into_iter().filter(|test| differs(test) != listed.expects(test, place));
    doubtful.cloned().collect()
}

/// All the ways in which tests have ended in a place.
#[derive(Default)]
struct Seen(BTreeMap<String, BTreeSet<Ended>>);

impl Seen {
    fn and(mut self, outcomes: &Outcomes) -> Self {
        for (test, ended) in outcomes {
            self.0.entry(test.clone()).or_default().insert(*ended);
        }
        self
    }

    fn of(&self, test: &str) -> BTreeSet<Ended> {
        self.0.get(test).cloned().unwrap_or_else(|| [Ended::Absent].into())
    }

    fn words(&self, test: &str) -> String {
        let words: Vec<_> = self.of(test).iter().map(|ended| format!("{ended:?}")).collect();
        words.join(" or ").to_lowercase()
    }
}
