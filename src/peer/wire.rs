//! What is said to a peer, and what does it answer?
//!
//! One line each:
//!
//! | question | answer |
//! |---|---|
//! | `who` | `from ADDRESS:PORT` |
//! | `back tcp PORT WORD`, `back udp PORT WORD` | `heard LINE`, once it has connected to that port of who asks, said the word, and heard a line |
//! | `take`, and whatever follows until the end | `took BYTES` |
//! | anything else, too much, or a failure | `refused WHY` |
//!
//! By UDP only `who`, in a datagram of [`DATAGRAM`] bytes, filled up by dots.

use crate::packet::Protocol;
use std::net::SocketAddr;

/// No line and no datagram is longer.
pub const LONGEST: usize = 256;
/// A question by UDP: no answer is longer.
pub const DATAGRAM: usize = 80;
/// How many bytes are taken.
pub const MOST_TAKEN: u64 = 1 << 30;

/// Below these ports are services that nobody should be made to connect to.
const LOWEST_PORT: u16 = 1024;
/// A word is so long at the most.
const LONGEST_WORD: usize = 64;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Whom do you hear?
    Who,
    /// Connect to me.
    Back(Back),
    /// Count what follows.
    Take,
}

/// What is to be connected back to: a port of who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Back {
    /// By which protocol.
    pub protocol: Protocol,
    /// Which port.
    pub port: u16,
    /// What to say there.
    pub word: String,
}

/// Reads a question. `None`: it is none.
pub fn read(line: &str) -> Option<Request> {
    let words: Vec<&str> = line.strip_suffix('\n')?.split(' ').collect();
    match words[..] {
        ["who"] => Some(Request::Who),
        ["take"] => Some(Request::Take),
        ["back", protocol, port, word] => {
            let protocol = match protocol {
                "tcp" => Protocol::Tcp,
                "udp" => Protocol::Udp,
                _ => return None,
            };
            let port = port.parse().ok().filter(|port| *port >= LOWEST_PORT)?;
            let fits = (1..=LONGEST_WORD).contains(&word.len())
                && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
            fits.then(|| Request::Back(Back { protocol, port, word: word.into() }))
        }
        _ => None,
    }
}

/// The question, as a line.
pub fn line(request: &Request) -> String {
    match request {
        Request::Who => "who\n".into(),
        Request::Take => "take\n".into(),
        Request::Back(Back { protocol, port, word }) => {
            format!("back {} {port} {word}\n", protocol.word())
        }
    }
}

/// The question `who`, as a datagram.
pub fn datagram() -> Vec<u8> {
    let mut datagram = b"who ".to_vec();
    datagram.resize(DATAGRAM, b'.');
    datagram
}

/// What to answer to a datagram. `None`: nothing.
pub fn datagram_answer(datagram: &[u8], sender: SocketAddr) -> Option<Vec<u8>> {
    (datagram == self::datagram()).then(|| from(sender).into_bytes())
}

/// The answer to `who`.
pub fn from(sender: SocketAddr) -> String {
    // An IPv4 sender may come to a listener of both families.
    format!("from {}\n", SocketAddr::new(sender.ip().to_canonical(), sender.port()))
}

/// Who was heard, by the answer to `who`.
pub fn sender(answer: &str) -> Option<SocketAddr> {
    answer.trim_end().strip_prefix("from ")?.parse().ok()
}

/// The answer to `back`.
pub fn heard(what: &str) -> String {
    format!("heard {}\n", printable(what))
}

/// The answer to `take`.
pub fn took(bytes: u64) -> String {
    format!("took {bytes}\n")
}

/// Any other answer.
pub fn refused(why: &str) -> String {
    format!("refused {}\n", printable(why))
}

/// One line that fits; what others sent may be anything.
fn printable(text: &str) -> String {
    let text = text.trim_end().chars().map(|it| if it.is_control() { '.' } else { it });
    text.take(LONGEST / 2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn back(protocol: Protocol) -> Request {
        Request::Back(Back { protocol, port: 9000, word: "abc123".into() })
    }

    #[test]
    fn questions_go_there_and_back() {
        for request in [Request::Who, Request::Take, back(Protocol::Tcp), back(Protocol::Udp)] {
            assert_eq!(read(&line(&request)), Some(request));
        }
        let sender: SocketAddr = "[::ffff:10.77.0.101]:50000".parse().unwrap();
        assert_eq!(super::sender(&from(sender)), Some("10.77.0.101:50000".parse().unwrap()));
    }

    #[test]
    fn what_is_no_question_is_not_answered() {
        for line in [
            "",
            "who",
            "who \n",
            "WHO\n",
            "back tcp 9000\n",
            "back tcp 80 abc\n",
            "back icmp 9000 abc\n",
            "back tcp 9000 a-b\n",
            "back tcp 99999 abc\n",
            "back tcp 10.0.0.1:9000 abc\n",
            "back tcp 9000 abc def\n",
        ] {
            assert_eq!(read(line), None, "{line:?}");
        }
    }

    #[test]
    fn an_answer_by_udp_is_never_longer_than_its_question() {
        let longest: SocketAddr =
            "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535".parse().unwrap();
        let answer = datagram_answer(&datagram(), longest).unwrap();
        assert!(answer.len() <= DATAGRAM, "{}", answer.len());
        assert_eq!(datagram_answer(b"who\n", longest), None);
        assert_eq!(datagram_answer(&[], longest), None);
    }

    proptest! {
        #[test]
        fn anything_is_read_without_a_panic(line in "\\PC*\n?", bytes: Vec<u8>) {
            let answer = refused(&line);
            prop_assert!(answer.ends_with('\n') && answer.lines().count() == 1);
            read(&line);
            sender(&line);
            datagram_answer(&bytes, SocketAddr::from(([10, 0, 0, 1], 1)));
        }
    }
}
