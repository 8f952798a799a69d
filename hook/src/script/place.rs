//! Which file does a path of Windows mean, read from some folder? By its letters
//! alone: nobody is asked, and no link is followed.

/// The full path, without dots, as `GetFullPathNameW` makes it. `None`: the folder
/// is none, or the path is of another drive's own folder (`D:x.py`), which nobody
/// knows.
pub fn absolute(folder: &str, path: &str) -> Option<String> {
    let (path, folder) = (plain(path), plain(folder));
    let above = || match root(&folder) {
        (Root::Full(root), above) => Some((root, above)),
        (Root::Nameless | Root::Drive(_) | Root::None, _) => None,
    };
    match root(&path) {
        (Root::Full(root), rest) => Some(walk(root, [rest])),
        (Root::Nameless, rest) => Some(walk(above()?.0, [rest])),
        (Root::Drive(drive), rest) => {
            let (root, above) = above()?;
            root.eq_ignore_ascii_case(drive).then(|| walk(root, [above, rest]))
        }
        (Root::None, rest) => {
            let (root, above) = above()?;
            Some(walk(root, [above, rest]))
        }
    }
}

/// What a path begins with.
enum Root<'a> {
    /// `C:` before a backslash, or `\\server\share`.
    Full(&'a str),
    /// `\`: the root of where one is.
    Nameless,
    /// `C:` before anything else.
    Drive(&'a str),
    None,
}

/// Backslashes only, and without `\\?\`.
fn plain(path: &str) -> String {
    let path = path.replace('/', "\\");
    let begins = |prefix: &str| {
        path.get(..prefix.len()).filter(|begin| begin.eq_ignore_ascii_case(prefix))?;
        path.get(prefix.len()..)
    };
    if let Some(share) = begins(r"\\?\UNC\") {
        return format!(r"\\{share}");
    }
    begins(r"\\?\").map(str::to_owned).unwrap_or(path)
}

fn root(path: &str) -> (Root<'_>, &str) {
    if let Some(share) = path.strip_prefix(r"\\") {
        // The server's name, a backslash, the share's.
        let end = share.match_indices('\\').nth(1).map_or(path.len(), |(at, _)| at + 2);
        let (root, rest) = path.split_at(end);
        return (Root::Full(root), rest);
    }
    if let Some(rest) = path.strip_prefix('\\') {
        return (Root::Nameless, rest);
    }
    let is_drive = path.as_bytes().first().is_some_and(u8::is_ascii_alphabetic)
        && path.as_bytes().get(1) == Some(&b':');
    match path.split_at_checked(2).filter(|_| is_drive) {
        Some((drive, rest)) if rest.starts_with('\\') => (Root::Full(drive), rest),
        Some((drive, rest)) => (Root::Drive(drive), rest),
        None => (Root::None, path),
    }
}

fn walk<'a>(root: &str, parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in parts.into_iter().flat_map(|part| part.split('\\')) {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    // Windows leaves them out at the end.
    if let Some(last) = names.last_mut() {
        *last = last.trim_end_matches(['.', ' ']);
    }
    format!(r"{}\{}", root.trim_end_matches('\\'), names.join("\\"))
}
