//! How long after a connection's first packet does its event come?

use std::fmt;
use std::time::Duration;

/// The upper bounds of the classes, in microseconds, and their names; what comes
/// before its packet has a class of its own, and so has what comes later than all.
const BOUNDS: [(u128, &str); 4] =
    [(100, "0.1 ms"), (1_000, "1 ms"), (5_000, "5 ms"), (20_000, "20 ms")];

/// How late events were, by class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lags {
    /// Connections whose event came first.
    pub first: usize,
    classes: [usize; BOUNDS.len() + 1],
    /// The longest that a packet was ahead of its event.
    pub longest: Duration,
    /// Connections whose packet would not have waited that long.
    pub too_late: usize,
    /// Connections of which there was no event.
    pub missing: usize,
}

impl Lags {
    /// Takes in one connection: by how much its packet was ahead of its event,
    /// `None` where the event came first; and how long packets wait.
    pub fn add(&mut self, ahead: Option<Duration>, hold: Duration) {
        let Some(ahead) = ahead else {
            self.first += 1;
            return;
        };
        let micros = ahead.as_micros();
        let class = BOUNDS.iter().take_while(|(bound, _)| micros > *bound).count();
        if let Some(class) = self.classes.get_mut(class) {
            *class += 1;
        }
        self.longest = self.longest.max(ahead);
        self.too_late += usize::from(ahead > hold);
    }

    /// How many events there were.
    pub fn count(&self) -> usize {
        self.first + self.classes.iter().sum::<usize>()
    }
}

impl fmt::Display for Lags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} before the packet", self.first)?;
        for ((_, name), count) in BOUNDS.iter().zip(self.classes) {
            write!(f, ", {count} within {name}")?;
        }
        let [.., later] = self.classes;
        write!(f, ", {later} later")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_is_in_one_class() {
        let mut lags = Lags::default();
        let hold = Duration::from_millis(5);
        lags.add(None, hold);
        for micros in [0, 100, 101, 4_000, 20_000, 20_001] {
            lags.add(Some(Duration::from_micros(micros)), hold);
        }
        assert_eq!(
            lags.to_string(),
            "1 before the packet, 2 within 0.1 ms, 1 within 1 ms, 1 within 5 ms, 1 within 20 ms, \
             1 later"
        );
        assert_eq!(lags.longest, Duration::from_micros(20_001));
        assert_eq!((lags.count(), lags.too_late), (7, 2));
    }
}
