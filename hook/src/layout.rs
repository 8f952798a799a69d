//! What the kernel side and the daemon share: the mirror of `bpf/layout.h`.

use crate::digest::fnv_1a;
use std::net::{IpAddr, Ipv6Addr};

/// A type that may lie in a map: `repr(C)`, without padding, any bits valid.
macro_rules! plain {
    ($($type:ty = $size:literal bytes),+ $(,)?) => {$(
        const _: () = assert!(size_of::<$type>() == $size, "bpf/layout.h has another size");

        // SAFETY: it is `repr(C)` and made of integers and arrays of them; the
        // sizes of its fields add up to the size asserted above, so that it
        // has no padding.
        #[expect(unsafe_code, reason = "maps are read and written as bytes")]
        unsafe impl aya::Pod for $type {}
    )+};
}

plain!(
    Address = 16 bytes,
    Session = 44 bytes,
    FileId = 16 bytes,
    FileName = 64 bytes,
    Program = 8 bytes,
    Exclusion = 8 bytes,
    Config = 16 bytes,
    Script = 12 bytes,
    Interpreter = 264 bytes,
    InterpreterName = 16 bytes,
    OptionWord = 32 bytes,
    Owner = 40 bytes,
    Moved = 40 bytes,
    Bound = 44 bytes,
    Place = 20 bytes,
    Closed = 96 bytes,
    Ping = 80 bytes,
);

/// An IPv6 address, or an IPv4 one as `::ffff:a.b.c.d`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C, align(4))]
pub struct Address(pub [u8; 16]);

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        Self(match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        })
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        Self::from(Ipv6Addr::from(address.0)).to_canonical()
    }
}

/// `struct session`. All zeroes: it has no such address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Session {
    /// The session's number.
    pub id: u32,
    /// Network order.
    pub ipv4: [u8; 4],
    /// Its virtual IPv6 address.
    pub ipv6: Address,
    /// Where a V6ONLY listener goes if the session has no IPv6 address.
    pub private_ipv6: Address,
    /// Its loopback address, network order.
    pub loopback: [u8; 4],
}

/// `struct file_id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct FileId {
    /// The inode's number.
    pub inode: u64,
    /// The device, as the kernel has it: 12 bits major, 20 bits minor.
    pub device: u32,
    /// Zero.
    pub zero: u32,
}

/// `struct file_name`: padded with zeroes, the last byte is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct FileName(pub [u8; 64]);

/// `struct program`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Program {
    /// What [`Exclusion::program`] calls it.
    pub id: u32,
    /// [`LISTED`], [`EXCEPTED`], [`LOOPBACK_LISTED`], [`PREFERRED`] and
    /// [`PATH_ENDS`].
    pub flags: u32,
}

/// The program list has it.
pub const LISTED: u32 = 1;
/// The list of exceptions has it.
pub const EXCEPTED: u32 = 2;
/// A listed path ends in this name: the walk up from the file is worth it.
pub const PATH_ENDS: u32 = 16;
/// The list of programs with a loopback of their session's own has it.
pub const LOOPBACK_LISTED: u32 = 4;
/// The list of programs that prefer it has it.
pub const PREFERRED: u32 = 8;

/// An [`Exclusion::program`]: the port is one of `divert.exclude-ports`, and what
/// leaves from it is not given a source. No program has this number.
pub const LEFT_PORTS: u32 = crate::decide::LEFT_PORTS;

/// `struct exclusion`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct Exclusion {
    /// [`Program::id`], 0: whatever the program.
    pub program: u32,
    /// Host order.
    pub port: u16,
    /// The IP protocol's number.
    pub protocol: u16,
}

/// `struct config`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Config {
    /// The cookie of the daemon's network namespace.
    pub netns: u64,
    /// The bits of [`flag`].
    pub flags: u32,
    /// By which lists the marks of scripts and of descendants are.
    pub epoch: u32,
}

/// The bits of [`Config::flags`].
pub mod flag {
    /// Binds are moved and targets are redirected.
    pub const ENABLED: u32 = 1;
    /// The program list has `*`.
    pub const ALL_LISTED: u32 = 2;
    /// The list of exceptions has `*`.
    pub const ALL_EXCEPTED: u32 = 4;
    /// `PROGRAMS_BY_FILE` has entries.
    pub const BY_FILE: u32 = 8;
    /// `PROGRAMS_BY_NAME` has entries.
    pub const BY_NAME: u32 = 16;
    /// Descendants of a listed program count as listed.
    pub const CHILDREN: u32 = 32;
    /// Another session's address is refused as a source.
    pub const SOURCES: u32 = 64;
    /// Another session's wildcard listener gets nothing.
    pub const LISTENERS: u32 = 128;
    /// Sources are chosen at connect and sendto.
    pub const CONNECT: u32 = 4096;
    /// A list may name scripts: what interpreters run is looked up too.
    pub const FOLLOW_SCRIPTS: u32 = 16384;
    /// `PROGRAMS_BY_PATH` has entries.
    pub const BY_PATH: u32 = 32768;
    /// Binds to 127.0.0.1 are moved.
    pub const LOOPBACK: u32 = 256;
    /// The loopback's program list has `*`.
    pub const ALL_LOOPBACK: u32 = 512;
    /// So has the list of programs that prefer it.
    pub const ALL_PREFERRED: u32 = 1024;
    /// Another session's loopback gets nothing.
    pub const ISOLATE_LOOPBACK: u32 = 2048;
}

/// A value of `HOST`: the address is on the pool's NIC.
pub const POOL_NIC: u32 = 1;

/// A value of `ROUTES`: what is sent there leaves by the pool's NIC.
pub const OVER_POOL_NIC: u32 = 1;

/// A bit of [`Owner::flags`]: the process descends from a listed program.
pub const DESCENDS: u32 = 1;
/// From this bit of [`Owner::flags`] on: [`Script::flags`], of which 8 bits count.
pub const SCRIPT_FLAGS: u32 = 8;
/// From this bit of [`Owner::flags`] on: the low half of [`Config::epoch`].
pub const EPOCH: u32 = 16;

/// `struct script`: what the lists say of the script that an interpreter runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Script {
    /// [`LISTED`] and [`EXCEPTED`].
    pub flags: u32,
    /// What [`Exclusion::program`] calls it by its file or path; 0: nothing.
    pub by_file: u32,
    /// And by its name.
    pub by_name: u32,
}

/// `struct interpreter`: a [`Rule`](crate::script::Rule).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Interpreter {
    /// What [`OptionWord::kind`] calls it.
    pub kind: u32,
    /// [`CLUSTERS`], [`PLUS`] and [`ONLY_JAR`].
    pub flags: u32,
    /// A [`Meaning`](crate::script::Meaning) by letter, 0: none.
    pub letter: [u8; 256],
}

/// See [`Rule::clusters`](crate::script::Rule::clusters).
pub const CLUSTERS: u32 = 1;
/// See [`Rule::plus`](crate::script::Rule::plus).
pub const PLUS: u32 = 2;
/// See [`Rule::only_jar`](crate::script::Rule::only_jar).
pub const ONLY_JAR: u32 = 4;

/// `struct interpreter_name`: padded with zeroes, the last byte is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct InterpreterName(pub [u8; 16]);

/// `struct option_word`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct OptionWord {
    /// [`Interpreter::kind`].
    pub kind: u32,
    /// Padded with zeroes, the last byte is one.
    pub word: [u8; 28],
}

/// `struct owner`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Owner {
    /// The process, as PID 1's namespace has it.
    pub pid: u32,
    /// Its real user.
    pub uid: u32,
    /// The cgroup that the socket was made in.
    pub cgroup: u64,
    /// 0: none was known when the socket was made.
    pub session: u32,
    /// [`DESCENDS`], [`SCRIPT_FLAGS`] and [`EPOCH`].
    pub flags: u32,
    /// The executable.
    pub file: FileId,
}

/// `struct bound`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Bound {
    /// The session.
    pub session: u32,
    /// [`MOVED_HERE`] and the like.
    pub moved: u32,
    /// Where a dual-stack socket is to be found as well: at its session's virtual
    /// IPv6 address, and at its private one.
    pub also: [Address; 2],
    /// Host order.
    pub port: u16,
    /// The IP protocol's number.
    pub protocol: u16,
}

/// In [`Bound`]: it was moved.
pub const MOVED_HERE: u32 = 1;
/// In [`Bound`]: it had asked for any address.
pub const ASKED_ANY: u32 = 2;
/// In [`Bound`], for the kernel side to read: it goes before a mark that says that
/// nobody moved it.
pub const REPLACES: u32 = 8;

/// `struct place`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub struct Place {
    /// The address.
    pub address: Address,
    /// Host order.
    pub port: u16,
    /// The IP protocol's number.
    pub protocol: u16,
}

/// `struct moved`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Moved {
    /// The address the program asked for.
    pub asked: Address,
    /// The address it was given.
    pub given: Address,
    /// The session.
    pub session: u32,
    /// Host order.
    pub port: u16,
    /// The IP protocol's number.
    pub protocol: u16,
}

/// `struct closed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Closed {
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub at: u64,
    /// The socket's cookie.
    pub cookie: u64,
    /// Whose it was.
    pub owner: Owner,
    /// Its own address.
    pub local: Address,
    /// Its peer's, all zeroes if it was not connected.
    pub remote: Address,
    /// Host order.
    pub local_port: u16,
    /// Host order.
    pub remote_port: u16,
    /// The IP protocol's number.
    pub protocol: u16,
    /// `AF_INET` or `AF_INET6`.
    pub family: u16,
}

/// `struct ping`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Ping {
    /// Whose it is; of a socket that was never recorded only the cgroup.
    pub owner: Owner,
    /// Who sent it.
    pub source: Address,
    /// Who is to get it.
    pub destination: Address,
    /// The ICMP header.
    pub header: [u8; 8],
}

/// The counters, by their index in `COUNTERS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Counter {
    /// Binds that were moved.
    MovedBinds,
    /// Binds to another session's address.
    RefusedBinds,
    /// Targets that were led to the session's own server.
    Redirected,
    /// Packets from another session's address.
    ForeignSource,
    /// Packets for another session's address.
    ForeignListener,
    /// Packets for another session's loopback.
    ForeignLoopback,
    /// Closed sockets that there was no room to report.
    LostEvents,
    /// Descendants of listed programs that there was no room to note.
    FullDescendants,
    /// Processes of listed scripts that there was no room to note.
    FullScripts,
    /// Places of dual-stack sockets that there was no room to note.
    FullDual,
}

/// The key of a path in `PROGRAMS_BY_PATH`, as `bpf/path.h` makes it: FNV-1a over
/// the words of its names, the last one first. `None`: the kernel side does not
/// walk so far, or it is no full path.
pub fn path_digest(path: &[u8]) -> Option<u64> {
    /// Mounts count as well: one may lie in every other folder.
    const DEEPEST: usize = 32;
    const NAME: usize = 128;
    let names: Vec<_> =
        path.strip_prefix(b"/")?.split(|byte| *byte == b'/').filter(|it| !it.is_empty()).collect();
    if names.len() > DEEPEST {
        return None;
    }
    let mut words: Vec<u64> = Vec::new();
    for name in names.into_iter().rev() {
        if name.len() >= NAME || matches!(name, b"." | b"..") {
            return None;
        }
        let mut room = [0; NAME];
        room.get_mut(..name.len())?.copy_from_slice(name);
        words.extend(room.as_chunks().0.iter().copied().map(u64::from_ne_bytes));
    }
    Some(fnv_1a(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_same_both_ways() {
        for text in ["10.77.0.101", "0.0.0.0", "fd77::100", "::", "::1"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(IpAddr::from(Address::from(address)), address);
        }
        assert_ne!(
            Address::from(IpAddr::from([0, 0, 0, 0])),
            Address::from(IpAddr::from([0_u16; 8])),
            "the two wildcards are told apart"
        );
    }
}
