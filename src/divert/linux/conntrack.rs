//! How does the kernel forget conversations that are over?
//!
//! Conntrack knows a conversation by its inside addresses, and by its mark whether
//! it was translated. What it keeps of a session that has ended would hold for whoever
//! uses the same endpoints next: of UDP for minutes, of TCP for days.

use crate::address::netlink::Netlink;
use crate::flow::Pair;
use crate::packet::Protocol;
use netlink_packet_core::{DefaultNla, Emitable as _};
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol as Layer4, Tuple,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use netlink_sys::protocols::NETLINK_NETFILTER;
use std::io;
use std::net::IpAddr;

/// `IPCTNL_MSG_CT_GET`, `CTA_TUPLE_ORIG`, `CTA_FILTER`, and in that
/// `CTA_FILTER_ORIG_FLAGS` (linux/netfilter/nfnetlink_conntrack.h).
const GET: u8 = 1;
const ORIGINAL: u16 = 1;
const FILTER: u16 = 25;
const ORIGINAL_FLAGS: u16 = 1;
/// `NLA_F_NESTED`.
const NESTED: u16 = 1 << 15;
/// `CTA_FILTER_F_CTA_IP_SRC` and `CTA_FILTER_F_CTA_IP_DST`
/// (net/netfilter/nf_internals.h).
const BY_SOURCE: u32 = 1;
const BY_DESTINATION: u32 = 2;

/// Forgets what has one of these addresses, and these conversations, each by its
/// inside ends. Returns how many there were.
///
/// # Errors
/// The kernel does not list them (`nf_conntrack_netlink`), or kept one: the others are
/// forgotten all the same.
pub(super) fn forget(
    addresses: &[IpAddr],
    conversations: &[(Protocol, Pair)],
) -> io::Result<usize> {
    let mut netlink = Netlink::speaking(NETLINK_NETFILTER)?;
    let mut outcomes = Vec::new();
    for address in addresses {
        match with(&mut netlink, *address) {
            Ok(tuples) => {
                let deleted = tuples.into_iter().map(|it| delete(&mut netlink, *address, it));
                outcomes.extend(deleted);
            }
            Err(error) => outcomes.push(Err(error)),
        }
    }
    for (protocol, Pair { local, remote }) in conversations {
        let number = match protocol {
            Protocol::Tcp => Layer4::Tcp,
            Protocol::Udp => Layer4::Udp,
            // What is known of a ping lasts for seconds.
            Protocol::Icmp => continue,
        };
        let ends = vec![
            IPTuple::SourceAddress(local.address),
            IPTuple::DestinationAddress(remote.address),
        ];
        let ports = vec![
            ProtoTuple::Protocol(number),
            ProtoTuple::SourcePort(local.port),
            ProtoTuple::DestinationPort(remote.port),
        ];
        let tuple = vec![Tuple::Ip(ends), Tuple::Proto(ports)];
        outcomes.push(delete(&mut netlink, local.address, tuple));
    }
    outcomes.into_iter().try_fold(0, |sum, outcome| Ok(sum + usize::from(outcome?)))
}

/// What began from, or went to, that address. Of IPv4 the kernel sends these alone;
/// before Linux 5.8 it sends all, and of IPv6 it is asked for all, for its filter
/// takes that the wrong way round (seen with 6.18). Here they are picked.
fn with(netlink: &mut Netlink<NetfilterMessage>, address: IpAddr) -> io::Result<Vec<Vec<Tuple>>> {
    let ends = [IPTuple::SourceAddress(address), IPTuple::DestinationAddress(address)];
    let questions = match address {
        IpAddr::V4(_) => vec![like(&ends[0], BY_SOURCE), like(&ends[1], BY_DESTINATION)],
        IpAddr::V6(_) => vec![ConntrackMessage::Get(Vec::new())],
    };
    let mut tuples = Vec::new();
    for question in questions {
        tuples.extend(netlink.pick(&message(address, question), |listed| {
            original(listed).filter(|tuple| ends.iter().any(|end| has(tuple, end)))
        })?);
    }
    Ok(tuples)
}

/// Asks for what began with this end. In the crate's own form a filter would lose
/// its flag.
fn like(end: &IPTuple, flags: u32) -> ConntrackMessage {
    let [a, b, c, d] = flags.to_ne_bytes();
    let [e, f] = 8_u16.to_ne_bytes();
    let [g, h] = ORIGINAL_FLAGS.to_ne_bytes();
    let filter = DefaultNla::new(FILTER | NESTED, vec![e, f, g, h, a, b, c, d]);
    let tuple = Tuple::Ip(vec![end.clone()]);
    let mut bytes = vec![0; tuple.buffer_len()];
    tuple.emit(&mut bytes);
    let attributes = vec![DefaultNla::new(ORIGINAL | NESTED, bytes), filter];
    ConntrackMessage::Other { message_type: GET, attributes }
}

/// Between which ends a conversation began.
fn original(listed: NetfilterMessage) -> Option<Vec<Tuple>> {
    let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = listed.inner else {
        return None;
    };
    attributes.into_iter().find_map(|attribute| {
        if let ConntrackAttribute::CtaTupleOrig(tuple) = attribute { Some(tuple) } else { None }
    })
}

fn has(tuple: &[Tuple], wanted: &IPTuple) -> bool {
    tuple.iter().any(|part| matches!(part, Tuple::Ip(ends) if ends.contains(wanted)))
}

/// Whichever way it began: the kernel finds it by either. `false`: there was none.
fn delete(
    netlink: &mut Netlink<NetfilterMessage>,
    of: IpAddr,
    tuple: Vec<Tuple>,
) -> io::Result<bool> {
    let delete = ConntrackMessage::Delete(vec![ConntrackAttribute::CtaTupleOrig(tuple)]);
    match netlink.change(message(of, delete), 0) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

fn message(of: IpAddr, message: ConntrackMessage) -> NetfilterMessage {
    let family = match of {
        IpAddr::V4(_) => NetfilterProtoFamily::IPv4,
        IpAddr::V6(_) => NetfilterProtoFamily::IPv6,
    };
    NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message)
}
