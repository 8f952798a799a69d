//! How fast is it, and what did the far side see? One iperf3 run, both ends' JSON.

use super::network::Namespace;
use super::process::Running;
use super::{LabError, listeners, wait};
use crate::packet::Protocol;
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

/// The port iperf3 listens at unless told otherwise.
pub const PORT: u16 = 5201;

/// What one run measures: the direction of the data, seen from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP to the server.
    Out,
    /// TCP from the server (`-R`).
    In,
    /// UDP to the server, at most 1 Gbit/s.
    Udp,
}

impl Kind {
    /// What the iperf3 client is told.
    pub const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Out => &[],
            Self::In => &["-R"],
            Self::Udp => &["-u", "-b", "1G", "-l", "1400"],
        }
    }

    const fn protocol(self) -> Protocol {
        match self {
            Self::Out | Self::In => Protocol::Tcp,
            Self::Udp => Protocol::Udp,
        }
    }
}

/// One run.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// What was measured.
    pub kind: Kind,
    /// What arrived.
    pub gbps: f64,
    /// The payload that arrived.
    pub bytes: u64,
    /// Whom the far side's accepted connection was with.
    pub seen: IpAddr,
    /// The conversations that carried the data, by their far side's view of the
    /// near end.
    pub conversations: Vec<(Protocol, SocketAddr)>,
}

/// What the client is told: `iperf3 -c ...`.
pub fn client_words(kind: Kind, server: Ipv4Addr, seconds: u32) -> Vec<String> {
    let plain = ["iperf3", "-J", "-i", "0", "--connect-timeout", "5000", "-c"];
    let mut words: Vec<String> = plain.map(str::to_owned).into();
    words.extend([server.to_string(), "-t".into(), seconds.to_string()]);
    words.extend(kind.arguments().iter().map(|&word| word.to_owned()));
    words
}

/// Runs `client` in `near` against a server at `address` in `far`.
///
/// # Errors
/// One of the two fails, or does not end in time.
pub fn run(
    kind: Kind,
    seconds: u32,
    (near, client): (&Namespace, &mut Command),
    (far, address): (&Namespace, Ipv4Addr),
) -> Result<Run, LabError> {
    let limit = Duration::from_secs(u64::from(seconds) + 20);
    let server = serve_once(far, address)?;
    let client = near.start("iperf3 client", client)?.finish(limit)?;
    let server = server.finish(limit)?;
    Run::read(kind, &client, &server)
}

/// A server for one client, which is listening already.
fn serve_once(far: &Namespace, address: Ipv4Addr) -> Result<Running, LabError> {
    let mut command = Command::new("iperf3");
    command.args(["-s", "-1", "-J", "-B", &address.to_string()]);
    let mut server = far.start("iperf3 server", &mut command)?;
    let wanted = SocketAddr::from((address, PORT));
    wait::until("iperf3's listening", Duration::from_secs(10), || {
        if server.ended()?.is_some() {
            return Err(server.failure());
        }
        let listening = listeners::listeners(far, Protocol::Tcp, PORT)?;
        Ok(listening.contains(&wanted).then_some(()))
    })?;
    Ok(server)
}

impl Run {
    fn read(kind: Kind, client: &str, server: &str) -> Result<Self, LabError> {
        let client: Answer = parse("iperf3 client", client)?;
        let server: Answer = parse("iperf3 server", server)?;
        // The receiver counts: `-R` makes that the client.
        let receiver = match kind {
            Kind::Out | Kind::Udp => &server,
            Kind::In => &client,
        };
        let missing = |what| LabError::Failed {
            command: "iperf3".into(),
            status: "ended".into(),
            said: format!("its JSON has no {what}"),
        };
        let arrived = receiver.end.sum_received.as_ref().ok_or_else(|| missing("sum_received"))?;
        let accepted = server.start.accepted_connection.as_ref();
        let accepted = accepted.ok_or_else(|| missing("peer"))?;
        let conversations = server.start.connected.iter();
        Ok(Self {
            kind,
            gbps: arrived.bits_per_second / 1e9,
            bytes: arrived.bytes,
            seen: accepted.host.to_canonical(),
            conversations: conversations
                .map(|c| (kind.protocol(), (c.remote_host.to_canonical(), c.remote_port).into()))
                .collect(),
        })
    }
}

fn parse(command: &str, text: &str) -> Result<Answer, LabError> {
    let answer: Answer = serde_json::from_str(text)
        .map_err(|source| LabError::Answer { command: command.into(), source })?;
    match answer.error {
        Some(said) => {
            Err(LabError::Failed { command: command.into(), status: "ended".into(), said })
        }
        None => Ok(answer),
    }
}

/// What `iperf3 -J` prints, as far as it is read.
#[derive(Deserialize)]
struct Answer {
    start: Start,
    #[serde(default)]
    end: End,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Start {
    #[serde(default)]
    connected: Vec<Connected>,
    accepted_connection: Option<Accepted>,
}

#[derive(Deserialize)]
struct Connected {
    remote_host: IpAddr,
    remote_port: u16,
}

#[derive(Deserialize)]
struct Accepted {
    host: IpAddr,
}

#[derive(Default, Deserialize)]
struct End {
    sum_received: Option<Sum>,
}

#[derive(Deserialize)]
struct Sum {
    bytes: u64,
    bits_per_second: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_read() {
        let server = r#"{"start":{"connected":[{"socket":5,"local_host":"10.77.0.2",
            "local_port":5201,"remote_host":"::ffff:10.77.0.101","remote_port":33562}],
            "accepted_connection":{"host":"10.77.0.101","port":33548}},
            "intervals":[],"end":{"sum_received":{"bytes":7,"bits_per_second":56.0}}}"#;
        let client = r#"{"start":{"connected":[]},"end":{"sum_received":
            {"bytes":1886519296,"bits_per_second":15091429979.36}}}"#;
        let run = Run::read(Kind::In, client, server).unwrap();
        assert_eq!(run.bytes, 1_886_519_296);
        assert!((run.gbps - 15.09).abs() < 0.01);
        assert_eq!(run.seen.to_string(), "10.77.0.101");
        let seen = "10.77.0.101:33562".parse().unwrap();
        assert_eq!(run.conversations, [(Protocol::Tcp, seen)]);
        assert_eq!(Run::read(Kind::Out, client, server).unwrap().bytes, 7);
    }

    #[test]
    fn iperf_s_own_words_are_passed_on() {
        let client = r#"{"start":{"connected":[],"version":"iperf 3.12"},"end":{},
            "error":"unable to connect to server: Connection refused"}"#;
        let error = Run::read(Kind::Out, client, client).unwrap_err().to_string();
        assert!(error.contains("Connection refused"), "{error}");
    }
}
