//! Servers of a few lines, in the ways that languages and libraries have.

use super::program::Asked::{DualStack, Everywhere, EverywhereV6, Localhost};
use super::program::{Program, Word};
use sessionip::packet::Protocol::{Tcp, Udp};

/// The rows. Python is Debian's: another one in PATH may be out of reach for the
/// sessions' users.
pub(crate) const PROGRAMS: &[Program] = &[
    Program {
        name: "python-http.server",
        sockets: &[(Tcp, 8000, Everywhere)],
        command: "exec /usr/bin/python3 -u -m http.server {port}",
        word: Word::HTTP,
        ..Program::PLAIN
    },
    Program {
        name: "python-localhost",
        sockets: &[(Tcp, 8001, Localhost)],
        command: "exec /usr/bin/python3 -u -m http.server --bind 127.0.0.1 {port}",
        word: Word::HTTP,
        ..Program::PLAIN
    },
    Program {
        name: "python-asyncio",
        sockets: &[(Tcp, 8002, Everywhere), (Tcp, 8002, EverywhereV6)],
        files: &[("asyncio_server.py", include_str!("sources/asyncio_server.py"))],
        command: "exec /usr/bin/python3 asyncio_server.py {port}",
        ..Program::PLAIN
    },
    Program {
        name: "python-forking",
        sockets: &[(Tcp, 8003, Everywhere)],
        files: &[("forking.py", include_str!("sources/forking.py"))],
        command: "exec /usr/bin/python3 forking.py {port}",
        ..Program::PLAIN
    },
    Program {
        name: "python-reuseport",
        sockets: &[(Tcp, 8004, Everywhere)],
        files: &[("reuseport.py", include_str!("sources/reuseport.py"))],
        command: "exec /usr/bin/python3 reuseport.py {port}",
        ..Program::PLAIN
    },
    Program {
        name: "node-http",
        sockets: &[(Tcp, 3000, DualStack)],
        files: &[("http.js", include_str!("sources/http.js"))],
        command: "exec node http.js {port}",
        word: Word::HTTP,
        ..Program::PLAIN
    },
    Program {
        name: "node-dgram",
        sockets: &[(Udp, 3001, Everywhere)],
        files: &[("dgram.js", include_str!("sources/dgram.js"))],
        command: "exec node dgram.js {port}",
        word: Word::Udp("{word}"),
        ..Program::PLAIN
    },
    Program {
        name: "java",
        sockets: &[(Tcp, 7010, DualStack)],
        command: "exec java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData \
                  -cp {built} Talk {port}",
        ..Program::PLAIN
    },
    Program {
        name: "go-static",
        sockets: &[(Tcp, 7011, DualStack)],
        command: "exec {built}/talk-go {port}",
        ..Program::PLAIN
    },
    Program {
        name: "musl-static",
        sockets: &[(Tcp, 7012, Everywhere)],
        command: "exec {built}/talk-musl {port}",
        ..Program::PLAIN
    },
    Program {
        name: "mptcp",
        // Multipath TCP (RFC 8684), as Go's servers have it since 1.24.
        sockets: &[(Tcp, 7016, Everywhere)],
        command: "exec {built}/talk-musl {port} mptcp",
        ..Program::PLAIN
    },
    Program {
        name: "io_uring",
        sockets: &[(Tcp, 7013, Everywhere)],
        command: "exec {built}/talk-ring {port}",
        ..Program::PLAIN
    },
    Program {
        name: "socket-activation",
        // Bound by another program, which is replaced by the server at the first
        // connection.
        sockets: &[(Tcp, 7014, DualStack)],
        files: &[("activated.py", include_str!("sources/activated.py"))],
        command: "exec systemd-socket-activate -l {port} /usr/bin/python3 activated.py",
        ..Program::PLAIN
    },
    Program {
        name: "inetd",
        // A new process for each connection, which it has as its input.
        sockets: &[(Tcp, 7015, Everywhere)],
        command: "exec systemd-socket-activate -l 0.0.0.0:{port} --accept --inetd \
                  /usr/bin/tee -a {folder}/told",
        ..Program::PLAIN
    },
];
