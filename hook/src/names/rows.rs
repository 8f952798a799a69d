//! Which rows of an answer stay, and which address does each get?

use crate::decide::{Session, Tables};
use std::net::Ipv6Addr;

/// A row of an answer of the system's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// `::ffff:a.b.c.d` for an IPv4 one. `None`: it is about something else.
    pub address: Option<Ipv6Addr>,
    /// Rows of different kinds say different things of one address, such as which
    /// sockets can be made for it.
    pub kind: u64,
}

/// A row that stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its number in the answer.
    pub row: usize,
    /// It gets this address, of its own family.
    pub given: Option<Ipv6Addr>,
}

/// An answer, wherever and however it lies in memory.
pub trait List {
    /// What it says.
    fn rows(&self) -> Vec<Row>;
    /// Exchanges what two rows say.
    fn swap(&mut self, one: usize, other: usize);
    /// Has a row say this address.
    fn give(&mut self, row: usize, address: Ipv6Addr);
    /// From now on it ends after so many rows.
    fn cut(&mut self, length: usize);
}

/// Leaves in a list what is to stay, in this order. The rows of `kept` ascend.
pub fn keep(list: &mut impl List, length: usize, kept: &[Kept]) {
    for (at, Kept { row, given }) in kept.iter().enumerate() {
        // What is before `at` stays where it is, and `row` was not moved yet.
        if at != *row {
            list.swap(at, *row);
        }
        if let Some(address) = given {
            list.give(at, *address);
        }
    }
    if kept.len() < length {
        list.cut(kept.len());
    }
}

/// What the host's own name stands for: the session's address of each family, once
/// for each kind of row, and nothing else. A program that asked for a family in which
/// the session has none gets the host's, but nobody else's.
pub fn of_name(rows: &[Row], session: &Session, tables: &impl Tables) -> Vec<Kept> {
    let mut said: Vec<(Ipv6Addr, u64)> = Vec::new();
    let mut kept = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let Some(own) = row.address.and_then(|address| own(session, address)) else { continue };
        if !said.contains(&(own, row.kind)) {
            said.push((own, row.kind));
            kept.push(Kept { row: number, given: Some(own) });
        }
    }
    if kept.is_empty() { without_others(rows, session, tables) } else { kept }
}

/// What a list of the host's addresses says: those of the pool's NIC become the
/// session's own, of each family in which it has one; other sessions' are not there;
/// all else is as it is.
pub fn of_host(rows: &[Row], session: &Session, tables: &impl Tables) -> Vec<Kept> {
    let becomes = |address: Ipv6Addr| {
        own(session, address).filter(|_| !is_link_local(address) && tables.on_pool_nic(address))
    };
    let mut said: Vec<(Ipv6Addr, u64)> = Vec::new();
    let (given, had): (Vec<_>, Vec<_>) = without_others(rows, session, tables)
        .into_iter()
        .filter_map(|Kept { row, .. }| {
            let Row { address, kind } = *rows.get(row)?;
            Some(match address.and_then(becomes) {
                // The first of them has all that programs look for beside the
                // address: the prefix, the lifetimes.
                Some(own) if said.contains(&(own, kind)) => return None,
                Some(own) => {
                    said.push((own, kind));
                    Kept { row, given: Some(own) }
                }
                None => Kept { row, given: None },
            })
        })
        .partition(|kept| kept.given.is_some());
    let mut kept = given;
    kept.extend(had.into_iter().filter(|kept| {
        let row = rows.get(kept.row).copied().unwrap_or_default();
        !row.address.is_some_and(|address| said.contains(&(address, row.kind)))
    }));
    kept.sort_by_key(|kept| kept.row);
    kept
}

/// All rows but those of others' addresses, and of those that nobody has now.
fn without_others(rows: &[Row], session: &Session, tables: &impl Tables) -> Vec<Kept> {
    let is_others = |address| {
        !session.holds(address)
            && !tables.on_pool_nic(address)
            && (tables.in_pool(address) || tables.holder(address).is_some())
    };
    let rows = rows.iter().enumerate();
    rows.filter(|(_, row)| !row.address.is_some_and(is_others))
        .map(|(row, _)| Kept { row, given: None })
        .collect()
}

/// The session's address of that family.
fn own(session: &Session, like: Ipv6Addr) -> Option<Ipv6Addr> {
    match like.to_ipv4_mapped() {
        Some(_) => session.ipv4.map(|address| address.to_ipv6_mapped()),
        None => session.ipv6,
    }
}

/// Of a link, not of the host: it says nothing without its interface.
fn is_link_local(address: Ipv6Addr) -> bool {
    match address.to_ipv4_mapped() {
        Some(address) => address.is_link_local(),
        None => address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::{Exclusion, Flags};
    use std::net::IpAddr;

    fn ip(text: &str) -> Ipv6Addr {
        match text.parse().unwrap() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        }
    }

    fn says(address: Ipv6Addr) -> String {
        match address.to_ipv4_mapped() {
            Some(address) => address.to_string(),
            None => address.to_string(),
        }
    }

    /// A host at 10.77.0.1 and fd77::1 on the pool's NIC, with sessions 3 and 4.
    struct Host;

    impl Tables for Host {
        fn flags(&self) -> Flags {
            Flags { enabled: true, connect: true, ..Flags::default() }
        }

        fn holder(&self, address: Ipv6Addr) -> Option<u32> {
            let held = [("10.77.0.103", 3), ("fd77::103", 3), ("10.77.0.104", 4), ("10.9.9.9", 4)];
            held.iter().find(|(text, _)| ip(text) == address).map(|(_, id)| *id)
        }

        fn in_pool(&self, address: Ipv6Addr) -> bool {
            (ip("10.77.0.101")..=ip("10.77.0.199")).contains(&address)
                || (ip("fd77::101")..=ip("fd77::199")).contains(&address)
                || address.segments()[..2] == [0xfd73, 0x6970]
        }

        fn on_pool_nic(&self, address: Ipv6Addr) -> bool {
            // The last is a host's address within the pool: it is nobody's lease.
            let own = ["10.77.0.1", "10.77.0.2", "fd77::1", "fe80::1", "10.77.0.150"];
            own.iter().any(|text| ip(text) == address)
        }

        fn on_host(&self, address: Ipv6Addr) -> bool {
            self.on_pool_nic(address) || self.holder(address).is_some()
        }

        fn leads_over_pool_nic(&self, _: Ipv6Addr) -> bool {
            true
        }

        fn excluded(&self, _: Exclusion) -> bool {
            false
        }
    }

    const BOTH: (Option<&str>, Option<&str>) = (Some("10.77.0.103"), Some("fd77::103"));

    fn session((ipv4, ipv6): (Option<&str>, Option<&str>)) -> Session {
        Session {
            id: 3,
            ipv4: ipv4.map(|text| text.parse().unwrap()),
            ipv6: ipv6.map(|text| text.parse().unwrap()),
            private_ipv6: Some(ip("fd73:6970::3")),
            loopback: Some("127.0.0.4".parse().unwrap()),
        }
    }

    /// A list in the simplest form: `ADDRESS`, `ADDRESS/KIND`, or `-`.
    struct Texts(Vec<Row>);

    impl Texts {
        fn of(text: &str) -> Self {
            let row = |word: &str| {
                let (address, kind) = word.split_once('/').unwrap_or((word, "0"));
                let address = (address != "-").then(|| ip(address));
                Row { address, kind: kind.parse().unwrap() }
            };
            Self(text.split_whitespace().map(row).collect())
        }

        fn text(&self) -> String {
            let word = |row: &Row| {
                let address = row.address.map_or("-".to_owned(), says);
                if row.kind == 0 { address } else { format!("{address}/{}", row.kind) }
            };
            self.0.iter().map(word).collect::<Vec<_>>().join(" ")
        }
    }

    impl List for Texts {
        fn rows(&self) -> Vec<Row> {
            self.0.clone()
        }

        fn swap(&mut self, one: usize, other: usize) {
            self.0.swap(one, other);
        }

        fn give(&mut self, row: usize, address: Ipv6Addr) {
            let before = self.0[row].address.unwrap();
            assert_eq!(before.to_ipv4_mapped().is_some(), address.to_ipv4_mapped().is_some());
            self.0[row].address = Some(address);
        }

        fn cut(&mut self, length: usize) {
            assert!(length < self.0.len());
            self.0.truncate(length);
        }
    }

    type Decide = fn(&[Row], &Session, &Host) -> Vec<Kept>;

    fn edited(text: &str, session: &Session, decide: Decide) -> String {
        let mut list = Texts::of(text);
        let rows = list.rows();
        keep(&mut list, rows.len(), &decide(&rows, session, &Host));
        list.text()
    }

    #[test]
    fn the_name_stands_for_the_sessions_addresses_alone() {
        let four = (BOTH.0, None);
        let six = (None, BOTH.1);
        for (session_has, system, program) in [
            (BOTH, "10.77.0.1", "10.77.0.103"),
            (BOTH, "fd77::1 10.77.0.1", "fd77::103 10.77.0.103"),
            (BOTH, "10.77.0.1 10.77.0.2 10.88.0.1 192.168.1.1", "10.77.0.103"),
            (BOTH, "fe80::1 10.77.0.104 10.77.0.103 10.77.0.1", "fd77::103 10.77.0.103"),
            (BOTH, "127.0.1.1", "10.77.0.103"),
            // One for each kind of socket.
            (BOTH, "10.77.0.1/1 10.77.0.1/2 10.77.0.2/1", "10.77.0.103/1 10.77.0.103/2"),
            // A question for both is answered with what there is.
            (four, "fd77::1 fe80::1 10.77.0.1", "10.77.0.103"),
            (six, "fd77::1 10.77.0.1", "fd77::103"),
            // One for the other family alone is the system's, without others' addresses.
            (four, "fd77::1 fd77::104 fe80::1", "fd77::1 fe80::1"),
            (six, "10.77.0.104 10.77.0.1 10.88.0.1 10.77.0.150", "10.77.0.1 10.88.0.1 10.77.0.150"),
            (six, "10.77.0.104", ""),
            (BOTH, "- 10.77.0.1", "10.77.0.103"),
            (BOTH, "", ""),
        ] {
            let session = session(session_has);
            assert_eq!(edited(system, &session, of_name), program, "{system} for {session_has:?}");
        }
    }

    #[test]
    fn the_hosts_addresses_on_the_pools_nic_become_the_sessions() {
        let four = (BOTH.0, None);
        let six = (None, BOTH.1);
        for (session_has, system, program) in [
            (BOTH, "10.77.0.1", "10.77.0.103"),
            // The session's own row gives way to the host's, which knows the subnet.
            (BOTH, "10.77.0.103 10.77.0.1", "10.77.0.103"),
            (BOTH, "10.77.0.1/24 10.77.0.103/32 10.77.0.104/32", "10.77.0.103/24 10.77.0.103/32"),
            (BOTH, "10.77.0.2 10.77.0.104 10.77.0.1 fe80::1 10.77.0.105", "10.77.0.103 fe80::1"),
            (BOTH, "fd77::1 fd77::103 fd77::104 10.77.0.1", "fd77::103 10.77.0.103"),
            // Without the host's own, its own stays.
            (BOTH, "10.77.0.104 10.77.0.103", "10.77.0.103"),
            (BOTH, "10.77.0.150", "10.77.0.103"),
            // Other cards, loopback, and what is no address.
            (BOTH, "10.88.0.1 192.168.1.1", "10.88.0.1 192.168.1.1"),
            (BOTH, "127.0.0.1 ::1 - 10.77.0.1", "127.0.0.1 ::1 - 10.77.0.103"),
            (BOTH, "::1 fd73:6970::3 fd73:6970::4", "::1 fd73:6970::3"),
            // A lease of an older pool.
            (BOTH, "10.9.9.9 10.77.0.1", "10.77.0.103"),
            // Where the session has none, the host's stays, and others' do not.
            (four, "fd77::1 fd77::104 10.77.0.1", "fd77::1 10.77.0.103"),
            (six, "fd77::1 10.77.0.104 10.77.0.1", "fd77::103 10.77.0.1"),
            (six, "10.77.0.104", ""),
            (BOTH, "", ""),
        ] {
            let session = session(session_has);
            assert_eq!(edited(system, &session, of_host), program, "{system} for {session_has:?}");
        }
    }

    #[test]
    fn what_is_edited_already_stays() {
        let session = session(BOTH);
        for (decide, text) in [
            (of_name as Decide, "fd77::103 10.77.0.103/1 10.77.0.103/2"),
            (of_host, "10.77.0.103 fe80::1 10.88.0.1 -"),
        ] {
            assert_eq!(edited(text, &session, decide), text);
        }
    }

    #[test]
    fn no_answer_ever_names_another_session() {
        // All lists of up to four of these, for each kind of session.
        let words =
            ["10.77.0.1", "10.77.0.2", "10.77.0.103", "10.77.0.104", "10.88.0.1", "fd77::104"];
        for has in [BOTH, (BOTH.0, None), (None, BOTH.1)] {
            let session = session(has);
            for number in 0..words.len().pow(4) {
                let digit = |place: u32| words[number / words.len().pow(place) % words.len()];
                let text = (0..4).map(digit).collect::<Vec<_>>().join(" ");
                for decide in [of_name as Decide, of_host] {
                    let answer = edited(&text, &session, decide);
                    assert!(!answer.contains("104"), "{text} became {answer}");
                    if session.ipv4.is_some() {
                        let mut said = answer.split(' ');
                        assert!(!said.any(|word| ["10.77.0.1", "10.77.0.2"].contains(&word)));
                    }
                }
            }
        }
    }
}
