//! What do the driver and the peer say to each other?
//!
//! Frames on one TCP connection, described in `tests/windows/driver/link.c`.
//! Neither side ever waits for the other to read: what cannot be written yet is
//! kept, up to a limit.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv6Addr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

/// What the driver may leave unread before packets are lost.
const UNREAD_MOST: usize = 64 << 20;
const LARGEST_FRAME: usize = 1 << 17;

/// What the driver says.
#[derive(Debug)]
pub(crate) enum Said<'a> {
    /// Let it pass, with these bytes unless they are none.
    Accept { inbound: bool, id: u32, bytes: &'a [u8] },
    /// Drop it.
    Drop { inbound: bool, id: u32 },
    /// Send this packet.
    Inject(&'a [u8]),
    /// For whoever runs the test.
    Log(&'a [u8]),
}

/// The connection to a driver.
#[derive(Debug)]
pub(crate) struct Driver {
    stream: TcpStream,
    unread: Vec<u8>,
    unread_from: usize,
    read: Vec<u8>,
}

impl Driver {
    /// Takes over a new connection.
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, unread: Vec::new(), unread_from: 0, read: Vec::new() })
    }

    /// Whether something waits to be written.
    pub(crate) fn lags(&self) -> bool {
        self.unread_from < self.unread.len()
    }

    /// A packet; false where the driver has not read for too long.
    pub(crate) fn packet(
        &mut self,
        inbound: bool,
        loopback: bool,
        id: u32,
        interface: u32,
        bytes: &[u8],
    ) -> bool {
        if self.unread.len() - self.unread_from > UNREAD_MOST {
            return false;
        }
        let mut head = [0; 13];
        head[0] = b'P';
        head[1] = u8::from(inbound);
        head[2] = u8::from(loopback);
        head[5..9].copy_from_slice(&id.to_le_bytes());
        head[9..13].copy_from_slice(&interface.to_le_bytes());
        self.frame(&head, bytes);
        true
    }

    /// The addresses of this host.
    pub(crate) fn addresses<'a>(&mut self, all: impl Iterator<Item = &'a Ipv6Addr>) {
        let bytes: Vec<u8> = all.flat_map(Ipv6Addr::octets).collect();
        self.frame(b"A", &bytes);
    }

    /// The host's sockets changed.
    pub(crate) fn sockets(&mut self) {
        self.frame(b"S", &[]);
    }

    fn frame(&mut self, head: &[u8], body: &[u8]) {
        let length = u32::try_from(head.len() + body.len()).unwrap_or(u32::MAX);
        self.unread.extend_from_slice(&length.to_le_bytes());
        self.unread.extend_from_slice(head);
        self.unread.extend_from_slice(body);
    }

    /// Writes what can be written now.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while let Some(rest @ [_, ..]) = self.unread.get(self.unread_from..) {
            match self.stream.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => self.unread_from += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.unread.clear();
        self.unread_from = 0;
        Ok(())
    }

    /// Reads what is there and hands over every whole frame of it. An error is
    /// the end of the connection.
    pub(crate) fn hear(&mut self, mut each: impl FnMut(Said<'_>)) -> io::Result<()> {
        let mut chunk = [0; 1 << 16];
        let got = match self.stream.read(&mut chunk) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(got) => got,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.read.extend_from_slice(chunk.get(..got).unwrap_or_default());
        let mut at = 0;
        while let Some((length, rest)) =
            self.read.get(at..).and_then(|rest| rest.split_first_chunk::<4>())
        {
            let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
            if length > LARGEST_FRAME {
                return Err(ErrorKind::InvalidData.into());
            }
            let Some(frame) = rest.get(..length) else { break };
            each(parse(frame).ok_or(ErrorKind::InvalidData)?);
            at += 4 + length;
        }
        self.read.drain(..at);
        Ok(())
    }
}

fn parse(frame: &[u8]) -> Option<Said<'_>> {
    let (letter, rest) = frame.split_first()?;
    let about = || {
        let (queue, rest) = rest.split_first()?;
        let (id, bytes) = rest.split_first_chunk()?;
        Some((*queue == 1, u32::from_le_bytes(*id), bytes))
    };
    match letter {
        b'V' => about().map(|(inbound, id, bytes)| Said::Accept { inbound, id, bytes }),
        b'D' => about().map(|(inbound, id, _)| Said::Drop { inbound, id }),
        b'I' => Some(Said::Inject(rest)),
        b'L' => Some(Said::Log(rest)),
        _ => None,
    }
}

impl AsFd for Driver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
