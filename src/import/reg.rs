//! What does a registry export (`.reg`) say?
//!
//! A parser of our own: the crate there is (`regashii` 0.4) ends in silence at the
//! first value it cannot read, and whoever imports must hear of each one. The form
//! is that of Microsoft's article 310516: `Windows Registry Editor Version 5.00`
//! (UTF-16) or `REGEDIT4` (ANSI), keys in brackets, values below, and a `-` where
//! one is deleted.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

/// The values of the keys that were asked for. Names are compared in lower case,
/// as the registry does not tell case apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Export {
    /// By key.
    keys: BTreeMap<String, Key>,
    /// What stands below these keys and cannot be read.
    pub unread: Vec<Unread>,
}

/// A key, with its name as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Key {
    name: String,
    /// By name; that of the default value is empty.
    values: BTreeMap<String, Entry>,
}

/// One value, with its name as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: String,
    /// What it is.
    pub value: Value,
}

/// What a value is; of a type that no key of ours has, only so much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `REG_SZ` or `REG_EXPAND_SZ`, whose `%VARIABLES%` are as they were written.
    Text(String),
    /// `REG_DWORD` or `REG_QWORD`.
    Number(u64),
    /// `REG_MULTI_SZ`.
    List(Vec<String>),
    /// Anything else.
    Other,
}

/// A line that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: &'static str,
}

/// The file is no registry export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it does not begin with \"Windows Registry Editor Version 5.00\" or \"REGEDIT4\": export the \
     keys with regedit or `reg export`"
)]
pub struct NoExport;

impl Export {
    /// Reads a file. Of its keys those are kept that `wanted` wants, which is
    /// asked in lower case.
    ///
    /// # Errors
    /// See [`NoExport`].
    pub fn read(bytes: &[u8], wanted: impl Fn(&str) -> bool) -> Result<Self, NoExport> {
        let text = decode(bytes);
        let mut reader = Reader { rest: &text, line: 1 };
        let unicode = reader.header()?;
        let mut export = Self::default();
        let mut key = None;
        while let Some(statement) = reader.statement(unicode) {
            match statement {
                Statement::Key(name) => key = Some(name).filter(|name| wanted(&fold(name))),
                Statement::NoKey(name) => {
                    export.forget(&fold(name));
                    key = None;
                }
                Statement::Value(name, value) => {
                    if let Some(key) = key {
                        export.set(key, name, value);
                    }
                }
                Statement::Unread(unread) => {
                    if key.is_some() {
                        export.unread.push(unread);
                    }
                }
            }
        }
        Ok(export)
    }

    /// The keys that have values, by their names in lower case and as they were
    /// written, with their values.
    pub fn keys(&self) -> impl Iterator<Item = (&str, &str, impl Iterator<Item = &Entry>)> {
        self.keys.iter().map(|(folded, key)| (&**folded, &*key.name, key.values.values()))
    }

    /// Adds another export, whose word counts where both have one.
    pub fn add(&mut self, other: Self) {
        for (folded, key) in other.keys {
            match self.keys.entry(folded) {
                Slot::Occupied(mut slot) => slot.get_mut().values.extend(key.values),
                Slot::Vacant(slot) => _ = slot.insert(key),
            }
        }
        self.unread.extend(other.unread);
    }

    fn set(&mut self, key: &str, name: String, value: Option<Value>) {
        let named = || Key { name: key.to_owned(), ..Key::default() };
        let values = &mut self.keys.entry(fold(key)).or_insert_with(named).values;
        match value {
            Some(value) => values.insert(fold(&name), Entry { name, value }),
            None => values.remove(&fold(&name)),
        };
    }

    /// A key that is deleted goes with all below it.
    fn forget(&mut self, gone: &str) {
        self.keys.retain(|key, _| {
            key.strip_prefix(gone).is_none_or(|below| !below.is_empty() && !below.starts_with('\\'))
        });
    }
}

fn fold(text: &str) -> String {
    text.to_lowercase()
}

/// By the mark at its beginning; without one it is UTF-8, or else what ANSI is in
/// the West.
fn decode(bytes: &[u8]) -> String {
    let units = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let (units, _) = bytes.as_chunks::<2>();
        String::from_utf16_lossy(&units.iter().map(|pair| unit(*pair)).collect::<Vec<_>>())
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => units(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => units(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        _ => std::str::from_utf8(bytes).map_or_else(|_| ansi(bytes), str::to_owned),
    }
}

fn ansi(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// What one line, or several that belong together, says.
#[derive(Debug)]
enum Statement<'t> {
    Key(&'t str),
    NoKey(&'t str),
    /// `None`: it is deleted.
    Value(String, Option<Value>),
    Unread(Unread),
}

#[derive(Debug)]
struct Reader<'t> {
    rest: &'t str,
    line: usize,
}

impl<'t> Reader<'t> {
    /// Is the text of `hex` values UTF-16?
    fn header(&mut self) -> Result<bool, NoExport> {
        let first = loop {
            match self.take_line().map(str::trim) {
                None => return Err(NoExport),
                Some("") => {}
                Some(line) => break line,
            }
        };
        match first {
            "Windows Registry Editor Version 5.00" => Ok(true),
            "REGEDIT4" => Ok(false),
            _ => Err(NoExport),
        }
    }

    /// `None`: that was all.
    fn statement(&mut self, unicode: bool) -> Option<Statement<'t>> {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t']);
            let line = self.line;
            let unread = |why| Some(Statement::Unread(Unread { line, why }));
            match self.rest.chars().next()? {
                '[' => {
                    let named = self.take_line().and_then(|text| text.strip_prefix('['));
                    let name = named.and_then(|text| text.rsplit_once(']')).map(|(name, _)| name);
                    return match name.map(|name| (name, name.strip_prefix('-'))) {
                        Some((_, Some(name))) => Some(Statement::NoKey(name)),
                        Some((name, None)) => Some(Statement::Key(name)),
                        None => unread("a key without its closing bracket"),
                    };
                }
                '"' | '@' => {
                    return match self.named_value(unicode) {
                        Ok((name, value)) => Some(Statement::Value(name, value)),
                        Err(why) => unread(why),
                    };
                }
                '\r' | '\n' | ';' => {
                    self.take_line();
                }
                _ => {
                    self.take_line();
                    return unread("neither a key nor a value");
                }
            }
        }
    }

    /// Takes its lines, whatever it finds.
    fn named_value(&mut self, unicode: bool) -> Result<(String, Option<Value>), &'static str> {
        let name = self.name().inspect_err(|_| _ = self.take_line())?;
        if !self.rest.starts_with('"') {
            let data = self.unquoted();
            return Ok((name, unquoted_value(&data, unicode)?));
        }
        let text = self.quoted();
        let tail = self.take_line().unwrap_or_default().trim_start();
        let text = text?;
        if !tail.is_empty() && !tail.starts_with(';') {
            return Err("more than one value on a line");
        }
        Ok((name, Some(Value::Text(text))))
    }

    /// Up to what follows the `=`.
    fn name(&mut self) -> Result<String, &'static str> {
        let name = match self.rest.strip_prefix('@') {
            Some(rest) => {
                self.rest = rest;
                String::new()
            }
            None => self.quoted()?,
        };
        let data = self.rest.trim_start_matches([' ', '\t']).strip_prefix('=');
        self.rest = data.ok_or("a name that no = follows")?.trim_start_matches([' ', '\t']);
        Ok(name)
    }

    /// A text between quotes, which may go over several lines.
    fn quoted(&mut self) -> Result<String, &'static str> {
        let mut text = String::new();
        let mut characters = self.rest.char_indices().skip(1);
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    let (taken, rest) =
                        self.rest.split_at_checked(at + 1).unwrap_or((self.rest, ""));
                    self.line += taken.matches('\n').count();
                    self.rest = rest;
                    return Ok(text);
                }
                '\\' => match characters.next() {
                    Some((_, escaped @ ('\\' | '"'))) => text.push(escaped),
                    // Regedit writes no others; what people write by hand means itself.
                    Some((_, other)) => text.extend(['\\', other]),
                    None => break,
                },
                _ => text.push(character),
            }
        }
        Err("a text without its closing quote")
    }

    /// The rest of the line; of bytes also the lines that a `\` at the end adds.
    fn unquoted(&mut self) -> String {
        let mut data = String::new();
        while let Some(line) = self.take_line() {
            let line = line.split(';').next().unwrap_or_default().trim();
            let begun = data.is_empty();
            match line.strip_suffix('\\') {
                Some(line) if !begun || line.starts_with("hex") => data.push_str(line),
                _ => {
                    data.push_str(line);
                    break;
                }
            }
        }
        data
    }

    fn take_line(&mut self) -> Option<&'t str> {
        if self.rest.is_empty() {
            return None;
        }
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.line += 1;
        Some(line.strip_suffix('\r').unwrap_or(line))
    }
}

fn unquoted_value(data: &str, unicode: bool) -> Result<Option<Value>, &'static str> {
    if data == "-" {
        return Ok(None);
    }
    if let Some(digits) = data.strip_prefix("dword:") {
        let number = u32::from_str_radix(digits, 16).map_err(|_| "a dword that is no number")?;
        return Ok(Some(Value::Number(number.into())));
    }
    let (kind, bytes) = data
        .strip_prefix("hex")
        .and_then(|data| data.split_once(':'))
        .ok_or("a value of no known kind")?;
    let bytes = bytes
        .split(',')
        .map(str::trim)
        .filter(|byte| !byte.is_empty())
        .map(|byte| u8::from_str_radix(byte, 16).map_err(|_| "bytes that are no numbers"))
        .collect::<Result<Vec<_>, _>>()?;
    let text = |bytes: &[u8]| match unicode {
        true => String::from_utf16_lossy(&words(bytes)),
        false => ansi(bytes),
    };
    // winnt.h: REG_SZ 1, REG_EXPAND_SZ 2, REG_DWORD 4, REG_MULTI_SZ 7, REG_QWORD 11.
    Ok(Some(match (kind, &*bytes) {
        ("(1)" | "(2)", bytes) => {
            Value::Text(text(bytes).split('\0').next().unwrap_or_default().to_owned())
        }
        ("(7)", bytes) => {
            let text = text(bytes);
            Value::List(text.split('\0').filter(|it| !it.is_empty()).map(str::to_owned).collect())
        }
        ("(4)", &[a, b, c, d]) => Value::Number(u32::from_le_bytes([a, b, c, d]).into()),
        ("(b)", &[a, b, c, d, e, f, g, h]) => {
            Value::Number(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
        }
        _ => Value::Other,
    }))
}

fn words(bytes: &[u8]) -> Vec<u16> {
    let (pairs, _) = bytes.as_chunks::<2>();
    pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect()
}

#[cfg(test)]
mod tests;
