//! What does the daemon put right that others took away?

use crate::world::{ANA, BEN, World, at, at_far, at_far6, complaint, until};
use sessionip::lab::network::{HOST, HOST_IPV6};
use sessionip::lab::process;
use sessionip::session::SessionId;
use std::fs::Permissions;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

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

/// A daemon whose rules are refused for as long as the file is there.
fn refusable(rest: &str) -> (World, PathBuf) {
    let mut world = World::without_daemon(2, rest);
    let folder = world.directory.path().join("programs");
    let file = world.directory.path().join("refuse");
    std::fs::create_dir(&folder).unwrap();
    for program in ["iptables-restore", "ip6tables-restore"] {
        let script = format!(
            "#!/bin/sh\n[ -e '{}' ] && echo 'busy for now' >&2 && exit 4\n\
             exec /usr/sbin/{program} \"$@\"\n",
            file.display()
        );
        let path = folder.join(program);
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }
    world.programs = Some(folder);
    world.start();
    (world, file)
}

/// A reload for which the rules were refused; what it said.
fn refused_reload(world: &World, refusal: &Path, rest: &str) -> String {
    std::fs::write(refusal, "").unwrap();
    world.configure(2, rest);
    let output = world.answer(&["reload"]);
    assert!(!output.status.success());
    complaint(&output)
}

/// Nobody flushed anything: it was we who could not lay them.
#[test]
fn a_pool_whose_rules_were_refused_is_laid_a_moment_later() {
    let (world, refusal) = refusable("");
    std::fs::write(&refusal, "").unwrap();
    let with_new = |world: &World| world.tables().join("\n").contains("10.77.0.105");
    world.configure(5, "");
    let output = world.answer(&["reload"]);
    assert!(complaint(&output).contains("busy for now"), "{}", complaint(&output));
    assert!(!with_new(&world));
    until("it is tried again", || world.log().contains("busy for now"));
    std::fs::remove_file(&refusal).unwrap();
    until("they are laid", || with_new(&world));
    until("that is said", || world.log().contains("is told now"));
    assert!(!world.log().contains("who flushed them"), "{}", world.log());
}

#[test]
fn an_address_comes_back_while_rules_are_refused() {
    let (world, refusal) = refusable("");
    let ana = world.actor(1, ANA);
    let v1 = world.address(1).to_string();
    let said = refused_reload(&world, &refusal, "");
    assert!(said.contains("busy for now"), "{said}");
    let is_on = || world.host(&["ip", "route", "show", "table", "local"]).contains(&v1);
    assert!(is_on());
    world.host(&["ip", "route", "del", "local", &v1, "table", "local"]);
    assert!(!is_on());
    until("it is on again", is_on);
    std::fs::remove_file(&refusal).unwrap();
    until("the rules are laid", || world.log().contains("is told now"));
    ana.end();
}

#[test]
fn a_loopback_that_was_turned_on_or_off_while_rules_were_refused_is() {
    const ON: &str = "[loopback]\nenabled = true\nprograms = ['*']";
    let (world, refusal) = refusable("");
    let mut ana = world.actor(1, ANA);
    let mut port = 9000;
    let mut given = || {
        port += 1;
        ana.listen("tcp", at(Ipv4Addr::LOCALHOST.into(), port)).ip().to_string()
    };
    assert_eq!(given(), "127.0.0.1");
    let said = refused_reload(&world, &refusal, ON);
    assert!(said.contains("busy for now"), "{said}");
    std::fs::remove_file(&refusal).unwrap();
    until("it is on", || given() == "127.0.0.2");
    refused_reload(&world, &refusal, "");
    std::fs::remove_file(&refusal).unwrap();
    until("it is off", || given() == "127.0.0.1");
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
