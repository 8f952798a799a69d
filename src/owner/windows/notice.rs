//! What does an event of the driver say?

use super::clock::Clock;
use crate::owner::table::{Event, What};
use crate::packet::{Endpoint, Protocol};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use windivert_sys::WinDivertEvent;
use windivert_sys::address::WINDIVERT_ADDRESS;

/// `WINDIVERT_ADDRESS` as the socket layer fills it (windivert.h). Plain numbers:
/// whatever the driver writes is one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Notice {
    timestamp: i64,
    layer: u8,
    event: u8,
    flags: u8,
    _reserved: [u8; 5],
    endpoint: u64,
    parent: u64,
    pid: u32,
    local: [u32; 4],
    remote: [u32; 4],
    local_port: u16,
    remote_port: u16,
    protocol: u8,
    _unused: [u8; 7],
}

const _: () = assert!(size_of::<Notice>() == size_of::<WINDIVERT_ADDRESS>());
const _: () = assert!(align_of::<Notice>() == align_of::<WINDIVERT_ADDRESS>());

/// Which of [`Notice::flags`] says IPv6.
const IPV6: u8 = 1 << 4;

impl Notice {
    /// `None`: neither TCP nor UDP, or nothing that is known.
    pub(crate) fn event(&self, clock: &Clock) -> Option<Event> {
        const BIND: u8 = WinDivertEvent::SocketBind as u8;
        const CONNECT: u8 = WinDivertEvent::SocketConnect as u8;
        const LISTEN: u8 = WinDivertEvent::SocketListen as u8;
        const ACCEPT: u8 = WinDivertEvent::SocketAccept as u8;
        const CLOSE: u8 = WinDivertEvent::SocketClose as u8;
        const TCP: u8 = Protocol::Tcp as u8;
        const UDP: u8 = Protocol::Udp as u8;
        let what = match self.event {
            BIND => What::Bind,
            CONNECT => What::Connect,
            LISTEN => What::Listen,
            ACCEPT => What::Accept,
            CLOSE => What::Close,
            _ => return None,
        };
        let protocol = match self.protocol {
            TCP => Protocol::Tcp,
            UDP => Protocol::Udp,
            _ => return None,
        };
        // The end of a socket without a peer has zeros there.
        let remote = (self.remote_port != 0).then(|| self.end(self.remote, self.remote_port));
        Some(Event {
            what,
            at: clock.of_count(self.timestamp),
            protocol,
            local: self.end(self.local, self.local_port),
            remote,
            endpoint: self.endpoint,
            parent: self.parent,
            pid: self.pid,
        })
    }

    /// Words in host order, the last the highest; IPv4 as `::ffff:0:0/96`, but for
    /// the wildcard, which has all zeros.
    fn end(&self, [lowest, low, high, highest]: [u32; 4], port: u16) -> Endpoint {
        let upper = u128::from(highest) << 32 | u128::from(high);
        let lower = u128::from(low) << 32 | u128::from(lowest);
        let address = match upper << 64 | lower {
            0 if self.flags & IPV6 == 0 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            bits => IpAddr::V6(Ipv6Addr::from_bits(bits)).to_canonical(),
        };
        Endpoint::new(address, port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owner::table::Moment;

    fn connect() -> Notice {
        Notice {
            event: 4,
            endpoint: 9,
            pid: 77,
            local: [0x0a4d_0001, 0xffff, 0, 0],
            remote: [0x0a4d_0002, 0xffff, 0, 0],
            local_port: 50_000,
            remote_port: 443,
            protocol: 6,
            ..Notice::default()
        }
    }

    #[test]
    fn a_connect_has_both_ends() {
        let event = connect().event(&Clock::new()).unwrap();
        assert_eq!((event.what, event.protocol), (What::Connect, Protocol::Tcp));
        assert_eq!(event.local.to_string(), "10.77.0.1:50000");
        assert_eq!(event.remote.unwrap().to_string(), "10.77.0.2:443");
        assert_eq!((event.endpoint, event.pid, event.at), (9, 77, Moment(0)));
    }

    #[test]
    fn the_wildcards_are_told_apart_by_a_flag() {
        let bind = Notice { event: 3, local: [0; 4], remote_port: 0, ..connect() };
        let local = |notice: Notice| notice.event(&Clock::new()).unwrap().local.to_string();
        assert_eq!(local(bind), "0.0.0.0:50000");
        assert_eq!(local(Notice { flags: IPV6, ..bind }), "[::]:50000");
        let address = [4, 3, 2, 0xfd77_0001];
        assert_eq!(
            local(Notice { flags: IPV6, local: address, ..bind }),
            "[fd77:1:0:2:0:3:0:4]:50000"
        );
        assert_eq!(bind.event(&Clock::new()).unwrap().remote, None);
    }

    #[test]
    fn what_is_not_known_says_nothing() {
        let clock = Clock::new();
        for unknown in [0, 1, 2, 8, 9, 255] {
            assert!(Notice { event: unknown, ..connect() }.event(&clock).is_none());
        }
        assert!(Notice { protocol: 1, ..connect() }.event(&clock).is_none());
    }
}
