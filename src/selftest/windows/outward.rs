//! What does another machine see, and what reaches this one from there?

use super::local::SESSION;
use super::socket::Socket;
use super::talk::{self, Heard, WAIT, broken};
use super::tap::{Rewrite, Tap, between, unchanged};
use super::{Bench, Spot, Why, now, put_on};
use crate::address::{Spare, mtu};
use crate::packet::Protocol;
use crate::peer::wire::{self, Back, Request};
use std::io::{self, Write};
use std::net::{
    IpAddr, Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket,
};
use std::time::Duration;

/// How much is sent at the most, for how long.
const MOST_SENT: u64 = 64 << 20;
const SENDING: Duration = Duration::from_secs(5);
/// As much at once as has a card's segmentation offload do its work.
const CHUNK: usize = 256 << 10;

const STRONG_HOST: &str = "routing or another filter driver sends such packets elsewhere: the \
    pool has to be of the subnet of the card by which the peer is reached; see netsh wfp show \
    filters";

/// Packets of the host address leave with the virtual one and their answers come
/// back, whether or not the system would choose it itself.
pub(super) fn source_rewrite(bench: &mut Bench) -> Result<String, Why> {
    let (peer, spot) = (bench.peer()?, bench.spot()?);
    let is_chosen = {
        let _spare = put_on(&spot, false)?;
        rewritten(peer, &spot, Some(spot.host), "SkipAsSource off")?;
        talk::who_by_tcp(None, peer).is_ok_and(|it| it.sent == IpAddr::V4(spot.address))
    };
    bench.is_to_go_on()?;
    bench.lease()?;
    rewritten(peer, &spot, None, "SkipAsSource on")?;
    let chosen = if is_chosen { "may itself choose" } else { "does not itself choose" };
    Ok(format!(
        "TCP and UDP from {} reach the peer as {}, with SkipAsSource on and off; with it off \
         Windows {chosen} the virtual address",
        spot.host, spot.address
    ))
}

/// Whom the peer hears while packets to it are rewritten.
fn rewritten(
    peer: SocketAddrV4,
    spot: &Spot,
    from: Option<Ipv4Addr>,
    when: &str,
) -> Result<(), Why> {
    let tap = to_peer(peer, spot)?;
    let asked = [("TCP", talk::who_by_tcp(from, peer)), ("UDP", talk::who_by_udp(from, peer))];
    for (protocol, heard) in asked {
        let Heard { sent, heard } = heard.map_err(|error| {
            let seen = tap.seen();
            let sentence = format!(
                "with {when} there is no answer over {protocol} to packets from {} ({} left, {} \
                 came back)",
                spot.address, seen.outward, seen.inward
            );
            broken(&sentence, &error, STRONG_HOST)
        })?;
        if sent != IpAddr::V4(spot.host) {
            return Err(Why::failed(
                format!("with {when} Windows sends from {sent} and not from {}", spot.host),
                "the peer has to be reached by the card of the pool",
            ));
        }
        if heard != IpAddr::V4(spot.address) {
            return Err(Why::failed(
                format!(
                    "with {when} the peer hears {heard} over {protocol}, and not {}",
                    spot.address
                ),
                "something between here and there translates addresses: take a peer of the same \
                 subnet",
            ));
        }
    }
    Ok(())
}

/// Leads this host's questions to the peer, and its answers, through here.
fn to_peer(peer: SocketAddrV4, spot: &Spot) -> Result<Tap, Why> {
    let Spot { address, host, .. } = spot;
    let (ip, port) = (peer.ip(), peer.port());
    let filter = format!(
        "(outbound and ip.SrcAddr == {host} and ip.DstAddr == {ip} and (tcp.DstPort == {port} or \
         udp.DstPort == {port})) or (inbound and ip.SrcAddr == {ip} and ip.DstAddr == {address} \
         and (tcp.SrcPort == {port} or udp.SrcPort == {port}))"
    );
    Ok(Tap::open(&filter, between((*host).into(), (*address).into(), None))?)
}

/// What is sent to the virtual address reaches a listener of the host address, and
/// its answers come from the virtual one.
pub(super) fn inbound(bench: &mut Bench) -> Result<String, Why> {
    let peer = bench.peer()?;
    let spot = bench.lease()?;
    let listener = TcpListener::bind((spot.host, 0))?;
    let datagrams = UdpSocket::bind((spot.host, 0))?;
    datagrams.set_read_timeout(Some(WAIT))?;
    let (tcp, udp) = (listener.local_addr()?.port(), datagrams.local_addr()?.port());
    let (ip, Spot { address, host, .. }) = (peer.ip(), &spot);
    let filter = format!(
        "(inbound and ip.SrcAddr == {ip} and ip.DstAddr == {address} and (tcp.DstPort == {tcp} \
         or udp.DstPort == {udp})) or (outbound and ip.SrcAddr == {host} and ip.DstAddr == {ip} \
         and (tcp.SrcPort == {tcp} or udp.SrcPort == {udp}))"
    );
    let tap = Tap::open(&filter, between((*host).into(), (*address).into(), None))?;
    let help = "a firewall drops what comes in (let it accept sessionip.exe), or the network does \
        not deliver to a second address of this card: see its port security";
    let asks = talk::connect(Some(*address), peer).map_err(|error| {
        broken(&format!("{address} cannot itself speak to the peer"), &error, STRONG_HOST)
    })?;
    let word = word();
    asked_back(&asks, Protocol::Tcp, tcp, &word, || answer_connection(&listener, &word)).map_err(
        |error| broken(&format!("TCP to {address} does not get to {host} and back"), &error, help),
    )?;
    bench.is_to_go_on()?;
    asked_back(&asks, Protocol::Udp, udp, &word, || answer_datagram(&datagrams, &word)).map_err(
        |error| broken(&format!("UDP to {address} does not get to {host} and back"), &error, help),
    )?;
    let seen = tap.seen();
    if seen.inward == 0 || seen.outward == 0 || seen.loopback > 0 {
        return Err(Why::failed(
            format!(
                "packets have wrong directions: {} in, {} out, {} within the host",
                seen.inward, seen.outward, seen.loopback
            ),
            "use the official WinDivert 2.2.2",
        ));
    }
    Ok(format!(
        "TCP and UDP to {address} reach a listener of {host} and are answered ({} packets in, {} \
         out)",
        seen.inward, seen.outward
    ))
}

/// Asks the peer to connect to a port of ours, and answers it.
fn asked_back(
    asks: &TcpStream,
    protocol: Protocol,
    port: u16,
    word: &str,
    answers: impl FnOnce() -> io::Result<()> + Send,
) -> io::Result<()> {
    asks.set_read_timeout(Some(WAIT * 2))?;
    let request = Request::Back(Back { protocol, port, word: word.into() });
    std::thread::scope(|scope| {
        let answering = scope.spawn(answers);
        let said = talk::ask(asks, &request);
        let answered = answering.join().unwrap_or_else(|_| Err(io::Error::other("it panicked")));
        let said = said?;
        if said == wire::heard(word) {
            return answered;
        }
        Err(io::Error::other(format!("the peer says: {}", said.trim_end())))
    })
}

fn answer_connection(listener: &TcpListener, word: &str) -> io::Result<()> {
    let mut stream = talk::accept(listener)?;
    let heard = talk::answer(&stream)?;
    stream.write_all(heard.as_bytes())?;
    expect(heard.trim_end(), word)
}

fn answer_datagram(socket: &UdpSocket, word: &str) -> io::Result<()> {
    let mut buffer = [0; wire::LONGEST];
    let (length, from) = socket.recv_from(&mut buffer)?;
    let heard = buffer.get(..length).unwrap_or(&[]);
    socket.send_to(heard, from)?;
    expect(&String::from_utf8_lossy(heard), word)
}

fn expect(heard: &str, word: &str) -> io::Result<()> {
    if heard == word { Ok(()) } else { Err(io::Error::other("somebody else spoke")) }
}

/// A word of this run's, so that nobody else is taken for the peer.
fn word() -> String {
    let number = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), now());
    format!("{number:016x}")
}

/// This host and its own virtual address.
pub(super) fn own_address(bench: &mut Bench) -> Result<String, Why> {
    let spot = bench.lease()?;
    let Spot { address, host, .. } = spot;
    let listener = TcpListener::bind((host, 0))?;
    let port = listener.local_addr()?.port();
    let filter = format!(
        "loopback and ip and tcp and ((ip.DstAddr == {address} and tcp.DstPort == {port}) or \
         (ip.SrcAddr == {host} and tcp.SrcPort == {port}))"
    );
    let tap = Tap::open(&filter, between(host.into(), address.into(), Some(port)))?;
    let through = || {
        let client = talk::connect(Some(host), SocketAddrV4::new(address, port))?;
        talk::exchange(&client, &talk::accept(&listener)?)
    };
    let help = "sessions do not reach each other on this host: see which filter driver of other \
        software is in between (netsh wfp show filters)";
    through().map_err(|error| {
        broken(&format!("{host} does not reach {address} on this host"), &error, help)
    })?;
    let seen = tap.seen();
    if seen.inward > 0 {
        let sentence = "packets within the host come by twice, in and out";
        return Err(Why::failed(sentence, "use the official WinDivert 2.2.2"));
    }
    Ok(format!("{host} reaches {address} on this host and is answered, seen outbound only"))
}

/// A transfer, and how long its packets are.
pub(super) fn large_packets(bench: &mut Bench) -> Result<String, Why> {
    let peer = bench.peer()?;
    let spot = bench.lease()?;
    let mtu = mtu(spot.interface).unwrap_or(1500) as usize;
    let tap = to_peer(peer, &spot)?;
    let began = now();
    let moved = transfer(bench, spot.host, peer);
    let took = now().duration_since(began);
    let seen = tap.seen();
    let giants = if seen.largest_outward > mtu {
        format!("longer than the card's {mtu}: segmentation offload (LSO) is seen")
    } else {
        format!("none longer than the card's {mtu}: segmentation offload (LSO) is not seen")
    };
    let sizes = format!(
        "the longest packet out was {} bytes, {giants}; the longest in was {}",
        seen.largest_outward, seen.largest_inward
    );
    let help = "turn segmentation offload off on the card of the pool: Disable-NetAdapterLso \
        -Name CARD, and run it again";
    let (sent, taken) = moved.map_err(|error| {
        broken(&format!("a transfer to the peer did not end; {sizes}"), &error, help)
    })?;
    if sent != taken {
        let sentence = format!("of {sent} bytes {taken} arrived; {sizes}");
        return Err(Why::failed(sentence, help));
    }
    if seen.rewritten == 0 {
        return Err(Why::failed("a transfer did not come by the driver", STRONG_HOST));
    }
    let rate = sent as f64 * 8.0 / took.as_secs_f64() / 1e6;
    Ok(format!("{} MB reached the peer at {rate:.0} Mbit/s; {sizes}", sent / 1_000_000))
}

/// How many bytes were sent, and how many the peer took.
fn transfer(bench: &mut Bench, from: Ipv4Addr, peer: SocketAddrV4) -> io::Result<(u64, u64)> {
    let mut stream = talk::connect(Some(from), peer)?;
    stream.write_all(wire::line(&Request::Take).as_bytes())?;
    let (chunk, mut sent) = (vec![0; CHUNK], 0);
    let until = now() + SENDING;
    while sent < MOST_SENT && now() < until && bench.is_to_go_on().is_ok() {
        stream.write_all(&chunk)?;
        sent += CHUNK as u64;
    }
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(WAIT * 2))?;
    let said = talk::answer(&stream)?;
    let taken = said.trim_end().strip_prefix("took ").and_then(|bytes| bytes.parse().ok());
    let refused = || io::Error::other(format!("the peer says: {}", said.trim_end()));
    Ok((sent, taken.ok_or_else(refused)?))
}

/// When the handles are closed everything is as it was.
pub(super) fn stop(bench: &mut Bench) -> Result<String, Why> {
    let help = "restart the machine; if it is so again, see netsh wfp show filters";
    let home = stops_at_home().map_err(|error| {
        broken("traffic within the host does not go on unchanged", &error, help)
    })?;
    if !home {
        return Err(Why::failed("127.0.0.1 is still led elsewhere after the end", help));
    }
    let spot = match (bench.peer, bench.spare.is_some()) {
        (Some(peer), true) => Some((peer, bench.spot()?)),
        _ => None,
    };
    let mut sentence = String::from("within the host everything is unchanged again");
    if let Some((peer, spot)) = &spot {
        let rewritten = {
            let _tap = to_peer(*peer, spot)?;
            talk::who_by_tcp(Some(spot.host), *peer)
        };
        let after = talk::who_by_tcp(Some(spot.host), *peer);
        let heard = |it: io::Result<Heard>, when| {
            it.map(|it| it.heard)
                .map_err(|error| broken(&format!("{when} the peer does not answer"), &error, help))
        };
        let before = heard(rewritten, "before the end")?;
        let after = heard(after, "after the end")?;
        if before != IpAddr::V4(spot.address) || after != IpAddr::V4(spot.host) {
            let sentence = format!("the peer hears {before} before the end and {after} after it");
            return Err(Why::failed(sentence, help));
        }
        sentence = format!("the peer hears {after} again");
    }
    if bench.spare.take().is_some() {
        let address = bench.spot()?.address;
        if Spare::is_on(address)? {
            let sentence = format!("{address} is still on this machine");
            return Err(Why::failed(
                sentence,
                format!("netsh interface ip delete address CARD {address}"),
            ));
        }
        return Ok(format!("{sentence}, and {address} is off the network card"));
    }
    Ok(sentence)
}

/// Whether a connection that was led from 127.0.0.1 to 127.0.0.8 stays where it was
/// sent once nobody leads it.
fn stops_at_home() -> io::Result<bool> {
    let home = Ipv4Addr::LOCALHOST;
    let listeners = || {
        let there = TcpListener::bind((SESSION, 0))?;
        let port = there.local_addr()?.port();
        io::Result::Ok((there, TcpListener::bind((home, port))?, port))
    };
    let (there, here, port) = listeners()?;
    let accepted = |listener: &TcpListener| {
        let client = Socket::new()?.connect(SocketAddrV4::new(home, port), WAIT)?;
        client.set_read_timeout(Some(WAIT))?;
        let server = talk::accept(listener)?;
        talk::exchange(&client, &server)?;
        server.local_addr()
    };
    let filter = format!(
        "loopback and ip and tcp and ((ip.DstAddr == {home} and tcp.DstPort == {port}) or \
         (ip.SrcAddr == {SESSION} and tcp.SrcPort == {port}))"
    );
    let rewrite: Rewrite = between(SESSION.into(), home.into(), Some(port));
    let tap = Tap::open(&filter, rewrite).map_err(io::Error::other)?;
    let led = accepted(&there)?;
    drop(tap);
    let after = accepted(&here)?;
    // A handle that opens and closes without a packet leaves nothing either.
    drop(Tap::open(&filter, unchanged()).map_err(io::Error::other)?);
    let end = |address: Ipv4Addr| SocketAddr::from((address, port));
    Ok(led == end(SESSION) && after == end(home))
}
