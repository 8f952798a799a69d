//! Which two sockets may have the same port here?

use super::local::SESSION;
use super::socket::Socket;
use super::{Bench, Why};
use crate::selftest::{Bind, Case, Manner, Matrix, Place};
use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// A session's listener lives beside others'.
pub(super) fn bind_conflicts(_: &mut Bench) -> Result<String, Why> {
    let mut matrix = Matrix::default();
    for case in Case::all() {
        matrix.add(case, is_allowed(case)?);
    }
    if let Some(Case { first, second }) = matrix.lacking() {
        return Err(Why::failed(
            format!("{second} is refused after {first}"),
            "a program that hooks Winsock is in between: see netsh winsock show catalog",
        ));
    }
    let (allowed, all) = matrix.counts();
    let exclusive = if matrix.shuts_out(Manner::Exclusive) {
        "who binds every address with SO_EXCLUSIVEADDRUSE first shuts sessions out of that port"
    } else {
        "even SO_EXCLUSIVEADDRUSE at every address leaves one address to others"
    };
    Ok(format!("{allowed} of {all} pairs of binds go together; {exclusive}"))
}

fn is_allowed(case: Case) -> io::Result<bool> {
    // Port 0: one that nobody has. Binding is enough; nobody listens.
    let (_first, port) = bind(case.first, 0)?.port()?;
    let second: io::Result<(TcpListener, u16)> = bind(case.second, port).and_then(Socket::port);
    Ok(second.is_ok())
}

fn bind(bind: Bind, port: u16) -> io::Result<Socket> {
    let address = match bind.place {
        Place::Wildcard => Ipv4Addr::UNSPECIFIED,
        Place::Specific => SESSION,
    };
    let socket = Socket::new()?;
    socket.ask(bind.manner)?;
    socket.bind(address, port)?;
    Ok(socket)
}
