//! Does the file have the keys and types that the schema names, and where?
//!
//! serde stops at the first problem. Here the TOML tree is walked against the
//! JSON schema of [`File`](super::file::File) first; every part that does not
//! fit is a finding and is taken out, so that the rest is read and checked too.

use super::finding::Finding;
use serde_json::Value;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

/// Takes out of `root` whatever `schema` does not know, one finding for each.
pub(super) fn prune(schema: &Value, root: &mut DeTable<'_>, findings: &mut Vec<Finding>) {
    Walk { root: schema, findings }.table(schema, root, "");
}

struct Walk<'s, 'f> {
    root: &'s Value,
    findings: &'f mut Vec<Finding>,
}

impl Walk<'_, '_> {
    fn table(&mut self, schema: &Value, table: &mut DeTable<'_>, section: &str) {
        let entries = std::mem::take(table).into_iter().filter_map(|(name, mut value)| {
            let Some(schema) = property(schema, name.get_ref()) else {
                self.unknown_key(schema, section, &name);
                return None;
            };
            let key = dotted(section, name.get_ref());
            self.fits(schema, &mut value, &key).then_some((name, value))
        });
        *table = entries.collect();
    }

    /// Whether a value has the type of its schema; what does not fit inside a
    /// table or a list is taken out of it.
    fn fits(&mut self, schema: &Value, value: &mut Spanned<DeValue<'_>>, key: &str) -> bool {
        let found = value.get_ref().type_str();
        let (message, help) = match (kind(schema), value.get_mut()) {
            ("object", DeValue::Table(table)) => {
                self.table(schema, table, key);
                return true;
            }
            ("array", DeValue::Array(list)) => {
                let schema = schema.get("items").unwrap_or(&Value::Null);
                let items = std::mem::replace(list, DeArray::new()).into_iter();
                let fitting =
                    items.filter_map(|mut item| self.fits(schema, &mut item, key).then_some(item));
                *list = fitting.collect();
                return true;
            }
            ("boolean", DeValue::Boolean(_)) => return true,
            ("integer", DeValue::Integer(number)) => {
                if i64::from_str_radix(number.as_str(), number.radix()).is_ok() {
                    return true;
                }
                (
                    "a number that large is more than 64 bits hold".into(),
                    "write a smaller one".into(),
                )
            }
            ("string", DeValue::String(word)) => {
                let words = words(schema);
                if words.is_empty() || words.contains(&&**word) {
                    return true;
                }
                let all = || format!("write one of: {}", words.join(", "));
                (
                    format!("{key} cannot be {word:?}"),
                    did_you_mean(word, &words).unwrap_or_else(all),
                )
            }
            (expected, _) => {
                let (expected, help) = described(expected);
                let message = format!("{expected} is expected here, not {}", described(found).0);
                (message, help.into())
            }
        };
        self.findings.push(Finding::error(key, message, help).bytes(value.span()));
        false
    }

    fn unknown_key(&mut self, schema: &Value, section: &str, name: &Spanned<DeString<'_>>) {
        let typed = name.get_ref();
        let known: Vec<_> = properties(schema).map(|(name, _)| name).collect();
        let elsewhere = || {
            let (home, _) =
                properties(self.root).find(|(_, section)| property(section, typed).is_some())?;
            Some(format!("{typed} belongs to [{home}]"))
        };
        let help = did_you_mean(typed, &known)
            .or_else(elsewhere)
            .unwrap_or_else(|| format!("the keys here are: {}", known.join(", ")));
        let key = dotted(section, typed);
        let message = format!("{key} is not a key of this file");
        self.findings.push(Finding::error(key, message, help).bytes(name.span()));
    }
}

/// The known word that is nearest to `typed`, if one is near at all.
fn did_you_mean(typed: &str, known: &[&str]) -> Option<String> {
    // No word is that long, and measuring takes the product of both lengths.
    if typed.len() > 64 {
        return None;
    }
    let distance = |word: &&&str| strsim::damerau_levenshtein(typed, word);
    let nearest = known.iter().min_by_key(distance)?;
    let near = (nearest.len() / 3).max(1);
    (distance(&nearest) <= near).then(|| format!("did you mean {nearest}?"))
}

/// A type as people say it, and how one is written.
fn described(kind: &str) -> (&str, &'static str) {
    match kind {
        "string" => ("a text", "write it between quotes: \"...\""),
        "integer" => ("a whole number", "write digits only, without quotes"),
        "boolean" => ("true or false", "write true or false, without quotes"),
        "array" => ("a list", "write it between brackets: [\"...\", \"...\"]"),
        "object" | "table" => ("a section", "write [section], and its keys below it"),
        "float" => ("a number with a point", ""),
        "datetime" => ("a time", ""),
        other => (other, ""),
    }
}

/// The bytes of a key's value, or of one item of its list. Where it is not in
/// the file: the section that lacks it, else the start of the file.
pub(super) fn locate(root: &DeTable<'_>, key: &str, item: Option<usize>) -> Range<usize> {
    let mut table = Some(root);
    let mut place = 0..0;
    for name in key.split('.') {
        let Some((name, value)) = table.and_then(|table| table.get_key_value(name)) else {
            return place;
        };
        let list = value.get_ref().as_array();
        let item = item.and_then(|index| list?.get(index));
        place = match value.get_ref().as_table() {
            Some(_) => name.span(),
            None => item.unwrap_or(value).span(),
        };
        table = value.get_ref().as_table();
    }
    place
}

/// An enum of words has no type of its own: each of its words has.
fn kind(schema: &Value) -> &str {
    schema.get("type").and_then(Value::as_str).unwrap_or("string")
}

fn properties(schema: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.into_iter().flatten().map(|(name, schema)| (&**name, schema))
}

fn property<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    schema.get("properties")?.get(name)
}

/// The words that a value may be; none: any text.
fn words(schema: &Value) -> Vec<&str> {
    let words = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    words.filter_map(|word| word.get("const")?.as_str()).collect()
}

fn dotted(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}
