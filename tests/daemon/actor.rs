//! A program in a session, outside any, or on the far side, that does as it is told.

use sessionip::lab::network::Namespace;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Debian's: another one in PATH may be out of reach for the sessions' users.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// What an actor is run by, its name to be added.
pub(crate) fn script(python: &str) -> Vec<String> {
    vec![python.into(), "-c".into(), include_str!("actor.py").into()]
}

/// It ends when dropped.
#[derive(Debug)]
pub(crate) struct Actor {
    child: Child,
    /// `None`: it has been told to end.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// What a client learns of the server that it got to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Met {
    /// The server's name.
    pub(crate) who: String,
    /// The server's own address of the conversation.
    pub(crate) asked: SocketAddr,
    /// The client, as the server sees it.
    pub(crate) from: SocketAddr,
}

impl Met {
    fn read(words: &[&str]) -> Self {
        let [who, asked, from, ..] = words else { panic!("no greeting: {words:?}") };
        Self { who: (*who).into(), asked: asked.parse().unwrap(), from: from.parse().unwrap() }
    }
}

/// A connection of an actor.
#[derive(Clone, Debug)]
pub(crate) struct Talk {
    number: String,
    pub(crate) met: Met,
}

impl Actor {
    pub(crate) fn start(namespace: &Namespace, command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = namespace.within(|| command.spawn()).unwrap().unwrap();
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut actor = Self { child, orders, answers };
        assert_eq!(actor.line(), "ready", "{command:?}");
        actor
    }

    /// Listens and serves for the rest of its life; what it is bound to.
    pub(crate) fn listen(&mut self, protocol: &str, address: impl ToString) -> SocketAddr {
        let answer = self.tell(&format!("listen {protocol} {}", address.to_string()));
        answer.unwrap().parse().unwrap()
    }

    /// Connects by TCP and hears who is there; the error's name if not.
    pub(crate) fn connect(&mut self, server: impl ToString) -> Result<Talk, String> {
        let answer = self.tell(&format!("connect {}", server.to_string()))?;
        let words: Vec<_> = answer.split(' ').collect();
        Ok(Talk { number: words[0].into(), met: Met::read(&words[1..]) })
    }

    /// Whom it gets to, and as whom.
    pub(crate) fn meet(&mut self, server: impl ToString) -> Result<Met, String> {
        self.connect(server).map(|talk| talk.met)
    }

    /// The address that the server sees.
    pub(crate) fn seen_by(&mut self, server: impl ToString) -> Result<IpAddr, String> {
        self.meet(server).map(|met| met.from.ip())
    }

    /// Says something on a connection; what comes back.
    pub(crate) fn say(&mut self, talk: &Talk, word: &str) -> Result<String, String> {
        self.tell(&format!("say {} {word}", talk.number))
    }

    /// Has the server end the connection, so that the client's port is free at once.
    pub(crate) fn hang_up(&mut self, talk: &Talk) {
        self.tell(&format!("hang_up {}", talk.number)).unwrap();
    }

    /// Sends so many bytes on a connection and reads them back: `whole`, or not.
    pub(crate) fn transfer(&mut self, talk: &Talk, size: usize) -> Result<String, String> {
        self.tell(&format!("transfer {} {size}", talk.number))
    }

    /// Asks by UDP: whom it gets to, and who answers.
    pub(crate) fn ask(&mut self, server: impl ToString) -> Result<(Met, SocketAddr), String> {
        let answer = self.tell(&format!("ask {}", server.to_string()))?;
        let words: Vec<_> = answer.split(' ').collect();
        Ok((Met::read(&words), words.last().unwrap().parse().unwrap()))
    }

    /// Gives an order and takes the answer.
    pub(crate) fn tell(&mut self, order: &str) -> Result<String, String> {
        writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap();
        let answer = self.line();
        match answer.split_once(' ') {
            Some(("ok", answer)) => Ok(answer.into()),
            Some(("no", error)) => Err(error.into()),
            _ => panic!("`{order}` was answered by `{answer}`"),
        }
    }

    /// Ends it, and waits until it has.
    pub(crate) fn end(mut self) {
        self.orders = None;
        self.child.wait().unwrap();
    }

    /// Is it still there?
    pub(crate) fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.orders = None;
        // A test that failed may leave it in the middle of something.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
