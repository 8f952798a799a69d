//! A peer at work on this machine.

use super::*;
use std::net::Ipv4Addr;

/// Serves until the test program ends, as it does until its process ends.
fn running() -> SocketAddr {
    let peer = Peer::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = peer.address().unwrap();
    std::thread::Builder::new().spawn(move || peer.serve()).unwrap();
    address
}

fn ask(stream: &TcpStream, line: &str) -> String {
    (&*stream).write_all(line.as_bytes()).unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    answer
}

#[test]
fn it_says_whom_it_hears() {
    let address = running();
    let stream = TcpStream::connect(address).unwrap();
    let own = stream.local_addr().unwrap();
    assert_eq!(wire::sender(&ask(&stream, "who\n")), Some(own));
    assert_eq!(ask(&stream, "what\n"), "refused not understood\n");

    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send_to(b"who\n", address).unwrap();
    socket.send_to(&wire::datagram(), address).unwrap();
    let mut buffer = [0; wire::LONGEST];
    let length = socket.recv(&mut buffer).unwrap();
    let answer = std::str::from_utf8(&buffer[..length]).unwrap();
    assert_eq!(wire::sender(answer), Some(socket.local_addr().unwrap()));
}

#[test]
fn it_connects_back_to_who_asks() {
    let stream = TcpStream::connect(running()).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = std::thread::scope(|scope| {
        scope.spawn(|| {
            let (back, _) = listener.accept().unwrap();
            assert_eq!(ask(&back, "yes\n"), "word1\n");
        });
        ask(&stream, &format!("back tcp {port} word1\n"))
    });
    assert_eq!(answer, "heard yes\n");

    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    let answer = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; wire::LONGEST];
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"word2");
            socket.send_to(b"here\x07", from).unwrap();
        });
        ask(&stream, &format!("back udp {port} word2\n"))
    });
    assert_eq!(answer, "heard here.\n");
    assert!(ask(&stream, &format!("back udp {port} word3\n")).starts_with("refused "));
}

#[test]
fn it_counts_what_it_takes() {
    let stream = TcpStream::connect(running()).unwrap();
    (&stream).write_all(b"take\n").unwrap();
    (&stream).write_all(&vec![7; 300_000]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    (&stream).read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "took 300000\n");
}

#[test]
fn who_asks_too_much_is_refused() {
    let stream = TcpStream::connect(running()).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let question = format!("back tcp {} x\n", listener.local_addr().unwrap().port());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..BACKS {
                drop(listener.accept().unwrap());
            }
        });
        let answers = (0..10 * BACKS).map(|_| ask(&stream, &question));
        let refused =
            answers.into_iter().position(|it| it == "refused too many connections back\n");
        assert_eq!(refused, Some(BACKS as usize));
    });
    let refused = "refused too many questions\n";
    assert!((0..10 * QUESTIONS).any(|_| ask(&stream, "who\n") == refused));
}
