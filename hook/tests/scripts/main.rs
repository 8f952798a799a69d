//! Does `script_of()` answer the table of cases?

#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

/// The table.
mod table;

use sessionip_hook::script::{rule_of, script_of};
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
fn windows_names_interpreters_otherwise() {
    for (program, arguments, script) in [
        (r"python.exe", vec!["-u", r"C:\crm\crm.py"], Some(r"C:\crm\crm.py")),
        (r"PythonW.EXE", vec!["crm.py"], Some("crm.py")),
        (r"javaw.exe", vec!["-jar", r"C:\crm\crm.jar"], Some(r"C:\crm\crm.jar")),
        (r"node.exe", vec!["-e", "crm.js"], None),
    ] {
        assert_eq!(script_of(rule_of(program).unwrap(), arguments), script, "{program}");
    }
    assert!(rule_of("notepad.exe").is_none());
}
