//! Which number stands for these words, in every run and on both sides of the hook?

/// FNV-1a, over words instead of bytes where somebody likes: `bpf/path.h` has it, too.
/// It is no defence against whoever looks for two texts of one number.
pub fn fnv_1a(words: impl IntoIterator<Item = u64>) -> u64 {
    const START: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    words.into_iter().fold(START, |digest, word| (digest ^ word).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the test suite of the function's authors (draft-eastlake-fnv).
    #[test]
    fn as_its_authors_have_it() {
        for (text, digest) in [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8),
        ] {
            assert_eq!(fnv_1a(text.bytes().map(u64::from)), digest, "{text}");
        }
    }
}
