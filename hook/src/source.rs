//! Which source does a conversation with another host get? `scope = "connect"`.
//!
//! As `bpf/source.h` has it, and tested with the same table of cases
//! (`sources.toml`). Wherever something is uncertain the system chooses, and the
//! packet engine rewrites what leaves, as it does without this file.

use crate::decide::{Caller, Exclusion, LEFT_PORTS, TCP, Tables, UDP, is_excluded};
use std::net::Ipv6Addr;

/// Where a socket is bound before it is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// Nowhere: the connect binds it.
    Unbound,
    /// On the wildcard, at this port: it stays there.
    Wildcard(u16),
    /// At an address, or by an interface, that its program chose; or it is not
    /// the session's.
    Chosen,
}

/// A conversation that is about to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// With whom; `::ffff:a.b.c.d` for an IPv4 address.
    pub target: Ipv6Addr,
    /// Its port, in host order.
    pub port: u16,
    /// The IP protocol's number.
    pub protocol: u16,
    /// From where.
    pub local: Local,
}

/// What becomes of its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It is the system's choice, or the program's.
    Leave,
    /// The socket is bound to this address first, with a port of the system's choice.
    Bind(Ipv6Addr),
    /// The system chooses, the packet engine rewrites, and the program is told this
    /// address.
    Tell(Ipv6Addr),
}

/// Decides on a connect.
pub fn source(leaving: &Leaving, caller: &Caller, tables: &impl Tables) -> Source {
    let Some(own) = own(leaving, caller, tables) else { return Source::Leave };
    match leaving.local {
        Local::Unbound => Source::Bind(own),
        Local::Wildcard(port) if !is_left((leaving.protocol, port), caller, tables) => {
            Source::Tell(own)
        }
        Local::Wildcard(_) | Local::Chosen => Source::Leave,
    }
}

/// The session's own address, where it is the source for that target. Not where
/// the target is this host; of localhost and the like the routes say that.
fn own(leaving: &Leaving, caller: &Caller, tables: &impl Tables) -> Option<Ipv6Addr> {
    let Leaving { target, port, protocol, .. } = *leaving;
    let (flags, session) = (tables.flags(), caller.session?);
    if !flags.enabled || !flags.connect || port == 0 || !matches!(protocol, TCP | UDP) {
        return None;
    }
    if !caller.program.is_virtualised(flags) {
        return None;
    }
    let own = match target.to_ipv4_mapped() {
        Some(_) => session.ipv4?.to_ipv6_mapped(),
        None => session.ipv6?,
    };
    let is_here = || tables.on_host(target) || tables.in_pool(target);
    (tables.leads_over_pool_nic(target) && !is_here()).then_some(own)
}

/// A port of the system's choice is nobody's to exclude.
fn is_left((protocol, port): (u16, u16), caller: &Caller, tables: &impl Tables) -> bool {
    let exclusion = Exclusion { program: LEFT_PORTS, port, protocol };
    port != 0
        && (tables.excluded(exclusion) || is_excluded((protocol, port), &caller.program, tables))
}
