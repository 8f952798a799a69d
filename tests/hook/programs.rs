//! Which programs are meant?

use crate::lab::{In, Lab, PERSON, V1, bind, name};
use sessionip::config::{Exclusion, ProgramPattern};
use sessionip::packet::Protocol;
use std::env;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

const MOMENT: Duration = Duration::from_millis(50);
const ASKED: &str = "0.0.0.0:9500";

fn moved() -> String {
    format!("{V1}:9500")
}

/// Not a test but the program that the tests start, under other names.
#[test]
fn acts_as_another_program() {
    let Ok(protocol) = env::var("HOOK_TEST_BIND") else { return };
    println!("\ngiven={}", name(bind(&protocol, ASKED)));
}

/// A folder with programs, removed with it.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A program that binds.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.copy(&env::current_exe().unwrap(), name)
    }

    pub(crate) fn copy(&self, from: &Path, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::copy(from, &path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

pub(crate) const ARGUMENTS: [&str; 3] =
    ["--exact", "programs::acts_as_another_program", "--nocapture"];

fn given(lab: &Lab, program: &Path, protocol: &str) -> String {
    lab.run(In::Session(1), PERSON, || {
        let mut command = Command::new(program);
        command.args(ARGUMENTS).env("HOOK_TEST_BIND", protocol);
        let output = loop {
            match command.output() {
                // Another test's child still holds the file that was copied.
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => sleep(MOMENT),
                output => break output.unwrap(),
            }
        };
        answer(&output.stdout)
    })
}

pub(crate) fn answer(output: &[u8]) -> String {
    let output = String::from_utf8_lossy(output);
    let given = output.lines().find_map(|line| line.strip_prefix("given="));
    given.unwrap_or("no answer").to_owned()
}

fn named(name: &str) -> ProgramPattern {
    ProgramPattern::Name(name.into())
}

#[test]
fn programs_are_known_by_path_and_by_name() {
    let mut lab = Lab::new();
    let folder = Folder::new();
    let by_path = folder.program("by-path");
    let by_name = folder.program("by-name");
    let neither = folder.program("neither");
    let link = folder.path("link");
    std::os::unix::fs::symlink(&by_path, &link).unwrap();
    lab.policy(|policy| {
        policy.programs = vec![ProgramPattern::Path(link.clone()), named("by-name")];
    });
    assert_eq!(given(&lab, &by_path, "tcp"), moved());
    assert_eq!(given(&lab, &link, "udp"), moved());
    assert_eq!(given(&lab, &by_name, "tcp"), moved());
    assert_eq!(given(&lab, &neither, "tcp"), ASKED);
    lab.policy(|policy| {
        policy.except = vec![ProgramPattern::Path(by_path.clone()), named("by-name")];
    });
    assert_eq!(given(&lab, &by_path, "tcp"), ASKED, "except wins over the star");
    assert_eq!(given(&lab, &by_name, "tcp"), ASKED);
    assert_eq!(given(&lab, &neither, "tcp"), moved());
}

#[test]
fn a_program_may_be_excluded_for_a_port() {
    let mut lab = Lab::new();
    let folder = Folder::new();
    let by_path = folder.program("by-path");
    let by_name = folder.program("by-name");
    lab.policy(|policy| {
        for program in [ProgramPattern::Path(by_path.clone()), named("by-name")] {
            let program = Some(program);
            policy.exclude.push(Exclusion { program, protocol: Protocol::Udp, port: 9500 });
        }
    });
    for program in [&by_path, &by_name] {
        assert_eq!(given(&lab, program, "udp"), ASKED);
        assert_eq!(given(&lab, program, "tcp"), moved());
    }
    assert_eq!(given(&lab, &folder.program("other"), "udp"), moved());
}

#[test]
fn an_upgraded_program_is_found_again() {
    let mut lab = Lab::new();
    let folder = Folder::new();
    let path = folder.path("upgraded");
    lab.policy(|policy| policy.programs = vec![ProgramPattern::Path(path.clone())]);
    assert_eq!(lab.hook().missing_programs(), std::slice::from_ref(&path));
    folder.program("upgraded");
    assert_eq!(given(&lab, &path, "tcp"), moved(), "nobody had to look");
    lab.hook().refresh_programs().unwrap();
    assert_eq!(given(&lab, &path, "tcp"), moved());
    let new = folder.program("new");
    fs::rename(&new, &path).unwrap();
    assert_eq!(given(&lab, &path, "tcp"), moved(), "another file in its place");
    lab.hook().refresh_programs().unwrap();
    assert_eq!(given(&lab, &path, "tcp"), moved());
    assert_eq!(lab.hook().missing_programs(), Vec::<PathBuf>::new());
}

/// A launcher that starts `child` in the background and ends at once.
fn launched(lab: &Lab, launcher: &Path, child: &Path) -> String {
    lab.run(In::Session(1), PERSON, || {
        let arguments = ARGUMENTS.join(" ");
        let line = format!("(sleep 0.3; {} {arguments}) &", child.display());
        let output = Command::new(launcher)
            .args(["-c", &line])
            .env("HOOK_TEST_BIND", "tcp")
            .output()
            .unwrap();
        answer(&output.stdout)
    })
}

#[test]
fn children_count_as_listed_where_that_is_asked_for() {
    let mut lab = Lab::new();
    let folder = Folder::new();
    let launcher = folder.copy(Path::new("/bin/sh"), "launcher");
    let child = folder.program("child");
    let list = |children| {
        move |policy: &mut sessionip::companion::PolicyView| {
            policy.programs = vec![named("launcher")];
            policy.children = children;
        }
    };
    lab.policy(list(false));
    assert_eq!(launched(&lab, &launcher, &child), ASKED);
    lab.policy(list(true));
    assert_eq!(launched(&lab, &launcher, &child), moved(), "its parent has gone by then");
    assert_eq!(given(&lab, &child, "tcp"), ASKED, "a child of nobody listed");
    lab.policy(|policy| {
        list(true)(policy);
        policy.except = vec![named("child")];
    });
    assert_eq!(launched(&lab, &launcher, &child), ASKED, "except wins over descent");
    lab.policy(list(false));
    assert_eq!(launched(&lab, &launcher, &child), ASKED, "and it can be turned off again");
}

#[test]
fn children_that_were_there_before_count_too() {
    let mut lab = Lab::new();
    let folder = Folder::new();
    let launcher = folder.copy(Path::new("/bin/sh"), "launcher");
    let child = folder.program("child");
    lab.policy(|policy| policy.programs = vec![named("launcher")]);
    let program = lab.start(In::Session(1), PERSON, |talk| {
        let line = format!("read go; {} {}; true", child.display(), ARGUMENTS.join(" "));
        // The launcher stays, and so does a shell of another name below it.
        let mut running = Command::new(&launcher)
            .args(["-c", &format!("/bin/sh -c '{line}'; true")])
            .env("HOOK_TEST_BIND", "tcp")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        talk.say("started");
        talk.wait();
        std::io::Write::write_all(&mut running.stdin.take().unwrap(), b"go\n").unwrap();
        answer(&running.wait_with_output().unwrap().stdout)
    });
    assert_eq!(program.line(), "started");
    sleep(4 * MOMENT);
    lab.policy(|policy| {
        policy.programs = vec![named("launcher")];
        policy.children = true;
    });
    program.go_on();
    assert_eq!(program.line(), moved());
}
