//! How much of everything is there? The numbers of `/metrics`.
//!
//! Labels are words of ours only (a reason, a state): no user, program or
//! address is ever in one.

use crate::verdict::Reasons;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::fmt;

/// All that is counted, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Packets by what became of them.
    pub reasons: Reasons,
    /// Packets that came to the engine.
    pub diverted: u64,
    /// Packets that left it changed.
    pub rewritten: u64,
    /// Packets that the kernel dropped because the engine was behind.
    pub queue_dropped: u64,
    /// Owner look-ups that the kernel did not answer.
    pub unanswered: u64,
    /// How often there was no room in a table of the hook, by the table's name.
    pub hook_full: Vec<(&'static str, u64)>,
    /// Flows in the table.
    pub flows: u64,
    /// Sessions that are logged on.
    pub sessions: u64,
    /// Sessions that found the pool empty.
    pub exhausted: u64,
    /// Leases that are held.
    pub leases_used: u64,
    /// Addresses that are to be had.
    pub leases_free: u64,
    /// Addresses that rest before another user gets them.
    pub leases_resting: u64,
}

/// The page of `/metrics`, in the OpenMetrics text format.
pub fn encode(numbers: &Numbers) -> String {
    let mut registry = Registry::with_prefix("sessionip");
    registry.register_collector(Box::new(numbers.clone()));
    let mut page = String::new();
    // A String takes whatever is written to it.
    let _ = text::encode(&mut page, &registry);
    page
}

impl Collector for Numbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counter = |value| ConstCounter::<u64>::new(value);
        let gauge = |value| ConstGauge::<u64>::new(value);

        let reasons: Vec<_> =
            self.reasons.iter().map(|(reason, count)| (reason.word(), counter(count))).collect();
        family(&mut encoder, "packets", "Packets by what became of them", "reason", &reasons)?;
        let tables: Vec<_> =
            self.hook_full.iter().map(|(table, times)| (*table, counter(*times))).collect();
        family(&mut encoder, "hook_full", "Lack of room in a table of the hook", "table", &tables)?;
        let states = [
            ("used", gauge(self.leases_used)),
            ("free", gauge(self.leases_free)),
            ("resting", gauge(self.leases_resting)),
        ];
        family(&mut encoder, "leases", "Addresses of the pool by state", "state", &states)?;

        for (name, help, value) in [
            ("diverted_packets", "Packets that came to the engine", self.diverted),
            ("rewritten_packets", "Packets that left the engine changed", self.rewritten),
            ("queue_dropped", "Packets dropped because the engine was behind", self.queue_dropped),
            ("unanswered", "Owner look-ups that the kernel did not answer", self.unanswered),
        ] {
            single(&mut encoder, name, help, &counter(value))?;
        }
        for (name, help, value) in [
            ("flows", "Flows in the table", self.flows),
            ("sessions", "Sessions that are logged on", self.sessions),
            ("exhausted_sessions", "Sessions that found the pool empty", self.exhausted),
        ] {
            single(&mut encoder, name, help, &gauge(value))?;
        }
        Ok(())
    }
}

fn single(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn family<M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    members: &[(&'static str, M)],
) -> fmt::Result {
    let Some((_, first)) = members.first() else { return Ok(()) };
    let mut family = encoder.encode_descriptor(name, help, None, first.metric_type())?;
    for (word, metric) in members {
        metric.encode(family.encode_family(&[(label, *word)])?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Reason;

    #[test]
    fn every_reason_has_its_line_and_every_number_its_name() {
        let mut numbers =
            Numbers { flows: 12, leases_free: 97, rewritten: 3, ..Default::default() };
        numbers.hook_full.push(("dual", 2));
        numbers.reasons.count(Reason::SessionSource);
        let page = encode(&numbers);
        for line in [
            "# TYPE sessionip_packets counter",
            "sessionip_packets_total{reason=\"session-source\"} 1",
            "sessionip_flows 12",
            "sessionip_sessions 0",
            "sessionip_hook_full_total{table=\"dual\"} 2",
            "sessionip_leases{state=\"free\"} 97",
            "sessionip_rewritten_packets_total 3",
            "sessionip_diverted_packets_total 0",
            "sessionip_queue_dropped_total 0",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
        let reasons = page.lines().filter(|line| line.starts_with("sessionip_packets_total{"));
        assert_eq!(reasons.count(), Reason::ALL.len());
        assert!(page.ends_with("# EOF\n"));
    }

    #[test]
    fn labels_are_words_of_ours() {
        for line in encode(&Numbers::default()).lines().filter(|line| !line.starts_with('#')) {
            let Some((_, labels)) = line.split_once('{') else { continue };
            let (label, rest) = labels.split_once('=').unwrap();
            let word = rest.split('"').nth(1).unwrap();
            let ours = match label {
                "reason" => Reason::ALL.iter().any(|reason| reason.word() == word),
                "state" => ["used", "free", "resting"].contains(&word),
                _ => false,
            };
            assert!(ours, "{line}");
        }
    }
}
