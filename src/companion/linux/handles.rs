//! What other threads read: the owners of sockets, and the closed ones.

use super::table::failed;
use super::told::protocol;
use crate::companion::{Closed, SocketOwner, TableError};
use crate::owner::{Marks, Ping};
use crate::packet::Endpoint;
use crate::session::SessionId;
use aya::Pod;
use aya::maps::{HashMap, Map, MapData, RingBuf};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sessionip_hook::layout::{
    self, DESCENDS, EPOCH, EXCEPTED, FileId, FileName, LISTED, SCRIPT_FLAGS,
};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Whose is the socket with this cookie? A system call per question, half a
/// microsecond.
#[derive(Debug)]
pub struct OwnerMap {
    owners: HashMap<MapData, u64, layout::Owner>,
    names: HashMap<MapData, FileId, FileName>,
    descendants: HashMap<MapData, u32, u32>,
    scripts: HashMap<MapData, u32, layout::Script>,
    epoch: Arc<AtomicU32>,
}

impl OwnerMap {
    pub(super) fn open(pins: &Path, epoch: Arc<AtomicU32>) -> Result<Self, TableError> {
        let pinned = |table: &'static str| {
            MapData::from_pin(pins.join(table))
                .and_then(Map::from_map_data)
                .map_err(failed(table, "opened"))
        };
        Ok(Self {
            owners: HashMap::try_from(pinned("OWNERS")?).map_err(failed("OWNERS", "opened"))?,
            names: HashMap::try_from(pinned("NAMES_OF")?).map_err(failed("NAMES_OF", "opened"))?,
            descendants: HashMap::try_from(pinned("DESCENDANTS")?)
                .map_err(failed("DESCENDANTS", "opened"))?,
            scripts: HashMap::try_from(pinned("SCRIPTS")?).map_err(failed("SCRIPTS", "opened"))?,
            epoch,
        })
    }

    /// The owner of a socket that was made by socket(2), bound or connected
    /// while the hook was there. Accepted sockets are not known: ask for their
    /// listener.
    pub fn owner(&self, cookie: u64) -> Option<SocketOwner> {
        let owner = self.owners.get(&cookie, 0).ok()?;
        let known = SocketOwner::from(owner);
        // The lists were others when the socket was recorded.
        let is_old =
            owner.flags >> EPOCH != self.epoch.load(Ordering::Relaxed) & u32::from(u16::MAX);
        Some(if is_old { SocketOwner { marks: self.marks_of(owner.pid), ..known } } else { known })
    }

    /// What the lists say of a process that runs, beyond its own file.
    pub fn marks_of(&self, pid: u32) -> Marks {
        let flags = self.scripts.get(&pid, 0).map_or(0, |script| script.flags);
        Marks { descends: self.descendants.get(&pid, 0).is_ok(), ..marks(flags) }
    }

    /// The name that an executable was last started under, cut to 63 bytes.
    pub fn name_of(&self, file: (u32, u64)) -> Option<String> {
        let (device, inode) = file;
        let FileName(bytes) = self.names.get(&FileId { inode, device, zero: 0 }, 0).ok()?;
        let name = bytes.split(|byte| *byte == 0).next()?;
        Some(String::from_utf8_lossy(name).into_owned())
    }
}

impl From<layout::Owner> for SocketOwner {
    fn from(owner: layout::Owner) -> Self {
        Self {
            session: (owner.session != 0).then_some(SessionId(owner.session)),
            pid: owner.pid,
            uid: owner.uid,
            cgroup: owner.cgroup,
            file: (owner.file.device, owner.file.inode),
            marks: Marks {
                descends: owner.flags & DESCENDS != 0,
                ..marks(owner.flags >> SCRIPT_FLAGS)
            },
        }
    }
}

/// The marks of a process that runs a script with those flags.
fn marks(flags: u32) -> Marks {
    Marks {
        descends: false,
        script_listed: flags & LISTED != 0,
        script_excepted: flags & EXCEPTED != 0,
    }
}

/// The UDP sockets of sessions that were closed since it was last asked.
pub struct ClosedSockets(RingBuf<MapData>);

impl ClosedSockets {
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        Self(ring)
    }

    /// Hands over each closed socket, oldest first. Nothing wakes a reader:
    /// ask when a packet has no owner, and now and then.
    pub fn drain(&mut self, mut each: impl FnMut(Closed)) {
        while let Some(bytes) = self.0.next() {
            if let Some(closed) = parse(&bytes) {
                each(closed);
            }
        }
    }
}

/// The pings that have been sent since it was last asked, and whose they are.
pub struct NotedPings(RingBuf<MapData>);

impl NotedPings {
    /// What a daemon before left is of no ping that will come.
    pub(super) fn new(mut ring: RingBuf<MapData>) -> Self {
        while ring.next().is_some() {}
        Self(ring)
    }

    /// Hands over each note, oldest first: it is there before its packet is.
    pub fn drain(&mut self, mut each: impl FnMut(Ping, SocketOwner)) {
        while let Some(bytes) = self.0.next() {
            if let Some(layout::Ping { owner, source, destination, header }) = read(&bytes) {
                let (source, destination) = (source.into(), destination.into());
                each(Ping { source, destination, header }, owner.into());
            }
        }
    }
}

impl fmt::Debug for NotedPings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotedPings").finish_non_exhaustive()
    }
}

impl fmt::Debug for ClosedSockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClosedSockets").finish_non_exhaustive()
    }
}

/// News of UDP sockets that are to be found by IPv6 as well.
pub struct NewDual(RingBuf<MapData>);

impl NewDual {
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        Self(ring)
    }

    /// Waits for news, at most this long; whether there were any.
    ///
    /// # Errors
    /// The ring cannot be waited for.
    pub fn wait(&mut self, limit: Duration) -> io::Result<bool> {
        let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut any = false;
        while self.0.next().is_some() {
            any = true;
        }
        Ok(any)
    }
}

impl fmt::Debug for NewDual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewDual").finish_non_exhaustive()
    }
}

#[expect(unsafe_code, reason = "a ring hands out bytes")]
fn read<T: Pod>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: there are enough bytes, they need not be aligned, and any bits
    // are a valid value of this type (it is `Pod`).
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

fn parse(bytes: &[u8]) -> Option<Closed> {
    let event: layout::Closed = read(bytes)?;
    let remote = Endpoint::new(IpAddr::from(event.remote), event.remote_port);
    Some(Closed {
        at: Duration::from_nanos(event.at),
        cookie: event.cookie,
        owner: event.owner.into(),
        protocol: protocol(event.protocol)?,
        local: Endpoint::new(event.local.into(), event.local_port),
        remote: (event.remote_port != 0).then_some(remote),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_event_is_none() {
        assert_eq!(parse(&[0; 95]), None);
        assert_eq!(parse(&[0; 96]), None, "nor is one of no known protocol");
    }
}
