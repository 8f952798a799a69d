//! What does the daemon put right that others took away?

use crate::world::{ANA, BEN, World, at_far, at_far6, until};
use sessionip::lab::network::{HOST, HOST_IPV6};
use sessionip::lab::process;
use sessionip::session::SessionId;

/// The share of packets that were never diverted.
fn undiverted(world: &World) -> f64 {
    world.json("status")["undiverted_share"].as_f64().unwrap()
}

#[test]
fn flushed_rules_are_laid_again() {
    let world = World::new(2, "");
    let _far = world.far();
    let mut ana = world.actor(1, ANA);
    let before = world.tables();
    for table in ["raw", "mangle"] {
        world.host(&["iptables", "-t", table, "-F"]);
        world.host(&["iptables", "-t", table, "-X"]);
    }
    assert_ne!(world.tables(), before);
    until("the rules are back", || world.tables() == before);
    assert_eq!(ana.seen_by(at_far()), Ok(world.address(1)));
    assert!(world.log().contains("rules of ours were gone"), "{}", world.log());
}

#[test]
fn a_lease_that_a_reload_took_out_of_the_pool_works_to_its_end() {
    let world = World::new(2, "");
    let _far = world.far();
    let mut ana = world.actor(1, ANA);
    let v1 = world.address(1);
    let talk = ana.connect(at_far()).unwrap();
    assert!(undiverted(&world) < 0.9);

    let text = std::fs::read_to_string(&world.config).unwrap();
    let moved = text.replace("10.77.0.101-10.77.0.102", "10.77.0.150-10.77.0.152");
    assert_ne!(text, moved);
    std::fs::write(&world.config, moved).unwrap();
    assert!(world.answer(&["reload"]).status.success());
    assert_eq!(ana.say(&talk, "on").as_deref(), Ok("on"));
    assert_eq!(ana.seen_by(at_far()), Ok(v1));
    assert!(undiverted(&world) < 0.9, "what was counted before the reload is forgotten");

    let mut ben = world.actor(2, BEN);
    assert_eq!(world.address(2).to_string(), "10.77.0.150");
    assert_eq!(ben.seen_by(at_far()), Ok(world.address(2)));
    ana.end();
    world.gone(1);
    assert!(!world.tables().iter().any(|line| line.contains("10.77.0.101")));
    assert_eq!(ben.seen_by(at_far()), Ok(world.address(2)));
}

#[test]
fn a_card_that_loses_its_address_for_a_moment_costs_no_lease() {
    let world = World::new(2, "");
    let _far = world.far();
    let mut ana = world.actor(1, ANA);
    let card = format!("{HOST}/24");
    world.host(&["ip", "address", "del", &card, "dev", "lab-host"]);
    until("that is noticed", || world.log().contains("own addresses have changed"));
    let mut ben = world.actor(2, BEN);
    assert_eq!(world.json("status")["leases"]["used"], 1);
    world.host(&["ip", "address", "add", &card, "dev", "lab-host"]);
    until("the session has its address", || world.json("status")["leases"]["used"] == 2);
    assert_eq!(ben.seen_by(at_far()), Ok(world.address(2)));
    assert_eq!(ana.seen_by(at_far()), Ok(world.address(1)));
}

/// One that somebody else put on as well, and a host address that the kernel does
/// not let be used.
#[test]
fn an_address_that_cannot_follow_the_host_s_costs_no_other() {
    let world = World::with_ranges("'10.77.0.101-10.77.0.104', 'fd77::101-fd77::104'", "");
    let _far = world.far();
    let mut ana = world.actor(1, ANA);
    let (v1, six) = (world.address(1), world.ipv6(1));
    world.host(&["ip", "address", "add", &format!("{six}/128"), "dev", "lo"]);
    until("that is noticed", || world.log().contains("could not give a session's address"));
    let mut ben = world.actor(2, BEN);
    assert_eq!(ben.seen_by(at_far6()), Ok(world.ipv6(2)));
    assert_eq!(ana.seen_by(at_far()), Ok(v1));
    world.host(&["ip", "address", "del", &format!("{six}/128"), "dev", "lo"]);

    world.host(&["sysctl", "-q", "net.ipv6.conf.lab-host.accept_dad=1"]);
    let there = ["ip", "address", "add", "fd77::9/64", "dev", "lab-far", "nodad"];
    world.network.client.output(&mut process::command(&there)).unwrap();
    let card = format!("{HOST_IPV6}/64");
    world.host(&["ip", "address", "add", "fd77::9/64", "dev", "lab-host"]);
    world.host(&["ip", "address", "del", &card, "dev", "lab-host"]);
    let addresses = || world.host(&["ip", "-6", "address", "show", "dev", "lab-host"]);
    until("the kernel refuses it", || addresses().contains("dadfailed"));
    until("the lease is off", || !addresses().contains(&six.to_string()));
    assert_eq!(ana.seen_by(at_far()), Ok(v1));
    world.host(&["ip", "address", "add", &card, "dev", "lab-host", "nodad"]);
    until("the lease is back", || addresses().contains(&six.to_string()));
    until("all is as it was", || ana.seen_by(at_far6()) == Ok(six));
}

/// An IPv6 address is two things on the host, and of either one alone no use.
#[test]
fn an_ipv6_address_that_is_half_gone_is_put_on_again() {
    let world = World::with_ranges("'fd77::101-fd77::102'", "");
    let _far = world.far();
    let mut ana = world.actor(1, ANA);
    let six = world.ipv6(1).to_string();
    let before = world.tables();
    let private = sessionip::address::private_ipv6(SessionId(1)).to_string();
    for gone in [
        format!("address del {six}/128 dev lab-host"),
        format!("-6 route del local {six}/128 dev lab-host table local"),
        format!("address del {private}/128 dev lo"),
    ] {
        world.host(&[&["ip"], gone.split(' ').collect::<Vec<_>>().as_slice()].concat());
        assert_ne!(world.tables(), before, "{gone}");
        until(&gone, || world.tables() == before);
    }
    assert_eq!(ana.seen_by(at_far6()), Ok(world.ipv6(1)));
}
