//! What a Windows server shows of itself.
//!
//! Everything that is made is held by a value and taken back when that goes: a
//! handle of the driver, an address, a listener. Ctrl-C is looked for between two
//! steps, none of which takes longer than a few seconds.

mod events;
mod local;
mod outward;
mod platform;
mod ports;
mod socket;
mod spot;
mod talk;
mod tap;

use super::{Check, Report, Why};
use crate::address::Spare;
use crate::config::Config;
use crate::service::{Order, Orders};
use spot::Spot;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

/// No check begins later than this.
const LONGEST: Duration = Duration::from_secs(45);

/// How long packets wait for their owner where no configuration says.
const HOLD: Duration = Duration::from_millis(10);

/// How long Windows may ask the neighbours about an address: as a rule three
/// seconds.
const UNTIL_USABLE: Duration = Duration::from_secs(8);

/// What is to be tested.
#[derive(Debug)]
pub struct Options<'a> {
    /// The configuration, if there is one.
    pub config: Option<&'a Config>,
    /// An address that nobody has; else the pool's next one.
    pub address: Option<Ipv4Addr>,
    /// Where a `sessionip peer` listens.
    pub peer: Option<SocketAddrV4>,
}

/// Makes every check, and calls `told` after each.
///
/// # Errors
/// Ctrl-C cannot be listened to.
pub fn run(options: &Options<'_>, mut told: impl FnMut(&Check)) -> io::Result<Report> {
    let spot = spot::choose(options.config, options.address);
    let mut bench = Bench {
        peer: options.peer,
        spot,
        spare: None,
        hold: options.config.map_or(HOLD, |config| config.divert.hold),
        orders: Orders::catch()?,
        is_stopped: false,
        until: now() + LONGEST,
    };
    let mut checks = Vec::new();
    for (name, check) in CHECKS {
        let check = Check::of(name, bench.is_to_go_on().and_then(|()| check(&mut bench)));
        told(&check);
        let is_driver_gone = name == DRIVER && check.result != super::Outcome::Ok;
        checks.push(check);
        if is_driver_gone {
            let rest = CHECKS.iter().skip(checks.len());
            checks.extend(rest.map(|(name, _)| {
                let check = Check::of(name, Err(Why::NotRun("the driver does not open".into())));
                told(&check);
                check
            }));
            break;
        }
    }
    Ok(Report::of(checks, bench.is_stopped))
}

const DRIVER: &str = "driver";

type Run = fn(&mut Bench) -> Result<String, Why>;

/// What needs the driver comes behind it; what leaves the machine comes last, and
/// what is left at the end, at the end.
const CHECKS: [(&str, Run); 11] = [
    ("platform", platform::platform),
    ("bind-conflicts", ports::bind_conflicts),
    (DRIVER, local::driver),
    ("loopback", local::loopback),
    ("event-order", events::event_order),
    ("rate", local::rate),
    ("source-rewrite", outward::source_rewrite),
    ("inbound", outward::inbound),
    ("own-address", outward::own_address),
    ("large-packets", outward::large_packets),
    ("stop", outward::stop),
];

/// What checks are made with.
#[derive(Debug)]
struct Bench {
    peer: Option<SocketAddrV4>,
    /// Where a spare address is put.
    spot: Result<Spot, Why>,
    /// It, once it is there.
    spare: Option<Spare>,
    /// How long a packet waits for its owner.
    hold: Duration,
    orders: Orders,
    is_stopped: bool,
    until: Instant,
}

impl Bench {
    /// Not after Ctrl-C, and not when it takes too long.
    fn is_to_go_on(&mut self) -> Result<(), Why> {
        if let Ok(Some(Order::Stop)) = self.orders.next(Duration::ZERO) {
            self.is_stopped = true;
        }
        if self.is_stopped {
            Err(Why::NotRun("stopped".into()))
        } else if now() >= self.until {
            Err(Why::NotRun("the checks before took too long: run it again".into()))
        } else {
            Ok(())
        }
    }

    fn peer(&self) -> Result<SocketAddrV4, Why> {
        let none = || {
            Why::NotRun(
                "give --peer HOST, a machine of the same network that runs sessionip peer".into(),
            )
        };
        self.peer.ok_or_else(none)
    }

    fn spot(&self) -> Result<Spot, Why> {
        self.spot.clone()
    }

    /// Puts the spare address on, as a session's, if it is not there.
    fn lease(&mut self) -> Result<Spot, Why> {
        let spot = self.spot()?;
        if self.spare.is_none() {
            self.spare = Some(put_on(&spot, true)?);
        }
        Ok(spot)
    }
}

/// Puts the spare address on, and waits until it can be used.
fn put_on(spot: &Spot, skip_as_source: bool) -> Result<Spare, Why> {
    let address = spot.address;
    let refused = |error: &dyn std::error::Error| {
        Why::failed(format!("{address} cannot be put on the network card"), in_full(error))
    };
    let spare = Spare::put_on(address, spot.host, skip_as_source).map_err(|e| refused(&e))?;
    if spare.is_usable_within(UNTIL_USABLE).map_err(|e| refused(&e))? {
        return Ok(spare);
    }
    Err(Why::failed(
        format!("{address} cannot be used: another machine has it, or the link is down"),
        "give --address with one that nobody has, and take this one out of the pool",
    ))
}

/// An error with its causes.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !sentence.contains(&text) {
            sentence = format!("{sentence}: {text}");
        }
        cause = error.source();
    }
    sentence
}

impl From<io::Error> for Why {
    fn from(error: io::Error) -> Self {
        Self::failed(format!("Windows refuses what the check needs: {error}"), "")
    }
}

#[expect(clippy::disallowed_methods, reason = "the machine is tested in real time")]
fn now() -> Instant {
    Instant::now()
}
