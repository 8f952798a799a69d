//! What does it cost to ask whose socket it is, once for each new flow? Needs
//! root, a cgroup v2 mount and iproute2.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot go on says so")]

use criterion::{Criterion, criterion_group, criterion_main};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use sessionip::companion::{Companion, Options};
use sessionip::owner::Sockets;
use sessionip::owner::linux::diag::SockDiag;
use sessionip::owner::linux::{KernelSockets, Sources};
use sessionip::packet::{Endpoint, Protocol};
use sessionip::session::linux::{Layout, Watcher};
use std::hint::black_box;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// Pairs of connected sockets that are there besides.
const CROWD: usize = 400;

fn endpoint(address: std::io::Result<SocketAddr>) -> Endpoint {
    let address = address.unwrap();
    Endpoint::new(address.ip(), address.port())
}

#[expect(clippy::disallowed_methods, reason = "a bench may look at the clock")]
fn look_ups(criterion: &mut Criterion) {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("this bench needs root");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
    let layout = Layout {
        cgroup_root: cgroup2_mount().expect("this bench needs a cgroup v2 mount"),
        own_parent: format!("owner-bench-{}", std::process::id()),
        logind: None,
        logind_state: PathBuf::new(),
    };
    let (_, scopes) = Watcher::open(&layout).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let hook = Companion::load(&Options {
        pin_directory: folder.path().join("bpf"),
        cgroup_root: layout.cgroup_root.clone(),
    })
    .expect("this bench needs eBPF");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let listening = endpoint(listener.local_addr());
    let crowd: Vec<_> = (0..CROWD)
        .map(|_| {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (client, listener.accept().unwrap())
        })
        .collect();
    let client = endpoint(crowd[CROWD / 2].0.local_addr());
    let unconnected = UdpSocket::bind("127.0.0.1:0").unwrap();
    let connected = UdpSocket::bind("127.0.0.1:0").unwrap();
    connected.connect("127.0.0.1:9").unwrap();
    let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
    let nowhere = Endpoint::new([127, 9, 9, 9].into(), 9);
    let cases = [
        ("tcp connecting side", tcp, client, listening),
        ("tcp accepted side", tcp, listening, client),
        ("tcp listening", tcp, listening, nowhere),
        ("tcp nothing", tcp, nowhere, nowhere),
        ("udp unconnected", udp, endpoint(unconnected.local_addr()), nowhere),
        ("udp connected", udp, endpoint(connected.local_addr()), endpoint(connected.peer_addr())),
        ("udp nothing", udp, nowhere, nowhere),
    ];

    let mut diag = SockDiag::open().unwrap();
    let mut group = criterion.benchmark_group("sock_diag");
    for (name, protocol, local, remote) in cases {
        let expected = !name.ends_with("nothing");
        assert_eq!(diag.find(protocol, local, remote, 0).unwrap().is_some(), expected, "{name}");
        group.bench_function(name, |bencher| {
            bencher.iter(|| diag.find(protocol, black_box(local), black_box(remote), 0));
        });
    }
    group.finish();

    let owners = hook.owners().unwrap();
    let cookie = diag.find(tcp, client, listening, 0).unwrap().unwrap().cookie;
    assert!(owners.owner(cookie).is_some());
    criterion.bench_function("OWNERS[cookie]", |b| b.iter(|| owners.owner(black_box(cookie))));

    let sources = Sources { scopes, owners: Some(owners), closed: None, pings: None, interface: 0 };
    let mut sockets = KernelSockets::open(sources, Instant::now()).unwrap();
    let mut group = criterion.benchmark_group("owner");
    for (name, protocol, local, remote) in cases {
        let pid = sockets.owner(protocol, local, remote).map(|owner| owner.pid);
        let expected = (!name.ends_with("nothing")).then(std::process::id);
        assert_eq!(pid, expected, "{name}");
        group.bench_function(name, |bencher| {
            bencher.iter(|| sockets.owner(protocol, black_box(local), black_box(remote)));
        });
    }
    group.finish();
    hook.unload().unwrap();
    std::fs::remove_dir(layout.own_folder()).unwrap();
}

fn cgroup2_mount() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    })
}

criterion_group!(benches, look_ups);
criterion_main!(benches);
