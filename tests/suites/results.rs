//! What became of each test, as the suites' own runners report it?

use std::collections::BTreeMap;

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ended {
    Passed,
    Skipped,
    Failed,
    /// There was none of that name.
    Absent,
}

/// By the full names of tests.
pub(crate) type Outcomes = BTreeMap<String, Ended>;

/// How tests ended, how long each took, and what those that failed had to say.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) outcomes: Outcomes,
    pub(crate) seconds: BTreeMap<String, f64>,
    pub(crate) said: BTreeMap<String, String>,
}

impl Results {
    /// Of a report in JUnit's format, as CPython's test runner writes it: one
    /// `testcase` after the other, with what was wrong inside.
    pub(crate) fn of_python(report: &str) -> Self {
        let mut results = Self::default();
        for case in report.split("<testcase ").skip(1) {
            let case = case.split("</testsuite>").next().unwrap_or(case);
            let Some(name) = attribute(case, "name") else { continue };
            let ended = if case.contains("<failure") || case.contains("<error") {
                results.said.insert(name.to_owned(), excerpt(case, 40));
                Ended::Failed
            } else if case.contains("<skipped") {
                Ended::Skipped
            } else {
                Ended::Passed
            };
            let seconds = attribute(case, "time").and_then(|time| time.parse().ok());
            results.add(name.to_owned(), ended, seconds.unwrap_or_default());
        }
        results
    }

    /// Of what a Go test says with `-test.v`: `--- PASS: TestName (0.01s)`,
    /// sometimes after something that ends without a new line.
    pub(crate) fn of_go(package: &str, said: &str) -> Self {
        const ENDS: [(&str, Ended); 3] = [
            ("--- PASS: ", Ended::Passed),
            ("--- SKIP: ", Ended::Skipped),
            ("--- FAIL: ", Ended::Failed),
        ];
        let mut results = Self::default();
        let mut lines = said.lines().peekable();
        let mut before = Vec::new();
        while let Some(line) = lines.next() {
            let end = ENDS.iter().find_map(|(mark, ended)| Some((line.split_once(mark)?.1, ended)));
            let Some((rest, ended)) = end else {
                before.push(line);
                continue;
            };
            let mut words = rest.split(' ');
            let name = format!("{package}.{}", words.next().unwrap_or_default());
            let seconds = words.next().unwrap_or_default();
            let seconds = seconds.trim_matches(['(', ')', 's']).parse().unwrap_or_default();
            if *ended == Ended::Failed {
                let after = lines.clone().take_while(|line| !line.contains("--- "));
                let around: Vec<_> = before.iter().copied().chain(after).collect();
                let around = &around[around.len().saturating_sub(40)..];
                results.said.insert(name.clone(), around.join("\n"));
            }
            results.add(name, *ended, seconds);
            before.clear();
        }
        results
    }

    /// Of several tests of one name, the one that ended worst counts.
    fn add(&mut self, name: String, ended: Ended, seconds: f64) {
        *self.seconds.entry(name.clone()).or_default() += seconds;
        let worst = self.outcomes.entry(name).or_insert(ended);
        *worst = ended.max(*worst);
    }
}

fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let head = element.split('>').next()?;
    let (_, value) = head.split_once(&format!("{name}=\""))?;
    value.split('"').next()
}

/// The last lines.
fn excerpt(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[test]
fn a_report_of_python_is_read() {
    let report = "<testsuites><testsuite start=\"x\" tests=\"3\" errors=\"0\">\
        <testcase name=\"test.test_a.A.test_b\" status=\"run\" result=\"completed\" time=\"1.5\" />\
        <testcase name=\"test.test_a.A.test_c\" status=\"run\" result=\"completed\" time=\"0\">\
        <system-out>a &lt;failure in words</system-out><skipped>not here</skipped></testcase>\
        <testcase name=\"test.test_a.A.test_d\" status=\"run\" result=\"completed\" time=\"0\">\
        <failure type=\"AssertionError\">1 != 2</failure></testcase></testsuite></testsuites>";
    let results = Results::of_python(report);
    let ended: Vec<_> = results.outcomes.values().copied().collect();
    assert_eq!(ended, [Ended::Passed, Ended::Skipped, Ended::Failed]);
    assert_eq!(results.seconds["test.test_a.A.test_b"], 1.5);
    assert!(results.said["test.test_a.A.test_d"].contains("1 != 2"));
}

#[test]
fn what_a_go_test_says_is_read() {
    let said = "=== RUN   TestA\n--- PASS: TestA (0.10s)\n=== RUN   TestB\n=== RUN   TestB/x\n\
        b_test.go:7: refused\n--- FAIL: TestB (2.00s)\n    --- FAIL: TestB/x (0.00s)\n\
        a line without end--- SKIP: TestC (0.00s)\n    c_test.go:1: no network\nFAIL\n";
    let results = Results::of_go("net", said);
    let names: Vec<_> = results.outcomes.iter().map(|(test, ended)| (&**test, *ended)).collect();
    let expected = [
        ("net.TestA", Ended::Passed),
        ("net.TestB", Ended::Failed),
        ("net.TestB/x", Ended::Failed),
        ("net.TestC", Ended::Skipped),
    ];
    assert_eq!(names, expected);
    assert_eq!(results.seconds["net.TestB"], 2.0);
    assert!(results.said["net.TestB"].contains("refused"));
}
