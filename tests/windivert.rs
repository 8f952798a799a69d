//! Do packets come, wait and go by WinDivert as its driver would have it?
//!
//! The diverter is the product's; WinDivert.dll is a stand-in from memory, which
//! answers as the documentation and the driver's source say.

#![cfg(windows)]
#![expect(clippy::expect_used, reason = "a test that cannot go on says what it expected")]

#[path = "support/crowd.rs"]
#[expect(dead_code, reason = "the load uses more of it")]
mod crowd;
#[path = "windivert/fake.rs"]
#[expect(dead_code, reason = "the load uses more of it")]
mod fake;
#[path = "windivert/load.rs"]
#[expect(dead_code, reason = "the load uses more of it")]
mod load;

use crowd::LENGTH;
use fake::{CHECKSUMS, Fake, IMPOSTOR, LOOPBACK, OUTBOUND, Packets};
use load::{MAIN, packet, selection};
use sessionip::divert::{Divert, Diverter, OpenError, SelectError, Selection};
use sessionip::engine::{Checksum, Direction, Facts};
use sessionip::packet::{Endpoint, Protocol};
use sessionip::verdict::{Reason, Verdict};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

const PASS: Verdict = Verdict::Pass(Reason::NotListed);
const DROP: Verdict = Verdict::Drop(Reason::ForeignSource);
const SOON: Duration = Duration::from_millis(50);

/// A packet whose place among others is `number`.
fn numbered(number: u32) -> [u8; LENGTH] {
    packet(Protocol::Udp, number, Direction::Out, true)
}

fn packets(numbers: impl IntoIterator<Item = u32>) -> Packets {
    let mut packets = Packets::default();
    numbers.into_iter().for_each(|number| packets.add(&numbered(number), OUTBOUND | CHECKSUMS));
    packets
}

fn number_of(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]) - 0x0b00_0000
}

/// Takes turns until nothing comes any more; all packets meet the same verdict.
fn turns(diverter: &mut Diverter, verdict: Verdict) -> Vec<(u32, Facts)> {
    let mut shown = Vec::new();
    let mut quiet = 0;
    while quiet < 2 {
        let count = diverter.turn(SOON, &mut |batch, verdicts| {
            shown.extend(batch.iter().map(|one| (number_of(one.bytes), one.facts)));
            verdicts.extend(batch.iter().map(|_| verdict));
        });
        quiet = if count.expect("the stand-in is there") == 0 { quiet + 1 } else { 0 };
    }
    shown
}

fn numbers(shown: &[(u32, Facts)]) -> Vec<u32> {
    shown.iter().map(|(number, _)| *number).collect()
}

#[test]
fn packets_go_on_in_order_and_what_is_dropped_does_not() {
    let fake = Fake::new();
    fake.keep();
    let (mut diverter, switch) = fake.open();
    switch.select(&selection()).expect("a handle");
    fake.feed(MAIN, &packets(0..1000), 1000);
    let mut seen = Vec::new();
    while seen.len() < 1000 {
        let turn = diverter.turn(SOON, &mut |batch, verdicts| {
            for one in batch {
                let number = number_of(one.bytes);
                seen.push(number);
                one.bytes[LENGTH - 1] = 0xee;
                verdicts.push(match number % 3 {
                    0 => DROP,
                    1 => PASS,
                    _ => Verdict::Rewrite(Reason::SessionSource),
                });
            }
        });
        turn.expect("the stand-in is there");
    }
    assert!(seen.iter().copied().eq(0..1000));
    let sent: Vec<_> = fake.kept().iter().map(|(_, bytes)| number_of(bytes)).collect();
    assert!(sent.iter().copied().eq((0..1000).filter(|number| number % 3 != 0)));
    assert!(fake.kept().iter().all(|(flags, bytes)| {
        *flags == OUTBOUND | CHECKSUMS && bytes.len() == LENGTH && bytes[LENGTH - 1] == 0xee
    }));
    let tally = fake.tally();
    assert!(tally.sends < 700, "{} calls for 666 packets in pairs", tally.sends);
    assert!(tally.receives <= 5, "{} calls for 1000 packets", tally.receives);
}

#[test]
fn a_verdict_that_is_missing_drops() {
    let fake = Fake::new();
    let (mut diverter, switch) = fake.open();
    switch.select(&selection()).expect("a handle");
    fake.feed(MAIN, &packets(0..10), 10);
    let shown = diverter.turn(SOON, &mut |_, verdicts| verdicts.push(PASS));
    assert_eq!((shown.expect("a turn"), fake.tally().sent), (10, 1));
}

#[test]
fn a_held_packet_is_shown_again_until_there_is_a_verdict() {
    let fake = Fake::new();
    fake.keep();
    let (mut diverter, switch) = fake.open();
    switch.select(&selection()).expect("a handle");
    fake.feed(MAIN, &packets(0..3), 3);
    let mut times = Vec::new();
    for _ in 0..200 {
        let turn = diverter.turn(SOON, &mut |batch, verdicts| {
            for one in batch {
                let hold = number_of(one.bytes) == 1 && one.facts.held < Duration::from_millis(5);
                if number_of(one.bytes) == 1 {
                    times.push(one.facts.held);
                }
                verdicts.push(if hold { Verdict::Hold } else { PASS });
            }
        });
        turn.expect("the stand-in is there");
        if fake.tally().sent == 3 {
            break;
        }
    }
    assert_eq!(times[0], Duration::ZERO);
    assert!(times.len() > 2 && times.is_sorted(), "{times:?}");
    assert!(times.last().is_some_and(|last| *last >= Duration::from_millis(5)), "{times:?}");
    let sent: Vec<_> = fake.kept().iter().map(|(_, bytes)| number_of(bytes)).collect();
    assert_eq!(sent, [0, 2, 1]);
}

#[test]
fn too_many_held_packets_are_shown_again_at_once() {
    let fake = Fake::new();
    let (mut diverter, switch) = fake.open();
    switch.select(&selection()).expect("a handle");
    fake.feed(MAIN, &packets(0..2000), 2000);
    let (mut first, mut full) = (0, 0);
    while first < 2000 {
        let turn = diverter.turn(SOON, &mut |batch, verdicts| {
            for one in batch {
                first += u32::from(one.facts.held.is_zero());
                full += u32::from(one.facts.held == Duration::MAX);
                verdicts.push(Verdict::Hold);
            }
        });
        turn.expect("the stand-in is there");
    }
    assert_eq!((full, fake.tally().sent), (2000 - 1024, 0));
}

#[test]
fn facts_are_those_of_the_address() {
    let fake = Fake::new();
    let (mut diverter, switch) = fake.open();
    switch.select(&selection()).expect("a handle");
    let mut packets = Packets::default();
    packets.add(&numbered(0), OUTBOUND | CHECKSUMS);
    packets.add(&numbered(1), OUTBOUND);
    packets.add(&numbered(2), OUTBOUND | LOOPBACK);
    packets.add(&numbered(3), CHECKSUMS);
    fake.feed(MAIN, &packets, 4);
    let shown = turns(&mut diverter, PASS);
    let facts = |at: usize| {
        let facts = shown[at].1;
        (facts.direction, facts.loopback, facts.checksum, facts.interface)
    };
    assert_eq!(facts(0), (Direction::Out, false, Checksum::Real, 2));
    assert_eq!(facts(1), (Direction::Out, false, Checksum::Partial, 2));
    assert_eq!(facts(2), (Direction::Out, true, Checksum::Partial, 2));
    assert_eq!(facts(3), (Direction::In, false, Checksum::Real, 2));
}

#[test]
fn what_another_driver_injected_goes_on_unseen() {
    let fake = Fake::new();
    fake.keep();
    let (mut diverter, switch) = fake.open();
    switch.select(&selection()).expect("a handle");
    let mut packets = Packets::default();
    packets.add(&numbered(0), OUTBOUND | CHECKSUMS);
    packets.add(&numbered(1), OUTBOUND | CHECKSUMS | IMPOSTOR);
    packets.add(&numbered(2), OUTBOUND | CHECKSUMS);
    fake.feed(MAIN, &packets, 3);
    assert_eq!(numbers(&turns(&mut diverter, DROP)), [0, 2]);
    assert_eq!(fake.kept(), [(OUTBOUND | CHECKSUMS | IMPOSTOR, numbered(1).to_vec())]);
    assert_eq!(diverter.counters().impostors(), 1);
}

#[test]
fn a_packet_that_lies_about_its_length_takes_none_before_it_along() {
    let fake = Fake::new();
    let (mut diverter, switch) = fake.open();
    switch.select(&selection()).expect("a handle");
    let mut liar = numbered(2);
    liar[2..4].copy_from_slice(&9_u16.to_be_bytes());
    let mut packets = packets(0..2);
    packets.add(&liar, OUTBOUND | CHECKSUMS);
    packets.add(&numbered(3), OUTBOUND | CHECKSUMS);
    fake.feed(MAIN, &packets, 4);
    assert_eq!(numbers(&turns(&mut diverter, PASS)), [0, 1]);
    let counters = diverter.counters();
    assert_eq!((counters.received(), counters.malformed(), fake.tally().sent), (4, 2, 2));
}

#[test]
fn the_longest_packet_fits_and_one_that_is_longer_is_not_waited_for() {
    let fake = Fake::new();
    let (mut diverter, switch) = fake.open();
    switch.select(&selection()).expect("a handle");
    let mut longest = vec![0; 65_535];
    longest[..LENGTH].copy_from_slice(&numbered(1));
    longest[2..4].copy_from_slice(&u16::MAX.to_be_bytes());
    let mut packets = Packets::default();
    for _ in 0..3 {
        packets.add(&longest, OUTBOUND);
    }
    fake.feed(MAIN, &packets, 30);
    assert_eq!(turns(&mut diverter, PASS).len(), 30);
    assert_eq!((fake.tally().sent, diverter.counters().truncated()), (30, 0));
}

#[test]
fn a_new_selection_loses_no_packet_and_keeps_their_order() {
    let fake = Fake::new();
    let (mut diverter, switch) = fake.open();
    let mut selection = selection();
    let mut shown = Vec::new();
    for round in 0..10_u32 {
        selection.host_addresses.push(Ipv4Addr::from(0x0a4d_0200 + round).into());
        switch.select(&selection).expect("a handle");
        // Nobody took a turn yet: the old handle's packets wait while these come.
        let numbers = round * 700..(round + 1) * 700;
        fake.feed(MAIN, &packets(numbers), 700);
        if round % 3 == 2 {
            shown.extend(numbers_of(turns(&mut diverter, PASS)));
        }
    }
    shown.extend(numbers_of(turns(&mut diverter, PASS)));
    assert!(shown.iter().copied().eq(0..7000), "{} shown", shown.len());
    assert_eq!(fake.tally().open, 2, "{}", fake.handles());
    assert_eq!(fake.tally().opened, 11);
    assert_eq!(diverter.counters().handles(), 1);
}

fn numbers_of(shown: Vec<(u32, Facts)>) -> impl Iterator<Item = u32> {
    shown.into_iter().map(|(number, _)| number)
}

#[test]
fn only_what_changes_is_opened_anew() {
    let fake = Fake::new();
    let (mut diverter, switch) = fake.open();
    let address: IpAddr = Ipv4Addr::new(10, 77, 1, 1).into();
    let listener = (Protocol::Tcp, Endpoint::new(address, 9000));
    let plain = selection();
    let moved = Selection { moved: vec![listener], ..plain.clone() };
    let both = Selection { foreign: vec![listener], ..moved.clone() };
    let mut opened = Vec::new();
    for selection in [&plain, &plain, &moved, &both, &moved, &plain] {
        switch.select(selection).expect("handles");
        turns(&mut diverter, PASS);
        opened.push((fake.tally().opened, fake.tally().open));
    }
    assert_eq!(opened, [(2, 2), (2, 2), (3, 3), (4, 4), (4, 3), (4, 2)]);

    switch.select(&both).expect("handles");
    let handles = fake.handles();
    // Queue length, time and size; 4: receive only, 2: drop, 8: send only.
    let queue = "4 [(0, 16384), (1, 500), (2, 33554432)] ";
    assert!(handles.contains("1010 8 [] false\n"), "{handles}");
    assert!(handles.contains(&format!("1020 {queue}")), "{handles}");
    assert!(handles.contains(&format!("1030 {queue}(loopback and ")), "{handles}");
    assert!(handles.contains("1040 6 [] ((tcp.SrcPort == 9000 "), "{handles}");
}

#[test]
fn a_handle_that_is_refused_changes_nothing() {
    let fake = Fake::new();
    let (mut diverter, switch) = fake.open();
    switch.select(&selection()).expect("a handle");
    turns(&mut diverter, PASS);
    fake.refuse(5);
    let listener = Endpoint::new(Ipv4Addr::new(10, 77, 1, 1).into(), 9000);
    let moved = Selection { moved: vec![(Protocol::Tcp, listener)], ..selection() };
    let refused = switch.select(&moved);
    let Err(SelectError::Open { handle: "loopback", source: OpenError::NotElevated }) = refused
    else {
        panic!("{refused:?}");
    };
    fake.feed(MAIN, &packets(0..5), 5);
    assert_eq!(turns(&mut diverter, PASS).len(), 5);
    switch.select(&moved).expect("now it can be opened");
}

#[test]
fn opening_fails_early_and_clearly() {
    let fake = Fake::new();
    fake.refuse(577);
    let signature = Diverter::open_with(&fake::path());
    assert!(matches!(signature, Err(OpenError::Signature)), "{signature:?}");
    fake.version(2, 0);
    let old = Diverter::open_with(&fake::path());
    assert!(matches!(old, Err(OpenError::OldDriver { major: 2, minor: 0 })), "{old:?}");
    assert_eq!(fake.tally().open, 0);
}

#[test]
fn a_driver_that_vanishes_ends_the_turns() {
    let fake = Fake::new();
    let (mut diverter, switch) = fake.open();
    switch.select(&selection()).expect("a handle");
    turns(&mut diverter, PASS);
    fake.vanish();
    let turn = diverter.turn(SOON, &mut |_, _| {});
    let error = turn.expect_err("no driver");
    assert!(error.to_string().starts_with("the WinDivert driver is gone: "), "{error}");
}

#[test]
fn what_waits_is_shown_before_a_release_has_ended() {
    let fake = Fake::new();
    let (mut diverter, switch) = fake.open();
    switch.select(&selection()).expect("a handle");
    turns(&mut diverter, PASS);
    fake.feed(MAIN, &packets(0..3000), 3000);
    let shown = std::thread::scope(|scope| {
        let release = scope.spawn(|| switch.release());
        let mut shown = 0;
        while !release.is_finished() {
            let turn = diverter.turn(SOON, &mut |batch, verdicts| {
                shown += batch.len();
                verdicts.extend(batch.iter().map(|_| PASS));
            });
            turn.expect("the stand-in is there");
        }
        shown
    });
    assert_eq!((shown, fake.tally().open), (3000, 1));
    drop(diverter);
    assert_eq!(fake.tally().open, 0);
}

#[test]
fn what_nobody_decided_about_is_dropped_with_the_diverter() {
    let fake = Fake::new();
    let (mut diverter, switch) = fake.open();
    switch.select(&selection()).expect("a handle");
    turns(&mut diverter, PASS);
    fake.feed(MAIN, &packets(0..10_000), 10_000);
    drop(diverter);
    let tally = fake.tally();
    assert_eq!((tally.received, tally.sent, tally.open), (10_000, 0, 0));
    let gone = switch.select(&Selection::default());
    assert!(matches!(gone, Err(SelectError::Gone)), "{gone:?}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how long a turn waits is what is tested")]
fn a_turn_ends_when_it_is_woken_and_waits_no_longer_than_it_may() {
    let fake = Fake::new();
    let (mut diverter, switch) = fake.open();
    switch.wake();
    let start = Instant::now();
    assert_eq!(diverter.turn(Duration::from_secs(60), &mut |_, _| {}).expect("a turn"), 0);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let start = Instant::now();
    diverter.turn(Duration::from_millis(30), &mut |_, _| {}).expect("a turn");
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(29) && waited < Duration::from_secs(10), "{waited:?}");
}

#[test]
fn the_packet_thread_may_run_ahead() {
    std::thread::scope(|scope| {
        let thread = scope.spawn(sessionip::divert::run_ahead);
        thread.join().expect("a thread").expect("a higher priority");
    });
}
