//! Do the lists mean the same to the hook and to the packet engine? The table of
//! cases is `lists.toml`.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says so")]

use crate::world::World;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde::Deserialize;
use sessionip::companion::{PolicyView, standing};
use sessionip::config::Config;
use sessionip::owner::Sockets as _;
use sessionip::packet::{Endpoint, Protocol};
use sessionip::policy::{Listing, Policy};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    case: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default)]
    children: bool,
    #[serde(default)]
    files: Vec<String>,
    listed: Vec<String>,
    #[serde(default)]
    except: Vec<String>,
    #[serde(default)]
    then: Vec<String>,
    run: String,
    #[serde(default)]
    by: Vec<String>,
    #[serde(default)]
    running: Vec<String>,
    is: String,
}

#[test]
fn the_hook_and_the_engine_answer_as_the_table_says() {
    let table: Table = toml::from_str(include_str!("lists.toml")).unwrap();
    let mut world = World::new();
    let wrong: Vec<_> = table
        .case
        .iter()
        .filter_map(|case| {
            let is = Trial::new(&mut world, case).run();
            let wanted = (case.is == "listed", case.is.clone());
            (is != wanted).then(|| format!("{}: moved: {}, engine: {}", case.name, is.0, is.1))
        })
        .collect();
    assert_eq!(wrong, Vec::<String>::new());
    assert!(table.case.len() >= 60, "{} cases are too few", table.case.len());
}

const ASKED: &str = "0.0.0.0:9000";
const GIVEN: &str = "10.88.0.102:9000";

/// What a program of a case does: it waits to be told, binds, says where it is,
/// and stays.
const BINDS: &str = "import sys, socket\n\
    print('runs', flush=True); sys.stdin.readline()\n\
    s = socket.socket(); s.bind(('0.0.0.0', 9000)); s.listen()\n\
    print('%s:%s' % s.getsockname(), flush=True); sys.stdin.readline()\n";

/// One case, in a folder of its own.
struct Trial<'a> {
    world: &'a mut World,
    case: &'a Case,
    folder: tempfile::TempDir,
    mounts: Vec<PathBuf>,
    lists: [Vec<String>; 2],
}

impl<'a> Trial<'a> {
    fn new(world: &'a mut World, case: &'a Case) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let in_folder = |texts: &Vec<String>| {
            let path = |text: &String| match text.strip_prefix('/') {
                Some(rest) => folder.path().join(rest).to_str().unwrap().to_owned(),
                None => text.clone(),
            };
            texts.iter().map(path).collect()
        };
        let lists = [in_folder(&case.listed), in_folder(&case.except)];
        Self { world, case, folder, mounts: Vec::new(), lists }
    }

    /// Was the bind moved, and what does the engine say?
    fn run(mut self) -> (bool, String) {
        self.each(&self.case.files.clone());
        self.read_lists();
        self.each(&self.case.then.clone());
        let mut program = self.start();
        assert_eq!(program.line(), "runs", "{}", self.case.name);
        self.each(&self.case.running.clone());
        program.go_on();
        let bound = program.line();
        let policy = Policy::compile(&self.config(), standing);
        let local: std::net::SocketAddr = bound.parse().unwrap();
        let (local, nobody) =
            (Endpoint::new(local.ip(), local.port()), Endpoint::new([10, 88, 0, 2].into(), 7));
        let receiver = self.world.sockets.receiver(Protocol::Tcp, local, nobody).unwrap();
        let said = match policy.program(&receiver.owner) {
            Listing::Listed => "listed",
            Listing::NotListed => "not-listed",
            Listing::Excepted => "excepted",
        };
        assert!([ASKED, GIVEN].contains(&bound.as_str()), "{}: {bound}", self.case.name);
        program.end();
        for mount in self.mounts.drain(..).rev() {
            umount2(&mount, MntFlags::MNT_DETACH).unwrap();
        }
        (bound == GIVEN, said.to_owned())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn each(&mut self, steps: &[String]) {
        for step in steps {
            self.step(step);
        }
    }

    fn step(&mut self, step: &str) {
        let (verb, rest) = step.split_once(' ').unwrap_or((step, ""));
        let pair = || rest.split_once(" -> ").map(|(to, from)| (self.at(to), self.at(from)));
        match (verb, pair()) {
            ("program", None) => copy(Path::new(&python()), &self.at(rest)),
            ("shell", None) => copy(Path::new("/bin/sh"), &self.at(rest)),
            ("folder", None) => fs::create_dir_all(self.at(rest)).unwrap(),
            ("remove", None) => fs::remove_file(self.at(rest)).unwrap(),
            ("link", Some((link, to))) => symlink(to, link).unwrap(),
            ("hard", Some((link, to))) => fs::hard_link(to, link).unwrap(),
            ("rename", Some((from, to))) => fs::rename(from, to).unwrap(),
            ("mount", Some((on, what))) => self.mount(&what, on),
            ("look", None) => self.world.hook.as_mut().unwrap().refresh_programs().unwrap(),
            ("reload", None) => {
                if rest == "without" {
                    self.lists[0] = vec![];
                }
                self.lists[0].push("one-more".to_owned());
                self.read_lists();
            }
            _ => panic!("no such step: {step}"),
        }
    }

    fn mount(&mut self, what: &Path, on: PathBuf) {
        if what.is_dir() {
            fs::create_dir_all(&on).unwrap();
        }
        mount(Some(what), &on, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        self.mounts.push(on);
    }

    fn config(&self) -> Config {
        let [programs, except] = &self.lists;
        let text = format!(
            "pool.ranges = ['10.88.0.100-10.88.0.110']\n[virtual-ip]\n\
             programs = {programs:?}\nexcept = {except:?}\nchildren = {}\n",
            self.case.children
        );
        Config::parse("lists", &text).unwrap().0
    }

    fn read_lists(&mut self) {
        let view = PolicyView::from(&self.config());
        self.world.hook.as_mut().unwrap().set_policy(&view).unwrap();
    }

    /// Starts the program, in session 2.
    fn start(&self) -> Running {
        let mut script = format!(
            "echo 0 > '{}/cgroup.procs'\ncd '{}'\n",
            self.world.scope(2).display(),
            self.folder.path().display()
        );
        let (how, program) = match self.case.run.split_once(' ') {
            Some((how @ ("fd" | "memory"), program)) => (how, program),
            _ => ("", self.case.run.as_str()),
        };
        let program = match program.strip_prefix("cd ").and_then(|rest| rest.split_once("; ")) {
            Some((folder, program)) => {
                script.push_str(&format!("cd '{folder}'\n"));
                program.to_owned()
            }
            None => self.at(program).to_str().unwrap().to_owned(),
        };
        let mut words = match how {
            "" => vec![program, "-c".to_owned(), BINDS.to_owned()],
            how => vec![python(), "-c".to_owned(), LOADS.to_owned(), how.to_owned(), program],
        };
        for starter in &self.case.by {
            let (shell, how) = starter.rsplit_once(' ').unwrap();
            let line = match how {
                "fork" => "\"$@\"; true",
                "exec" => "exec \"$@\"",
                "daemon" => "exec 3<&0; (setsid \"$@\" <&3 3<&- &); true",
                _ => panic!("no such way to start: {how}"),
            };
            let shell = self.at(shell).to_str().unwrap().to_owned();
            let above = [shell, "-c".into(), line.into(), "sh".into()];
            words = above.into_iter().chain(words).collect();
        }
        script.push_str("exec \"$@\"");
        let mut child = Command::new("sh")
            .args(["-c", &script, "sh"])
            .args(words)
            .env("BINDS", BINDS)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Running { child, answers }
    }
}

/// Becomes a program that it has no path of.
const LOADS: &str = "import os, sys\n\
    how, path = sys.argv[1:]\n\
    fd = os.open(path, os.O_RDONLY)\n\
    if how == 'memory':\n    \
        copy = os.memfd_create('crm'); os.sendfile(copy, fd, 0, os.stat(fd).st_size)\n    \
        fd = os.open('/proc/self/fd/%d' % copy, os.O_RDONLY)\n\
    os.execve(fd, ['crm', '-c', os.environ['BINDS']], os.environ)\n";

struct Running {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Running {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn go_on(&mut self) {
        writeln!(self.child.stdin.as_mut().unwrap()).unwrap();
    }

    /// Also of a program that was left behind: it ends with its input, and its
    /// output ends with it.
    fn end(mut self) {
        drop(self.child.stdin.take());
        assert_eq!(self.line(), "");
        self.child.wait().unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The file itself: a copy of a link's target runs as well.
fn python() -> String {
    let path = fs::canonicalize("/usr/bin/python3").expect("these tests need python3");
    path.to_str().unwrap().to_owned()
}
