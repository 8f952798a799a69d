//! Exports as regedit writes them, as people write them, and any bytes at all.

use super::*;
use proptest::prelude::*;

const KEY: &str = r"HKEY_LOCAL_MACHINE\SOFTWARE\X";
const FOLDED: &str = r"hkey_local_machine\software\x";

fn read(text: &str) -> Export {
    Export::read(text.as_bytes(), |_| true).unwrap()
}

fn body(lines: &str) -> Export {
    read(&format!("Windows Registry Editor Version 5.00\r\n\r\n[{KEY}]\r\n{lines}"))
}

/// The values of the key, by their names in lower case.
fn values(export: &Export) -> Vec<(&str, &Value)> {
    let values = export.keys.get(FOLDED).into_iter().flat_map(|key| &key.values);
    values.map(|(name, entry)| (&**name, &entry.value)).collect()
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

#[test]
fn every_kind_of_value_is_read() {
    let export = body(concat!(
        "@=\"default\"\r\n",
        "\"Number\"=dword:0000001f\r\n",
        "\"Text\"=\"C:\\\\Program Files\\\\a \\\"b\\\".exe\"\r\n",
        "\"Lines\"=\"one\r\ntwo\"\r\n",
        "\"Expand\"=hex(2):25,00,50,00,25,00,00,00\r\n",
        "\"Multi\"=hex(7):61,00,2e,00,65,00,78,00,65,00,00,00,62,00,\\\r\n",
        "  2e,00,65,00,78,00,65,00,00,00,00,00\r\n",
        "\"Hex4\"=hex(4):01,00,00,00\r\n",
        "\"Quad\"=hex(b):01,00,00,00,00,00,00,80\r\n",
        "\"Binary\"=hex:01,02\r\n",
        "\"Empty\"=hex(7):00,00\r\n",
    ));
    let expected = [
        ("", text("default")),
        ("binary", Value::Other),
        ("empty", Value::List(vec![])),
        ("expand", text("%P%")),
        ("hex4", Value::Number(1)),
        ("lines", text("one\r\ntwo")),
        ("multi", Value::List(vec!["a.exe".into(), "b.exe".into()])),
        ("number", Value::Number(31)),
        ("quad", Value::Number(0x8000_0000_0000_0001)),
        ("text", text("C:\\Program Files\\a \"b\".exe")),
    ];
    assert_eq!(values(&export), expected.each_ref().map(|(name, value)| (*name, value)));
    assert_eq!(export.unread, []);
}

#[test]
fn encodings_are_told_by_their_marks() {
    let text = format!("Windows Registry Editor Version 5.00\n[{KEY}]\n\"ä\"=\"ö\"\n");
    let utf16 = |mark: u16, bytes: fn(u16) -> [u8; 2]| {
        [mark].into_iter().chain(text.encode_utf16()).flat_map(bytes).collect::<Vec<u8>>()
    };
    let marked = [&[0xef, 0xbb, 0xbf], text.as_bytes()].concat();
    let latin: Vec<u8> = text.chars().map(|character| u8::try_from(character).unwrap()).collect();
    for bytes in [
        utf16(0xfeff, u16::to_le_bytes),
        utf16(0xfeff, u16::to_be_bytes),
        marked,
        text.clone().into_bytes(),
        latin,
    ] {
        let export = Export::read(&bytes, |_| true).unwrap();
        assert_eq!(values(&export), [("ä", &Value::Text("ö".into()))]);
    }
}

#[test]
fn the_old_form_has_ansi_in_its_bytes() {
    let export = read(&format!("REGEDIT4\n\n[{KEY}]\n\"M\"=hex(7):61,00,62,e4,00,00\n"));
    assert_eq!(values(&export), [("m", &Value::List(vec!["a".into(), "bä".into()]))]);
}

#[test]
fn the_last_word_counts_and_what_is_deleted_is_gone() {
    let export = body(concat!(
        "\"a\"=dword:1\r\n\"A\"=dword:2\r\n\"b\"=dword:3\r\n\"B\"=-\r\n",
        "[HKEY_LOCAL_MACHINE\\SOFTWARE\\X\\Y]\r\n\"c\"=dword:4\r\n",
        "[HKEY_LOCAL_MACHINE\\SOFTWARE\\X\\YZ]\r\n\"d\"=dword:5\r\n",
        "[-HKEY_LOCAL_MACHINE\\software\\X\\Y]\r\n\"lost\"=dword:6\r\n",
    ));
    assert_eq!(values(&export), [("a", &Value::Number(2))]);
    let keys: Vec<_> = export.keys().map(|(folded, name, _)| (folded, name)).collect();
    let below = r"HKEY_LOCAL_MACHINE\SOFTWARE\X\YZ";
    assert_eq!(keys, [(FOLDED, KEY), (&*below.to_lowercase(), below)]);
}

#[test]
fn comments_and_blanks_say_nothing() {
    let export = body("; \"a\"=dword:1\r\n\r\n \t; x\r\n  \"b\" = dword:1 ; one\r\n\"c\"=\"d\" ;e");
    assert_eq!(values(&export), [("b", &Value::Number(1)), ("c", &text("d"))]);
    assert_eq!(export.unread, []);
}

#[test]
fn what_cannot_be_read_is_named_by_its_line_and_the_rest_is_read() {
    let export = body(concat!(
        "\"a\"=dword:xyz\r\n",
        "\"b\"\r\n",
        "c=dword:1\r\n",
        "\"d\"=what\r\n",
        "\"e\"=hex(7):gg\r\n",
        "\"f\"=\"g\" \"h\"\r\n",
        "[no end\r\n",
        "\"i\"=dword:1\r\n",
        "\"j\"=\"no end\r\n",
    ));
    assert_eq!(values(&export), [("i", &Value::Number(1))]);
    let lines: Vec<_> = export.unread.iter().map(|unread| unread.line).collect();
    assert_eq!(lines, [4, 5, 6, 7, 8, 9, 10, 12]);
}

#[test]
fn only_what_is_wanted_is_kept() {
    let text =
        format!("REGEDIT4\n[{KEY}]\n\"a\"=dword:1\n[HKEY_USERS\\Y]\n\"b\"=dword:1\nrubbish\n");
    let export = Export::read(text.as_bytes(), |key| key == FOLDED).unwrap();
    assert_eq!(export.keys().count(), 1);
    assert_eq!(export.unread, []);
}

#[test]
fn another_file_is_no_export() {
    for other in ["", "\n\n", "[pool]\nranges = []\n", "Windows Registry Editor Version 6"] {
        assert_eq!(Export::read(other.as_bytes(), |_| true), Err(NoExport));
    }
}

/// A text as regedit writes it.
fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"")
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        head in "|REGEDIT4\n|Windows Registry Editor Version 5.00\r\n\\[a\\]\n",
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = Export::read(&[head.as_bytes(), &*bytes].concat(), |_| true);
    }

    #[test]
    fn rubbish_hides_nothing_that_follows(
        lines in proptest::collection::vec(r#"[\[\]@=;,:a-zA-Z0-9\- \t\\]{0,20}"#, 0..12),
    ) {
        let export = body(&format!("{}\n[{KEY}]\n\"last\"=dword:7\n", lines.join("\n")));
        // A continued line takes the next one with it, which is the key's at most.
        let continued = lines.iter().any(|line| line.starts_with('@') && line.contains("hex"));
        prop_assert!(continued || values(&export).contains(&("last", &Value::Number(7))));
    }

    #[test]
    fn texts_come_back(name in "[^\0]{1,20}", data in "[^\0]{0,40}") {
        let export = body(&format!("\"{}\"=\"{}\"\r\n", escaped(&name), escaped(&data)));
        prop_assert_eq!(values(&export), [(&*name.to_lowercase(), &Value::Text(data))]);
    }

    #[test]
    fn lists_come_back(list in proptest::collection::vec("[^\0]{1,20}", 0..6)) {
        let joined: String = list.iter().map(|text| format!("{text}\0")).collect::<String>() + "\0";
        let bytes: Vec<_> =
            joined.encode_utf16().flat_map(u16::to_le_bytes).map(|b| format!("{b:02x}")).collect();
        // Regedit breaks lines after a comma, at 80 columns.
        let hex = bytes.chunks(20).map(|line| line.join(",")).collect::<Vec<_>>().join(",\\\r\n  ");
        let export = body(&format!("\"List\"=hex(7):{hex}\r\n"));
        prop_assert_eq!(values(&export), [("list", &Value::List(list))]);
    }
}
