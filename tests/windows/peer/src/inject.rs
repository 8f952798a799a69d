//! How does a packet leave that the kernel never queued?
//!
//! By a raw socket. The kernel routes it anew, as Windows does with injected
//! packets, and its mark keeps it out of the queues.

use crate::rules::INJECTED;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, sendto,
    setsockopt, socket, sockopt,
};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

/// The raw sockets of both families.
#[derive(Debug)]
pub(crate) struct Injector {
    v4: OwnedFd,
    v6: OwnedFd,
}

impl Injector {
    /// Opens them.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self { v4: raw(AddressFamily::Inet)?, v6: raw(AddressFamily::Inet6)? })
    }

    /// Sends a whole packet to where its header says.
    pub(crate) fn send(&self, packet: &[u8]) -> Result<(), Errno> {
        let cut = Errno::EINVAL;
        if packet.first().ok_or(cut)? >> 4 == 4 {
            let to: [u8; 4] = packet.get(16..20).and_then(|to| to.try_into().ok()).ok_or(cut)?;
            let to = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::from(to), 0));
            return sendto(self.v4.as_raw_fd(), packet, &to, MsgFlags::empty()).map(drop);
        }
        let to: [u8; 16] = packet.get(24..40).and_then(|to| to.try_into().ok()).ok_or(cut)?;
        let to = SockaddrIn6::from(SocketAddrV6::new(Ipv6Addr::from(to), 0, 0, 0));
        sendto(self.v6.as_raw_fd(), packet, &to, MsgFlags::empty()).map(drop)
    }
}

/// `IPPROTO_RAW` (raw(7)): packets come with their headers.
fn raw(family: AddressFamily) -> io::Result<OwnedFd> {
    let made = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)?;
    setsockopt(&made, sockopt::Mark, &INJECTED)?;
    Ok(made)
}
