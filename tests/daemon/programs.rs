//! Does the program list hold, from the file to the wire?

use crate::actor::{Actor, PYTHON, script};
use crate::world::{ANA, World, at_far, until};
use sessionip::lab::network::HOST;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// A program of that name, which runs what the usual one does.
pub(crate) fn program(world: &World, name: &str) -> PathBuf {
    let folder = world.directory.path().join("programs");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    std::fs::copy(PYTHON, &path).unwrap();
    path
}

fn start(world: &World, path: &std::path::Path) -> Actor {
    world.actor_by(1, ANA, &script(path.to_str().unwrap()))
}

/// On the wire, by its binds, and by what `flows` and `sockets` say.
#[track_caller]
fn is_virtualised(world: &World, actor: &mut Actor, port: u16) {
    let address = world.address(1);
    assert_eq!(actor.seen_by(at_far()), Ok(address));
    assert_eq!(actor.listen("tcp", format!("0.0.0.0:{port}")).ip(), address);
    assert_eq!(actor.listen("udp", format!("0.0.0.0:{port}")).ip(), address);
}

#[track_caller]
fn is_left_alone(world: &World, actor: &mut Actor, port: u16, reason: &str) {
    let before = world.count(reason);
    assert_eq!(actor.seen_by(at_far()), Ok(HOST.into()));
    assert!(world.count(reason) > before, "not counted as {reason}");
    let wildcard = IpAddr::from([0; 4]);
    assert_eq!(actor.listen("tcp", format!("0.0.0.0:{port}")).ip(), wildcard);
    let sockets = world.json("sockets");
    let bound = format!("0.0.0.0:{port}");
    let mut rows = sockets.as_array().unwrap().iter();
    let row = rows.find(|row| row["bound"] == bound.as_str());
    let row = row.unwrap_or_else(|| panic!("{bound} is not in {sockets}"));
    assert_eq!(row["reason"], reason, "{row}");
}

#[test]
fn by_path_by_name_and_by_exception() {
    let world = World::without_daemon(4, "");
    let [crm, ledger, other, plumbing] =
        ["crm", "ledger", "other", "plumbing"].map(|name| program(&world, name));
    // A path through a link names the same file.
    let linked = world.directory.path().join("linked");
    std::os::unix::fs::symlink(&crm, &linked).unwrap();
    world.configure(
        4,
        &format!(
            "[virtual-ip]\nprograms = ['{}', 'ledger', 'plumbing']\nexcept = ['plumbing']",
            linked.display()
        ),
    );
    let mut world = world;
    world.start();
    let _far = world.far();
    is_virtualised(&world, &mut start(&world, &crm), 9001);
    is_virtualised(&world, &mut start(&world, &ledger), 9002);
    is_left_alone(&world, &mut start(&world, &other), 9003, "not-listed");
    is_left_alone(&world, &mut start(&world, &plumbing), 9004, "excepted");

    // An upgrade puts another file at the listed path.
    std::fs::remove_file(&crm).unwrap();
    std::fs::copy(PYTHON, &crm).unwrap();
    let mut upgraded = start(&world, &crm);
    until("the new file", || upgraded.seen_by(at_far()) == Ok(world.address(1)));
    is_virtualised(&world, &mut upgraded, 9005);
}

#[test]
fn children_count_where_they_are_to() {
    for children in [true, false] {
        let mut world = World::without_daemon(4, "");
        let shell = world.directory.path().join("wrapper");
        std::fs::copy("/bin/sh", &shell).unwrap();
        world.configure(4, &format!("[virtual-ip]\nprograms = ['wrapper']\nchildren = {children}"));
        world.start();
        let _far = world.far();
        // The shell waits for its child: it does not become it.
        let actor = script(PYTHON);
        let words = [shell.to_str().unwrap(), "-c", "\"$@\"; true", "wrapper"].map(str::to_owned);
        let mut child = world.actor_by(1, ANA, &[words.as_slice(), &actor].concat());
        if children {
            is_virtualised(&world, &mut child, 9001);
        } else {
            is_left_alone(&world, &mut child, 9001, "not-listed");
        }
        is_left_alone(&world, &mut world.actor(1, ANA), 9002, "not-listed");
    }
}

/// A script means the process of its interpreter, and with `children` what that
/// starts.
#[test]
fn a_script_counts_as_its_interpreter() {
    let mut world = World::without_daemon(4, "");
    let crm = program(&world, "crm");
    let starter = world.directory.path().join("start-crm.sh");
    std::fs::write(&starter, "#!/bin/sh\n\"$@\"\ntrue\n").unwrap();
    std::fs::set_permissions(&starter, std::fs::Permissions::from_mode(0o755)).unwrap();
    let starter = starter.to_str().unwrap().to_owned();
    let list = |listed: &str, children: bool| {
        format!("[virtual-ip]\nprograms = ['{listed}']\nchildren = {children}")
    };
    world.configure(4, &list(&starter, true));
    world.start();
    let _far = world.far();
    let words = [vec![starter.clone()], script(crm.to_str().unwrap())].concat();
    is_virtualised(&world, &mut world.actor_by(1, ANA, &words), 9001);
    world.configure(4, &list(&starter, false));
    assert!(world.answer(&["reload"]).status.success());
    is_left_alone(&world, &mut world.actor_by(1, ANA, &words), 9002, "not-listed");
    world.configure(4, &list("crm", true));
    assert!(world.answer(&["reload"]).status.success());
    is_virtualised(&world, &mut world.actor_by(1, ANA, &words), 9003);

    let path = world.directory.path().join("actor.py");
    std::fs::write(&path, include_str!("actor.py")).unwrap();
    let path = path.to_str().unwrap().to_owned();
    world.configure(4, &list(&path, false));
    assert!(world.answer(&["reload"]).status.success());
    let words = [PYTHON.to_owned(), "-u".to_owned(), path];
    is_virtualised(&world, &mut world.actor_by(1, ANA, &words), 9004);
    is_left_alone(&world, &mut world.actor(1, ANA), 9005, "not-listed");
}

#[test]
fn turned_off_everything_is_left_alone() {
    let world = World::new(4, "[virtual-ip]\nenabled = false");
    let mut far = world.far();
    let mut ana = world.actor(1, ANA);
    is_left_alone(&world, &mut ana, 9001, "not-listed");
    // Sessions have their addresses all the same.
    let asked = far.meet(crate::world::at(world.address(1), 9001)).unwrap();
    assert_eq!(asked.who, "session-1");
}
