//! The smallest server and client: who is it that answers at an address?

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// How long either side waits for the other.
const LIMIT: Duration = Duration::from_secs(5);

/// What a listener was told.
#[derive(Debug)]
pub struct Told {
    /// The word that was sent.
    pub word: String,
    /// Who sent it.
    pub from: SocketAddr,
}

/// Listens at `address` for ever, answers each word with `name`, and writes the
/// word to `out`, one a line.
///
/// # Errors
/// The address cannot be listened at.
pub fn listen(address: SocketAddr, name: &str, out: &mut dyn Write) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    loop {
        // A client that goes away early is no reason to stop.
        if let Ok(told) = answer_one(&listener, name) {
            writeln!(out, "{}", told.word)?;
            out.flush()?;
        }
    }
}

/// Takes one word and answers it with `name`.
///
/// # Errors
/// The client goes away, or says nothing for five seconds.
pub fn answer_one(listener: &TcpListener, name: &str) -> io::Result<Told> {
    let (mut stream, from) = listener.accept()?;
    let word = read_line(&stream)?;
    writeln!(stream, "{name}")?;
    Ok(Told { word, from })
}

/// Sends a word to a listener and gives the name that it answers with.
///
/// # Errors
/// Nobody listens, or nobody answers within five seconds.
pub fn ask(address: SocketAddr, word: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    writeln!(stream, "{word}")?;
    read_line(&stream)
}

/// A word that nobody else has said.
///
/// # Errors
/// The kernel gives none.
pub fn random_word() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned())
}

fn read_line(stream: &TcpStream) -> io::Result<String> {
    stream.set_read_timeout(Some(LIMIT))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_arrives_and_the_name_comes_back() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let word = random_word().unwrap();
        std::thread::scope(|scope| {
            let told = scope.spawn(|| answer_one(&listener, "session-7").unwrap());
            assert_eq!(ask(address, &word).unwrap(), "session-7");
            assert_eq!(told.join().unwrap().word, word);
        });
        assert_ne!(random_word().unwrap(), word);
    }
}
