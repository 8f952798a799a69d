//! Which flow has this key?

use foldhash::fast::{FoldHasher, RandomState};
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// The index grows one part at a time, so that no packet waits until millions
/// of entries have been moved.
const PARTS: usize = 64;

/// Finds slots by hash. The hash lies beside the slot's number: neither a probe
/// that misses nor growing looks at a flow. Its seed is random, because flow
/// keys are chosen by strangers.
pub(super) struct Index {
    parts: Box<[HashTable<Entry>]>,
    seed: RandomState,
}

#[derive(Clone, Copy)]
struct Entry {
    hash: u32,
    slot: u32,
}

impl Index {
    pub(super) fn new() -> Self {
        Self { parts: (0..PARTS).map(|_| HashTable::new()).collect(), seed: RandomState::default() }
    }

    #[inline]
    pub(super) fn hasher(&self) -> FoldHasher<'static> {
        self.seed.build_hasher()
    }

    /// The slot entered under `hash` that `is` it.
    #[inline]
    pub(super) fn find(&self, hash: u32, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let entry = self
            .parts
            .get(part(hash))?
            .find(spread(hash), |entry| entry.hash == hash && is(entry.slot))?;
        Some(entry.slot)
    }

    pub(super) fn insert(&mut self, hash: u32, slot: u32) {
        if let Some(part) = self.parts.get_mut(part(hash)) {
            part.insert_unique(spread(hash), Entry { hash, slot }, |entry| spread(entry.hash));
        }
    }

    pub(super) fn remove(&mut self, hash: u32, slot: u32) {
        if let Some(part) = self.parts.get_mut(part(hash))
            && let Ok(entry) =
                part.find_entry(spread(hash), |entry| entry.hash == hash && entry.slot == slot)
        {
            entry.remove();
        }
    }

    /// What was entered for slot `from` stands for slot `to` from now on.
    pub(super) fn replace(&mut self, hash: u32, from: u32, to: u32) {
        if let Some(part) = self.parts.get_mut(part(hash))
            && let Some(entry) =
                part.find_mut(spread(hash), |entry| entry.hash == hash && entry.slot == from)
        {
            entry.slot = to;
        }
    }
}

/// Bits 19 to 24 choose the part: hashbrown takes its bucket from the low bits
/// and its tag from the top seven.
const fn part(hash: u32) -> usize {
    (hash >> 19) as usize % PARTS
}

const fn spread(hash: u32) -> u64 {
    (hash as u64) << 32 | hash as u64
}
