//! What does the hook cost a program? Binds and datagrams, with and without.
//!
//! Needs root and a cgroup2 hierarchy. The process enters a cgroup and a
//! network namespace of its own.

use criterion::{Criterion, criterion_group, criterion_main};
use nix::sched::{CloneFlags, unshare};
use sessionip::companion::{Companion, Options, PolicyView, SessionEntry};
use sessionip::config::{Loopback, ProgramPattern};
use sessionip::session::SessionId;
use std::error::Error;
use std::hint::black_box;
use std::net::UdpSocket;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

type Outcome<T> = Result<T, Box<dyn Error>>;

const V: &str = "10.77.0.101";

fn hook(criterion: &mut Criterion) {
    if let Err(error) = measure(criterion) {
        panic!("the hook could not be measured (it needs root and cgroup2): {error}");
    }
}

fn measure(criterion: &mut Criterion) -> Outcome<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    for command in ["link set lo up", &format!("route add local {V}/32 dev lo table local")] {
        Command::new("ip").args(command.split(' ')).status()?;
    }
    let cgroup_root = cgroup_root()?;
    let before = own_cgroup(&cgroup_root)?;
    let folder = cgroup_root.join(format!("hook-bench-{}", std::process::id()));
    fs::create_dir(&folder)?;
    let pin_directory = env::temp_dir().join(format!("hook-bench-{}", std::process::id()));

    cases(criterion, "no hook");
    let mut companion = Companion::load(&Options { pin_directory, cgroup_root })?;
    companion.set_policy(&PolicyView {
        enabled: true,
        programs: vec![ProgramPattern::All],
        except: vec![ProgramPattern::Name("sshd".into())],
        children: false,
        connect: false,
        exclude_ports: vec![],
        exclude: vec![],
        sources: true,
        listeners: true,
        loopback: Loopback::default(),
        isolate_loopback: true,
    })?;
    companion.begin()?;
    let entry = SessionEntry {
        id: SessionId(1),
        ipv4: Some(V.parse()?),
        ipv6: None,
        private_ipv6: None,
        loopback: None,
    };
    companion.set_session(fs::metadata(&folder)?.ino(), &entry)?;
    cases(criterion, "outside sessions");
    fs::write(folder.join("cgroup.procs"), "0")?;
    cases(criterion, "in a session");
    fs::write(before.join("cgroup.procs"), "0")?;
    companion.unload()?;
    fs::remove_dir(folder)?;
    Ok(())
}

fn cases(criterion: &mut Criterion, place: &str) {
    let mut group = criterion.benchmark_group(place);
    group.bench_function("socket, bind 0.0.0.0, close", |b| {
        b.iter(|| black_box(UdpSocket::bind("0.0.0.0:9000").ok()));
    });
    let socket = UdpSocket::bind("127.0.0.1:0");
    if let Ok(socket) = socket
        && let Ok(address) = socket.local_addr()
    {
        let mut bytes = [0; 64];
        group.bench_function("datagram to 127.0.0.1 and back", |b| {
            b.iter(|| {
                black_box(socket.send_to(&bytes, address)).ok();
                socket.recv_from(&mut bytes).ok()
            });
        });
    }
    group.finish();
}

fn cgroup_root() -> Outcome<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = mounts.find(|fields| fields.get(2) == Some(&"cgroup2"));
    Ok(mount.and_then(|fields| fields.get(1).map(PathBuf::from)).ok_or("no cgroup2 hierarchy")?)
}

fn own_cgroup(root: &std::path::Path) -> Outcome<PathBuf> {
    let cgroups = fs::read_to_string("/proc/self/cgroup")?;
    let own = cgroups.lines().find_map(|line| line.strip_prefix("0::/")).ok_or("in no cgroup")?;
    Ok(root.join(own))
}

criterion_group!(benches, hook);
criterion_main!(benches);
