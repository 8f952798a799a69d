//! Whose socket is this? Asked of the system's own list, about sockets of this
//! process and of a child of it. No driver is needed.

#![cfg(windows)]
#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

#[path = "../support/policy.rs"]
mod policy;

use sessionip::companion::Moved;
use sessionip::config::ProgramPattern;
use sessionip::owner::table::SocketTable;
use sessionip::owner::windows::{Census, KernelSockets, Options, Reader};
use sessionip::owner::{Bound, Owner, Program, Sockets, Told};
use sessionip::packet::{Endpoint, Protocol};
use sessionip::policy::{Listing, Policy};
use sessionip::session::SessionId;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const TCP: Protocol = Protocol::Tcp;
const UDP: Protocol = Protocol::Udp;
const STRANGER: &str = "10.77.0.2:40000";
/// Set for a copy of this test that is to be a child.
const CHILD: &str = "SESSIONIP_OWNER_CHILD";

/// What is there, of every session but that of the services.
struct World {
    census: Census,
    table: SocketTable,
    sockets: KernelSockets,
}

impl World {
    fn new() -> Self {
        let table = SocketTable::default();
        let census = Census::begin(table.clone(), Arc::new(|station| station != 0)).unwrap();
        let sockets = KernelSockets::new(table.clone(), census.bell().clone());
        Self { census, table, sockets }
    }

    /// Looks at the list until `done`, as the reader does, for a bounded time.
    fn tend_until(&mut self, done: impl Fn(&mut KernelSockets) -> bool) -> bool {
        (0..500).any(|_| {
            std::thread::sleep(self.census.patience().min(Duration::from_millis(50)));
            self.census.tend();
            done(&mut self.sockets)
        })
    }
}

fn end(text: &str) -> Endpoint {
    of(text.parse().unwrap())
}

fn of(end: SocketAddr) -> Endpoint {
    Endpoint::new(end.ip(), end.port())
}

fn at(address: &str, of: SocketAddr) -> Endpoint {
    Endpoint::new(address.parse().unwrap(), of.port())
}

#[test]
fn sockets_that_were_there_before_are_this_process_own() {
    let wildcard = listener("0.0.0.0:0");
    let exact = listener("127.0.0.1:0");
    let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
    let client = TcpStream::connect(("127.0.0.1", exact.1.port())).unwrap();
    let (accepted, _) = exact.0.accept().unwrap();
    let mut world = World::new();
    let this = std::process::id();

    let mut receiver = |protocol, local| {
        let receiver = world.sockets.receiver(protocol, local, end(STRANGER))?;
        Some((receiver.bound, receiver.owner.pid))
    };
    assert_eq!(receiver(TCP, at("10.77.0.1", wildcard.1)), Some((Bound::Wildcard, this)));
    assert_eq!(receiver(TCP, of(exact.1)), Some((Bound::Address, this)));
    assert_eq!(receiver(TCP, at("10.77.0.1", exact.1)), None);
    assert_eq!(receiver(UDP, at("10.77.0.1", wildcard.1)), None);
    assert_eq!(
        receiver(UDP, at("10.77.0.1", udp.local_addr().unwrap())),
        Some((Bound::Wildcard, this))
    );

    let (near, far) = (of(client.local_addr().unwrap()), of(exact.1));
    assert_eq!(of(accepted.peer_addr().unwrap()), near);
    for (local, remote) in [(near, far), (far, near)] {
        let owner = world.sockets.owner(TCP, local, remote).unwrap();
        assert_eq!(owner.pid, this);
        let exe = std::env::current_exe().unwrap();
        assert_eq!(owner.program.path, exe.to_str().unwrap());
    }
}

#[test]
fn a_dual_stack_socket_takes_both() {
    let Ok(socket) = TcpListener::bind("[::]:0") else {
        // Without IPv6 there is nothing to be dual.
        return;
    };
    let local = socket.local_addr().unwrap();
    let mut world = World::new();
    for address in ["10.77.0.1", "fd77::1"] {
        let receiver = world.sockets.receiver(TCP, at(address, local), end("[fd77::2]:9"));
        let receiver = receiver.map(|it| (it.bound, it.owner.pid));
        assert_eq!(receiver, Some((Bound::Wildcard, std::process::id())), "{address}");
    }
}

#[test]
fn a_childs_sockets_are_the_childs_until_it_ends() {
    let (mut child, tcp, udp) = child();
    let mut world = World::new();
    let owner = world.sockets.receiver(TCP, tcp, end(STRANGER)).unwrap().owner;
    assert_eq!(owner.pid, child.id());
    assert_eq!(world.sockets.owner(UDP, udp, end(STRANGER)).unwrap().pid, child.id());
    if let Some(session) = owner.session {
        let moved = Moved {
            session,
            pid: child.id(),
            protocol: TCP,
            asked: Endpoint::new([0, 0, 0, 0].into(), tcp.port),
            bound: tcp,
        };
        let rows = world.sockets.listing(&[moved]).unwrap();
        let row = rows.iter().find(|row| row.bound == tcp).unwrap();
        assert_eq!((row.asked, row.pid), (moved.asked, child.id()));
        let row = rows.iter().find(|row| row.bound == udp).unwrap();
        assert_eq!(row.asked, row.bound);
    }

    child.kill().unwrap();
    child.wait().unwrap();
    let gone = world.tend_until(|sockets| sockets.receiver(TCP, tcp, end(STRANGER)).is_none());
    assert!(gone, "it is still there");
    assert_eq!(world.sockets.owner(UDP, udp, end(STRANGER)).unwrap().pid, child.id());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it is measured how long it takes")]
fn a_socket_that_nobody_told_of_is_found_as_soon_as_it_is_asked_for() {
    let mut world = World::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let local = of(socket.local_addr().unwrap());
    assert!(world.census.patience() > Duration::from_secs(1));
    assert_eq!(world.sockets.owner(UDP, local, end(STRANGER)), None);
    assert!(world.census.patience() < Duration::from_secs(1), "the bell was rung");
    let asked = Instant::now();
    assert!(world.tend_until(|sockets| sockets.owner(UDP, local, end(STRANGER)).is_some()));
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    println!("found after {took:?}; {} sockets", world.table.len());
    assert_eq!(world.sockets.unanswered(), 0);
}

#[test]
fn a_session_that_turns_out_to_be_a_login_has_its_sockets() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let local = of(socket.local_addr().unwrap());
    let table = SocketTable::default();
    let _census = Census::begin(table.clone(), Arc::new(|_| false)).unwrap();
    let session = || table.owner(UDP, local, end(STRANGER)).unwrap().session;
    assert_eq!(session(), None);
    let station = World::new().sockets.owner(UDP, local, end(STRANGER)).unwrap().session;
    if let Some(SessionId(station)) = station {
        table.set_login(station, Some(SessionId(station)));
        assert_eq!(session(), Some(SessionId(station)));
    }
}

#[test]
fn program_lists_do_not_care_for_case() {
    let mut config = policy::config();
    config.virtual_ip.programs = vec![
        ProgramPattern::Path(r"C:\Program Files\CRM\crm.exe".into()),
        ProgramPattern::Name("iPerf3.exe".to_owned()),
    ];
    config.virtual_ip.except = vec![ProgramPattern::Name("WinLogon.exe".to_owned())];
    let policy = Policy::compile(&config, |_| None);
    for (path, listing) in [
        (r"c:\PROGRAM FILES\crm\CRM.EXE", Listing::Listed),
        (r"D:\Tools\IPERF3.EXE", Listing::Listed),
        (r"D:\crm.exe", Listing::NotListed),
        (r"C:\Windows\System32\winlogon.exe", Listing::Excepted),
    ] {
        let program = Arc::new(Program { path: path.to_owned(), file: (0, 0) });
        let owner =
            Owner { session: None, pid: 8, program, marks: Default::default(), lineage: None };
        assert_eq!(policy.program(&owner), listing, "{path}");
    }
}

fn listener(at: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(at).unwrap();
    let local = listener.local_addr().unwrap();
    (listener, local)
}

/// Needs `WinDivert.dll` and a driver beside this program.
#[test]
#[ignore = "it needs a driver"]
fn the_driver_tells_of_sockets_before_the_list_is_looked_at() {
    let table = SocketTable::default();
    table.set_pool(vec![([127, 9, 0, 1].into(), [127, 9, 0, 9].into())]);
    let mut reader = Reader::open(Options {
        table: table.clone(),
        priority: 100,
        is_login: Arc::new(|station| station != 0),
    })
    .unwrap();
    let mut sockets = reader.sockets();
    let this = std::process::id();
    let mut told_until = |done: &mut dyn FnMut(Told) -> bool| {
        (0..200).any(|_| done(reader.turn(Duration::from_millis(10)).unwrap()))
    };

    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let local = of(udp.local_addr().unwrap());
    let mut events = 0;
    assert!(told_until(&mut |told| {
        events += told.events;
        let owner = table.owner(UDP, local, end(STRANGER));
        owner.is_some_and(|owner| owner.pid == this)
    }));
    assert!(events > 0, "it was the list that knew");

    let (listener, at_pool) = listener("127.9.0.1:0");
    assert!(told_until(&mut |told| told.at_pool));
    assert!(told_until(&mut |_| { sockets.receiver(TCP, of(at_pool), end(STRANGER)).is_some() }));
    assert_eq!(table.at_pool().first().map(|row| row.bound), Some(of(at_pool)));
    drop(listener);
    assert!(told_until(&mut |_| sockets.receiver(TCP, of(at_pool), end(STRANGER)).is_none()));
    drop(udp);
    assert!(told_until(&mut |_| sockets.receiver(UDP, local, end(STRANGER)).is_none()));
    assert!(sockets.owner(UDP, local, end(STRANGER)).is_some(), "it is remembered");
}

/// Not a test: what [`child`] starts.
#[test]
#[ignore = "it is a child of another test, and waits to be ended"]
fn be_a_child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    println!("\nsockets {} {}", tcp.local_addr().unwrap(), udp.local_addr().unwrap());
    std::thread::sleep(Duration::from_secs(60));
}

/// A child that has a TCP listener and a UDP socket.
fn child() -> (Child, Endpoint, Endpoint) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "be_a_child", "--ignored", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().take(20);
    let line = lines.map(Result::unwrap).find(|line| line.starts_with("sockets ")).unwrap();
    let mut ends = line.split_whitespace().skip(1).map(end);
    (child, ends.next().unwrap(), ends.next().unwrap())
}
