//! Does the lab see what is there? Its instruments, without the product. Needs
//! root, iproute2, iptables and iperf3.

#![cfg(target_os = "linux")]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use sessionip::lab::iperf::{self, Kind};
use sessionip::lab::leftovers::Trace;
use sessionip::lab::network::{FAR, FAR_FOR_OTHERS, HOST, HOST_LINK, Network};
use sessionip::lab::wire::{Counts, Tally};
use sessionip::lab::{listeners, marker, process};
use sessionip::packet::Protocol;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::thread;

fn network(test: &str) -> Network {
    let prefix = format!("lab-{test}-{}", std::process::id());
    Network::new(&prefix).expect("network namespaces need root and iproute2")
}

#[test]
fn both_sides_see_each_other_and_no_namespace_is_left() {
    let network = network("sides");
    let address = SocketAddr::from((HOST, 9000));
    let listener = network.host.within(|| TcpListener::bind(address)).unwrap().unwrap();
    let listening = listeners::listeners(&network.host, Protocol::Tcp, 9000).unwrap();
    assert_eq!(listening, [address]);
    assert!(listeners::listeners(&network.client, Protocol::Tcp, 9000).unwrap().is_empty());

    thread::scope(|scope| {
        let told = scope.spawn(|| marker::answer_one(&listener, "host").unwrap());
        let answer = network.client.within(|| marker::ask(address, "hello")).unwrap().unwrap();
        assert_eq!(answer, "host");
        let told = told.join().unwrap();
        assert_eq!((told.word.as_str(), told.from.ip()), ("hello", FAR.into()));
    });

    let path = format!("/run/netns/{}", network.host.name());
    assert!(std::path::Path::new(&path).exists());
    drop(network);
    assert!(!std::path::Path::new(&path).exists());
}

#[test]
fn an_undiverted_link_carries_all_three_kinds() {
    let network = network("iperf");
    for kind in [Kind::Out, Kind::In, Kind::Udp] {
        let mut client = process::command(&iperf::client_words(kind, FAR, 1));
        let far = (&network.client, FAR);
        let run = iperf::run(kind, 1, (&network.host, &mut client), far).unwrap();
        assert!(run.gbps > 0.1, "{run:?}");
        assert_eq!(run.seen, HOST);
        assert_eq!(run.conversations.len(), 1, "{run:?}");
        assert!(run.conversations.iter().all(|(_, from)| from.ip() == HOST), "{run:?}");
    }
}

#[test]
fn only_packets_to_the_address_for_sessions_are_counted() {
    let network = network("wire");
    let tally = Tally::start(&network.client, 2).unwrap();
    let send = |to| {
        let sent = UdpSocket::bind((HOST, 0)).and_then(|socket| socket.send_to(b"hello", to));
        sent.unwrap()
    };
    network.host.within(|| send((FAR_FOR_OTHERS, 9))).unwrap();
    assert_eq!(tally.counts().unwrap(), Counts { from_host: 0, from_pool: 0 });
    network.host.within(|| send((FAR, 9))).unwrap();
    assert_eq!(tally.counts().unwrap(), Counts { from_host: 1, from_pool: 0 });
}

#[test]
fn whatever_is_left_is_named() {
    let network = network("left");
    let directory = tempfile::tempdir().unwrap();
    let trace = Trace::begin(&network, directory.path()).unwrap();
    assert!(trace.left(&network).unwrap().is_empty());

    let run = |line: String| {
        let words: Vec<_> = line.split(' ').collect();
        network.host.output(&mut process::command(&words)).unwrap();
    };
    run("iptables -w -t mangle -N LAB-LEFT".into());
    run(format!("ip route add local 10.77.0.109 dev {HOST_LINK} proto 83"));
    run(format!("ip address add 10.77.0.110/32 dev {HOST_LINK}"));
    std::fs::create_dir(directory.path().join("control")).unwrap();
    std::fs::write(directory.path().join("control/control.sock"), "").unwrap();
    let mut sleep = process::command(&["sleep", "600"]);
    let sleeping = network.host.start("sleep", &mut sleep).unwrap();

    let left = trace.left(&network).unwrap().join("\n");
    let process = format!("process {} (sleep)", sleeping.pid());
    for expected in ["LAB-LEFT", "10.77.0.109", "10.77.0.110", "control.sock", &process] {
        assert!(left.contains(expected), "{expected} is missing from:\n{left}");
    }
}
