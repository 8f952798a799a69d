//! What do the rules say of pings?
//!
//! They are led here *before* conntrack sees them, and so what comes back after
//! it: it has to see the same addresses both ways, and of several packets that
//! wait for a verdict, each the first of one conversation as far as conntrack
//! knows, it would drop all but one. Each is looked at: an id is no port, and what
//! has begun with it, changed or not, may be another session's.

use super::super::PINGS;
use super::lines::{errors, excluded, queue, quoted, ranges};
use super::{ANSWER, ASK, IN, PING, RuleSet};
use crate::lease::Family;

const fn icmp(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "-p icmp",
        Family::Ipv6 => "-p icmpv6",
    }
}

const fn request(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "-p icmp -m icmp --icmp-type echo-request",
        Family::Ipv6 => "-p icmpv6 -m icmp6 --icmpv6-type echo-request",
    }
}

pub(super) const fn answer(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "-p icmp -m icmp --icmp-type echo-reply",
        Family::Ipv6 => "-p icmpv6 -m icmp6 --icmpv6-type echo-reply",
    }
}

/// Errors, and among them those about pings, by a program of the hook.
fn errors_about_pings(rules: &RuleSet, family: Family) -> Option<Vec<String>> {
    let program = program(rules, "program-ping_error")?;
    Some(errors(family).iter().map(|kind| format!("{kind} {program}")).collect())
}

/// Runs a program on the packets that the rest of the rule has chosen.
fn program(rules: &RuleSet, name: &str) -> Option<String> {
    let path = rules.ping_programs.as_ref()?.join(name);
    Some(format!("-m bpf --object-pinned {}", quoted(&path.to_string_lossy())))
}

/// In `raw`: requests of sessions.
pub(super) fn out(rules: &RuleSet, family: Family) -> Vec<String> {
    let Some(notes) = program(rules, "program-ping") else { return Vec::new() };
    let asks = request(family);
    let mut lines = Vec::new();
    for parent in &rules.scope_parents {
        lines.push(format!("-A OUTPUT {asks} -m cgroup --path {} -j {PING}", quoted(parent)));
    }
    for (first, last) in ranges(rules, family) {
        // Bound to a virtual address: on the wire as in the program.
        lines.push(format!("-A {PING} -m iprange --src-range {first}-{last} -j RETURN"));
        lines.push(format!("-A {PING} -o lo -m iprange --dst-range {first}-{last} -j {ASK}"));
    }
    lines.push(format!("-A {PING} ! -o lo -j {ASK}"));
    lines.extend(excluded(family).map(|which| format!("-A {ASK} {which} -j RETURN")));
    lines.extend([
        // A rule that does nothing but run the program.
        format!("-A {ASK} {notes}"),
        format!("-A {ASK} {} --queue-bypass", queue(rules, PINGS)),
    ]);
    lines
}

/// In `raw`: what comes in and has its turn after conntrack.
pub(super) fn passed_over(rules: &RuleSet, family: Family) -> Vec<String> {
    let Some(errors) = errors_about_pings(rules, family) else { return Vec::new() };
    let kinds = [answer(family).to_owned()].into_iter().chain(errors);
    kinds.map(|kind| format!("-A {IN} {kind} -j RETURN")).collect()
}

/// In `mangle`: answers, and errors about pings.
pub(super) fn answers(rules: &RuleSet, family: Family) -> Vec<String> {
    let Some(errors) = errors_about_pings(rules, family) else { return Vec::new() };
    let queue = queue(rules, PINGS);
    let jumps = ranges(rules, family).map(|(first, last)| {
        let icmp = icmp(family);
        format!("-A PREROUTING {icmp} -m iprange --dst-range {first}-{last} -j {ANSWER}")
    });
    let kinds = [answer(family).to_owned()].into_iter().chain(errors);
    let queues = kinds.map(|kind| format!("-A {ANSWER} {kind} {queue} --queue-bypass"));
    jumps.chain(queues).collect()
}
