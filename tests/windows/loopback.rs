//! Has each session a localhost of its own? By binds that the DLL moves, and by
//! packets that lead there: O3 and O6 of DESIGN.md's table.

use crate::world::{ANA, BEN, FAR, HOST, Program, Session, WHO, World};
use serde_json::Value;

const LOCALHOST: &str = "127.0.0.1";
const ON: &str = "loopback.enabled = true
loopback.programs = ['talk.exe', 'near.exe']
loopback.prefer = ['near.exe']";
const RANGE: &str = "'10.77.0.101-10.77.0.110'";

/// A server of a session, which says that it is where it is expected.
fn server(world: &World, session: Session, words: &[&str; 4], at: &str) -> Program {
    let [program, protocol, address, port] = *words;
    let all = [program, "serve", protocol, address, port, "99"];
    let program = world.exec(session, &all, "serving");
    assert_eq!(program.said(), format!("serving at {at}:{port}\n"), "{words:?}");
    program
}

fn sockets_row(world: &World, bound: &str) -> Value {
    let sockets = world.json("sockets");
    let row = sockets.as_array().unwrap().iter().find(|row| row["bound"] == bound).cloned();
    row.unwrap_or_else(|| panic!("nobody at {bound}: {sockets}"))
}

#[test]
fn two_sessions_meet_themselves_at_localhost() {
    let world = World::new("loop", ON);
    world.call_talk("near.exe");
    world.call_talk("other.exe");
    let serve = ["./talk.exe", "serve", "tcp", LOCALHOST, "9001", "99"];
    let service = world.start(None, &serve, "serving");
    world.start_service();
    let mut servers = vec![service];
    for session in [ANA, BEN] {
        let Session { loopback, private, .. } = session;
        for protocol in ["tcp", "udp"] {
            let asked = ["talk.exe", protocol, LOCALHOST, "9000"];
            servers.push(server(&world, session, &asked, loopback));
        }
        let (asked, at) = (["talk.exe", "tcp", "::1", "9002"], format!("[{private}]"));
        servers.push(server(&world, session, &asked, &at));
    }
    for session in [ANA, BEN] {
        each_meets_its_own(&world, session);
    }
    // Nobody else is led there: neither the host itself nor the far side.
    let answer = world.ask(None, "tcp", (LOCALHOST, "9000"));
    assert!(answer.contains("10061"), "nobody listens there for the host: {answer}");
    assert_eq!(world.ask_from_afar(HOST, 9000, "hello"), "ConnectionRefused");
    another_session_s_is_out_of_reach(&world);
    assert!(world.count("session-loopback") > 0);
    let row = sockets_row(&world, "127.0.0.4:9000");
    assert_eq!(row["asked"], "127.0.0.1:9000", "{row}");
    assert_eq!(row["reason"], "session-loopback", "{row}");
    assert_eq!(row["session"].to_string(), BEN.id, "{row}");
    // What leaves this host is none of this.
    assert_eq!(world.ask(Some(ANA), "tcp", (FAR, WHO)), format!("answer {}", ANA.address));
}

/// Its own server answers, which sees localhost, and so does the client; whether
/// or not the client's program is on the list.
fn each_meets_its_own(world: &World, session: Session) {
    for protocol in ["tcp", "udp"] {
        let met = world.meet(session, protocol, (LOCALHOST, "9000"));
        assert_eq!(met.server(), format!("{}:9000", session.loopback), "{protocol} {met:?}");
        assert_eq!(met.far, "127.0.0.1:9000", "the answer is turned back: {protocol} {met:?}");
        assert!(met.seen_as().starts_with("127.0.0.1:"), "{protocol} {met:?}");
        let answer = world
            .runs(Some(session), &["./other.exe", "talk", protocol, LOCALHOST, "9000", "hello"]);
        assert!(answer.ends_with(&format!(" at {}:9000", session.loopback)), "unlisted: {answer}");
    }
    let met = world.meet(session, "tcp", ("::1", "9002"));
    assert_eq!(met.server(), format!("[{}]:9002", session.private), "{met:?}");
    assert_eq!(met.far, "[::1]:9002", "{met:?}");
    let private = format!("[{}]:", session.private);
    assert!(met.seen_as().starts_with(&private), "one address for both ends: {met:?}");
    let met = world.meet(session, "tcp", (LOCALHOST, "9001"));
    assert_eq!(met.server(), "127.0.0.1:9001", "the host's own services are found: {met:?}");
}

/// O6: packets for it go nowhere, and are counted.
fn another_session_s_is_out_of_reach(world: &World) {
    let before = world.count("foreign-loopback");
    for (protocol, place, port) in
        [("udp", ANA.loopback, "9000"), ("tcp", ANA.loopback, "9000"), ("tcp", ANA.private, "9002")]
    {
        let answer = world.ask(Some(BEN), protocol, (place, port));
        assert!(answer.contains("error 10060"), "{protocol} at {place}: {answer}");
        let own = world.ask(Some(ANA), protocol, (place, port));
        assert!(own.starts_with("answer "), "its own session asks {protocol} {place}: {own}");
    }
    assert!(world.count("foreign-loopback") >= before + 3, "{}", world.json("status"));
}

/// What is preferred, and what a reload does.
#[test]
fn wildcard_binds_may_prefer_localhost_and_a_reload_turns_it_off() {
    let world = World::new("near", ON);
    world.call_talk("near.exe");
    world.start_service();
    let mut servers = Vec::new();
    for session in [ANA, BEN] {
        let asked = ["near.exe", "tcp", "0.0.0.0", "9000"];
        servers.push(server(&world, session, &asked, session.loopback));
        let asked = ["talk.exe", "tcp", "0.0.0.0", "9001"];
        servers.push(server(&world, session, &asked, session.address));
    }
    for session in [ANA, BEN] {
        let met = world.meet(session, "tcp", (LOCALHOST, "9000"));
        assert_eq!(met.server(), format!("{}:9000", session.loopback), "{met:?}");
        assert_eq!(world.ask_from_afar(session.address, 9000, "hello"), "ConnectionRefused");
        let met = world.meet(session, "tcp", (LOCALHOST, "9001"));
        assert_eq!(met.server(), format!("{}:9001", session.address), "{met:?}");
        assert!(world.ask_from_afar(session.address, 9001, "hello").contains("hello"));
    }
    let row = sockets_row(&world, "127.0.0.3:9000");
    assert_eq!((&row["asked"], &row["reason"]), (&"0.0.0.0:9000".into(), &"wildcard".into()));

    world.configure(RANGE, "");
    world.says(&["reload"]);
    servers.push(server(&world, ANA, &["near.exe", "tcp", LOCALHOST, "9002"], LOCALHOST));
    servers.push(server(&world, ANA, &["near.exe", "tcp", "0.0.0.0", "9003"], ANA.address));
    let met = world.meet(BEN, "tcp", (LOCALHOST, "9002"));
    assert_eq!(met.server(), "127.0.0.1:9002", "one localhost for all: {met:?}");
}
