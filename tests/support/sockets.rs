//! The sockets of a host, written as text:
//! `tcp 10.77.0.1:40000 > 10.77.0.2:5201 session 1 /usr/bin/iperf3 pid 4711`.
//!
//! Without `> REMOTE` it listens, or is a UDP socket that talks to anybody;
//! without `session` it is a service's; `child` descends from a listed program.
//! `icmp 10.77.0.1:7` pings by that id; `on-behalf`: the system does it for some
//! program.

use sessionip::owner::{Bound, Owner, Ping, Pinger, Program, Receiver, Sockets};
use sessionip::packet::{Endpoint, Protocol};
use sessionip::session::SessionId;
use std::net::SocketAddr;
use std::sync::Arc;

/// Sockets that are asked for one by one, as a kernel is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listed(pub(crate) Vec<Socket>);

/// One of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Socket {
    protocol: Protocol,
    local: Endpoint,
    remote: Option<Endpoint>,
    owner: Owner,
    on_behalf: bool,
}

impl Socket {
    pub(crate) fn read(text: &str) -> Self {
        let mut words = text.split_whitespace().peekable();
        let protocol = match words.next() {
            Some("tcp") => Protocol::Tcp,
            Some("udp") => Protocol::Udp,
            Some("icmp") => Protocol::Icmp,
            _ => panic!("a socket is tcp, udp or icmp: {text}"),
        };
        let local = endpoint(words.next().expect("a socket has a local end"));
        let remote = words.next_if_eq(&">").map(|_| endpoint(words.next().expect("> REMOTE")));
        let mut program = Program { path: "/usr/bin/program".to_owned(), file: (0, 0) };
        let mut owner = Owner {
            session: None,
            pid: 0,
            program: Arc::default(),
            marks: Default::default(),
            lineage: None,
        };
        let mut on_behalf = false;
        while let Some(word) = words.next() {
            let mut number = || words.next().and_then(|word| word.parse().ok()).expect("a number");
            match word {
                "session" => owner.session = Some(SessionId(number())),
                "pid" => owner.pid = number(),
                "child" => owner.marks.descends = true,
                "on-behalf" => on_behalf = true,
                path => program.path = path.to_owned(),
            }
        }
        owner.program = Arc::new(program);
        Self { protocol, local, remote, owner, on_behalf }
    }

    /// How it takes packets from `remote` to `local`: connected first, then bound
    /// to the address, then to all of them.
    fn takes(&self, protocol: Protocol, local: Endpoint, remote: Endpoint) -> Option<u8> {
        let wildcard = self.local.address.is_unspecified()
            && (self.local.address.is_ipv6() || local.address.is_ipv4());
        let here = self.protocol == protocol && self.local.port == local.port;
        match self.remote {
            _ if !here => None,
            Some(to) => (self.local == local && to == remote).then_some(0),
            None if self.local == local => Some(1),
            None => wildcard.then_some(2),
        }
    }
}

impl Listed {
    fn best(&self, protocol: Protocol, local: Endpoint, remote: Endpoint) -> Option<(u8, &Socket)> {
        let takes = |socket: &Socket| socket.takes(protocol, local, remote);
        let matching = self.0.iter().filter_map(|socket| Some((takes(socket)?, socket)));
        matching.min_by_key(|(rank, _)| *rank)
    }
}

impl Sockets for Listed {
    fn owner(&mut self, protocol: Protocol, local: Endpoint, remote: Endpoint) -> Option<Owner> {
        self.best(protocol, local, remote).map(|(_, socket)| socket.owner.clone())
    }

    fn pinger(&mut self, ping: &Ping) -> Pinger {
        let [.., high, low, _, _] = ping.header;
        let asks = Endpoint::new(ping.source, u16::from_be_bytes([high, low]));
        let nobody = Endpoint::new(ping.destination, 0);
        match self.best(Protocol::Icmp, asks, nobody) {
            Some((_, socket)) if socket.on_behalf => Pinger::OnBehalf,
            Some((_, socket)) => Pinger::Known(socket.owner.clone()),
            None => Pinger::Unknown,
        }
    }

    fn receiver(
        &mut self,
        protocol: Protocol,
        local: Endpoint,
        remote: Endpoint,
    ) -> Option<Receiver> {
        let (rank, socket) = self.best(protocol, local, remote)?;
        let bound = if rank == 2 { Bound::Wildcard } else { Bound::Address };
        Some(Receiver { bound, owner: socket.owner.clone() })
    }
}

fn endpoint(text: &str) -> Endpoint {
    let end: SocketAddr = text.parse().unwrap_or_else(|_| panic!("{text} is not ADDRESS:PORT"));
    Endpoint::new(end.ip(), end.port())
}
