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
/// How long an answer is believed.
const BELIEVED: Duration = Duration::from_secs(5 * 60);

/// The asking side.
#[derive(Debug)]
pub(super) struct Neighbours {
    questions: Sender<IpAddr>,
    asked: HashMap<IpAddr, Instant>,
}

impl Neighbours {
    /// Where questions are put, and where [`answer`] takes them.
    pub(super) fn new() -> (Self, Receiver<IpAddr>) {
        let (questions, taken) = bounded(2 * AHEAD);
        (Self { questions, asked: HashMap::new() }, taken)
    }

    /// Asks about those addresses that nobody was asked about lately.
    pub(super) fn ask(&mut self, now: Instant, addresses: impl IntoIterator<Item = IpAddr>) {
        self.asked.retain(|_, at| now.duration_since(*at) < BELIEVED);
        for address in addresses {
            // A full channel: the thread is behind, and there is a next time.
            if !self.asked.contains_key(&address) && self.questions.try_send(address).is_ok() {
                self.asked.insert(address, now);
            }
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
