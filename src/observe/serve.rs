//! Who asks for `/metrics`? A server for this one page.
//!
//! One connection at a time, a bounded request, a bounded wait: a client that
//! dawdles or babbles delays the next scrape by seconds and costs no memory.

use super::metrics::{Numbers, encode};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

/// How soon a client is noticed.
const GLANCE: Duration = Duration::from_millis(200);

/// How long one read or write may take, and how many reads a request.
const WAIT: Duration = Duration::from_millis(500);
const READS: usize = 8;

/// The largest request.
const LARGEST: usize = 4096;

/// Answers `GET /metrics` with the numbers of that moment, until `stop` is
/// heard of or its other end is dropped.
///
/// # Errors
/// The listener is gone.
pub fn serve(
    listener: &TcpListener,
    mut numbers: impl FnMut() -> Numbers,
    stop: &Receiver<()>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    loop {
        match listener.accept() {
            Ok((client, _)) => {
                // It is the client's loss.
                if let Err(error) = answer(client, &mut numbers) {
                    tracing::debug!(%error, "metrics client");
                }
                if stop.try_recv() != Err(crossbeam_channel::TryRecvError::Empty) {
                    return Ok(());
                }
            }
            // Nobody there, or a client that has gone, or no descriptor left.
            Err(error) => {
                if error.kind() != ErrorKind::WouldBlock {
                    tracing::debug!(%error, "metrics listener");
                }
                if stop.recv_timeout(GLANCE) != Err(RecvTimeoutError::Timeout) {
                    return Ok(());
                }
            }
        }
    }
}

fn answer(mut client: TcpStream, numbers: &mut impl FnMut() -> Numbers) -> io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(WAIT))?;
    client.set_write_timeout(Some(WAIT))?;
    let mut buffer = [0; LARGEST];
    let request = read_request(&mut client, &mut buffer)?;
    let reply = match asked(request) {
        Asked::Metrics => Reply {
            status: "200 OK",
            fields: "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n",
            body: encode(&numbers()),
        },
        Asked::Elsewhere => Reply::refusal("404 Not Found", ""),
        Asked::OtherMethod => Reply::refusal("405 Method Not Allowed", "Allow: GET\r\n"),
        Asked::Nonsense => Reply::refusal("400 Bad Request", ""),
    };
    let Reply { status, fields, body } = reply;
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    client.write_all(head.as_bytes())?;
    client.write_all(body.as_bytes())?;
    // Closing over unread bytes would reset the connection under the reply.
    client.shutdown(Shutdown::Write)?;
    for _ in 0..READS {
        if client.read(&mut buffer)? == 0 {
            break;
        }
    }
    Ok(())
}

struct Reply {
    status: &'static str,
    fields: &'static str,
    body: String,
}

impl Reply {
    fn refusal(status: &'static str, fields: &'static str) -> Self {
        Self { status, fields, body: format!("{status}\n") }
    }
}

/// Reads up to the empty line that ends a request's head, or as much of it as
/// comes in time and fits.
fn read_request<'b>(client: &mut TcpStream, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
    let mut length = 0;
    for _ in 0..READS {
        let room = buffer.get_mut(length..).unwrap_or_default();
        let read = match client.read(room) {
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => 0,
            Err(error) => return Err(error),
        };
        length += read;
        let so_far = buffer.get(..length).unwrap_or_default();
        if read == 0 || so_far.windows(4).any(|end| end == b"\r\n\r\n") {
            break;
        }
    }
    Ok(buffer.get(..length).unwrap_or_default())
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Metrics,
    Elsewhere,
    OtherMethod,
    Nonsense,
}

/// What the request line asks for (RFC 9112, section 3). The fields after it do
/// not matter, but they must be complete.
fn asked(request: &[u8]) -> Asked {
    let complete = request.windows(4).any(|end| end == b"\r\n\r\n");
    let line =
        request.split(|byte| *byte == b'\r').next().and_then(|line| str::from_utf8(line).ok());
    let mut words = line.unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Asked::Nonsense;
    };
    let token = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
    if !complete || !token || !target.starts_with('/') || !version.starts_with("HTTP/1.") {
        return Asked::Nonsense;
    }
    let path = target.split('?').next().unwrap_or_default();
    match (method, path) {
        (_, path) if path != "/metrics" => Asked::Elsewhere,
        ("GET", _) => Asked::Metrics,
        _ => Asked::OtherMethod,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::thread;

    /// What the server answers to these bytes, after which it still serves.
    fn exchange(requests: &[&[u8]]) -> Vec<String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = crossbeam_channel::bounded(1);
        thread::scope(|scope| {
            let numbers = || Numbers { flows: 12, ..Numbers::default() };
            let server = scope.spawn(move || serve(&listener, numbers, &stopped));
            let replies = requests.iter().map(|request| {
                let mut client = TcpStream::connect(address).unwrap();
                client.write_all(request).unwrap();
                let mut reply = String::new();
                client.read_to_string(&mut reply).unwrap();
                reply
            });
            let replies = replies.collect();
            drop(stop);
            server.join().unwrap().unwrap();
            replies
        })
    }

    #[test]
    fn the_page_is_served_again_and_again() {
        let request: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
        for reply in exchange(&[request, request]) {
            let (head, body) = reply.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            assert!(head.contains("application/openmetrics-text"), "{head}");
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
            assert!(body.contains("\nsessionip_flows 12\n"), "{body}");
        }
    }

    #[test]
    fn what_else_is_asked_is_refused() {
        let garbage = [0xff; LARGEST + 100];
        let cases: [(&[u8], &str); 8] = [
            (b"GET / HTTP/1.1\r\n\r\n", "404"),
            (b"POST /metrics HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi", "405"),
            (b"POST /other HTTP/1.0\r\n\r\n", "404"),
            (b"GET /metrics\r\n\r\n", "400"),
            (b"get /metrics HTTP/1.1\r\n\r\n", "400"),
            (b"GET /metrics SSH/2.0\r\n\r\n", "400"),
            (b"\r\n\r\n", "400"),
            (&garbage, "400"),
        ];
        let requests: Vec<_> = cases.iter().map(|(request, _)| *request).collect();
        for (reply, (request, status)) in exchange(&requests).iter().zip(cases) {
            let request = String::from_utf8_lossy(request);
            assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {reply}");
        }
    }

    #[test]
    fn a_silent_client_does_not_block_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = crossbeam_channel::bounded(1);
        thread::scope(|scope| {
            scope.spawn(move || serve(&listener, Numbers::default, &stopped));
            let silent = TcpStream::connect(address).unwrap();
            let mut client = TcpStream::connect(address).unwrap();
            client.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
            let mut reply = String::new();
            client.read_to_string(&mut reply).unwrap();
            assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
            drop((silent, stop));
        });
    }

    proptest! {
        #[test]
        fn any_request_is_understood_or_not(request: Vec<u8>) {
            let _ = asked(&request);
        }
    }
}
