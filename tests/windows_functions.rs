//! Is `driver-notes/windows-under-wine.md` complete: does it say of every function
//! of Windows and of WinDivert that we call how a test under Wine reaches it?
//!
//! What is called is read from the sources: names imported from `windows_sys` that
//! are followed by a parenthesis, and names that are looked up in a DLL.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use sessionip_hook::section::NAME;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the product's sources are.
const SOURCES: [&str; 3] = ["src", "hook/src", "hook/dll/src"];
const NOTE: &str = "driver-notes/windows-under-wine.md";
/// How a function can be reached; there is no word for "not at all".
const REACHED: [&str; 2] = ["real", "stand-in"];

/// Who calls what.
type Calls = BTreeMap<String, BTreeSet<String>>;

#[test]
fn every_function_is_in_the_note_with_its_callers_and_how_it_is_reached() {
    let (called, told) = (called(), told());
    let mut wrong = Vec::new();
    for (function, callers) in &called {
        match told.get(function) {
            None => wrong.push(format!("missing: {function}, called in {}", list(callers))),
            Some(row) if row.callers != *callers => wrong.push(format!(
                "{function} is called in {}, and the note says {}",
                list(callers),
                list(&row.callers)
            )),
            Some(row) if !REACHED.contains(&row.reached.as_str()) || row.by.is_empty() => {
                wrong.push(format!("{function}: how is it reached? {:?}", row.reached));
            }
            Some(_) => {}
        }
    }
    for function in told.keys().filter(|&function| !called.contains_key(function)) {
        wrong.push(format!("stale: {function} is called nowhere"));
    }
    assert!(wrong.is_empty(), "{NOTE}:\n{}", wrong.join("\n"));
}

/// The name changes with what lies in the section.
#[test]
fn notes_call_the_section_as_the_hook_does() {
    let (stem, _) = NAME.rsplit_once('-').unwrap();
    let mut told = 0;
    for note in fs::read_dir("driver-notes").unwrap() {
        let note = note.unwrap().path();
        let text = fs::read_to_string(&note).unwrap_or_default();
        for (at, _) in text.match_indices(stem) {
            let rest = &text[at..];
            let end = rest.find(['`', ' ', '"']).unwrap();
            assert_eq!(&rest[..end], NAME, "{}", note.display());
            told += 1;
        }
    }
    assert!(told > 0, "no note names it");
}

#[test]
fn what_is_called_is_seen_however_it_is_written() {
    let calls = calls_in(
        "use windows_sys::core::BOOL;\n\
         use windows_sys::Win32::{\n    Foundation::{HANDLE, SetLastError as Set},\n    \
         System::IO::{CancelIoEx, OVERLAPPED},\n};\n\
         // WaitForSingleObject(handle)\n\
         use windows_sys::Win32::System::Threading::{CreateEventW, WaitForSingleObject};\n\
         fn f() { unsafe { Set(0); CancelIoEx(a, b); windows_sys::Win32::Foundation::CloseHandle(a) } }\n\
         static MAKE: Make = CreateEventW;\n\
         fn g(module: HMODULE) { look(module, c\"WinDivertOpen\"); GetProcAddress(m, c\"LoadLibraryW\") }\n\
         #[cfg(test)]\nmod tests { use windows_sys::Win32::System::IO::GetOverlappedResult; \
         fn t() { GetOverlappedResult() } }\n\
         #[cfg(test)]\npub(crate) use tests::probe;\nfn h() { WaitForSingleObject(a) }",
    );
    let calls: Vec<_> = calls.iter().map(String::as_str).collect();
    let expected = [
        "CancelIoEx",
        "CloseHandle",
        "CreateEventW",
        "LoadLibraryW",
        "SetLastError",
        "WaitForSingleObject",
        "WinDivertOpen",
    ];
    assert_eq!(calls, expected);
}

fn list(files: &BTreeSet<String>) -> String {
    files.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// A row of the note.
struct Row {
    callers: BTreeSet<String>,
    reached: String,
    by: String,
}

/// `| function | callers | reached | by |`, for each.
fn told() -> BTreeMap<String, Row> {
    let note = fs::read_to_string(root().join(NOTE)).unwrap();
    let mut rows = BTreeMap::new();
    for line in note.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [function, callers, reached, by] = cells[..] else {
            panic!("{NOTE}: a row of a function has four cells: {line}")
        };
        let callers = callers.split(", ").map(|name| name.trim_matches('`').to_owned()).collect();
        let row = Row { callers, reached: reached.into(), by: by.into() };
        let function = function.trim_matches('`').to_owned();
        assert!(rows.insert(function.clone(), row).is_none(), "{NOTE} has {function} twice");
    }
    assert!(rows.len() > 50, "the table is gone");
    rows
}

fn called() -> Calls {
    let mut files = Vec::new();
    for folder in SOURCES {
        rust_files(&root().join(folder), &mut files);
    }
    assert!(files.len() > 100, "the sources are gone");
    let mut called = Calls::new();
    for file in files {
        let name = file.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        for function in calls_in(&fs::read_to_string(&file).unwrap()) {
            called.entry(function).or_default().insert(name.clone());
        }
    }
    called
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Those of the product: tests have files of their own, by these names.
fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            rust_files(&path, files);
        } else if name.ends_with(".rs") && !["tests.rs", "stood_in.rs"].contains(&name) {
            files.push(path);
        }
    }
}

/// The functions that a file calls, but for its tests.
fn calls_in(text: &str) -> BTreeSet<String> {
    let lines: Vec<_> = text.lines().map(|line| line.split("//").next().unwrap()).collect();
    let text = without_tests(&lines.join("\n"));

    // By what they are called here.
    let mut imported = BTreeMap::new();
    let mut body = String::new();
    for statement in text.split_inclusive(';') {
        let (before, tree) = statement.split_once("use windows_sys::").unwrap_or((statement, ""));
        body.push_str(before);
        imported.extend(leaves(tree));
    }
    let words = words(&body);
    let mut path = "";
    let mut called = looked_up(&text);
    for (index, &(word, after)) in words.iter().enumerate() {
        let in_path = index > 0 && words[index - 1].1.starts_with("::");
        if !in_path {
            path = word;
        }
        let name = match imported.get(word) {
            Some(name) if !in_path => name.as_str(),
            _ if path == "windows_sys" => word,
            _ => continue,
        };
        if is_function(name) && !after.starts_with("::") {
            called.insert(name.to_owned());
        }
    }
    called
}

/// A file without what is built for tests only.
fn without_tests(text: &str) -> String {
    let mut parts = text.split("#[cfg(test)]");
    let mut rest = parts.next().unwrap().to_owned();
    for part in parts {
        let mut depth = 0;
        let end = part.find(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ';' && depth == 0 || c == '}' && depth <= 0
        });
        rest.push_str(&part[end.map_or(part.len(), |end| end + 1)..]);
    }
    rest
}

/// The names that a `use` brings: (here, there).
fn leaves(tree: &str) -> Vec<(String, String)> {
    let words = words(tree);
    let mut leaves = Vec::new();
    for (index, &(word, after)) in words.iter().enumerate() {
        let renamed = index > 0 && words[index - 1].0 == "as";
        if word == "as" || renamed || after.starts_with("::") {
            continue;
        }
        let here = match words.get(index + 1..index + 3) {
            Some(&[("as", _), (here, _)]) => here,
            _ => word,
        };
        leaves.push((here.to_owned(), word.to_owned()));
    }
    leaves
}

/// Words, each with what stands between it and the next one, without blanks.
fn words(text: &str) -> Vec<(&str, &str)> {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut words = Vec::new();
    let mut rest = text.trim_start_matches(|c| !in_word(c));
    while !rest.is_empty() {
        let end = rest.find(|c| !in_word(c)).unwrap_or(rest.len());
        let next = rest[end..].find(in_word).map_or(rest.len(), |next| end + next);
        words.push((&rest[..end], rest[end..next].trim()));
        rest = &rest[next..];
    }
    words
}

/// Windows names functions in camel case, types and constants in capitals. The few
/// constants in camel case are known by their families.
fn is_function(name: &str) -> bool {
    const CONSTANTS: [&str; 9] = [
        "ComputerName",
        "IpDadState",
        "Process",
        "Token",
        "WTSActive",
        "WTSClientProtocolType",
        "WTSConnected",
        "WTSDisconnected",
        "WTSSessionInfo",
    ];
    const FUNCTIONS: [&str; 3] = ["Process32FirstW", "Process32NextW", "ProcessIdToSessionId"];
    let is_constant = CONSTANTS.iter().any(|family| name.starts_with(family))
        || name.starts_with("Win") && name.ends_with("Sid");
    BERKELEY.contains(&name)
        || name.starts_with(|first: char| first.is_uppercase())
            && name.contains(|letter: char| letter.is_lowercase())
            && (!is_constant || FUNCTIONS.contains(&name))
}

/// What Windows has from Berkeley is in small letters, like much else.
const BERKELEY: [&str; 12] = [
    "bind",
    "connect",
    "freeaddrinfo",
    "getaddrinfo",
    "gethostbyaddr",
    "gethostbyname",
    "getnameinfo",
    "getpeername",
    "getsockname",
    "getsockopt",
    "sendto",
    "socket",
];

/// The names in `c"..."`, which is how functions are looked up in a DLL: none of our
/// own DLL's, which have an underscore, and no word of a filter.
fn looked_up(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, mark) in text.match_indices("c\"") {
        let name = text[at + mark.len()..].split('"').next().unwrap();
        let is_name = name.chars().all(|c| c.is_ascii_alphanumeric());
        if is_name && is_function(name) {
            names.insert(name.to_owned());
        }
    }
    names
}
