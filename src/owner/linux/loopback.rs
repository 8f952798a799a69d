//! Does the host itself use a loopback address that a session would have?

use super::diag::SockDiag;
use crate::session::Sessions;
use crate::session::linux::Scopes;
use std::net::Ipv4Addr;
use std::{fs, io};

/// Names of hosts without DNS, hosts(5).
const HOSTS: &str = "/etc/hosts";

/// Says whether a socket of no session is bound to `address`, or a name stands
/// for it: 127.0.0.53 is systemd-resolved's, 127.0.1.1 Debian's own name. What
/// another session bound there before is only in that port's way.
///
/// # Errors
/// The kernel did not answer.
pub fn host_uses(address: Ipv4Addr, sessions: &Sessions) -> io::Result<bool> {
    let hosts = fs::read_to_string(HOSTS).unwrap_or_default();
    Ok(names(&hosts, address) || is_bound(address, &sessions.scopes)?)
}

fn is_bound(address: Ipv4Addr, scopes: &Scopes) -> io::Result<bool> {
    let sockets = SockDiag::open()?.bound_to(address.into())?;
    // What is left of a connection is in no cgroup (TIME_WAIT, listed as FIN_WAIT2
    // at first), nor is one that nobody has accepted yet: they end by themselves.
    let mut lasting = sockets.iter().filter(|(_, socket)| socket.cgroup != 0);
    Ok(lasting.any(|(_, socket)| scopes.session_of(socket.cgroup).is_none()))
}

fn names(hosts: &str, address: Ipv4Addr) -> bool {
    let addresses = hosts.lines().filter_map(|line| line.split_whitespace().next());
    addresses.filter_map(|text| text.parse::<Ipv4Addr>().ok()).any(|named| named == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_line_that_begins_with_the_address() {
        let hosts = "# 127.0.0.9 old\n127.0.0.1\tlocalhost\n 127.0.1.1 host host.lan\n\
                     ::1 localhost\n10.0.0.7 other # 127.0.0.8\n127.0.0.300 wrong\n";
        for (last, named) in [([0, 9], false), ([1, 1], true), ([0, 8], false), ([0, 2], false)] {
            let [third, fourth] = last;
            let address = Ipv4Addr::new(127, 0, third, fourth);
            assert_eq!(names(hosts, address), named, "{address}");
        }
    }
}
