//! Asks what may never be answered, and goes on without.

use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Lets a thread of its own ask. One that does not come back is waited for once:
/// until it does, nothing more is asked, so that there is never a second one.
#[derive(Debug)]
pub struct Deadline<T>(Mutex<Option<Receiver<T>>>);

impl<T: Send + 'static> Default for Deadline<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Send + 'static> Deadline<T> {
    /// Nobody is out.
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// `None`: there is no answer in this time, or to one that was asked before.
    pub fn ask(&self, patience: Duration, ask: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = &*out
            && matches!(last.try_recv(), Err(TryRecvError::Empty))
        {
            return None;
        }
        *out = None;
        let (tell, told) = sync_channel(1);
        let ask = move || {
            // Nobody may listen any more.
            let _ = tell.send(ask());
        };
        thread::Builder::new().name("asks".to_owned()).spawn(ask).ok()?;
        match told.recv_timeout(patience) {
            Ok(answer) => Some(answer),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                *out = Some(told);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn one_that_does_not_come_back_holds_nobody_up_and_is_the_only_one() {
        static ASKED: Deadline<u32> = Deadline::new();
        assert_eq!(ASKED.ask(LONG, || 1), Some(1));
        let (go, wait) = channel::<()>();
        let stuck = move || {
            wait.recv().unwrap();
            2
        };
        assert_eq!(ASKED.ask(Duration::from_millis(20), stuck), None);
        let (began, begins) = channel();
        let next = move || {
            began.send(()).unwrap();
            3
        };
        assert_eq!(ASKED.ask(LONG, next), None);
        assert!(begins.recv().is_err(), "a second one was asked");
        go.send(()).unwrap();
        // It is back soon, and what it brings is too late for anybody.
        let answer = (0..2000).find_map(|_| {
            thread::sleep(Duration::from_millis(10));
            ASKED.ask(LONG, || 4)
        });
        assert_eq!(answer, Some(4));
    }

    #[test]
    fn one_that_fails_is_no_answer() {
        static ASKED: Deadline<u32> = Deadline::new();
        assert_eq!(ASKED.ask(LONG, || panic!("as the test wants it")), None);
        assert_eq!(ASKED.ask(LONG, || 5), Some(5));
    }
}
