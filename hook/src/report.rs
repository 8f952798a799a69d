//! How does the daemon learn what the hook did in somebody's program?
//!
//! One message of a fixed size, one way. Anybody can send one: the daemon
//! believes what it finds in the system's own table of sockets.

use std::net::Ipv6Addr;

/// What the hook did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// The bind went to another address.
    Moved,
    /// The bind failed: the address is not the program's to have.
    Refused,
}

/// What the hook did to one bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// What it did.
    pub done: Done,
    /// The process, by its own word.
    pub pid: u32,
    /// The IP protocol's number.
    pub protocol: u16,
    /// Host order.
    pub port: u16,
    /// What the program asked for, `::ffff:a.b.c.d` for an IPv4 address.
    pub asked: Ipv6Addr,
    /// What it was given; as asked where it was refused.
    pub given: Ipv6Addr,
}

const VERSION: u16 = 1;

impl Report {
    /// The length of a message.
    pub const LENGTH: usize = 44;

    /// The message.
    pub fn encode(&self) -> [u8; Self::LENGTH] {
        let done: u16 = match self.done {
            Done::Moved => 1,
            Done::Refused => 2,
        };
        let mut message = [0; Self::LENGTH];
        let fields = VERSION
            .to_le_bytes()
            .into_iter()
            .chain(done.to_le_bytes())
            .chain(self.pid.to_le_bytes())
            .chain(self.protocol.to_le_bytes())
            .chain(self.port.to_le_bytes())
            .chain(self.asked.octets())
            .chain(self.given.octets());
        for (to, from) in message.iter_mut().zip(fields) {
            *to = from;
        }
        message
    }

    /// What a message says. `None`: it is none of this version.
    pub fn decode(message: &[u8]) -> Option<Self> {
        let message: &[u8; Self::LENGTH] = message.try_into().ok()?;
        let (version, rest) = message.split_first_chunk()?;
        let (done, rest) = rest.split_first_chunk()?;
        let (pid, rest) = rest.split_first_chunk()?;
        let (protocol, rest) = rest.split_first_chunk()?;
        let (port, rest) = rest.split_first_chunk()?;
        let (asked, rest) = rest.split_first_chunk::<16>()?;
        let (given, _) = rest.split_first_chunk::<16>()?;
        if u16::from_le_bytes(*version) != VERSION {
            return None;
        }
        let done = match u16::from_le_bytes(*done) {
            1 => Done::Moved,
            2 => Done::Refused,
            _ => return None,
        };
        Some(Self {
            done,
            pid: u32::from_le_bytes(*pid),
            protocol: u16::from_le_bytes(*protocol),
            port: u16::from_le_bytes(*port),
            asked: (*asked).into(),
            given: (*given).into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: Report = Report {
        done: Done::Refused,
        pid: 4711,
        protocol: 17,
        port: 9000,
        asked: Ipv6Addr::UNSPECIFIED,
        given: Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0x0a4d, 0x0065),
    };

    #[test]
    fn a_message_says_what_was_reported() {
        for done in [Done::Moved, Done::Refused] {
            let report = Report { done, ..REPORT };
            assert_eq!(Report::decode(&report.encode()), Some(report));
        }
    }

    #[test]
    fn what_is_no_message_says_nothing() {
        let message = REPORT.encode();
        for length in 0..message.len() {
            assert_eq!(Report::decode(&message[..length]), None, "{length} bytes");
        }
        let mut longer = message.to_vec();
        longer.push(0);
        assert_eq!(Report::decode(&longer), None);
        for (at, value) in [(0, 2), (1, 1), (2, 0), (2, 3), (3, 1)] {
            let mut other = message;
            other[at] = value;
            assert_eq!(Report::decode(&other), None, "byte {at} is {value}");
        }
    }
}
