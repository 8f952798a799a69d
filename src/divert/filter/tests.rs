use super::*;
use std::net::Ipv6Addr;

/// What a small terminal server selects.
fn small() -> Selection {
    Selection {
        pool: vec![(v4(10, 77, 0, 101), v4(10, 77, 0, 199))],
        host_addresses: vec![v4(10, 77, 0, 1)],
        broadcast: vec![v4(10, 77, 0, 255)],
        exclude_ports: vec![(Protocol::Tcp, 3389), (Protocol::Udp, 3389)],
        moved: vec![(Protocol::Tcp, Endpoint::new(v4(10, 77, 0, 101), 9000))],
        foreign: vec![(Protocol::Tcp, Endpoint::new(v4(10, 77, 0, 102), 8000))],
        ..Selection::default()
    }
}

/// Far more of everything than 255 tests can say.
fn large() -> Selection {
    let hosts = (0..60).map(|n| v4(10, 1, n, 1));
    let ranges = (0..120).map(|n| (v4(10, 2, n, 10), v4(10, 2, n, 20)));
    let six = (0..60).map(|n| IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, n, 0, 0, 0, 1)));
    let server = |n: u16| Endpoint::new(v4(10, 2, n as u8, 10), 1000 + n * 7);
    Selection {
        pool: ranges.chain(six.clone().map(|address| (address, address))).collect(),
        host_addresses: hosts.chain(six).collect(),
        broadcast: (0..60).map(|n| v4(10, 1, n, 255)).collect(),
        exclude_ports: (0..400).map(|n| (Protocol::Tcp, 2000 + n * 3)).collect(),
        moved: (0..400).map(|n| (Protocol::Udp, server(n))).collect(),
        foreign: (0..400).map(|n| (Protocol::Tcp, server(n))).collect(),
        ..Selection::default()
    }
}

/// More foreign binds than can be cut.
fn crowded() -> Selection {
    let port = |n| (Protocol::Udp, Endpoint::new(v4(10, 77, 0, 102), n));
    Selection { foreign: (0..600).map(port).collect(), ..small() }
}

/// Selections whose filters the compiler has to take, one of each kind.
pub(in crate::divert) fn samples() -> Vec<Selection> {
    let only_v6 = Selection {
        pool: vec![(Ipv6Addr::LOCALHOST.into(), "fd77::1ff".parse().expect("an address"))],
        host_addresses: vec!["fe80::1".parse().expect("an address")],
        moved: vec![(Protocol::Udp, Endpoint::new("fd77::1".parse().expect("an address"), 53))],
        foreign: vec![(Protocol::Udp, Endpoint::new("fd77::2".parse().expect("an address"), 53))],
        ..Selection::default()
    };
    let without_host = Selection { host_addresses: Vec::new(), ..small() };
    let without_pool = Selection { pool: Vec::new(), ..small() };
    vec![small(), large(), crowded(), only_v6, without_host, without_pool]
}

fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    Ipv4Addr::new(a, b, c, d).into()
}

fn filters_of(selection: &Selection) -> Vec<String> {
    let Filters { main, loopback, foreign, .. } = Filters::of(selection);
    main.into_iter().chain(loopback).chain(foreign).collect()
}

/// Every test compares or is one of these words.
fn tests_in(filter: &str) -> usize {
    let words = filter.split(|c: char| !c.is_ascii_alphanumeric() && !"=!<>.".contains(c));
    let tests = ["==", "!=", "<", "<=", ">=", "outbound", "inbound", "loopback", "tcp", "udp"];
    words.filter(|word| tests.contains(word)).count()
}

#[test]
fn nothing_selected_is_no_handle() {
    assert_eq!(Filters::of(&Selection::default()), Filters::default());
    let excluded = Selection { exclude_ports: small().exclude_ports, ..Selection::default() };
    assert_eq!(Filters::of(&excluded), Filters::default());
}

#[test]
fn a_small_selection_is_said_exactly() {
    let filters = Filters::of(&small());
    let errors = "(icmp.Type == 3 or icmp.Type == 4 or icmp.Type == 5 or icmp.Type == 11 or \
                  icmp.Type == 12 or icmpv6.Type < 128)";
    let pool = |end| format!("(ip.{end}Addr >= 10.77.0.101 and ip.{end}Addr <= 10.77.0.199)");
    let main = format!(
        "((not loopback and ((outbound and ip.SrcAddr == 10.77.0.1 and ip.DstAddr < 224.0.0.0 \
         and ip.DstAddr != 10.77.0.255) or (inbound and {})) and \
         ((tcp and (localPort != 3389)) or \
         (udp and (localPort != 67 and localPort != 68 and localPort != 3389)) or {errors})) or \
         (loopback and ({} or {}) and (tcp or udp or {errors})))",
        pool("Dst"),
        pool("Src"),
        pool("Dst"),
    );
    assert_eq!(filters.main.as_deref(), Some(&*main));
    let loopback = "(loopback and ((tcp.DstPort == 9000 and \
                    ((ip.SrcAddr == 127.0.0.1 and ip.DstAddr == 127.0.0.1) or \
                    (ip.SrcAddr == 10.77.0.1 and ip.DstAddr == 10.77.0.1))) or \
                    (tcp.SrcPort == 9000 and ip.SrcAddr == 10.77.0.101)))";
    assert_eq!(filters.loopback.as_deref(), Some(loopback));
    let cut = "((tcp.SrcPort == 8000 and ip.SrcAddr == 10.77.0.102) or \
               (tcp.DstPort == 8000 and ip.DstAddr == 10.77.0.102))";
    assert_eq!((filters.foreign, filters.uncut), (vec![cut.to_owned()], 0));
}

#[test]
fn what_asks_for_a_sessions_loopback_is_led_here() {
    let moved = vec![
        (Protocol::Tcp, Endpoint::new(v4(127, 0, 0, 2), 9000)),
        (Protocol::Tcp, Endpoint::new("fd73:6970::1".parse().unwrap(), 9000)),
    ];
    let none = Selection { host_addresses: Vec::new(), ..small() };
    let filter = Filters::of(&Selection { moved, ..none }).loopback;
    let wanted = "(loopback and ((tcp.DstPort == 9000 and \
                  (((ip.SrcAddr >= 127.0.0.0 and ip.SrcAddr <= 127.255.255.255) and \
                  (ip.DstAddr >= 127.0.0.1 and ip.DstAddr <= 127.0.0.2)) or \
                  ((ipv6.SrcAddr == ::1 or (ipv6.SrcAddr >= fd73:6970:: and \
                  ipv6.SrcAddr <= fd73:6970::ffff:ffff:ffff:ffff)) and \
                  (ipv6.DstAddr == ::1 or ipv6.DstAddr == fd73:6970::1)))) or \
                  (tcp.SrcPort == 9000 and (ip.SrcAddr == 127.0.0.2 or \
                  ipv6.SrcAddr == fd73:6970::1))))";
    assert_eq!(filter.as_deref(), Some(wanted));
}

#[test]
fn localhost_is_led_here_by_the_versions_that_listeners_have() {
    let moved = vec![(Protocol::Tcp, Endpoint::new("fd77::101".parse().unwrap(), 9000))];
    let none = Selection { host_addresses: Vec::new(), ..small() };
    let filter = Filters::of(&Selection { moved, ..none }).loopback;
    let wanted = "(loopback and ((tcp.DstPort == 9000 and \
                  (ipv6.SrcAddr == ::1 and ipv6.DstAddr == ::1)) or \
                  (tcp.SrcPort == 9000 and ipv6.SrcAddr == fd77::101)))";
    assert_eq!(filter.as_deref(), Some(wanted));
}

#[test]
fn loopback_is_left_alone_unless_a_listener_was_moved() {
    let unmoved = Selection { moved: Vec::new(), ..small() };
    assert_eq!(Filters::of(&unmoved).loopback, None);
    assert!(Filters::of(&unmoved).main.is_some());
}

#[test]
fn every_filter_fits_and_coarse_ones_use_their_room() {
    for selection in samples() {
        for filter in filters_of(&selection) {
            assert!(tests_in(&filter) <= MOST_TESTS, "{} tests: {filter}", tests_in(&filter));
        }
    }
    let Filters { main, loopback, .. } = Filters::of(&large());
    for filter in [main, loopback].into_iter().flatten() {
        assert!(tests_in(&filter) > MOST_TESTS * 3 / 4, "{} tests only", tests_in(&filter));
    }
}

#[test]
fn coarse_filters_leave_nothing_out() {
    let filter = Filters::of(&large()).loopback.expect("a filter");
    let asked: Vec<u16> = filter
        .split("udp.DstPort ")
        .skip(1)
        .filter_map(|test| test.split_once(' ')?.1.split([' ', ')']).next()?.parse().ok())
        .collect();
    assert_eq!((asked.first(), asked.last()), (Some(&1000), Some(&(1000 + 399 * 7))));
}

#[test]
fn cuts_are_exact_over_several_handles_and_say_what_found_no_room() {
    let Filters { foreign, uncut, .. } = Filters::of(&large());
    assert_eq!(foreign.len(), 7);
    assert_eq!(
        foreign.iter().map(|filter| filter.matches("SrcPort ==").count()).sum::<usize>(),
        400
    );
    assert!(foreign.iter().all(|filter| !filter.contains(">=")), "a range would cut strangers");
    assert_eq!(uncut, 0);
    let port = |n| (Protocol::Udp, Endpoint::new(v4(10, 2, 0, 1), n));
    let many = Selection { foreign: (0..600).map(port).collect(), ..Selection::default() };
    let filters = Filters::of(&many);
    assert_eq!((filters.foreign.len(), filters.uncut), (8, 600 - 8 * 63));
}

#[test]
fn what_finds_no_room_among_the_cuts_is_led_to_the_engine() {
    let leaves = "(outbound and (ip.SrcAddr == 10.77.0.1 or \
                  (ip.SrcAddr >= 10.77.0.101 and ip.SrcAddr <= 10.77.0.199))";
    let main = |selection: &Selection| Filters::of(selection).main.expect("a filter");
    assert!(!main(&small()).contains(leaves), "nothing bound to a virtual address is taken");
    assert!(main(&crowded()).contains(leaves), "{}", main(&crowded()));
}
