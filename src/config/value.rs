//! What does one value of the file mean? Each kind of text has its parser here;
//! what is refused says why and what to write instead.

use super::{Exclusion, ProgramPattern};
use crate::packet::Protocol;
use ipnet::IpNet;
use jiff::SignedDuration;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use thiserror::Error;

/// Why a value was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct Refused {
    /// What is wrong with it.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

fn refused<T>(message: impl Into<String>, help: impl Into<String>) -> Result<T, Refused> {
    Err(Refused { message: message.into(), help: help.into() })
}

/// `first-last` or a prefix: addresses that one NIC may have.
pub(super) fn range(text: &str) -> Result<RangeInclusive<IpAddr>, Refused> {
    let range = match (text.split_once('-'), text.contains('/')) {
        (Some((first, last)), _) => first_to_last(first.trim(), last.trim())?,
        (None, true) => prefix(text)?,
        (None, false) => {
            let address = address(text)?;
            let help = format!("a single address is {address}-{address}");
            return refused(format!("{text:?} is no range"), help);
        }
    };
    match UNUSABLE.iter().find(|(net, _)| overlap(&range, &net_range(*net))) {
        Some((net, what)) => refused(
            format!("{text:?} holds addresses of {net}, which {what}"),
            "take addresses of the network card's own subnet",
        ),
        None => Ok(range),
    }
}

fn first_to_last(first: &str, last: &str) -> Result<RangeInclusive<IpAddr>, Refused> {
    let (first, last) = (address(first)?, address(last)?);
    if first.is_ipv4() != last.is_ipv4() {
        let message = format!("{first} and {last} are not of one family");
        return refused(message, "write an IPv4 range and an IPv6 range, each on its own");
    }
    if first > last {
        return refused(
            format!("{first} comes after {last}"),
            format!("write the lower address first: \"{last}-{first}\""),
        );
    }
    Ok(first..=last)
}

fn prefix(text: &str) -> Result<RangeInclusive<IpAddr>, Refused> {
    let Ok(net) = text.parse::<IpNet>() else {
        let message = format!("{text:?} is no prefix");
        return refused(message, "write an address, a slash and a length: \"10.77.0.128/25\"");
    };
    if net.addr() != net.network() {
        return refused(
            format!("{} is inside {}, not at its start", net.addr(), net.trunc()),
            format!(
                "write \"{}\", or \"{}-{}\" to begin there",
                net.trunc(),
                net.addr(),
                net.broadcast()
            ),
        );
    }
    Ok(net_range(net))
}

fn address(text: &str) -> Result<IpAddr, Refused> {
    text.parse().or_else(|_| {
        let help = "write first-last, such as \"10.77.0.101-10.77.0.199\", or a prefix";
        refused(format!("{text:?} is no IP address"), help)
    })
}

/// What no network card can have as its own unicast address, and why.
const UNUSABLE: [(IpNet, &str); 11] = [
    (v4([0, 0, 0, 0], 8), "means \"this network\" (RFC 1122)"),
    (v4([127, 0, 0, 0], 8), "is loopback"),
    (v4([169, 254, 0, 0], 16), "is link-local"),
    (v4([224, 0, 0, 0], 4), "is multicast"),
    (v4([240, 0, 0, 0], 4), "is reserved (RFC 1112)"),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), "is unspecified"),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), "is loopback"),
    (v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96), "is IPv4 written as IPv6"),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "is link-local"),
    (
        v6([0xfd73, 0x6970, 0, 0, 0, 0, 0, 0], 64),
        "sessions without an IPv6 address have within the host",
    ),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "is multicast"),
];

const fn v4(octets: [u8; 4], length: u8) -> IpNet {
    let [a, b, c, d] = octets;
    IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), length)
}

const fn v6(words: [u16; 8], length: u8) -> IpNet {
    let [a, b, c, d, e, f, g, h] = words;
    IpNet::new_assert(IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h)), length)
}

/// First to last address of a prefix, network and broadcast included.
pub(super) fn net_range(net: IpNet) -> RangeInclusive<IpAddr> {
    net.network()..=net.broadcast()
}

/// Whether two ranges share an address; those of two families never do,
/// because every IPv4 address sorts before every IPv6 one.
pub(super) fn overlap(a: &RangeInclusive<IpAddr>, b: &RangeInclusive<IpAddr>) -> bool {
    a.start() <= b.end() && b.start() <= a.end()
}

/// How many addresses a range has.
pub(crate) fn length(range: &RangeInclusive<IpAddr>) -> u128 {
    let number = |address: &IpAddr| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    number(range.end()).saturating_sub(number(range.start())).saturating_add(1)
}

/// A span of time such as `4m`, `10ms` or `1h30m`, of at most `longest`.
pub(super) fn duration(text: &str, longest: Duration) -> Result<Duration, Refused> {
    let help = "write a number and its unit, such as \"10ms\", \"90s\", \"4m\" or \"1h30m\"";
    let Ok(signed) = text.parse::<SignedDuration>() else {
        return refused(format!("{text:?} is no span of time"), help);
    };
    match Duration::try_from(signed) {
        Ok(duration) if duration <= longest => Ok(duration),
        Ok(_) => {
            let longest = SignedDuration::try_from(longest).unwrap_or(SignedDuration::MAX);
            refused(format!("{text:?} is too long"), format!("at most {longest:#}"))
        }
        Err(_) => refused(format!("{text:?} lies in the past"), help),
    }
}

/// A path that does not depend on the folder the daemon was started in.
pub(super) fn full_path(text: &str) -> Result<PathBuf, Refused> {
    if !is_full(text) || text.contains('\0') {
        let help = "write it from the root of the file system on: \"/var/...\"";
        return refused(format!("{text:?} is no full path"), help);
    }
    Ok(text.into())
}

fn is_full(path: &str) -> bool {
    let drive = matches!(path.as_bytes(), [b'a'..=b'z' | b'A'..=b'Z', b':', b'\\' | b'/', ..]);
    drive || path.starts_with('/') || path.starts_with(r"\\")
}

/// Where something listens.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, Refused> {
    text.parse().or_else(|_| {
        refused(
            format!("{text:?} is no address with a port"),
            "write digits, such as \"127.0.0.1:9477\" or \"[::1]:9477\"; \"\" turns it off",
        )
    })
}

/// `PROTO/PORT`.
pub(super) fn port(text: &str) -> Result<(Protocol, u16), Refused> {
    let help = "write PROTO/PORT, such as \"tcp/3389\" or \"udp/5353\"";
    let Some((protocol, port)) = text.split_once('/') else {
        return refused(format!("{text:?} is no port of a protocol"), help);
    };
    let Some(protocol) = [Protocol::Tcp, Protocol::Udp].into_iter().find(|p| p.word() == protocol)
    else {
        return refused(format!("{protocol:?} is neither tcp nor udp"), help);
    };
    match port.parse() {
        Ok(port) if port != 0 => Ok((protocol, port)),
        Ok(_) | Err(_) => refused(format!("{port:?} is no port"), "ports are 1 to 65535"),
    }
}

impl FromStr for ProgramPattern {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        /// What the hook's table has room for.
        const LONGEST_NAME: usize = 63;
        let full_or_name = "write a full path, or the file name alone";
        match text {
            "*" => Ok(Self::All),
            "" | "." | ".." => refused(format!("{text:?} names no program"), full_or_name),
            _ if text.contains('\0') => refused("a path cannot hold a zero byte", full_or_name),
            _ if text.contains('*') => refused(
                format!("{text:?}: * stands for all programs, not for a part of a name"),
                "list the programs one by one, or write \"*\" alone",
            ),
            _ if is_full(text) && text.ends_with(['/', '\\']) => {
                refused(format!("{text:?} is a folder"), "list the programs in it one by one")
            }
            _ if is_full(text) => Ok(Self::Path(text.into())),
            _ if text.contains(['/', '\\']) => {
                refused(format!("{text:?} is no full path and no file name"), full_or_name)
            }
            _ if text.len() > LONGEST_NAME => refused(
                format!("a file name of {} bytes; {LONGEST_NAME} is the most", text.len()),
                "write the full path",
            ),
            _ => Ok(Self::Name(text.into())),
        }
    }
}

impl FromStr for Exclusion {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        // From the right: a Windows path has a colon of its own.
        let (program, port_text) = match text.rsplit_once(':') {
            Some((program, port)) => (Some(program.parse()?), port),
            None => (None, text),
        };
        if program == Some(ProgramPattern::All) {
            let help = format!("write \"{port_text}\": without a program it holds for all");
            return refused(format!("{text:?} excludes a port for \"*\""), help);
        }
        let (protocol, port) = port(port_text)?;
        Ok(Self { program, protocol, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message<T: std::fmt::Debug>(result: Result<T, Refused>) -> String {
        result.unwrap_err().message
    }

    #[test]
    fn a_prefix_is_its_first_to_its_last_address() {
        let range = range("10.77.0.128/25").unwrap();
        assert_eq!(range, "10.77.0.128".parse().unwrap()..="10.77.0.255".parse().unwrap());
        assert_eq!(length(&range), 128);
        assert_eq!(length(&net_range("::/0".parse().unwrap())), u128::MAX);
    }

    #[test]
    fn no_range_reaches_into_addresses_that_a_card_cannot_have() {
        for text in ["0.0.0.0/0", "126.255.255.255-128.0.0.0", "::/0", "255.255.255.255/32"] {
            assert!(message(range(text)).contains("which"), "{text}");
        }
        assert!(range("fd77::100-fd77::1ff").is_ok());
    }

    #[test]
    fn spans_of_time_need_a_unit_a_limit_and_a_future() {
        let hour = Duration::from_secs(3600);
        assert_eq!(duration("4m", hour), Ok(Duration::from_secs(240)));
        assert_eq!(duration("10ms", hour), Ok(Duration::from_millis(10)));
        assert_eq!(duration("0s", hour), Ok(Duration::ZERO));
        assert_eq!(duration("1h", hour), Ok(hour));
        assert_eq!(message(duration("1h30m", hour)), "\"1h30m\" is too long");
        assert_eq!(message(duration("4", hour)), "\"4\" is no span of time");
        assert_eq!(message(duration("-4m", hour)), "\"-4m\" lies in the past");
    }

    #[test]
    fn patterns_are_all_a_full_path_or_a_bare_name() {
        assert_eq!("*".parse(), Ok(ProgramPattern::All));
        assert_eq!("sshd".parse(), Ok(ProgramPattern::Name("sshd".into())));
        for path in ["/usr/bin/iperf3", r"C:\App\app.exe", r"\\server\share\app.exe"] {
            assert_eq!(path.parse(), Ok(ProgramPattern::Path(path.into())));
        }
        for wrong in ["", "..", "bin/iperf3", r"bin\app.exe", "iperf*", "/usr/bin/", "a\0b"] {
            assert!(wrong.parse::<ProgramPattern>().is_err(), "{wrong:?}");
        }
        assert!("x".repeat(63).parse::<ProgramPattern>().is_ok());
        assert!("x".repeat(64).parse::<ProgramPattern>().is_err());
    }

    #[test]
    fn exclusions_name_a_port_and_perhaps_a_program() {
        let exclusion = |text: &str| text.parse::<Exclusion>();
        let expected = Exclusion {
            program: Some(ProgramPattern::Path(r"C:\app.exe".into())),
            protocol: Protocol::Udp,
            port: 67,
        };
        assert_eq!(exclusion(r"C:\app.exe:udp/67"), Ok(expected));
        assert_eq!(exclusion("tcp/80").unwrap().program, None);
        for wrong in ["*:udp/67", "udp", "udp/0", "udp/65536", "sctp/80", "bin/x:udp/67", ""] {
            assert!(exclusion(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn a_range_means_what_it_says(a: u32, b: u32) {
            let (first, last) = (Ipv4Addr::from(a.min(b)), Ipv4Addr::from(a.max(b)));
            match range(&format!("{first}-{last}")) {
                Ok(read) => prop_assert_eq!(read, IpAddr::V4(first)..=IpAddr::V4(last)),
                Err(refused) => prop_assert!(refused.message.contains("holds addresses of")),
            }
        }

        #[test]
        fn any_text_is_read_or_refused_with_help(text in ".{0,40}|[0-9a-f:./*-]{0,40}") {
            let refusals = [
                range(&text).err(),
                duration(&text, Duration::MAX).err(),
                full_path(&text).err(),
                socket_address(&text).err(),
                port(&text).err(),
                text.parse::<ProgramPattern>().err(),
                text.parse::<Exclusion>().err(),
            ];
            for refused in refusals.into_iter().flatten() {
                prop_assert!(!refused.help.is_empty() && !refused.message.is_empty());
            }
        }
    }
}
