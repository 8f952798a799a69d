//! The service's life, and sessions that come and go.

use crate::world::{ANA, BEN, FAR, HOST, LOGONS, WHO, World};

#[test]
fn the_service_is_installed_started_reloaded_stopped_and_taken_out() {
    let world = World::new("life", "");
    let before = world.addresses();
    let done = world.sessionip(&["status"]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success() && said.contains("no sessionip daemon answers"), "{said}");
    assert!(said.contains("sessionip service start"), "it says what helps: {said}");

    world.start_service();
    assert!(world.addresses().contains(&format!("{}/32", ANA.address)));
    assert_eq!(world.json("status")["leases"]["used"], 2);
    // A second copy is refused, and names the first.
    let second = world.sessionip(&["run"]);
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && said.contains("already running as process"), "{said}");
    world.says(&["reload"]);
    world.says(&["service", "start"]); // it runs: said, and no failure

    world.says(&["service", "stop"]);
    assert_eq!(world.addresses(), before, "every address of ours is gone");
    assert_eq!(world.ask(Some(ANA), "tcp", (FAR, WHO)), format!("answer {HOST}"));
    world.says(&["service", "start"]);
    assert_eq!(world.json("sessions")[0]["virtual_ip"], ANA.address, "the same lease again");
    world.says(&["service", "uninstall"]);
    assert_eq!(world.addresses(), before);
    let done = world.sessionip(&["service", "start"]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success() && said.contains("install"), "{said}");
}

#[test]
fn sessions_come_and_go() {
    let world = World::new("gone", "");
    world.log_on(&LOGONS[..3]);
    world.start_service();
    assert!(!world.addresses().contains(BEN.address), "nobody has it yet");
    world.log_on(&LOGONS);
    world.comes_to("the lease of who logged on", || world.addresses().contains(BEN.address));
    let _server = world.exec(BEN, &["listener.exe", "9000"], "serving");
    assert!(world.ask_from_afar(BEN.address, 9000, "hello").contains("hello"));

    world.log_on(&LOGONS[..3]);
    world.comes_to("the end of a lease", || !world.addresses().contains(BEN.address));
    assert_eq!(world.json("sessions").as_array().unwrap().len(), 1);
    assert!(world.addresses().contains(ANA.address), "who is still there keeps his");
}

#[test]
fn an_empty_pool_is_told_in_the_words_that_are_known() {
    let world = World::new("full", "");
    // Ten addresses, eleven sessions.
    let more: Vec<String> =
        (10..20).map(|id| format!(r"session {id} active RDP-Tcp#{id} CORP\user{id} rdp")).collect();
    let all: Vec<&str> =
        LOGONS[..3].iter().copied().chain(more.iter().map(String::as_str)).collect();
    world.log_on(&all);
    world.start_service();
    let status = world.json("status");
    let words = "No virtual IP address is available for this session, please contact your \
                 administrator.";
    let notices = status["notices"].to_string();
    assert!(notices.contains(words), "{status}");
    assert_eq!(world.log().matches(words).count(), 1, "once per session");
    let exhausted: Vec<_> = world.json("sessions").as_array().unwrap().clone();
    let without = exhausted.iter().filter(|row| row["state"] == "exhausted").count();
    assert_eq!(without, 1);
}
