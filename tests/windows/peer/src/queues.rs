//! How are packets taken from the kernel, and how is it told what to do?

use crate::netlink::{self, Fate, Message, Packet, Reply};
use crate::rules::{INBOUND, OUTBOUND};
use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, NetlinkAddr, recv, sendto, setsockopt, sockopt};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// How many packets may wait in a queue: more than any handle's queue holds.
const LONGEST: u32 = 65535;
const SOCKET_BUFFER: usize = 64 << 20;

/// Both queues, ours until this is dropped.
#[derive(Debug)]
pub(crate) struct Queues {
    socket: Socket,
    message: Vec<u8>,
    reply: Vec<u8>,
}

impl Queues {
    /// Claims them. Whole packets in the size of the wire, with their checksums
    /// complete: what is left to a NIC is the driver's to pretend.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        setsockopt(&socket, sockopt::RcvBufForce, &SOCKET_BUFFER)?;
        setsockopt(&socket, sockopt::SndBufForce, &SOCKET_BUFFER)?;
        socket.set_no_enobufs(true)?;
        let mut queues = Self { socket, message: vec![0; 1 << 17], reply: Vec::new() };
        for queue in [OUTBOUND, INBOUND] {
            queues.reply.clear();
            netlink::claim(&mut queues.reply, queue);
            queues.ask(queue)?;
            queues.reply.clear();
            netlink::configure(&mut queues.reply, queue, LONGEST, false);
            queues.ask(queue)?;
        }
        Ok(queues)
    }

    /// Sends `reply` and waits for consent. There are no rules yet, so no packets.
    fn ask(&mut self, queue: u16) -> io::Result<()> {
        self.send()?;
        let refused =
            |errno: Errno| io::Error::other(format!("NFQUEUE {queue} cannot be had here: {errno}"));
        loop {
            let length = recv(self.socket.as_raw_fd(), &mut self.message, MsgFlags::empty())?;
            match netlink::parse(self.message.get(..length).unwrap_or_default()) {
                Message::Answer(0) => return Ok(()),
                Message::Answer(errno) => return Err(refused(Errno::from_raw(errno))),
                Message::Packet(_) | Message::Other => {}
            }
        }
    }

    fn send(&self) -> Result<(), Errno> {
        sendto(self.socket.as_raw_fd(), &self.reply, &NetlinkAddr::new(0, 0), MsgFlags::empty())
            .map(drop)
    }

    /// The next packet and its bytes, if there is one.
    pub(crate) fn receive(&mut self) -> Option<(Packet, &[u8])> {
        loop {
            let length =
                match recv(self.socket.as_raw_fd(), &mut self.message, MsgFlags::MSG_DONTWAIT) {
                    Ok(length) => length,
                    Err(Errno::EINTR) => continue,
                    Err(_) => return None,
                };
            let message = netlink::parse(self.message.get(..length)?);
            if let Message::Packet(packet) = message {
                let payload = self.message.get(packet.payload.clone())?;
                return Some((packet, payload));
            }
        }
    }

    /// Lets a packet pass, with other bytes if there are any.
    pub(crate) fn accept(&mut self, queue: u16, id: u32, bytes: Option<&[u8]>) {
        self.answer(Reply { queue, id, fate: Fate::Accept, mark: None }, bytes);
    }

    /// Ends a packet.
    pub(crate) fn drop_packet(&mut self, queue: u16, id: u32) {
        self.answer(Reply { queue, id, fate: Fate::Drop, mark: None }, None);
    }

    fn answer(&mut self, reply: Reply, bytes: Option<&[u8]>) {
        self.reply.clear();
        netlink::reply(&mut self.reply, reply, bytes);
        if let Err(errno) = self.send() {
            crate::say(&format!("a verdict was refused: {errno}"));
        }
    }
}

impl AsFd for Queues {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
