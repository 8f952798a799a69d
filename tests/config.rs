//! The configuration as its users meet it: what is wrong with a file, what the
//! shipped files say, and what `check-config` prints.
//!
//! What is expected stands in files; `SNAPSHOTS=overwrite cargo test --test
//! config` writes them anew.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use proptest::prelude::*;
use serde_json::Value;
use sessionip::cli::check_config::check_config;
use sessionip::config::file::{self, File};
use sessionip::config::machine::AdapterView;
use sessionip::config::{Config, ProgramPattern, Severity, UnknownOwner, WhenExhausted};
use sessionip::places;
use snapbox::{Data, assert_data_eq};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

const SMALLEST: &str = "[pool]\nranges = [\"10.77.0.101-10.77.0.199\"]\n";
const REFERENCE: &str = include_str!("../config/sessionip.toml");
const TERMINAL_SERVER: &str = include_str!("../config/linux-terminal-server.toml");
const SESSION_HOST: &str = include_str!("../config/rds.toml");

/// The findings about `text`, drawn; of a usable configuration its warnings.
fn drawn(name: &str, text: &str) -> String {
    let findings = match Config::parse(name, text) {
        Ok((_, warnings)) => warnings,
        Err(findings) => findings,
    };
    findings.iter().map(|finding| format!("{finding}\n\n")).collect()
}

fn parsed(text: &str) -> Config {
    let (config, findings) = Config::parse("test", text).unwrap();
    assert_eq!(findings, []);
    config
}

fn schema() -> Value {
    file::schema().to_value()
}

/// `(key, schema)` of every value, with the key's section.
fn keys(schema: &Value) -> Vec<(String, Value)> {
    let mut keys = Vec::new();
    for (name, property) in schema["properties"].as_object().unwrap() {
        match property.get("properties").and_then(Value::as_object) {
            Some(section) => {
                keys.extend(
                    section.iter().map(|(key, value)| (format!("{name}.{key}"), value.clone())),
                );
            }
            None => keys.push((name.clone(), property.clone())),
        }
    }
    keys
}

#[test]
fn every_wrong_file_is_drawn_as_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    assert!(files.len() > 10, "the fixtures are gone");
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy();
        let expected = Data::read_from(&path.with_extension("txt"), None).raw();
        assert_data_eq!(drawn(&name, &text), expected);
    }
}

#[test]
fn the_smallest_file_has_the_defaults_of_the_design() {
    let config = parsed(SMALLEST);
    assert_eq!(config.state_dir, Path::new(&places::state_directory()));
    assert_eq!(config.control, Path::new(&places::control()));
    assert_eq!(config.pool.adapter, None);
    assert_eq!(config.pool.per_user, 8);
    assert!(config.pool.sticky);
    assert_eq!(config.pool.quarantine, Duration::from_secs(240));
    assert!(config.virtual_ip.enabled && !config.virtual_ip.children);
    assert_eq!(config.virtual_ip.programs, [ProgramPattern::All]);
    // The design's six, and TigerVNC's server by the name of its file.
    assert_eq!(config.virtual_ip.except.len(), 7);
    assert_eq!(config.virtual_ip.when_exhausted, WhenExhausted::HostAddress);
    assert_eq!(config.hook_exclude.len(), 4);
    assert_eq!(config.divert.hold, Duration::from_millis(10));
    assert_eq!(config.divert.unknown_owner, UnknownOwner::Pass);
    assert_eq!(config.divert.exclude_ports.len(), 1);
    assert!(config.isolation.listeners && config.isolation.loopback && config.isolation.sources);
    assert_eq!(config.metrics, Some("127.0.0.1:9477".parse().unwrap()));
}

#[test]
fn the_reference_file_has_every_key_at_its_default() {
    let typed: File = toml::from_str(REFERENCE).unwrap();
    let mut expected = File::default();
    expected.pool.ranges.clone_from(&typed.pool.ranges);
    // It is for Linux; elsewhere the daemon's places are others.
    assert_eq!(typed.state_dir, "/var/lib/sessionip");
    assert_eq!(typed.control, "/run/sessionip/control.sock");
    expected.state_dir.clone_from(&typed.state_dir);
    expected.control.clone_from(&typed.control);
    assert_eq!(typed, expected);
    assert_eq!(parsed(REFERENCE).pool, parsed(SMALLEST).pool);

    let tree: Value = toml::from_str(REFERENCE).unwrap();
    for (key, _) in keys(&schema()) {
        let pointer = format!("/{}", key.replace('.', "/"));
        assert!(tree.pointer(&pointer).is_some(), "config/sessionip.toml lacks {key}");
    }
}

#[test]
fn the_terminal_server_is_a_usable_example() {
    let config = parsed(TERMINAL_SERVER);
    assert_eq!(config.virtual_ip.programs.len(), 2);
    assert!(config.virtual_ip.children);
}

#[test]
fn the_session_host_is_usable_as_it_is_and_with_all_that_it_shows() {
    assert_eq!(parsed(SESSION_HOST).pool, parsed(SMALLEST).pool);
    assert_eq!(parsed(SESSION_HOST).virtual_ip, parsed(SMALLEST).virtual_ip);

    // What is shown is a key or a section behind a "#"; all else is prose.
    let shows = |line: &str| line.starts_with('[') || line.contains(" = ");
    let lines = SESSION_HOST.lines().map(|line| match line.strip_prefix("# ") {
        Some(shown) if shows(shown) => shown,
        _ => line,
    });
    let config = parsed(&lines.map(|line| format!("{line}\n")).collect::<String>());
    assert_eq!(config.pool.adapter.as_deref(), Some("Ethernet 2"));
    assert_eq!((config.pool.per_user, config.pool.quarantine), (2, Duration::from_secs(900)));
    let crm = ProgramPattern::Path(r"C:\Program Files\Contoso\crm.exe".into());
    assert_eq!(config.virtual_ip.programs, [crm, ProgramPattern::Name("softphone.exe".into())]);
    assert!(config.virtual_ip.children);
    assert_eq!(config.virtual_ip.when_exhausted, WhenExhausted::Block);
    assert_eq!((config.hook_exclude.len(), config.divert.exclude_ports.len()), (5, 2));
}

#[test]
fn the_schema_is_the_one_in_the_repository() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/schema.json");
    let expected = Data::read_from(&path, None).raw();
    let mut actual = schema();
    // The one in the repository is Linux's: these two defaults are the platform's.
    for (key, here, linux) in [
        ("state-dir", places::state_directory(), "/var/lib/sessionip"),
        ("control", places::control(), "/run/sessionip/control.sock"),
    ] {
        let default = &mut actual["properties"][key]["default"];
        assert_eq!(*default, here);
        *default = linux.into();
    }
    let actual = serde_json::to_string_pretty(&actual).unwrap() + "\n";
    // snapbox says how to write it anew where it differs.
    assert_data_eq!(actual, expected);
}

#[test]
fn every_key_is_described_and_all_but_the_ranges_have_a_default() {
    let keys = keys(&schema());
    assert_eq!(keys.len(), 29);
    for (key, schema) in keys {
        assert!(schema["description"].is_string(), "{key} has no description");
        assert_eq!(schema["default"].is_null(), key == "pool.ranges", "the default of {key}");
    }
}

#[test]
fn check_config_answers_people_and_programs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessionip.toml");
    std::fs::write(&path, "[pool]\nranges = [\"10.77.0.1-10.77.0.9\"]\nstiky = true\n").unwrap();

    let mut json = Vec::new();
    assert_eq!(check_config(&path, true, &mut json).unwrap(), ExitCode::FAILURE);
    let expected = r#"{"ok":false,"findings":[{"severity":"error","line":3,"column":1,"key":"pool.stiky","message":"pool.stiky is not a key of this file","help":"did you mean sticky?"}]}"#;
    assert_eq!(String::from_utf8(json).unwrap().trim_end(), expected);

    let mut text = Vec::new();
    assert_eq!(check_config(&path, false, &mut text).unwrap(), ExitCode::FAILURE);
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("3 | stiky = true\n  | ^^^^^"), "{text}");
    assert!(text.ends_with("sessionip.toml: 1 error\n"), "{text}");
}

#[test]
fn what_depends_on_the_machine_only_warns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessionip.toml");
    // RFC 5737: no machine has a card there.
    std::fs::write(&path, "[pool]\nranges = [\"192.0.2.1-192.0.2.9\"]\n").unwrap();
    let mut json = Vec::new();
    assert_eq!(check_config(&path, true, &mut json).unwrap(), ExitCode::SUCCESS);
    let report: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(report["ok"], true);
    assert_eq!(report["findings"][0]["severity"], "warning");
    assert_eq!(report["findings"][0]["line"], 2);
    assert_eq!(report["findings"][0]["column"], 11);
}

#[test]
fn what_the_machine_cannot_do_is_refused_where_it_is_to_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessionip.toml");
    let text = format!("{SMALLEST}[virtual-ip]\nprograms = [\"/nowhere/crm\"]\n");
    std::fs::write(&path, text).unwrap();

    let adapter = |address: &str| {
        let addresses = vec![address.parse().unwrap()];
        [AdapterView { name: "eth0".into(), addresses }]
    };
    let (_, warnings) = Config::load_for(&path, &adapter("10.77.0.1/24"), Severity::Error).unwrap();
    assert_eq!(warnings.len(), 1, "a program that is not there is no reason to refuse");

    let error = Config::load_for(&path, &adapter("10.77.0.150/24"), Severity::Error).unwrap_err();
    let drawn = error.to_string();
    assert!(drawn.contains("holds 10.77.0.150, the address of eth0"), "{drawn}");
    assert!(
        drawn.contains("2 | ranges = [\"10.77.0.101-10.77.0.199\"]\n  |           ^"),
        "{drawn}"
    );
    assert!(Config::load(&path).is_ok());
}

#[test]
#[cfg(target_os = "linux")]
fn the_folder_of_the_hook_is_nobody_elses() {
    let findings = |text: &str| match Config::parse("test", &format!("{text}\n{SMALLEST}")) {
        Ok(_) => String::new(),
        Err(found) => found.iter().map(|it| format!("{}: {}\n", it.key, it.message)).collect(),
    };
    let is_taken = "is where the companion hook keeps its maps, beside control";
    assert_eq!(
        findings("control = \"/run/sessionip/bpf\""),
        format!("control: \"/run/sessionip/bpf\" {is_taken}\n")
    );
    assert_eq!(
        findings("state-dir = \"/run/sessionip/bpf/state\""),
        format!("state-dir: \"/run/sessionip/bpf/state\" {is_taken}\n")
    );
    assert_eq!(findings("control = \"/run/bpf/control\"\nstate-dir = \"/run/sessionip/bpf\""), "");
}

#[test]
#[cfg(target_os = "linux")]
fn what_is_no_file_is_not_read() {
    let mut told = Vec::new();
    assert_eq!(check_config(Path::new("/dev/zero"), false, &mut told).unwrap(), ExitCode::FAILURE);
    let told = String::from_utf8(told).unwrap();
    assert!(told.contains("cannot read /dev/zero: it is a folder, a device or a pipe"), "{told}");
    assert!(told.contains("help: name a file that is there"), "{told}");
}

#[test]
fn a_file_that_cannot_be_read_is_a_finding_too() {
    let mut json = Vec::new();
    let nowhere = Path::new("/nowhere/sessionip.toml");
    assert_eq!(check_config(nowhere, true, &mut json).unwrap(), ExitCode::FAILURE);
    let report: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(report["ok"], false);
    assert_eq!(report["findings"].as_array().map(Vec::len), Some(1));
}

proptest! {
    #[test]
    fn any_text_is_a_configuration_or_has_a_finding(text in r#"([a-z\[\]."= 0-9{},'#\n-]|.){0,200}"#) {
        match Config::parse("any", &text) {
            Ok((_, warnings)) => prop_assert!(warnings.iter().all(|w| w.line > 0)),
            Err(findings) => prop_assert!(!findings.is_empty()),
        }
    }

    #[test]
    fn any_values_are_true_or_have_a_finding(
        range in "[0-9a-f:./-]{0,30}|.{0,8}", text in "[\"0-9a-z/:*-]{0,20}", number: i64,
    ) {
        let text = format!(
            "metrics.listen = '{text}'\ncontrol = '/{text}'\n[pool]\nranges = ['{range}']\nper-user = {number}\n\
             quarantine = '{text}'\n[virtual-ip]\nprograms = ['{text}', {number}]\n\
             [hook]\nexclude = ['{text}']\n[divert]\nhold = '{text}'\n"
        );
        if let Err(findings) = Config::parse("any", &text) {
            prop_assert!(findings.iter().all(|f| f.line > 0 && !f.help.is_empty()));
        }
    }
}
