//! What goes over the wire: each session's runs, and undiverted ones between them.

use super::iperf::{self, Kind, PORT, Run};
use super::network::{FAR, FAR_FOR_OTHERS, Network};
use super::product::{Flow, Product};
use super::sessions::Opened;
use super::{LabError, process};
use crate::packet::Protocol;
use std::net::SocketAddr;

/// What every session does, in this order.
pub const KINDS: [Kind; 3] = [Kind::Out, Kind::In, Kind::Udp];

/// Every run of the lab.
#[derive(Debug, Default)]
pub struct Traffic {
    /// By programs of sessions.
    pub sessions: Vec<SessionRun>,
    /// By a program outside any session: out and in.
    pub raw: Vec<Run>,
}

/// A run by a program of a session.
#[derive(Debug)]
pub struct SessionRun {
    /// The session.
    pub session: u32,
    /// What iperf3 says of it.
    pub run: Run,
    /// Bytes that `flows` says were rewritten for it, headers included.
    pub rewritten: u64,
}

/// The sessions' runs one after another, and raw ones every few sessions.
///
/// # Errors
/// A run fails.
pub fn traffic(
    product: &Product,
    network: &Network,
    sessions: &[Opened],
    seconds: u32,
) -> Result<Traffic, LabError> {
    let mut traffic = Traffic::default();
    let between_raw = sessions.len().div_ceil(4).max(1);
    for (i, session) in sessions.iter().enumerate() {
        if i % between_raw == 0 {
            for kind in [Kind::Out, Kind::In] {
                traffic.raw.push(raw(network, kind, seconds)?);
            }
        }
        for kind in KINDS {
            let run = of_session(product, network, session, kind, seconds)?;
            let rewritten = rewritten(&product.flows()?, &run);
            tracing::info!(session = session.id, ?kind, gbps = run.gbps, "ran");
            traffic.sessions.push(SessionRun { session: session.id, run, rewritten });
        }
    }
    Ok(traffic)
}

/// One run by an unhooked iperf3 client of a session.
///
/// # Errors
/// iperf3 fails.
pub fn of_session(
    product: &Product,
    network: &Network,
    session: &Opened,
    kind: Kind,
    seconds: u32,
) -> Result<Run, LabError> {
    let words = iperf::client_words(kind, FAR, seconds);
    let mut client = product.in_session(session.id, &session.user, &words);
    iperf::run(kind, seconds, (&network.host, &mut client), (&network.client, FAR))
}

/// One run by a program outside any session, undiverted.
///
/// # Errors
/// iperf3 fails.
pub fn raw(network: &Network, kind: Kind, seconds: u32) -> Result<Run, LabError> {
    let far = (&network.client, FAR_FOR_OTHERS);
    let mut client = process::command(&iperf::client_words(kind, FAR_FOR_OTHERS, seconds));
    iperf::run(kind, seconds, (&network.host, &mut client), far)
}

/// How many bytes of the run's data `flows` says were rewritten.
fn rewritten(flows: &[Flow], run: &Run) -> u64 {
    let endpoint = |text: &str| text.parse::<SocketAddr>().ok();
    let server = SocketAddr::from((FAR, PORT));
    let of_run = |flow: &&Flow| {
        let [inside, _] = &flow.inside;
        let [outside, remote] = &flow.outside;
        let protocol =
            [Protocol::Tcp, Protocol::Udp].into_iter().find(|p| p.word() == flow.protocol);
        let conversation = protocol.zip(endpoint(outside));
        inside != outside
            && endpoint(remote) == Some(server)
            && conversation.is_some_and(|of_flow| run.conversations.contains(&of_flow))
    };
    flows.iter().filter(of_run).map(|flow| flow.bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rewritten_bytes_of_this_run_s_conversations_count() {
        let run = Run {
            kind: Kind::Out,
            gbps: 1.0,
            bytes: 1000,
            seen: "10.77.0.101".parse().unwrap(),
            conversations: vec![(Protocol::Tcp, "10.77.0.101:40000".parse().unwrap())],
        };
        let flow = |protocol: &str, inside: &str, outside: &str| Flow {
            protocol: protocol.into(),
            inside: [inside.into(), "10.77.0.2:5201".into()],
            outside: [outside.into(), "10.77.0.2:5201".into()],
            bytes: 1100,
        };
        let its_own = flow("tcp", "10.77.0.1:40000", "10.77.0.101:40000");
        let others = [
            flow("udp", "10.77.0.1:40000", "10.77.0.101:40000"),
            flow("tcp", "10.77.0.1:40001", "10.77.0.101:40001"),
            flow("tcp", "10.77.0.101:40000", "10.77.0.101:40000"),
        ];
        assert_eq!(rewritten(&others, &run), 0);
        assert_eq!(rewritten(&[others.as_slice(), &[its_own]].concat(), &run), 1100);
    }
}
