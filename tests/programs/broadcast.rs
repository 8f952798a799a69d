//! What is broadcast is for every address at once: its receivers are excluded.

use super::client::PYTHON;
use super::copies::{self, Copy};
use super::lab::Lab;
use super::program::Asked::{Everywhere, Kept};
use super::program::{Program, Word};
use sessionip::lab::{marker, process};
use sessionip::packet::Protocol::Udp;
use std::net::{IpAddr, Ipv4Addr};

/// The link's own, as the receivers of a protocol are asked by.
const BROADCAST: &str = "10.77.0.255";

const SEND: &str = "
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s.sendto(sys.argv[3].encode(), (sys.argv[1], int(sys.argv[2])))
";

const EVERYWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

const BY_PORT: Program = Program {
    name: "broadcast-by-port",
    sockets: &[(Udp, 9998, Kept(EVERYWHERE))],
    command: "exec socat -u UDP-RECV:{port},reuseaddr STDOUT",
    word: Word::Udp("{word}"),
    ..Program::PLAIN
};

const BY_NAME: Program =
    Program { name: "broadcast-by-name", sockets: &[(Udp, 9996, Kept(EVERYWHERE))], ..BY_PORT };

const NOT_EXCLUDED: Program =
    Program { name: "broadcast", sockets: &[(Udp, 9997, Everywhere)], ..BY_PORT };

/// Both sessions' receivers hear what is broadcast where they are excluded, by
/// port or by program; the same one, moved to its session's address, hears only
/// what is sent there.
pub(crate) fn receivers_hear_it_by_exclusion(lab: &Lab) {
    for (program, excluded) in [(BY_PORT, true), (BY_NAME, true), (NOT_EXCLUDED, false)] {
        let start = |session| Copy::start(lab, session, &program);
        let mut copies: Vec<_> = lab.sessions.iter().map(start).collect();
        copies::listen(lab, &program, &mut copies);
        let broadcast = send(lab, BROADCAST, &program);
        for (copy, session) in copies.iter().zip(&lab.sessions) {
            if excluded {
                copy.hears(&broadcast);
                continue;
            }
            // Sent later, and by the same way: had the other one come, it were there.
            copy.hears(&send(lab, &session.virtual_ip.to_string(), &program));
            assert!(!copy.output().contains(&broadcast), "{}", copy.output());
        }
    }
}

/// Sends a word from the far side.
fn send(lab: &Lab, address: &str, program: &Program) -> String {
    let word = marker::random_word().unwrap();
    let (port, _) = program.served();
    let words = [PYTHON, "-c", SEND, address, &port.to_string(), &word];
    lab.network.client.output(&mut process::command(&words)).unwrap();
    word
}
