//! Does everything hold in the lab? The built executable, as a user runs it.
//! Needs root, iproute2, iptables and iperf3.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use sessionip::lab::{leftovers, wait};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Every check that DESIGN.md names.
const CHECKS: [&str; 8] = [
    "same-port",
    "peer-saw-session",
    "marker",
    "localhost",
    "outside-unchanged",
    "bytes-accounted",
    "no-host-address-on-wire",
    "nothing-left",
];

fn lab(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sessionip"));
    command.arg("lab").args(arguments);
    command
}

fn everything_holds(sessions: usize) {
    let count = sessions.to_string();
    let output = lab(&["--json", "--sessions", &count, "--duration", "1"]).output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("no report ({error}): {complaints}"));
    let checks = report["checks"].as_array().unwrap();
    let mut names: Vec<_> = checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    let mut expected = CHECKS;
    expected.sort_unstable();
    assert_eq!(names, expected);
    for check in checks {
        assert_eq!(check["ok"], true, "{check:#}\n{complaints}");
    }
    assert_eq!(report["ok"], true);
    assert!(output.status.success(), "{}", output.status);

    let rows = report["sessions"].as_array().unwrap();
    assert_eq!(rows.len(), sessions);
    for row in rows {
        let address = row["virtual_ip"].as_str().unwrap();
        assert_eq!(row["peer_saw"], address, "{row}");
        assert_eq!(row["listen"], format!("{address}:5201"), "{row}");
        for figure in ["in_gbps", "out_gbps", "udp_gbps"] {
            assert!(row[figure].as_f64().unwrap() > 0.0, "{figure} of {row}");
        }
    }
}

#[test]
fn two_sessions() {
    everything_holds(2);
}

#[test]
fn thirty_two_sessions() {
    everything_holds(32);
}

#[test]
fn an_interrupted_lab_leaves_nothing() {
    let mut lab =
        lab(&["--duration", "60"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let name = format!("sessionip-lab-{}", lab.id());
    let namespaces =
        ["host", "client"].map(|side| PathBuf::from(format!("/run/netns/{name}-{side}")));
    let temporary = || {
        let entries = std::fs::read_dir(std::env::temp_dir()).unwrap().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&name)).count()
    };
    let sessions_of = |host: u64| leftovers::cgroup_of(host).unwrap().join("session-2.scope");
    let begun = wait::until("the lab's sessions", Duration::from_secs(60), || {
        assert!(lab.try_wait().unwrap().is_none(), "the lab ended by itself");
        let inode = |path: &PathBuf| std::fs::metadata(path).map(|file| file.ino());
        let inodes: Result<Vec<_>, _> = namespaces.iter().map(inode).collect();
        Ok(inodes.ok().filter(|inodes| sessions_of(inodes[0]).exists()))
    });
    let inodes: BTreeSet<_> = begun.unwrap().into_iter().collect();
    assert_eq!(temporary(), 1);
    assert!(!leftovers::processes(&inodes).is_empty());

    let pid = Pid::from_raw(lab.id().try_into().unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    let ended = lab.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success() && complaints.contains("interrupted"), "{complaints}");
    assert!(namespaces.iter().all(|namespace| !namespace.exists()), "the network is left");
    assert_eq!(leftovers::processes(&inodes), Vec::<String>::new());
    for inode in inodes {
        assert!(!leftovers::cgroup_of(inode).unwrap().exists(), "sessions are left");
    }
    assert_eq!(temporary(), 0, "the temporary directory is left");
}
