//! Which address does a bind get? The table of DESIGN.md, "The companion hook".
//!
//! One function for every platform: the DLL calls it, and the eBPF program
//! (`bpf/bind.h`) is tested against it with the same table of cases.

use std::net::{Ipv4Addr, Ipv6Addr};

/// TCP by its IP protocol number.
pub const TCP: u16 = 6;
/// UDP by its IP protocol number.
pub const UDP: u16 = 17;

/// What a program asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// An IPv4 address is `::ffff:a.b.c.d`, whatever the socket's family: the
    /// two wildcards `0.0.0.0` and `::` are told apart.
    pub address: Ipv6Addr,
    /// Host order.
    pub port: u16,
    /// The IP protocol's number.
    pub protocol: u16,
    /// The socket takes no IPv4. Only looked at for `::`.
    pub v6only: bool,
}

/// The addresses of a session that is logged on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Its number.
    pub id: u32,
    /// Its virtual IPv4 address. `None`: IPv4 binds are left alone.
    pub ipv4: Option<Ipv4Addr>,
    /// Its virtual IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// Where a V6ONLY listener goes if the session has no IPv6 address.
    pub private_ipv6: Option<Ipv6Addr>,
    /// Its loopback address. `None`: binds to 127.0.0.1 are left alone.
    pub loopback: Option<Ipv4Addr>,
}

impl Session {
    /// Is this address this session's and nobody else's?
    pub fn holds(&self, address: Ipv6Addr) -> bool {
        let mapped = |ipv4: Option<Ipv4Addr>| ipv4.map(|ipv4| ipv4.to_ipv6_mapped());
        [mapped(self.ipv4), mapped(self.loopback), self.ipv6, self.private_ipv6]
            .contains(&Some(address))
    }
}

/// What the lists say of the program that asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// The program list has it.
    pub listed: bool,
    /// The list of exceptions has it.
    pub excepted: bool,
    /// It descends from a listed program.
    pub descends: bool,
    /// The list of programs with a loopback of their session's own has it.
    pub on_loopback: bool,
    /// The list of programs that prefer that loopback has it.
    pub preferred: bool,
    /// What exclusions call it, by its path and by its name, and its script by both;
    /// 0: nothing.
    pub known_as: [u32; 4],
}

impl Program {
    /// `except` wins over everything; descent counts where the policy says so.
    pub fn is_virtualised(&self, flags: Flags) -> bool {
        !self.excepted && (self.listed || flags.children && self.descends)
    }

    /// As what interprets that script.
    pub fn with_script(self, script: &Self) -> Self {
        let ([by_path, by_name, ..], [script_path, script_name, ..]) =
            (self.known_as, script.known_as);
        Self {
            listed: self.listed || script.listed,
            excepted: self.excepted || script.excepted,
            descends: self.descends,
            on_loopback: self.on_loopback || script.on_loopback,
            preferred: self.preferred || script.preferred,
            known_as: [by_path, by_name, script_path, script_name],
        }
    }

    /// Is its 127.0.0.1 its session's own? Exceptions win here, too.
    pub fn has_own_loopback(&self, flags: Flags) -> bool {
        flags.loopback && self.on_loopback && !self.excepted
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// `None`: it is in no session that the daemon knows.
    pub session: Option<Session>,
    /// Its program.
    pub program: Program,
    /// It may bind any address: root, SYSTEM, an administrator's service.
    pub privileged: bool,
}

/// What the policy turns on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Binds are moved.
    pub enabled: bool,
    /// Another session's address is refused.
    pub sources: bool,
    /// Descendants of a listed program count as listed.
    pub children: bool,
    /// Sources are chosen, too: `scope = "connect"`.
    pub connect: bool,
    /// Binds to 127.0.0.1 and `::1` are moved.
    pub loopback: bool,
}

/// A bind that is left alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exclusion {
    /// One of [`Program::known_as`]; 0: whatever the program.
    pub program: u32,
    /// Host order.
    pub port: u16,
    /// The IP protocol's number.
    pub protocol: u16,
}

/// The program of an exclusion that is a local port of `divert.exclude-ports`.
pub const LEFT_PORTS: u32 = u32::MAX;

/// What is known of this host. IPv4 addresses are `::ffff:a.b.c.d`.
pub trait Tables {
    /// What the policy turns on.
    fn flags(&self) -> Flags;
    /// The session that holds the address.
    fn holder(&self, address: Ipv6Addr) -> Option<u32>;
    /// Only a lease makes the address anybody's.
    fn in_pool(&self, address: Ipv6Addr) -> bool;
    /// It is an address of this host, on the pool's NIC.
    fn on_pool_nic(&self, address: Ipv6Addr) -> bool;
    /// It is an address of this host, on whatever NIC.
    fn on_host(&self, address: Ipv6Addr) -> bool;
    /// What is sent there leaves by the pool's NIC.
    fn leads_over_pool_nic(&self, target: Ipv6Addr) -> bool;
    /// The policy leaves this bind, or this local port, alone.
    fn excluded(&self, exclusion: Exclusion) -> bool;
}

/// What becomes of the bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It goes on as asked.
    Leave,
    /// It goes on with this address, `::ffff:a.b.c.d` for an IPv4 one.
    Give(Ipv6Addr),
    /// It fails.
    Refuse(Refused),
}

/// Why a bind fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The address is another session's: `EACCES`, `WSAEACCES`.
    Foreign,
    /// The address is of the pool, and nobody's. Nobody may lie in wait for a
    /// lease: `EADDRNOTAVAIL`, `WSAEADDRNOTAVAIL`.
    Unleased,
}

/// Decides on a bind.
pub fn decide(asked: &Asked, caller: &Caller, tables: &impl Tables) -> Decision {
    let flags = tables.flags();
    if let Some(refused) = refusal(asked, caller, flags, tables) {
        return Decision::Refuse(refused);
    }
    let Some(session) = &caller.session else { return Decision::Leave };
    if !names_source(asked, flags) || !matches!(asked.protocol, TCP | UDP) {
        return Decision::Leave;
    }
    match place(asked, session, &caller.program, tables) {
        Some(given) if !is_excluded((asked.protocol, asked.port), &caller.program, tables) => {
            Decision::Give(given)
        }
        Some(_) | None => Decision::Leave,
    }
}

const IPV4_WILDCARD: Ipv6Addr = Ipv4Addr::UNSPECIFIED.to_ipv6_mapped();
const IPV4_LOCALHOST: Ipv6Addr = Ipv4Addr::LOCALHOST.to_ipv6_mapped();

/// Addresses of the pool belong to their session, whatever the program. The
/// privileged may bind any.
fn refusal(asked: &Asked, caller: &Caller, flags: Flags, tables: &impl Tables) -> Option<Refused> {
    if !flags.sources || caller.privileged || is_wildcard(asked.address) {
        return None;
    }
    match tables.holder(asked.address) {
        Some(holder) if caller.session.is_some_and(|session| session.id == holder) => None,
        Some(_) => Some(Refused::Foreign),
        None => tables.in_pool(asked.address).then_some(Refused::Unleased),
    }
}

/// A wildcard or localhost and port 0 collide with nobody, and may be on their
/// way to 127.0.0.1; an address and port 0 are a source, or what is told to a peer.
fn names_source(asked: &Asked, flags: Flags) -> bool {
    let is_localhost = [IPV4_LOCALHOST, Ipv6Addr::LOCALHOST].contains(&asked.address);
    asked.port != 0 || flags.connect && !is_wildcard(asked.address) && !is_localhost
}

fn is_wildcard(address: Ipv6Addr) -> bool {
    address == IPV4_WILDCARD || address.is_unspecified()
}

/// Where the session wants this program's socket. The private IPv6 address is
/// its IPv6 loopback, too.
fn place(
    asked: &Asked,
    session: &Session,
    program: &Program,
    tables: &impl Tables,
) -> Option<Ipv6Addr> {
    let flags = tables.flags();
    let loopback = session.loopback.map(|address| address.to_ipv6_mapped());
    if asked.address == IPV4_LOCALHOST {
        return loopback.filter(|_| program.has_own_loopback(flags));
    }
    if asked.address == Ipv6Addr::LOCALHOST {
        return session.private_ipv6.filter(|_| program.has_own_loopback(flags));
    }
    if !flags.enabled || !program.is_virtualised(flags) {
        return None;
    }
    let ipv4 = session.ipv4.map(|address| address.to_ipv6_mapped());
    let prefers = flags.loopback && program.preferred;
    if is_wildcard(asked.address) {
        let private = session.private_ipv6;
        let six = asked.address != IPV4_WILDCARD;
        let ipv4 = ipv4.or(session.ipv6.filter(|_| six));
        match (six && asked.v6only, prefers) {
            (false, false) => ipv4,
            (false, true) => loopback.or(ipv4),
            (true, false) => session.ipv6.or(private),
            (true, true) => private.or(session.ipv6),
        }
    } else if tables.on_pool_nic(asked.address) {
        if asked.address.to_ipv4_mapped().is_some() { ipv4 } else { session.ipv6 }
    } else {
        None
    }
}

/// Does the policy leave this port of the program's alone?
pub(crate) fn is_excluded(
    (protocol, port): (u16, u16),
    program: &Program,
    tables: &impl Tables,
) -> bool {
    let known_as = program.known_as.into_iter().filter(|id| *id != 0);
    std::iter::once(0)
        .chain(known_as)
        .any(|program| tables.excluded(Exclusion { program, port, protocol }))
}
