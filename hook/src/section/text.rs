//! When are two paths of Windows the same, and by which is a process known?

/// What a process runs, as the lists look for it: paths, folded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// Its program. Empty: unknown.
    pub program: Vec<u16>,
    /// The script that its program interprets; of one that is known by its name
    /// only, that.
    pub script: Option<Vec<u16>>,
}

/// As NTFS compares names: without regard to case, one UTF-16 unit at a time.
/// A prefix `\\?\` is left out, `\\?\UNC\` is `\\`, and `/` is `\`.
pub fn fold(path: &[u16]) -> Vec<u16> {
    let folded: Vec<u16> = path.iter().map(|unit| upper(*unit)).collect();
    let starts = |text: &str| folded.iter().copied().take(text.len()).eq(text.encode_utf16());
    let (share, skipped) = match () {
        () if starts(r"\\?\UNC\") => (r"\\", 8),
        () if starts(r"\\?\") => ("", 4),
        () => ("", 0),
    };
    share.encode_utf16().chain(folded.into_iter().skip(skipped)).collect()
}

/// The last component.
pub fn file_name(folded: &[u16]) -> &[u16] {
    folded.rsplit(|unit| *unit == u16::from(b'\\')).next().unwrap_or(folded)
}

fn upper(unit: u16) -> u16 {
    match char::from_u32(u32::from(unit)) {
        Some('/') => u16::from(b'\\'),
        Some(letter) => {
            let mut upper = letter.to_uppercase();
            match (upper.next(), upper.next()) {
                // The sharp s becomes two letters, and the dotless i one that it
                // is not: NTFS leaves such alone.
                (Some(upper), None) if upper.is_ascii() == letter.is_ascii() => {
                    u16::try_from(u32::from(upper)).unwrap_or(unit)
                }
                _ => unit,
            }
        }
        // Half of a surrogate pair.
        None => unit,
    }
}
