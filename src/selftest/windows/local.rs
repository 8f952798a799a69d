//! Does the driver open, and what does it do with traffic within the host?

use super::socket::Socket;
use super::talk::{self, WAIT, broken};
use super::tap::{Seen, Tap, TapError, between, unchanged};
use super::{Bench, Why, in_full, now};
use crate::divert;
use crate::divert::windows::SOCKETS;
use crate::owner::windows::Events;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const HOME: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// The loopback address of session 7, which nobody has while no daemon runs.
pub(super) const SESSION: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 8);

/// How long packets are counted.
const COUNTED: Duration = Duration::from_secs(3);
/// How long a packet of that is, and how many are under way at once.
const LENGTH: usize = 100;
const UNDER_WAY: u64 = 128;
/// When those under way count as lost.
const LOST: Duration = Duration::from_millis(200);
/// A driver that does fewer a second is held up by something.
const FEWEST: u64 = 2_000;

/// Both layers of it open, and its version is right.
pub(super) fn driver(_: &mut Bench) -> Result<String, Why> {
    let opens = now();
    let refused =
        |error: &divert::OpenError| Why::failed("WinDivert does not open", in_full(error));
    let (diverter, _switch) = divert::open().map_err(|error| refused(&error))?;
    let _events = Events::open(SOCKETS).map_err(|error| refused(&error))?;
    let took = now().duration_since(opens).as_millis();
    let version = diverter.driver_version();
    let version =
        version.map_or("of an unknown version".into(), |(major, minor)| format!("{major}.{minor}"));
    Ok(format!("WinDivert {version} opens for packets and for sockets, in {took} ms"))
}

/// 127.0.0.1 becomes a session's own loopback and back.
pub(super) fn loopback(bench: &mut Bench) -> Result<String, Why> {
    let help = "no session finds its own servers at 127.0.0.1 by packets: list their programs \
        for the hook, and see which filter driver of other software is in between (netsh wfp \
        show filters)";
    let seen = around(false)?.map_err(|error| {
        broken("a connection to 127.0.0.1 did not get to 127.0.0.8 and back", &error, help)
    })?;
    if seen.inward > 0 || seen.loopback == 0 {
        let sentence = "packets within the host are not seen once, outbound, as WinDivert 2.2 does";
        return Err(Why::failed(sentence, "use the official WinDivert 2.2.2"));
    }
    bench.is_to_go_on()?;
    let fast = match around(true)? {
        Ok(seen) if seen.rewritten > 0 => "with SIO_LOOPBACK_FAST_PATH, too",
        Ok(_) | Err(_) => "but not with SIO_LOOPBACK_FAST_PATH",
    };
    let six = match sees_v6()? {
        None => "there is no ::1",
        Some(0) => "::1 is not seen",
        Some(_) => "::1 is seen, and left alone",
    };
    Ok(format!("127.0.0.1 is led to 127.0.0.8 and back, {fast}; {six}"))
}

/// What is seen of a connection to 127.0.0.1 that is answered by 127.0.0.8.
fn around(fast: bool) -> Result<io::Result<Seen>, TapError> {
    let listen = || {
        let socket = Socket::new()?;
        if fast {
            socket.take_fast_path()?;
        }
        socket.bind(SESSION, 0)?;
        let listener = socket.listen()?;
        let port = listener.local_addr()?.port();
        io::Result::Ok((listener, port))
    };
    let (listener, port) = match listen() {
        Ok(there) => there,
        Err(error) => return Ok(Err(error)),
    };
    let filter = format!(
        "loopback and ip and tcp and ((ip.DstAddr == {HOME} and tcp.DstPort == {port}) or \
         (ip.SrcAddr == {SESSION} and tcp.SrcPort == {port}))"
    );
    let tap = Tap::open(&filter, between(SESSION.into(), HOME.into(), Some(port)))?;
    let through = || {
        let socket = Socket::new()?;
        if fast {
            socket.take_fast_path()?;
        }
        let client = socket.connect(SocketAddrV4::new(HOME, port), WAIT)?;
        client.set_read_timeout(Some(WAIT))?;
        talk::exchange(&client, &talk::accept(&listener)?)
    };
    Ok(through().map(|()| tap.seen()))
}

/// How many packets of a connection to ::1 are seen; `None`: there is none.
fn sees_v6() -> Result<Option<u64>, TapError> {
    let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else { return Ok(None) };
    let Ok(address) = listener.local_addr() else { return Ok(None) };
    let port = address.port();
    let tap = Tap::open(&format!("loopback and ipv6 and tcp.DstPort == {port}"), unchanged())?;
    let through =
        || talk::exchange(&TcpStream::connect_timeout(&address, WAIT)?, &talk::accept(&listener)?);
    Ok(through().ok().map(|()| tap.seen().outward))
}

/// How many packets a second pass.
pub(super) fn rate(bench: &mut Bench) -> Result<String, Why> {
    let receiver = UdpSocket::bind((HOME, 0))?;
    receiver.set_read_timeout(Some(Duration::from_millis(50)))?;
    let to = receiver.local_addr()?;
    let filter = format!("loopback and ip.DstAddr == {HOME} and udp.DstPort == {}", to.port());
    let tap = Tap::open(&filter, unchanged())?;
    let (got, end) = (AtomicU64::new(0), AtomicBool::new(false));
    let began = now();
    let (sent, lost) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; LENGTH];
            while !end.load(Ordering::Acquire) {
                if receiver.recv(&mut buffer).is_ok() {
                    got.fetch_add(1, Ordering::Release);
                }
            }
        });
        let sent = send_until(to, &got, || bench.is_to_go_on().is_err());
        end.store(true, Ordering::Release);
        sent
    })?;
    bench.is_to_go_on()?;
    let took = now().duration_since(began);
    let got = got.load(Ordering::Acquire);
    let rate = u64::try_from(u128::from(got) * 1000 / took.as_millis().max(1)).unwrap_or(u64::MAX);
    let longest = tap.counters().waited().longest;
    let through = tap.seen().outward;
    let sentence = format!(
        "{rate} packets a second through one handle; {got} of {sent} arrived, {lost} were given \
         up; the longest wait in the driver was {:.1} ms",
        longest.as_secs_f64() * 1000.0
    );
    if through == 0 {
        return Err(Why::failed(
            format!("none of {sent} packets on loopback came by the driver"),
            "see which filter driver of other software is in between (netsh wfp show filters)",
        ));
    }
    if rate < FEWEST {
        return Err(Why::failed(
            sentence,
            "the machine is busy, or another filter driver holds packets up: run it again on an \
             idle machine, and let the antivirus except sessionip.exe",
        ));
    }
    Ok(sentence)
}

/// Sends for some seconds, never more ahead than a few packets; says how many, and
/// how many never came.
fn send_until(
    to: SocketAddr,
    got: &AtomicU64,
    mut is_over: impl FnMut() -> bool,
) -> io::Result<(u64, u64)> {
    let sender = UdpSocket::bind((HOME, 0))?;
    let (mut sent, mut lost) = (0_u64, 0_u64);
    let until = now() + COUNTED;
    while now() < until && !is_over() {
        let waits = now();
        let before = got.load(Ordering::Acquire);
        while sent - lost >= got.load(Ordering::Acquire) + UNDER_WAY {
            std::thread::yield_now();
            let is_still = before == got.load(Ordering::Acquire);
            if is_still && now().duration_since(waits) > LOST {
                lost = sent.saturating_sub(got.load(Ordering::Acquire));
            }
            if now() >= until {
                break;
            }
        }
        sender.send_to(&[0; LENGTH], to)?;
        sent += 1;
    }
    Ok((sent, lost))
}
