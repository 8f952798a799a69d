//! What does a start say that cannot succeed, and what does it leave?

use crate::world::{World, become_user, complaint};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A start that failed: its one sentence.
#[track_caller]
fn sentence(output: &Output) -> String {
    assert!(!output.status.success(), "it ended well");
    assert!(output.status.code().is_some(), "it was killed: {}", output.status);
    let complaint = complaint(output);
    let lines: Vec<_> = complaint.lines().filter(|line| !line.contains(" INFO ")).collect();
    let [line] = lines.as_slice() else { panic!("not one sentence:\n{complaint}") };
    assert!(line.starts_with("sessionip: "), "{line}");
    println!("{line}");
    (*line).to_owned()
}

fn run(world: &World) -> Output {
    run_with(world, "/usr/sbin:/usr/bin:/sbin:/bin")
}

/// With programs found in these folders.
fn run_with(world: &World, path: &str) -> Output {
    let mut command = world.sessionip(&["run"]);
    command.env("PATH", path).stdin(Stdio::null());
    world.network.host.within(|| command.output()).unwrap().unwrap()
}

/// As a start that fails at once is to leave it.
struct Before {
    tables: Vec<String>,
    /// Those of a run that was killed lie around, and inodes are used again. Whoever
    /// tidies up after it may do so at any moment.
    scopes: bool,
}

impl Before {
    fn of(world: &World) -> Self {
        Self { tables: world.tables(), scopes: scopes(world).exists() }
    }

    #[track_caller]
    fn still(&self, world: &World) {
        assert_eq!(world.tables(), self.tables);
        assert_eq!(world.traces("control"), [""; 0]);
        assert_eq!(empty_folders(world), [""; 0]);
        let scopes = scopes(world);
        assert!(self.scopes || !scopes.exists(), "{}", scopes.display());
    }
}

/// Folders of the daemon with nothing in them.
fn empty_folders(world: &World) -> Vec<&'static str> {
    let is_empty = |name: &&str| {
        fs::read_dir(world.directory.path().join(name)).is_ok_and(|mut it| it.next().is_none())
    };
    ["state-control", "control"].into_iter().filter(is_empty).collect()
}

/// Where the daemon of this world has the scopes of `exec`.
fn scopes(world: &World) -> PathBuf {
    let inode = world.network.host.inode().unwrap();
    crate::world::cgroup_root().join(format!("sessionip.net-{inode}"))
}

#[test]
fn not_root() {
    let world = World::without_daemon(4, "");
    let before = Before::of(&world);
    let mut command = become_user("nobody");
    command.arg(&world.program).arg("--config").arg(&world.config).arg("run");
    let output = world.network.host.within(|| command.output()).unwrap().unwrap();
    let sentence = sentence(&output);
    assert!(sentence.contains("must run as root") && sentence.contains("sudo"), "{sentence}");
    before.still(&world);
}

#[test]
fn root_without_its_rights() {
    let world = World::without_daemon(4, "");
    let before = Before::of(&world);
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all", "--"]);
    command.arg(&world.program).arg("--config").arg(&world.config).arg("run");
    let output = world.network.host.within(|| command.output()).unwrap().unwrap();
    let sentence = sentence(&output);
    assert!(sentence.contains("root"), "{sentence}");
    before.still(&world);
}

#[test]
fn no_configuration() {
    let world = World::without_daemon(4, "");
    let before = Before::of(&world);
    fs::remove_file(&world.config).unwrap();
    let sentence = sentence(&run(&world));
    assert!(sentence.contains(world.config.to_str().unwrap()), "{sentence}");
    assert!(sentence.contains("pool.ranges") && sentence.contains("--config"), "{sentence}");
    before.still(&world);
}

#[test]
fn a_wrong_configuration() {
    let world = World::without_daemon(4, "stiky = true\nper-user = 0");
    let before = Before::of(&world);
    let output = run(&world);
    assert_eq!(output.status.code(), Some(1));
    let complaint = complaint(&output);
    // All at once, each with its place.
    for finding in ["pool.stiky", "did you mean sticky?", "per-user", "sessionip.toml:6:1"] {
        assert!(complaint.contains(finding), "{finding} is missing from {complaint}");
    }
    before.still(&world);
}

#[test]
fn no_iptables() {
    let world = World::without_daemon(4, "");
    let before = Before::of(&world);
    let empty = world.directory.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let sentence = sentence(&run_with(&world, empty.to_str().unwrap()));
    assert!(sentence.contains("iptables") && sentence.contains("apt install"), "{sentence}");
    before.still(&world);
}

#[test]
fn an_iptables_that_fails() {
    let world = World::without_daemon(4, "");
    let before = Before::of(&world);
    let sentence = sentence(&run_with(&world, &broken(&world, "iptables")));
    assert!(sentence.contains("no such table"), "{sentence}");
    before.still(&world);
}

/// Without it IPv6 is left alone, which is no answer to these two.
#[test]
fn an_ip6tables_that_fails_where_ipv6_must_not_leave_unseen() {
    let blocks = "[virtual-ip]\nipv6-without-lease = 'block'";
    for (more, rest) in [(", 'fd77::101-fd77::104'", ""), ("", blocks)] {
        let world = World::without_daemon(4, "");
        world.set_ranges(&format!("'10.77.0.101-10.77.0.104'{more}"), rest);
        let before = Before::of(&world);
        let sentence = sentence(&run_with(&world, &broken(&world, "ip6tables")));
        assert!(sentence.contains("`ip6tables-save` failed: no such table"), "{sentence}");
        before.still(&world);
    }
}

/// A PATH where these programs do nothing but fail.
fn broken(world: &World, program: &str) -> String {
    let folder = world.directory.path().join("broken");
    fs::create_dir(&folder).unwrap();
    for kind in ["save", "restore"] {
        let path = folder.join(format!("{program}-{kind}"));
        fs::write(&path, "#!/bin/sh\necho no such table >&2\nexit 3\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", folder.display())
}

#[test]
fn no_network_card() {
    for (key, word) in [("adapter = 'eth99'", "eth99"), ("", "10.77.0.101")] {
        let world = World::without_daemon(4, key);
        if key.is_empty() {
            world.host(&["ip", "link", "delete", "lab-host"]);
        }
        let before = Before::of(&world);
        let output = run(&world);
        assert!(!output.status.success());
        let complaint = complaint(&output);
        assert!(complaint.contains(word), "{complaint}");
        println!("{complaint}");
        before.still(&world);
    }
}

#[test]
fn a_control_path_or_state_that_cannot_be() {
    let world = World::without_daemon(4, "");
    fs::write(world.directory.path().join("control"), "a file in the way").unwrap();
    let said = sentence(&run(&world));
    assert!(said.contains("control.sock"), "{said}");
    fs::remove_file(world.directory.path().join("control")).unwrap();
    // The lock was there first, and its folder is gone again.
    assert!(!world.directory.path().join("state-control").exists());

    let before = Before::of(&world);
    fs::write(world.directory.path().join("state-control"), "a file in the way").unwrap();
    let said = sentence(&run(&world));
    assert!(said.contains("state-control"), "{said}");
    before.still(&world);
}

#[test]
fn metrics_where_somebody_listens() {
    let world = World::without_daemon(4, "");
    let text = fs::read_to_string(&world.config).unwrap();
    let text = text.replace("metrics.listen = ''", "metrics.listen = '127.0.0.1:9477'");
    fs::write(&world.config, text).unwrap();
    let before = Before::of(&world);
    let mut outside = world.outside();
    outside.listen("tcp", "127.0.0.1:9477");
    let said = sentence(&run(&world));
    assert!(said.contains("127.0.0.1:9477") && said.contains("in use"), "{said}");
    before.still(&world);
}
