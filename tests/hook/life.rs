//! What happens when the daemon is killed, restarted, stopped?

use crate::lab::{In, Lab, PERSON, V1, V2, bind, name, session1};
use sessionip::companion::{Companion, LoadError, Options, forget_stale};
use sessionip::session::{SessionId, Sessions};
use std::fs;

fn bound(lab: &Lab, session: u32) -> String {
    lab.run(In::Session(session), PERSON, || name(bind("tcp", "0.0.0.0:9400")))
}

#[test]
fn it_outlives_a_daemon_that_is_killed() {
    let mut lab = Lab::new();
    assert_eq!(bound(&lab, 1), format!("{V1}:9400"));
    lab.kill();
    assert_eq!(bound(&lab, 1), format!("{V1}:9400"));
    let companion = Companion::load(&lab.options).unwrap();
    assert_eq!(bound(&lab, 1), format!("{V1}:9400"), "before it is told anything");
    let mut known = companion.sessions().unwrap();
    known.sort_by_key(|(_, entry)| entry.id);
    assert_eq!(known[0], (lab.cgroup(In::Session(1)), session1()));
    assert_eq!(known.len(), 2);
    drop(companion);
    lab.load();
    assert_eq!(bound(&lab, 2), format!("{V2}:9400"));
    let moved = lab.hook().counters().unwrap().moved_binds;
    assert_eq!(moved, 4, "each bind was seen once");
}

#[test]
fn no_bind_goes_unseen_while_it_is_taken_over() {
    let mut lab = Lab::new();
    let program = lab.start(In::Session(1), PERSON, |talk| {
        talk.say("ready");
        let mut binds = 0_u64;
        while !talk.told() {
            let given = name(bind("udp", "0.0.0.0:9401"));
            assert_eq!(given, format!("{V1}:9401"), "after {binds} binds");
            binds += 1;
        }
        binds.to_string()
    });
    program.line();
    for _ in 0..3 {
        lab.kill();
        lab.load();
    }
    program.go_on();
    let binds = program.line();
    assert_eq!(lab.hook().counters().unwrap().moved_binds.to_string(), binds, "each seen once");
}

#[test]
fn nothing_is_left_when_it_is_stopped() {
    let mut lab = Lab::new();
    let pins = lab.options.pin_directory.clone();
    let mounted = || fs::read_to_string("/proc/mounts").unwrap().contains(pins.to_str().unwrap());
    assert!(mounted());
    lab.policy(|policy| policy.children = true);
    lab.unload();
    assert_eq!(bound(&lab, 1), "0.0.0.0:9400");
    assert!(!mounted() && !pins.exists());
    forget_stale(&pins).expect("there is nothing to forget");
}

#[test]
fn what_a_crash_left_can_be_forgotten() {
    let mut lab = Lab::new();
    lab.kill();
    forget_stale(&lab.options.pin_directory).unwrap();
    assert_eq!(bound(&lab, 1), "0.0.0.0:9400");
    assert!(!lab.options.pin_directory.exists());
}

#[test]
fn another_layouts_hook_is_ended() {
    let mut lab = Lab::new();
    lab.kill();
    let pins = &lab.options.pin_directory;
    let current = pins.join(format!("v{}", sessionip_hook::LAYOUT));
    let other = pins.join("v0123456789abcdef");
    fs::rename(&current, &other).unwrap();
    lab.load();
    assert!(other.exists(), "it works until it is relieved");
    let (watcher, sessions) = Sessions::watch().unwrap();
    lab.hook().relieve(&sessions).unwrap();
    watcher.close();
    assert!(!other.exists());
    assert_eq!(bound(&lab, 1), format!("{V1}:9400"));
    assert_eq!(lab.hook().counters().unwrap().moved_binds, 1);
}

#[test]
fn sessions_come_and_go() {
    let mut lab = Lab::new();
    let one = lab.cgroup(In::Session(1));
    lab.hook().remove_session(one).unwrap();
    assert_eq!(bound(&lab, 1), "0.0.0.0:9400");
    lab.hook().remove_session(one).expect("twice is fine");
    lab.hook().set_session(one, &session1()).unwrap();
    assert_eq!(bound(&lab, 1), format!("{V1}:9400"));
    lab.hook().retain(|_, entry| entry.id == SessionId(2)).unwrap();
    assert_eq!(bound(&lab, 1), "0.0.0.0:9400");
    assert_eq!(bound(&lab, 2), format!("{V2}:9400"));
    assert_eq!(lab.hook().sessions().unwrap().len(), 1);
}

#[test]
fn what_is_missing_is_said() {
    let options = Options { pin_directory: "/nowhere".into(), cgroup_root: "/proc".into() };
    let error = Companion::load(&options).unwrap_err();
    assert!(matches!(error, LoadError::NoCgroup2 { .. }));
    assert!(error.to_string().contains("mount -t cgroup2 none /proc"), "{error}");
    assert!(!options.pin_directory.exists());
    let mut lab = Lab::bare();
    lab.options.pin_directory = "/proc/self/nowhere".into();
    let error = Companion::load(&lab.options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot create /proc/self/nowhere: bpffs is needed there (CONFIG_BPF_SYSCALL)"
    );
}
