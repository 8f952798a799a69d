//! Virtual addresses on a network card: Wine has none of the functions, and stand-ins
//! for them are what these tests take (`tests/windows`), a card with 10.77.0.1/24 and
//! a neighbour at 10.77.0.2.

use super::{Addresses, PutOnError, arp, cards, now};
use crate::address::private_ipv6;
use crate::session::SessionId;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

const HOST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const LEASED: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 101);
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 102);
const FOREIGN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 103);

/// How new addresses fare.
fn let_them(text: &str) {
    let folder = std::path::Path::new(r"C:\standin");
    std::fs::write(folder.join("whole"), text).unwrap();
    std::fs::rename(folder.join("whole"), folder.join("addresses.txt")).unwrap();
}

#[test]
#[ignore = "takes the stand-ins for addresses"]
fn a_virtual_address_comes_can_be_bound_and_leaves_nothing() {
    let_them("tentative 0\n");
    let mut addresses = Addresses::open().unwrap();
    let before = (addresses.adapters().unwrap(), addresses.local_addresses().unwrap());
    let card = before.0.iter().find(|it| it.host_address(LEASED.into()) == Some(HOST.into()));
    let card = card.unwrap();
    assert_eq!(addresses.ours_on_host().unwrap(), [] as [IpAddr; 0]);

    addresses.put_on(LEASED.into(), HOST.into()).unwrap();
    addresses.put_on(LEASED.into(), HOST.into()).unwrap();
    TcpListener::bind((LEASED, 9000)).unwrap();
    // It is no address of the host's, for whoever asks what those are.
    assert_eq!((addresses.adapters().unwrap(), addresses.local_addresses().unwrap()), before);
    assert!(cards().unwrap().iter().all(|it| it.addresses.iter().all(|net| net.addr() != LEASED)));
    assert_eq!(addresses.ours_on_host().unwrap(), [IpAddr::V4(LEASED)]);
    assert!(
        matches!(addresses.put_on(HOST.into(), HOST.into()), Err(PutOnError::Taken(it)) if it == HOST)
    );

    let private = private_ipv6(SessionId(7));
    assert!(addresses.put_on_private_ipv6(private).unwrap());
    assert!(addresses.put_on_private_ipv6(private).unwrap(), "again");
    let listener = TcpListener::bind((private, 9000)).unwrap();
    TcpStream::connect((private, 9000)).unwrap();
    drop(listener);

    // As the next daemon finds it after a crash.
    let mut addresses = Addresses::open().unwrap();
    let stale = addresses.ours_on_host().unwrap();
    assert_eq!(stale.len(), 2, "{stale:?}");
    for address in stale {
        addresses.take_off(address).unwrap();
        addresses.take_off(address).unwrap();
    }
    assert_eq!(addresses.ours_on_host().unwrap(), [] as [IpAddr; 0]);
    assert!(TcpListener::bind((LEASED, 9000)).is_err());

    // The neighbour answers, we and nobody do not.
    assert!(arp::probe(card, Ipv4Addr::new(10, 77, 0, 2), arp::LONGEST_PROBE).unwrap());
    assert!(!arp::probe(card, HOST, arp::LONGEST_PROBE).unwrap());
    assert!(!arp::probe(card, LEASED, arp::LONGEST_PROBE).unwrap());

    // Windows asks the neighbours for a while; a logon does not wait for it.
    let_them("tentative 60000\n");
    let began = now();
    addresses.put_on(SECOND.into(), HOST.into()).unwrap();
    assert!(now().duration_since(began) < Duration::from_secs(1));
    assert!(UdpSocket::bind((SECOND, 9000)).is_err(), "not yet");
    let_them("tentative 0\n");
    let until = now() + Duration::from_secs(5);
    while UdpSocket::bind((SECOND, 9000)).is_err() {
        assert!(now() < until, "not within five seconds");
        std::thread::sleep(Duration::from_millis(50));
    }

    // One that is another's is found out at once, or later.
    let_them("tentative 50\nduplicate 10.77.0.103\n");
    assert!(
        matches!(addresses.put_on(FOREIGN.into(), HOST.into()), Err(PutOnError::Taken(it)) if it == FOREIGN)
    );
    assert_eq!(addresses.duplicates().unwrap(), [] as [IpAddr; 0]);
    let_them("tentative 1000\nduplicate 10.77.0.103\n");
    addresses.put_on(FOREIGN.into(), HOST.into()).unwrap();
    let until = now() + Duration::from_secs(5);
    while addresses.duplicates().unwrap() != [FOREIGN] {
        assert!(now() < until, "not within five seconds");
        std::thread::sleep(Duration::from_millis(50));
    }
    for address in [SECOND, FOREIGN] {
        addresses.take_off(address.into()).unwrap();
    }
    assert_eq!((addresses.adapters().unwrap(), addresses.local_addresses().unwrap()), before);
}
