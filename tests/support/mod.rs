//! What tests of the packet line share: packets written as text, and sockets
//! written as a list.

pub(crate) mod packets;
pub(crate) mod policy;
pub(crate) mod sockets;

use sessionip::engine::{Begun, Checksum, Direction, Facts};
use std::time::Duration;

/// A packet the first time it is seen, new, with a real checksum.
pub(crate) const fn facts(direction: Direction) -> Facts {
    Facts {
        direction,
        loopback: false,
        interface: 2,
        checksum: Checksum::Real,
        begun: Begun::Unknown,
        held: Duration::ZERO,
    }
}
