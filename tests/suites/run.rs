//! Runs suites in places, several at once: most of their time they wait.

use crate::places::Place;
use crate::results::{Outcomes, Results};
use crate::suites::{Kind, LIMIT, Suite, report};
use sessionip::lab::wait;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

/// How a suite went in a place.
#[derive(Default)]
pub(crate) struct Ran {
    pub(crate) outcomes: Outcomes,
    /// What tests that failed had to say.
    pub(crate) said: BTreeMap<String, String>,
    seconds: BTreeMap<String, f64>,
    took: Duration,
    /// All that was written.
    output: String,
}

/// Each of the suites in every place; by the names of both.
pub(crate) fn everywhere(
    suites: &[&'static Suite],
    places: &[&Place],
    built: &Path,
) -> BTreeMap<(String, &'static str), Ran> {
    let pairs = suites.iter().flat_map(|suite| places.iter().map(move |place| (*suite, *place)));
    let waiting: Mutex<VecDeque<_>> = Mutex::new(pairs.collect());
    let done = Mutex::new(BTreeMap::new());
    let workers = 4 * thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap().pop_front();
                    let Some((suite, place)) = next else { break };
                    let ran = run(suite, &[], place, built);
                    done.lock().unwrap().insert((place.name.clone(), suite.name), ran);
                }
            });
        }
    });
    done.into_inner().unwrap()
}

/// A suite, or only `tests` of it, in a place.
pub(crate) fn run(suite: &Suite, tests: &[String], place: &Place, built: &Path) -> Ran {
    let folder = place.folder(&suite.name.replace('/', "-"));
    let began = now();
    let mut running = place.start(&suite.command(tests, &folder, built), &folder);
    // A runner that is not done by then is ended, and what it did not come to is
    // missing in its report.
    let _ = wait::until(suite.name, Duration::from_secs(LIMIT), || running.ended());
    running.end();
    let took = began.elapsed();
    let output = running.said() + &running.complained();
    let results = match suite.kind {
        Kind::Python { .. } => {
            let report = std::fs::read(report(&folder)).unwrap_or_default();
            Results::of_python(&String::from_utf8_lossy(&report))
        }
        Kind::Go => Results::of_go(suite.name, &running.said()),
    };
    // Whatever they left, there is enough room for all that come after.
    let _ = std::fs::remove_dir_all(&folder);
    let Results { outcomes, seconds, said } = results;
    Ran { outcomes, said, seconds, took, output }
}

impl Ran {
    /// How long it took compared with another run, and which tests took much longer.
    pub(crate) fn beside(&self, other: &Self) -> String {
        let slow = self.seconds.iter().filter_map(|(test, seconds)| {
            let usual = other.seconds.get(test)?;
            let much = *seconds > 4.0 * usual && *seconds > usual + 2.0;
            much.then(|| format!(" {test} {usual:.1} -> {seconds:.1} s"))
        });
        let slow: String = slow.collect();
        let sum = |ran: &Self| ran.seconds.values().sum::<f64>().max(0.01);
        let (took, usual) = (self.took.as_secs_f64(), other.took.as_secs_f64());
        let ratio = sum(self) / sum(other);
        format!("{took:5.1} s beside {usual:5.1} s, tests {ratio:4.2}{slow}")
    }

    /// The end of what was written.
    pub(crate) fn tail(&self) -> String {
        let lines: Vec<_> = self.output.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

#[expect(clippy::disallowed_methods, reason = "a test that says how long suites take")]
fn now() -> Instant {
    Instant::now()
}
