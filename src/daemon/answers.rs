//! What does the daemon answer when it is asked?

use super::RunError;
use super::admission::Held;
use super::keeper::{Keeper, in_full, now};
use crate::companion::Unhooked;
use crate::control::access::Peer;
use crate::control::{
    FlowPage, FlowRow, LeaseCounts, PacketCounts, Request, Response, SessionRow, SessionState,
    SocketRow, Status,
};
use crate::flow::{FlowView, Pair};
use crate::observe::metrics;
use crate::owner::{Owner, SocketRow as Socket};
use crate::policy::Listing;
use crate::session::SessionId;
use crate::verdict::Reason;
use jiff::{Timestamp, Unit};
use std::net::IpAddr;

/// One answer; what an ordinary user gets to see is only his own.
pub(super) fn answer(keeper: &mut Keeper, peer: &Peer, request: Request) -> Response {
    let answer = match request {
        Request::Status {} => status(keeper, peer).map(|status| Response::of(&status)),
        Request::Sessions {} => Ok(Response::of(&sessions(keeper, peer))),
        Request::Flows { from } => flows(keeper, peer, from).map(|page| Response::of(&page)),
        Request::Sockets {} => sockets(keeper, peer).map(|rows| Response::of(&rows)),
        Request::Reload {} => keeper.reload().map(|notes| Response::of(&notes)),
        Request::Start(start) => keeper.start(peer, &start).map(|started| Response::of(&started)),
        Request::OpenSession { session, user } => {
            keeper.open_session(session, user).map(|opened| Response::of(&opened))
        }
    };
    answer.unwrap_or_else(Response::Error)
}

fn sees(keeper: &Keeper, peer: &Peer, session: Option<SessionId>) -> bool {
    let owner = session.and_then(|id| keeper.sessions.get(&id));
    peer.is_administrator() || owner.is_some_and(|held| peer.may_see(&held.session.user.id))
}

fn sessions(keeper: &Keeper, peer: &Peer) -> Vec<SessionRow> {
    let held = keeper.sessions.values();
    held.filter(|held| sees(keeper, peer, Some(held.session.id))).map(session_row).collect()
}

fn session_row(held: &Held) -> SessionRow {
    let session = &held.session;
    SessionRow {
        id: session.id,
        user: session.user.name.clone(),
        virtual_ip: held.ipv4,
        virtual_ipv6: held.ipv6,
        loopback: held.loopback,
        since: whole_seconds(session.since),
        state: if held.is_exhausted() { SessionState::Exhausted } else { SessionState::Leased },
    }
}

/// As exact as people and schedules are.
fn whole_seconds(time: Timestamp) -> Timestamp {
    time.round(Unit::Second).unwrap_or(time)
}

fn flows(keeper: &Keeper, peer: &Peer, from: u32) -> Result<FlowPage, String> {
    let (flows, next) = keeper.line.flows(from).map_err(|e| e.to_string())?;
    let flows = flows.into_iter().filter(|flow| sees(keeper, peer, flow.session));
    Ok(FlowPage { flows: flows.map(flow_row).collect(), next })
}

fn flow_row(flow: FlowView) -> FlowRow {
    FlowRow {
        protocol: flow.protocol.word().into(),
        session: flow.session,
        program: flow.program.path.clone(),
        pid: flow.pid,
        inside: shown(flow.inside),
        outside: shown(flow.outside),
        reason: flow.reason.word().into(),
        packets: flow.packets,
        bytes: flow.bytes,
    }
}

/// Local, remote.
fn shown(ends: Pair) -> [String; 2] {
    [ends.local.to_string(), ends.remote.to_string()]
}

fn sockets(keeper: &Keeper, peer: &Peer) -> Result<Vec<SocketRow>, String> {
    let moved = keeper.companion.moved().map_err(|e| in_full(&e))?;
    let rows = keeper.line.sockets(moved).map_err(|e| e.to_string())?;
    let rows = rows.map_err(|e| e.to_string())?.into_iter();
    let rows = rows.filter(|socket| sees(keeper, peer, Some(socket.session)));
    let unhooked = keeper.companion.unhooked();
    Ok(rows.map(|socket| socket_row(keeper, socket, &unhooked)).collect())
}

fn socket_row(keeper: &Keeper, socket: Socket, unhooked: &[Unhooked]) -> SocketRow {
    let without = unhooked.iter().find(|it| (it.session, it.pid) == (socket.session, socket.pid));
    SocketRow {
        protocol: socket.protocol.word().into(),
        asked: socket.asked.to_string(),
        bound: socket.bound.to_string(),
        session: socket.session,
        pid: socket.pid,
        reason: why_bound(keeper, &socket).word().into(),
        program: socket.program.path.clone(),
        unhooked: without.map(|it| it.refusal.word().into()),
    }
}

/// Why a socket is bound where it is.
fn why_bound(keeper: &Keeper, socket: &Socket) -> Reason {
    let held = keeper.sessions.get(&socket.session);
    let bound = socket.bound.address;
    // A socket of IPv6 that takes IPv4 as well needs one of either.
    let lacks = held.is_some_and(|held| match bound {
        IpAddr::V4(_) => held.ipv4.is_none(),
        IpAddr::V6(_) => held.given_ipv6().is_none() && held.ipv4.is_none(),
    });
    if socket.asked != socket.bound {
        let wildcard = socket.asked.address.is_unspecified();
        return if wildcard { Reason::Wildcard } else { moved_from(socket) };
    }
    if held.is_some_and(|held| held.leased().any(|address| address == bound)) {
        return Reason::Bound;
    }
    let owner = Owner {
        session: Some(socket.session),
        pid: socket.pid,
        program: std::sync::Arc::clone(&socket.program),
        marks: Default::default(),
        lineage: None,
    };
    match keeper.policy.program(&owner) {
        Listing::NotListed => return Reason::NotListed,
        Listing::Excepted => return Reason::Excepted,
        Listing::Listed => {}
    }
    let exclusions = &keeper.config.hook_exclude;
    let (protocol, port) = (socket.protocol, socket.bound.port);
    if exclusions.iter().any(|e| e.program.is_none() && (e.protocol, e.port) == (protocol, port)) {
        Reason::Excluded
    } else if lacks {
        Reason::Exhausted
    } else if socket.bound.address.is_unspecified() {
        Reason::Wildcard
    } else {
        Reason::HostLocal
    }
}

/// Why a socket that had asked for one address was moved.
fn moved_from(socket: &Socket) -> Reason {
    let asked = socket.asked.address.to_canonical();
    if asked.is_loopback() { Reason::SessionLoopback } else { Reason::Wildcard }
}

fn status(keeper: &Keeper, peer: &Peer) -> Result<Status, String> {
    let numbers = keeper.line.numbers().map_err(|e| e.to_string())?;
    let met = keeper.switch.met().map_err(|e| in_full(&e))?;
    let reasons = keeper.reasons(&numbers);
    Ok(Status {
        datapath: "packet".into(),
        sessions: keeper.sessions.len(),
        leases: lease_counts(keeper),
        flows: numbers.flows,
        packets: PacketCounts {
            diverted: numbers.counts.diverted,
            rewritten: numbers.counts.rewritten,
        },
        reasons: reasons
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(reason, count)| (reason.word().into(), count))
            .collect(),
        undiverted_share: undiverted_share(met, numbers.counts.diverted),
        since: whole_seconds(keeper.since),
        // They speak of all sessions and addresses.
        notices: if peer.is_administrator() { keeper.notices() } else { Vec::new() },
    })
}

#[expect(clippy::cast_precision_loss, reason = "a share, for people")]
fn undiverted_share(all: u64, diverted: u64) -> f64 {
    if all == 0 { 1.0 } else { all.saturating_sub(diverted) as f64 / all as f64 }
}

fn lease_counts(keeper: &Keeper) -> LeaseCounts {
    let usage = keeper.leases.usage(now());
    LeaseCounts { used: usage.used, free: usage.free, resting: usage.resting }
}

/// The same, as metrics.
///
/// # Errors
/// The line does not answer.
pub(super) fn metrics(keeper: &Keeper) -> Result<metrics::Numbers, RunError> {
    let numbers = keeper.line.numbers()?;
    let leases = lease_counts(keeper);
    let exhausted = keeper.sessions.values().filter(|held| held.is_exhausted()).count();
    Ok(metrics::Numbers {
        reasons: keeper.reasons(&numbers),
        diverted: numbers.counts.diverted,
        rewritten: numbers.counts.rewritten,
        queue_dropped: keeper.switch.lost(),
        unanswered: numbers.unanswered,
        hook_full: keeper.hook_counters().full().map(|(table, times, _)| (table, times)).collect(),
        flows: numbers.flows as u64,
        sessions: keeper.sessions.len() as u64,
        exhausted: exhausted as u64,
        leases_used: leases.used,
        leases_free: leases.free,
        leases_resting: leases.resting,
    })
}
