//! What do the commands print? Snapshots, in `tests/cli/`; `SNAPSHOTS=overwrite
//! cargo test --test cli` writes them anew.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use snapbox::{Data, IntoData, assert_data_eq, file};
use std::path::Path;
use std::process::{Command, Output};

/// The built executable, where the wrong files are.
fn sessionip(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sessionip"));
    command.args(words).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli"));
    command.env_remove("CLICOLOR_FORCE").output().unwrap()
}

fn said(words: &[&str]) -> String {
    let output = sessionip(words);
    String::from_utf8(output.stdout).unwrap()
}

fn complained(words: &[&str]) -> String {
    let output = sessionip(words);
    assert!(!output.status.success() && output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn help() {
    let snapshots: [(&str, Data); 11] = [
        ("run", file!["cli/help-run.txt"]),
        ("lab", file!["cli/help-lab.txt"]),
        ("exec", file!["cli/help-exec.txt"]),
        ("status", file!["cli/help-status.txt"]),
        ("sessions", file!["cli/help-sessions.txt"]),
        ("flows", file!["cli/help-flows.txt"]),
        ("sockets", file!["cli/help-sockets.txt"]),
        ("check-config", file!["cli/help-check-config.txt"]),
        ("import", file!["cli/help-import.txt"]),
        ("reload", file!["cli/help-reload.txt"]),
        ("peer", file!["cli/help-peer.txt"]),
    ];
    assert_data_eq!(said(&["--help"]), file!["cli/help.txt"]);
    for (command, snapshot) in snapshots {
        assert_data_eq!(said(&[command, "--help"]), snapshot);
    }
    assert_eq!(said(&["--version"]), format!("sessionip {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn what_cannot_be_typed() {
    assert_data_eq!(complained(&["statos"]), file!["cli/unknown-command.txt"]);
    assert_data_eq!(complained(&["exec", "--", "true"]), file!["cli/exec-without-session.txt"]);
    assert_data_eq!(complained(&["exec", "--session", "1"]), file!["cli/exec-without-command.txt"]);
    assert_data_eq!(complained(&["status", "--config", "absent.toml"]), file!["cli/no-config.txt"]);
    assert_eq!(sessionip(&["statos"]).status.code(), Some(2));
}

#[test]
fn a_configuration_is_checked() {
    assert_data_eq!(said(&["check-config", "wrong.toml"]), file!["cli/check-wrong.txt"]);
    assert_eq!(sessionip(&["check-config", "wrong.toml"]).status.code(), Some(1));
    assert_data_eq!(
        said(&["check-config", "--json", "wrong.toml"]).is_json(),
        file!["cli/check-wrong.json"]
    );
    assert_data_eq!(said(&["check-config", "absent.toml"]), file!["cli/check-absent.txt"]);
    assert_eq!(sessionip(&["check-config", "absent.toml"]).status.code(), Some(1));
}

#[test]
fn what_this_machine_lacks_is_only_a_warning() {
    let output = sessionip(&["check-config", "elsewhere.toml"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("warning:") && !text.contains("error:"), "{text}");
    let json = said(&["check-config", "--json", "elsewhere.toml"]);
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["ok"], true);
    assert_eq!(report["findings"][0]["severity"], "warning");
}

#[test]
fn a_registry_becomes_a_configuration_that_check_config_accepts() {
    let snapshots: [(&str, Data, Data); 2] = [
        ("citrix", file!["cli/import/citrix.toml"], file!["cli/import/citrix.txt"]),
        ("microsoft", file!["cli/import/microsoft.toml"], file!["cli/import/microsoft.txt"]),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (name, configuration, notes) in snapshots {
        let export = format!("import/{name}.reg");
        let output = sessionip(&["import", "--registry", &export]);
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert_data_eq!(&text, configuration.raw());
        assert_data_eq!(String::from_utf8(output.stderr).unwrap(), notes.raw());

        // Without ranges it is refused with the one advice that helps.
        let file = folder.path().join(format!("{name}.toml"));
        let path = file.to_str().unwrap();
        assert!(sessionip(&["import", "--registry", &export, "--output", path]).status.success());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        let json: serde_json::Value =
            serde_json::from_str(&said(&["check-config", "--json", path])).unwrap();
        let errors: Vec<_> = json["findings"].as_array().unwrap().iter().collect();
        let errors: Vec<_> = errors.into_iter().filter(|it| it["severity"] == "error").collect();
        assert_eq!(errors.len(), 1, "{json}");
        assert_eq!(errors[0]["key"], "pool.ranges");

        // Nothing is written over.
        let again = sessionip(&["import", "--registry", &export, "--output", path]);
        assert_eq!(again.status.code(), Some(1));
        assert!(String::from_utf8(again.stderr).unwrap().contains("exists"));

        let whole = folder.path().join(format!("{name}-whole.toml"));
        let path = whole.to_str().unwrap();
        let ranges = ["--range", "192.0.2.100-192.0.2.120", "--range", "192.0.2.130-192.0.2.140"];
        let words = [&["import", "--registry", &export, "--output", path][..], &ranges].concat();
        assert!(sessionip(&words).status.success());
        let checked = sessionip(&["check-config", path]);
        assert!(checked.status.success(), "{checked:?}");
    }
}

#[test]
fn what_cannot_be_imported_is_refused_with_a_next_step() {
    let import = |file: &str| complained(&["import", "--registry", file]);
    assert_data_eq!(import("import/other.reg"), file!["cli/import/other.txt"].raw());
    assert_data_eq!(import("wrong.toml"), file!["cli/import/no-export.txt"]);
    assert_data_eq!(import("absent.reg"), file!["cli/import/absent.txt"]);
    let words = ["import", "--registry", "import/microsoft.reg", "--range", "192.0.2.9"];
    assert_data_eq!(complained(&words), file!["cli/import/wrong-range.txt"]);
}
