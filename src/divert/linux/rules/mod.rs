//! Which packets are led into the queues?
//!
//! iptables rules in chains of our own. Each is jumped to from a built-in chain,
//! after whatever others put there; all of them come and go at once, table by
//! table (`iptables-restore --noflush`), and nothing of others is touched.
//!
//! On its way in a packet is taken before conntrack sees it (raw PREROUTING),
//! on its way out after (mangle OUTPUT): conntrack knows flows by their inside
//! addresses only. The conntrack mark [`TRANSLATED`](super::TRANSLATED) says which
//! flows are translated; so the packets that no socket sends (SYN-ACKs, resets, ICMP
//! errors) are found too, and a flow goes on translated after a restart. With pings
//! it is the other way round.
//!
//! IPv6 has tables of its own, with the same chains, and shares the queues.

mod iptables;
mod lines;
mod pings;
mod saved;
mod stored;

pub use iptables::RulesError;
pub use stored::stored;

use crate::lease::Family;
use lines::{mangle, raw};
use saved::Saved;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The packets to lead into the queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSet {
    /// The first of the seven queues.
    pub base_queue: u16,
    /// First and last of each range of virtual addresses.
    pub pool: Vec<(IpAddr, IpAddr)>,
    /// The folders that hold the sessions' cgroups, relative to the root of the
    /// cgroup2 tree, like `user.slice`. They have to exist, and to be the same
    /// folders for as long as the rules are there.
    pub scope_parents: Vec<String>,
    /// The folder with the pinned programs for pings; without it they are left
    /// alone.
    pub ping_programs: Option<PathBuf>,
    /// Packets of IPv6 too: see [`ipv6`].
    pub ipv6: bool,
}

impl RuleSet {
    fn families(&self) -> impl Iterator<Item = Family> + use<> {
        let ipv6 = self.ipv6;
        Family::ALL.into_iter().filter(move |family| ipv6 || *family == Family::Ipv4)
    }
}

/// How many packets met our rules since they were installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packets {
    /// Sent by programs of sessions, or of translated flows.
    pub session: u64,
    /// That came in for an address of the pool.
    pub pool: u64,
}

/// The chains of ours begin with this, whatever version made them.
const PREFIX: &str = "SESSIONIP-";
const IN: &str = "SESSIONIP-IN";
const OUT: &str = "SESSIONIP-OUT";
const SAVE: &str = "SESSIONIP-SAVE";
const PING: &str = "SESSIONIP-PING";
const ASK: &str = "SESSIONIP-ASK";
const ANSWER: &str = "SESSIONIP-ANSWER";

/// The tables that our chains are in.
const TABLES: [Table; 2] = [
    Table { name: "raw", chains: &[IN, PING, ASK], rules: raw },
    Table { name: "mangle", chains: &[OUT, SAVE, ANSWER], rules: mangle },
];

struct Table {
    name: &'static str,
    chains: &'static [&'static str],
    rules: fn(&RuleSet, Family) -> Vec<String>,
}

/// Has this network namespace IPv6, and can its packets be led anywhere?
///
/// # Errors
/// It has, and they cannot.
pub fn ipv6() -> Result<bool, RulesError> {
    if !Path::new(IPV6).exists() {
        return Ok(false);
    }
    TABLES.iter().try_for_each(|table| Saved::read(Family::Ipv6, table.name).map(drop))?;
    Ok(true)
}

/// Where the kernel lists IPv6 addresses, if it has any such thing.
const IPV6: &str = "/proc/thread-self/net/if_inet6";

/// Puts the rules in place of those that are there of ours, as of a daemon that
/// crashed. In between, no packet finds neither.
///
/// # Errors
/// iptables is missing or locked, the caller is not root, or the kernel refuses
/// a rule. Each table is as it was, or as it should be.
pub fn install(rules: &RuleSet) -> Result<(), RulesError> {
    for family in rules.families() {
        let mut script = String::new();
        for table in &TABLES {
            let saved = Saved::read(family, table.name)?;
            script += &replacement(table, &saved, Some((rules, family)));
        }
        iptables::restore(family, &script)?;
    }
    Ok(())
}

/// Removes every rule and chain of ours, whoever made it.
///
/// # Errors
/// As [`install`].
pub fn remove() -> Result<(), RulesError> {
    for family in Family::ALL {
        match remove_of(family) {
            // Then there is nothing of ours either.
            Err(_) if family == Family::Ipv6 && !matches!(ipv6(), Ok(true)) => {}
            done => done?,
        }
    }
    Ok(())
}

fn remove_of(family: Family) -> Result<(), RulesError> {
    let mut script = String::new();
    for table in &TABLES {
        let saved = Saved::read(family, table.name)?;
        if !saved.is_empty() {
            script += &replacement(table, &saved, None);
        }
    }
    if script.is_empty() { Ok(()) } else { iptables::restore(family, &script) }
}

/// Whether all jumps and all rules are there, each once. Somebody who flushes
/// tables takes ours along.
///
/// # Errors
/// iptables is missing or locked, or the caller is not root.
pub fn is_installed(rules: &RuleSet) -> Result<bool, RulesError> {
    for family in rules.families() {
        for table in &TABLES {
            let mut wanted = Saved::default();
            for chain in table.chains {
                wanted.note(&format!(":{chain} - [0:0]"));
            }
            for rule in (table.rules)(rules, family) {
                wanted.note(&rule);
            }
            if !Saved::read(family, table.name)?.has_the_shape_of(&wanted) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Counts the packets that met the jumps to our chains, diverted or not; those of
/// IPv6 too, if that is asked.
///
/// # Errors
/// As [`is_installed`].
pub fn packets(ipv6: bool) -> Result<Packets, RulesError> {
    let mut packets = Packets::default();
    for family in Family::ALL.into_iter().filter(|family| ipv6 || *family == Family::Ipv4) {
        let mangle = Saved::read(family, "mangle")?;
        packets.session += mangle.packets(OUT, |rule| !rule.contains("--dst-range"));
        packets.pool += Saved::read(family, "raw")?.packets(IN, |_| true);
    }
    Ok(packets)
}

/// The commands that take what is `saved` of ours out of a table and put
/// `rules` in, as one transaction.
fn replacement(table: &Table, saved: &Saved, rules: Option<(&RuleSet, Family)>) -> String {
    let mut script = format!("*{}\n", table.name);
    for jump in saved.jumps() {
        let _ = writeln!(script, "-D {jump}");
    }
    // Naming a chain that is there empties it.
    for chain in saved.chains() {
        let _ = writeln!(script, ":{chain} - [0:0]");
    }
    match rules {
        None => {
            for chain in saved.chains() {
                let _ = writeln!(script, "-X {chain}");
            }
        }
        Some((rules, family)) => {
            for chain in saved.chains().filter(|chain| !table.chains.contains(chain)) {
                let _ = writeln!(script, "-X {chain}");
            }
            for chain in table.chains {
                let _ = writeln!(script, ":{chain} - [0:0]");
            }
            for rule in (table.rules)(rules, family) {
                let _ = writeln!(script, "{rule}");
            }
        }
    }
    script + "COMMIT\n"
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(super) fn rules() -> RuleSet {
        let range = |a: &str, b: &str| (a.parse().unwrap(), b.parse().unwrap());
        RuleSet {
            base_queue: 7770,
            pool: vec![range("10.77.0.101", "10.77.0.199"), range("fd77::1", "fd77::9")],
            scope_parents: vec!["sessionip".to_owned(), "user.slice".to_owned()],
            ping_programs: Some("/run/session ip/bpf".into()),
            ipv6: true,
        }
    }

    #[test]
    fn what_is_there_is_replaced_in_one_transaction() {
        let saved = Saved::parse(
            "*raw\n:PREROUTING ACCEPT [1:2]\n:SESSIONIP-IN - [0:0]\n:SESSIONIP-OLD - [0:0]\n\
             [1:60] -A PREROUTING -d 10.0.0.1/32 -j ACCEPT\n\
             [5:300] -A PREROUTING -m comment --comment \"a -j b\" -j SESSIONIP-IN\n\
             [0:0] -A SESSIONIP-IN -j SESSIONIP-OLD\nCOMMIT\n",
        );
        let script = replacement(&TABLES[0], &saved, Some((&rules(), Family::Ipv4)));
        let start = "*raw\n-D PREROUTING -m comment --comment \"a -j b\" -j SESSIONIP-IN\n\
                     :SESSIONIP-IN - [0:0]\n:SESSIONIP-OLD - [0:0]\n-X SESSIONIP-OLD\n\
                     :SESSIONIP-IN - [0:0]\n:SESSIONIP-PING - [0:0]\n:SESSIONIP-ASK - [0:0]\n\
                     -A PREROUTING -m iprange --dst-range";
        assert!(script.starts_with(start), "{script}");
        assert!(script.ends_with("COMMIT\n") && !script.contains("ACCEPT"), "{script}");
        assert_eq!(
            replacement(&TABLES[0], &saved, None),
            "*raw\n-D PREROUTING -m comment --comment \"a -j b\" -j SESSIONIP-IN\n\
             :SESSIONIP-IN - [0:0]\n:SESSIONIP-OLD - [0:0]\n\
             -X SESSIONIP-IN\n-X SESSIONIP-OLD\nCOMMIT\n"
        );
    }

    #[test]
    fn our_own_rules_have_their_own_shape() {
        let mut wanted = Saved::default();
        mangle(&rules(), Family::Ipv4).iter().for_each(|rule| wanted.note(rule));
        assert!(wanted.has_the_shape_of(&wanted));
        assert_eq!(wanted.jumps().count(), 7);
        let mut doubled = wanted.clone();
        doubled.note("-A OUTPUT -j SESSIONIP-OUT");
        assert!(!doubled.has_the_shape_of(&wanted));
    }
}
