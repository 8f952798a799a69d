//! A program in both sessions: where do its copies listen, and who hears a word?

use super::lab::{self, Lab, World};
use super::program::{Asked, Program, Word};
use super::{built, client};
use sessionip::lab::process::{self, Running};
use sessionip::lab::sessions::Opened;
use sessionip::lab::{LabError, listeners, marker, network, wait};
use sessionip::packet::Protocol;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// How long a program may take to listen, or to give up, on a busy machine.
const START: Duration = Duration::from_secs(40);

/// Each copy listens at its own session's addresses; a word from the far side,
/// and one from the session itself, come out in that session alone. A second copy
/// that cannot run leaves the first as it is.
pub(crate) fn each_hears_its_own(lab: &Lab, program: &Program) {
    let [first, second] = lab.sessions.as_slice() else { panic!("two sessions") };
    let mut copies = vec![Copy::start(lab, first, program)];
    listen(lab, program, &mut copies);
    let mut copy = Copy::start(lab, second, program);
    if let Some(complaint) = program.gives_up(lab.world) {
        let what = format!("the end of the second {}", program.name);
        wait::until(&what, START, || copy.running.ended()).unwrap();
        let said = copy.said();
        assert!(said.contains(complaint), "{}: {said}", program.name);
    } else {
        copies.push(copy);
    }
    listen(lab, program, &mut copies);

    // Nobody outside the host reaches what is at a loopback address.
    let astray = lab.world.prefer && program.is_everywhere();
    let astray: Vec<_> =
        if astray { copies.iter().map(Copy::send_astray).collect() } else { vec![] };
    for way in Way::all(program, lab.world) {
        for copy in &copies {
            let word = copy.send_word(way);
            copy.hears(&word);
            let strayed = astray.iter().find(|word| copy.output().contains(*word));
            assert_eq!(strayed, None, "{}: {}", program.name, copy.said());
            for other in copies.iter().filter(|other| other.session.id != copy.session.id) {
                let said = other.said();
                let heard = other.output().contains(&word);
                assert!(!heard, "{}, {way:?}: {word}, too: {said}", program.name);
            }
        }
    }
}

/// Waits until the copies listen, at exactly the addresses they are to have.
pub(crate) fn listen(lab: &Lab, program: &Program, copies: &mut [Copy<'_>]) {
    let mut expected: Vec<_> = copies.iter().flat_map(Copy::expected).collect();
    expected.sort_unstable();
    expected.dedup();
    let mut bound = Vec::new();
    let listening = wait::until("listening", START, || {
        for copy in &mut *copies {
            if copy.running.ended()?.is_some() {
                return Err(copy.running.failure());
            }
        }
        bound = all_bound(lab, program)?;
        Ok((bound == expected).then_some(()))
    });
    if !matches!(listening, Err(LabError::Slow { .. })) {
        listening.unwrap();
    }
    assert_eq!(bound, expected, "{}", program.name);
}

/// What is bound at the program's ports, by whomever.
fn all_bound(lab: &Lab, program: &Program) -> Result<Vec<(&'static str, SocketAddr)>, LabError> {
    let mut bound = Vec::new();
    for &(protocol, port, asked) in program.sockets {
        let other = if let Asked::LocalhostOr(port) = asked { Some(port) } else { None };
        for port in [port].into_iter().chain(other) {
            let at = listeners::listeners(&lab.network.host, protocol, port)?;
            bound.extend(at.into_iter().map(|address| (protocol.word(), address)));
        }
    }
    bound.sort_unstable();
    bound.dedup();
    Ok(bound)
}

/// From where, and to which address, a word is sent.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// To the session's address.
    FromFarSide,
    /// To the session's IPv6 address.
    FromFarSideByIpv6,
    /// To the host's.
    FromFarSideToHost,
    /// From a client in the session, to this.
    Inside(IpAddr),
    /// The same, and the client is on no list.
    InsideUnlisted(IpAddr),
}

impl Way {
    /// Those by which the program is to be reached.
    fn all(program: &Program, world: World) -> Vec<Self> {
        let ipv4 = Self::Inside(Ipv4Addr::LOCALHOST.into());
        let ipv6 = Self::Inside(Ipv6Addr::LOCALHOST.into());
        let (port, asked) = program.served();
        let mut ways = match asked {
            Asked::Everywhere => vec![Self::FromFarSide, ipv4],
            Asked::DualStack => vec![Self::FromFarSide, ipv4, ipv6],
            Asked::Localhost | Asked::LocalhostOr(_) => vec![ipv4],
            Asked::EverywhereV6 => vec![],
            Asked::LocalhostV6 => vec![ipv6],
            Asked::Kept(_) => vec![Self::FromFarSideToHost, ipv4],
        };
        let of_word = |&(protocol, at, asked): &(Protocol, u16, Asked)| {
            (protocol, at, asked) == (program.sockets[0].0, port, Asked::EverywhereV6)
        };
        let v6only = program.sockets.iter().any(of_word);
        ways.extend(v6only.then_some(ipv6));
        if world.ipv6 && (v6only || asked == Asked::DualStack) {
            ways.push(Self::FromFarSideByIpv6);
        }
        if world.prefer && program.is_everywhere() {
            ways.retain(|way| matches!(way, Self::Inside(_)));
        }
        if world.by_name {
            let inside = ways.iter().filter_map(|way| {
                if let Self::Inside(to) = way { Some(Self::InsideUnlisted(*to)) } else { None }
            });
            ways.extend(inside.collect::<Vec<_>>());
        }
        ways
    }
}

/// A copy of a program in a session.
pub(crate) struct Copy<'a> {
    lab: &'a Lab,
    session: &'a Opened,
    /// The session's.
    ipv6: Option<Ipv6Addr>,
    program: &'a Program,
    folder: PathBuf,
    running: Running,
}

impl<'a> Copy<'a> {
    pub(crate) fn start(lab: &'a Lab, session: &'a Opened, program: &'a Program) -> Self {
        let folder = lab.folder(session, program.name);
        let (port, _) = program.served();
        let filled = |text: &str| {
            text.replace("{port}", &port.to_string())
                .replace("{folder}", &folder.display().to_string())
                .replace("{shared}", &lab.shared().display().to_string())
                .replace("{built}", &lab.built().display().to_string())
        };
        for (name, contents) in program.files {
            let file = folder.join(name);
            std::fs::write(&file, filled(contents)).unwrap();
            lab::give(&file, session);
        }
        let line = filled(&format!("cd {{folder}} && {}", program.command));
        let mut command = lab.product.in_session(session.id, &session.user, &["sh", "-c", &line]);
        let name = format!("{} of session {}", program.name, session.id);
        let running = lab.network.host.start(name, &mut command).unwrap();
        let ipv6 = lab.ipv6(session);
        Self { lab, session, ipv6, program, folder, running }
    }

    /// The addresses that it is to have.
    fn expected(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        let second = self.session.id != self.lab.sessions[0].id;
        let World { loopback: own_localhost, prefer, .. } = self.lab.world;
        self.program.sockets.iter().map(move |&(protocol, port, asked)| {
            let (address, port) = match asked {
                Asked::Everywhere | Asked::DualStack if prefer => {
                    (localhost(self.session.id).into(), port)
                }
                Asked::EverywhereV6 if prefer => (private(self.session.id).into(), port),
                Asked::Everywhere | Asked::DualStack => (self.session.virtual_ip.into(), port),
                Asked::EverywhereV6 => (self.ipv6.unwrap_or(private(self.session.id)).into(), port),
                Asked::LocalhostOr(other) if second && !own_localhost => {
                    (Ipv4Addr::LOCALHOST.into(), other)
                }
                Asked::Localhost | Asked::LocalhostOr(_) if own_localhost => {
                    (localhost(self.session.id).into(), port)
                }
                Asked::LocalhostV6 if own_localhost => (private(self.session.id).into(), port),
                Asked::Localhost | Asked::LocalhostOr(_) => (Ipv4Addr::LOCALHOST.into(), port),
                Asked::LocalhostV6 => (Ipv6Addr::LOCALHOST.into(), port),
                Asked::Kept(address) => (address, port),
            };
            (protocol.word(), SocketAddr::new(address, port))
        })
    }

    /// Sends a word, and gives what the program writes down of it.
    fn send_word(&self, way: Way) -> String {
        let word = self.word();
        let sent = self.send(way, &word);
        sent.unwrap_or_else(|error| panic!("{}, {way:?}: {error}", self.program.name));
        self.written(word)
    }

    /// The same from the far side; whether anything takes it does not matter.
    fn send_astray(&self) -> String {
        let word = self.word();
        let _ = self.send(Way::FromFarSide, &word);
        self.written(word)
    }

    fn send(&self, way: Way, word: &str) -> Result<String, LabError> {
        let address = match way {
            Way::FromFarSide => self.session.virtual_ip.into(),
            Way::FromFarSideByIpv6 => self.ipv6.unwrap().into(),
            Way::FromFarSideToHost => network::HOST.into(),
            Way::Inside(address) | Way::InsideUnlisted(address) => address,
        };
        let (port, _) = self.program.served();
        let mut words = client::of(self.program.word, address, port, word);
        if let Way::InsideUnlisted(_) = way {
            let client = built::unlisted(&self.lab.built(), &words[0]);
            words[0] = client.display().to_string();
        }
        match way {
            Way::Inside(_) | Way::InsideUnlisted(_) => {
                let Opened { id, user, .. } = self.session;
                let mut command = self.lab.product.in_session(*id, user, &words);
                self.lab.network.host.output(&mut command)
            }
            Way::FromFarSide | Way::FromFarSideByIpv6 | Way::FromFarSideToHost => {
                self.lab.network.client.output(&mut process::command(&words))
            }
        }
    }

    /// What the program writes down of a word.
    fn written(&self, word: String) -> String {
        match self.program.word {
            Word::Tcp(_) | Word::Udp(_) => word,
            Word::Client(_) => format!(" port {word}"),
        }
    }

    /// A word of the kind that the program can be sent.
    fn word(&self) -> String {
        let random = marker::random_word().unwrap();
        match self.program.word {
            Word::Tcp(_) | Word::Udp(_) => random,
            // Outside the range that the kernel gives ports of its own from.
            Word::Client(_) => {
                let number = random.bytes().fold(0_u16, |n, b| n.wrapping_mul(31) ^ u16::from(b));
                (10_000 + number % 20_000).to_string()
            }
        }
    }

    /// Waits until a word has come out.
    pub(crate) fn hears(&self, word: &str) {
        let came = wait::until("the word", Duration::from_secs(10), || {
            Ok(self.output().contains(word).then_some(()))
        });
        let name = self.program.name;
        came.unwrap_or_else(|_| panic!("{name}: {word} is not in:\n{}", self.said()));
    }

    /// What the program has said.
    fn said(&self) -> String {
        self.running.said() + &self.running.complained()
    }

    /// Everything that the program has written, wherever.
    pub(crate) fn output(&self) -> String {
        let mut output = self.said();
        let mut folders = vec![self.folder.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                match std::fs::read(&path) {
                    Ok(bytes) => output += &String::from_utf8_lossy(&bytes),
                    Err(_) => folders.extend(path.is_dir().then_some(path)),
                }
            }
        }
        output
    }
}

/// The address that a session has for IPv6 listeners alone.
fn private(session: u32) -> Ipv6Addr {
    let first = Ipv6Addr::new(0xfd73, 0x6970, 0, 0, 0, 0, 0, 0);
    Ipv6Addr::from_bits(first.to_bits() | u128::from(session))
}

/// The 127.0.0.1 of a session.
fn localhost(session: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 0, 0, 0).to_bits() + session + 1)
}
