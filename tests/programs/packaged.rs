//! Servers, unmodified, as Debian packages them.

use super::program::Asked::{
    DualStack, Everywhere, EverywhereV6, Kept, Localhost, LocalhostOr, LocalhostV6,
};
use super::program::{Program, Second, Word};
use sessionip::packet::Protocol::{Tcp, Udp};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The rows.
pub(crate) const PROGRAMS: &[Program] = &[
    Program {
        name: "iperf3",
        sockets: &[(Tcp, 5301, DualStack)],
        command: "exec iperf3 -s --forceflush -p {port}",
        word: Word::Client("iperf3 -c {address} -p {port} -n 16K --cport {word}"),
        ..Program::PLAIN
    },
    Program {
        name: "iperf",
        sockets: &[(Tcp, 5001, Everywhere)],
        command: "exec iperf -s -p {port}",
        word: Word::Client("iperf -c {address} -p {port} -n 16K -B 0.0.0.0:{word}"),
        ..Program::PLAIN
    },
    Program {
        name: "iperf-udp",
        sockets: &[(Udp, 5002, Everywhere)],
        command: "exec iperf -s -u -p {port}",
        word: Word::Client("iperf -u -c {address} -p {port} -n 16K -B 0.0.0.0:{word}"),
        ..Program::PLAIN
    },
    Program {
        name: "nginx",
        sockets: &[(Tcp, 8080, Everywhere)],
        files: &[(
            "nginx.conf",
            "daemon off; pid nginx.pid; events {}
            http {
                client_body_temp_path a; proxy_temp_path b; fastcgi_temp_path c;
                uwsgi_temp_path d; scgi_temp_path e; access_log access.log;
                server { listen {port}; location / { return 200 heard; } }
            }",
        )],
        command: "exec nginx -p {folder} -e stderr -c nginx.conf",
        word: Word::HTTP,
        ..Program::PLAIN
    },
    Program {
        name: "lighttpd",
        sockets: &[(Tcp, 8081, Everywhere)],
        files: &[(
            "lighttpd.conf",
            "server.port = {port}
            server.document-root = \"{folder}\"
            debug.log-request-header = \"enable\"",
        )],
        command: "exec lighttpd -D -f lighttpd.conf",
        word: Word::HTTP,
        ..Program::PLAIN
    },
    Program {
        name: "busybox-httpd",
        sockets: &[(Tcp, 8082, DualStack)],
        command: "exec busybox httpd -f -vv -p {port}",
        word: Word::HTTP,
        ..Program::PLAIN
    },
    Program {
        name: "redis",
        sockets: &[(Tcp, 6379, Everywhere), (Tcp, 6379, EverywhereV6)],
        // So that each word that is set is written down at once.
        command: "exec redis-server --port {port} --bind '* -::*' --protected-mode no \
                  --appendonly yes --appendfsync always",
        word: Word::Tcp("SET {word} 1\r\n"),
        ..Program::PLAIN
    },
    Program {
        name: "redis-localhost",
        sockets: &[(Tcp, 6380, Localhost), (Tcp, 6380, LocalhostV6)],
        command: "exec redis-server --port {port} --bind 127.0.0.1 -::1 \
                  --appendonly yes --appendfsync always",
        word: Word::Tcp("SET {word} 1\r\n"),
        ..Program::PLAIN
    },
    Program {
        name: "memcached",
        sockets: &[
            (Tcp, 11211, Everywhere),
            (Tcp, 11211, EverywhereV6),
            (Udp, 11211, Everywhere),
            (Udp, 11211, EverywhereV6),
        ],
        command: "exec memcached -vv -p {port} -U {port}",
        word: Word::Tcp("set {word} 0 0 1\r\nx\r\n"),
        ..Program::PLAIN
    },
    Program {
        name: "vsftpd",
        sockets: &[(Tcp, 2121, Everywhere)],
        files: &[(
            "vsftpd.conf",
            "listen=YES
listen_ipv6=NO
listen_port={port}
run_as_launching_user=YES
secure_chroot_dir={folder}
xferlog_enable=YES
log_ftp_protocol=YES
vsftpd_log_file={folder}/vsftpd.log
",
        )],
        command: "exec vsftpd {folder}/vsftpd.conf",
        word: Word::Tcp("USER {word}\r\n"),
        ..Program::PLAIN
    },
    Program {
        name: "mosquitto",
        sockets: &[(Tcp, 1883, Everywhere), (Tcp, 1883, EverywhereV6)],
        files: &[("mosquitto.conf", "listener {port}\nallow_anonymous true\n")],
        command: "exec mosquitto -c mosquitto.conf",
        // MQTT 3.1.1, section 3.1: CONNECT, a client of this name.
        word: Word::Tcp("\x10\x30\0\x04MQTT\x04\x02\0\x3c\0\x24{word}"),
        ..Program::PLAIN
    },
    Program {
        name: "dnsmasq",
        sockets: &[
            (Udp, 5454, Everywhere),
            (Udp, 5454, EverywhereV6),
            (Tcp, 5454, Everywhere),
            (Tcp, 5454, EverywhereV6),
        ],
        files: &[("dnsmasq.conf", "no-resolv\nno-hosts\nlog-queries\n")],
        command: "exec dnsmasq -k -C dnsmasq.conf -p {port} --log-facility=- --pid-file=",
        // RFC 1035, section 4: a question for its address.
        word: Word::Udp("\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x24{word}\x04test\0\0\x01\0\x01"),
        ..Program::PLAIN
    },
    Program {
        name: "sipp",
        // The one for calls, two for sound, and the one that it is controlled by.
        sockets: &[
            (Udp, 5060, Everywhere),
            (Udp, 6000, LocalhostOr(6004)),
            (Udp, 6002, LocalhostOr(6006)),
            (Udp, 8888, Everywhere),
        ],
        command: "exec sipp -sn uas -p {port} -nostdin -trace_msg -message_file messages",
        word: Word::Udp(
            "OPTIONS sip:b@b SIP/2.0\r\nVia: SIP/2.0/UDP 10.77.0.2:5060;branch=z9hG4bK-1\r\n\
             From: <sip:a@a>;tag=1\r\nTo: <sip:b@b>\r\nCall-ID: {word}\r\nCSeq: 1 OPTIONS\r\n\
             Contact: <sip:a@a>\r\nContent-Length: 0\r\n\r\n",
        ),
        ..Program::PLAIN
    },
    Program {
        name: "nc",
        // With SO_REUSEPORT: a second copy starts anywhere.
        sockets: &[(Tcp, 7001, Everywhere)],
        command: "exec nc.openbsd -lk {port}",
        ..Program::PLAIN
    },
    Program {
        name: "nc-udp",
        sockets: &[(Udp, 7002, Everywhere)],
        command: "exec nc.openbsd -ukl {port}",
        word: Word::Udp("{word}\n"),
        ..Program::PLAIN
    },
    Program {
        name: "ncat",
        sockets: &[(Tcp, 7003, Everywhere), (Tcp, 7003, EverywhereV6)],
        command: "exec ncat -lk {port}",
        ..Program::PLAIN
    },
    Program {
        name: "socat",
        sockets: &[(Tcp, 7004, Everywhere)],
        command: "exec socat -u TCP-LISTEN:{port},fork STDOUT",
        ..Program::PLAIN
    },
    Program {
        name: "socat-udp",
        sockets: &[(Udp, 7005, Everywhere)],
        command: "exec socat -u UDP-RECV:{port} STDOUT",
        word: Word::Udp("{word}\n"),
        ..Program::PLAIN
    },
    Program {
        name: "socat-v6only",
        sockets: &[(Tcp, 7006, EverywhereV6)],
        command: "exec socat -u TCP6-LISTEN:{port},ipv6only=1,fork STDOUT",
        ..Program::PLAIN
    },
    Program {
        name: "postgresql",
        sockets: &[(Tcp, 5432, Everywhere), (Tcp, 5432, EverywhereV6)],
        command: "PATH=$PATH:$(echo /usr/lib/postgresql/*/bin | tr ' ' :)
            cp -r {built}/data data && chmod 700 data &&
            exec postgres -D data -F -p {port} -k {folder} -c listen_addresses='*'",
        word: POSTGRESQL,
        ..Program::PLAIN
    },
    // No address helps where programs meet at a file: with the folder for local
    // clients that packages have, one for all, the second copy finds its lock.
    Program {
        name: "postgresql-shared-folder",
        sockets: &[(Tcp, 5433, Everywhere), (Tcp, 5433, EverywhereV6)],
        command: "PATH=$PATH:$(echo /usr/lib/postgresql/*/bin | tr ' ' :)
            cp -r {built}/data data && chmod 700 data &&
            exec postgres -D data -F -p {port} -k {shared} -c listen_addresses='*'",
        word: POSTGRESQL,
        second: Second::GivesUp("could not open lock file"),
        ..Program::PLAIN
    },
    // Excepted by default: the way into the machine is not a session's.
    Program {
        name: "sshd",
        sockets: &[(Tcp, 2222, Kept(EVERYWHERE)), (Tcp, 2222, Kept(EVERYWHERE_V6))],
        files: &[("sshd_config", "HostKey {folder}/key\nPidFile none\nLogLevel DEBUG1\n")],
        command: "ssh-keygen -q -t ed25519 -N '' -f key &&
            exec /usr/sbin/sshd -D -e -p {port} -f {folder}/sshd_config",
        // RFC 4253, section 4.2.
        word: Word::Tcp("SSH-2.0-{word}\r\n"),
        second: Second::GivesUp("Address already in use"),
    },
];

/// A client that says who it is.
const POSTGRESQL: Word = Word::Tcp("\0\0\0\x33\0\x03\0\0user\0{word}\0\0");

const EVERYWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const EVERYWHERE_V6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
