//! Which sockets were moved before this hook was there, or before their session
//! had the addresses that it has?

use super::sessions::by_address;
use super::{Companion, FindError};
use crate::owner::linux::diag::{Family, SockDiag, Socket, State, States};
use crate::packet::Protocol;
use crate::session::{SessionId, Sessions};
use sessionip_hook::layout::{self, ASKED_ANY, Address, Bound, MOVED_HERE, Place, REPLACES};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// As many as TO_MARK holds.
const AT_ONCE: usize = 16_384;

impl Companion {
    /// Has what listens at an address of its own session found wherever it was before
    /// the hook was taken away: at localhost, and by IPv6 what is dual-stack. What
    /// such a socket had asked for nobody knows any more; it counts as moved. One that
    /// this hook has moved itself is only found at its session's IPv6 address as well
    /// if that has come since.
    ///
    /// # Errors
    /// It may be tried again.
    pub fn find_again(&mut self, sessions: &Sessions) -> Result<(), FindError> {
        self.search(sessions, false)
    }

    /// Ends the hooks of other layouts, which have worked until now beside this one.
    /// What they have moved is [found](Self::find_again) before, so that it is found
    /// all the time, and what they moved meanwhile after. Call it once, after
    /// [`begin`](Self::begin).
    ///
    /// # Errors
    /// They have ended all the same; [`find_again`](Self::find_again) tries the rest
    /// again.
    pub fn relieve(&mut self, sessions: &Sessions) -> Result<(), FindError> {
        // What was bound until now, and counts as moved by no one, may be theirs.
        let distrusts = self.pins.is_new();
        let found = self.search(sessions, distrusts);
        if !self.pins.has_other_layouts() {
            return found;
        }
        self.pins.remove_other_layouts();
        self.search(sessions, distrusts)
    }

    fn search(&mut self, sessions: &Sessions, distrusts: bool) -> Result<(), FindError> {
        let known = self.sessions.all()?;
        let holders: BTreeMap<Address, &layout::Session> = by_address(&known).collect();
        let (mut marks, mut listeners) = (Vec::new(), Vec::new());
        let mut diag = SockDiag::open()?;
        for (protocol, state) in
            [(Protocol::Tcp, State::LISTEN), (Protocol::Udp, State::UNCONNECTED)]
        {
            for family in [Family::Ipv4, Family::Ipv6] {
                for socket in diag.list(protocol, family, States::only(state), None)? {
                    let Some(holder) = holders.get(&Address::from(socket.bound.address)) else {
                        continue;
                    };
                    // Anybody may have taken the address while no hook was there.
                    let session = sessions.scopes.session_of(socket.cgroup);
                    if session != Some(SessionId(holder.id)) {
                        continue;
                    }
                    let mark = mark(protocol, &socket, holder, distrusts);
                    if protocol == Protocol::Tcp && is_dual(&socket) {
                        let address = Address::from(socket.bound.address);
                        let (port, protocol) = (mark.port, mark.protocol);
                        listeners.push(Place { address, port, protocol });
                    }
                    marks.push((socket.cookie, mark));
                }
            }
        }
        if marks.is_empty() {
            return Ok(());
        }
        for marks in marks.chunks(AT_ONCE) {
            self.to_mark.replace(&marks.iter().copied().collect())?;
            self.programs.mark()?;
        }
        self.programs.lead_to(&listeners)?;
        Ok(self.to_mark.replace(&BTreeMap::new())?)
    }
}

/// It takes IPv4 and IPv6, and was bound to IPv4.
fn is_dual(socket: &Socket) -> bool {
    socket.family == Family::Ipv6 && !socket.v6only && socket.bound.address.is_ipv4()
}

/// As the hook would have marked it. `replaces`: this hook may have seen a bind that
/// another one had moved already.
fn mark(protocol: Protocol, socket: &Socket, holder: &layout::Session, replaces: bool) -> Bound {
    let mut moved = MOVED_HERE;
    let mut also = [Address::default(); 2];
    if is_dual(socket) {
        moved |= ASKED_ANY;
        let at_virtual_address = socket.bound.address == IpAddr::from(holder.ipv4);
        also = [if at_virtual_address { holder.ipv6 } else { also[0] }, holder.private_ipv6];
    }
    if replaces {
        moved |= REPLACES;
    }
    let (session, port) = (holder.id, socket.bound.port);
    Bound { session, moved, also, port, protocol: protocol as u16 }
}
