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

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) children: bool,
    #[serde(default)]
    pub(crate) files: Vec<String>,
    pub(crate) listed: Vec<String>,
    #[serde(default)]
    pub(crate) except: Vec<String>,
    #[serde(default)]
    pub(crate) exclude: Vec<String>,
    #[serde(default)]
    pub(crate) left: bool,
    #[serde(default)]
    pub(crate) then: Vec<String>,
    pub(crate) run: String,
    /// Instead of `run`: a program in the folder, and its arguments.
    #[serde(skip)]
    pub(crate) words: Vec<String>,
    #[serde(default)]
    pub(crate) by: Vec<String>,
    #[serde(default)]
    pub(crate) running: Vec<String>,
    pub(crate) is: String,
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
            let wanted = (case.is == "listed" && !case.left, case.is.clone());
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
pub(crate) struct Trial<'a> {
    world: &'a mut World,
    case: &'a Case,
    folder: tempfile::TempDir,
    mounts: Vec<PathBuf>,
    lists: [Vec<String>; 3],
}

impl<'a> Trial<'a> {
    pub(crate) fn new(world: &'a mut World, case: &'a Case) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let in_folder = |texts: &Vec<String>| {
            let path = |text: &String| match text.strip_prefix('/') {
                Some(rest) => folder.path().join(rest).to_str().unwrap().to_owned(),
                None => text.clone(),
            };
            texts.iter().map(path).collect()
        };
        let lists = [&case.listed, &case.except, &case.exclude].map(in_folder);
        Self { world, case, folder, mounts: Vec::new(), lists }
    }

    /// Was the bind moved, and what does the engine say?
    pub(crate) fn run(mut self) -> (bool, String) {
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
            ("script" | "forking", None) => self.script(rest, verb == "forking"),
            ("starter", None) => write(&self.at(rest), "#!/bin/sh\n\"$@\"\ntrue\n", 0o755),
            ("perl", None) => fs::write(self.at(rest), PERL).unwrap(),
            ("node", None) => fs::write(self.at(rest), NODE).unwrap(),
            ("stand-in", None) => copy(&crate::scripts::stand_in(), &self.at(rest)),
            ("file", None) => write(&self.at(rest), "", 0o644),
            ("folder", None) => fs::create_dir_all(self.at(rest)).unwrap(),
            ("remove", None) => fs::remove_file(self.at(rest)).unwrap(),
            ("link", Some((link, to))) => symlink(to, link).unwrap(),
            ("hard", Some((link, to))) => fs::hard_link(to, link).unwrap(),
            ("rename", Some((from, to))) => fs::rename(from, to).unwrap(),
            ("command", Some((link, to))) => {
                let folder = PathBuf::from("/usr/local/bin");
                let own =
                    mount(Some("own"), &folder, Some("tmpfs"), MsFlags::empty(), None::<&str>);
                own.unwrap();
                symlink(to, folder.join(link.file_name().unwrap())).unwrap();
                self.mounts.push(folder);
            }
            ("mount", Some((on, what))) => self.mount(&what, on),
            ("look", None) => self.world.hook.as_mut().unwrap().refresh_programs().unwrap(),
            ("reload", None) => {
                match rest.split_once(' ') {
                    Some((_, more)) if more.starts_with('/') => {
                        self.lists[0].push(self.at(&more[1..]).to_str().unwrap().to_owned());
                    }
                    Some((_, more)) => self.lists[0].push(more.to_owned()),
                    None if rest == "without" => self.lists[0].clear(),
                    None => {}
                }
                self.lists[0].push("one-more".to_owned());
                self.read_lists();
            }
            _ => panic!("no such step: {step}"),
        }
    }

    /// `PATH: LINE`, with a `#!` line unless it is empty.
    fn script(&self, text: &str, forks: bool) {
        let (name, line) = text.split_once(": ").unwrap_or((text, ""));
        let first = if line.is_empty() { String::new() } else { format!("#!{line}\n") };
        let forks =
            if forks { "import os, sys\nif os.fork(): os.wait(); sys.exit()\n" } else { "" };
        write(&self.at(name), &format!("{first}{forks}{BINDS}"), 0o755);
    }

    fn mount(&mut self, what: &Path, on: PathBuf) {
        if what.is_dir() {
            fs::create_dir_all(&on).unwrap();
        }
        mount(Some(what), &on, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        self.mounts.push(on);
    }

    fn config(&self) -> Config {
        let [programs, except, exclude] = &self.lists;
        let text = format!(
            "pool.ranges = ['10.88.0.100-10.88.0.110']\n[virtual-ip]\n\
             programs = {programs:?}\nexcept = {except:?}\nchildren = {}\n\
             [hook]\nexclude = {exclude:?}\n",
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
        let mut run = self.case.run.as_str();
        if let Some((folder, rest)) = run.strip_prefix("cd ").and_then(|it| it.split_once("; ")) {
            script.push_str(&format!("cd '{folder}'\n"));
            run = rest;
        }
        let path = |name: &str| self.at(name).to_str().unwrap().to_owned();
        let mut words = match run.split_once(' ') {
            _ if !self.case.words.is_empty() => {
                let (program, arguments) = self.case.words.split_first().unwrap();
                std::iter::once(path(program)).chain(arguments.iter().cloned()).collect()
            }
            Some((how @ ("fd" | "memory"), program)) => {
                let loads = ["-c", LOADS, how, &path(program)].map(str::to_owned);
                std::iter::once(python()).chain(loads).collect()
            }
            Some(("$", words)) => {
                let word =
                    |word: &str| word.strip_prefix('@').map_or_else(|| word.to_owned(), path);
                words.split(' ').map(word).collect()
            }
            _ => {
                let program = if run.contains("..") { run.to_owned() } else { path(run) };
                vec![program, "-c".to_owned(), BINDS.to_owned()]
            }
        };
        for starter in &self.case.by {
            let (shell, how) = starter.rsplit_once(' ').unwrap();
            if how == "script" {
                words.insert(0, path(shell));
                continue;
            }
            let line = match how {
                "fork" => "\"$@\"; true",
                "exec" => "exec \"$@\"",
                "daemon" => "exec 3<&0; (setsid \"$@\" <&3 3<&- &); true",
                _ => panic!("no such way to start: {how}"),
            };
            let above = [path(shell), "-c".into(), line.into(), "sh".into()];
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

const PERL: &str = "use IO::Socket::INET; $| = 1; print \"runs\\n\"; <STDIN>;\n\
    $s = IO::Socket::INET->new(LocalAddr => '0.0.0.0:9000', Listen => 1);\n\
    print $s->sockhost, ':', $s->sockport, \"\\n\"; <STDIN>;\n";

const NODE: &str = "const net = require('net'); process.stdin.setEncoding('utf8');\n\
    process.stdin.once('data', () => { const s = net.createServer();\n\
    s.listen(9000, '0.0.0.0', () => console.log(s.address().address + ':' + s.address().port));\n\
    process.stdin.on('end', () => process.exit()); });\n\
    console.log('runs');\n";

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

fn write(path: &Path, text: &str, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
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
