//! How does the daemon fill the block?

use super::layout::{MAGIC, Table, VERSION, flag, half, head, program, route};
use super::{Words, fold};
use crate::decide::{Exclusion, Flags, Session};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU32, Ordering, fence};

/// All there is to publish. IPv4 addresses are `::ffff:a.b.c.d`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content {
    /// What the policy turns on.
    pub flags: Flags,
    /// The program list has `*`.
    pub all_listed: bool,
    /// So has the list of exceptions.
    pub all_excepted: bool,
    /// So has the list of programs with a loopback of their session's own.
    pub all_on_loopback: bool,
    /// So has the list of programs that prefer it.
    pub all_preferred: bool,
    /// A digest of the lists.
    pub lists: u64,
    /// The sessions that are logged on, in any order; one of each number.
    pub sessions: Vec<Session>,
    /// The host's own addresses, and whether each is on the pool's NIC.
    pub host: Vec<(Ipv6Addr, bool)>,
    /// The addresses that only a lease makes anybody's.
    pub pool: Vec<RangeInclusive<Ipv6Addr>>,
    /// The programs that a list or an exclusion names.
    pub programs: Vec<Pattern>,
    /// The binds and local ports that are left alone.
    pub excluded: Vec<Exclusion>,
    /// Where packets leave, in any order.
    pub routes: Vec<Leading>,
}

/// What is sent to a prefix: does it leave by the pool's NIC? Longer prefixes go
/// before shorter ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leading {
    /// Where to.
    pub to: Ipv6Addr,
    /// How many of its bits count; 96 more than it has for an IPv4 prefix.
    pub length: u8,
    /// Whether.
    pub over: bool,
}

/// A program that a list or an exclusion names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pattern {
    /// A full path or a file name; it need not be folded.
    pub text: Vec<u16>,
    /// Which of the two.
    pub is_path: bool,
    /// What [`Exclusion::program`] calls it; not 0.
    pub id: u32,
    /// The program list has it.
    pub listed: bool,
    /// The list of exceptions has it.
    pub excepted: bool,
    /// The list of programs with a loopback of their session's own has it.
    pub on_loopback: bool,
    /// The list of programs that prefer it has it.
    pub preferred: bool,
}

/// There is more to publish than there is room for. What was published before
/// holds on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Of what.
    pub table: &'static str,
    /// How many there are.
    pub wanted: usize,
    /// How many there is room for.
    pub capacity: usize,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, wanted, capacity } = self;
        write!(f, "{wanted} {table}, and the hook's table has room for {capacity}")
    }
}

impl std::error::Error for Full {}

/// The one who fills the block.
#[derive(Debug)]
pub struct Writer<'a>(Words<'a>);

impl<'a> Writer<'a> {
    /// Takes a block that nobody else writes, and goes on from what is in it if
    /// it is one of ours; else it gets `stamp`, by which it is told from others
    /// of the same name. `None`: it is too small.
    pub fn new(words: &'a [AtomicU32], stamp: u64) -> Option<Self> {
        let length = head::LENGTH + 2 * half::LENGTH;
        if words.len() < length {
            return None;
        }
        let block = Words(words);
        if super::View::new(words).is_none() {
            block.store(head::STAMP, stamp as u32);
            block.store(head::STAMP + 1, (stamp >> 32) as u32);
            block.store(head::MAGIC, MAGIC);
            block.store(head::WORDS, u32::try_from(length).ok()?);
            fence(Ordering::Release);
            block.store(head::VERSION, VERSION);
        }
        Some(Self(block))
    }

    /// From now on this holds.
    ///
    /// # Errors
    /// It does not fit; what was published before holds on.
    pub fn publish(&mut self, content: &Content) -> Result<(), Full> {
        let texts: Vec<_> = content.programs.iter().map(|pattern| fold(&pattern.text)).collect();
        let units: usize = texts.iter().map(Vec::len).sum();
        fits("sessions", half::SESSIONS, content.sessions.len())?;
        fits("host addresses", half::HOST, content.host.len())?;
        fits("ranges", half::POOL, content.pool.len())?;
        fits("programs", half::PROGRAMS, content.programs.len())?;
        fits("exclusions", half::EXCLUDED, content.excluded.len())?;
        fits("routes", half::ROUTES, content.routes.len())?;
        fits("pairs of letters in program paths", half::TEXT, units.div_ceil(2))?;

        // 0 is for nothing published; the one before it is odd.
        let generation = match self.0.load(head::GENERATION).wrapping_add(1) {
            0 => 2,
            next => next,
        };
        let which = generation as usize & 1;
        let words = self.0.part(head::LENGTH + which * half::LENGTH, half::LENGTH);
        words.store(half::GENERATION, 0);
        // Nobody sees a word of what follows without seeing the 0 above.
        fence(Ordering::Release);
        fill(words, content, &texts);
        fence(Ordering::Release);
        words.store(half::GENERATION, generation);
        fence(Ordering::Release);
        self.0.store(head::GENERATION, generation);
        Ok(())
    }
}

fn fits(table: &'static str, room: Table, wanted: usize) -> Result<(), Full> {
    let capacity = room.capacity;
    if wanted > capacity { Err(Full { table, wanted, capacity }) } else { Ok(()) }
}

fn fill(words: Words<'_>, content: &Content, texts: &[Vec<u16>]) {
    let flags = [
        (content.flags.enabled, flag::ENABLED),
        (content.all_listed, flag::ALL_LISTED),
        (content.all_excepted, flag::ALL_EXCEPTED),
        (content.flags.children, flag::CHILDREN),
        (content.flags.connect, flag::CONNECT),
        (content.flags.sources, flag::SOURCES),
        (content.flags.loopback, flag::LOOPBACK),
        (content.all_on_loopback, flag::ALL_LOOPBACK),
        (content.all_preferred, flag::ALL_PREFERRED),
    ];
    words.store(half::FLAGS, bits(&flags));
    words.store(half::LISTS, content.lists as u32);
    words.store(half::LISTS + 1, (content.lists >> 32) as u32);

    let mut sessions = content.sessions.clone();
    sessions.sort_by_key(|session| session.id);
    each(words, half::SESSIONS, &sessions, |at, session| {
        let ipv4 = |address: Option<Ipv4Addr>| address.map_or(0, Ipv4Addr::to_bits);
        let ipv6 = |address: Option<Ipv6Addr>| address.unwrap_or(Ipv6Addr::UNSPECIFIED);
        words.store(at, session.id);
        words.store(at + 1, ipv4(session.ipv4));
        words.store_address(at + 2, ipv6(session.ipv6));
        words.store_address(at + 6, ipv6(session.private_ipv6));
        words.store(at + 10, ipv4(session.loopback));
    });
    each(words, half::HOST, &content.host, |at, (address, on_pool_nic)| {
        words.store_address(at, *address);
        words.store(at + 4, u32::from(*on_pool_nic));
    });
    each(words, half::POOL, &content.pool, |at, range| {
        words.store_address(at, *range.start());
        words.store_address(at + 4, *range.end());
    });
    each(words, half::EXCLUDED, &content.excluded, |at, exclusion| {
        words.store(at, exclusion.program);
        words.store(at + 1, port_and_protocol(exclusion));
    });

    let mut routes = content.routes.clone();
    routes.sort_by_key(|route| std::cmp::Reverse(route.length));
    each(words, half::ROUTES, &routes, |at, leading| {
        words.store_address(at, leading.to);
        let over = if leading.over { route::OVER } else { 0 };
        words.store(at + 4, u32::from(leading.length) | over);
    });
    let mut from = 0_usize;
    let mut programs = content.programs.iter().zip(texts);
    each(words, half::PROGRAMS, texts, |at, text| {
        let Some((pattern, _)) = programs.next() else { return };
        words.store(at, from as u32);
        words.store(at + 1, text.len() as u32);
        words.store(at + 2, pattern.id);
        let flags = [
            (pattern.listed, program::LISTED),
            (pattern.excepted, program::EXCEPTED),
            (pattern.is_path, program::PATH),
            (pattern.on_loopback, program::LOOPBACK),
            (pattern.preferred, program::PREFERRED),
        ];
        words.store(at + 3, bits(&flags));
        from += text.len();
    });
    let units: Vec<u16> = texts.concat();
    each(words, half::TEXT, &units.chunks(2).collect::<Vec<_>>(), |at, pair| {
        let unit = |n: usize| u32::from(pair.get(n).copied().unwrap_or(0));
        words.store(at, unit(0) | unit(1) << 16);
    });
}

/// Writes the rows of a table, and how many they are.
fn each<T>(words: Words<'_>, table: Table, rows: &[T], mut write: impl FnMut(usize, &T)) {
    words.store(table.count, rows.len() as u32);
    for (number, row) in rows.iter().enumerate() {
        write(table.row(number), row);
    }
}

fn bits(flags: &[(bool, u32)]) -> u32 {
    flags.iter().filter(|(on, _)| *on).fold(0, |bits, (_, bit)| bits | bit)
}

pub(super) fn port_and_protocol(exclusion: &Exclusion) -> u32 {
    u32::from(exclusion.port) | u32::from(exclusion.protocol) << 16
}
