//! Does everything that is sent arrive, in both directions, unharmed?

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// As much as makes many packets of every size up to the largest.
pub(crate) const BULK: usize = 24 << 20;

pub(crate) fn listen(address: Ipv4Addr, port: u16) -> TcpListener {
    TcpListener::bind((address, port)).expect("a listener")
}

pub(crate) fn connect(address: Ipv4Addr, port: u16) -> TcpStream {
    let to = SocketAddr::from((address, port));
    let stream = TcpStream::connect_timeout(&to, PATIENCE).expect("a connection");
    patient(stream)
}

/// Who asked, as the listener's host sees it.
pub(crate) fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let (stream, from) = listener.accept().expect("somebody who asks");
    (patient(stream), from)
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("patience");
    stream.set_write_timeout(Some(PATIENCE)).expect("patience");
    stream
}

pub(crate) fn udp(address: Ipv4Addr, port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((address, port)).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("patience");
    socket
}

/// Sends `bytes` of a stream that repeats only after megabytes, both ways at
/// once, and fails where anything else arrives.
pub(crate) fn exchange(one: &TcpStream, other: &TcpStream, bytes: usize) {
    std::thread::scope(|scope| {
        scope.spawn(|| send(one, 1, bytes));
        scope.spawn(|| send(other, 2, bytes));
        scope.spawn(|| receive(one, 2, bytes));
        receive(other, 1, bytes);
    });
}

fn send(mut to: &TcpStream, seed: u64, bytes: usize) {
    let mut words = Words(seed);
    let mut chunk = vec![0; 256 << 10];
    for _ in 0..bytes / chunk.len() {
        words.fill(&mut chunk);
        to.write_all(&chunk).expect("to send");
    }
}

fn receive(mut from: &TcpStream, seed: u64, bytes: usize) {
    let mut words = Words(seed);
    let (mut chunk, mut wanted) = (vec![0; 256 << 10], vec![0; 256 << 10]);
    for at in 0..bytes / chunk.len() {
        words.fill(&mut wanted);
        from.read_exact(&mut chunk).expect("to receive");
        assert!(chunk == wanted, "chunk {at} of stream {seed} arrived changed");
    }
}

/// xorshift64: bytes in which a lost or doubled piece shows.
struct Words(u64);

impl Words {
    fn fill(&mut self, bytes: &mut [u8]) {
        for word in bytes.chunks_exact_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            word.copy_from_slice(&self.0.to_ne_bytes());
        }
    }
}
