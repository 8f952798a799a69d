//! Does the driver tell of a connection before its first packet comes?

use super::tap::{Tap, unchanged};
use super::{Bench, Why, in_full, now};
use crate::divert::windows::SOCKETS;
use crate::owner::table::What;
use crate::owner::windows::{Bell, Clock, Events};
use crate::selftest::Lags;
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How many connections are made, by how many threads.
const THREADS: usize = 4;
const EACH: usize = 75;
/// How long that may take.
const LONGEST: Duration = Duration::from_secs(5);
/// How long an event may be late and is still waited for.
const GRACE: Duration = Duration::from_millis(500);
const LOOK_UP: Duration = Duration::from_millis(50);
/// One in so many may be later than packets wait: the system's list of sockets is
/// looked at then.
const SHARE: usize = 50;

/// By how much packets are ahead of events.
pub(super) fn event_order(bench: &mut Bench) -> Result<String, Why> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let mut events = Events::open(SOCKETS)
        .map_err(|error| Why::failed("socket events do not come", in_full(&error)))?;
    let filter = format!(
        "loopback and ip and tcp.Syn and not tcp.Ack and tcp.DstPort == {}",
        address.port()
    );
    let tap = Tap::open(&filter, unchanged())?;
    let (bell, is_over) = (Bell::new()?, AtomicBool::new(false));
    let until = now() + LONGEST;
    let (made, told) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| read(&mut events, &bell, address.port(), &is_over));
        let callers: Vec<_> =
            (0..THREADS).map(|_| scope.spawn(|| call(address, &listener, until))).collect();
        let made: usize = callers.into_iter().filter_map(|it| it.join().ok()).sum();
        std::thread::sleep(GRACE);
        is_over.store(true, Ordering::Release);
        bell.wake();
        (made, reader.join())
    });
    bench.is_to_go_on()?;
    let Ok(told) = told else { return Err(Why::failed("the reader of events panicked", "")) };
    let lags = lags(&tap.seen().syns, &told?, bench.hold);
    judge(&lags, made, bench.hold)
}

/// Connects again and again; says how often it worked.
fn call(to: SocketAddr, listener: &TcpListener, until: Instant) -> usize {
    let mut made = 0;
    for _ in 0..EACH {
        if now() >= until {
            break;
        }
        let Ok(stream) = TcpStream::connect_timeout(&to, Duration::from_secs(1)) else { continue };
        made += 1;
        // Whosever it is: none is left to fill the queue.
        while listener.accept().is_ok() {}
        drop(stream);
    }
    made
}

/// When the events of connections to that port came, by local port.
fn read(
    events: &mut Events,
    bell: &Bell,
    port: u16,
    is_over: &AtomicBool,
) -> io::Result<HashMap<u16, Instant>> {
    let (clock, mut told) = (Clock::new(), HashMap::new());
    while !is_over.load(Ordering::Acquire) {
        events.turn(bell.raw(), LOOK_UP, |notice| {
            let Some(event) = notice.event(&clock) else { return };
            if event.what == What::Connect && event.remote.is_some_and(|end| end.port == port) {
                told.entry(event.local.port).or_insert_with(now);
            }
        })?;
    }
    Ok(told)
}

fn lags(syns: &[(u16, Instant)], told: &HashMap<u16, Instant>, hold: Duration) -> Lags {
    let mut lags = Lags::default();
    for (port, packet) in syns {
        match told.get(port) {
            Some(event) => {
                let ahead = event.checked_duration_since(*packet).filter(|it| !it.is_zero());
                lags.add(ahead, hold);
            }
            None => lags.missing += 1,
        }
    }
    lags
}

fn judge(lags: &Lags, made: usize, hold: Duration) -> Result<String, Why> {
    let sentence = format!(
        "of {made} connections the event came: {lags}; the longest lag was {:.1} ms",
        lags.longest.as_secs_f64() * 1000.0
    );
    if lags.count() == 0 {
        return Err(Why::failed(
            format!("of {made} connections there was no event"),
            "another filter driver decides before WinDivert: see netsh wfp show filters",
        ));
    }
    if lags.missing > 0 {
        return Err(Why::failed(
            format!("{sentence}; of {} there was no event", lags.missing),
            "programs of sessions may leave from the host address: see netsh wfp show filters",
        ));
    }
    if lags.too_late * SHARE > lags.count() {
        return Err(Why::failed(
            format!("{sentence}; {} packets would have waited longer than they may", lags.too_late),
            format!(
                "packets wait {} ms for their owner (divert.hold): set it to more than that lag",
                hold.as_millis()
            ),
        ));
    }
    Ok(sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_is_late_or_missing_is_told() {
        let start = now();
        let at = |ms| start + Duration::from_millis(ms);
        let hold = Duration::from_millis(3);
        let syns = [(1, at(10)), (2, at(10)), (3, at(10))];
        let told = HashMap::from([(1, at(9)), (2, at(14))]);
        let found = lags(&syns, &told, hold);
        assert_eq!((found.first, found.count(), found.missing), (1, 2, 1));
        assert_eq!(found.longest, Duration::from_millis(4));
        assert!(matches!(judge(&found, 3, hold), Err(Why::Failed { .. })), "one is missing");
        let found = lags(&syns[..2], &told, hold);
        let Err(Why::Failed { help, .. }) = judge(&found, 2, hold) else { panic!("it is late") };
        assert!(help.contains("divert.hold"), "{help}");
        assert!(judge(&lags(&syns[..2], &told, 2 * hold), 2, 2 * hold).unwrap().contains("4.0 ms"));
        assert!(judge(&Lags::default(), 2, hold).is_err());
    }
}
