//! What the tests build themselves: static programs, Java's classes, io_uring, a
//! database; and what is on lists, and what not.

use sessionip::lab::process;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

const SOURCES: [(&str, &str); 4] = [
    ("talk.go", include_str!("sources/talk.go")),
    ("Talk.java", include_str!("sources/Talk.java")),
    ("talk.c", include_str!("sources/talk.c")),
    ("ring.c", include_str!("sources/ring.c")),
];

/// The user `nobody`, on Debian.
const NOBODY: u32 = 65_534;

/// How long any of it may take.
const LIMIT: Duration = Duration::from_secs(120);

const MADE: [&str; 4] = ["talk-go", "Talk.class", "talk-musl", "talk-ring"];

/// The servers' files, by which lists name them. A link's name is none.
const SERVERS: &str = "for server in iperf3 iperf nginx lighttpd busybox redis-server memcached \
    vsftpd mosquitto dnsmasq sipp nc.openbsd ncat socat /usr/bin/python3 node java \
    systemd-socket-activate $(echo /usr/lib/postgresql/*/bin/postgres); do
    basename $(readlink -f $(PATH=$PATH:/usr/sbin command -v $server)); done";

/// Clients under names that no list has: those of files, not of links.
const UNLISTED: [&str; 3] = ["python3", "iperf3", "iperf"];

/// A database of PostgreSQL, which root may not make.
const DATABASE: &str = "PATH=$PATH:$(echo /usr/lib/postgresql/*/bin | tr ' ' :)
    initdb --no-sync --no-instructions --wal-segsize=1 -A trust -D $1 && chmod -R a+rX $1";

/// Puts all of it into a folder that every user can get at.
pub(crate) fn into(folder: &Path) {
    static BUILT: OnceLock<&Path> = OnceLock::new();
    let built = BUILT.get_or_init(build);
    fs::create_dir(folder).unwrap();
    fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    for name in MADE {
        fs::copy(built.join(name), folder.join(name)).unwrap();
    }
    for name in UNLISTED {
        fs::copy(format!("/usr/bin/{name}"), unlisted(folder, name)).unwrap();
    }
    let database = [built.join("data"), folder.to_owned()];
    process::output(process::command(&["cp", "-r"]).args(database), LIMIT).unwrap();
}

/// As an entry of a list, each; with the lab's own listener.
pub(crate) fn names_of_servers() -> String {
    let names = process::output(&mut process::command(&["sh", "-c", SERVERS]), LIMIT).unwrap();
    let built = MADE.iter().filter(|name| name.starts_with("talk-")).copied();
    let names = names.lines().chain(built).chain(["sessionip"]);
    let names: Vec<_> = names.map(|name| format!("'{name}'")).collect();
    names.join(", ")
}

/// A copy of a client that is on no list, in the folder of what is built.
pub(crate) fn unlisted(built: &Path, client: &str) -> PathBuf {
    let (_, name) = client.rsplit_once('/').unwrap_or(("", client));
    assert!(UNLISTED.contains(&name), "{client} has no unlisted copy");
    built.join(format!("unlisted-{name}"))
}

fn build() -> &'static Path {
    let folder = Path::new(concat!(env!("CARGO_TARGET_TMPDIR"), "/programs"));
    fs::create_dir_all(folder).unwrap();
    for (name, source) in SOURCES {
        fs::write(folder.join(name), source).unwrap();
    }
    // Nobody's, until every lab has a copy.
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
    let data = directory.path().join("data");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut command = process::command(&["sh", "-c", DATABASE, "sh"]);
            command.arg(&data).uid(NOBODY).gid(NOBODY);
            process::output(&mut command, LIMIT).unwrap();
        });
        for line in [
            "go build -o talk-go talk.go",
            "javac -d . Talk.java",
            "musl-gcc -static -O1 -o talk-musl talk.c",
            "gcc -O1 -o talk-ring ring.c -luring",
        ] {
            scope.spawn(move || {
                let mut command = process::command(&line.split(' ').collect::<Vec<_>>());
                command.current_dir(folder).env("CGO_ENABLED", "0");
                command.env("GOCACHE", folder.join("go-cache"));
                process::output(&mut command, LIMIT).unwrap();
            });
        }
    });
    let _ = fs::remove_dir_all(folder.join("data"));
    let copy = [data, folder.join("data")];
    process::output(process::command(&["cp", "-r"]).args(copy), LIMIT).unwrap();
    folder
}
