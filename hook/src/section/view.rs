//! What does the block say? Read by every program, believed by none blindly.

use super::layout::{MAGIC, Table, VERSION, flag, half, head, program, route};
use super::{Runs, Words, file_name};
use crate::decide::{self, Exclusion, Flags, Program, Session};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering, fence};

/// A published block.
#[derive(Clone, Copy, Debug)]
pub struct View<'a>(Words<'a>);

/// The block changed under the reader's eyes this often: something is wrong.
const ATTEMPTS: usize = 8;

impl<'a> View<'a> {
    /// `None`: it is no block of this version.
    pub fn new(words: &'a [AtomicU32]) -> Option<Self> {
        let block = Words(words);
        let length = head::LENGTH + 2 * half::LENGTH;
        let fits = block.load(head::MAGIC) == MAGIC
            && block.load(head::VERSION) == VERSION
            && block.load(head::WORDS) as usize == length
            && words.len() >= length;
        fits.then_some(Self(block))
    }

    /// Tells it from another block of the same name.
    pub fn stamp(self) -> u64 {
        u64::from(self.0.load(head::STAMP + 1)) << 32 | u64::from(self.0.load(head::STAMP))
    }

    /// Looks something up in the tables as they were at one moment. `None`:
    /// nothing was published, or the tables would not keep still.
    pub fn look<T>(self, look: impl Fn(Tables<'a>) -> T) -> Option<T> {
        for _ in 0..ATTEMPTS {
            let generation = self.0.load(head::GENERATION);
            fence(Ordering::Acquire);
            if generation == 0 {
                return None;
            }
            let which = generation as usize & 1;
            let words = self.0.part(head::LENGTH + which * half::LENGTH, half::LENGTH);
            if words.load(half::GENERATION) != generation {
                continue;
            }
            fence(Ordering::Acquire);
            let found = look(Tables(words));
            fence(Ordering::Acquire);
            if words.load(half::GENERATION) == generation {
                return Some(found);
            }
        }
        None
    }
}

/// The tables of one generation.
#[derive(Clone, Copy, Debug)]
pub struct Tables<'a>(Words<'a>);

impl Tables<'_> {
    /// The session of that number.
    pub fn session(self, id: u32) -> Option<Session> {
        let (mut low, mut high) = (0, self.length(half::SESSIONS));
        while low < high {
            let middle = low.midpoint(high);
            let found = self.0.load(half::SESSIONS.row(middle));
            match found.cmp(&id) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(self.session_at(middle)),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// What the lists say of a process that runs this. Whether it descends from a
    /// listed one they do not say.
    pub fn running(self, runs: &Runs) -> Program {
        let found = self.program(&runs.program);
        match &runs.script {
            Some(script) => found.with_script(&self.program(script)),
            None => found,
        }
    }

    /// What they say of the program at `path`, which is folded.
    pub fn program(self, path: &[u16]) -> Program {
        let flags = self.0.load(half::FLAGS);
        let mut found = Program {
            listed: flags & flag::ALL_LISTED != 0,
            excepted: flags & flag::ALL_EXCEPTED != 0,
            on_loopback: flags & flag::ALL_LOOPBACK != 0,
            preferred: flags & flag::ALL_PREFERRED != 0,
            ..Program::default()
        };
        let name = file_name(path);
        let [by_path, by_name, ..] = &mut found.known_as;
        for row in self.rows(half::PROGRAMS) {
            let bits = self.0.load(row + 3);
            let (own, known_as) = if bits & program::PATH != 0 {
                (path, &mut *by_path)
            } else {
                (name, &mut *by_name)
            };
            if !self.is_text(row, own) {
                continue;
            }
            found.listed |= bits & program::LISTED != 0;
            found.excepted |= bits & program::EXCEPTED != 0;
            found.on_loopback |= bits & program::LOOPBACK != 0;
            found.preferred |= bits & program::PREFERRED != 0;
            *known_as = self.0.load(row + 2);
        }
        found
    }

    /// A digest of the lists: what was found by others no longer holds.
    pub fn lists(self) -> u64 {
        u64::from(self.0.load(half::LISTS + 1)) << 32 | u64::from(self.0.load(half::LISTS))
    }

    fn session_at(self, row: usize) -> Session {
        let at = half::SESSIONS.row(row);
        let ipv6 = |at| Some(self.0.load_address(at)).filter(|address| !address.is_unspecified());
        let ipv4 = |at| {
            Some(Ipv4Addr::from_bits(self.0.load(at))).filter(|address| !address.is_unspecified())
        };
        Session {
            id: self.0.load(at),
            ipv4: ipv4(at + 1),
            ipv6: ipv6(at + 2),
            private_ipv6: ipv6(at + 6),
            loopback: ipv4(at + 10),
        }
    }

    fn is_text(self, row: usize, text: &[u16]) -> bool {
        let (from, length) = (self.0.load(row) as usize, self.0.load(row + 1) as usize);
        length == text.len()
            && text.iter().zip(from..).all(|(unit, at)| self.unit(at) == Some(*unit))
    }

    /// One unit of the text.
    fn unit(self, at: usize) -> Option<u16> {
        let word = (at / 2 < half::TEXT.capacity).then(|| self.0.load(half::TEXT.row(at / 2)))?;
        Some(if at.is_multiple_of(2) { word as u16 } else { (word >> 16) as u16 })
    }

    /// How many rows a table has; never more than there is room for.
    fn length(self, table: Table) -> usize {
        (self.0.load(table.count) as usize).min(table.capacity)
    }

    /// Where the rows of a table begin.
    fn rows(self, table: Table) -> impl Iterator<Item = usize> {
        (0..self.length(table)).map(move |row| table.row(row))
    }
}

impl decide::Tables for Tables<'_> {
    fn flags(&self) -> Flags {
        let flags = self.0.load(half::FLAGS);
        Flags {
            enabled: flags & flag::ENABLED != 0,
            sources: flags & flag::SOURCES != 0,
            children: flags & flag::CHILDREN != 0,
            connect: flags & flag::CONNECT != 0,
            loopback: flags & flag::LOOPBACK != 0,
        }
    }

    fn holder(&self, address: Ipv6Addr) -> Option<u32> {
        (0..self.length(half::SESSIONS))
            .map(|row| self.session_at(row))
            .find(|session| session.holds(address))
            .map(|session| session.id)
    }

    fn in_pool(&self, address: Ipv6Addr) -> bool {
        self.rows(half::POOL)
            .any(|row| (self.0.load_address(row)..=self.0.load_address(row + 4)).contains(&address))
    }

    fn on_pool_nic(&self, address: Ipv6Addr) -> bool {
        self.rows(half::HOST)
            .any(|row| self.0.load_address(row) == address && self.0.load(row + 4) & 1 != 0)
    }

    fn leads_over_pool_nic(&self, target: Ipv6Addr) -> bool {
        let row = self.rows(half::ROUTES).find(|row| {
            let length = self.0.load(row + 4) & !route::OVER;
            let tail = 128_u32.saturating_sub(length);
            let differs = self.0.load_address(*row).to_bits() ^ target.to_bits();
            differs.checked_shr(tail).unwrap_or(0) == 0
        });
        row.is_some_and(|row| self.0.load(row + 4) & route::OVER != 0)
    }

    fn on_host(&self, address: Ipv6Addr) -> bool {
        self.rows(half::HOST).any(|row| self.0.load_address(row) == address)
    }

    fn excluded(&self, exclusion: Exclusion) -> bool {
        let wanted = super::writer::port_and_protocol(&exclusion);
        self.rows(half::EXCLUDED)
            .any(|row| self.0.load(row) == exclusion.program && self.0.load(row + 1) == wanted)
    }
}
