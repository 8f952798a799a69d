//! What the tests and the stand-in say to each other.

/// A WINDIVERT_ADDRESS, as bytes.
pub type Address = [u8; 80];

/// Packets to be handed out by the newest receiving handle of a priority, again
/// and again until there were `total` of them.
#[repr(C)]
#[derive(Debug)]
pub struct Feed {
    /// Of the handle.
    pub priority: i16,
    /// The packets, one behind the other.
    pub packets: *const u8,
    /// How long each is.
    pub lengths: *const u32,
    /// An address for each.
    pub addresses: *const Address,
    /// Is it handed out in a call of its own?
    pub alone: *const bool,
    /// How many there are.
    pub count: usize,
    /// How many are to be handed out.
    pub total: u64,
}

/// What came and went.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Packets handed out.
    pub received: u64,
    /// Calls that handed out packets.
    pub receives: u64,
    /// Packets sent.
    pub sent: u64,
    /// Calls that sent packets.
    pub sends: u64,
    /// Sent packets of which the checksums were looked at.
    pub checked: u64,
    /// Those of them with a wrong one that the driver would not have computed.
    pub wrong: u64,
    /// Handles that are open.
    pub open: u64,
    /// Handles that have ever been opened.
    pub opened: u64,
}
