//! When do two texts name the same program?

use std::borrow::Cow;

/// A program's path or name as it is compared: upper and lower case are one, and
/// so are both slashes; a path may begin with `\\?\` or `\\?\UNC\`.
pub fn one_spelling(text: &str) -> Cow<'_, str> {
    if let Some(share) = text.strip_prefix(r"\\?\UNC\") {
        return Cow::Owned(r"\\".chars().chain(share.chars().map(upper)).collect());
    }
    let text = text.strip_prefix(r"\\?\").unwrap_or(text);
    if text.chars().all(|letter| upper(letter) == letter) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(upper).collect())
}

/// One letter for one letter, as file systems do it: what only a language would
/// spell alike (the dotless i, the long s, the Kelvin sign) stays apart.
fn upper(letter: char) -> char {
    if letter == '/' {
        return '\\';
    }
    let mut upper = letter.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(one), None) if letter.is_ascii() == one.is_ascii() => one,
        _ => letter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_slashes_do_not_matter() {
        for same in [
            r"C:\Program Files\CRM\crm.exe",
            r"c:\program files\crm\CRM.EXE",
            "C:/Program Files/CRM/crm.exe",
            r"\\?\C:\Program Files\CRM\crm.exe",
        ] {
            assert_eq!(one_spelling(same), r"C:\PROGRAM FILES\CRM\CRM.EXE");
        }
        assert_eq!(one_spelling("Größe.exe"), "GRÖßE.EXE");
        assert_eq!(one_spelling("ſshd\u{131}\u{212a}"), "ſSHD\u{131}\u{212a}");
        assert!(matches!(one_spelling("SSHD.EXE"), Cow::Borrowed(_)));
    }
}
