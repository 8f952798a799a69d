//! Why is the hook not in a program? In an administrator's words.

use std::fmt;

/// Why a program runs without the hook. Its outgoing traffic leaves from its
/// session's address all the same: that is the packet engine's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It is a protected process (PPL).
    Protected,
    /// Its signature policy lets Microsoft's or the Store's DLLs in only.
    SignedOnly,
    /// Its dynamic code policy lets nobody patch a function.
    NoDynamicCode,
    /// It is a program of the other width (to the daemon: a 32-bit one), and what
    /// gets the hook into those is missing.
    NoHelper,
    /// It has ended.
    Gone,
    /// The system does not let us near it.
    AccessDenied,
    /// It did not load the DLL in time.
    TimedOut,
    /// It could not load the DLL, or nothing could be detoured in it.
    NotLoaded,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Protected,
        Self::SignedOnly,
        Self::NoDynamicCode,
        Self::NoHelper,
        Self::Gone,
        Self::AccessDenied,
        Self::TimedOut,
        Self::NotLoaded,
    ];

    /// The word for tables and labels.
    pub fn word(self) -> &'static str {
        match self {
            Self::Protected => "protected",
            Self::SignedOnly => "signed-only",
            Self::NoDynamicCode => "no-dynamic-code",
            Self::NoHelper => "no-helper",
            Self::Gone => "gone",
            Self::AccessDenied => "access-denied",
            Self::TimedOut => "timed-out",
            Self::NotLoaded => "not-loaded",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Protected => {
                "it is a protected process, and Windows lets no DLL of another maker into it: \
                 its listeners stay where it binds them"
            }
            Self::SignedOnly => {
                "its signature policy admits DLLs signed by Microsoft or the Store only: its \
                 listeners stay where it binds them, unless its maker turns the policy off"
            }
            Self::NoDynamicCode => {
                "its dynamic code policy forbids changes to code in memory: its listeners stay \
                 where it binds them, unless its maker turns the policy off"
            }
            Self::NoHelper => {
                "it is a 32-bit program, and its hook could not be brought: look whether \
                 sessionip_inject32.exe and sessionip_hook32.dll lie beside sessionip.exe, and are \
                 let through by security products"
            }
            Self::Gone => "it had ended",
            Self::AccessDenied => {
                "Windows denied access to it: run sessionip as a service, and look whether a \
                 security product guards this program"
            }
            Self::TimedOut => {
                "it did not load the hook in time: the machine is overloaded, or a security \
                 product held it up; it gets the hook when it is started again"
            }
            Self::NotLoaded => {
                "it did not load the hook: look whether sessionip_hook.dll lies beside \
                 sessionip.exe, may be read by everyone, and is let through by security products"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_a_word_and_a_sentence_of_its_own() {
        let all = Refusal::ALL;
        let words: std::collections::BTreeSet<_> = all.iter().map(|r| r.word()).collect();
        let sentences: std::collections::BTreeSet<_> = all.iter().map(Refusal::to_string).collect();
        assert_eq!((words.len(), sentences.len()), (all.len(), all.len()));
        for sentence in sentences {
            assert!(!sentence.contains("  ") && !sentence.ends_with('.'), "{sentence}");
        }
    }
}
