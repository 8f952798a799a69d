//! Who is logged on, as the cgroup tree has it.

use sessionip::session::linux::{
    Layout, OpenError, Scopes, Watcher, close_scope, enter_scope, processes,
};
use sessionip::session::{Event, Session, SessionId};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A cgroup tree of the test's own, below the machine's.
struct Tree {
    layout: Layout,
    _state: tempfile::TempDir,
}

impl Tree {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "session-test-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let machine = Layout::of_this_machine().expect("this test needs a cgroup v2 mount");
        let root = machine.cgroup_root.join(name);
        fs::create_dir(&root).expect("this test needs root, to make cgroups");
        let state = tempfile::tempdir().unwrap();
        let layout = Layout {
            cgroup_root: root,
            own_parent: "sessionip".into(),
            logind: Some("user.slice".into()),
            logind_state: state.path().into(),
        };
        Self { layout, _state: state }
    }

    fn watch(&self) -> (Watcher, Scopes) {
        Watcher::open(&self.layout).unwrap()
    }

    fn own(&self, number: u32) -> PathBuf {
        self.layout.cgroup_root.join(format!("sessionip/session-{number}.scope"))
    }

    /// Makes a scope as logind would.
    fn logind(&self, uid: u32, name: &str) -> PathBuf {
        let slice = self.layout.cgroup_root.join(format!("user.slice/user-{uid}.slice"));
        let scope = slice.join(format!("session-{name}.scope"));
        fs::create_dir_all(&scope).unwrap();
        scope
    }

    fn describe(&self, name: &str, text: &str) {
        fs::write(self.layout.logind_state.join(name), text).unwrap();
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let until = Instant::now() + Duration::from_secs(5);
        while close_scope(&self.layout.cgroup_root).is_err() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A process in a scope, until it is dropped.
struct Sleeper(Child);

impl Sleeper {
    #[expect(unsafe_code, reason = "only the child itself can enter")]
    fn enter(scope: &Path) -> Self {
        let scope = scope.to_owned();
        let mut command = Command::new("sleep");
        command.arg("600").stdin(Stdio::null());
        // SAFETY: `enter_scope` writes one file; the parent holds no lock that it
        // could want.
        unsafe { command.pre_exec(move || enter_scope(&scope).map_err(std::io::Error::other)) };
        Self(command.spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// All events until one is `last`, at most for `seconds`.
fn until(watcher: &mut Watcher, seconds: u64, last: impl Fn(&Event) -> bool) -> Vec<Event> {
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut events = Vec::new();
    while Instant::now() < end {
        events.extend(watcher.next(Duration::from_millis(200)));
        if events.iter().any(&last) {
            return events;
        }
    }
    panic!("not in {seconds} s; only {events:?}");
}

fn started(watcher: &mut Watcher, number: u32) -> Session {
    let events = until(
        watcher,
        3,
        |event| matches!(event, Event::Started(session) if session.id == SessionId(number)),
    );
    events
        .into_iter()
        .find_map(|event| match event {
            Event::Started(session) if session.id == SessionId(number) => Some(session),
            Event::Started(_) | Event::Ended(_) => None,
        })
        .unwrap()
}

fn ended(watcher: &mut Watcher, number: u32, seconds: u64) {
    until(watcher, seconds, |event| *event == Event::Ended(SessionId(number)));
}

fn quiet(watcher: &mut Watcher, milliseconds: u64) {
    let end = Instant::now() + Duration::from_millis(milliseconds);
    while Instant::now() < end {
        assert_eq!(watcher.next(Duration::from_millis(50)), []);
    }
}

fn cgroup(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[test]
fn an_opened_session_lives_as_long_as_its_processes() {
    let tree = Tree::new();
    let (mut watcher, scopes) = tree.watch();
    let opened = scopes.open_scope(SessionId(7), 0).unwrap();
    assert_eq!(opened.user.name, "root");
    assert_eq!(opened.scope.path, tree.own(7));
    assert_eq!(scopes.session_of(opened.scope.cgroup), Some(SessionId(7)), "known at once");
    assert_eq!(started(&mut watcher, 7), opened);

    let first = Sleeper::enter(&opened.scope.path);
    let nested = opened.scope.path.join("nested/deeper");
    fs::create_dir_all(&nested).unwrap();
    let second = Sleeper::enter(&nested);
    let mut pids = processes(&opened.scope.path);
    pids.sort_unstable();
    let mut expected = [first.0.id(), second.0.id()];
    expected.sort_unstable();
    assert_eq!(pids, expected);
    for _ in 0..2 {
        assert_eq!(scopes.session_of(cgroup(&nested)), Some(SessionId(7)));
    }

    quiet(&mut watcher, 1500);
    drop(first);
    quiet(&mut watcher, 300);
    drop(second);
    ended(&mut watcher, 7, 3);
    assert!(!opened.scope.path.exists(), "the scope is removed with its session");
    assert_eq!(scopes.session_of(opened.scope.cgroup), None);
    assert_eq!(scopes.session(SessionId(7)), None);
    quiet(&mut watcher, 200);
}

#[test]
fn a_session_that_nobody_enters_ends_after_ten_seconds() {
    let tree = Tree::new();
    let (mut watcher, scopes) = tree.watch();
    scopes.open_scope(SessionId(7), 0).unwrap();
    let opened = Instant::now();
    started(&mut watcher, 7);
    ended(&mut watcher, 7, 15);
    assert!(opened.elapsed() >= Duration::from_secs(10), "{:?}", opened.elapsed());
    assert!(opened.elapsed() < Duration::from_secs(11), "{:?}", opened.elapsed());
    assert!(!tree.own(7).exists());
}

#[test]
fn a_session_is_there_for_whoever_it_was_just_opened_for() {
    let tree = Tree::new();
    let (mut watcher, scopes) = tree.watch();
    let opened = scopes.open_scope(SessionId(7), 0).unwrap();
    started(&mut watcher, 7);
    drop(Sleeper::enter(&opened.scope.path));
    // Its last process has gone. Opened again at this moment, it must not go away
    // under the process that is about to enter.
    for _ in 0..5 {
        let again = scopes.open_scope(SessionId(7), 0).unwrap();
        assert_eq!(again, opened);
        quiet(&mut watcher, 400);
        drop(Sleeper::enter(&opened.scope.path));
    }
    ended(&mut watcher, 7, 3);
}

#[test]
fn a_session_is_one_user_s() {
    let tree = Tree::new();
    let (mut watcher, scopes) = tree.watch();
    scopes.open_scope(SessionId(7), 0).unwrap();
    let error = scopes.open_scope(SessionId(7), 4242).unwrap_err();
    assert!(matches!(&error, OpenError::OtherUser { who, .. } if who == "root"), "{error:?}");
    assert_eq!(error.to_string(), "session 7 is root's: take another number, or --user root");
    let unnamed = scopes.open_scope(SessionId(8), 987_654_321).unwrap();
    assert_eq!(unnamed.user.name, "987654321");
    for number in [0, 0x00ff_fffe, u32::MAX] {
        let error = scopes.open_scope(SessionId(number), 0).unwrap_err();
        assert!(matches!(error, OpenError::Number(_)), "{error:?}");
    }
    // Somebody else's folder of that name.
    fs::create_dir(tree.own(9)).unwrap();
    let squatter = Sleeper::enter(&tree.own(9));
    let error = scopes.open_scope(SessionId(9), 0).unwrap_err();
    assert!(matches!(error, OpenError::Foreign(_)), "{error:?}");
    started(&mut watcher, 8);
    drop(squatter);
    assert_eq!(scopes.open_scope(SessionId(9), 0).unwrap().id, SessionId(9));
    started(&mut watcher, 9);
}

#[test]
fn sessions_outlive_the_daemon() {
    let tree = Tree::new();
    let (mut watcher, scopes) = tree.watch();
    let before = scopes.open_scope(SessionId(7), 0).unwrap();
    let _process = Sleeper::enter(&before.scope.path);
    started(&mut watcher, 7);
    drop((watcher, scopes));
    fs::create_dir(before.scope.path.join("changes-the-folder-s-times")).unwrap();
    let (mut watcher, scopes) = tree.watch();
    assert_eq!(watcher.next(Duration::ZERO), [Event::Started(before.clone())]);
    assert_eq!(scopes.session_of(before.scope.cgroup), Some(SessionId(7)));
}

#[test]
fn sessions_of_logind_are_followed() {
    let tree = Tree::new();
    let (mut watcher, scopes) = tree.watch();
    tree.describe("3", "UID=1000\nCLASS=user\nREALTIME=1795302669000000\n");
    let scope = tree.logind(1000, "3");
    quiet(&mut watcher, 200);
    let process = Sleeper::enter(&scope);
    let session = started(&mut watcher, 3);
    assert_eq!(session.user.id, 1000);
    assert_eq!(session.since.to_string(), "2026-11-21T23:11:09Z");
    // Who runs `exec --session 3` enters logind's scope.
    assert_eq!(scopes.open_scope(SessionId(3), 1000).unwrap(), session);
    drop(process);
    ended(&mut watcher, 3, 1);
    assert!(scope.exists(), "logind's scopes are logind's to remove");
    let _process = Sleeper::enter(&scope);
    started(&mut watcher, 3);
}

#[test]
fn greeters_are_nobody_s_session() {
    let tree = Tree::new();
    let (mut watcher, _scopes) = tree.watch();
    tree.describe("c1", "CLASS=greeter\n");
    let _greeter = Sleeper::enter(&tree.logind(120, "c1"));
    quiet(&mut watcher, 300);
}

#[test]
fn a_session_without_a_number_gets_a_free_one() {
    const OURS: u32 = 0x0080_0000;
    let tree = Tree::new();
    let (mut watcher, scopes) = tree.watch();
    let own = scopes.open_scope(SessionId(6), 0).unwrap();
    started(&mut watcher, 6);
    let _c5 = Sleeper::enter(&tree.logind(1000, "c5"));
    started(&mut watcher, OURS + 5);
    let _d5 = Sleeper::enter(&tree.logind(1001, "d5"));
    started(&mut watcher, OURS + 6);
    // logind's sixth, when the sixth is one of our own.
    let _six = Sleeper::enter(&tree.logind(1002, "6"));
    let six = started(&mut watcher, OURS + 7);
    assert_eq!(scopes.session_of(own.scope.cgroup), Some(SessionId(6)));
    assert_eq!(scopes.session_of(six.scope.cgroup), Some(SessionId(OURS + 7)));
    let taken = scopes.open_scope(SessionId(OURS + 5), 0).unwrap_err();
    assert!(matches!(taken, OpenError::OtherUser { .. }), "{taken:?}");
}

#[test]
fn programs_beside_the_scopes_count_as_the_oldest_session() {
    let tree = Tree::new();
    let (mut watcher, scopes) = tree.watch();
    tree.describe("4", "CLASS=user\nREALTIME=1795302669000002\n");
    tree.describe("5", "CLASS=user\nREALTIME=1795302669000001\n");
    let four = Sleeper::enter(&tree.logind(1000, "4"));
    let four_session = started(&mut watcher, 4);
    let slice = tree.layout.cgroup_root.join("user.slice/user-1000.slice");
    let beside = slice.join("user@1000.service/app.slice");
    fs::create_dir_all(&beside).unwrap();
    assert_eq!(scopes.session_of(cgroup(&beside)), Some(SessionId(4)));
    assert_eq!(scopes.session_of(cgroup(&slice)), Some(SessionId(4)));

    let five = Sleeper::enter(&tree.logind(1000, "5"));
    started(&mut watcher, 5);
    assert_eq!(scopes.session_of(cgroup(&beside)), Some(SessionId(5)), "it is older");
    assert_eq!(scopes.session_of(four_session.scope.cgroup), Some(SessionId(4)), "a scope wins");
    drop(five);
    ended(&mut watcher, 5, 1);
    assert_eq!(scopes.session_of(cgroup(&beside)), Some(SessionId(4)));
    drop(four);
    ended(&mut watcher, 4, 1);
    assert_eq!(scopes.session_of(cgroup(&beside)), None);
    let system = tree.layout.cgroup_root.join("system.slice");
    fs::create_dir(&system).unwrap();
    assert_eq!(scopes.session_of(cgroup(&system)), None);
    assert_eq!(scopes.session_of(0), None);
    assert_eq!(scopes.session_of(u64::MAX), None);
}

#[test]
fn nothing_is_missed_when_many_come_and_go() {
    let tree = Tree::new();
    let (mut watcher, scopes) = tree.watch();
    // More events than the kernel queues are simulated by not reading any.
    let sleepers: Vec<Sleeper> = (1..=60)
        .map(|number| {
            Sleeper::enter(&scopes.open_scope(SessionId(number), number % 3).unwrap().scope.path)
        })
        .collect();
    let mut live = std::collections::BTreeSet::new();
    let mut count = |watcher: &mut Watcher, wanted: usize| {
        let end = Instant::now() + Duration::from_secs(10);
        while live.len() != wanted {
            assert!(Instant::now() < end, "{live:?} are logged on, not {wanted}");
            for event in watcher.next(Duration::from_millis(100)) {
                match event {
                    Event::Started(session) => assert!(live.insert(session.id)),
                    Event::Ended(session) => assert!(live.remove(&session)),
                }
            }
        }
    };
    count(&mut watcher, 60);
    drop(sleepers);
    count(&mut watcher, 0);
    assert_eq!(
        fs::read_dir(tree.layout.own_folder())
            .unwrap()
            .flatten()
            .filter(|entry| entry.path().is_dir())
            .count(),
        0
    );
}

#[test]
fn an_own_scope_removed_by_hand_ends_its_session() {
    let tree = Tree::new();
    let (mut watcher, scopes) = tree.watch();
    let first = scopes.open_scope(SessionId(7), 0).unwrap();
    started(&mut watcher, 7);
    close_scope(&first.scope.path).unwrap();
    let second = scopes.open_scope(SessionId(7), 0).unwrap();
    assert_ne!(first.scope.cgroup, second.scope.cgroup);
    let events = until(&mut watcher, 3, |event| matches!(event, Event::Started(_)));
    assert_eq!(events, [Event::Ended(SessionId(7)), Event::Started(second.clone())]);
    assert_eq!(scopes.session_of(second.scope.cgroup), Some(SessionId(7)));
    assert_eq!(scopes.session_of(first.scope.cgroup), None);
    let process = Sleeper::enter(&second.scope.path);
    assert!(close_scope(&second.scope.path).unwrap_err().has_processes());
    drop(process);
}

#[test]
fn a_clean_stop_leaves_only_living_sessions() {
    let tree = Tree::new();
    let (watcher, scopes) = tree.watch();
    let opened = scopes.open_scope(SessionId(7), 0).unwrap();
    scopes.open_scope(SessionId(8), 0).unwrap();
    let process = Sleeper::enter(&opened.scope.path);
    assert!(!watcher.close());
    assert!(opened.scope.path.exists() && !tree.own(8).exists());
    let (mut watcher, _scopes) = tree.watch();
    started(&mut watcher, 7);
    drop(process);
    ended(&mut watcher, 7, 3);
    assert!(watcher.close());
    assert!(!tree.layout.own_folder().exists());
    assert!(enter_scope(&opened.scope.path).unwrap_err().is_gone());
}

#[test]
fn asking_for_a_session_is_cheap() {
    let tree = Tree::new();
    let (_watcher, scopes) = tree.watch();
    let opened = scopes.open_scope(SessionId(7), 0).unwrap();
    let leaf = opened.scope.path.join("leaf");
    fs::create_dir(&leaf).unwrap();
    for (what, id) in [("scope", opened.scope.cgroup), ("leaf", cgroup(&leaf)), ("none", 1)] {
        let first = Instant::now();
        scopes.session_of(id);
        let first = first.elapsed();
        let begin = Instant::now();
        for _ in 0..10_000 {
            std::hint::black_box(scopes.session_of(std::hint::black_box(id)));
        }
        println!("{what}: first {first:?}, then {:?}", begin.elapsed() / 10_000);
    }
}
