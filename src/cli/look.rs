//! `sessionip status`, `sessions`, `flows` and `sockets`: commands that only look.

use super::table::{or_dash, print, print_json, print_text};
use super::{Failure, daemon};
use crate::control::{FlowPage, FlowRow, Request, SessionRow, SocketRow, Status};
use std::path::Path;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// As JSON, for programs.
    #[arg(long)]
    json: bool,
}

pub(super) fn sessions(config: &Path, options: &Options) -> Result<ExitCode, Failure> {
    let rows: Vec<SessionRow> = daemon(config)?.ask(&Request::Sessions {})?;
    let header = ["SESSION", "USER", "VIRTUAL IP", "LOOPBACK", "STATE", "SINCE"];
    print(&rows, options.json, header, |row| {
        let state = format!("{:?}", row.state).to_lowercase();
        [
            row.id.to_string(),
            row.user.clone(),
            addresses(row),
            or_dash(row.loopback),
            state,
            row.since.to_string(),
        ]
    })
}

/// Of each IP version.
fn addresses(row: &SessionRow) -> String {
    let ipv6 = row.virtual_ipv6.map(|address| address.to_string());
    match (row.virtual_ip, ipv6) {
        (Some(ipv4), Some(ipv6)) => format!("{ipv4}, {ipv6}"),
        (None, Some(ipv6)) => ipv6,
        (ipv4, None) => or_dash(ipv4),
    }
}

pub(super) fn flows(config: &Path, options: &Options) -> Result<ExitCode, Failure> {
    let mut daemon = daemon(config)?;
    let mut rows: Vec<FlowRow> = Vec::new();
    let mut from = Some(0);
    while let Some(start) = from {
        let page: FlowPage = daemon.ask(&Request::Flows { from: start })?;
        rows.extend(page.flows);
        from = page.next;
    }
    let header = [
        "PROTO", "SESSION", "INSIDE", "OUTSIDE", "REMOTE", "REASON", "PACKETS", "BYTES", "PROGRAM",
    ];
    print(&rows, options.json, header, |row| {
        let [inside, _] = &row.inside;
        let [outside, remote] = &row.outside;
        [
            row.protocol.clone(),
            or_dash(row.session),
            inside.clone(),
            outside.clone(),
            remote.clone(),
            row.reason.clone(),
            row.packets.to_string(),
            row.bytes.to_string(),
            program(&row.program, row.pid),
        ]
    })
}

pub(super) fn sockets(config: &Path, options: &Options) -> Result<ExitCode, Failure> {
    let rows: Vec<SocketRow> = daemon(config)?.ask(&Request::Sockets {})?;
    let header = ["PROTO", "SESSION", "ASKED", "BOUND", "REASON", "PROGRAM"];
    print(&rows, options.json, header, |row| {
        [
            row.protocol.clone(),
            row.session.to_string(),
            row.asked.clone(),
            row.bound.clone(),
            match &row.unhooked {
                Some(why) => format!("{} (no hook: {why})", row.reason),
                None => row.reason.clone(),
            },
            program(&row.program, row.pid),
        ]
    })
}

pub(super) fn status(config: &Path, options: &Options) -> Result<ExitCode, Failure> {
    let status: Status = daemon(config)?.ask(&Request::Status {})?;
    if options.json {
        return print_json(&status);
    }
    let leases = status.leases;
    let mut lines = vec![
        format!("running since  {}", status.since),
        format!("datapath       {}", status.datapath),
        format!("sessions       {}", status.sessions),
        format!(
            "leases         {} used, {} free, {} resting",
            leases.used, leases.free, leases.resting
        ),
        format!("flows          {}", status.flows),
        format!(
            "packets        {} diverted, {} rewritten; {:.1} % of the packets were never \
             diverted",
            status.packets.diverted,
            status.packets.rewritten,
            status.undiverted_share * 100.0
        ),
    ];
    for (i, (reason, count)) in status.reasons.iter().enumerate() {
        let title = if i == 0 { "reasons" } else { "" };
        lines.push(format!("{title:<15}{reason} {count}"));
    }
    lines.extend(status.notices.iter().map(|notice| format!("notice         {notice}")));
    print_text(&lines.join("\n"))
}

fn program(path: &str, pid: u32) -> String {
    match (path, pid) {
        ("", 0) => "-".into(),
        (path, 0) => path.into(),
        ("", pid) => format!("pid {pid}"),
        (path, pid) => format!("{path} ({pid})"),
    }
}
