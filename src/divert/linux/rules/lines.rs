//! What do the rules say?

use super::super::{OTHER_IN, OTHER_OUT_NEW, OTHER_OUT_TRANSLATED};
use super::super::{TCP_IN, TCP_OUT_NEW, TCP_OUT_TRANSLATED, TRANSLATED};
use super::{IN, OUT, RuleSet, SAVE, pings};
use crate::lease::Family;
use std::net::IpAddr;

/// What of ICMP comes in for a virtual address and may be about a translated flow.
/// All of it in IPv4. In IPv6 errors and answers to a ping: neighbours are
/// discovered and groups joined by ICMPv6 as well, which is nobody's but the
/// kernel's.
fn icmp(family: Family) -> impl Iterator<Item = &'static str> {
    let answer = (family == Family::Ipv6).then_some(pings::answer(family));
    errors(family).iter().copied().chain(answer)
}

/// Errors (RFC 4443, section 4); in IPv4 they are no kinds of their own here.
pub(super) const fn errors(family: Family) -> &'static [&'static str] {
    match family {
        Family::Ipv4 => &["-p icmp"],
        Family::Ipv6 => &[
            "-p icmpv6 -m icmp6 --icmpv6-type 1",
            "-p icmpv6 -m icmp6 --icmpv6-type 2",
            "-p icmpv6 -m icmp6 --icmpv6-type 3",
            "-p icmpv6 -m icmp6 --icmpv6-type 4",
        ],
    }
}

/// For many, or for the link: left alone (X4).
pub(super) const fn excluded(family: Family) -> [&'static str; 2] {
    match family {
        Family::Ipv4 => ["-m addrtype --dst-type MULTICAST", "-m addrtype --dst-type BROADCAST"],
        Family::Ipv6 => ["-m addrtype --dst-type MULTICAST", "-d fe80::/10"],
    }
}

pub(super) fn raw(rules: &RuleSet, family: Family) -> Vec<String> {
    let queue = |offset| queue(rules, offset);
    let mut lines: Vec<_> = ranges(rules, family)
        .map(|(first, last)| format!("-A PREROUTING -m iprange --dst-range {first}-{last} -j {IN}"))
        .collect();
    lines.extend([
        // A socket bound to the virtual address, or a conversation of one, needs
        // no help; the match passes over wildcard listeners.
        format!("-A {IN} -m socket -j RETURN"),
        format!("-A {IN} ! -i lo -p tcp {}", queue(TCP_IN)),
        format!("-A {IN} -p tcp {}", queue(OTHER_IN)),
        format!("-A {IN} -p udp {}", queue(OTHER_IN)),
    ]);
    lines.extend(pings::passed_over(rules, family));
    lines.extend(icmp(family).map(|kind| format!("-A {IN} {kind} {}", queue(OTHER_IN))));
    lines.extend(pings::out(rules, family));
    lines
}

pub(super) fn mangle(rules: &RuleSet, family: Family) -> Vec<String> {
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
    lines.extend(pings::answers(rules, family));
    for parent in &rules.scope_parents {
        lines.push(format!("-A OUTPUT -m cgroup --path {} -j {OUT}", quoted(parent)));
    }
    for (first, last) in ranges(rules, family) {
        lines.push(format!("-A OUTPUT -m iprange --dst-range {first}-{last} -j {OUT}"));
        // Bound to a virtual address: on the wire as in the program.
        lines.push(format!("-A {OUT} -m iprange --src-range {first}-{last} -j RETURN"));
    }
    // Without a daemon these are dropped: unchanged they would break their flow.
    lines.push(format!(
        "-A {OUT} ! -o lo -p tcp -m connmark --mark {marked} {}",
        queue(TCP_OUT_TRANSLATED)
    ));
    lines.push(format!("-A {OUT} -m connmark --mark {marked} {}", queue(OTHER_OUT_TRANSLATED)));
    // What began unchanged stays unchanged, and costs nothing from here on.
    lines.push(format!("-A {OUT} -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"));
    // Without a daemon new flows leave as if there were none of these rules.
    for (first, last) in ranges(rules, family) {
        for protocol in ["tcp", "udp"] {
            lines.push(format!(
                "-A {OUT} -o lo -p {protocol} -m iprange --dst-range {first}-{last} {} \
                 --queue-bypass",
                queue(OTHER_OUT_NEW)
            ));
        }
    }
    lines.push(format!("-A {OUT} -o lo -j RETURN"));
    lines.extend(excluded(family).map(|which| format!("-A {OUT} {which} -j RETURN")));
    lines.extend([
        format!("-A {OUT} -p tcp {} --queue-bypass", queue(TCP_OUT_NEW)),
        format!("-A {OUT} -p udp {} --queue-bypass", queue(OTHER_OUT_NEW)),
    ]);
    lines
}

pub(super) fn queue(rules: &RuleSet, offset: u16) -> String {
    format!("-j NFQUEUE --queue-num {}", rules.base_queue.saturating_add(offset))
}

pub(super) fn ranges(rules: &RuleSet, family: Family) -> impl Iterator<Item = (IpAddr, IpAddr)> {
    rules.pool.iter().copied().filter(move |(first, _)| Family::of(*first) == family)
}

/// As `iptables-restore` takes an argument with spaces in it.
pub(super) fn quoted(argument: &str) -> String {
    format!("\"{}\"", argument.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::super::tests::rules;
    use super::*;

    #[test]
    fn only_new_flows_bypass_a_missing_daemon() {
        for (family, all, pings) in [(Family::Ipv4, 13, 3), (Family::Ipv6, 20, 6)] {
            let mut queues = Vec::new();
            for rule in raw(&rules(), family).iter().chain(&mangle(&rules(), family)) {
                if let Some((_, queue)) = rule.split_once("--queue-num ") {
                    queues.push(queue.to_owned());
                }
            }
            let bypassed: Vec<_> =
                queues.iter().filter(|q| q.ends_with("--queue-bypass")).collect();
            let new = [vec!["7776"; pings], vec!["7773", "7773", "7770", "7773"]].concat();
            let new: Vec<_> = new.iter().map(|queue| format!("{queue} --queue-bypass")).collect();
            assert_eq!(bypassed, new.iter().collect::<Vec<_>>());
            assert_eq!(queues.len(), all);
        }
    }

    #[test]
    fn each_family_has_its_own_ranges() {
        let of = |family| raw(&rules(), family).join("\n") + &mangle(&rules(), family).join("\n");
        let (ipv4, ipv6) = (of(Family::Ipv4), of(Family::Ipv6));
        assert!(ipv4.contains("10.77.0.101-10.77.0.199") && !ipv4.contains("fd77::"), "{ipv4}");
        assert!(ipv6.contains("fd77::1-fd77::9") && !ipv6.contains("10.77."), "{ipv6}");
    }

    #[test]
    fn neighbour_discovery_is_never_led_anywhere() {
        let lines =
            raw(&rules(), Family::Ipv6).join("\n") + &mangle(&rules(), Family::Ipv6).join("\n");
        let queued = |line: &&str| line.contains("icmpv6") && line.contains("--queue-num");
        for line in lines.lines().filter(queued) {
            assert!(line.contains("--icmpv6-type"), "{line}");
        }
        for kind in 130..=143 {
            assert!(!lines.contains(&format!("--icmpv6-type {kind}")), "{kind}");
        }
    }

    #[test]
    fn an_argument_cannot_end_itself() {
        assert_eq!(quoted("a b\"c"), "\"a b\\\"c\"");
    }
}
