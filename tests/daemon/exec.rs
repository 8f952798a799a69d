//! Is a command that `exec` runs what it would be at a login?

use crate::world::{ANA, BEN, World, become_user, complaint};
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

fn exec(world: &World, words: &[&str]) -> Output {
    world.answer(&[&["exec"], words].concat())
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", complaint(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn the_exit_status_is_the_commands() {
    let world = World::new(4, "");
    let plain = world.directory.path().join("plain.txt");
    std::fs::write(&plain, "no program").unwrap();
    let status = |words: &[&str]| exec(&world, words).status.code();
    assert_eq!(status(&["--session", "1", "--", "true"]), Some(0));
    assert_eq!(status(&["--session", "1", "--", "sh", "-c", "exit 3"]), Some(3));
    assert_eq!(status(&["--session", "1", "--", "/no/such/program"]), Some(127));
    assert_eq!(status(&["--session", "1", "--", plain.to_str().unwrap()]), Some(126));
    let killed = exec(&world, &["--session", "1", "--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&killed.status), Some(9));
    let missing = exec(&world, &["--session", "1", "--", "/no/such/program"]);
    assert!(complaint(&missing).contains("cannot run /no/such/program"), "{missing:?}");
}

#[test]
fn who_may_not_is_told_why() {
    let world = World::new(4, "");
    let _ana = world.actor(1, ANA);
    let refused = |words: &[&str], sentence: &str| {
        let output = exec(&world, words);
        assert!(!output.status.success());
        let complaint = complaint(&output);
        assert!(complaint.contains(sentence) && complaint.lines().count() == 1, "{complaint}");
    };
    let (other, unknown) = (format!("session 1 is {ANA}'s"), "there is no user nobody-here");
    refused(&["--session", "1", "--user", BEN, "--", "true"], &other);
    refused(&["--session", "1", "--", "true"], &other);
    refused(&["--session", "0", "--user", BEN, "--", "true"], "from 1 to");
    refused(&["--session", "2", "--user", "nobody-here", "--", "true"], unknown);
    // Nothing of it has opened a session.
    assert_eq!(world.json("sessions").as_array().unwrap().len(), 1);

    let mut command = become_user(ANA);
    command.arg(&world.program).arg("--config").arg(&world.config);
    command.args(["exec", "--session", "1", "--", "true"]);
    let output = world.network.host.within(|| command.output()).unwrap().unwrap();
    assert!(complaint(&output).contains("`exec` is for administrators"), "{output:?}");
    assert!(!output.status.success());
}

#[test]
fn a_command_finds_itself_at_home() {
    let world = World::new(4, "");
    let command = "id -u; id -g; id -G; echo $HOME $USER $LOGNAME $SHELL $XDG_SESSION_ID; pwd; \
                   grep -i '^Sig[IB]' /proc/self/status; ulimit -c >/dev/null";
    let output = exec(&world, &["--session", "7", "--user", ANA, "--", "sh", "-c", command]);
    let said = said(&output);
    let lines: Vec<_> = said.lines().collect();
    let user = nix::unistd::User::from_name(ANA).unwrap().unwrap();
    assert_eq!(lines[0], user.uid.to_string());
    assert_eq!(lines[1], user.gid.to_string());
    let groups = String::from_utf8(
        std::process::Command::new("id").args(["-G", ANA]).output().unwrap().stdout,
    );
    assert_eq!(lines[2], groups.unwrap().trim());
    let (home, shell) = (user.dir.display(), user.shell.display());
    assert_eq!(lines[3], format!("{home} {ANA} {ANA} {shell} 7"));
    // No signal is blocked or ignored: SIGPIPE ends `yes | head`. Real-time ones
    // may be, by whatever runs this test.
    for line in &lines[5..7] {
        let signals = u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap();
        assert_eq!(signals & 0x7fff_ffff, 0, "{said}");
    }
}

#[test]
fn root_runs_what_it_likes_and_the_session_ends_with_it() {
    let world = World::new(4, "");
    let output = exec(&world, &["--session", "3", "--", "sh", "-c", "id -u; echo $XDG_SESSION_ID"]);
    assert_eq!(said(&output), "0\n3\n");
    world.gone(3);
    // A program of the user's own, that others cannot read.
    let script = world.directory.path().join("own");
    std::fs::write(&script, "#!/bin/sh\nexit 5\n").unwrap();
    let user = nix::unistd::User::from_name(ANA).unwrap().unwrap();
    nix::unistd::chown(&script, Some(user.uid), Some(user.gid)).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o500)).unwrap();
    let words = ["--session", "4", "--user", ANA, "--", script.to_str().unwrap()];
    assert_eq!(exec(&world, &words).status.code(), Some(5));
}
