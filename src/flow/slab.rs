//! Where do the flows lie?

use super::entry::Flow;

/// How many flows are allocated at once: half a megabyte. A table grows by one
/// chunk, never by copying what it has.
const CHUNK: usize = 4096;

/// A place for one flow. What is vacant has to fit into a flow's unused values.
enum Slot {
    Vacant { next: u32 },
    Taken(Flow),
}

const _: () = assert!(size_of::<Slot>() == size_of::<Flow>() && size_of::<Flow>() == 128);

/// Flows by number. A number is given again after its flow was removed.
pub(super) struct Slab {
    chunks: Vec<Box<[Slot]>>,
    /// The first vacant slot of the list through all of them; [`END`]: none.
    vacant: u32,
    len: usize,
}

/// No slot has this number.
pub(super) const END: u32 = u32::MAX;

impl Slab {
    pub(super) fn new() -> Self {
        Self { chunks: Vec::new(), vacant: END, len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Every number ever given is below this.
    pub(super) fn bound(&self) -> u32 {
        (self.chunks.len() * CHUNK) as u32
    }

    #[inline]
    pub(super) fn flow(&self, number: u32) -> Option<&Flow> {
        let index = number as usize;
        match self.chunks.get(index / CHUNK)?.get(index % CHUNK)? {
            Slot::Taken(flow) => Some(flow),
            Slot::Vacant { .. } => None,
        }
    }

    #[inline]
    pub(super) fn flow_mut(&mut self, number: u32) -> Option<&mut Flow> {
        match self.slot_mut(number)? {
            Slot::Taken(flow) => Some(flow),
            Slot::Vacant { .. } => None,
        }
    }

    /// Keeps `flow` and says where. The caller has seen to it that there are
    /// fewer flows than numbers.
    pub(super) fn insert(&mut self, flow: Flow) -> u32 {
        if self.vacant == END {
            self.grow();
        }
        let number = self.vacant;
        if let Some(slot) = self.slot_mut(number)
            && let Slot::Vacant { next } = *slot
        {
            *slot = Slot::Taken(flow);
            self.vacant = next;
            self.len += 1;
        }
        number
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<Flow> {
        let next = self.vacant;
        let slot = self.slot_mut(number)?;
        match std::mem::replace(slot, Slot::Vacant { next }) {
            Slot::Taken(flow) => {
                self.vacant = number;
                self.len -= 1;
                Some(flow)
            }
            vacant @ Slot::Vacant { .. } => {
                *slot = vacant;
                None
            }
        }
    }

    fn slot_mut(&mut self, number: u32) -> Option<&mut Slot> {
        let index = number as usize;
        self.chunks.get_mut(index / CHUNK)?.get_mut(index % CHUNK)
    }

    /// One more chunk, its slots in a list from first to last.
    fn grow(&mut self) {
        let first = self.bound();
        let last = first + CHUNK as u32 - 1;
        let next = |number: u32| if number == last { END } else { number + 1 };
        self.chunks.push((first..=last).map(|n| Slot::Vacant { next: next(n) }).collect());
        self.vacant = first;
    }
}
