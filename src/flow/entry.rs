//! What is remembered of one flow?

use crate::owner::{Owner, Program};
use crate::packet::{Endpoint, Protocol, TcpFlags};
use crate::session::SessionId;
use crate::verdict::Reason;
use std::sync::Arc;

use super::key::{Ends, Face, Key, Kind, Pair};
use super::slab::END;
use crate::engine::Direction;

/// A TCP connection that has been opened and not been closed on both sides may
/// be silent for two hours and four minutes (RFC 5382, REQ-5).
const ESTABLISHED: u32 = 2 * 3600 + 4 * 60;

/// One that is being opened, or is closed, for four minutes (RFC 5382, REQ-5;
/// RFC 7857, section 2.2, for a reset).
const TRANSITORY: u32 = 4 * 60;

/// UDP: five minutes, as recommended (RFC 4787, REQ-5).
const DATAGRAMS: u32 = 5 * 60;

/// Echo: a minute, the least that is allowed (RFC 5508, REQ-2).
const ECHOES: u32 = 60;

/// A flow as it begins.
#[derive(Clone, Debug)]
pub(crate) struct Begin {
    pub(crate) protocol: Protocol,
    /// As the program's socket has it.
    pub(crate) inside: Pair,
    /// As the wire has it.
    pub(crate) outside: Pair,
    pub(crate) reason: Reason,
    /// Whose socket it is, where that is known.
    pub(crate) owner: Option<Owner>,
    /// The session whose address is used on the wire; that of the owner where
    /// it is a host address.
    pub(crate) session: Option<SessionId>,
    /// A socket of this host opened it, and is known.
    pub(crate) opened_here: bool,
    /// It began before this table did.
    pub(crate) rebuilt: bool,
}

/// A flow as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowView {
    /// TCP, UDP, or ICMP for echo.
    pub protocol: Protocol,
    /// The session whose address it uses, or whose program it is.
    pub session: Option<SessionId>,
    /// The program; empty where nobody knows.
    pub program: Arc<Program>,
    /// The process, 0 where nobody knows.
    pub pid: u32,
    /// As the program's socket has it.
    pub inside: Pair,
    /// As the wire has it.
    pub outside: Pair,
    /// Why.
    pub reason: Reason,
    /// Packets, both directions together.
    pub packets: u64,
    /// Bytes of these packets, IP headers included.
    pub bytes: u64,
}

/// One conversation, in two cache lines that begin on a boundary: a look at it
/// costs two neighbouring lines and never three. Times are in seconds.
#[repr(align(128))]
pub(crate) struct Flow {
    inside: [u128; 2],
    outside: [u128; 2],
    inside_ports: u32,
    outside_ports: u32,
    packets: u64,
    bytes: u64,
    program: Arc<Program>,
    /// The [`epoch`](crate::engine) under which it was last looked at.
    pub(crate) epoch: u32,
    last: u32,
    pid: u32,
    session: u32,
    /// The list of flows of one UDP socket: see [`FlowTable`](super::FlowTable).
    pub(super) next: u32,
    pub(super) previous: u32,
    /// When its owner was last asked for; the low bits of the second.
    asked: u16,
    reason: Reason,
    kind: Kind,
    marks: u8,
    tcp: u8,
}

/// Bits of [`Flow::marks`].
const HAS_SESSION: u8 = 1;
const OPENED_HERE: u8 = 1 << 1;
/// Its local end is another outside than inside; its remote end.
const LOCAL_TURNED: u8 = 1 << 2;
const REMOTE_TURNED: u8 = 1 << 3;

/// Bits of [`Flow::tcp`].
const SEEN_OUT: u8 = 1;
const SEEN_IN: u8 = 1 << 1;
/// A segment after SYN and SYN-ACK: the handshake is done.
const ACKED: u8 = 1 << 2;
const FIN_OUT: u8 = 1 << 3;
const FIN_IN: u8 = 1 << 4;
const RESET: u8 = 1 << 5;
/// Its session is gone: it only waits to be removed.
const RETIRED: u8 = 1 << 6;

impl Flow {
    pub(super) fn new(begin: Begin, nobody: &Arc<Program>, epoch: u32, now: u32) -> Self {
        let (program, pid) = match begin.owner {
            Some(owner) => (owner.program, owner.pid),
            None => (Arc::clone(nobody), 0),
        };
        let mark = |set: bool, bit: u8| if set { bit } else { 0 };
        let (inside, outside) = (Ends::new(&begin.inside), Ends::new(&begin.outside));
        Self {
            inside: [inside.local, inside.remote],
            outside: [outside.local, outside.remote],
            inside_ports: inside.ports,
            outside_ports: outside.ports,
            packets: 0,
            bytes: 0,
            program,
            epoch,
            last: now,
            pid,
            session: begin.session.map_or(0, |session| session.0),
            next: END,
            previous: END,
            asked: now as u16,
            reason: begin.reason,
            kind: Kind::new(begin.protocol, begin.inside.local.address),
            marks: mark(begin.session.is_some(), HAS_SESSION)
                | mark(begin.opened_here, OPENED_HERE)
                | mark(begin.inside.local != begin.outside.local, LOCAL_TURNED)
                | mark(begin.inside.remote != begin.outside.remote, REMOTE_TURNED),
            tcp: mark(begin.rebuilt, SEEN_IN | SEEN_OUT | ACKED),
        }
    }

    #[inline]
    pub(crate) fn is(&self, key: &Key) -> bool {
        self.kind == key.kind && self.ends(key.face) == key.ends
    }

    #[inline]
    fn ends(&self, face: Face) -> Ends {
        let ([local, remote], ports) = match face {
            Face::Inside => (self.inside, self.inside_ports),
            Face::Outside => (self.outside, self.outside_ports),
        };
        Ends { local, remote, ports }
    }

    #[inline]
    pub(crate) fn protocol(&self) -> Protocol {
        self.kind.protocol()
    }

    pub(crate) fn inside(&self) -> Pair {
        self.pair(Face::Inside)
    }

    pub(crate) fn outside(&self) -> Pair {
        self.pair(Face::Outside)
    }

    fn pair(&self, face: Face) -> Pair {
        let ends = self.ends(face);
        Pair { local: ends.local(self.kind), remote: ends.remote(self.kind) }
    }

    /// Its local end on that face, if it is another than on the other.
    #[inline]
    pub(crate) fn turned_local(&self, face: Face) -> Option<Endpoint> {
        (self.marks & LOCAL_TURNED != 0).then(|| self.ends(face).local(self.kind))
    }

    /// Its remote end on that face, if it is another than on the other.
    #[inline]
    pub(crate) fn turned_remote(&self, face: Face) -> Option<Endpoint> {
        (self.marks & REMOTE_TURNED != 0).then(|| self.ends(face).remote(self.kind))
    }

    #[inline]
    pub(crate) fn reason(&self) -> Reason {
        self.reason
    }

    /// The process and program that began it are this owner's.
    pub(crate) fn was_begun_by(&self, owner: &Owner) -> bool {
        self.pid == owner.pid && self.program == owner.program
    }

    pub(crate) fn session(&self) -> Option<SessionId> {
        (self.marks & HAS_SESSION != 0).then_some(SessionId(self.session))
    }

    /// A known socket of this host opened it.
    pub(crate) fn opened_here(&self) -> bool {
        self.marks & OPENED_HERE != 0
    }

    /// It shares one outside port with the other flows of its socket.
    pub(super) fn is_of_socket(&self) -> bool {
        self.marks & LOCAL_TURNED != 0 && self.kind.protocol() == Protocol::Udp
    }

    /// Its packets have not shown both directions yet.
    pub(crate) fn is_opening(&self) -> bool {
        self.tcp & (ACKED | RESET | RETIRED) == 0
    }

    /// TCP closed by both sides, by a reset, or by a logoff.
    pub(crate) fn is_closed(&self) -> bool {
        self.tcp & (RESET | RETIRED) != 0 || self.tcp & (FIN_IN | FIN_OUT) == FIN_IN | FIN_OUT
    }

    /// Its owner has to be asked for again: another session may have opened a
    /// UDP socket on the same port since. Once a second is often enough.
    #[inline]
    pub(crate) fn owner_is_stale(&self, now: u32) -> bool {
        self.kind.protocol() == Protocol::Udp && self.opened_here() && self.asked != now as u16
    }

    pub(crate) fn owner_confirmed(&mut self, now: u32) {
        self.asked = now as u16;
    }

    /// Nothing goes on under it, and it expires soon.
    pub(crate) fn retire(&mut self) {
        self.tcp |= RETIRED;
    }

    /// Reads a little of each of its cache lines, so that they are there.
    #[inline]
    pub(crate) fn touch(&self) -> u64 {
        self.inside[0] as u64 ^ self.outside[1] as u64 ^ self.packets ^ u64::from(self.tcp)
    }

    /// One more packet of `length` bytes.
    #[inline]
    pub(crate) fn count(&mut self, length: usize) {
        self.packets += 1;
        self.bytes += length as u64;
    }

    /// Follows the conversation's state by one more packet.
    #[inline]
    pub(crate) fn follow(&mut self, direction: Direction, flags: TcpFlags, now: u32) {
        self.last = now;
        let (seen, fin) = match direction {
            Direction::Out => (SEEN_OUT, FIN_OUT),
            Direction::In => (SEEN_IN, FIN_IN),
        };
        let mut state = self.tcp | seen;
        if !flags.syn && state & (SEEN_IN | SEEN_OUT) == SEEN_IN | SEEN_OUT {
            state |= ACKED;
        }
        if flags.fin {
            state |= fin;
        }
        // A reset that was not believed is forgotten when the conversation
        // goes on (RFC 7857, section 2.2).
        self.tcp = if flags.rst { state | RESET } else { state & !RESET };
    }

    /// It has been silent for longer than its state allows.
    pub(crate) fn is_over(&self, now: u32) -> bool {
        let limit = match self.kind.protocol() {
            Protocol::Udp => DATAGRAMS,
            Protocol::Icmp => ECHOES,
            Protocol::Tcp if self.is_closed() || self.tcp & ACKED == 0 => TRANSITORY,
            Protocol::Tcp => ESTABLISHED,
        };
        now.saturating_sub(self.last) > limit
    }

    pub(crate) fn view(&self) -> FlowView {
        FlowView {
            protocol: self.kind.protocol(),
            session: self.session(),
            program: Arc::clone(&self.program),
            pid: self.pid,
            inside: self.inside(),
            outside: self.outside(),
            reason: self.reason,
            packets: self.packets,
            bytes: self.bytes,
        }
    }
}
