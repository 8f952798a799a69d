//! Is a session of its own by IPv6, too?

use crate::world::{ANA, BEN, FAR, FAR_IPV6, HOST_IPV6, Program, Session, WHO, World};

const BOTH: &str = "'10.77.0.101-10.77.0.110', 'fd77::101-fd77::110'";

fn server(world: &World, session: Session, words: &[&str; 3], at: &str) -> Program {
    let [protocol, address, port] = *words;
    let all = ["talk.exe", "serve", protocol, address, port, "99"];
    let program = world.exec(session, &all, "serving");
    assert_eq!(program.said(), format!("serving at [{at}]:{port}\n"), "{words:?}");
    program
}

#[test]
fn two_sessions_listen_and_leave_by_ipv6_each_as_itself() {
    let world = World::with_ranges("six", BOTH, "");
    let before = world.addresses();
    world.start_service();
    let sessions = world.json("sessions");
    for session in [ANA, BEN] {
        let rows = sessions.as_array().unwrap();
        let row = rows.iter().find(|row| row["virtual_ip"] == session.address).unwrap();
        assert_eq!(row["id"].to_string(), session.id, "{row}");
        assert_eq!(row["virtual_ipv6"], session.ipv6, "{row}");
        assert!(world.addresses().contains(&format!("{}/128", session.ipv6)));
    }
    let mut servers = Vec::new();
    for session in [ANA, BEN] {
        let mapped = format!("::ffff:{}", session.address);
        for (asked, at) in [
            (["tcp", "::", "9000"], session.ipv6),
            (["udp", "::", "9000"], session.ipv6),
            (["tcp", HOST_IPV6, "9002"], session.ipv6),
            (["both-tcp", "::", "9001"], &mapped),
        ] {
            servers.push(server(&world, session, &asked, at));
        }
    }
    for session in [ANA, BEN] {
        reached_from_afar(&world, session);
        leaves_as_itself(&world, session);
    }
    within_the_host(&world);
    assert_eq!(world.ask(None, "tcp", (FAR_IPV6, WHO)), format!("answer {HOST_IPV6}"));
    let reasons = world.json("status")["reasons"].clone();
    assert!(reasons["session-source"].as_u64() >= Some(4), "{reasons}");
    assert!(reasons["no-ipv6"].is_null(), "{reasons}");

    world.says(&["service", "stop"]);
    assert_eq!(world.addresses(), before, "nothing is left");
    drop(servers);
}

fn reached_from_afar(world: &World, session: Session) {
    let Session { address, ipv6, .. } = session;
    let marker = format!("marker-{}", session.id);
    for port in [9000, 9002] {
        let answer = world.ask_from_afar(ipv6, port, &marker);
        assert!(answer.starts_with(&format!("[{FAR_IPV6}]:")), "{answer}");
        assert!(answer.ends_with(&format!(" {marker} at [{ipv6}]:{port}")), "{answer}");
    }
    let answer = world.ask_by_udp(ipv6, 9000, &marker);
    assert!(answer.starts_with(&format!("[{ipv6}]:9000: ")), "it was asked there: {answer}");
    assert!(answer.ends_with(&format!(" {marker} at [{ipv6}]:9000")), "{answer}");
    // A dual-stack socket was moved to an IPv4 address, and is at no other.
    let answer = world.ask_from_afar(address, 9001, &marker);
    assert!(answer.ends_with(&format!(" {marker} at [::ffff:{address}]:9001")), "{answer}");
    assert_eq!(world.ask_from_afar(ipv6, 9001, &marker), "ConnectionRefused");
}

fn leaves_as_itself(world: &World, session: Session) {
    for protocol in ["tcp", "udp"] {
        let answer = world.ask(Some(session), protocol, (FAR_IPV6, WHO));
        assert_eq!(answer, format!("answer {}", session.ipv6), "{protocol}");
        let answer = world.ask(Some(session), protocol, (FAR, WHO));
        assert_eq!(answer, format!("answer {}", session.address), "{protocol}, IPv4 as ever");
    }
}

/// Each finds its own server at the host address and at localhost, and the other's
/// at the other's address.
fn within_the_host(world: &World) {
    for (session, other) in [(ANA, BEN), (BEN, ANA)] {
        for place in [HOST_IPV6, "::1"] {
            for protocol in ["tcp", "udp"] {
                let met = world.meet(session, protocol, (place, "9000"));
                assert_eq!(met.server(), format!("[{}]:9000", session.ipv6), "{place} {met:?}");
                assert_eq!(met.far, format!("[{place}]:9000"), "{protocol} {met:?}");
            }
        }
        let met = world.meet(session, "tcp", (other.ipv6, "9000"));
        assert_eq!(met.server(), format!("[{}]:9000", other.ipv6), "{met:?}");
        assert!(met.seen_as().starts_with(&format!("[{}]:", session.ipv6)), "O7: {met:?}");
    }
}

#[test]
fn without_a_lease_ipv6_is_left_and_counted_or_blocked() {
    let world = World::new("six", "");
    world.start_service();
    for protocol in ["tcp", "udp"] {
        let answer = world.ask(Some(ANA), protocol, (FAR_IPV6, WHO));
        assert_eq!(answer, format!("answer {HOST_IPV6}"), "{protocol}");
    }
    assert!(world.count("no-ipv6") >= 2, "{}", world.json("status"));
    // A program that asks for nothing but IPv6 starts in every session, and is found
    // by its own session.
    let _servers =
        [ANA, BEN].map(|session| server(&world, session, &["tcp", "::", "9000"], session.private));
    for session in [ANA, BEN] {
        let met = world.meet(session, "tcp", ("::1", "9000"));
        assert_eq!(met.server(), format!("[{}]:9000", session.private), "{met:?}");
    }

    let range = "'10.77.0.101-10.77.0.110'";
    world.configure(range, "virtual-ip.ipv6-without-lease = 'block'");
    world.says(&["reload"]);
    let before = world.count("no-ipv6");
    for protocol in ["tcp", "udp"] {
        let answer = world.ask(Some(ANA), protocol, (FAR_IPV6, WHO));
        assert!(answer.contains("error 10060"), "{protocol}: {answer}");
        let answer = world.ask(None, protocol, (FAR_IPV6, WHO));
        assert_eq!(answer, format!("answer {HOST_IPV6}"), "{protocol} of no session");
        let answer = world.ask(Some(ANA), protocol, (FAR, WHO));
        assert_eq!(answer, format!("answer {}", ANA.address), "{protocol}, IPv4 as ever");
    }
    assert!(world.count("no-ipv6") >= before + 2, "{}", world.json("status"));
}
