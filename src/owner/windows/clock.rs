//! What time is it, as socket events count?
//!
//! The driver stamps events with the performance counter; processes and the
//! owner tables have the time of day, which may be set back and forth.

use crate::owner::table::Moment;
use windows_sys::Win32::Foundation::FILETIME;
use windows_sys::Win32::System::Performance::{QueryPerformanceCounter, QueryPerformanceFrequency};
use windows_sys::Win32::System::SystemInformation::GetSystemTimePreciseAsFileTime;

/// Turns what the system says of time into [`Moment`]s.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Counts of the performance counter a second; fixed while the system runs.
    frequency: u64,
}

impl Clock {
    /// Asks how fast the performance counter counts.
    pub fn new() -> Self {
        let mut frequency = 0;
        // SAFETY: it writes one number, and never fails since Windows XP.
        #[expect(unsafe_code, reason = "a call into kernel32")]
        unsafe {
            QueryPerformanceFrequency(&raw mut frequency);
        }
        Self { frequency: u64::try_from(frequency).unwrap_or(0).max(1) }
    }

    /// The moment it is.
    pub fn now(&self) -> Moment {
        let mut count = 0;
        // SAFETY: it writes one number, and never fails since Windows XP.
        #[expect(unsafe_code, reason = "a call into kernel32")]
        unsafe {
            QueryPerformanceCounter(&raw mut count);
        }
        self.of_count(count)
    }

    /// The moment of a stamp of the driver.
    pub(super) fn of_count(&self, count: i64) -> Moment {
        let count = u128::try_from(count).unwrap_or(0);
        let moment = count * 10_000_000 / u128::from(self.frequency);
        Moment(u64::try_from(moment).unwrap_or(u64::MAX))
    }

    /// The moment of a time of day, in 100 nanoseconds since 1601. `None`: it is
    /// not over yet, for the clock has been set back since, or it was before the
    /// system was started.
    pub(super) fn of_time(&self, time: u64) -> Option<Moment> {
        let mut now = FILETIME::default();
        // SAFETY: it writes one time, and cannot fail.
        #[expect(unsafe_code, reason = "a call into kernel32")]
        unsafe {
            GetSystemTimePreciseAsFileTime(&raw mut now);
        }
        let ago = file_time(&now).checked_sub(time)?;
        self.now().0.checked_sub(ago).map(Moment)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

pub(super) fn file_time(time: &FILETIME) -> u64 {
    u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the time of day is what is compared")]
    fn the_time_of_day_and_the_counter_are_one() {
        const UNIX_SINCE_1601: u64 = 116_444_736_000_000_000;
        let clock = Clock::new();
        let before = clock.now();
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let time = UNIX_SINCE_1601 + u64::try_from(unix.as_nanos() / 100).unwrap();
        let moment = clock.of_time(time).unwrap();
        let second = Duration::from_secs(1);
        assert!(!before.is_past(second, moment) && !moment.is_past(second, clock.now()));
        assert_eq!(clock.of_time(time + 36_000_000_000), None, "an hour ahead");
    }

    #[test]
    fn counts_are_scaled_without_overflow() {
        let clock = Clock { frequency: 24_000_000 };
        assert_eq!(clock.of_count(24_000_000), Moment(10_000_000));
        assert_eq!(clock.of_count(i64::MAX).0, u64::try_from(i64::MAX).unwrap() / 24 * 10 + 2);
        assert_eq!(clock.of_count(-1), Moment(0));
    }
}
