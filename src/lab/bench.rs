//! What does diverting cost? Pairs of a session's run and an undiverted one.

use super::iperf::Kind;
use super::network::Network;
use super::product::Product;
use super::sessions::Opened;
use super::{LabError, traffic};
use serde::Serialize;

/// Both directions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bench {
    /// Pairs per direction.
    pub pairs: u32,
    /// Data from the session to the far side.
    pub out: Compared,
    /// Data from the far side to the session.
    #[serde(rename = "in")]
    pub inward: Compared,
}

/// One direction.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compared {
    /// Outside any session, undiverted.
    pub raw_gbps: Spread,
    /// In a session.
    pub session_gbps: Spread,
    /// Session by raw, pair by pair.
    pub ratio: Spread,
}

/// Where the values of several runs lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The one in the middle.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

/// Runs the pairs; which of the two goes first alternates, so that a machine
/// that grows slower or faster meanwhile favours neither.
///
/// # Errors
/// A run fails.
pub fn bench(
    product: &Product,
    network: &Network,
    session: &Opened,
    (pairs, seconds): (u32, u32),
) -> Result<Bench, LabError> {
    let compared = |kind| -> Result<Compared, LabError> {
        let mut figures = Vec::new();
        for pair in 0..pairs {
            let raw = || Ok::<_, LabError>(traffic::raw(network, kind, seconds)?.gbps);
            let diverted = || {
                let run = traffic::of_session(product, network, session, kind, seconds)?;
                Ok::<_, LabError>(run.gbps)
            };
            let (raw, diverted) = if pair % 2 == 0 {
                let raw = raw()?;
                (raw, diverted()?)
            } else {
                let diverted = diverted()?;
                (raw()?, diverted)
            };
            tracing::info!(?kind, pair, raw, diverted, "compared");
            figures.push((raw, diverted));
        }
        Ok(compare(&figures))
    };
    Ok(Bench { pairs, out: compared(Kind::Out)?, inward: compared(Kind::In)? })
}

fn compare(pairs: &[(f64, f64)]) -> Compared {
    Compared {
        raw_gbps: Spread::of(pairs.iter().map(|(raw, _)| *raw)),
        session_gbps: Spread::of(pairs.iter().map(|(_, session)| *session)),
        ratio: Spread::of(pairs.iter().map(|(raw, session)| ratio(*session, *raw))),
    }
}

impl Spread {
    /// Of no values: zeroes.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |i: usize| values.get(i).copied().unwrap_or_default();
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            at(middle)
        } else {
            f64::midpoint(at(middle.saturating_sub(1)), at(middle))
        };
        Self {
            min: three_digits(at(0)),
            median: three_digits(median),
            max: three_digits(values.last().copied().unwrap_or_default()),
        }
    }
}

/// `a` by `b`; nothing by nothing is nothing.
pub(super) fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { three_digits(a / b) } else { 0.0 }
}

/// More digits than mean anything are in nobody's interest.
pub(super) fn three_digits(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_of_the_sorted_values() {
        let spread = Spread::of([3.0, 1.0, 10.0]);
        assert_eq!(spread, Spread { min: 1.0, median: 3.0, max: 10.0 });
        assert!((Spread::of([4.0, 1.0, 2.0, 3.0]).median - 2.5).abs() < 1e-9);
        assert_eq!(Spread::of([]), Spread { min: 0.0, median: 0.0, max: 0.0 });
    }

    #[test]
    fn ratios_are_of_pairs_not_of_medians() {
        let compared = compare(&[(10.0, 5.0), (20.0, 16.0), (40.0, 20.0)]);
        assert_eq!(compared.ratio, Spread { min: 0.5, median: 0.5, max: 0.8 });
        assert!(ratio(1.0, 0.0).abs() < 1e-9);
    }
}
