//! `sessionip selftest`: does this server do what sessionip builds on?

use super::table::print_text;
use super::{Failure, complain};
use crate::config::{Config, LoadError};
use crate::daemon::lock::Lock;
use crate::peer::PORT;
use crate::selftest::Report;
use crate::selftest::windows::{Options as Tested, run};
use crate::{guard, places};
use comfy_table::{ContentArrangement, Table, presets};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// A machine of the same network that runs `sessionip peer`.
    #[arg(long, value_name = "HOST[:PORT]")]
    peer: Option<String>,
    /// An address that no machine has, for a minute; else the next one of the pool.
    #[arg(long, value_name = "SPARE_ADDRESS")]
    address: Option<Ipv4Addr>,
    /// As JSON, for programs.
    #[arg(long)]
    json: bool,
}

pub(super) fn selftest(path: &Path, options: &Options) -> Result<ExitCode, Failure> {
    if !guard::is_administrator() {
        return Err(failure(
            "the selftest opens the driver and puts an address on: it needs an elevated \
             administrator",
        ));
    }
    let peer = options.peer.as_deref().map(resolve).transpose()?;
    let config = match Config::load(path) {
        Ok((config, _)) => Some(config),
        // Before anything is set up; a file that somebody names has to be there.
        Err(LoadError::Read { source, .. })
            if source.kind() == ErrorKind::NotFound && path == places::config_file() =>
        {
            None
        }
        Err(error) => return Err(error.into()),
    };
    let folder = config.as_ref().map_or_else(
        || PathBuf::from(places::state_directory()),
        |config| config.state_dir.clone(),
    );
    let was_there = folder.exists();
    // No daemon must run, nor start meanwhile.
    let lock = Lock::take(&folder)?;
    let tested = Tested { config: config.as_ref(), address: options.address, peer };
    let ran = run(&tested, |check| {
        if !options.json {
            complain(&format!("{}: {}", check.name, check.result.word()));
        }
    });
    lock.release();
    if !was_there {
        // Fails if something is in it, which is somebody's.
        std::fs::remove_dir(&folder).ok();
    }
    let report = ran?;
    print_text(&if options.json { serde_json::to_string(&report)? } else { text(&report) })?;
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(report: &Report) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["CHECK", "RESULT", "WHAT WAS SEEN"]);
    for check in &report.checks {
        table.add_row([check.name, check.result.word(), &check.sentence]);
    }
    let advice: Vec<String> = report.advice().collect();
    let mut text = table.trim_fmt();
    if !advice.is_empty() {
        text = format!("{text}\n\nWhat to do:\n{}", advice.join("\n"));
    }
    text
}

/// The first IPv4 address of a name.
fn resolve(peer: &str) -> Result<SocketAddrV4, Failure> {
    let found = match peer.to_socket_addrs() {
        Ok(found) => found.collect::<Vec<_>>(),
        // Without a port.
        Err(_) => (peer, PORT)
            .to_socket_addrs()
            .map_err(|error| failure(&format!("cannot find the peer {peer}: {error}")))?
            .collect(),
    };
    let v4 = found.into_iter().find_map(|address| match address {
        SocketAddr::V4(address) => Some(address),
        SocketAddr::V6(_) => None,
    });
    v4.ok_or_else(|| failure(&format!("the peer {peer} has no IPv4 address")))
}

fn failure(sentence: &str) -> Failure {
    Failure { sentence: sentence.into(), status: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selftest::{Check, Why};

    #[test]
    fn a_report_is_a_table_and_what_to_do() {
        let checks = vec![
            Check::of("driver", Ok("WinDivert 2.2 opens".into())),
            Check::of("stop", Err(Why::failed("it is still led here", "restart the machine"))),
        ];
        let text = text(&Report::of(checks, false));
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        assert_eq!(
            lines,
            [
                " CHECK   RESULT  WHAT WAS SEEN",
                " driver  ok      WinDivert 2.2 opens",
                " stop    failed  it is still led here",
                "",
                "What to do:",
                "stop: restart the machine",
            ]
        );
    }

    #[test]
    fn a_peer_has_a_port_or_the_usual_one() {
        assert_eq!(resolve("10.77.0.2").unwrap().to_string(), format!("10.77.0.2:{PORT}"));
        assert_eq!(resolve("10.77.0.2:5000").unwrap().to_string(), "10.77.0.2:5000");
        assert!(resolve("[::1]:5000").is_err());
    }
}
