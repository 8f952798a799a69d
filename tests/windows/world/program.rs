//! A program that runs under Wine, or beside it: what has it said?

use super::PATIENCE;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A Windows program that runs, and what it has said.
pub(crate) struct Program {
    child: Child,
    input: ChildStdin,
    said: Arc<Mutex<String>>,
}

impl Program {
    pub(super) fn start(mut command: Command, word: &str) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in streams {
            let said = Arc::clone(&said);
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                    *said += line.trim_end();
                    *said += "\n";
                }
            });
        }
        let it = Self { input: child.stdin.take().unwrap(), child, said };
        it.comes_to(word);
        it
    }

    /// Waits until it has said `word`.
    pub(crate) fn comes_to(&self, word: &str) {
        let begin = Instant::now();
        while !self.said().contains(word) {
            assert!(begin.elapsed() < PATIENCE, "it never said {word:?} but: {}", self.said());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Tells it to go on.
    pub(crate) fn go_on(&mut self) {
        self.input.write_all(b"\n").unwrap();
    }

    /// All of it so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for its end; its exit status.
    pub(crate) fn end(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a client saw of both ends, and what it was answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Met {
    pub(crate) own: String,
    pub(crate) far: String,
    pub(crate) answer: String,
}

impl Met {
    /// Parses `own A far B answer C`; else there is only an answer, the complaint.
    pub(crate) fn of(said: &str) -> Self {
        let parsed = || {
            let (own, rest) = said.strip_prefix("own ")?.split_once(" far ")?;
            let (far, answer) = rest.split_once(" answer ")?;
            Some(Self { own: own.into(), far: far.into(), answer: answer.into() })
        };
        let complaint = || Self { own: String::new(), far: String::new(), answer: said.into() };
        parsed().unwrap_or_else(complaint)
    }

    /// Where the server was that answered: talk's answers end with it.
    pub(crate) fn server(&self) -> &str {
        self.answer.rsplit_once(" at ").map_or("", |(_, server)| server)
    }

    /// Whom the server saw: its answers begin with it.
    pub(crate) fn seen_as(&self) -> &str {
        self.answer.split_once(' ').map_or("", |(seen, _)| seen)
    }
}
