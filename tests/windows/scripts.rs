//! What an administrator runs from the unpacked bundle: install.cmd, uninstall.cmd.

use crate::world::{ANA, FAR, HOST, WHO, World};
use std::process::Output;

fn said(done: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).replace('\r', "");
    text(&done.stdout) + &text(&done.stderr)
}

fn succeeds(world: &World, words: &[&str]) -> String {
    let done = world.cmd(words);
    assert!(done.status.success(), "{words:?}: {}\n{}", said(&done), world.log());
    said(&done)
}

#[test]
fn the_scripts_install_bring_up_to_date_and_take_out() {
    let world = World::new("cmd", "");
    let before = world.addresses();
    let [programs, data] =
        ["Program Files/sessionip", "ProgramData/sessionip"].map(|it| world.drive(it));
    let done = world.cmd(&["install.cmd"]);
    assert!(!done.status.success() && said(&done).contains("unpack the whole bundle"));
    assert!(!programs.exists(), "nothing is done by halves");
    world.unpack();

    // Where a folder of that name cannot be written, it is not an administrator's.
    std::fs::write(&programs, "").unwrap();
    let done = world.cmd(&["install.cmd"]);
    assert!(!done.status.success() && said(&done).contains("as administrator"), "{}", said(&done));
    std::fs::remove_file(&programs).unwrap();

    // A new host gets the example, and nothing starts before it is read.
    let configuration = std::fs::read_to_string(data.join("sessionip.toml")).unwrap();
    std::fs::remove_file(data.join("sessionip.toml")).unwrap();
    let done = succeeds(&world, &["install.cmd"]);
    assert!(done.contains("does not run yet"), "{done}");
    let example = std::fs::read(data.join("sessionip.toml")).unwrap();
    assert_eq!(
        example,
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/config/rds.toml")).unwrap()
    );
    assert_eq!(world.addresses(), before);

    // A configuration that is there stays and is put to use, twice.
    std::fs::write(data.join("sessionip.toml"), &configuration).unwrap();
    world.bring_driver_s_helper(&programs);
    for _ in 0..2 {
        let done = succeeds(&world, &["install.cmd"]);
        assert!(done.contains("is up to date and runs"), "{done}");
        assert_eq!(world.ask(Some(ANA), "tcp", (FAR, WHO)), format!("answer {}", ANA.address));
    }
    assert_eq!(std::fs::read_to_string(data.join("sessionip.toml")).unwrap(), configuration);

    let done = world.cmd(&["uninstall.cmd", "everything"]);
    assert!(!done.status.success() && said(&done).contains("usage"), "{}", said(&done));
    let done = succeeds(&world, &["uninstall.cmd"]);
    // Wine keeps a driver's file open for longer than the driver is loaded.
    let left = || std::fs::read_dir(&programs).unwrap().map(|it| it.unwrap().file_name());
    let may_stay = |name: &std::ffi::OsStr| {
        let name = name.to_string_lossy();
        ["wdnet.dll", "WinDivert64.sys"].contains(&&*name) || name.ends_with(".old")
    };
    assert!(left().all(|name| may_stay(&name)), "{:?}: {done}", left().collect::<Vec<_>>());
    let why = ["are in use", "files that are not sessionip's"];
    assert!(why.iter().any(|why| done.contains(why)), "{done}");
    assert_eq!(world.addresses(), before, "the service was stopped");
    assert!(data.join("state/leases.json").exists(), "leases stay");
    assert_eq!(world.ask(Some(ANA), "tcp", (FAR, WHO)), format!("answer {HOST}"));
    succeeds(&world, &["uninstall.cmd", "-Purge"]);
    assert!(!data.exists());
}
