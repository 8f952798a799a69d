//! Where was a list cut short that the system frees as a whole?
//!
//! The system made the list, and only it knows in how many pieces: it gets back the
//! very list that it made. So what is hidden from the program stays, cut off, and is
//! put back in the moment the program frees the list.

/// A list without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Where its first node is: by that it is freed.
    pub head: usize,
    /// The last node that the program sees.
    pub last: usize,
    /// The first one that it does not.
    pub rest: usize,
}

/// The lists that programs hold. A program that never frees any has the oldest
/// forgotten: it loses memory, as it does by itself.
#[derive(Debug, Default)]
pub struct Cuts(Vec<Cut>);

/// So many lists at a time are plenty.
const MOST: usize = 1024;

impl Cuts {
    /// None yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// A list has been cut.
    pub fn add(&mut self, cut: Cut) {
        self.0.retain(|known| known.head != cut.head);
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        self.0.push(cut);
    }

    /// The list is about to be freed, or was: its memory is another's now.
    pub fn take(&mut self, head: usize) -> Option<Cut> {
        let at = self.0.iter().position(|cut| cut.head == head)?;
        Some(self.0.remove(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_is_taken_once() {
        let mut cuts = Cuts::new();
        let cut = |head| Cut { head, last: head + 1, rest: head + 2 };
        cuts.add(cut(10));
        cuts.add(cut(20));
        assert_eq!(cuts.take(30), None);
        assert_eq!((cuts.take(10), cuts.take(10)), (Some(cut(10)), None));
        let again = Cut { rest: 99, ..cut(20) };
        cuts.add(again);
        assert_eq!((cuts.take(20), cuts.take(20)), (Some(again), None), "what is new holds");
    }

    #[test]
    fn a_program_that_frees_nothing_has_the_oldest_forgotten() {
        let mut cuts = Cuts::new();
        for head in 0..=MOST {
            cuts.add(Cut { head, last: 0, rest: 0 });
        }
        assert_eq!(cuts.0.len(), MOST);
        assert_eq!(cuts.take(0), None);
        assert!(cuts.take(MOST).is_some() && cuts.take(1).is_some());
    }
}
