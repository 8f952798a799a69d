//! Which two sockets may have the same port, and what must be allowed?
//!
//! Windows decides by two flags and by who asks (learn: "Using SO_REUSEADDR and
//! SO_EXCLUSIVEADDRUSE"). A session's listener at its own address has to live
//! beside others' listeners at every address, whoever came first.

use std::fmt;

/// Where a socket is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At every address.
    Wildcard,
    /// At one.
    Specific,
}

/// How it asks for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Without a word.
    Plain,
    /// `SO_REUSEADDR`.
    Reuse,
    /// `SO_EXCLUSIVEADDRUSE`.
    Exclusive,
}

/// One bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Where.
    pub place: Place,
    /// How.
    pub manner: Manner,
}

/// Two binds of one port, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// This one came first.
    pub first: Bind,
    /// This one may be refused.
    pub second: Bind,
}

impl Case {
    /// Every pair.
    pub fn all() -> impl Iterator<Item = Self> {
        let binds = || {
            let places = [Place::Wildcard, Place::Specific];
            let manners = [Manner::Plain, Manner::Reuse, Manner::Exclusive];
            places.into_iter().flat_map(move |place| manners.map(|manner| Bind { place, manner }))
        };
        binds().flat_map(move |first| binds().map(move |second| Self { first, second }))
    }

    /// What sessionip cannot do without: a listener at one address beside one at
    /// every address, if neither wants the port for itself.
    fn is_needed(self) -> bool {
        let plain = |bind: Bind| bind.manner == Manner::Plain;
        self.first.place != self.second.place && plain(self.first) && plain(self.second)
    }
}

/// What came of every [`Case`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matrix(Vec<(Case, bool)>);

impl Matrix {
    /// Takes one in.
    pub fn add(&mut self, case: Case, allowed: bool) {
        self.0.push((case, allowed));
    }

    /// What is needed and refused.
    pub fn lacking(&self) -> Option<Case> {
        let refused = self.0.iter().find(|(case, allowed)| case.is_needed() && !allowed);
        refused.map(|(case, _)| *case)
    }

    /// How many were allowed, of how many.
    pub fn counts(&self) -> (usize, usize) {
        (self.0.iter().filter(|(_, allowed)| *allowed).count(), self.0.len())
    }

    /// Is a listener at one address refused once this is at every address?
    pub fn shuts_out(&self, wildcard: Manner) -> bool {
        self.0.iter().any(|(Case { first, second }, allowed)| {
            let plain = Bind { place: Place::Specific, manner: Manner::Plain };
            *first == Bind { place: Place::Wildcard, manner: wildcard }
                && *second == plain
                && !allowed
        })
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.manner {
            Manner::Plain => "plain ",
            Manner::Reuse => "SO_REUSEADDR ",
            Manner::Exclusive => "SO_EXCLUSIVEADDRUSE ",
        })?;
        f.write_str(match self.place {
            Place::Wildcard => "wildcard",
            Place::Specific => "specific",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_is_seen_to_lack() {
        let matrix = |refused: fn(Case) -> bool| {
            let mut matrix = Matrix::default();
            Case::all().for_each(|case| matrix.add(case, !refused(case)));
            matrix
        };
        assert_eq!(matrix(|_| false).counts(), (36, 36));
        assert_eq!(matrix(|_| false).lacking(), None);
        let same = matrix(|case| case.first.place == case.second.place);
        assert_eq!((same.lacking(), same.counts()), (None, (18, 36)));
        let windows = matrix(|case| case.first.manner == Manner::Exclusive);
        assert_eq!(windows.lacking(), None);
        assert!(windows.shuts_out(Manner::Exclusive) && !windows.shuts_out(Manner::Plain));
        let linux = matrix(|case| case.first.place != case.second.place);
        let lacking = linux.lacking().unwrap();
        assert_eq!(lacking.first.to_string(), "plain wildcard");
        assert_eq!(lacking.second.to_string(), "plain specific");
    }
}
