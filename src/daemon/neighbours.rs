//! Does somebody else answer for an address that is to be given?
//!
//! A thread asks about the addresses that would be given next, before they are:
//! so nobody waits for it at a logon.

use super::Event;
use super::keeper::in_full;
use crate::address::{Adapter, arp, nd};
use crossbeam_channel::{Receiver, Sender, bounded, select};
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How many of the next addresses of each IP version are known to be free.
pub(super) const AHEAD: usize = 16;
/// How long it is believed that nobody answers.
const BELIEVED: Duration = Duration::from_secs(5 * 60);
/// How often silence is heard until then, and what lies between: on a busy machine
/// or network a question is lost, or its answer late (RFC 5227, PROBE_NUM and
/// PROBE_MAX).
const TIMES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(2);
/// How many questions are put again at once: an address that was never asked about
/// does not wait behind more of them.
const AGAIN: usize = 4;

/// The asking side.
#[derive(Debug)]
pub(super) struct Neighbours {
    questions: Sender<IpAddr>,
    asked: HashMap<IpAddr, Asked>,
}

/// How often an address was asked about, and when last.
#[derive(Debug)]
struct Asked {
    times: u32,
    last: Instant,
}

impl Neighbours {
    /// Where questions are put, and where [`answer`] takes them.
    pub(super) fn new() -> (Self, Receiver<IpAddr>) {
        let (questions, taken) = bounded(2 * AHEAD);
        (Self { questions, asked: HashMap::new() }, taken)
    }

    /// Asks about those addresses that nobody was asked about lately, or not often
    /// enough. To be called about once a second.
    pub(super) fn ask(&mut self, now: Instant, addresses: impl IntoIterator<Item = IpAddr>) {
        self.asked.retain(|_, asked| now.duration_since(asked.last) < BELIEVED);
        let mut again = Vec::new();
        for address in addresses {
            match self.asked.get(&address) {
                None => self.put(now, address),
                Some(asked) if asked.times < TIMES && now.duration_since(asked.last) >= PAUSE => {
                    again.push(address);
                }
                Some(_) => {}
            }
        }
        if self.questions.is_empty() {
            again.into_iter().take(AGAIN).for_each(|address| self.put(now, address));
        }
    }

    fn put(&mut self, now: Instant, address: IpAddr) {
        // A full channel: the thread is behind, and there is a next time.
        if self.questions.try_send(address).is_ok() {
            let asked = self.asked.entry(address).or_insert(Asked { times: 0, last: now });
            *asked = Asked { times: asked.times + 1, last: now };
        }
    }
}

/// The answering thread.
pub(super) fn answer(
    adapter: Adapter,
    questions: Receiver<IpAddr>,
    events: Sender<Event>,
    stop: Receiver<()>,
) -> io::Result<JoinHandle<()>> {
    super::threads::spawn("neighbours", move || {
        loop {
            let address = select! {
                recv(questions) -> address => address,
                recv(stop) -> _ => return,
            };
            let Ok(address) = address else { return };
            let answered = match address {
                IpAddr::V4(address) => arp::probe(&adapter, address, arp::LONGEST_PROBE)
                    .map_err(|error| in_full(&error)),
                IpAddr::V6(address) => {
                    nd::probe(&adapter, address, nd::LONGEST_PROBE).map_err(|error| in_full(&error))
                }
            };
            match answered {
                Ok(false) => {}
                Ok(true) => {
                    if events.send(Event::AnsweredElsewhere(address)).is_err() {
                        return;
                    }
                }
                Err(error) => tracing::debug!(error, "the neighbours were not asked"),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn address(number: u8) -> IpAddr {
        Ipv4Addr::new(10, 77, 0, number).into()
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "some moment to begin with")]
    fn silence_is_believed_once_it_was_heard_three_times() {
        let (mut neighbours, questions) = Neighbours::new();
        let start = Instant::now();
        let mut asked = Vec::new();
        for second in 0..310 {
            neighbours.ask(start + Duration::from_secs(second), [address(1)]);
            asked.extend(questions.try_iter().map(|_| second));
        }
        assert_eq!(asked, [0, 2, 4, 304, 306, 308]);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "some moment to begin with")]
    fn a_new_address_does_not_wait_behind_old_ones() {
        let (mut neighbours, questions) = Neighbours::new();
        let start = Instant::now();
        let old = || (1..=10).map(address);
        neighbours.ask(start, old());
        assert_eq!(questions.try_iter().count(), 10);
        neighbours.ask(start + PAUSE, old());
        assert_eq!(questions.len(), AGAIN);
        neighbours.ask(start + 2 * PAUSE, old().chain([address(11)]));
        assert_eq!(questions.try_iter().nth(AGAIN), Some(address(11)), "behind those only");
        neighbours.ask(start + 3 * PAUSE, old());
        assert_eq!(questions.try_iter().collect::<Vec<_>>(), old().take(4).collect::<Vec<_>>());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "some moment to begin with")]
    fn what_found_no_room_is_asked_next_time() {
        let (mut neighbours, questions) = Neighbours::new();
        let start = Instant::now();
        let many = || (1..=40).map(address);
        neighbours.ask(start, many());
        assert_eq!(questions.try_iter().count(), 2 * AHEAD);
        neighbours.ask(start, many());
        assert_eq!(questions.try_iter().collect::<Vec<_>>(), many().skip(32).collect::<Vec<_>>());
    }
}
