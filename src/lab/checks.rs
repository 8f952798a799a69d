//! Does everything hold? One function per check, each with what it saw.

use super::iperf::{self, Kind};
use super::network::{FAR_FOR_OTHERS, HOST, Network};
use super::process::{self, Running};
use super::product::Product;
use super::sessions::{MARKER_PORT, Opened};
use super::traffic::Traffic;
use super::wire::Counts;
use super::{LabError, listeners, marker, wait};
use crate::packet::Protocol;
use serde::Serialize;
use std::net::SocketAddr;
use std::time::Duration;

/// The share of iperf3's bytes that `flows` must account for.
const ACCOUNTED: f64 = 0.99;

/// A port at which a program outside any session listens on the wildcard.
const OUTSIDE_PORT: u16 = 9001;

/// Whether one thing held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name in DESIGN.md.
    pub name: &'static str,
    /// It held.
    pub ok: bool,
    /// What was seen.
    pub detail: String,
}

impl Check {
    /// It held if nothing is against it.
    pub fn new(name: &'static str, against: &[String], detail: impl Into<String>) -> Self {
        const SHOWN: usize = 4;
        let mut told: Vec<_> = against.iter().take(SHOWN).cloned().collect();
        if against.len() > SHOWN {
            told.push(format!("and {} more", against.len() - SHOWN));
        }
        let ok = against.is_empty();
        Self { name, ok, detail: if ok { detail.into() } else { told.join("; ") } }
    }
}

/// Every session listens on the same port, at its own address, by the kernel's
/// tables and by `sockets`; and the far side gets an iperf3 answer from each.
///
/// # Errors
/// The kernel or the product does not say.
pub fn same_port(
    product: &Product,
    network: &Network,
    sessions: &[Opened],
) -> Result<Check, LabError> {
    let mut against = Vec::new();
    let rows = product.sockets()?;
    for port in [iperf::PORT, MARKER_PORT] {
        let bound = listeners::listeners(&network.host, Protocol::Tcp, port)?;
        for session in sessions {
            let own = session.at(port);
            if !bound.contains(&own) {
                against.push(format!("nobody listens at {own} (session {})", session.id));
            }
            let listed = rows.iter().any(|row| {
                row.session == session.id && row.protocol == "tcp" && row.bound == own.to_string()
            });
            if !listed {
                against.push(format!("`sockets` does not list {own} for session {}", session.id));
            }
        }
        let own = |address: &&SocketAddr| sessions.iter().any(|s| s.at(port) == **address);
        for address in bound.iter().filter(|address| !own(address)) {
            against.push(format!("somebody listens at {address}, no session's address"));
        }
    }
    for session in sessions {
        let address = session.virtual_ip.to_string();
        let words = ["iperf3", "--connect-timeout", "5000", "-n", "128K", "-c", &address];
        if let Err(error) = network.client.output(&mut process::command(&words)) {
            against.push(format!("the far side at {}: {error}", session.at(iperf::PORT)));
        }
    }
    let detail = format!(
        "{} sessions listen on {} and {MARKER_PORT}, each at its own address; iperf3 from the \
         far side reached each",
        sessions.len(),
        iperf::PORT
    );
    Ok(Check::new("same-port", &against, detail))
}

/// The far side's accepted connections were with the sessions' addresses.
pub fn peer_saw_session(sessions: &[Opened], traffic: &Traffic) -> Check {
    let mut against = Vec::new();
    let mut conversations = 0;
    for of_session in &traffic.sessions {
        let Some(session) = sessions.iter().find(|s| s.id == of_session.session) else { continue };
        let run = &of_session.run;
        let data = run.conversations.iter().map(|(_, from)| from.ip());
        for seen in std::iter::once(run.seen).chain(data) {
            conversations += 1;
            if seen != session.virtual_ip {
                against.push(format!("session {}, {:?}: it saw {seen}", session.id, run.kind));
            }
        }
    }
    let detail =
        format!("in {conversations} conversations the far side saw the session's own address");
    Check::new("peer-saw-session", &against, detail)
}

/// A word sent from the far side to each session's address comes out there, and
/// in no other session.
///
/// # Errors
/// Something of the lab itself fails.
pub fn marker(network: &Network, sessions: &[Opened]) -> Result<Check, LabError> {
    let mut against = Vec::new();
    let mut words = Vec::new();
    for session in sessions {
        let word = random_word()?;
        let address = session.at(MARKER_PORT);
        match network.client.within(|| marker::ask(address, &word))? {
            Ok(name) if name == session.name => {}
            Ok(name) => against.push(format!("at {address} `{name}` answered")),
            Err(error) => against.push(format!("{address}: {error}")),
        }
        words.push(word);
    }
    for (session, word) in sessions.iter().zip(&words) {
        let came = wait::until("the word", Duration::from_secs(3), || {
            Ok(session.told().contains(word.as_str()).then_some(()))
        });
        if matches!(came, Err(LabError::Slow { .. })) {
            against.push(format!("session {} was not told its word", session.id));
        } else {
            came?;
        }
        let told = session.told();
        let foreign = words.iter().filter(|other| *other != word);
        if foreign.into_iter().any(|other| told.contains(other.as_str())) {
            against.push(format!("session {} was told another session's word", session.id));
        }
    }
    let detail =
        format!("{} random words came out in the session they were sent to only", sessions.len());
    Ok(Check::new("marker", &against, detail))
}

/// Inside each session 127.0.0.1 reaches the session's own listener.
///
/// # Errors
/// Something of the lab itself fails.
pub fn localhost(
    product: &Product,
    network: &Network,
    sessions: &[Opened],
) -> Result<Check, LabError> {
    let mut against = Vec::new();
    let program = product.program().display().to_string();
    let address = format!("127.0.0.1:{MARKER_PORT}");
    for session in sessions {
        let words = [&program, "lab", "ask", &address, &random_word()?];
        let mut command = product.in_session(session.id, &session.user, &words);
        match network.host.output(&mut command) {
            Ok(name) if name.trim() == session.name => {}
            Ok(name) => against.push(format!("in {} `{}` answered", session.name, name.trim())),
            Err(LabError::Interrupted) => return Err(LabError::Interrupted),
            Err(error) => against.push(format!("in {}: {error}", session.name)),
        }
    }
    let detail = format!("{address} reached the session's own listener in each of them");
    Ok(Check::new("localhost", &against, detail))
}

/// A program outside any session connects from the host address, and listens
/// where it asked to.
///
/// # Errors
/// Something of the lab itself fails.
pub fn outside_unchanged(
    product: &Product,
    network: &Network,
    traffic: &Traffic,
) -> Result<Check, LabError> {
    let mut against = Vec::new();
    for run in &traffic.raw {
        let data = run.conversations.iter().map(|(_, from)| from.ip());
        for seen in std::iter::once(run.seen).chain(data).filter(|seen| *seen != HOST) {
            against.push(format!("{FAR_FOR_OTHERS} saw {seen} instead of {HOST}"));
        }
    }
    let exact = SocketAddr::from((HOST, MARKER_PORT));
    let wildcard = SocketAddr::from(([0, 0, 0, 0], OUTSIDE_PORT));
    for (asked, reached) in [(exact, exact), (wildcard, (HOST, OUTSIDE_PORT).into())] {
        let listener = listen_outside(product, network, asked)?;
        match network.client.within(|| marker::ask(reached, "hello"))? {
            Ok(name) if name == "outside" => {}
            Ok(name) => against.push(format!("at {reached} `{name}` answered")),
            Err(error) => against.push(format!("{reached}: {error}; {}", listener.failure())),
        }
        if !listeners::listeners(&network.host, Protocol::Tcp, asked.port())?.contains(&asked) {
            against.push(format!("a listener outside any session asked for {asked} in vain"));
        }
    }
    let detail = format!(
        "outside any session {} runs left from {HOST}, and listeners at {exact} and {wildcard} \
         stayed there",
        traffic.raw.len()
    );
    Ok(Check::new("outside-unchanged", &against, detail))
}

fn listen_outside(
    product: &Product,
    network: &Network,
    asked: SocketAddr,
) -> Result<Running, LabError> {
    let program = product.program().display().to_string();
    let words = [&program, "lab", "listen", &asked.to_string(), "outside"];
    let mut listener =
        network.host.start("a listener outside any session", &mut process::command(&words))?;
    wait::until("its listening", Duration::from_secs(10), || {
        let bound = listeners::listeners(&network.host, Protocol::Tcp, asked.port())?;
        Ok((bound.contains(&asked) || listener.ended()?.is_some()).then_some(()))
    })?;
    Ok(listener)
}

/// `flows` accounts for what iperf3 moved, as rewritten.
pub fn bytes_accounted(traffic: &Traffic) -> Check {
    let mut against = Vec::new();
    let (mut moved, mut rewritten) = (0, 0);
    for of_session in &traffic.sessions {
        let bytes = of_session.run.bytes;
        moved += bytes;
        rewritten += of_session.rewritten;
        if (of_session.rewritten as f64) < ACCOUNTED * bytes as f64 || bytes == 0 {
            against.push(format!(
                "session {}, {:?}: {} of {bytes} bytes",
                of_session.session, of_session.run.kind, of_session.rewritten
            ));
        }
    }
    let detail = format!(
        "`flows` shows {:.1} MB rewritten, headers included, for {:.1} MB that iperf3 moved",
        rewritten as f64 / 1e6,
        moved as f64 / 1e6
    );
    Check::new("bytes-accounted", &against, detail)
}

/// No packet for the sessions' far side came from the host address.
pub fn no_host_address_on_wire(counts: Counts, sessions: &[Opened]) -> Check {
    let mut against = Vec::new();
    if counts.from_host > 0 {
        against.push(format!("{} packets came from {HOST}", counts.from_host));
    }
    // Each session's runs, answers and handshakes: fewer, and the far side was
    // not looked at.
    if counts.from_pool < 10 * sessions.len() as u64 {
        against.push(format!("only {} packets came from the pool", counts.from_pool));
    }
    let detail = format!(
        "the far side counted {} packets from the pool and none from {HOST}",
        counts.from_pool
    );
    Check::new("no-host-address-on-wire", &against, detail)
}

/// The kinds of a session's runs that the report has a column for.
pub fn gbps(traffic: &Traffic, session: u32, kind: Kind) -> f64 {
    let of_kind = |r: &&super::traffic::SessionRun| r.session == session && r.run.kind == kind;
    traffic.sessions.iter().find(of_kind).map_or(0.0, |r| r.run.gbps)
}

fn random_word() -> Result<String, LabError> {
    marker::random_word().map_err(|source| LabError::io("a random word", source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::iperf::Run;
    use crate::lab::traffic::SessionRun;

    fn traffic(bytes: u64, rewritten: u64) -> Traffic {
        let run = Run {
            kind: Kind::Udp,
            gbps: 1.0,
            bytes,
            seen: "10.77.0.101".parse().unwrap(),
            conversations: Vec::new(),
        };
        Traffic { sessions: vec![SessionRun { session: 1, run, rewritten }], raw: Vec::new() }
    }

    #[test]
    fn a_hundredth_may_be_missing_and_no_more() {
        assert!(bytes_accounted(&traffic(1000, 990)).ok);
        let check = bytes_accounted(&traffic(1000, 989));
        assert_eq!((check.ok, check.detail.as_str()), (false, "session 1, Udp: 989 of 1000 bytes"));
        assert!(!bytes_accounted(&traffic(0, 0)).ok, "nothing moved proves nothing");
    }

    #[test]
    fn a_quiet_wire_proves_nothing() {
        let counts = Counts { from_host: 0, from_pool: 0 };
        assert!(no_host_address_on_wire(counts, &[]).ok);
        let counts = Counts { from_host: 1, from_pool: 1000 };
        let check = no_host_address_on_wire(counts, &[]);
        assert_eq!(check.detail, "1 packets came from 10.77.0.1");
    }

    #[test]
    fn many_failures_are_told_in_short() {
        let against: Vec<_> = (1..=6).map(|i| i.to_string()).collect();
        let check = Check::new("marker", &against, "fine");
        assert_eq!(check.detail, "1; 2; 3; 4; and 2 more");
        assert_eq!(Check::new("marker", &[], "fine").detail, "fine");
    }
}
