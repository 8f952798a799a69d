//! What does one connection say, and what is still to be said to it?
//!
//! The same on every platform: the system supplies a stream that does not block
//! and who is at its other end.

use super::access::Peer;
use super::{Request, Response};
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// A request is a line of at most this many bytes.
const LINE: usize = 16 * 1024;
/// A connection that has neither asked nor read for so long is closed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A peer's connection. Everything it may use is bounded.
#[derive(Debug)]
pub(super) struct Connection<S> {
    pub(super) stream: S,
    pub(super) peer: Peer,
    asked: Vec<u8>,
    /// What is still to be sent, from `sent` on.
    answer: Vec<u8>,
    sent: usize,
    /// It is closed once the answer is sent.
    ends: bool,
    /// It is closed then, whatever it waits for.
    pub(super) deadline: Instant,
}

impl<S: Read + Write> Connection<S> {
    /// One that has just been made.
    pub(super) fn new(stream: S, peer: Peer, now: Instant) -> Self {
        let deadline = now + PATIENCE;
        Self { stream, peer, asked: Vec::new(), answer: Vec::new(), sent: 0, ends: false, deadline }
    }

    /// There is an answer to be sent on.
    pub(super) fn waits(&self) -> bool {
        !self.answer.is_empty()
    }

    /// A request came along with the one before it: a turn is not in vain, though
    /// nothing more be said.
    pub(super) fn has_asked(&self) -> bool {
        self.answer.is_empty() && self.asked.contains(&b'\n')
    }

    /// Takes a request or goes on sending an answer. An error closes it.
    ///
    /// One request a turn, however many were sent at once: others have theirs in
    /// between.
    pub(super) fn turn(
        &mut self,
        now: Instant,
        answer: &mut dyn FnMut(&Peer, Request) -> Response,
    ) -> io::Result<()> {
        if !self.waits() && !self.has_asked() {
            let mut bytes = [0; 4096];
            let read = match self.stream.read(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            };
            self.asked.extend(bytes.iter().take(read));
        }
        if !self.waits() {
            let response = match self.asked.iter().position(|b| *b == b'\n') {
                Some(end) if end <= LINE => {
                    let line: Vec<u8> = self.asked.drain(..=end).collect();
                    self.respond(&line, answer)
                }
                None if self.asked.len() <= LINE => return Ok(()),
                _ => {
                    self.ends = true;
                    Response::Error(format!("a request is not longer than {LINE} bytes"))
                }
            };
            serde_json::to_writer(&mut self.answer, &response)?;
            self.answer.push(b'\n');
        }
        self.deadline = now + PATIENCE;
        while let Some(rest @ [_, ..]) = self.answer.get(self.sent..) {
            match self.stream.write(rest) {
                Ok(written) => self.sent += written,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
        }
        if self.ends {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.answer.clear();
        self.sent = 0;
        Ok(())
    }

    fn respond(&self, line: &[u8], answer: &mut dyn FnMut(&Peer, Request) -> Response) -> Response {
        let request: Request = match serde_json::from_slice(line) {
            Ok(request) => request,
            Err(e) => return Response::Error(format!("the request was not understood: {e}")),
        };
        match self.peer.permit(&request) {
            Ok(()) => answer(&self.peer, request),
            Err(sentence) => Response::Error(sentence),
        }
    }
}
