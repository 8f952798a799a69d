//! The table of sockets, told of sockets that never were.

use super::*;
use crate::owner::{Bound, Owner, Program};
use proptest::prelude::*;
use std::collections::HashMap;

const TCP: Protocol = Protocol::Tcp;
const UDP: Protocol = Protocol::Udp;
const SECOND: u64 = 10_000_000;

fn end(text: &str) -> Endpoint {
    let end: std::net::SocketAddr = text.parse().unwrap();
    Endpoint::new(end.ip(), end.port())
}

/// Process 10 is of session 1, 20 of session 2, and so on; below 10 they are
/// services'.
fn holder(pid: u32) -> Holder {
    let station = pid / 10;
    let session = (station != 0).then_some(SessionId(station));
    let program = Arc::new(Program { path: format!(r"C:\{pid}.exe"), file: (0, 0) });
    Holder {
        owner: Owner { session, pid, program, marks: Default::default(), lineage: None },
        station,
    }
}

/// Sockets that are told of in words.
struct World {
    table: SocketTable,
    now: u64,
}

impl World {
    fn new() -> Self {
        let table = SocketTable::default();
        let [first, last] = ["10.77.0.101", "10.77.0.199"].map(|it| it.parse().unwrap());
        table.set_pool(vec![(first, last)]);
        Self { table, now: 1000 * SECOND }
    }

    /// `bind tcp 0.0.0.0:80 1 pid 10`: the number is the endpoint's; `> PEER` and
    /// `parent N` may follow.
    fn tell(&mut self, text: &str) -> &mut Self {
        self.now += SECOND / 1000;
        let event = self.event(text);
        let known = event.what != What::Close && !text.ends_with("gone");
        self.table.apply(&event, known.then(|| holder(event.pid)));
        self
    }

    fn event(&self, text: &str) -> Event {
        let mut words = text.split(' ');
        let what = match words.next() {
            Some("bind") => What::Bind,
            Some("connect") => What::Connect,
            Some("listen") => What::Listen,
            Some("accept") => What::Accept,
            Some("close") => What::Close,
            other => panic!("{other:?}"),
        };
        let protocol = if words.next() == Some("tcp") { TCP } else { UDP };
        let local = end(words.next().unwrap());
        let endpoint = words.next().unwrap().parse().unwrap();
        let at = Moment(self.now);
        let mut event =
            Event { what, at, protocol, local, remote: None, endpoint, parent: 0, pid: 0 };
        while let Some(word) = words.next() {
            let value = words.next().unwrap_or_default();
            match word {
                ">" => event.remote = Some(end(value)),
                "pid" => event.pid = value.parse().unwrap(),
                "parent" => event.parent = value.parse().unwrap(),
                _ => {}
            }
        }
        event
    }

    /// The system's list: `tcp 0.0.0.0:80 10`, with `> PEER` where it talks.
    fn list(&mut self, rows: &[&str]) {
        let rows: Vec<Row> = rows.iter().map(|row| read_row(row)).collect();
        self.table.reconcile(&rows, Moment(self.now), |pid| Some(holder(pid)));
    }

    fn wait(&mut self, seconds: u64) -> &mut Self {
        self.now += seconds * SECOND;
        self
    }

    fn expire(&mut self) {
        self.table.expire(Moment(self.now));
    }

    fn owner(&self, protocol: Protocol, local: &str, remote: &str) -> Option<u32> {
        self.table.owner(protocol, end(local), end(remote)).map(|owner| owner.pid)
    }

    fn receiver(&self, protocol: Protocol, local: &str) -> Option<(Bound, u32)> {
        let receiver = self.table.receiver(protocol, end(local), end(PEER))?;
        Some((receiver.bound, receiver.owner.pid))
    }
}

const PEER: &str = "10.77.0.2:40000";

fn read_row(text: &str) -> Row {
    let mut words = text.split(' ');
    let protocol = if words.next() == Some("tcp") { TCP } else { UDP };
    let local = end(words.next().unwrap());
    let pid = words.next().unwrap().parse().unwrap();
    let state = match words.nth(1) {
        Some(remote) => State::TalksTo(end(remote)),
        None => State::Receives,
    };
    Row { protocol, local, state, pid, since: None }
}

#[test]
fn a_listener_takes_packets_and_what_is_only_bound_does_not() {
    let mut world = World::new();
    world.tell("bind tcp 0.0.0.0:80 1 pid 10");
    assert_eq!(world.receiver(TCP, "10.77.0.1:80"), None);
    assert_eq!(world.owner(TCP, "10.77.0.1:80", PEER), Some(10), "it may be about to connect");
    world.tell("listen tcp 0.0.0.0:80 1 pid 10");
    assert_eq!(world.receiver(TCP, "10.77.0.1:80"), Some((Bound::Wildcard, 10)));
    assert_eq!(world.receiver(TCP, "[fd77::1]:80"), None);
    assert_eq!(world.receiver(UDP, "10.77.0.1:80"), None);
    assert_eq!(world.table.len(), 1);
    world.tell("bind tcp 0.0.0.0:80 1 pid 10");
    assert_eq!(world.receiver(TCP, "10.77.0.1:80"), Some((Bound::Wildcard, 10)), "late event");
}

#[test]
fn the_exact_address_comes_first_then_the_wildcard_then_dual_stack_and_the_newest() {
    let mut world = World::new();
    world.tell("bind udp [::]:53 1 pid 10");
    assert_eq!(world.receiver(UDP, "10.77.0.1:53"), Some((Bound::Wildcard, 10)));
    assert_eq!(world.receiver(UDP, "[fd77::1]:53"), Some((Bound::Wildcard, 10)));
    world.tell("bind udp 0.0.0.0:53 2 pid 20");
    assert_eq!(world.receiver(UDP, "10.77.0.1:53"), Some((Bound::Wildcard, 20)));
    assert_eq!(world.receiver(UDP, "[fd77::1]:53"), Some((Bound::Wildcard, 10)));
    world.tell("bind udp 10.77.0.101:53 3 pid 30");
    assert_eq!(world.receiver(UDP, "10.77.0.101:53"), Some((Bound::Address, 30)));
    assert_eq!(world.receiver(UDP, "10.77.0.102:53"), Some((Bound::Wildcard, 20)));
    world.tell("bind udp 0.0.0.0:53 4 pid 40");
    assert_eq!(world.owner(UDP, "10.77.0.1:53", PEER), Some(40));
    world.tell("close udp 0.0.0.0:53 4");
    assert_eq!(world.owner(UDP, "10.77.0.1:53", PEER), Some(20));
}

#[test]
fn a_connection_is_its_own_whoever_else_has_the_port() {
    let mut world = World::new();
    world
        .tell("bind tcp 0.0.0.0:50000 1 pid 10")
        .tell("connect tcp 10.77.0.1:50000 1 pid 10 > 10.77.0.2:443")
        .tell("bind tcp 10.77.0.1:50000 2 pid 20")
        .tell("listen tcp 10.77.0.1:50000 2 pid 20");
    assert_eq!(world.owner(TCP, "10.77.0.1:50000", "10.77.0.2:443"), Some(10));
    assert_eq!(world.owner(TCP, "10.77.0.1:50000", "10.77.0.2:444"), Some(20));
    let (local, peer) = (end("10.77.0.1:50000"), end("10.77.0.2:443"));
    let connected = world.table.receiver(TCP, local, peer).unwrap();
    assert_eq!((connected.bound, connected.owner.pid), (Bound::Address, 10));
}

#[test]
fn what_was_accepted_is_the_listeners() {
    let mut world = World::new();
    world
        .tell("bind tcp 0.0.0.0:80 1 pid 10")
        .tell("listen tcp 0.0.0.0:80 1 pid 10")
        .tell("accept tcp 10.77.0.101:80 2 pid 20 parent 1 > 10.77.0.2:40000");
    assert_eq!(world.owner(TCP, "10.77.0.101:80", PEER), Some(10));
    world.tell("accept tcp 10.77.0.101:80 3 pid 20 parent 99 > 10.77.0.2:40001");
    assert_eq!(world.owner(TCP, "10.77.0.101:80", "10.77.0.2:40001"), Some(20));
    world.tell("close tcp 0.0.0.0:80 1");
    assert_eq!(world.owner(TCP, "10.77.0.101:80", PEER), Some(10), "it outlives its listener");
    assert_eq!(world.receiver(TCP, "10.77.0.1:80"), None);
}

#[test]
fn a_udp_socket_is_bound_once_however_many_it_talks_to() {
    let mut world = World::new();
    world.tell("bind udp 0.0.0.0:5000 1 pid 10");
    for peer in 1..100 {
        world.tell(&format!("connect udp 10.77.0.1:5000 1 pid 10 > 10.77.0.2:{peer}"));
    }
    assert_eq!(world.table.len(), 1);
    world.tell("connect udp 10.77.0.1:6000 9 pid 20 > 10.77.0.2:53");
    assert_eq!(world.owner(UDP, "10.77.0.1:6000", "10.77.0.2:53"), Some(20), "its bind was lost");
    assert_eq!(world.receiver(UDP, "10.77.0.1:6000"), None);
}

#[test]
fn a_closed_socket_is_remembered_for_what_it_sent_and_takes_nothing() {
    let mut world = World::new();
    world.tell("bind udp 0.0.0.0:5000 1 pid 10").tell("close udp 0.0.0.0:5000 1 pid 10");
    assert_eq!(world.owner(UDP, "10.77.0.1:5000", PEER), Some(10));
    assert_eq!(world.receiver(UDP, "10.77.0.1:5000"), None);
    world.tell("bind udp 0.0.0.0:5000 2 pid 20");
    assert_eq!(world.owner(UDP, "10.77.0.1:5000", PEER), Some(20), "who is there comes first");
    world.wait(4).expire();
    assert_eq!(world.table.len(), 2);
    world.wait(2).expire();
    assert_eq!(world.table.len(), 1);
    assert_eq!(world.owner(UDP, "10.77.0.1:5000", PEER), Some(20));
}

#[test]
fn a_closed_connection_is_remembered_until_its_ends_are_used_again() {
    let mut world = World::new();
    let connect = "connect tcp 10.77.0.1:50000 1 pid 10 > 10.77.0.2:443";
    world.tell("bind tcp 0.0.0.0:50000 1 pid 10").tell(connect);
    world.tell("close tcp 10.77.0.1:50000 1 pid 10 > 10.77.0.2:443");
    world.tell("close tcp 0.0.0.0:50000 1 pid 10");
    assert_eq!(world.owner(TCP, "10.77.0.1:50000", "10.77.0.2:443"), Some(10));
    let late = world.event("close tcp 10.77.0.1:50000 1 pid 10 > 10.77.0.2:443");
    world.tell("connect tcp 10.77.0.1:50000 2 pid 20 > 10.77.0.2:443");
    world.table.apply(&late, None);
    let (local, remote) = (end("10.77.0.1:50000"), end("10.77.0.2:443"));
    let receiver = world.table.receiver(TCP, local, remote);
    assert_eq!(receiver.map(|it| it.owner.pid), Some(20), "that end was another's");
}

#[test]
fn events_whose_process_is_gone_are_counted_and_leave_nothing() {
    let mut world = World::new();
    world.tell("bind udp 0.0.0.0:5000 1 pid 10 gone");
    assert_eq!(world.owner(UDP, "10.77.0.1:5000", PEER), None);
    assert_eq!(world.table.counters().unresolved, 1);
    assert!(world.table.is_empty());
}

#[test]
fn the_list_adds_what_no_event_told() {
    let mut world = World::new();
    world.list(&[
        "tcp 0.0.0.0:80 10",
        "tcp 10.77.0.101:80 10 > 10.77.0.2:40000",
        "tcp 10.77.0.1:50000 20 > 10.77.0.2:443",
        "tcp 10.77.0.1:50001 0 > 10.77.0.2:443",
        "udp [::]:53 30",
    ]);
    assert_eq!(world.receiver(TCP, "10.77.0.1:80"), Some((Bound::Wildcard, 10)));
    assert_eq!(world.owner(TCP, "10.77.0.101:80", PEER), Some(10));
    assert_eq!(world.owner(TCP, "10.77.0.1:50000", "10.77.0.2:443"), Some(20));
    assert_eq!(world.owner(TCP, "10.77.0.1:50001", "10.77.0.2:443"), None, "nobody has it");
    assert_eq!(world.owner(UDP, "10.77.0.1:53", PEER), Some(30));
    let before = world.table.len();
    world.wait(1).list(&["udp [::]:53 30", "udp [::]:53 30"]);
    assert_eq!(world.table.len(), before, "closed ones are remembered, none is there twice");
}

#[test]
fn events_that_are_older_than_the_list_are_merged_into_it() {
    let mut world = World::new();
    let queued = [
        "bind tcp 0.0.0.0:80 1 pid 10",
        "listen tcp 0.0.0.0:80 1 pid 10",
        "connect tcp 10.77.0.1:50000 2 pid 10 > 10.77.0.2:443",
    ]
    .map(|text| world.event(text));
    world.wait(1).list(&["tcp 0.0.0.0:80 10", "tcp 10.77.0.1:50000 10 > 10.77.0.2:443"]);
    for event in queued {
        world.table.apply(&event, Some(holder(10)));
    }
    assert_eq!(world.table.len(), 2);
    world.tell("close tcp 0.0.0.0:80 1 pid 10");
    assert_eq!(world.receiver(TCP, "10.77.0.1:80"), None);
    world.tell("close tcp 10.77.0.1:50000 2 pid 10 > 10.77.0.2:443");
    let pair = (end("10.77.0.1:50000"), end("10.77.0.2:443"));
    assert_eq!(world.table.receiver(TCP, pair.0, pair.1), None);
}

#[test]
fn the_list_ends_ghosts_but_not_what_it_cannot_know_yet() {
    let mut world = World::new();
    world
        .tell("bind udp 0.0.0.0:5000 1 pid 10")
        .tell("connect tcp 10.77.0.1:50000 2 pid 10 > 10.77.0.2:443")
        .tell("bind tcp 0.0.0.0:50001 3 pid 10");
    world.list(&[]);
    assert_eq!(world.receiver(UDP, "10.77.0.1:5000"), Some((Bound::Wildcard, 10)), "too new");
    world.wait(1).list(&[]);
    assert_eq!(world.receiver(UDP, "10.77.0.1:5000"), None);
    let pair = (end("10.77.0.1:50000"), end("10.77.0.2:443"));
    assert_eq!(world.table.receiver(TCP, pair.0, pair.1), None);
    assert_eq!(world.owner(UDP, "10.77.0.1:5000", PEER), Some(10), "remembered, as if closed");
    world.wait(10).expire();
    assert_eq!(world.owner(UDP, "10.77.0.1:5000", PEER), None);
    assert_eq!(world.owner(TCP, "10.77.0.1:50001", PEER), Some(10), "such are in no list");
    world.wait(60).list(&[]);
    world.wait(10).expire();
    assert!(world.table.is_empty());
}

#[test]
fn a_socket_that_just_closed_is_not_brought_back_by_the_list() {
    let mut world = World::new();
    world.tell("bind udp 0.0.0.0:5000 1 pid 10").tell("close udp 0.0.0.0:5000 1 pid 10");
    world.list(&["udp 0.0.0.0:5000 10"]);
    assert_eq!(world.receiver(UDP, "10.77.0.1:5000"), None);
    world.wait(1).list(&["udp 0.0.0.0:5000 10"]);
    assert_eq!(world.receiver(UDP, "10.77.0.1:5000"), Some((Bound::Wildcard, 10)), "another");
}

#[test]
fn a_lost_listen_and_a_lost_close_are_made_up_for() {
    let mut world = World::new();
    world.tell("bind tcp 10.77.0.1:80 1 pid 10");
    world.wait(1).list(&["tcp 10.77.0.1:80 10"]);
    assert_eq!(world.receiver(TCP, "10.77.0.1:80"), Some((Bound::Address, 10)));
    world.wait(1).list(&["tcp 10.77.0.1:80 20"]);
    assert_eq!(world.receiver(TCP, "10.77.0.1:80"), Some((Bound::Address, 20)));

    world.tell("connect tcp 10.77.0.1:50000 2 pid 10 > 10.77.0.2:443");
    let mut row = read_row("tcp 10.77.0.1:50000 20 > 10.77.0.2:443");
    world.wait(2);
    row.since = Some(Moment(world.now - SECOND));
    world.table.reconcile(&[row], Moment(world.now), |pid| Some(holder(pid)));
    assert_eq!(world.owner(TCP, "10.77.0.1:50000", "10.77.0.2:443"), Some(20));
}

#[test]
fn foreign_binds_are_those_of_other_sessions_and_of_none_but_not_services() {
    let mut world = World::new();
    let holders: HashMap<IpAddr, SessionId> = [
        ("10.77.0.101".parse().unwrap(), SessionId(1)),
        ("10.77.0.102".parse().unwrap(), SessionId(2)),
    ]
    .into();
    world
        .tell("bind tcp 10.77.0.101:80 1 pid 10")
        .tell("bind tcp 10.77.0.101:81 2 pid 20")
        .tell("bind udp 10.77.0.103:53 3 pid 20")
        .tell("bind udp 10.77.0.102:53 4 pid 4")
        .tell("bind udp 0.0.0.0:54 5 pid 20")
        .tell("accept tcp 10.77.0.101:54 6 pid 20 > 10.77.0.2:40000")
        .tell("connect tcp 10.77.0.101:55 7 pid 20 > 10.77.0.2:40000");
    let foreign =
        [(TCP, end("10.77.0.101:55")), (TCP, end("10.77.0.101:81")), (UDP, end("10.77.0.103:53"))];
    assert_eq!(world.table.foreign(&holders, &no_loopbacks()), foreign);
    // The console's user is no login, and no service either.
    world.table.set_login(1, None);
    assert!(world.table.foreign(&holders, &no_loopbacks()).contains(&(TCP, end("10.77.0.101:80"))));
    world.table.set_login(1, Some(SessionId(1)));
    assert_eq!(world.table.foreign(&holders, &no_loopbacks()), foreign);
    world.tell("close tcp 10.77.0.101:81 2").tell("close udp 10.77.0.103:53 3");
    world.tell("close tcp 10.77.0.101:55 7 > 10.77.0.2:40000");
    assert!(world.table.foreign(&holders, &no_loopbacks()).is_empty());
}

fn no_loopbacks() -> HashMap<IpAddr, SessionId> {
    HashMap::new()
}

#[test]
fn loopback_addresses_are_kept_from_other_sessions_only() {
    let mut world = World::new();
    let loopbacks = HashMap::from([
        (IpAddr::from([127, 0, 0, 2]), SessionId(1)),
        (IpAddr::from([127, 0, 0, 3]), SessionId(2)),
    ]);
    world.tell("bind udp 127.0.0.2:80 1 pid 10").tell("bind udp 127.0.0.3:80 2 pid 10");
    world.tell("bind udp 127.0.0.4:80 3 pid 10").tell("bind udp 127.0.0.2:81 4 pid 4");
    let own: Vec<_> =
        world.table.at_loopbacks(&loopbacks).iter().map(|row| row.bound.to_string()).collect();
    assert_eq!(own, ["127.0.0.2:80"]);
    let foreign = world.table.foreign(&HashMap::new(), &loopbacks);
    assert_eq!(foreign, [(UDP, end("127.0.0.3:80"))], "services may");
    assert_eq!(world.table.changes_at_pool(), 0);
    world.table.watch_loopbacks(true);
    world.tell("close udp 127.0.0.3:80 2 pid 10").tell("bind udp 127.0.0.1:82 5 pid 10");
    assert_eq!(world.table.changes_at_pool(), 1, "127.0.0.1 is nobody's alone");
}

#[test]
fn what_changes_at_a_virtual_address_is_noted() {
    let mut world = World::new();
    let mut seen = 0;
    for (text, changes) in [
        ("bind tcp 0.0.0.0:80 1 pid 10", false),
        ("bind tcp 10.77.0.101:80 2 pid 10", true),
        ("listen tcp 10.77.0.101:80 2 pid 10", true),
        ("accept tcp 10.77.0.101:80 3 pid 10 parent 2 > 10.77.0.2:40000", false),
        ("close tcp 10.77.0.101:80 3 pid 10 > 10.77.0.2:40000", false),
        ("close tcp 10.77.0.101:80 2 pid 10", true),
    ] {
        world.tell(text);
        let now = world.table.changes_at_pool();
        assert_eq!(now != std::mem::replace(&mut seen, now), changes, "{text}");
    }
    world.list(&["udp 10.77.0.102:53 20"]);
    assert_ne!(
        world.table.changes_at_pool(),
        std::mem::replace(&mut seen, world.table.changes_at_pool())
    );
    world.wait(1).list(&[]);
    assert_ne!(world.table.changes_at_pool(), seen, "it is gone");
}

#[test]
fn receivers_are_sessions_sockets_that_take_packets() {
    let mut world = World::new();
    world
        .tell("bind tcp 10.77.0.101:80 1 pid 10")
        .tell("listen tcp 10.77.0.101:80 1 pid 10")
        .tell("bind tcp 0.0.0.0:81 2 pid 10")
        .tell("bind udp 0.0.0.0:53 3 pid 20")
        .tell("bind udp 0.0.0.0:54 4 pid 4");
    let ends = |rows: Vec<AtPool>| rows.iter().map(|row| row.bound.to_string()).collect::<Vec<_>>();
    assert_eq!(ends(world.table.receivers()), ["10.77.0.101:80", "0.0.0.0:53"]);
    assert_eq!(ends(world.table.at_pool()), ["10.77.0.101:80"]);
}

#[test]
fn one_port_and_the_whole_table_have_a_limit() {
    let mut world = World::new();
    for number in 1..=ON_ONE_PORT as u64 + 5 {
        world.tell(&format!("bind udp 0.0.0.0:5353 {number} pid {number}"));
    }
    assert_eq!(world.table.len(), ON_ONE_PORT);
    assert_eq!(world.table.counters().full, 5);
    world.tell("close udp 0.0.0.0:5353 7").tell("bind udp 0.0.0.0:5353 999 pid 999");
    assert_eq!(world.owner(UDP, "10.77.0.1:5353", PEER), Some(999), "what is gone makes room");
    assert_eq!((world.table.len(), world.table.counters().full), (ON_ONE_PORT, 5));

    let mut event = world.event("accept tcp 10.77.0.101:80 1 pid 10 > 10.77.0.2:40000");
    for peer in 0..SOCKETS as u32 {
        let address = IpAddr::from((0x0a00_0000 + peer).to_be_bytes());
        event.remote = Some(Endpoint::new(address, 1));
        world.table.apply(&event, Some(holder(10)));
    }
    assert_eq!(world.table.len(), SOCKETS);
    assert_eq!(world.table.counters().full, 5 + ON_ONE_PORT as u64);
}

/// What the table is compared with: every socket in one list.
#[derive(Clone, Debug)]
struct Known {
    endpoint: u64,
    protocol: Protocol,
    local: Endpoint,
    listens: bool,
    pid: u32,
    order: usize,
    open: bool,
}

fn happening() -> impl Strategy<Value = (u8, u64, Protocol, Endpoint, u32)> {
    let address = prop::sample::select(vec!["0.0.0.0", "::", "10.77.0.1", "10.77.0.101"]);
    let local = (address, 1_u16..3)
        .prop_map(|(address, port)| Endpoint::new(address.parse().unwrap(), port));
    let protocol = prop::sample::select(vec![TCP, UDP]);
    (0_u8..3, 1_u64..6, protocol, local, 1_u32..60)
}

proptest! {
    /// Binds, listens and closes in any order: the best of what is left receives.
    #[test]
    fn the_receiver_is_the_best_socket_there_is(happenings in prop::collection::vec(happening(), 0..40)) {
        let table = SocketTable::default();
        let mut model: Vec<Known> = Vec::new();
        for (order, (what, endpoint, protocol, local, pid)) in happenings.into_iter().enumerate() {
            let at = Moment(order as u64 + 1);
            // A socket is bound once: what is told of it later has its own ends.
            let known = model.iter().position(|it| it.open && it.endpoint == endpoint);
            let (protocol, local, pid) = known
                .and_then(|index| model.get(index))
                .map_or((protocol, local, pid), |it| (it.protocol, it.local, it.pid));
            let what = match (what, known) {
                (0, Some(_)) | (1, None) => continue,
                (0, None) => What::Bind,
                (1, Some(_)) => What::Listen,
                _ => What::Close,
            };
            if what == What::Listen && protocol == UDP {
                continue;
            }
            let event = Event { what, at, protocol, local, remote: None, endpoint, parent: 0, pid };
            table.apply(&event, Some(holder(pid)));
            match (what, known.and_then(|index| model.get_mut(index))) {
                (What::Listen, Some(it)) => it.listens = true,
                (What::Close, Some(it)) => it.open = false,
                (What::Bind, _) => model.push(Known {
                    endpoint, protocol, local, listens: protocol == UDP, pid, order, open: true,
                }),
                _ => {}
            }
        }
        prop_assert_eq!(table.len(), model.len());
        for protocol in [TCP, UDP] {
            for local in ["10.77.0.1:1", "10.77.0.101:2", "[fd77::1]:1"].map(end) {
                let fits = |it: &&Known| it.protocol == protocol && it.local.port == local.port;
                let fit = |it: &Known| Fit::of(it.local.address, local.address);
                let expected = model.iter().filter(fits)
                    .filter(|it| it.open && it.listens && fit(it).is_some())
                    .max_by_key(|it| (fit(it), it.order));
                let found = table.receiver(protocol, local, end(PEER));
                prop_assert_eq!(found.map(|it| it.owner.pid), expected.map(|it| it.pid));
                let expected = model.iter().filter(fits)
                    .filter(|it| fit(it).is_some())
                    .max_by_key(|it| (it.open, fit(it), it.order));
                let found = table.owner(protocol, local, end(PEER));
                prop_assert_eq!(found.map(|it| it.pid), expected.map(|it| it.pid));
            }
        }
    }

    /// Whatever is told in whatever order, it counts right, and all is gone in time.
    #[test]
    fn it_counts_right_and_forgets_everything(
        told in prop::collection::vec((0_u8..5, 0_u64..4, 0_u64..3, happening(), any::<bool>()), 0..60)
    ) {
        let table = SocketTable::default();
        for (order, (what, endpoint, parent, (_, _, protocol, local, pid), peer)) in told.into_iter().enumerate() {
            let what = [What::Bind, What::Connect, What::Listen, What::Accept, What::Close]
                [usize::from(what)];
            let remote = peer.then(|| end(PEER));
            let at = Moment(order as u64 * SECOND / 100);
            let event = Event { what, at, protocol, local, remote, endpoint, parent, pid };
            table.apply(&event, (pid % 7 != 0).then(|| holder(pid)));
            if order % 11 == 10 {
                let row = Row { protocol, local, state: State::Receives, pid, since: None };
                table.reconcile(&[row], at, |pid| Some(holder(pid)));
            }
            let bound: usize = table.0.bound.iter().map(|sockets| sockets.len()).sum();
            prop_assert_eq!(table.len(), bound + table.0.pairs.len());
        }
        table.reconcile(&[], Moment(200 * SECOND), |_| None);
        table.expire(Moment(300 * SECOND));
        prop_assert!(table.is_empty());
        prop_assert!(table.0.bound.is_empty() && table.0.pairs.is_empty());
    }
}
