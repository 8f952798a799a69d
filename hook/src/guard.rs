//! What if we fail inside somebody else's program? Then nothing happens.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `act`; if it panics, the answer is `doubt` and nobody hears of it.
pub fn guarded<T>(doubt: T, act: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(answer) => answer,
        Err(payload) => {
            // What was thrown may throw again when it is dropped.
            std::mem::forget(payload);
            doubt
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_an_answer() {
        assert_eq!(guarded(1, || 2), 2);
    }

    #[test]
    fn a_panic_is_a_doubt() {
        assert_eq!(guarded(1, || panic!("on purpose")), 1);
    }

    #[test]
    fn what_panics_again_when_it_is_dropped_stays_inside_too() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("again");
            }
        }
        assert_eq!(guarded(1, || std::panic::panic_any(Bomb)), 1);
    }
}
