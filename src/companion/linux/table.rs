//! Maps as tables: whole values in, whole values out.

use super::prefixes::Prefix;
use crate::companion::TableError;
use aya::maps::{LpmTrie, Map, MapData, MapError, PerCpuArray, lpm_trie};
use aya::{Ebpf, Pod};
use sessionip_hook::layout::Counter;
use std::collections::BTreeMap;

/// Takes a map out of the loaded object.
pub(super) fn take<M: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    table: &'static str,
) -> Result<M, TableError> {
    let map = ebpf
        .take_map(table)
        .ok_or_else(|| MapError::InvalidName { name: table.to_owned() })
        .and_then(M::try_from);
    map.map_err(failed(table, "opened"))
}

pub(super) fn failed(
    table: &'static str,
    action: &'static str,
) -> impl FnOnce(MapError) -> TableError {
    move |source| TableError { table, action, source: Box::new(source) }
}

/// A map from keys to values.
#[derive(Debug)]
pub(super) struct Table<K: Pod, V: Pod> {
    name: &'static str,
    map: aya::maps::HashMap<MapData, K, V>,
}

impl<K: Pod + Ord, V: Pod + PartialEq> Table<K, V> {
    pub(super) fn open(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, TableError> {
        Ok(Self { name, map: take(ebpf, name)? })
    }

    pub(super) fn set(&mut self, key: &K, value: &V) -> Result<(), TableError> {
        self.map.insert(key, value, 0).map_err(failed(self.name, "written"))
    }

    /// As [`set`](Self::set); `false`: there is no room.
    pub(super) fn set_if_room(&mut self, key: &K, value: &V) -> Result<bool, TableError> {
        match self.map.insert(key, value, 0) {
            Ok(()) => Ok(true),
            Err(error) if is_full(&error) => Ok(false),
            Err(error) => Err(failed(self.name, "written")(error)),
        }
    }

    /// That there is no such key is fine.
    pub(super) fn remove(&mut self, key: &K) -> Result<(), TableError> {
        match self.map.remove(key) {
            Err(error) if !is_missing(&error) => Err(failed(self.name, "written")(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Everything in it; what comes or goes meanwhile may be missed.
    pub(super) fn all(&self) -> Result<BTreeMap<K, V>, TableError> {
        let mut all = BTreeMap::new();
        for entry in self.map.iter() {
            match entry {
                Ok((key, value)) => {
                    all.insert(key, value);
                }
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(failed(self.name, "read")(error)),
            }
        }
        Ok(all)
    }

    /// Adds what is new or different.
    pub(super) fn add(&mut self, wanted: &BTreeMap<K, V>) -> Result<(), TableError> {
        let known = self.all()?;
        for (key, value) in wanted {
            if known.get(key) != Some(value) {
                self.set(key, value)?;
            }
        }
        Ok(())
    }

    /// Makes it what is wanted; what stays is there throughout.
    pub(super) fn replace(&mut self, wanted: &BTreeMap<K, V>) -> Result<(), TableError> {
        self.add(wanted)?;
        for key in self.all()?.into_keys() {
            if !wanted.contains_key(&key) {
                self.remove(&key)?;
            }
        }
        Ok(())
    }
}

fn is_full(error: &MapError) -> bool {
    matches!(error, MapError::SyscallError(error)
        if error.io_error.raw_os_error() == Some(libc::E2BIG))
}

/// Removed by another, a process that ended for instance.
fn is_missing(error: &MapError) -> bool {
    if let MapError::SyscallError(error) = error {
        error.io_error.raw_os_error() == Some(libc::ENOENT)
    } else {
        matches!(error, MapError::KeyNotFound)
    }
}

/// A map with one value, which is replaced whole.
pub(super) struct Array<V: Pod> {
    name: &'static str,
    map: aya::maps::Array<MapData, V>,
}

impl<V: Pod> Array<V> {
    pub(super) fn open(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, TableError> {
        Ok(Self { name, map: take(ebpf, name)? })
    }

    pub(super) fn value(&self) -> Result<V, TableError> {
        self.map.get(&0, 0).map_err(failed(self.name, "read"))
    }

    pub(super) fn set(&mut self, value: V) -> Result<(), TableError> {
        self.map.set(0, value, 0).map_err(failed(self.name, "written"))
    }
}

/// The counters, summed over the processors.
pub(super) struct Sums(PerCpuArray<MapData, u64>);

impl Sums {
    const NAME: &str = "COUNTERS";

    pub(super) fn open(ebpf: &mut Ebpf) -> Result<Self, TableError> {
        take(ebpf, Self::NAME).map(Self)
    }

    pub(super) fn of(&self, counter: Counter) -> Result<u64, TableError> {
        let values = self.0.get(&(counter as u32), 0).map_err(failed(Self::NAME, "read"))?;
        Ok(values.iter().sum())
    }
}

/// Addresses as prefixes: one look-up whatever their number.
#[derive(Debug)]
pub(super) struct Prefixes {
    name: &'static str,
    map: LpmTrie<MapData, [u8; 16], u32>,
}

impl Prefixes {
    pub(super) fn open(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, TableError> {
        Ok(Self { name, map: take(ebpf, name)? })
    }

    /// Makes it what is wanted. What has a smaller value is there before what has a
    /// larger one.
    pub(super) fn replace(&mut self, wanted: &BTreeMap<Prefix, u32>) -> Result<(), TableError> {
        let mut ordered: Vec<_> = wanted.iter().collect();
        ordered.sort_by_key(|(_, value)| **value);
        for (prefix, value) in ordered {
            self.map.insert(&key(prefix), value, 0).map_err(failed(self.name, "written"))?;
        }
        let known: Vec<_> = self.map.keys().filter_map(Result::ok).collect();
        for known in known {
            let prefix = Prefix { address: known.data(), length: known.prefix_len() };
            if !wanted.contains_key(&prefix) {
                self.map.remove(&known).map_err(failed(self.name, "written"))?;
            }
        }
        Ok(())
    }
}

fn key(prefix: &Prefix) -> lpm_trie::Key<[u8; 16]> {
    lpm_trie::Key::new(prefix.length, prefix.address)
}
