//! Virtual addresses on a real network stack.

use crate::namespace::{Namespace, ip};
use sessionip::address::{Adapter, LocalAddress, arp, nd, private_ipv6};
use sessionip::address::{Addresses, PutOnError};
use sessionip::session::SessionId;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

const HOST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const LEASED: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 101);
const UNLEASED: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 102);
const HOST6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 1);
const FAR6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 2);
const LEASED6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 0x101);
const SECOND: Duration = Duration::from_secs(1);

fn adapter(name: &str) -> Adapter {
    let adapters = Addresses::open().unwrap().adapters().unwrap();
    adapters.into_iter().find(|adapter| adapter.name == name).unwrap()
}

/// Everything that `put_on` could leave behind.
fn everything() -> String {
    ["route show table all", "-6 route show table all", "address show"].map(ip).join("\n")
}

/// Who answers ARP for `address` on peer0? Asked as a probe, so nothing is learnt.
fn is_answered(peer: &Namespace, address: Ipv4Addr) -> bool {
    peer.run(move || arp::probe(&adapter("peer0"), address, SECOND).unwrap())
}

fn within_a_second(is_so: impl Fn() -> bool) {
    let end = Instant::now() + SECOND;
    while !is_so() {
        assert!(Instant::now() < end, "not within a second");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_virtual_address_is_bindable_answered_and_leaves_nothing() {
    let (host, peer) = Namespace::pair();
    let before = host.run(everything);
    assert!(host.run(|| TcpListener::bind((LEASED, 9000)).is_err()));
    assert!(!is_answered(&peer, LEASED));

    host.run(|| Addresses::open().unwrap().put_on(LEASED.into(), HOST.into()).unwrap());
    let route = host.run(|| ip("-d route show table local proto 83"));
    assert_eq!(
        route.split_whitespace().collect::<Vec<_>>().join(" "),
        "local 10.77.0.101 dev lo scope host src 10.77.0.1 mtu 65500"
    );
    assert!(is_answered(&peer, LEASED));
    assert!(!is_answered(&peer, UNLEASED), "only what is leased is answered");

    // The neighbour reaches it, and the host does from its own address.
    let listener = host.run(|| TcpListener::bind((LEASED, 9000)).unwrap());
    let from_peer = peer.run(|| TcpStream::connect((LEASED, 9000)).unwrap());
    let (_, who) = listener.accept().unwrap();
    assert_eq!(who.ip(), IpAddr::from([10, 77, 0, 2]));
    let from_host = host.run(|| TcpStream::connect((LEASED, 9000)).unwrap());
    assert_eq!(from_host.local_addr().unwrap().ip(), HOST);
    let (_, who) = listener.accept().unwrap();
    assert_eq!(who.ip(), HOST);
    let datagrams = host.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect((LEASED, 9)).unwrap();
        socket.local_addr().unwrap().ip()
    });
    assert_eq!(datagrams, HOST);
    // What the host sends elsewhere still comes from its own address.
    let far = peer.run(|| TcpListener::bind("10.77.0.2:9001").unwrap());
    let to_peer = host.run(|| TcpStream::connect("10.77.0.2:9001").unwrap());
    assert_eq!(far.accept().unwrap().1.ip(), HOST);
    // And what is bound to the virtual address comes from there.
    drop((from_peer, from_host, to_peer, listener));
    let reply_to: SocketAddr = "10.77.0.2:9002".parse().unwrap();
    let ear = peer.run(move || UdpSocket::bind(reply_to).unwrap());
    ear.set_read_timeout(Some(SECOND)).unwrap();
    host.run(move || UdpSocket::bind((LEASED, 0)).unwrap().send_to(b"hello", reply_to).unwrap());
    assert_eq!(ear.recv_from(&mut [0; 8]).unwrap().1.ip(), LEASED);

    host.run(|| Addresses::open().unwrap().take_off(LEASED.into()).unwrap());
    assert_eq!(host.run(everything), before);
    assert!(!is_answered(&peer, LEASED));
    host.run(|| Addresses::open().unwrap().take_off(LEASED.into()).unwrap());
}

#[test]
fn an_ipv6_address_is_bindable_answered_and_leaves_nothing() {
    let (host, peer) = Namespace::pair();
    let before = host.run(everything);
    let is_answered = || peer.run(|| nd::probe(&adapter("peer0"), LEASED6, SECOND).unwrap());
    assert!(host.run(|| TcpListener::bind((LEASED6, 9000)).is_err()));
    assert!(!is_answered());

    host.run(|| {
        let mut addresses = Addresses::open().unwrap();
        addresses.put_on(LEASED6.into(), HOST6.into()).unwrap();
        addresses.put_on(LEASED6.into(), HOST6.into()).unwrap();
        let listed = ip("-6 address show dev host0 to fd00:77::101");
        assert!(listed.contains("/128 scope global nodad deprecated noprefixroute"), "{listed}");
        let route = ip("-6 route show table local fd00:77::101");
        let route = route.split_whitespace().collect::<Vec<_>>().join(" ");
        let expected = "local fd00:77::101 dev host0 proto 83 src fd00:77::1 metric 1024 mtu 65500";
        assert_eq!(route.trim_end_matches(" pref medium"), expected);
        // Whoever asks what the host has hears nothing of it.
        assert!(adapter("host0").addresses.iter().all(|net| net.addr() != LEASED6));
        let local = addresses.local_addresses().unwrap();
        assert!(local.iter().any(|it| it.address == HOST6), "{local:?}");
        assert!(local.iter().all(|it| it.address != LEASED6), "{local:?}");
        let cards = sessionip::address::cards().unwrap();
        assert!(cards.iter().flat_map(|it| &it.addresses).all(|net| net.addr() != LEASED6));
        assert_eq!(addresses.ours_on_host().unwrap(), [IpAddr::V6(LEASED6)]);
        assert_eq!(addresses.whole().unwrap(), [IpAddr::V6(LEASED6)]);
        for half in [
            "address del fd00:77::101/128 dev host0",
            "-6 route del local fd00:77::101 dev host0 table local",
        ] {
            ip(half);
            assert_eq!(addresses.ours_on_host().unwrap(), [IpAddr::V6(LEASED6)]);
            assert_eq!(addresses.whole().unwrap(), [] as [IpAddr; 0], "{half}");
            addresses.put_on(LEASED6.into(), HOST6.into()).unwrap();
            assert_eq!(addresses.whole().unwrap(), [IpAddr::V6(LEASED6)]);
        }
    });
    assert!(is_answered());

    // The neighbour reaches it, and the host does from its own address.
    let listener = host.run(|| TcpListener::bind((LEASED6, 9000)).unwrap());
    let _from_peer = peer.run(|| TcpStream::connect((LEASED6, 9000)).unwrap());
    assert_eq!(listener.accept().unwrap().1.ip(), FAR6);
    let _from_host = host.run(|| TcpStream::connect((LEASED6, 9000)).unwrap());
    assert_eq!(listener.accept().unwrap().1.ip(), HOST6);
    // What the host sends elsewhere still comes from its own address.
    let far = peer.run(|| TcpListener::bind((FAR6, 9001)).unwrap());
    let _to_peer = host.run(|| TcpStream::connect((FAR6, 9001)).unwrap());
    assert_eq!(far.accept().unwrap().1.ip(), HOST6);

    host.run(|| {
        let mut addresses = Addresses::open().unwrap();
        ip("address add fd00:77::3/64 dev host0 nodad");
        let other = "fd00:77::3".parse().unwrap();
        addresses.put_on(LEASED6.into(), other).unwrap();
        assert!(ip("-6 route show table local fd00:77::101").contains("src fd00:77::3"));
        let error = addresses.put_on(other, HOST6.into()).unwrap_err();
        assert_eq!(error.to_string(), "fd00:77::3 is an address of this machine already");
        addresses.take_off(other).unwrap();
        let nowhere = "fd00:99::1".parse().unwrap();
        let error = addresses.put_on("fd00:77::102".parse().unwrap(), nowhere).unwrap_err();
        assert!(error.to_string().contains("no network card has fd00:99::1"), "{error}");
        ip("address del fd00:77::3/64 dev host0");
        addresses.take_off(LEASED6.into()).unwrap();
        addresses.take_off(LEASED6.into()).unwrap();
        assert_eq!(addresses.ours_on_host().unwrap(), [] as [IpAddr; 0]);
    });
    assert_eq!(host.run(everything), before);
    assert!(!is_answered());
}

/// The kernel takes no route by a host address that another machine has.
#[test]
fn an_ipv6_address_that_cannot_be_led_to_is_taken_off_again() {
    let (host, peer) = Namespace::pair();
    peer.run(|| ip("address add fd00:77::3/64 dev peer0 nodad"));
    host.run(|| {
        ip("address add fd00:77::3/64 dev host0");
        let end = Instant::now() + 5 * SECOND;
        while !ip("address show dev host0").contains("dadfailed") {
            assert!(Instant::now() < end, "the neighbour is not heard");
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut addresses = Addresses::open().unwrap();
        let taken: IpAddr = "fd00:77::3".parse().unwrap();
        assert!(addresses.local_addresses().unwrap().iter().all(|it| it.address != taken));
        let error = addresses.put_on(LEASED6.into(), taken).unwrap_err();
        assert!(matches!(error, PutOnError::Kernel { .. }), "{error:?}");
        assert_eq!(addresses.ours_on_host().unwrap(), [] as [IpAddr; 0]);
        // Who has it already keeps it.
        addresses.put_on(LEASED6.into(), HOST6.into()).unwrap();
        addresses.put_on(LEASED6.into(), taken).unwrap_err();
        assert!(ip("-6 route show table local fd00:77::101").contains("src fd00:77::1"));
        assert!(ip("address show dev host0").contains("fd00:77::101"));
    });
}

#[test]
fn a_neighbour_that_has_the_ipv6_address_is_heard_in_time() {
    let (host, peer) = Namespace::pair();
    peer.run(|| ip("address add fd00:77::101/64 dev peer0 nodad"));
    host.run(|| {
        let host0 = adapter("host0");
        let begin = Instant::now();
        assert!(nd::probe(&host0, LEASED6, nd::LONGEST_PROBE).unwrap());
        assert!(begin.elapsed() < Duration::from_millis(100), "{:?}", begin.elapsed());
        let begin = Instant::now();
        assert!(!nd::probe(&host0, "fd00:77::102".parse().unwrap(), SECOND).unwrap());
        let waited = begin.elapsed();
        assert!((190..400).contains(&waited.as_millis()), "{waited:?}");
        assert!(!ip("-6 neigh show").contains("fd00:77::101"), "a probe teaches nobody");
        ip("link set host0 down");
        let error = nd::probe(&host0, LEASED6, SECOND).unwrap_err();
        assert_eq!(error.to_string(), "cannot speak neighbour discovery on host0");
    });
}

#[test]
fn an_ipv6_announcement_corrects_the_neighbours() {
    let (host, peer) = Namespace::pair();
    peer.run(|| ip("neigh add fd00:77::101 lladdr 02:00:00:00:00:99 dev peer0 nud stale"));
    let mac = host.run(|| {
        let host0 = adapter("host0");
        Addresses::open().unwrap().put_on(LEASED6.into(), HOST6.into()).unwrap();
        nd::announce(&host0, LEASED6).unwrap();
        host0.mac.unwrap().map(|byte| format!("{byte:02x}")).join(":")
    });
    within_a_second(|| peer.run(|| ip("-6 neigh show fd00:77::101")).contains(&mac));
}

#[test]
fn an_interface_s_own_address_is_never_touched() {
    let (host, _peer) = Namespace::pair();
    let before = host.run(everything);
    host.run(|| {
        let mut addresses = Addresses::open().unwrap();
        let error = addresses.put_on(HOST.into(), HOST.into()).unwrap_err();
        assert!(matches!(error, PutOnError::Taken(it) if it == HOST), "{error:?}");
        addresses.take_off(HOST.into()).unwrap();
        ip("route add local 10.77.0.200/32 dev lo table local");
        let strange = Ipv4Addr::new(10, 77, 0, 200);
        let error = addresses.put_on(strange.into(), HOST.into()).unwrap_err();
        assert_eq!(error.to_string(), "10.77.0.200 is an address of this machine already");
        addresses.take_off(strange.into()).unwrap();
        ip("route del local 10.77.0.200/32 dev lo table local");
        let error = addresses.put_on(LEASED.into(), [10, 9, 9, 9].into()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot put 10.77.0.101 on this machine (is its host address still there?)"
        );
    });
    assert_eq!(host.run(everything), before);
}

#[test]
fn put_on_again_takes_another_host_address_and_stale_ones_are_found() {
    let (host, _peer) = Namespace::pair();
    host.run(|| {
        ip("address add 10.77.0.3/24 dev host0");
        ip("route add local 10.77.0.200/32 dev lo table local");
        let mut addresses = Addresses::open().unwrap();
        assert_eq!(addresses.ours_on_host().unwrap(), [] as [IpAddr; 0]);
        addresses.put_on(LEASED.into(), HOST.into()).unwrap();
        addresses.put_on(LEASED.into(), [10, 77, 0, 3].into()).unwrap();
        addresses.put_on(UNLEASED.into(), HOST.into()).unwrap();
        let private = private_ipv6(SessionId(7));
        assert!(addresses.put_on_private_ipv6(private).unwrap());
        assert_eq!(ip("route show table local proto 83").lines().count(), 2);
        assert!(ip("route show table local proto 83").contains("src 10.77.0.3"));
        drop(addresses);

        let mut addresses = Addresses::open().unwrap();
        let stale = addresses.ours_on_host().unwrap();
        assert_eq!(stale, [LEASED.into(), UNLEASED.into(), IpAddr::from(private)]);
        for address in stale {
            addresses.take_off(address).unwrap();
        }
        assert_eq!(addresses.ours_on_host().unwrap(), [] as [IpAddr; 0]);
        assert!(ip("route show table local").contains("10.77.0.200"), "a stranger's stays");
    });
}

#[test]
fn a_private_ipv6_address_can_be_bound_and_is_no_source() {
    let (host, peer) = Namespace::pair();
    let before = host.run(everything);
    let private = private_ipv6(SessionId(7));
    let far = peer.run(|| TcpListener::bind("[fd00:77::2]:9001").unwrap());
    host.run(move || {
        let mut addresses = Addresses::open().unwrap();
        assert!(addresses.put_on_private_ipv6(private).unwrap());
        assert!(addresses.put_on_private_ipv6(private).unwrap(), "again");
        let listener = TcpListener::bind((private, 9000)).unwrap();
        // It can be bound at once, and is routed to a moment later.
        within_a_second(|| TcpStream::connect((private, 9000)).is_ok());
        listener.accept().unwrap();
        TcpStream::connect("[fd00:77::2]:9001").unwrap();
        assert!(ip("-6 address show dev lo").contains("deprecated"));
    });
    assert_eq!(far.accept().unwrap().1.ip().to_string(), "fd00:77::1");
    host.run(move || {
        let mut addresses = Addresses::open().unwrap();
        addresses.take_off(private.into()).unwrap();
        addresses.take_off(private.into()).unwrap();
    });
    assert_eq!(host.run(everything), before);

    host.run(move || {
        // The kernel takes the settings of the writing thread's network.
        std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
        let mut addresses = Addresses::open().unwrap();
        assert!(!addresses.put_on_private_ipv6(private).unwrap());
        addresses.take_off(private.into()).unwrap();
    });
}

#[test]
fn what_there_is_is_listed() {
    let (host, _peer) = Namespace::pair();
    host.run(|| {
        ip("address add 10.77.0.9/24 dev host0");
        ip("link add spare0 type veth peer name spare1");
        let mut addresses = Addresses::open().unwrap();
        addresses.put_on(LEASED.into(), HOST.into()).unwrap();
        let adapters = addresses.adapters().unwrap();
        let names: Vec<&str> = adapters.iter().map(|adapter| adapter.name.as_str()).collect();
        assert!(names.contains(&"host0") && names.contains(&"spare0"), "{names:?}");
        assert!(!names.contains(&"lo"));
        let host0 = adapter("host0");
        let nets: Vec<String> = host0.addresses.iter().map(|net| net.to_string()).collect();
        assert_eq!(nets[..3], ["10.77.0.1/24", "10.77.0.9/24", "fd00:77::1/64"]);
        assert!(
            ip("link show host0")
                .contains(&host0.mac.unwrap().map(|b| format!("{b:02x}")).join(":"))
        );
        let lo = LocalAddress { address: Ipv4Addr::LOCALHOST.into(), interface: 1 };
        let local = addresses.local_addresses().unwrap();
        assert!(local.contains(&lo), "{local:?}");
        assert!(local.contains(&LocalAddress { address: HOST.into(), interface: host0.index }));
        assert!(local.iter().all(|it| it.address != LEASED), "a virtual one is on none");
    });
}

#[test]
fn a_neighbour_that_has_the_address_is_heard_in_time() {
    let (host, peer) = Namespace::pair();
    peer.run(|| ip("address add 10.77.0.101/24 dev peer0"));
    host.run(|| {
        let host0 = adapter("host0");
        let begin = Instant::now();
        assert!(arp::probe(&host0, LEASED, arp::LONGEST_PROBE).unwrap());
        assert!(begin.elapsed() < Duration::from_millis(100), "{:?}", begin.elapsed());
        let begin = Instant::now();
        assert!(!arp::probe(&host0, UNLEASED, SECOND).unwrap());
        let waited = begin.elapsed();
        assert!((190..400).contains(&waited.as_millis()), "{waited:?}");
        assert!(!ip("neigh show").contains("10.77.0.101"), "a probe teaches nobody");
        ip("link set host0 down");
        let error = arp::probe(&host0, LEASED, SECOND).unwrap_err();
        assert_eq!(error.to_string(), "cannot speak ARP on host0");
    });
}

#[test]
fn an_announcement_corrects_the_neighbours() {
    let (host, peer) = Namespace::pair();
    peer.run(|| ip("neigh add 10.77.0.101 lladdr 02:00:00:00:00:99 dev peer0 nud stale"));
    let mac = host.run(|| {
        let host0 = adapter("host0");
        Addresses::open().unwrap().put_on(LEASED.into(), HOST.into()).unwrap();
        arp::announce(&host0, LEASED).unwrap();
        host0.mac.unwrap().map(|byte| format!("{byte:02x}")).join(":")
    });
    within_a_second(|| peer.run(|| ip("neigh show 10.77.0.101")).contains(&mac));
    let listener = host.run(|| TcpListener::bind((LEASED, 9000)).unwrap());
    let mut stream =
        peer.run(|| TcpStream::connect_timeout(&(LEASED, 9000).into(), SECOND).unwrap());
    drop(listener.accept().unwrap());
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}
