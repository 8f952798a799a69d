//! A program that does what it is told, line by line.
//!
//! It is started by the tests and by itself. Each line on its input is a
//! command, each line on its output that begins with `=` the answer.

use crate::{asks, client, halts};
use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::os::windows::process::CommandExt;
use std::process::{Child, Command, Stdio};
use windows_sys::Win32::Foundation::{GetLastError, SetLastError};
use windows_sys::Win32::Networking::WinSock::{
    AF_INET, AF_INET6, IPPROTO_IPV6, IPV6_V6ONLY, SO_EXCLUSIVEADDRUSE, SOCK_DGRAM, SOCK_STREAM,
    SOCKADDR, SOCKADDR_IN, SOCKADDR_IN6, SOCKET, SOL_SOCKET, WSADATA, WSAGetLastError, WSAStartup,
    bind, closesocket, getsockname, setsockopt, socket,
};
use windows_sys::Win32::System::Threading::CREATE_SUSPENDED;

/// What makes this file a victim.
pub(crate) const ROLE: &str = "SESSIONIP_HOOK_VICTIM";
/// How it is run: as the one test that is none.
pub(crate) const ARGUMENTS: [&str; 3] = ["--exact", "victim::acts", "--nocapture"];

/// Not a test but the program that the tests start.
#[test]
fn acts() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let mut data = WSADATA::default();
    // SAFETY: it fills one struct.
    #[expect(unsafe_code, reason = "a call of the system")]
    unsafe {
        WSAStartup(0x0202, &raw mut data);
    }
    answer("ready");
    let mut children = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let (command, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match command {
            "bind" => answer(&binds(rest)),
            "nowhere" => answer(&bind_nowhere()),
            "last-error" => answer(&last_error(rest)),
            "connect" => answer(&client::connects(rest)),
            "again" => answer(&client::connects_again(rest)),
            "crowd" => answer(&client::crowd(rest)),
            "connect-error" => answer(&client::last_error(rest)),
            "connect-nowhere" => answer(&client::connect_nowhere()),
            "send" => answer(&client::sends(rest)),
            "send-again" => answer(&client::sends_again(rest)),
            "code" => answer(&client::code()),
            "start" => answer(&start(rest, &mut children)),
            "suspended" => answer(&suspended(rest)),
            "ask" => answer(&asks::ask(rest)),
            "halts" => answer(&halts::halts()),
            "go" => {
                std::env::set_current_dir(rest).unwrap();
                answer("gone there");
            }
            // The rest is for the child.
            "child" => {
                let child: &mut Child = children.last_mut().expect("it was started");
                let mut input = child.stdin.take().unwrap();
                writeln!(input, "{rest}").unwrap();
                child.stdin = Some(input);
                answer(&next(child));
            }
            other => panic!("no command: {other}"),
        }
    }
    for mut child in children {
        drop(child.stdin.take());
        let _ = child.wait();
    }
}

fn answer(text: &str) {
    let mut output = std::io::stdout().lock();
    writeln!(output, "\n={text}").unwrap();
    output.flush().unwrap();
}

/// The next answer of a victim.
pub(crate) fn next(child: &mut Child) -> String {
    loop {
        let line = line(child);
        match line.strip_prefix('=') {
            Some(answer) => return answer.to_owned(),
            None if line == ENDED => return line,
            None => {}
        }
    }
}

const ENDED: &str = "it ended";

/// The next line of any program.
pub(crate) fn line(child: &mut Child) -> String {
    let output = child.stdout.as_mut().unwrap();
    let mut line = Vec::new();
    // Byte by byte: what comes after the line is for the next call.
    loop {
        let mut byte = [0];
        let read = std::io::Read::read(output, &mut byte).unwrap();
        match (read, byte[0]) {
            (0, _) => return ENDED.to_owned(),
            (_, b'\n') => return String::from_utf8_lossy(&line).trim().to_owned(),
            (_, byte) => line.push(byte),
        }
    }
}

/// A command that runs a victim from that file.
pub(crate) fn command(program: &str) -> Command {
    commanded(program, "")
}

/// The same, with `first` on its command line before anything else, as it stands:
/// to a victim it is one test more that is none.
pub(crate) fn commanded(program: &str, first: &str) -> Command {
    let mut command = Command::new(program);
    command.raw_arg(first).args(ARGUMENTS).env(ROLE, "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

fn start(program: &str, children: &mut Vec<Child>) -> String {
    if let Some((program, first)) = program.split_once(" runs ") {
        let mut child = commanded(program, first).spawn().unwrap();
        let ready = next(&mut child);
        children.push(child);
        return ready;
    }
    // A program that is no victim says what it has to say, and ends.
    if let Some((program, arguments)) = program.split_once(" -- ") {
        let output = Command::new(program).args(arguments.split(' ')).output().unwrap();
        return String::from_utf8_lossy(&output.stdout)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
    }
    let mut child = command(program).spawn().unwrap();
    let ready = next(&mut child);
    children.push(child);
    ready
}

/// Starts a program as its maker may: suspended, and never let go.
fn suspended(program: &str) -> String {
    let mut child = command(program).creation_flags(CREATE_SUSPENDED).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(700));
    let state = child.try_wait().unwrap();
    child.kill().unwrap();
    let said = next(&mut child);
    child.wait().unwrap();
    format!("{} {said}", if state.is_none() { "still there" } else { "gone" })
}

/// `tcp 0.0.0.0:9000`, with the options `dual` and `exclusive` before it.
fn binds(text: &str) -> String {
    let socket = open(text);
    let address: SocketAddr = text.rsplit(' ').next().unwrap().parse().unwrap();
    let name = to_system(address);
    // SAFETY: the name is as long as said; the socket is closed once.
    #[expect(unsafe_code, reason = "calls of the system")]
    unsafe {
        let length = if address.is_ipv4() { 16 } else { 28 };
        let answer = if bind(socket, (&raw const name).cast(), length) == 0 {
            local(socket)
        } else {
            format!("error {}", WSAGetLastError())
        };
        closesocket(socket);
        answer
    }
}

/// No name, and one that is too short. (Wine follows any pointer but null.)
#[expect(unsafe_code, reason = "calls of the system")]
fn bind_nowhere() -> String {
    let socket = open("tcp 0.0.0.0:0");
    let name = to_system("0.0.0.0:9000".parse().unwrap());
    let mut answers = Vec::new();
    let name = (&raw const name).cast::<SOCKADDR>();
    let names = [(std::ptr::null(), 16), (name, 1), (name, 4), (name, -1)];
    for (name, length) in names {
        // SAFETY: bind checks what it is given: that is what is looked at here.
        let result = unsafe { bind(socket, name, length) };
        // SAFETY: it takes nothing.
        answers.push(format!("{result}:{}", unsafe { WSAGetLastError() }));
    }
    answers.join(" ")
}

/// What a bind leaves in the last error, after success and after failure.
#[expect(unsafe_code, reason = "calls of the system")]
fn last_error(text: &str) -> String {
    let address: SocketAddr = text.rsplit(' ').next().unwrap().parse().unwrap();
    let name = to_system(address);
    let sockets = [open(text), open(text)];
    let mut answers = Vec::new();
    for socket in sockets {
        // SAFETY: the name is as long as said.
        let (result, error) = unsafe {
            SetLastError(4711);
            let result = bind(socket, (&raw const name).cast(), 16);
            (result, GetLastError())
        };
        answers.push(format!("{result}:{error}"));
    }
    for socket in sockets {
        // SAFETY: it is closed once.
        unsafe { closesocket(socket) };
    }
    answers.join(" ")
}

#[expect(unsafe_code, reason = "calls of the system")]
pub(crate) fn open(text: &str) -> SOCKET {
    let kind = if text.contains("udp") { SOCK_DGRAM } else { SOCK_STREAM };
    let family = if text.contains('[') { AF_INET6 } else { AF_INET };
    let set = |socket, level, option, value: i32| {
        // SAFETY: the value is four bytes.
        let set = unsafe { setsockopt(socket, level, option, (&raw const value).cast(), 4) };
        assert_eq!(set, 0, "option {option}");
    };
    // SAFETY: it takes numbers.
    let socket = unsafe { socket(i32::from(family), kind, 0) };
    if family == AF_INET6 {
        set(socket, IPPROTO_IPV6, IPV6_V6ONLY, i32::from(!text.contains("dual")));
    }
    if text.contains("exclusive") {
        set(socket, SOL_SOCKET, SO_EXCLUSIVEADDRUSE, 1);
    }
    socket
}

pub(crate) fn to_system(address: SocketAddr) -> SOCKADDR_IN6 {
    let mut name = SOCKADDR_IN6::default();
    match address {
        SocketAddr::V4(address) => {
            let ipv4 = (&raw mut name).cast::<SOCKADDR_IN>();
            // SAFETY: the larger struct has room for the smaller one, and both
            // are numbers.
            #[expect(unsafe_code, reason = "the system's structs overlay each other")]
            unsafe {
                (*ipv4).sin_family = AF_INET;
                (*ipv4).sin_port = address.port().to_be();
                (*ipv4).sin_addr.S_un.S_addr = u32::from_ne_bytes(address.ip().octets());
            }
        }
        SocketAddr::V6(address) => {
            name.sin6_family = AF_INET6;
            name.sin6_port = address.port().to_be();
            name.sin6_addr.u.Byte = address.ip().octets();
        }
    }
    name
}

#[expect(unsafe_code, reason = "calls of the system")]
pub(crate) fn local(socket: SOCKET) -> String {
    let mut name = SOCKADDR_IN6::default();
    let mut length = size_of_val(&name) as i32;
    // SAFETY: at most `length` bytes are written, and either struct is numbers.
    unsafe {
        if getsockname(socket, (&raw mut name).cast(), &raw mut length) != 0 {
            return format!("error {}", WSAGetLastError());
        }
        let ipv4 = &*(&raw const name).cast::<SOCKADDR_IN>();
        if name.sin6_family == AF_INET {
            let address = ipv4.sin_addr.S_un.S_addr.to_ne_bytes();
            SocketAddr::from((address, u16::from_be(ipv4.sin_port))).to_string()
        } else {
            let port = u16::from_be(name.sin6_port);
            SocketAddr::from((name.sin6_addr.u.Byte, port)).to_string()
        }
    }
}
