//! Do name functions answer with the session's address? The service for
//! nsswitch.conf(5) that `names/` is, with the libc of this machine.

use crate::world::{ANA, BEN, World};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A name that no file and no DNS of this machine has.
const NAME: &str = "terminal-server-of-a-test";

/// What python's functions, which are libc's, say of the machine.
const ASK: &str = r#"
import socket, sys
name = socket.gethostname()
print(socket.gethostbyname(name))
print(*sorted({info[4][0] for info in socket.getaddrinfo(name, 80)}))
print(*{info[4][0] for info in socket.getaddrinfo(name, 80, socket.AF_INET)})
print(socket.gethostbyaddr(sys.argv[1])[0])
print(socket.getnameinfo((sys.argv[1], 80), socket.NI_NAMEREQD)[0])
print(socket.gethostbyname("localhost"))
"#;

/// The module, as cargo builds it, under the name that glibc loads.
pub(crate) fn module(world: &World) -> PathBuf {
    let profile = Path::new(env!("CARGO_BIN_EXE_sessionip")).parent().unwrap();
    let built = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--package", "sessionip-names", "--target-dir"])
        .arg(profile.parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let folder = world.directory.path().join("lib");
    std::fs::create_dir(&folder).unwrap();
    let library = profile.with_file_name("debug").join("libnss_sessionip.so");
    std::fs::copy(library, folder.join("libnss_sessionip.so.2")).unwrap();
    std::fs::write(world.directory.path().join("nsswitch.conf"), "hosts: sessionip files\n")
        .unwrap();
    folder
}

/// A command line on a host of that name which asks the module first.
fn with_names(world: &World, library: &Path, command: &[&str]) -> Command {
    let place = world.directory.path().display();
    let prepare = format!(
        "hostname {NAME} && mount --bind {place}/nsswitch.conf /etc/nsswitch.conf && exec \"$@\""
    );
    let mut words = Command::new("unshare");
    words.args(["--mount", "--uts", "sh", "-c", &prepare, "sh"]).args(command);
    words.env("LD_LIBRARY_PATH", library).stdin(Stdio::null());
    words
}

fn run(world: &World, mut command: Command) -> Output {
    world.network.host.within(|| command.output()).unwrap().unwrap()
}

/// The same in a session, as that user.
pub(crate) fn in_session(
    world: &World,
    library: &Path,
    (session, user): (u32, &str),
    command: &[&str],
) -> Command {
    let program = world.program.to_str().unwrap();
    let config = world.config.to_str().unwrap();
    let (number, library_path) =
        (session.to_string(), format!("LD_LIBRARY_PATH={}", library.display()));
    let exec = [program, "--config", config, "exec", "--session", &number, "--user", user, "--"];
    let command = [exec.as_slice(), &["env", &library_path], command].concat();
    with_names(world, library, &command)
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text.into_owned()
}

fn ask(world: &World, library: &Path, who: (u32, &str), command: &[&str]) -> Output {
    run(world, in_session(world, library, who, command))
}

#[test]
fn the_machines_name_is_the_sessions_address() {
    let world = World::new(4, "[virtual-ip]\nexcept = ['perl']\n[hook]\nscope = 'connect'");
    let library = module(&world);
    // They keep the sessions.
    let _shells = [world.actor(1, ANA), world.actor(2, BEN)];
    for who in [(1, ANA), (2, BEN)] {
        let v = world.address(who.0).to_string();
        let question = ["/usr/bin/python3", "-c", ASK, &v];
        let answer = said(&ask(&world, &library, who, &question));
        assert_eq!(answer, format!("{v}\n{v}\n{v}\n{NAME}\n{NAME}\n127.0.0.1\n"));
        let answer = said(&ask(&world, &library, who, &["getent", "hosts", NAME]));
        assert_eq!(answer.split_whitespace().collect::<Vec<_>>(), [v.as_str(), NAME]);
        let answer = said(&ask(&world, &library, who, &["getent", "hosts", &v]));
        assert_eq!(answer.split_whitespace().collect::<Vec<_>>(), [v.as_str(), NAME]);
    }
    let other = world.address(2).to_string();
    let answer = ask(&world, &library, (1, ANA), &["getent", "hosts", &other]);
    assert!(!answer.status.success(), "another session's address: {answer:?}");

    // Who has no address of his own asks the next service, which knows no such name.
    let outside = run(&world, with_names(&world, &library, &["getent", "hosts", NAME]));
    assert!(!outside.status.success(), "outside any session: {outside:?}");
    let perl = ["perl", "-e", "print defined gethostbyname($ARGV[0]) ? 'found' : 'none'", NAME];
    let excepted = said(&ask(&world, &library, (1, ANA), &perl));
    assert_eq!(excepted, "none");
    world.configure(4, "[hook]\nscope = 'connect'");
    assert!(world.answer(&["reload"]).status.success());
    let listed = said(&ask(&world, &library, (1, ANA), &perl));
    assert_eq!(listed, "found");
    let localhost = said(&ask(&world, &library, (1, ANA), &["getent", "hosts", "localhost"]));
    assert!(localhost.contains("localhost"), "{localhost}");
}

#[test]
fn by_default_the_next_service_answers() {
    let world = World::new(4, "");
    let library = module(&world);
    let _shell = world.actor(1, ANA);
    let answer = ask(&world, &library, (1, ANA), &["getent", "hosts", NAME]);
    assert!(!answer.status.success(), "{answer:?}");
}
