//! Who sent a ping that is on its way out?
//!
//! The hook notes each before it is queued; whoever gets it from the queue takes
//! its note. Pings that are the same to the last byte are one as good as the
//! other: each gets one of their notes, so that as many leave for each session
//! as it sent.

use crate::companion::SocketOwner;
use crate::owner::Ping;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a note is kept for a ping that never comes, lost in a full queue.
const KEPT: Duration = Duration::from_secs(5);

/// How many are kept; the oldest makes room for the newest.
const LIMIT: usize = 4096;

/// The notes of pings that have not come yet, oldest first: mostly one.
#[derive(Debug, Default)]
pub(super) struct Pings(VecDeque<(Instant, Ping, SocketOwner)>);

impl Pings {
    pub(super) fn note(&mut self, now: Instant, ping: Ping, owner: SocketOwner) {
        if self.0.len() >= LIMIT {
            self.0.pop_front();
        }
        self.0.push_back((now, ping, owner));
    }

    /// Who sent it; it is not asked for again.
    pub(super) fn take(&mut self, ping: &Ping) -> Option<SocketOwner> {
        let at = self.0.iter().position(|(_, noted, _)| noted == ping)?;
        self.0.remove(at).map(|(_, _, owner)| owner)
    }

    pub(super) fn expire(&mut self, now: Instant) {
        let old = |(since, ..): &(Instant, Ping, SocketOwner)| {
            now.saturating_duration_since(*since) > KEPT
        };
        while self.0.front().is_some_and(old) {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ping(sequence: u8) -> Ping {
        let header = [8, 0, 0, 0, 0, 7, 0, sequence];
        Ping { source: [10, 77, 0, 1].into(), destination: [10, 77, 0, 2].into(), header }
    }

    fn owner(pid: u32) -> SocketOwner {
        SocketOwner {
            session: None,
            pid,
            uid: 0,
            cgroup: 1,
            file: (0, 0),
            marks: Default::default(),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn each_ping_has_its_own_note_once() {
        let mut pings = Pings::default();
        for (sequence, pid) in [(1, 10), (2, 20), (1, 11)] {
            pings.note(now(), ping(sequence), owner(pid));
        }
        let mut pid = |sequence| pings.take(&ping(sequence)).map(|owner| owner.pid);
        assert_eq!(
            [pid(2), pid(1), pid(1), pid(1), pid(3)],
            [Some(20), Some(10), Some(11), None, None]
        );
    }

    #[test]
    fn it_forgets_in_time_and_in_number() {
        let (mut pings, start) = (Pings::default(), now());
        pings.note(start, ping(1), owner(1));
        pings.expire(start + KEPT);
        assert_eq!(pings.0.len(), 1);
        pings.expire(start + KEPT + Duration::from_millis(1));
        assert_eq!(pings.0.len(), 0);
        for pid in 0..=LIMIT as u32 {
            pings.note(start, ping(1), owner(pid));
        }
        assert_eq!((pings.0.len(), pings.take(&ping(1)).map(|owner| owner.pid)), (LIMIT, Some(1)));
    }
}
