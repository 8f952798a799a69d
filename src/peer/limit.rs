//! How much may be asked a second?

use std::time::{Duration, Instant};

/// Allows so many a second, and as many at once.
#[derive(Debug)]
pub(super) struct Limit {
    each_second: u32,
    left: u32,
    since: Instant,
}

impl Limit {
    pub(super) const fn new(each_second: u32, now: Instant) -> Self {
        Self { each_second, left: each_second, since: now }
    }

    /// One more, if it is allowed.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            self.since = now;
            self.left = self.each_second;
        }
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn a_second_has_as_many_as_are_allowed() {
        let start = Instant::now();
        let mut limit = Limit::new(3, start);
        let at = |ms| start + Duration::from_millis(ms);
        let taken: Vec<bool> = [0, 1, 2, 3, 999, 1000].map(|ms| limit.take(at(ms))).into();
        assert_eq!(taken, [true, true, true, false, false, true]);
    }
}
