//! Where is what in the block? Counted in words.

/// What the section is called. A layout of another version is another section:
/// programs that run may hold the old one for as long as they like.
pub const NAME: &str = r"Global\sessionip-hook-3";

/// The version of this layout.
pub const VERSION: u32 = 3;

/// `sIPh`.
pub(super) const MAGIC: u32 = u32::from_le_bytes(*b"sIPh");

/// The head: what it is, and which half holds.
pub(super) mod head {
    pub(in crate::section) const MAGIC: usize = 0;
    pub(in crate::section) const VERSION: usize = 1;
    pub(in crate::section) const WORDS: usize = 2;
    /// How often something was published. Even: the first half holds. 0: none.
    pub(in crate::section) const GENERATION: usize = 3;
    /// Which section this is: the low word, then the high one.
    pub(in crate::section) const STAMP: usize = 4;
    pub(in crate::section) const LENGTH: usize = 16;
}

/// A half: its own head, then one table after the other.
pub(super) mod half {
    use super::Table;

    /// The generation that it is of; 0 while it is written.
    pub(in crate::section) const GENERATION: usize = 0;
    pub(in crate::section) const FLAGS: usize = 1;
    /// The digest of the lists: the low word, then the high one.
    pub(in crate::section) const LISTS: usize = 2;
    pub(in crate::section) const HEAD: usize = 16;

    /// The number of a session, its IPv4, its IPv6, its private IPv6 and its
    /// loopback address. Ordered by number.
    pub(in crate::section) const SESSIONS: Table = Table::first(4, HEAD, 2048, 11);
    /// An address of the host, and 1 if it is on the pool's NIC.
    pub(in crate::section) const HOST: Table = SESSIONS.then(4096, 5);
    /// First and last address of a range.
    pub(in crate::section) const POOL: Table = HOST.then(1024, 8);
    /// Where its text begins and how long it is, its number, and its bits.
    pub(in crate::section) const PROGRAMS: Table = POOL.then(4096, 4);
    /// The number of a program, and the port below the protocol.
    pub(in crate::section) const EXCLUDED: Table = PROGRAMS.then(4096, 2);
    /// UTF-16, two units to a word; counted in words.
    pub(in crate::section) const TEXT: Table = EXCLUDED.then(131_072, 1);

    /// A prefix, and its length with 1024 added if what it holds leaves by the
    /// pool's NIC. Ordered by length, the longest first.
    pub(in crate::section) const ROUTES: Table = TEXT.then(16_384, 5);
    pub(in crate::section) const LENGTH: usize = ROUTES.end();
}

/// The bits of a half's flags.
pub(super) mod flag {
    pub(in crate::section) const ENABLED: u32 = 1;
    pub(in crate::section) const ALL_LISTED: u32 = 2;
    pub(in crate::section) const ALL_EXCEPTED: u32 = 4;
    pub(in crate::section) const CHILDREN: u32 = 8;
    pub(in crate::section) const SOURCES: u32 = 16;
    pub(in crate::section) const CONNECT: u32 = 4096;
    pub(in crate::section) const LOOPBACK: u32 = 32;
    pub(in crate::section) const ALL_LOOPBACK: u32 = 64;
    pub(in crate::section) const ALL_PREFERRED: u32 = 128;
}

/// The bits of a program.
pub(super) mod program {
    pub(in crate::section) const LISTED: u32 = 1;
    pub(in crate::section) const EXCEPTED: u32 = 2;
    /// Its text is a path, else a file name.
    pub(in crate::section) const PATH: u32 = 4;
    pub(in crate::section) const LOOPBACK: u32 = 8;
    pub(in crate::section) const PREFERRED: u32 = 16;
}

/// The bits of a route beside its length.
pub(super) mod route {
    pub(in crate::section) const OVER: u32 = 1024;
}

const WORDS: usize = head::LENGTH + 2 * half::LENGTH;

/// How large the block is.
pub const BYTES: usize = WORDS * 4;

/// A table of a half.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    /// Where its number of rows stands.
    pub(super) count: usize,
    /// Where its rows begin.
    pub(super) from: usize,
    /// How many rows it has room for.
    pub(super) capacity: usize,
    /// The words of a row.
    pub(super) width: usize,
}

impl Table {
    const fn first(count: usize, from: usize, capacity: usize, width: usize) -> Self {
        Self { count, from, capacity, width }
    }

    const fn then(self, capacity: usize, width: usize) -> Self {
        Self { count: self.count + 1, from: self.end(), capacity, width }
    }

    const fn end(self) -> usize {
        self.from + self.capacity * self.width
    }

    /// Where row number `row` begins.
    pub(super) const fn row(self, row: usize) -> usize {
        self.from.saturating_add(row.saturating_mul(self.width))
    }
}

const _: () = assert!(half::ROUTES.count < half::HEAD, "the counts fit into the head");
