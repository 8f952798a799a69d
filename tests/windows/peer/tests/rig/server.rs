//! Who answers in the world, and what does it see?
//!
//! Port 7777, TCP and UDP, answers `ADDRESS:PORT text`; 7779 takes everything.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const OFTEN: Duration = Duration::from_millis(50);

/// Runs until it is dropped. Made in the namespace that it answers in.
pub(crate) struct Server {
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let echo = UdpSocket::bind("10.77.0.2:7777").expect("a UDP server");
        let sink = UdpSocket::bind("10.77.0.2:7779").expect("a sink");
        let listener = TcpListener::bind("10.77.0.2:7777").expect("a TCP server");
        echo.set_read_timeout(Some(OFTEN)).expect("patience");
        sink.set_read_timeout(Some(OFTEN)).expect("patience");
        listener.set_nonblocking(true).expect("not to wait");
        let threads = vec![
            until(&ends, move || answer_datagram(&echo)),
            until(&ends, move || drop(sink.recv(&mut [0; 2048]))),
            until(&ends, move || answer_stream(&listener)),
        ];
        Self { ends, threads }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "joined when the server is dropped")]
fn until(ends: &Arc<AtomicBool>, does: impl Fn() + Send + 'static) -> JoinHandle<()> {
    let ends = Arc::clone(ends);
    std::thread::spawn(move || {
        while !ends.load(Ordering::Relaxed) {
            does();
        }
    })
}

fn answer_datagram(socket: &UdpSocket) {
    let mut text = [0; 2048];
    if let Ok((length, from)) = socket.recv_from(&mut text) {
        let mut answer = format!("{from} ").into_bytes();
        answer.extend_from_slice(&text[..length]);
        let _ = socket.send_to(&answer, from);
    }
}

fn answer_stream(listener: &TcpListener) {
    match listener.accept() {
        Ok((mut stream, from)) => {
            let mut text = [0; 2048];
            let _ = stream.set_nonblocking(false);
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            if let Ok(length) = stream.read(&mut text) {
                let mut answer = format!("{from} ").into_bytes();
                answer.extend_from_slice(&text[..length]);
                let _ = stream.write_all(&answer);
            }
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(OFTEN / 5),
        Err(_) => {}
    }
}
