//! What of ours is in a table, as `iptables-save` prints it?

use super::PREFIX;
use super::iptables::{self, RulesError};
use crate::lease::Family;
use std::collections::BTreeMap;

/// Our part of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Saved {
    /// The rules of others' chains that lead to ours: the text after `-A`, the
    /// chain it leads to, and how many packets took it.
    jumps: Vec<Jump>,
    /// Our chains, with how many rules are in each.
    chains: BTreeMap<String, usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Jump {
    rule: String,
    target: String,
    packets: u64,
}

impl Saved {
    pub(super) fn read(family: Family, table: &str) -> Result<Self, RulesError> {
        Ok(Self::parse(&iptables::save(family, table)?))
    }

    pub(super) fn parse(text: &str) -> Self {
        let mut saved = Self::default();
        text.lines().for_each(|line| saved.note(line));
        saved
    }

    /// Takes one line of the text into account.
    pub(super) fn note(&mut self, line: &str) {
        if let Some(chain) = line.strip_prefix(':').and_then(|rest| rest.split(' ').next()) {
            if chain.starts_with(PREFIX) {
                self.chains.entry(chain.to_owned()).or_default();
            }
            return;
        }
        let (packets, rule) = counted(line);
        let Some(rule) = rule.strip_prefix("-A ") else { return };
        let chain = rule.split(' ').next().unwrap_or_default();
        if chain.starts_with(PREFIX) {
            *self.chains.entry(chain.to_owned()).or_default() += 1;
        } else if let Some(target) = target_of(rule).filter(|target| target.starts_with(PREFIX)) {
            let (rule, target) = (rule.to_owned(), target.to_owned());
            self.jumps.push(Jump { rule, target, packets });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jumps.is_empty() && self.chains.is_empty()
    }

    pub(super) fn jumps(&self) -> impl Iterator<Item = &str> {
        self.jumps.iter().map(|jump| &*jump.rule)
    }

    pub(super) fn chains(&self) -> impl Iterator<Item = &str> {
        self.chains.keys().map(|chain| &**chain)
    }

    /// The same number of rules in each chain, and of jumps to it from each
    /// chain of others. The rules' text says the same in more than one way.
    pub(super) fn has_the_shape_of(&self, other: &Self) -> bool {
        self.chains == other.chains && self.ways() == other.ways()
    }

    /// How many packets took the jumps to `target` that `counts` chooses.
    pub(super) fn packets(&self, target: &str, counts: impl Fn(&str) -> bool) -> u64 {
        let chosen = self.jumps.iter().filter(|jump| jump.target == target && counts(&jump.rule));
        chosen.map(|jump| jump.packets).sum()
    }

    fn ways(&self) -> Vec<(&str, &str)> {
        let way = |jump| {
            let Jump { rule, target, .. }: &Jump = jump;
            (rule.split(' ').next().unwrap_or_default(), &**target)
        };
        let mut ways: Vec<_> = self.jumps.iter().map(way).collect();
        ways.sort_unstable();
        ways
    }
}

/// Splits `[packets:bytes] ` off, as `iptables-save -c` puts it before a rule.
fn counted(line: &str) -> (u64, &str) {
    let split = || {
        let (counters, rule) = line.strip_prefix('[')?.split_once("] ")?;
        Some((counters.split(':').next()?.parse().ok()?, rule))
    };
    split().unwrap_or((0, line))
}

/// Where a rule leads: its last `-j` or `-g`, for the options of a jump to a
/// chain have none after it.
fn target_of(rule: &str) -> Option<&str> {
    let mut words = rule.rsplit(' ');
    let target = words.next()?;
    matches!(words.next(), Some("-j" | "-g")).then_some(target)
}

#[cfg(test)]
mod tests {
    use super::super::{OUT, SAVE};
    use super::*;

    #[test]
    fn ours_is_told_from_theirs() {
        let saved = Saved::parse(
            "# Generated\n*mangle\n:OUTPUT ACCEPT [9:9]\n:SESSIONIP-OUT - [0:0]\n:THEIRS - [0:0]\n\
             [7:420] -A OUTPUT -m connmark --mark 0x1 -j SESSIONIP-OUT\n\
             [3:180] -A OUTPUT -m iprange --dst-range 10.0.0.1-10.0.0.9 -g SESSIONIP-OUT\n\
             [1:60] -A OUTPUT -m comment --comment \"-j SESSIONIP-OUT\" -j ACCEPT\n\
             -A THEIRS -j RETURN\n[0:0] -A SESSIONIP-OUT -o lo -j RETURN\nCOMMIT\n",
        );
        assert_eq!(saved.chains().collect::<Vec<_>>(), [OUT]);
        assert_eq!(saved.jumps().count(), 2);
        assert_eq!(saved.packets(OUT, |_| true), 10);
        assert_eq!(saved.packets(OUT, |rule| !rule.contains("--dst-range")), 7);
        assert_eq!(saved.packets(SAVE, |_| true), 0);
    }

    #[test]
    fn odd_lines_are_nothing_of_ours() {
        for line in ["", ":", "-A", "[", "[1:2] ", "-A ", "-A X", "[x:y] -A X -j Y"] {
            assert!(Saved::parse(line).is_empty(), "{line}");
        }
    }
}
