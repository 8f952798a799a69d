//! What the daemon publishes on Windows: one block of memory that every program
//! may read and only the daemon writes.
//!
//! It is made of 32-bit words, each read and written whole, so that the reader
//! needs no unsafe code and no lock. There are two halves: the daemon fills the
//! one that nobody is pointed to and then points to it. A reader who is so slow
//! that the daemon comes round again notices by the half's number, and looks
//! again a few times; nobody waits for anybody. Whatever the words say, a
//! reader stays within them.

mod layout;
mod text;
mod view;
mod writer;

pub use layout::{BYTES, NAME, VERSION};
pub use text::{Runs, file_name, fold};
pub use view::{Tables, View};
pub use writer::{Content, Full, Leading, Pattern, Writer};

use std::sync::atomic::{AtomicU32, Ordering};

/// The block.
#[derive(Clone, Copy, Debug)]
struct Words<'a>(&'a [AtomicU32]);

impl<'a> Words<'a> {
    /// One word; 0 where there is none.
    ///
    /// Relaxed loads of this size are the ones that may be done in memory that
    /// cannot be written (see `std::sync::atomic`): the order is made by fences.
    fn load(self, at: usize) -> u32 {
        self.0.get(at).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    fn store(self, at: usize, value: u32) {
        if let Some(word) = self.0.get(at) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// `length` words from `from` on; fewer where there are fewer.
    fn part(self, from: usize, length: usize) -> Self {
        let rest = self.0.get(from..).unwrap_or_default();
        Self(rest.get(..length).unwrap_or(rest))
    }

    fn load_address(self, at: usize) -> std::net::Ipv6Addr {
        let word = |n: usize| u128::from(self.load(at.saturating_add(n)));
        std::net::Ipv6Addr::from_bits(word(0) << 96 | word(1) << 64 | word(2) << 32 | word(3))
    }

    fn store_address(self, at: usize, address: std::net::Ipv6Addr) {
        for (n, shift) in [96, 64, 32, 0].into_iter().enumerate() {
            self.store(at.saturating_add(n), (address.to_bits() >> shift) as u32);
        }
    }
}

#[cfg(test)]
mod tests;
