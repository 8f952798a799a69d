//! What is said when a table of the hook is full?

use crate::lab::{In, Lab, PERSON, Program, V1, bind, bind_fd, local, name};
use crate::programs::Folder;
use aya::Pod;
use aya::maps::{HashMap, Map, MapData, SockHash};
use nix::sys::socket::{Backlog, listen};
use sessionip::companion::Counters;
use sessionip::config::ProgramPattern;
use sessionip_hook::layout::{Address, Place, Script};
use std::fs;
use std::net::{IpAddr, Ipv6Addr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;

/// No process has such a number: `PID_MAX_LIMIT` of the kernel is 2^22.
const NO_PROCESS: u32 = 1 << 23;

fn pinned(lab: &Lab, table: &str) -> Map {
    let folder = lab.options.pin_directory.join(format!("v{}", sessionip_hook::LAYOUT));
    Map::from_map_data(MapData::from_pin(folder.join(table)).unwrap()).unwrap()
}

/// Fills a table of processes with some that are not there.
fn fill<V: Pod>(lab: &Lab, table: &str, value: V) {
    let mut map = HashMap::<_, u32, V>::try_from(pinned(lab, table)).unwrap();
    let filled = (NO_PROCESS..).take_while(|pid| map.insert(pid, value, 0).is_ok()).count();
    assert!(filled > 60_000, "{table}: {filled}");
}

/// Processes of this machine that are noted end at any time, and leave room: it is
/// filled again until what follows finds none.
fn counts(lab: &mut Lab, what_follows: impl Fn(&mut Lab)) -> bool {
    let before = counters(lab).full_descendants;
    (0..100).any(|_| {
        fill(lab, "DESCENDANTS", 0_u32);
        what_follows(lab);
        counters(lab).full_descendants > before
    })
}

fn counters(lab: &mut Lab) -> Counters {
    lab.hook().counters().unwrap()
}

fn run(lab: &Lab, command: &str) {
    let ended = lab.run(In::Session(1), PERSON, || {
        Command::new("sh").args(["-c", command]).status().unwrap().to_string()
    });
    assert_eq!(ended, "exit status: 0");
}

#[test]
fn a_descendant_that_there_is_no_room_for_is_counted() {
    let mut lab = Lab::new();
    lab.policy(|policy| policy.children = true);
    assert_eq!(counters(&mut lab).full_descendants, 0);
    assert!(counts(&mut lab, |lab| run(lab, "true")));
}

/// Nor is there room for those that run already, which is no reason to refuse a
/// policy. A quarter of them is still more than are started elsewhere in that moment;
/// what ends meanwhile leaves room for some.
#[test]
fn processes_that_run_already_and_find_no_room_are_counted() {
    const PROGRAMS: u64 = 40;
    let mut lab = Lab::new();
    lab.policy(|policy| policy.children = true);
    assert!((0..100).any(|_| {
        fill(&lab, "DESCENDANTS", 0_u32);
        let programs: Vec<_> = (0..PROGRAMS)
            .map(|_| {
                lab.start(In::Session(1), PERSON, |talk| {
                    talk.wait();
                    String::new()
                })
            })
            .collect();
        // The kernel has counted these as they were started; nobody fills the table
        // any more while the policy is set.
        fill(&lab, "DESCENDANTS", 0_u32);
        let before = counters(&mut lab).full_descendants;
        lab.policy(|policy| policy.children = true);
        let counted = counters(&mut lab).full_descendants - before;
        programs.iter().for_each(Program::go_on);
        counted >= PROGRAMS / 4
    }));
}

#[test]
fn a_script_that_there_is_no_room_for_is_counted() {
    let mut lab = Lab::new();
    let folder = Folder::new();
    let script = folder.path("script");
    fs::write(&script, "#!/bin/sh\nexit 0\n").unwrap();
    lab.policy(|policy| policy.programs = vec![ProgramPattern::Path(script.clone())]);
    fill(&lab, "SCRIPTS", Script::default());
    assert_eq!(counters(&mut lab).full_scripts, 0);
    run(&lab, &format!("sh {}", script.display()));
    assert!(counters(&mut lab).full_scripts > 0);
}

#[test]
fn a_listener_for_both_versions_that_there_is_no_room_for_is_counted() {
    let mut lab = Lab::new();
    let mut dual = SockHash::<_, Place>::try_from(pinned(&lab, "DUAL")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let filled = (0_u16..).take_while(|number| {
        let address = IpAddr::from(Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, *number));
        let place = Place { address: Address::from(address), port: 9000, protocol: 6 };
        dual.insert(place, listener.as_raw_fd(), 0).is_ok()
    });
    assert_eq!(filled.count(), 16_384);
    assert_eq!(counters(&mut lab).full_dual, 0);
    lab.run(In::Session(1), PERSON, || name(bind("tcp", "[::]:9000")));
    // At its session's address, and at the private one.
    assert_eq!(counters(&mut lab).full_dual, 2);
}

/// The kernel puts no socket of Multipath TCP into such a table, however much room
/// there is (`sock_map_sk_is_suitable`).
#[test]
fn a_multipath_listener_does_not_count_as_a_full_table() {
    let mut lab = Lab::new();
    let bound = lab.run(In::Session(1), PERSON, || {
        let fd = multipath();
        bind_fd(&fd, "[::]:9001").unwrap();
        listen(&fd, Backlog::new(16).unwrap()).unwrap();
        local(&fd)
    });
    assert_eq!(bound, format!("[::ffff:{V1}]:9001"), "it was moved");
    assert_eq!(counters(&mut lab).full_dual, 0);
}

#[expect(unsafe_code, reason = "the crate has no name for this protocol")]
fn multipath() -> OwnedFd {
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::socket(libc::AF_INET6, libc::SOCK_STREAM, libc::IPPROTO_MPTCP) };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just made this descriptor for us alone.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
