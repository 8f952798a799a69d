//! What is known of a server program: a row of the matrix.

use super::lab::World;
use sessionip::packet::Protocol;
use std::net::IpAddr;

/// A server program, where it listens, and how to send it a word that it writes
/// down somewhere: on its output, or in a file of its folder.
///
/// In commands, files and words `{port}` is the port, `{folder}` the folder of
/// this copy, where it is started, `{shared}` one that everybody may write to,
/// `{built}` that of what the tests build.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    /// Its sockets; where the word is sent comes first.
    pub(crate) sockets: &'static [(Protocol, u16, Asked)],
    /// Names and contents of files in its folder.
    pub(crate) files: &'static [(&'static str, &'static str)],
    /// A line of shell; its last command is replaced by the program with `exec`.
    pub(crate) command: &'static str,
    pub(crate) word: Word,
    pub(crate) second: Second,
}

/// What a program asks to be bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// 0.0.0.0.
    Everywhere,
    /// `[::]`, for IPv4 too.
    DualStack,
    /// `[::]`, V6ONLY.
    EverywhereV6,
    /// 127.0.0.1.
    Localhost,
    /// 127.0.0.1; where the port is taken, another one.
    LocalhostOr(u16),
    /// `[::1]`.
    LocalhostV6,
    /// This, and it is left alone.
    Kept(IpAddr),
}

/// How a word is sent. In it `{word}` is the word.
#[derive(Clone, Copy)]
pub(crate) enum Word {
    /// In a stream, what the program's protocol asks for.
    Tcp(&'static str),
    /// In a datagram.
    Udp(&'static str),
    /// By a client of the program's own, as the port that it comes from: the
    /// server prints that. `{address}` is the server's.
    Client(&'static str),
}

/// What becomes of a copy in a second session.
#[derive(Clone, Copy)]
pub(crate) enum Second {
    /// Nothing: unless it asks for the machine's one 127.0.0.1, it runs.
    Runs,
    /// It ends, and complains of this.
    GivesUp(&'static str),
}

impl Word {
    /// Of a web server.
    pub(crate) const HTTP: Self = Self::Tcp("GET /{word} HTTP/1.0\r\n\r\n");
}

impl Program {
    /// What most rows have.
    pub(crate) const PLAIN: Self = Self {
        name: "",
        sockets: &[],
        files: &[],
        command: "",
        word: Word::Tcp("{word}\n"),
        second: Second::Runs,
    };

    /// Where the word is sent.
    pub(crate) fn served(&self) -> (u16, Asked) {
        let (_, port, asked) = self.sockets[0];
        (port, asked)
    }

    /// Is it one that asks for a wildcard, and that the product moves?
    pub(crate) fn is_everywhere(&self) -> bool {
        let (_, asked) = self.served();
        matches!(asked, Asked::Everywhere | Asked::DualStack | Asked::EverywhereV6)
    }

    /// What the second copy complains of, where it cannot run.
    pub(crate) fn gives_up(&self, world: World) -> Option<&'static str> {
        let localhost = [Asked::Localhost, Asked::LocalhostV6];
        let taken = self.sockets.iter().any(|(_, _, asked)| localhost.contains(asked));
        match self.second {
            Second::GivesUp(complaint) => Some(complaint),
            Second::Runs if taken && !world.loopback => Some("Address already in use"),
            Second::Runs => None,
        }
    }
}
