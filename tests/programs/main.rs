//! Do real programs listen on one port in two sessions? Unmodified, as Debian
//! packages them. Needs root, iproute2, iptables, iperf3, iperf, nginx,
//! redis-server, python3 and nodejs.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod lab;

use lab::Lab;
use sessionip::lab::process::{self, Running};
use sessionip::lab::sessions::Opened;
use sessionip::lab::{LabError, listeners, marker, wait};
use sessionip::packet::Protocol;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Debian's: another one in PATH may be out of reach for the sessions' users.
const PYTHON: &str = "/usr/bin/python3";

/// Prints each line that it is sent: asyncio's own way to listen everywhere.
const ASYNCIO: &str = "
import asyncio, sys
async def serve(reader, writer):
    print((await reader.readline()).decode(), flush=True)
    writer.write(b'heard\\n')
    await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(serve, None, int(sys.argv[1]))
    await server.serve_forever()
asyncio.run(main())
";

/// Prints each path that it is asked for.
const NODE: &str = "
require('http').createServer((request, response) => {
    console.log(request.url);
    response.end('heard\\n');
}).listen(Number(process.argv[1]));
";

/// A server program, and how to send it a word that it writes down somewhere.
struct Program {
    name: &'static str,
    protocol: Protocol,
    port: u16,
    /// The command, given a folder of its own.
    serve: fn(&Path, u16) -> Vec<String>,
    bound: Bound,
    word: Word,
}

/// The addresses that it has in a session.
enum Bound {
    /// One socket, at the virtual address.
    Virtual,
    /// A second one for IPv6 only, at the session's private address.
    VirtualAndPrivate,
}

/// How a word is sent.
enum Word {
    /// As a line, the first of what the program's protocol asks for.
    Line(fn(&str) -> String),
    /// As the port that the client comes from, which the server prints.
    Port(fn(address: &str, port: u16, from: &str) -> Vec<String>),
}

#[test]
fn iperf3() {
    holds(&Program {
        name: "iperf3",
        protocol: Protocol::Tcp,
        port: 5301,
        serve: |_, port| words(&["iperf3", "-s", "--forceflush", "-p", &port.to_string()]),
        bound: Bound::Virtual,
        word: Word::Port(|address, port, from| {
            let port = port.to_string();
            words(&["iperf3", "-c", address, "-p", &port, "-n", "16K", "--cport", from])
        }),
    });
}

#[test]
fn iperf() {
    holds(&Program {
        name: "iperf",
        protocol: Protocol::Tcp,
        port: 5001,
        serve: |_, port| words(&["iperf", "-s", "-p", &port.to_string()]),
        bound: Bound::Virtual,
        word: Word::Port(|address, port, from| {
            let (port, from) = (port.to_string(), format!("0.0.0.0:{from}"));
            words(&["iperf", "-c", address, "-p", &port, "-n", "16K", "-B", &from])
        }),
    });
}

#[test]
fn iperf_udp() {
    holds(&Program {
        name: "iperf-udp",
        protocol: Protocol::Udp,
        port: 5001,
        serve: |_, port| words(&["iperf", "-s", "-u", "-p", &port.to_string()]),
        bound: Bound::Virtual,
        word: Word::Port(|address, port, from| {
            let (port, from) = (port.to_string(), format!("0.0.0.0:{from}"));
            words(&["iperf", "-u", "-c", address, "-p", &port, "-n", "16K", "-B", &from])
        }),
    });
}

#[test]
fn nginx() {
    holds(&Program {
        name: "nginx",
        protocol: Protocol::Tcp,
        port: 8080,
        serve: |folder, port| {
            let configuration = folder.join("nginx.conf");
            std::fs::write(&configuration, nginx_configuration(folder, port)).unwrap();
            words(&["nginx", "-e", "stderr", "-c", &configuration.display().to_string()])
        },
        bound: Bound::Virtual,
        word: Word::Line(http),
    });
}

#[test]
fn redis() {
    holds(&Program {
        name: "redis",
        protocol: Protocol::Tcp,
        port: 6379,
        serve: |folder, port| {
            let (folder, port) = (folder.display().to_string(), port.to_string());
            let place = ["redis-server", "--port", &port, "--dir", &folder];
            // So that each word that is set is written down at once.
            let log = ["--appendonly", "yes", "--appendfsync", "always", "--protected-mode", "no"];
            words(&[place.as_slice(), &log].concat())
        },
        bound: Bound::VirtualAndPrivate,
        word: Word::Line(|word| format!("SET {word} 1\r")),
    });
}

#[test]
fn python_http_server() {
    holds(&Program {
        name: "http.server",
        protocol: Protocol::Tcp,
        port: 8000,
        serve: |folder, port| {
            let (folder, port) = (folder.display().to_string(), port.to_string());
            words(&[PYTHON, "-u", "-m", "http.server", &port, "--directory", &folder])
        },
        bound: Bound::Virtual,
        word: Word::Line(http),
    });
}

#[test]
fn python_asyncio() {
    holds(&Program {
        name: "asyncio",
        protocol: Protocol::Tcp,
        port: 8888,
        serve: |_, port| words(&[PYTHON, "-c", ASYNCIO, &port.to_string()]),
        bound: Bound::VirtualAndPrivate,
        word: Word::Line(str::to_owned),
    });
}

#[test]
fn node_http() {
    holds(&Program {
        name: "node",
        protocol: Protocol::Tcp,
        port: 3000,
        serve: |_, port| words(&["node", "-e", NODE, &port.to_string()]),
        bound: Bound::Virtual,
        word: Word::Line(http),
    });
}

/// It listens in both sessions, each at its own address; a word from the far
/// side, and one from the session itself, come out in that session alone.
fn holds(program: &Program) {
    let lab = lab::lab();
    let mut servers: Vec<_> =
        lab.sessions.iter().map(|session| Server::start(&lab, session, program)).collect();
    let mut expected: Vec<_> = servers.iter().flat_map(Server::bound).collect();
    expected.sort_unstable();
    let mut bound = Vec::new();
    let listening = wait::until("the programs' listening", Duration::from_secs(20), || {
        for server in &mut servers {
            if server.running.ended()?.is_some() {
                return Err(server.running.failure());
            }
        }
        bound = listeners::listeners(&lab.network.host, program.protocol, program.port)?;
        Ok((bound == expected).then_some(()))
    });
    if !matches!(listening, Err(LabError::Slow { .. })) {
        listening.unwrap();
    }
    assert_eq!(bound, expected);

    for way in [Server::word_from_far_side, Server::word_from_inside] {
        for (i, server) in servers.iter().enumerate() {
            let word = way(server, &lab);
            let came = wait::until("the word", Duration::from_secs(10), || {
                Ok(server.output().contains(&word).then_some(()))
            });
            came.unwrap_or_else(|_| panic!("{word} did not come out:\n{}", server.output()));
            for (_, other) in servers.iter().enumerate().filter(|(j, _)| *j != i) {
                let output = other.output();
                assert!(!output.contains(&word), "{word} came out elsewhere:\n{output}");
            }
        }
    }
}

/// A program in a session.
struct Server<'a> {
    session: &'a Opened,
    program: &'a Program,
    folder: PathBuf,
    running: Running,
}

impl<'a> Server<'a> {
    fn start(lab: &Lab, session: &'a Opened, program: &'a Program) -> Self {
        let folder = lab.folder(session, program.name);
        let words = (program.serve)(&folder, program.port);
        let mut command = lab.product.in_session(session.id, &session.user, &words);
        let name = format!("{} of session {}", program.name, session.id);
        let running = lab.network.host.start(name, &mut command).unwrap();
        Self { session, program, folder, running }
    }

    fn bound(&self) -> Vec<SocketAddr> {
        let port = self.program.port;
        let mut bound = vec![self.session.at(port)];
        if matches!(self.program.bound, Bound::VirtualAndPrivate) {
            let private = Ipv6Addr::new(0xfd73, 0x6970, 0, 0, 0, 0, 0, self.session.id as u16);
            bound.push((private, port).into());
        }
        bound
    }

    fn word_from_far_side(&self, lab: &Lab) -> String {
        let word = self.word();
        let address = self.session.at(self.program.port);
        match self.program.word {
            Word::Line(line) => {
                let answer = lab.network.client.within(|| marker::ask(address, &line(&word)));
                answer.unwrap().unwrap();
            }
            Word::Port(client) => {
                let words = client(&address.ip().to_string(), address.port(), &word);
                lab.network.client.output(&mut process::command(&words)).unwrap();
            }
        }
        self.printed(&word)
    }

    fn word_from_inside(&self, lab: &Lab) -> String {
        let word = self.word();
        let port = self.program.port;
        let words = match self.program.word {
            Word::Line(line) => {
                let program = lab.product.program().display().to_string();
                let address = format!("127.0.0.1:{port}");
                words(&[&program, "lab", "ask", &address, &line(&word)])
            }
            Word::Port(client) => client("127.0.0.1", port, &word),
        };
        let mut command = lab.product.in_session(self.session.id, &self.session.user, &words);
        lab.network.host.output(&mut command).unwrap();
        self.printed(&word)
    }

    /// A word of the kind that the program can be sent.
    fn word(&self) -> String {
        let random = marker::random_word().unwrap();
        match self.program.word {
            Word::Line(_) => random,
            // Outside the range that the kernel gives ports of its own from.
            Word::Port(_) => {
                let number = random.bytes().fold(0_u16, |n, b| n.wrapping_mul(31) ^ u16::from(b));
                (10_000 + number % 20_000).to_string()
            }
        }
    }

    /// What the program writes down of a word.
    fn printed(&self, word: &str) -> String {
        match self.program.word {
            Word::Line(_) => word.to_owned(),
            Word::Port(_) => format!(" port {word}"),
        }
    }

    /// Everything that the program has written, wherever.
    fn output(&self) -> String {
        let mut output = self.running.said() + &self.running.complained();
        let mut folders = vec![self.folder.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                let path = entry.path();
                match std::fs::read(&path) {
                    Ok(bytes) => output += &String::from_utf8_lossy(&bytes),
                    Err(_) => folders.extend(path.is_dir().then_some(path)),
                }
            }
        }
        output
    }
}

fn http(word: &str) -> String {
    format!("GET /{word} HTTP/1.0\r\n\r")
}

fn nginx_configuration(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {folder}/{kind};"))
        .join(" ");
    format!(
        "daemon off; pid {folder}/pid; events {{}}
        http {{
            {temporary} access_log {folder}/access.log;
            server {{ listen {port}; location / {{ return 200 \"heard\\n\"; }} }}
        }}"
    )
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}
