//! The lab's sessions: whose are they, and what listens in each?

use super::network::{Namespace, Network};
use super::process::Running;
use super::product::Product;
use super::{LabError, iperf, listeners, wait};
use crate::packet::Protocol;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The port at which every session's marker listens.
pub const MARKER_PORT: u16 = 9000;

/// How long all sessions together may take to listen.
const LIMIT: Duration = Duration::from_secs(60);

/// A session with its listeners; it ends when dropped.
#[derive(Debug)]
pub struct Opened {
    /// Its number.
    pub id: u32,
    /// Whose it is.
    pub user: String,
    /// Its address, as the daemon says.
    pub virtual_ip: Ipv4Addr,
    /// What its marker answers with.
    pub name: String,
    marker: Running,
    iperf3: Running,
}

impl Opened {
    /// What its marker was told so far.
    pub fn told(&self) -> String {
        self.marker.said()
    }

    /// An endpoint at its address.
    pub fn at(&self, port: u16) -> SocketAddr {
        (self.virtual_ip, port).into()
    }

    /// Lets its programs run on after the lab.
    pub fn leave(mut self) {
        self.marker.disown();
        self.iperf3.disown();
    }

    /// What its programs complained of, where they have ended.
    fn ended(&mut self) -> Result<Option<String>, LabError> {
        for program in [&mut self.marker, &mut self.iperf3] {
            if program.ended()?.is_some() {
                return Ok(Some(program.failure().to_string()));
            }
        }
        Ok(None)
    }
}

/// Opens sessions 1 to `count`, each with a marker and an unmodified `iperf3 -s`,
/// all on the same ports, and waits until they listen. A listener that does not
/// come up is for the checks to find.
///
/// # Errors
/// A session has no address, or the product does not answer.
pub fn open(product: &Product, network: &Network, count: u32) -> Result<Vec<Opened>, LabError> {
    let users = users()?;
    let program = product.program().display().to_string();
    let wildcard = format!("0.0.0.0:{MARKER_PORT}");
    let mut sessions = Vec::new();
    for (id, user) in (1..=count).zip(users.iter().cycle()) {
        let name = format!("session-{id}");
        let words = [&program, "lab", "listen", &wildcard, &name];
        let mut command = product.in_session(id, user, &words);
        let mut marker = network.host.start(format!("the marker of session {id}"), &mut command)?;
        let virtual_ip = wait::until(&format!("the address of session {id}"), LIMIT, || {
            if marker.ended()?.is_some() {
                return Err(marker.failure());
            }
            let mut rows = product.sessions()?.into_iter();
            let row = rows.find(|session| session.id == id && session.user == *user);
            Ok(row.and_then(|row| row.virtual_ip))
        })?;
        let words = ["iperf3", "-s", "-p", &iperf::PORT.to_string()];
        let mut command = product.in_session(id, user, &words);
        let iperf3 = network.host.start(format!("iperf3 of session {id}"), &mut command)?;
        sessions.push(Opened { id, user: user.clone(), virtual_ip, name, marker, iperf3 });
    }
    settle(&mut sessions, &network.host)?;
    Ok(sessions)
}

/// Waits until every session's programs listen, or one of them has given up.
fn settle(sessions: &mut [Opened], host: &Namespace) -> Result<(), LabError> {
    let settled = wait::until("the sessions' listening", LIMIT, || {
        for session in &mut *sessions {
            if let Some(complaint) = session.ended()? {
                tracing::warn!(session = session.id, complaint, "a listener did not start");
                return Ok(Some(()));
            }
        }
        for port in [iperf::PORT, MARKER_PORT] {
            if listeners::listeners(host, Protocol::Tcp, port)?.len() < sessions.len() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    });
    match settled {
        Err(LabError::Slow { what, .. }) => {
            tracing::warn!(what, "not all of them do");
            Ok(())
        }
        other => other,
    }
}

/// Users for the sessions: ordinary ones that every Linux host has, in turn.
fn users() -> Result<Vec<String>, LabError> {
    const USUAL: [&str; 8] =
        ["nobody", "daemon", "www-data", "games", "man", "mail", "news", "backup"];
    let exists = |name: &&str| matches!(nix::unistd::User::from_name(name), Ok(Some(_)));
    let found: Vec<_> = USUAL.iter().copied().filter(exists).map(str::to_owned).collect();
    if found.is_empty() { Err(LabError::NoUser) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_users_for_the_sessions() {
        assert!(!users().unwrap().is_empty());
    }
}
