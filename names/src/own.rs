//! Which addresses does the hook give the calling program?

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::unistd::gethostname;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// A host with more addresses has no session that looks for its name in vain.
const MOST: usize = 256;

/// The session's addresses, IPv4 first; none where the program is not virtualised.
pub(crate) fn addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = getifaddrs() else { return Vec::new() };
    // On the loopback interface are sessions' private addresses.
    let cards = interfaces.filter(|it| !it.flags.contains(InterfaceFlags::IFF_LOOPBACK));
    let local = cards.filter_map(|interface| {
        let address = interface.address?;
        let ipv4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
        ipv4.or_else(|| address.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip())))
    });
    let local: BTreeSet<IpAddr> = local.take(MOST).collect();
    let given = local.iter().filter(|it| is_a_hosts(it)).filter_map(|it| given_for(*it));
    given.collect::<BTreeSet<_>>().into_iter().collect()
}

/// What this machine is called: `None` for a name that is not UTF-8.
pub(crate) fn name() -> Option<String> {
    gethostname().ok()?.into_string().ok().filter(|name| !name.is_empty())
}

/// Is that this machine's name? Also without its domain, and in any case (RFC 4343).
pub(crate) fn is_called(own: &str, asked: &str) -> bool {
    let alone = own.split('.').next().unwrap_or(own);
    [own, alone].iter().any(|name| name.eq_ignore_ascii_case(asked))
}

/// Link-local addresses would take an interface with them.
fn is_a_hosts(address: &IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !link_local
}

/// The address that a bind to `address` gets, if it is another one.
fn given_for(address: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(SocketAddr::new(address, 0)).ok()?;
    let given = socket.local_addr().ok()?.ip();
    (given != address).then_some(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_its_name_with_and_without_the_domain() {
        for (own, asked, is_it) in [
            ("ts1", "ts1", true),
            ("ts1", "TS1", true),
            ("ts1.example.org", "ts1", true),
            ("ts1.example.org", "ts1.Example.org", true),
            ("ts1", "ts1.example.org", false),
            ("ts1", "ts", false),
            ("ts1.example.org", "example.org", false),
            ("ts1", "localhost", false),
            ("ts1", "", false),
        ] {
            assert_eq!(is_called(own, asked), is_it, "{asked} at {own}");
        }
    }

    #[test]
    fn outside_sessions_a_bind_gets_what_it_asks_for() {
        assert_eq!(addresses(), Vec::<IpAddr>::new());
    }
}
