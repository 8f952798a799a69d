//! Do real programs listen on one port in two sessions? Unmodified, as Debian
//! packages them, and in the ways that languages have. Needs root, and what
//! `.ci/setup` installs.
//!
//! | file | answers |
//! |---|---|
//! | program | what is known of a program: a row of the matrix |
//! | packaged, runtimes | the rows |
//! | copies, client | does a row hold, and who sends it its word? |
//! | broadcast | what of receivers of broadcasts? |
//! | outward, wire | which address do clients have on the wire? |
//! | named | do they know it? |
//! | lab | what do they run in? |
//! | built, sources/ | what do the tests build or write themselves? |
//!
//! `PROGRAMS=nginx,redis cargo test --test programs` looks at these rows only.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod broadcast;
mod built;
mod client;
mod copies;
mod lab;
mod named;
mod outward;
mod packaged;
mod program;
mod runtimes;
mod wire;

use lab::{Lab, World};
use program::Program;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

/// How many rows are looked at at a time: mostly they wait.
const WORKERS: usize = 4;

#[test]
fn every_program_of_two_sessions_hears_its_own() {
    let lab = Lab::new(World::default());
    each(|program| copies::each_hears_its_own(&lab, program));
}

#[test]
fn every_program_of_two_sessions_hears_its_own_where_sources_are_chosen_at_connect() {
    let lab = Lab::new(World { connect: true, ..World::default() });
    each(|program| copies::each_hears_its_own(&lab, program));
}

#[test]
fn every_program_of_two_sessions_hears_its_own_by_ipv6_and_localhost_too() {
    let lab = Lab::new(World { ipv6: true, loopback: true, ..World::default() });
    each(|program| copies::each_hears_its_own(&lab, program));
}

#[test]
fn every_program_of_two_sessions_hears_its_own_at_a_preferred_localhost() {
    let lab = Lab::new(World {
        loopback: true,
        prefer: true,
        by_name: true,
        ipv6: true,
        ..World::default()
    });
    each(|program| copies::each_hears_its_own(&lab, program));
}

#[test]
fn every_program_of_two_sessions_hears_clients_that_are_on_no_list() {
    let lab = Lab::new(World { by_name: true, connect: true, ..World::default() });
    each(|program| copies::each_hears_its_own(&lab, program));
    named::who_is_on_no_list_has_the_host_address(&lab);
}

#[test]
fn clients_know_the_address_that_the_far_side_sees() {
    named::clients_know_what_the_far_side_sees();
}

#[test]
fn receivers_of_broadcasts_hear_them_by_exclusion() {
    broadcast::receivers_hear_it_by_exclusion(&Lab::new(World::default()));
}

#[test]
fn no_packet_of_a_session_has_the_host_address_where_it_must_not() {
    outward::no_packet_has_the_host_address(World::default());
    let world = World { connect: true, ipv6: true, loopback: true, ..World::default() };
    outward::no_packet_has_the_host_address(world);
}

#[test]
fn packets_that_have_the_host_address_are_counted() {
    outward::those_with_the_host_address_are_counted();
}

/// Does `work` for every row, and tells all that fail.
fn each(work: impl Fn(&Program) + Sync) {
    let wanted = std::env::var("PROGRAMS").ok();
    let wanted: Option<Vec<_>> = wanted.as_ref().map(|names| names.split(',').collect());
    let rows = packaged::PROGRAMS.iter().chain(runtimes::PROGRAMS);
    let rows = rows.filter(|row| wanted.as_ref().is_none_or(|names| names.contains(&row.name)));
    let (rows, failed) = (Mutex::new(rows), Mutex::new(Vec::new()));
    let next = || rows.lock().unwrap().next();
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(program) = next() {
                    if catch_unwind(AssertUnwindSafe(|| work(program))).is_err() {
                        failed.lock().unwrap().push(program.name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{failed:?}");
}
