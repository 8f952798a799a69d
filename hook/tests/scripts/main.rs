//! Do `script_of()` and `script_in()` answer the tables of cases?

#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

/// The table of command lines.
mod lines;
/// The table of arguments.
mod table;
/// What processes say of themselves.
#[cfg(windows)]
mod windows;

use lines::Lines;
use sessionip_hook::script::{absolute, is_interpreter, rule_of, script_in, script_of, words};
use table::Table;

#[test]
fn every_case_is_answered_as_the_table_says() {
    let table = Table::read();
    assert!(table.case.len() >= 40);
    for case in &table.case {
        let arguments = case.arguments();
        let arguments = arguments.iter().map(String::as_str);
        let script = rule_of(&case.program).and_then(|rule| script_of(rule, arguments));
        assert_eq!(script, case.file.as_deref(), "{case:?}");
    }
}

#[test]
fn every_line_is_answered_as_the_table_says() {
    let table = Lines::read();
    assert!(table.case.len() >= 50);
    for case in &table.case {
        let script = script_in(&case.program(), &case.line);
        assert_eq!(script.as_deref(), case.file.as_deref(), "{case:?}");
    }
}

/// On Windows the same arguments come as one line, and mean the same.
#[test]
fn arguments_and_their_line_say_the_same() {
    for case in &Table::read().case {
        let arguments = case.arguments();
        let quoted = arguments.iter().map(|argument| format!(" \"{argument}\""));
        let line = std::iter::once("program".to_owned()).chain(quoted).collect::<String>();
        assert_eq!(words(&line)[1..], arguments, "{line}");
        let script = script_in(&format!("{}.EXE", case.program), &line);
        assert_eq!(script.as_deref(), case.file.as_deref(), "{case:?}");
    }
}

#[test]
fn windows_names_interpreters_otherwise() {
    for name in ["python.exe", "PythonW.EXE", "py.exe", "javaw.exe", "cmd.exe", "PWSH.exe"] {
        assert!(is_interpreter(name), "{name}");
    }
    for name in ["notepad.exe", "python.dll", "cmd7.exe", "", ".exe"] {
        assert!(!is_interpreter(name), "{name}");
    }
    assert!(rule_of("powershell").is_none(), "the kernel side of Linux does not read it");
}

#[test]
fn a_path_is_read_from_its_folder() {
    for (folder, path, full) in [
        (r"C:\crm\", "x.py", Some(r"C:\crm\x.py")),
        (r"C:\crm", r".\a/..\x.py", Some(r"C:\crm\x.py")),
        (r"C:\crm", r"..\..\..\x.py", Some(r"C:\x.py")),
        (r"C:\", "x.py", Some(r"C:\x.py")),
        (r"C:\crm", r"D:\a\x.py", Some(r"D:\a\x.py")),
        (r"C:\crm", r"\a\x.py", Some(r"C:\a\x.py")),
        (r"C:\crm", r"c:x.py", Some(r"C:\crm\x.py")),
        (r"C:\crm", r"D:x.py", None),
        (r"\\server\share\crm\", "x.py", Some(r"\\server\share\crm\x.py")),
        (r"\\server\share\crm", r"..\..\..\x.py", Some(r"\\server\share\x.py")),
        (r"\\server\share\crm", r"\x.py", Some(r"\\server\share\x.py")),
        (r"C:\crm", "//server/share/x.py", Some(r"\\server\share\x.py")),
        (r"C:\crm", r"\\?\C:\a\x.py", Some(r"C:\a\x.py")),
        (r"C:\crm", r"\\?\unc\server\share\x.py", Some(r"\\server\share\x.py")),
        (r"\\?\C:\crm", "x.py", Some(r"C:\crm\x.py")),
        (r"C:\crm", "x.py. .", Some(r"C:\crm\x.py")),
        (r"C:\Größe", "Maß.py", Some(r"C:\Größe\Maß.py")),
        ("", "x.py", None),
        ("crm", "x.py", None),
        ("", r"\x.py", None),
        ("", r"C:\x.py", Some(r"C:\x.py")),
        (r"C:\crm", "", Some(r"C:\crm")),
        (r"C:\crm", "ü", Some(r"C:\crm\ü")),
    ] {
        assert_eq!(absolute(folder, path).as_deref(), full, "{path} in {folder}");
    }
}

/// Whatever a program is handed, it is read to its end.
#[test]
fn any_line_is_read() {
    let mut seed = 7_u64;
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize % below
    };
    let letters = ['"', '\\', ' ', '\t', '/', '-', 'c', 'f', '.', 'ß', '😀', '\'', '&', 'é'];
    for _ in 0..20_000 {
        let line: String = (0..next(24)).map(|_| letters[next(letters.len())]).collect();
        for program in ["cmd.exe", "powershell", "pwsh", "cscript", "python", "java", "x"] {
            let _ = script_in(program, &format!("x /c {line}"));
            if let Some(script) = script_in(program, &line) {
                let _ = absolute(&line, &script);
            }
        }
    }
}
