//! How are packets of one protocol spoken and heard on one network card?

use crate::address::Adapter;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socket};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// What is kept of a packet that is heard: no question and no answer is longer.
const LONGEST: usize = 256;

/// A packet(7) socket, for the payload of one protocol's frames.
pub(super) struct Line {
    socket: OwnedFd,
    everybody: libc::sockaddr_ll,
}

impl Line {
    /// Packets of an Ethernet protocol number, and only those that `filter` takes.
    #[expect(unsafe_code, reason = "nix cannot make a link-layer address, nor a filter")]
    pub(super) fn open(
        adapter: &Adapter,
        protocol: u16,
        filter: &[libc::sock_filter],
    ) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        // Without a protocol it hears nothing until it is bound to one adapter.
        let socket = socket(AddressFamily::Packet, SockType::Datagram, flags, None)?;
        if !filter.is_empty() {
            let program =
                libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
            // SAFETY: the kernel reads as many instructions as said, and checks them.
            let status = unsafe {
                libc::setsockopt(
                    socket.as_raw_fd(),
                    libc::SOL_SOCKET,
                    libc::SO_ATTACH_FILTER,
                    (&raw const program).cast(),
                    size_of::<libc::sock_fprog>() as libc::socklen_t,
                )
            };
            if status != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        // SAFETY: sockaddr_ll is plain numbers, for which zero is a value.
        let mut everybody: libc::sockaddr_ll = unsafe { mem::zeroed() };
        everybody.sll_family = libc::AF_PACKET as u16;
        everybody.sll_protocol = protocol.to_be();
        everybody.sll_ifindex =
            i32::try_from(adapter.index).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
        everybody.sll_halen = 6;
        everybody.sll_addr[..6].fill(0xff);
        // SAFETY: the descriptor is open, and the address is as long as said.
        let status = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const everybody).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if status == 0 { Ok(Self { socket, everybody }) } else { Err(io::Error::last_os_error()) }
    }

    /// Has the card hear what is sent to this hardware address, too, for as long as
    /// the line is open.
    #[expect(unsafe_code, reason = "nix does not know this socket option")]
    pub(super) fn listen_to(&self, group: [u8; 6]) -> io::Result<()> {
        let mut request = libc::packet_mreq {
            mr_ifindex: self.everybody.sll_ifindex,
            mr_type: libc::PACKET_MR_MULTICAST as u16,
            mr_alen: 6,
            mr_address: [0; 8],
        };
        request.mr_address[..6].copy_from_slice(&group);
        // SAFETY: the descriptor is open; the request is as long as said and only read.
        let status = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_ADD_MEMBERSHIP,
                (&raw const request).cast(),
                size_of::<libc::packet_mreq>() as libc::socklen_t,
            )
        };
        if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// To everybody on the link.
    pub(super) fn broadcast(&self, packet: &[u8]) -> io::Result<()> {
        self.send(packet, [0xff; 6])
    }

    /// To one hardware address.
    #[expect(unsafe_code, reason = "nix cannot make a link-layer address")]
    pub(super) fn send(&self, packet: &[u8], to: [u8; 6]) -> io::Result<()> {
        let mut target = self.everybody;
        target.sll_addr[..6].copy_from_slice(&to);
        // SAFETY: the descriptor is open; the packet and the address are as long as
        // said, and the call only reads them.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                (&raw const target).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Listens until a packet is what it `is` waited for.
    #[expect(clippy::disallowed_methods, reason = "it waits for the network, in real time")]
    pub(super) fn hears(&self, wait: Duration, is: impl Fn(&[u8]) -> bool) -> io::Result<bool> {
        let until = Instant::now() + wait;
        loop {
            let left = until.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
            if left == 0 {
                return Ok(false);
            }
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            let mut descriptors = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut descriptors, timeout) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            let mut bytes = [0; LONGEST];
            match recv(self.socket.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
                Ok(length) if is(bytes.get(..length).unwrap_or_default()) => return Ok(true),
                Ok(_) | Err(nix::Error::EAGAIN | nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
