//! Do the servers and clients of a session find each other at localhost, while
//! another session has the same ones on the same ports? Those are servers of
//! Python's library and of its tests (`pairs.py`): each answers with the name of
//! its session.

use crate::differences::Differences;
use crate::places::{Place, SETTINGS};
use crate::results::{Ended, Outcomes};
use sessionip::lab::process::Running;
use sessionip::lab::wait;
use std::collections::BTreeMap;
use std::time::Duration;

/// Which servers are asked at which address, by the address that they bind; the
/// last one is the host's own.
const WILDCARD: [&str; 5] =
    ["0.0.0.0=127.0.0.1", "0.0.0.0=localhost", "::=::1", "::=127.0.0.1", "0.0.0.0=10.77.0.1"];
/// The host's own by IPv6, where sessions have an IPv6 address.
const HOST_IPV6: [&str; 1] = ["::=fd77::1"];
/// Where every session has a localhost of its own.
const LOCALHOST: [&str; 2] = ["127.0.0.1=127.0.0.1", "::1=::1"];

const ROUNDS: &str = "3";

#[test]
fn pairs_find_each_other_in_every_session() {
    let listed = Differences::read();
    let mut wrong = Vec::new();
    let plain = talk(&[Place::plain()], true, true).remove(0);
    for (test, (ended, what)) in &plain {
        if *ended != Ended::Passed {
            wrong.push(format!("{test} failed without sessionip: {what}"));
        }
    }
    let mut all = vec![outcomes(&plain)];
    for setting in &SETTINGS {
        let places = Place::sessions(setting, 2);
        for (place, answers) in places.iter().zip(talk(&places, setting.loopback, setting.ipv6)) {
            assert!(answers.len() >= 40, "{}: only {} pairs", place.name, answers.len());
            for (test, (ended, what)) in &answers {
                let differs = *ended != Ended::Passed;
                if differs != listed.expects(test, place) || what.contains("session") {
                    wrong.push(format!("{}, {test}: {ended:?} {what}", place.name));
                }
            }
            all.push(outcomes(&answers));
        }
    }
    wrong.extend(listed.of_no_test(true, all.iter()));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What became of each pair, and what was wrong.
type Answers = BTreeMap<String, (Ended, String)>;

fn outcomes(answers: &Answers) -> Outcomes {
    answers.iter().map(|(test, (ended, _))| (test.clone(), *ended)).collect()
}

/// Has all servers in all places first, then all clients at once.
fn talk(places: &[Place], loopback: bool, ipv6: bool) -> Vec<Answers> {
    let binds = if loopback {
        ["0.0.0.0", "::", "127.0.0.1", "::1"].as_slice()
    } else {
        &["0.0.0.0", "::"]
    };
    let asked = if loopback { LOCALHOST.as_slice() } else { &[] };
    let by_ipv6 = if ipv6 { HOST_IPV6.as_slice() } else { &[] };
    let limit = Duration::from_secs(180);
    let serving: Vec<_> =
        places.iter().map(|place| start(place, &[&["serve"], binds].concat())).collect();
    for (place, server) in places.iter().zip(&serving) {
        let ready = wait::until("the servers' start", limit, || {
            Ok(server.said().contains("serving").then_some(()))
        });
        ready.unwrap_or_else(|error| panic!("{}: {error}\n{}", place.name, server.complained()));
    }
    let words = [&["ask", ROUNDS], WILDCARD.as_slice(), by_ipv6, asked].concat();
    let asking: Vec<_> = places.iter().map(|place| start(place, &words)).collect();
    let said = asking.into_iter().map(|client| client.finish(limit).unwrap());
    said.map(|said| said.lines().filter_map(answer).collect()).collect()
}

/// `serve` or `ask`, with the name of the session.
fn start(place: &Place, words: &[&str]) -> Running {
    let name = place.name.replace(' ', "-");
    let mut all =
        vec!["/usr/bin/python3", "-u", "-W", "ignore", "-B", "-c", include_str!("pairs.py")];
    all.extend([words[0], &name]);
    all.extend(&words[1..]);
    place.start(&all, &place.folder("pairs"))
}

/// A line that says what became of a pair.
fn answer(line: &str) -> Option<(String, (Ended, String))> {
    let [test, ended, what] = line.split('\t').collect::<Vec<_>>().try_into().ok()?;
    let ended = if ended == "passed" { Ended::Passed } else { Ended::Failed };
    Some((test.to_owned(), (ended, what.to_owned())))
}
