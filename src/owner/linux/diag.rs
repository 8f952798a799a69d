//! Which socket is it, and who made it? The kernel's own answer, by sock_diag(7).
//!
//! An exact look-up takes the kernel's own path for a packet: for TCP a
//! connected or connecting socket before a listening one, for UDP the best
//! match. It costs well under two microseconds however many sockets there are,
//! and allocates nothing. A list of all sockets is never for the packet line.

use super::wire::{Answer, LARGEST_REQUEST, Request, SOCK_DESTROY, SOCK_DIAG_BY_FAMILY, messages};
pub use super::wire::{Family, Socket, State, States};
use crate::packet::{Endpoint, Protocol};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType};
use nix::sys::socket::{recv, send, socket};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::{fmt, io};

/// The kernel fills at most 32 KiB of a list at a time (netlink_dump in
/// net/netlink/af_netlink.c).
const LARGEST_ANSWER: usize = 64 * 1024;

/// How often a list that changed underneath is asked for again.
const LIST_TRIES: usize = 5;

/// How many strangers' ports are tried to reach one of many sockets that share
/// a port.
const SHARED_PORT_TRIES: u16 = 256;

/// A way to ask the kernel about the sockets of one network namespace: the one
/// the thread was in that opened it.
pub struct SockDiag {
    netlink: OwnedFd,
    answer: Box<[u8]>,
    sequence: u32,
}

impl SockDiag {
    /// Opens it. Sockets of other users can be seen by anyone; to end one takes
    /// `CAP_NET_ADMIN`.
    ///
    /// # Errors
    /// The kernel has no sock_diag, or no file descriptor is left.
    pub fn open() -> io::Result<Self> {
        let netlink = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkSockDiag,
        )?;
        Ok(Self { netlink, answer: vec![0; LARGEST_ANSWER].into(), sequence: 0 })
    }

    /// The socket that would take a packet from `remote` to `local`, which is
    /// also the one that sends from `local` to `remote`. A remote of port 0
    /// finds what listens. Sockets tied to an interface are found only when
    /// that `interface` is asked for; 0 is for all others.
    ///
    /// An IPv4 question finds dual-stack sockets too, and never `IPV6_V6ONLY`
    /// ones.
    ///
    /// # Errors
    /// The kernel did not answer. That there is no such socket is no error.
    pub fn find(
        &mut self,
        protocol: Protocol,
        local: Endpoint,
        remote: Endpoint,
        interface: u32,
    ) -> io::Result<Option<Socket>> {
        let family = Family::of(local.address);
        if family != Family::of(remote.address) {
            return Ok(None);
        }
        // "src and dst are swapped for historical reasons": udp_dump_one in
        // net/ipv4/udp_diag.c takes the question as the packet would read.
        let (source, destination) = match protocol {
            Protocol::Tcp => (local, remote),
            Protocol::Udp => (remote, local),
            // What is bound to an id is not told of.
            Protocol::Icmp => return Ok(None),
        };
        let question = Request { source, destination, interface, ..all_of(protocol, family) };
        self.ask(question)?;
        self.read(|answer| match answer {
            Answer::Socket(socket) => Some(Ok(Some(socket))),
            Answer::Error(libc::ENOENT) => Some(Ok(None)),
            Answer::Error(code) | Answer::Done(code) => Some(Err(code)),
        })
    }

    /// What listens for a conversation from anywhere to `local`: a TCP listener
    /// or an unconnected UDP socket.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub fn listener(
        &mut self,
        protocol: Protocol,
        local: Endpoint,
        interface: u32,
    ) -> io::Result<Option<Socket>> {
        let anywhere = Endpoint::new(Family::of(local.address).wildcard(), 0);
        self.find(protocol, local, anywhere, interface)
    }

    /// Every socket of a protocol and family in one of `states`, and bound to
    /// `bound_to` if that is asked: seen by the kernel socket by socket, so 0.1
    /// s for a hundred thousand. A list that the kernel calls inconsistent is
    /// asked for again.
    ///
    /// # Errors
    /// The kernel did not answer, or never with a consistent list.
    pub fn list(
        &mut self,
        protocol: Protocol,
        family: Family,
        states: States,
        bound_to: Option<IpAddr>,
    ) -> io::Result<Vec<Socket>> {
        let everything = Request {
            flags: libc::NLM_F_DUMP as u16,
            states,
            bound_to,
            ..all_of(protocol, family)
        };
        for _ in 0..LIST_TRIES {
            let mut sockets = Vec::new();
            self.ask(everything)?;
            let done = self.read(|answer| match answer {
                Answer::Socket(socket) => {
                    sockets.push(socket);
                    None
                }
                Answer::Done(0) => Some(Ok(())),
                Answer::Error(code) | Answer::Done(code) => Some(Err(code)),
            });
            match done {
                Ok(()) => return Ok(sockets),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::Interrupted.into())
    }

    /// Every socket that is bound to `address`.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub fn bound_to(&mut self, address: IpAddr) -> io::Result<Vec<(Protocol, Socket)>> {
        let mut bound = Vec::new();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for family in [Family::Ipv4, Family::Ipv6] {
                let sockets = self.list(protocol, family, States::ALL, Some(address))?;
                bound.extend(sockets.into_iter().map(|socket| (protocol, socket)));
            }
        }
        bound.retain(|(_, socket)| socket.bound.address == address);
        Ok(bound)
    }

    /// Ends the sockets that are bound to `address`, for an address that is
    /// taken back from its session: their programs get `ECONNABORTED` at the
    /// next call. A TCP socket is gone by then; a UDP socket that named its
    /// port stays bound until its program closes it (__udp_disconnect in
    /// net/ipv4/udp.c). Returns how many were ended.
    ///
    /// # Errors
    /// The kernel cannot do it (`CONFIG_INET_DIAG_DESTROY`), or it may not be
    /// done (`CAP_NET_ADMIN`).
    pub fn end_bound_to(&mut self, address: IpAddr) -> io::Result<usize> {
        let mut ended = 0;
        for (protocol, socket) in self.bound_to(address)? {
            ended += usize::from(self.end(protocol, &socket)?);
        }
        Ok(ended)
    }

    /// Ends exactly this socket; `false` if the kernel does not find it.
    fn end(&mut self, protocol: Protocol, socket: &Socket) -> io::Result<bool> {
        // Asked by its IPv4 address, a dual-stack socket is found as well. And
        // nothing is swapped here, not for UDP either (__udp_diag_destroy).
        let family = Family::of(socket.bound.address);
        let connected = !socket.remote.address.is_unspecified();
        let remote = if connected { socket.remote.address } else { family.wildcard() };
        let mut question = Request {
            kind: SOCK_DESTROY,
            flags: libc::NLM_F_ACK as u16,
            source: socket.bound,
            destination: Endpoint::new(remote, socket.remote.port),
            interface: socket.interface,
            cookie: Some(socket.cookie),
            ..all_of(protocol, family)
        };
        loop {
            self.ask(question)?;
            let found = self.read(|answer| match answer {
                Answer::Error(0) => Some(Ok(Some(true))),
                // Closed already.
                Answer::Error(libc::ENOTCONN) => Some(Ok(Some(false))),
                // Gone, or another socket is there.
                Answer::Error(libc::ENOENT) => Some(Ok(None)),
                Answer::Error(code) | Answer::Done(code) => Some(Err(code)),
                Answer::Socket(_) => None,
            })?;
            match found {
                Some(ended) => return Ok(ended),
                None if connected || question.destination.port == SHARED_PORT_TRIES => {
                    return Ok(false);
                }
                // Sockets that share a port (SO_REUSEPORT) take their turns by
                // where the packet comes from.
                None => question.destination.port += 1,
            }
        }
    }

    fn ask(&mut self, mut question: Request) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        question.sequence = self.sequence;
        let mut buffer = [0; LARGEST_REQUEST];
        let bytes = question.encode(&mut buffer);
        retried(|| send(self.netlink.as_raw_fd(), bytes, MsgFlags::empty()))?;
        Ok(())
    }

    /// Reads answers to the last question until `take` has what it wants, or
    /// an errno. An inconsistent list is `Interrupted`, once it was read out.
    fn read<T>(&mut self, mut take: impl FnMut(Answer) -> Option<Result<T, i32>>) -> io::Result<T> {
        let mut interrupted = false;
        loop {
            // The kernel answers within send(), and a list goes on within
            // recv(): there is never anything to wait for.
            let fd = self.netlink.as_raw_fd();
            let length = retried(|| recv(fd, &mut self.answer, MsgFlags::MSG_DONTWAIT))?;
            for message in messages(self.answer.get(..length).unwrap_or_default()) {
                // What was left of a question that was given up.
                if message.sequence != self.sequence {
                    continue;
                }
                interrupted |= message.interrupted;
                match message.answer.and_then(&mut take) {
                    Some(Ok(_)) if interrupted => return Err(io::ErrorKind::Interrupted.into()),
                    Some(Ok(taken)) => return Ok(taken),
                    Some(Err(code)) => return Err(io::Error::from_raw_os_error(code)),
                    None => {}
                }
            }
        }
    }
}

impl fmt::Debug for SockDiag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SockDiag").field("netlink", &self.netlink).finish_non_exhaustive()
    }
}

/// The question that leaves everything open.
fn all_of(protocol: Protocol, family: Family) -> Request {
    let any = Endpoint::new(family.wildcard(), 0);
    Request {
        kind: SOCK_DIAG_BY_FAMILY,
        flags: 0,
        sequence: 0,
        family,
        protocol,
        states: States::ALL,
        source: any,
        destination: any,
        interface: 0,
        cookie: None,
        bound_to: None,
    }
}

fn retried<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(nix::Error::EINTR) => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    fn endpoint(address: std::net::SocketAddr) -> Endpoint {
        Endpoint::new(address.ip(), address.port())
    }

    #[test]
    fn finds_what_listens_and_what_is_connected() {
        let mut diag = SockDiag::open().unwrap();
        for host in ["127.0.0.1", "::1"] {
            let listener = TcpListener::bind((host, 0)).unwrap();
            let local = endpoint(listener.local_addr().unwrap());
            let found = diag.listener(Protocol::Tcp, local, 0).unwrap().unwrap();
            assert_eq!((found.state, found.bound), (State::LISTEN, local));
            assert_eq!(found.uid, nix::unistd::getuid().as_raw());

            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let near = endpoint(client.local_addr().unwrap());
            let found = diag.find(Protocol::Tcp, near, local, 0).unwrap().unwrap();
            assert_eq!((found.state, found.bound), (State::ESTABLISHED, near));
            assert_eq!(found.remote, local);
            assert_ne!(found.inode, 0);
        }
    }

    #[test]
    fn what_is_not_there_is_no_error() {
        let mut diag = SockDiag::open().unwrap();
        let nowhere = Endpoint::new([127, 9, 9, 9].into(), 9);
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            assert_eq!(diag.find(protocol, nowhere, nowhere, 0).unwrap(), None);
        }
        let other_family = Endpoint::new(Family::Ipv6.wildcard(), 0);
        assert_eq!(diag.find(Protocol::Tcp, nowhere, other_family, 0).unwrap(), None);
    }

    #[test]
    fn lists_by_state_and_address() {
        let mut diag = SockDiag::open().unwrap();
        let socket = UdpSocket::bind("127.9.8.7:0").unwrap();
        let local = endpoint(socket.local_addr().unwrap());
        let all = States::ALL;
        let mut list = |states, address| {
            let found = diag.list(Protocol::Udp, Family::Ipv4, states, address).unwrap();
            found.into_iter().filter(|found| found.bound == local).count()
        };
        assert_eq!(list(all, None), 1);
        assert_eq!(list(States::only(State::UNCONNECTED), Some(local.address)), 1);
        assert_eq!(list(States::only(State::ESTABLISHED), None), 0);
        assert_eq!(list(all, Some([127, 9, 8, 6].into())), 0);
    }

    #[test]
    fn ends_what_is_bound_to_an_address() {
        let mut diag = SockDiag::open().unwrap();
        let address = IpAddr::from([127, 9, 8, 4]);
        let listener = TcpListener::bind((address, 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        let other = UdpSocket::bind("127.9.8.3:0").unwrap();
        let asked = UdpSocket::bind((address, 0)).unwrap();
        let shared: Vec<_> = (0..5).map(|_| sharing_a_port(address)).collect();
        // The client's end has another address.
        assert_eq!(diag.bound_to(address).unwrap().len(), 8);

        assert_eq!(diag.end_bound_to(address).unwrap(), 8, "needs CAP_NET_ADMIN");
        let error = io::Read::read(&mut accepted, &mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::InvalidInput);
        for socket in shared.iter().chain([&asked]) {
            let error = socket.recv(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        }
        let left = diag.bound_to(address).unwrap().len();
        assert_eq!(left, shared.len(), "UDP sockets that named their port stay bound");
        assert!(other.take_error().unwrap().is_none());
        drop(client);
    }

    /// One of many UDP sockets on port 9898.
    fn sharing_a_port(address: IpAddr) -> UdpSocket {
        use nix::sys::socket::{SockaddrStorage, bind, setsockopt, sockopt};
        let flags = SockFlag::SOCK_CLOEXEC;
        let one = socket(AddressFamily::Inet, SockType::Datagram, flags, None).unwrap();
        setsockopt(&one, sockopt::ReusePort, &true).unwrap();
        let local = std::net::SocketAddr::new(address, 9898);
        bind(one.as_raw_fd(), &SockaddrStorage::from(local)).unwrap();
        one.into()
    }

    #[test]
    fn a_given_up_answer_is_not_taken_for_the_next() {
        let mut diag = SockDiag::open().unwrap();
        let socket = UdpSocket::bind("127.9.8.5:0").unwrap();
        let local = endpoint(socket.local_addr().unwrap());
        let nowhere = Endpoint::new([127, 9, 9, 9].into(), 9);
        let unread = Request { source: nowhere, ..all_of(Protocol::Udp, Family::Ipv4) };
        diag.ask(unread).unwrap();
        let found = diag.listener(Protocol::Udp, local, 0).unwrap();
        assert_eq!(found.map(|socket| socket.bound), Some(local));
    }
}
