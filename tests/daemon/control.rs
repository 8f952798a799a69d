//! Who gets which answer at the control socket, and what do others' bad manners cost?

use crate::actor::PYTHON;
use crate::world::{ANA, BEN, World, at_far, become_user, complaint, now};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Output;
use std::time::Duration;

/// An administrator is answered so soon, whatever others do.
const SOON: Duration = Duration::from_secs(1);

/// A command line of ours, run by a user.
fn as_user(world: &World, user: &str, words: &[&str]) -> Output {
    let mut command = become_user(user);
    command.arg(&world.program).arg("--config").arg(&world.config).args(words);
    world.network.host.within(|| command.output()).unwrap().unwrap()
}

fn rows(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", complaint(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn socket(world: &World) -> UnixStream {
    UnixStream::connect(world.directory.path().join("control/control.sock")).unwrap()
}

/// Sends a line and takes one.
fn told(stream: UnixStream, line: &[u8]) -> String {
    stream.set_read_timeout(Some(SOON)).unwrap();
    (&stream).write_all(line).unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    answer
}

#[test]
fn a_user_sees_his_own_and_changes_nothing() {
    let world = World::new(4, "");
    let _far = world.far();
    let (mut ana, mut ben) = (world.actor(1, ANA), world.actor(2, BEN));
    for actor in [&mut ana, &mut ben] {
        actor.listen("tcp", "0.0.0.0:9000");
        actor.connect(at_far()).unwrap();
    }
    for (command, all) in [("sessions", 2), ("flows", 2), ("sockets", 2)] {
        let key = if command == "sessions" { "id" } else { "session" };
        let seen = rows(&as_user(&world, ANA, &[command, "--json"]));
        assert!(!seen.is_empty() && seen.iter().all(|row| row[key] == 1), "{command}: {seen:?}");
        let stranger = rows(&as_user(&world, "nobody", &[command, "--json"]));
        assert!(stranger.is_empty(), "{command}: {stranger:?}");
        let everything = rows(&world.answer(&[command, "--json"]));
        assert!(everything.len() >= all, "{command}: {everything:?}");
    }
    assert!(as_user(&world, "nobody", &["status"]).status.success());

    for words in [["reload"].as_slice(), &["exec", "--session", "1", "--", "true"]] {
        let refused = as_user(&world, ANA, words);
        assert!(!refused.status.success());
        assert!(complaint(&refused).contains("is for administrators"), "{refused:?}");
    }
    // A user's own session is not his to open another one in, either.
    let open = b"{\"command\":\"open-session\",\"session\":9,\"uid\":0}\n";
    assert!(told(socket(&world), open).contains("\"ok\""), "root may");
    let script = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); \
                  s.sendall(sys.argv[2].encode()); print(s.recv(4096).decode())";
    let mut command = become_user(ANA);
    command.args([PYTHON, "-c", script]);
    command.arg(world.directory.path().join("control/control.sock"));
    let answer = command.arg(String::from_utf8_lossy(open).as_ref()).output().unwrap();
    let answer = String::from_utf8(answer.stdout).unwrap();
    assert!(answer.contains("is for administrators"), "{answer}");
}

#[test]
fn what_is_not_understood_is_said() {
    let world = World::new(4, "");
    for (line, words) in [
        (b"\xff\xfe\x00 garbage\n".to_vec(), "not understood"),
        (b"{}\n".to_vec(), "command"),
        (b"{\"command\":\"frobnicate\"}\n".to_vec(), "frobnicate"),
        (b"{\"command\":\"status\",\"more\":1}\n".to_vec(), "more"),
        (b"{\"command\":\"open-session\",\"session\":-1,\"uid\":0}\n".to_vec(), "-1"),
        ([b"x".repeat(20_000), b"\n".to_vec()].concat(), "longer than"),
    ] {
        let answer = told(socket(&world), &line);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let sentence = answer["error"].as_str().unwrap();
        assert!(sentence.contains(words), "{sentence}");
    }
    // And the connection serves on, one line after another.
    let stream = socket(&world);
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    for _ in 0..3 {
        (&stream).write_all(b"{\"command\":\"sessions\"}\n").unwrap();
        let mut answer = String::new();
        lines.read_line(&mut answer).unwrap();
        assert_eq!(answer, "{\"ok\":[]}\n");
    }
    assert!(world.answer(&["status"]).status.success());
}

#[test]
fn who_says_nothing_keeps_nobody_waiting() {
    let world = World::new(4, "");
    let mut silent: Vec<_> = (0..200).map(|_| socket(&world)).collect();
    // Half a line is as good as silence; nor is an answer that nobody reads.
    for stream in silent.iter_mut().rev().take(20) {
        let _ = stream.write_all(b"{\"command\":");
    }
    let began = now();
    let answer = told(socket(&world), b"{\"command\":\"sessions\"}\n");
    assert_eq!(answer, "{\"ok\":[]}\n");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    println!("answered in {:?}", began.elapsed());

    let crowd = "import socket,sys,time; s=[socket.socket(socket.AF_UNIX) for _ in range(200)]\n\
                 for x in s: x.connect(sys.argv[1])\nprint('ready',flush=True); sys.stdin.read()";
    let mut command = become_user(ANA);
    command.args([PYTHON, "-c", crowd]);
    command.arg(world.directory.path().join("control/control.sock"));
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut crowd = command.spawn().unwrap();
    let mut ready = [0; 6];
    crowd.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    let began = now();
    assert!(world.answer(&["status"]).status.success());
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    drop(crowd.stdin.take());
    crowd.wait().unwrap();
}

#[test]
fn without_a_daemon_a_command_says_how_to_get_one() {
    let world = World::without_daemon(4, "");
    for command in ["status", "sessions", "flows", "sockets", "reload"] {
        let output = world.answer(&[command]);
        assert_eq!(output.status.code(), Some(1));
        let complaint = complaint(&output);
        assert!(complaint.contains("no sessionip daemon answers at"), "{complaint}");
        assert!(complaint.contains("sessionip run") && complaint.lines().count() == 1);
    }
}
