//! What does a sock_diag message look like? (sock_diag(7), linux/inet_diag.h)

use crate::packet::{Endpoint, Protocol};
use std::net::{IpAddr, Ipv6Addr};

/// A request for one socket, or for all of a family and protocol.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) family: Family,
    pub(super) protocol: Protocol,
    pub(super) states: States,
    /// As `idiag_src` and `idiag_sport`; port 0 and the wildcard for any.
    pub(super) source: Endpoint,
    /// As `idiag_dst` and `idiag_dport`.
    pub(super) destination: Endpoint,
    pub(super) interface: u32,
    /// `None`: whichever socket is there.
    pub(super) cookie: Option<u64>,
    /// Only sockets bound to this address.
    pub(super) bound_to: Option<IpAddr>,
}

/// Request and reply about sockets (linux/sock_diag.h).
pub(super) const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// Request to end a socket (linux/sock_diag.h).
pub(super) const SOCK_DESTROY: u16 = 21;

/// The largest request: headers, addresses, and a filter for an IPv6 address.
pub(super) const LARGEST_REQUEST: usize = 72 + 4 + 28;

/// An address family, as a socket was made with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Family {
    /// `AF_INET`.
    Ipv4 = libc::AF_INET as u8,
    /// `AF_INET6`; a dual-stack socket of IPv4 is one of these too.
    Ipv6 = libc::AF_INET6 as u8,
}

impl Family {
    /// The family of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }

    /// Its wildcard address.
    pub const fn wildcard(self) -> IpAddr {
        match self {
            Self::Ipv4 => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
            Self::Ipv6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }
}

/// What a socket is doing: the kernel's TCP states (include/net/tcp_states.h),
/// which UDP borrows two of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State(pub u8);

impl State {
    /// TCP established; a connected UDP socket.
    pub const ESTABLISHED: Self = Self(1);
    /// TCP connecting.
    pub const SYN_SENT: Self = Self(2);
    /// TCP, not accepted yet and without a socket of its own.
    pub const SYN_RECEIVED: Self = Self(3);
    /// TCP closed here; kept for stragglers, without its owner.
    pub const TIME_WAIT: Self = Self(6);
    /// A UDP socket that is not connected.
    pub const UNCONNECTED: Self = Self(7);
    /// TCP listening.
    pub const LISTEN: Self = Self(10);
}

/// A set of [`State`]s to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct States(u32);

impl States {
    /// Whatever they are doing.
    pub const ALL: Self = Self(u32::MAX);

    /// Sockets in this one state.
    pub const fn only(state: State) -> Self {
        Self(1 << (state.0 & 31))
    }
}

/// A socket as the kernel describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// The family it was made with.
    pub family: Family,
    /// What it is doing.
    pub state: State,
    /// Where it is bound; IPv4 in a socket of IPv6 is written as IPv4.
    pub bound: Endpoint,
    /// What it is connected to; port 0 where nothing.
    pub remote: Endpoint,
    /// The interface it is tied to (`SO_BINDTODEVICE`), 0 for none.
    pub interface: u32,
    /// Its number for life, never given twice.
    pub cookie: u64,
    /// The user that made it.
    pub uid: u32,
    /// Its file's number, as in `/proc/PID/fd`; 0 while nobody has accepted it
    /// and after it was closed.
    pub inode: u32,
    /// The cgroup that made it; 0 where the kernel has forgotten (`TIME_WAIT`).
    pub cgroup: u64,
    /// It was made with `IPV6_V6ONLY` (told of listening and unconnected ones).
    pub v6only: bool,
}

impl Request {
    /// Writes it into `buffer`, which has room for the largest.
    pub(super) fn encode<'b>(&self, buffer: &'b mut [u8; LARGEST_REQUEST]) -> &'b [u8] {
        let mut out = Writer { buffer, length: 0 };
        out.put(&[0; 4]); // nlmsg_len, known at the end
        out.put(&self.kind.to_ne_bytes());
        out.put(&(libc::NLM_F_REQUEST as u16 | self.flags).to_ne_bytes());
        out.put(&self.sequence.to_ne_bytes());
        out.put(&[0; 4]); // nlmsg_pid: the kernel
        out.put(&[self.family as u8, self.protocol as u8, 0, 0]);
        out.put(&self.states.0.to_ne_bytes());
        out.put(&self.source.port.to_be_bytes());
        out.put(&self.destination.port.to_be_bytes());
        out.put(&address_field(self.source.address));
        out.put(&address_field(self.destination.address));
        out.put(&self.interface.to_ne_bytes());
        // INET_DIAG_NOCOOKIE is all ones. The low word comes first.
        let cookie = self.cookie.unwrap_or(u64::MAX);
        out.put(&(cookie as u32).to_ne_bytes());
        out.put(&((cookie >> 32) as u32).to_ne_bytes());
        if let Some(address) = self.bound_to {
            out.put_filter(address);
        }
        let length = out.length;
        if let Some(field) = buffer.first_chunk_mut() {
            *field = (length as u32).to_ne_bytes();
        }
        buffer.get(..length).unwrap_or_default()
    }
}

struct Writer<'b> {
    buffer: &'b mut [u8; LARGEST_REQUEST],
    length: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        if let Some(room) = self.buffer.get_mut(self.length..end) {
            room.copy_from_slice(bytes);
            self.length = end;
        }
    }

    /// `INET_DIAG_REQ_BYTECODE` of one condition: the source address is this
    /// one, in a socket of either family (inet_diag_bc_run in
    /// net/ipv4/inet_diag.c). A condition that fails jumps 4 bytes past the
    /// end of the program, which is how the program says no.
    fn put_filter(&mut self, address: IpAddr) {
        const INET_DIAG_REQ_BYTECODE: u16 = 1;
        const INET_DIAG_BC_S_COND: u8 = 7;
        let address_bytes = address_field(address);
        let width = match address {
            IpAddr::V4(_) => 4,
            IpAddr::V6(_) => 16,
        };
        let program = 4 + 8 + width;
        self.put(&(4 + program as u16).to_ne_bytes());
        self.put(&INET_DIAG_REQ_BYTECODE.to_ne_bytes());
        self.put(&[INET_DIAG_BC_S_COND, program as u8]);
        self.put(&(program as u16 + 4).to_ne_bytes());
        self.put(&[Family::of(address) as u8, 8 * width as u8, 0, 0]);
        self.put(&(-1_i32).to_ne_bytes()); // any port
        self.put(address_bytes.get(..width).unwrap_or_default());
    }
}

/// An address in the 16 bytes that `inet_diag_sockid` has for it.
fn address_field(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// One message of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Socket(Socket),
    /// 0 for success, else an errno.
    Error(i32),
    /// The list is complete, or ended with this errno.
    Done(i32),
}

/// A message with what its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) sequence: u32,
    /// The table changed underneath the list: it may lack sockets.
    pub(super) interrupted: bool,
    /// `None`: nothing that we asked for.
    pub(super) answer: Option<Answer>,
}

/// The messages of one datagram; stops where it makes no sense any more.
pub(super) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message> {
    std::iter::from_fn(move || {
        let length = usize::try_from(word(datagram, 0)?).ok()?;
        let body = datagram.get(16..length)?;
        let kind = half(datagram, 4)?;
        let flags = half(datagram, 6)?;
        let sequence = word(datagram, 8)?;
        let answer = match i32::from(kind) {
            libc::NLMSG_ERROR => word(body, 0).map(|code| Answer::Error(errno(code))),
            libc::NLMSG_DONE => Some(Answer::Done(errno(word(body, 0).unwrap_or(0)))),
            _ if kind == SOCK_DIAG_BY_FAMILY => socket(body).map(Answer::Socket),
            _ => None,
        };
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        let interrupted = flags & libc::NLM_F_DUMP_INTR as u16 != 0;
        Some(Message { sequence, interrupted, answer })
    })
}

/// The kernel reports errors as negative numbers.
fn errno(code: u32) -> i32 {
    (code as i32).saturating_neg()
}

/// `inet_diag_msg` and the attributes behind it.
fn socket(body: &[u8]) -> Option<Socket> {
    const INET_DIAG_SKV6ONLY: u16 = 11;
    const INET_DIAG_CGROUP_ID: u16 = 21;
    let family = match i32::from(*body.first()?) {
        libc::AF_INET => Family::Ipv4,
        libc::AF_INET6 => Family::Ipv6,
        _ => return None,
    };
    let mut socket = Socket {
        family,
        state: State(*body.get(1)?),
        bound: Endpoint::new(address(body, 8, family)?, port(body, 4)?),
        remote: Endpoint::new(address(body, 24, family)?, port(body, 6)?),
        interface: word(body, 40)?,
        cookie: u64::from(word(body, 44)?) | u64::from(word(body, 48)?) << 32,
        uid: word(body, 64)?,
        inode: word(body, 68)?,
        cgroup: 0,
        v6only: false,
    };
    let mut attributes = body.get(72..)?;
    while let (Some(length), Some(kind)) = (half(attributes, 0), half(attributes, 2)) {
        let Some(value) = attributes.get(4..usize::from(length)) else { break };
        match kind & libc::NLA_TYPE_MASK as u16 {
            INET_DIAG_CGROUP_ID => {
                socket.cgroup = value.first_chunk().map_or(0, |id| u64::from_ne_bytes(*id));
            }
            INET_DIAG_SKV6ONLY => socket.v6only = value.first().is_some_and(|set| *set != 0),
            _ => {}
        }
        let next = usize::from(length).next_multiple_of(4);
        attributes = attributes.get(next..).unwrap_or_default();
    }
    Some(socket)
}

fn address(body: &[u8], at: usize, family: Family) -> Option<IpAddr> {
    let bytes: &[u8; 16] = body.get(at..)?.first_chunk()?;
    Some(match family {
        Family::Ipv4 => IpAddr::from(*bytes.first_chunk::<4>()?),
        Family::Ipv6 => Ipv6Addr::from(*bytes).to_canonical(),
    })
}

fn port(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|port| u16::from_be_bytes(*port))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|half| u16::from_ne_bytes(*half))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(bound_to: Option<IpAddr>) -> Request {
        Request {
            kind: SOCK_DIAG_BY_FAMILY,
            flags: 0,
            sequence: 7,
            family: Family::Ipv4,
            protocol: Protocol::Tcp,
            states: States::ALL,
            source: Endpoint::new([10, 77, 0, 1].into(), 40000),
            destination: Endpoint::new([10, 77, 0, 2].into(), 5201),
            interface: 0,
            cookie: None,
            bound_to,
        }
    }

    /// A reply of the kernel: header, `inet_diag_msg`, two attributes.
    fn reply() -> Vec<u8> {
        let mut bytes = vec![0; 16 + 72];
        bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        bytes[8..12].copy_from_slice(&7_u32.to_ne_bytes());
        let body = &mut bytes[16..];
        body[0] = libc::AF_INET6 as u8;
        body[1] = State::LISTEN.0;
        body[4..6].copy_from_slice(&9000_u16.to_be_bytes());
        body[8..24].copy_from_slice(&"::ffff:10.77.0.101".parse::<Ipv6Addr>().unwrap().octets());
        body[44..48].copy_from_slice(&5_u32.to_ne_bytes());
        body[48..52].copy_from_slice(&1_u32.to_ne_bytes());
        body[64..68].copy_from_slice(&1000_u32.to_ne_bytes());
        body[68..72].copy_from_slice(&4242_u32.to_ne_bytes());
        bytes.extend(
            5_u16.to_ne_bytes().into_iter().chain(11_u16.to_ne_bytes()).chain([1, 0, 0, 0]),
        );
        bytes.extend(12_u16.to_ne_bytes().into_iter().chain(21_u16.to_ne_bytes()));
        bytes.extend(77_u64.to_ne_bytes());
        let length = bytes.len() as u32;
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes
    }

    #[test]
    fn a_request_has_the_kernels_layout() {
        let mut buffer = [0; LARGEST_REQUEST];
        let bytes = request(None).encode(&mut buffer);
        assert_eq!(bytes.len(), 72);
        assert_eq!(word(bytes, 0), Some(72));
        assert_eq!(bytes[16..20], [libc::AF_INET as u8, 6, 0, 0]);
        assert_eq!((port(bytes, 24), port(bytes, 26)), (Some(40000), Some(5201)));
        assert_eq!(bytes[28..32], [10, 77, 0, 1]);
        assert_eq!(bytes[44..48], [10, 77, 0, 2]);
        assert_eq!(bytes[64..72], [0xff; 8]);
    }

    #[test]
    fn the_largest_request_fits() {
        let mut buffer = [0; LARGEST_REQUEST];
        let address = "fd77::1".parse().unwrap();
        let bytes = request(Some(address)).encode(&mut buffer);
        assert_eq!(bytes.len(), LARGEST_REQUEST);
        assert_eq!(bytes[LARGEST_REQUEST - 16..], address_field(address));
    }

    #[test]
    fn a_reply_is_read() {
        let bytes = reply();
        let all: Vec<_> = messages(&bytes).collect();
        let [Message { sequence: 7, interrupted: false, answer: Some(Answer::Socket(socket)) }] =
            all[..]
        else {
            panic!("{all:?}")
        };
        assert_eq!(socket.bound, Endpoint::new([10, 77, 0, 101].into(), 9000));
        assert_eq!(socket.cookie, (1 << 32) + 5);
        assert_eq!((socket.uid, socket.inode, socket.cgroup), (1000, 4242, 77));
        assert!(socket.v6only);
    }

    #[test]
    fn an_error_is_read() {
        let mut bytes = vec![20, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend((-libc::ENOENT).to_ne_bytes());
        let answers: Vec<_> = messages(&bytes).filter_map(|message| message.answer).collect();
        assert_eq!(answers, [Answer::Error(libc::ENOENT)]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            prop_assert!(messages(&bytes).count() <= bytes.len() / 16);
        }

        #[test]
        fn a_damaged_reply_is_read_without_a_panic(
            at in 0_usize..104, to: u8, cut in 0_usize..=104,
        ) {
            let mut bytes = reply();
            bytes[at] = to;
            bytes.truncate(cut);
            prop_assert!(messages(&bytes).count() <= 2);
        }
    }
}
