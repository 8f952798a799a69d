//! What are programs told of the host's name and addresses, with `scope = "connect"`?

use crate::world::{ANA, BEN, HOST, World};

#[test]
fn the_hosts_name_and_adapters_have_the_sessions_address() {
    let world = World::new("names", "hook.scope = 'connect'");
    world.start_service();
    for (session, program) in [(ANA, "names.exe"), (BEN, "names.exe"), (BEN, "names32.exe")] {
        let address = session.address;
        let said = world.exec(session, &[program, address], "done").said();
        let line = |question: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(question));
            line.unwrap_or_else(|| panic!("{question}: {said}")).trim().to_owned()
        };
        assert_eq!(line("getaddrinfo"), address, "{said}");
        assert_eq!(line("gethostbyname"), address, "{said}");
        assert_eq!(line("getnameinfo"), "the host's name", "{said}");
        let adapters = line("adapters");
        let mut adapters: Vec<_> = adapters.split(' ').collect();
        adapters.retain(|it| *it != "127.0.0.1");
        assert_eq!(adapters, [address], "neither the host's nor another session's: {said}");
    }
    // Outside any session all is as it is.
    let said = world.wine(&["./names.exe", ANA.address]).output().unwrap().stdout;
    let said = String::from_utf8_lossy(&said).into_owned();
    let adapters = said.lines().find(|line| line.starts_with("adapters")).unwrap_or_default();
    for address in [HOST, ANA.address, BEN.address] {
        assert!(adapters.contains(address), "{said}");
    }
    assert!(!said.contains(&format!("getaddrinfo {}", ANA.address)), "{said}");
}
