//! What do the host's own name, its addresses and its adapters say in this program?
//! With `scope = "connect"`: the session's addresses.
//!
//! The system answers, as ever, and its answer is edited where it lies
//! ([`hook::names`] says how). Other names, and all failures, are the system's own.

mod adapters;
mod hosts;
mod infos;
mod inside;
pub(crate) mod ioctl;
mod late;
mod machine;
mod memory;
mod reverse;

use crate::caller::caller;
use crate::published;
use hook::decide::{Session, Tables as _};
use hook::names::{Kept, List, keep, of_host, of_name, stand_in};
use hook::section::Tables;
use std::net::Ipv6Addr;

/// Has the detours ready; those of iphlpapi are put in place as soon as it is there.
pub(crate) fn install() {
    inside::install();
    infos::install();
    hosts::install();
    reverse::install();
    late::install();
}

/// What has come since, and was not seen: a load that was under way.
pub(crate) fn look() {
    late::look();
}

/// The session whose addresses stand for the host's here.
fn session(tables: Tables<'_>) -> Option<Session> {
    stand_in(&caller(tables), tables.flags())
}

/// Do any?
fn is_answered() -> bool {
    published::look(|tables| session(tables).is_some()).unwrap_or(false)
}

/// Is it the session's, and stands for the host's here?
fn is_own(address: Ipv6Addr) -> bool {
    let own = |session: Session| {
        [session.ipv4.map(|ipv4| ipv4.to_ipv6_mapped()), session.ipv6].contains(&Some(address))
    };
    published::look(|tables| session(tables).is_some_and(own)).unwrap_or(false)
}

/// What stays of the answer to the host's own name. `None`: all of it as it is.
fn kept_of_name(list: &impl List) -> Option<Vec<Kept>> {
    let rows = list.rows();
    published::look(|tables| Some(of_name(&rows, &session(tables)?, &tables))).flatten()
}

/// Edits lists of the host's addresses. False: they are as they were.
fn edit_hosts<L: List>(lists: &mut [L]) -> bool {
    let rows: Vec<_> = lists.iter().map(List::rows).collect();
    let kept = published::look(|tables| {
        let session = session(tables)?;
        Some(rows.iter().map(|rows| of_host(rows, &session, &tables)).collect::<Vec<_>>())
    });
    let Some(kept) = kept.flatten() else { return false };
    for (list, (rows, kept)) in lists.iter_mut().zip(rows.iter().zip(kept)) {
        keep(list, rows.len(), &kept);
    }
    true
}
