//! Are 32-bit programs treated like 64-bit ones?

use crate::world::{ANA, BEN, FAR, LOGONS, Program, Session, WHO, World};

/// Who is logged on to session 1: the number that Wine gives to what a program
/// starts, so that there the children of a session's programs are in it, too.
const FIRST: Session = Session { id: "1", ..ANA };

/// The 32-bit edition.
const NARROW: &str = "talk32.exe";

fn begin(what: &str) -> World {
    let world = World::new(what, "");
    let ana = r"session 1 active RDP-Tcp#1 CORP\ana rdp";
    world.log_on(&[LOGONS[0], ana, LOGONS[3]]);
    world
}

/// It listens where it should, and answers the far side there.
fn is_at(world: &World, program: &Program, address: &str, port: u16) {
    let serving = format!("serving at {address}:{port}");
    assert!(program.said().contains(&serving), "{}", program.said());
    let answer = world.ask_from_afar(address, port, "marker");
    assert!(answer.ends_with(&format!(" marker at {address}:{port}")), "{answer}");
}

#[test]
fn programs_of_both_widths_listen_on_one_port_and_leave_as_their_session() {
    let world = begin("wide");
    let words = ["./talk32.exe", "later", "tcp", "0.0.0.0", "9001", "99"];
    let mut older = world.start(Some(BEN), &words, "waiting");
    world.start_service();
    // The hook came to it when the service started.
    older.go_on();
    older.comes_to("serving");
    is_at(&world, &older, BEN.address, 9001);

    let serve = |program| [program, "serve", "tcp", "0.0.0.0", "9000", "99"];
    let narrow = world.exec(BEN, &serve(NARROW), "serving");
    let wide = world.exec(FIRST, &serve("talk.exe"), "serving");
    is_at(&world, &narrow, BEN.address, 9000);
    is_at(&world, &wide, FIRST.address, 9000);
    let sockets = world.json("sockets");
    let bound = format!("{}:9000", BEN.address);
    let row = sockets.as_array().unwrap().iter().find(|row| row["bound"] == bound.as_str());
    let row = row.unwrap_or_else(|| panic!("{sockets}"));
    assert_eq!(row["asked"], "0.0.0.0:9000", "it told of it: {row}");
    assert!(row["program"].as_str().unwrap().ends_with(NARROW), "{row}");

    for protocol in ["tcp", "udp"] {
        let words = ["./talk32.exe", "talk", protocol, FAR, WHO, "hello"];
        assert_eq!(world.runs(Some(BEN), &words), format!("answer {}", BEN.address), "{protocol}");
    }
    // Localhost is intact for them as well.
    let words = ["./talk32.exe", "talk", "tcp", "127.0.0.1", "9000", "hello"];
    for (session, address) in [(BEN, BEN.address), (FIRST, FIRST.address)] {
        let answer = world.runs(Some(session), &words);
        assert!(answer.ends_with(&format!(" at {address}:9000")), "{answer}");
    }
}

/// The hook goes from a program to what it starts, of whatever width, before that
/// runs.
#[test]
fn children_of_the_other_width_have_the_hook() {
    let world = begin("kids");
    world.start_service();
    let shell = |folder: &str| format!(r"C:\windows\{folder}\cmd.exe");
    let (wide, narrow) = (shell("system32"), shell("syswow64"));
    let mut programs = Vec::new();
    for (port, shell, child) in [(9000, &wide, NARROW), (9001, &narrow, "talk.exe")] {
        let number = port.to_string();
        let words = [shell.as_str(), "/c", child, "serve", "tcp", "0.0.0.0", &number, "99"];
        let program = world.exec(FIRST, &words, "serving");
        is_at(&world, &program, FIRST.address, port);
        programs.push(program);
    }
    // A grandchild, of the first width again.
    let words = [&*wide, "/c", &*narrow, "/c", "talk.exe", "serve", "tcp", "0.0.0.0", "9002", "99"];
    let program = world.exec(FIRST, &words, "serving");
    is_at(&world, &program, FIRST.address, 9002);
}
