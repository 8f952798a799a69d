//! Which packets are led into the queues?
//!
//! iptables rules in chains of our own. Each is jumped to from a built-in chain,
//! after whatever others put there; all of them come and go at once, table by
//! table (`iptables-restore --noflush`), and nothing of others is touched.
//!
//! On its way in a packet is taken before conntrack sees it (raw PREROUTING),
//! on its way out after (mangle OUTPUT): conntrack knows flows by their inside
//! addresses only. The conntrack mark [`TRANSLATED`] says which flows are
//! translated; so the packets that no socket sends (SYN-ACKs, resets, ICMP
//! errors) are found too, and a flow goes on translated after a restart.

mod iptables;
mod saved;

pub use iptables::RulesError;

use super::{OTHER_IN, OTHER_OUT_NEW, OTHER_OUT_TRANSLATED};
use super::{TCP_IN, TCP_OUT_NEW, TCP_OUT_TRANSLATED, TRANSLATED};
use saved::Saved;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

/// The packets to lead into the queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSet {
    /// The first of the six queues.
    pub base_queue: u16,
    /// First and last of each range of virtual addresses. IPv4 only: virtual
    /// IPv6 addresses are given by the companion hook and never translated.
    pub pool: Vec<(IpAddr, IpAddr)>,
    /// The folders that hold the sessions' cgroups, relative to the root of the
    /// cgroup2 tree, like `user.slice`. They have to exist, and to be the same
    /// folders for as long as the rules are there.
    pub scope_parents: Vec<String>,
    /// The pinned program that notes whose a ping is; without it pings are left
    /// alone.
    pub ping_program: Option<PathBuf>,
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

/// The tables that our chains are in.
const TABLES: [Table; 2] = [
    Table { name: "raw", chains: &[IN], rules: raw },
    Table { name: "mangle", chains: &[OUT, SAVE, PING], rules: mangle },
];

struct Table {
    name: &'static str,
    chains: &'static [&'static str],
    rules: fn(&RuleSet) -> Vec<String>,
}

/// Puts the rules in place of those that are there of ours, as of a daemon that
/// crashed. In between, no packet finds neither.
///
/// # Errors
/// iptables is missing or locked, the caller is not root, or the kernel refuses
/// a rule. Each table is as it was, or as it should be.
pub fn install(rules: &RuleSet) -> Result<(), RulesError> {
    let mut script = String::new();
    for table in &TABLES {
        let saved = Saved::read(table.name)?;
        script += &replacement(table, &saved, Some(rules));
    }
    iptables::restore(&script)
}

/// Removes every rule and chain of ours, whoever made it.
///
/// # Errors
/// As [`install`].
pub fn remove() -> Result<(), RulesError> {
    let mut script = String::new();
    for table in &TABLES {
        let saved = Saved::read(table.name)?;
        if !saved.is_empty() {
            script += &replacement(table, &saved, None);
        }
    }
    if script.is_empty() { Ok(()) } else { iptables::restore(&script) }
}

/// Whether all jumps and all rules are there, each once. Somebody who flushes
/// tables takes ours along.
///
/// # Errors
/// iptables is missing or locked, or the caller is not root.
pub fn is_installed(rules: &RuleSet) -> Result<bool, RulesError> {
    for table in &TABLES {
        let mut wanted = Saved::default();
        for chain in table.chains {
            wanted.note(&format!(":{chain} - [0:0]"));
        }
        for rule in (table.rules)(rules) {
            wanted.note(&rule);
        }
        if !Saved::read(table.name)?.has_the_shape_of(&wanted) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Counts the packets that met the jumps to our chains, diverted or not.
///
/// # Errors
/// As [`is_installed`].
pub fn packets() -> Result<Packets, RulesError> {
    Ok(Packets {
        session: Saved::read("mangle")?.packets(OUT, |rule| !rule.contains("--dst-range")),
        pool: Saved::read("raw")?.packets(IN, |_| true),
    })
}

/// The commands that take what is `saved` of ours out of a table and put
/// `rules` in, as one transaction.
fn replacement(table: &Table, saved: &Saved, rules: Option<&RuleSet>) -> String {
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
        Some(rules) => {
            for chain in saved.chains().filter(|chain| !table.chains.contains(chain)) {
                let _ = writeln!(script, "-X {chain}");
            }
            for chain in table.chains {
                let _ = writeln!(script, ":{chain} - [0:0]");
            }
            for rule in (table.rules)(rules) {
                let _ = writeln!(script, "{rule}");
            }
        }
    }
    script + "COMMIT\n"
}

fn raw(rules: &RuleSet) -> Vec<String> {
    let queue = |offset| queue(rules, offset);
    let mut lines: Vec<_> = ranges(rules)
        .map(|(first, last)| format!("-A PREROUTING -m iprange --dst-range {first}-{last} -j {IN}"))
        .collect();
    lines.extend([
        // A socket bound to the virtual address, or a conversation of one, needs
        // no help; the match passes over wildcard listeners.
        format!("-A {IN} -m socket -j RETURN"),
        format!("-A {IN} ! -i lo -p tcp {}", queue(TCP_IN)),
        format!("-A {IN} -p tcp {}", queue(OTHER_IN)),
        format!("-A {IN} -p udp {}", queue(OTHER_IN)),
        format!("-A {IN} -p icmp {}", queue(OTHER_IN)),
    ]);
    lines
}

fn mangle(rules: &RuleSet) -> Vec<String> {
    let queue = |offset| queue(rules, offset);
    let marked = format!("{TRANSLATED:#x}/{TRANSLATED:#x}");
    let mut lines = vec![
        // The verdict marks the packet, and here its flow takes the mark over.
        format!("-A PREROUTING -m mark --mark {marked} -j {SAVE}"),
        format!("-A POSTROUTING -m mark --mark {marked} -j {SAVE}"),
        format!("-A {SAVE} -j CONNMARK --set-xmark {marked}"),
        format!("-A {SAVE} -j MARK --set-xmark 0x0/{TRANSLATED:#x}"),
        format!("-A OUTPUT -m connmark --mark {marked} -j {OUT}"),
    ];
    for parent in &rules.scope_parents {
        lines.push(format!("-A OUTPUT -m cgroup --path {} -j {OUT}", quoted(parent)));
    }
    for (first, last) in ranges(rules) {
        lines.push(format!("-A OUTPUT -m iprange --dst-range {first}-{last} -j {OUT}"));
        // Bound to a virtual address: on the wire as in the program.
        lines.push(format!("-A {OUT} -m iprange --src-range {first}-{last} -j RETURN"));
    }
    lines.extend(pings(rules, &marked));
    // Without a daemon these are dropped: unchanged they would break their flow.
    lines.push(format!(
        "-A {OUT} ! -o lo -p tcp -m connmark --mark {marked} {}",
        queue(TCP_OUT_TRANSLATED)
    ));
    lines.push(format!("-A {OUT} -m connmark --mark {marked} {}", queue(OTHER_OUT_TRANSLATED)));
    // What began unchanged stays unchanged, and costs nothing from here on.
    lines.push(format!("-A {OUT} -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"));
    // Without a daemon new flows leave as if there were none of these rules.
    for (first, last) in ranges(rules) {
        for protocol in ["tcp", "udp"] {
            lines.push(format!(
                "-A {OUT} -o lo -p {protocol} -m iprange --dst-range {first}-{last} {} \
                 --queue-bypass",
                queue(OTHER_OUT_NEW)
            ));
        }
    }
    lines.extend([
        format!("-A {OUT} -o lo -j RETURN"),
        format!("-A {OUT} -m addrtype --dst-type MULTICAST -j RETURN"),
        format!("-A {OUT} -m addrtype --dst-type BROADCAST -j RETURN"),
        format!("-A {OUT} -p tcp {} --queue-bypass", queue(TCP_OUT_NEW)),
        format!("-A {OUT} -p udp {} --queue-bypass", queue(OTHER_OUT_NEW)),
    ]);
    lines
}

/// Echo requests, each of which is looked at: an id is no port, and what has begun
/// with it, changed or not, may be another session's.
fn pings(rules: &RuleSet, marked: &str) -> Vec<String> {
    let Some(program) = &rules.ping_program else { return Vec::new() };
    const ASKS: &str = "-p icmp -m icmp --icmp-type echo-request";
    let within = ranges(rules).map(|(first, last)| {
        format!("-A {OUT} -o lo {ASKS} -m iprange --dst-range {first}-{last} -j {PING}")
    });
    let mut lines = vec![format!("-A {OUT} ! -o lo {ASKS} -j {PING}")];
    lines.extend(within);
    lines.extend([
        format!("-A {PING} -m addrtype --dst-type MULTICAST -j RETURN"),
        format!("-A {PING} -m addrtype --dst-type BROADCAST -j RETURN"),
        // A rule that does nothing but run the program.
        format!("-A {PING} -m bpf --object-pinned {}", quoted(&program.to_string_lossy())),
        format!("-A {PING} -m connmark --mark {marked} {}", queue(rules, OTHER_OUT_TRANSLATED)),
        format!("-A {PING} {} --queue-bypass", queue(rules, OTHER_OUT_NEW)),
    ]);
    lines
}

fn queue(rules: &RuleSet, offset: u16) -> String {
    format!("-j NFQUEUE --queue-num {}", rules.base_queue.saturating_add(offset))
}

fn ranges(rules: &RuleSet) -> impl Iterator<Item = (Ipv4Addr, Ipv4Addr)> {
    rules.pool.iter().filter_map(|range| match *range {
        (IpAddr::V4(first), IpAddr::V4(last)) => Some((first, last)),
        _ => None,
    })
}

/// As `iptables-restore` takes an argument with spaces in it.
fn quoted(argument: &str) -> String {
    format!("\"{}\"", argument.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> RuleSet {
        let range = |a: &str, b: &str| (a.parse().unwrap(), b.parse().unwrap());
        RuleSet {
            base_queue: 7770,
            pool: vec![range("10.77.0.101", "10.77.0.199"), range("fd77::1", "fd77::9")],
            scope_parents: vec!["sessionip".to_owned(), "user.slice".to_owned()],
            ping_program: Some("/run/session ip/bpf/program-ping".into()),
        }
    }

    #[test]
    fn only_new_flows_bypass_a_missing_daemon() {
        let mut queues = Vec::new();
        for rule in raw(&rules()).iter().chain(&mangle(&rules())) {
            if let Some((_, queue)) = rule.split_once("--queue-num ") {
                queues.push(queue.to_owned());
            }
        }
        let bypassed: Vec<_> = queues.iter().filter(|q| q.ends_with("--queue-bypass")).collect();
        let new =
            ["7773", "7773", "7773", "7770", "7773"].map(|queue| format!("{queue} --queue-bypass"));
        assert_eq!(bypassed, new.iter().collect::<Vec<_>>());
        assert_eq!(queues.len(), 12);
    }

    #[test]
    fn what_is_there_is_replaced_in_one_transaction() {
        let saved = Saved::parse(
            "*raw\n:PREROUTING ACCEPT [1:2]\n:SESSIONIP-IN - [0:0]\n:SESSIONIP-OLD - [0:0]\n\
             [1:60] -A PREROUTING -d 10.0.0.1/32 -j ACCEPT\n\
             [5:300] -A PREROUTING -m comment --comment \"a -j b\" -j SESSIONIP-IN\n\
             [0:0] -A SESSIONIP-IN -j SESSIONIP-OLD\nCOMMIT\n",
        );
        let script = replacement(&TABLES[0], &saved, Some(&rules()));
        let start = "*raw\n-D PREROUTING -m comment --comment \"a -j b\" -j SESSIONIP-IN\n\
                     :SESSIONIP-IN - [0:0]\n:SESSIONIP-OLD - [0:0]\n-X SESSIONIP-OLD\n\
                     :SESSIONIP-IN - [0:0]\n-A PREROUTING -m iprange --dst-range";
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
        mangle(&rules()).iter().for_each(|rule| wanted.note(rule));
        assert!(wanted.has_the_shape_of(&wanted));
        assert_eq!(wanted.jumps().count(), 6);
        let mut doubled = wanted.clone();
        doubled.note("-A OUTPUT -j SESSIONIP-OUT");
        assert!(!doubled.has_the_shape_of(&wanted));
    }

    #[test]
    fn an_argument_cannot_end_itself() {
        assert_eq!(quoted("a b\"c"), "\"a b\\\"c\"");
    }
}
