//! What did the lab see? The table for people and the JSON for programs.

use super::bench::{Bench, Compared, Spread, ratio, three_digits};
use super::checks::{Check, gbps};
use super::iperf::{Kind, PORT};
use super::sessions::Opened;
use super::traffic::Traffic;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// `lab --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Every check held.
    pub ok: bool,
    /// `packet` or `offload`.
    pub datapath: String,
    /// One row each.
    pub sessions: Vec<Row>,
    /// The undiverted link: medians.
    pub raw: Raw,
    /// The sessions' median by that.
    pub ratio_to_raw: Ratio,
    /// With `--bench`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bench: Option<Bench>,
    /// By name.
    pub checks: Vec<Check>,
    /// With `--keep`: how to look at what is left, and how to remove it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Its number.
    pub id: u32,
    /// Its address.
    pub virtual_ip: Ipv4Addr,
    /// Where its `iperf3 -s` listens; `None`: not at its address.
    pub listen: Option<SocketAddr>,
    /// From the far side.
    pub in_gbps: f64,
    /// To the far side.
    pub out_gbps: f64,
    /// UDP to the far side.
    pub udp_gbps: f64,
    /// Whom the far side saw; the first wrong one if there was one.
    pub peer_saw: IpAddr,
}

/// The undiverted link.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Raw {
    /// From the far side.
    pub in_gbps: f64,
    /// To the far side.
    pub out_gbps: f64,
}

/// Diverted by undiverted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// From the far side.
    #[serde(rename = "in")]
    pub inward: f64,
    /// To the far side.
    pub out: f64,
}

impl Report {
    /// Of what was seen; `listening` is where iperf3's port is listened at, and
    /// the checks are in the order they were made.
    pub fn new(
        datapath: String,
        (sessions, listening): (&[Opened], &[SocketAddr]),
        traffic: &Traffic,
        bench: Option<Bench>,
        checks: Vec<Check>,
    ) -> Self {
        let rows: Vec<_> =
            sessions.iter().map(|session| Row::new(session, listening, traffic)).collect();
        let raw = |kind| {
            let of_kind = traffic.raw.iter().filter(|run| run.kind == kind);
            Spread::of(of_kind.map(|run| run.gbps)).median
        };
        let raw = Raw { in_gbps: raw(Kind::In), out_gbps: raw(Kind::Out) };
        let ratio_to_raw = Ratio {
            inward: ratio(Spread::of(rows.iter().map(|row| row.in_gbps)).median, raw.in_gbps),
            out: ratio(Spread::of(rows.iter().map(|row| row.out_gbps)).median, raw.out_gbps),
        };
        let mut report = Self {
            ok: false,
            datapath,
            sessions: rows,
            raw,
            ratio_to_raw,
            bench,
            checks,
            kept: None,
        };
        report.judge();
        report
    }

    /// Adds a check that could only be made later.
    pub fn add(&mut self, check: Check) {
        self.checks.push(check);
        self.judge();
    }

    fn judge(&mut self) {
        self.ok = self.checks.iter().all(|check| check.ok);
    }
}

impl Row {
    fn new(session: &Opened, listening: &[SocketAddr], traffic: &Traffic) -> Self {
        let of_session = traffic.sessions.iter().filter(|run| run.session == session.id);
        let mut seen = of_session.flat_map(|run| {
            let data = run.run.conversations.iter().map(|(_, from)| from.ip());
            std::iter::once(run.run.seen).chain(data)
        });
        let own = IpAddr::from(session.virtual_ip);
        let first = seen.next().unwrap_or(IpAddr::from(Ipv4Addr::UNSPECIFIED));
        let wrong = std::iter::once(first).chain(seen).find(|seen| *seen != own);
        Self {
            id: session.id,
            virtual_ip: session.virtual_ip,
            listen: listening.iter().copied().find(|at| *at == session.at(PORT)),
            in_gbps: three_digits(gbps(traffic, session.id, Kind::In)),
            out_gbps: three_digits(gbps(traffic, session.id, Kind::Out)),
            udp_gbps: three_digits(gbps(traffic, session.id, Kind::Udp)),
            peer_saw: wrong.unwrap_or(first),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "datapath {}; TCP and UDP in Gbit/s, seen from the session\n", self.datapath)?;
        let header = ["SESSION", "VIRTUAL IP", "LISTENS AT", "PEER SAW", "OUT", "IN", "UDP OUT"];
        let mut rows: Vec<_> = self.sessions.iter().map(Row::cells).collect();
        let raw = [self.raw.out_gbps, self.raw.in_gbps].map(|gbps| format!("{gbps:.2}"));
        let ratio = [self.ratio_to_raw.out, self.ratio_to_raw.inward].map(|r| format!("{r:.2}"));
        for (title, [out, inward]) in [("undiverted", raw), ("ratio of medians", ratio)] {
            let blank = String::new;
            rows.push([title.into(), blank(), blank(), blank(), out, inward, blank()]);
        }
        writeln!(f, "{}\n", table(&header, rows, 4))?;
        if let Some(bench) = &self.bench {
            let header = ["PAIRS", "", "MEDIAN", "MIN", "MAX"];
            let rows = [("out", &bench.out), ("in", &bench.inward)]
                .into_iter()
                .flat_map(|(direction, compared)| bench_rows(bench.pairs, direction, compared));
            writeln!(f, "{}\n", table(&header, rows, 2))?;
        }
        for Check { name, ok, detail } in &self.checks {
            let sign = if *ok { '✓' } else { '✗' };
            writeln!(f, "{sign} {name:<24} {detail}")?;
        }
        match &self.kept {
            Some(kept) => write!(f, "\n{kept}"),
            None => Ok(()),
        }
    }
}

impl Row {
    fn cells(&self) -> [String; 7] {
        [
            self.id.to_string(),
            self.virtual_ip.to_string(),
            self.listen.map_or_else(|| "-".into(), |at| at.to_string()),
            self.peer_saw.to_string(),
            format!("{:.2}", self.out_gbps),
            format!("{:.2}", self.in_gbps),
            format!("{:.2}", self.udp_gbps),
        ]
    }
}

fn bench_rows(pairs: u32, direction: &str, compared: &Compared) -> [[String; 5]; 3] {
    let row = |what: &str, spread: Spread| {
        let [median, min, max] = [spread.median, spread.min, spread.max].map(|v| format!("{v:.2}"));
        [format!("{pairs} {direction}"), what.into(), median, min, max]
    };
    [
        row("undiverted, Gbit/s", compared.raw_gbps),
        row("session, Gbit/s", compared.session_gbps),
        row("ratio", compared.ratio),
    ]
}

/// A plain table whose columns from `numbers` on are aligned right.
fn table<const N: usize>(
    header: &[&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
    numbers: usize,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(numbers) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let row = Row {
            id: 1,
            virtual_ip: Ipv4Addr::new(10, 77, 0, 101),
            listen: Some("10.77.0.101:5201".parse().unwrap()),
            in_gbps: 40.1,
            out_gbps: 39.0,
            udp_gbps: 1.0,
            peer_saw: "10.77.0.101".parse().unwrap(),
        };
        Report {
            ok: true,
            datapath: "packet".into(),
            sessions: vec![row],
            raw: Raw { in_gbps: 50.2, out_gbps: 49.8 },
            ratio_to_raw: Ratio { inward: 0.8, out: 0.78 },
            bench: None,
            checks: vec![Check::new("same-port", &[], "...")],
            kept: None,
        }
    }

    #[test]
    fn the_json_is_the_contract_s() {
        let expected = r#"{"ok":true,"datapath":"packet","sessions":[{"id":1,"virtual_ip":"10.77.0.101","listen":"10.77.0.101:5201","in_gbps":40.1,"out_gbps":39.0,"udp_gbps":1.0,"peer_saw":"10.77.0.101"}],"raw":{"in_gbps":50.2,"out_gbps":49.8},"ratio_to_raw":{"in":0.8,"out":0.78},"checks":[{"name":"same-port","ok":true,"detail":"..."}]}"#;
        assert_eq!(serde_json::to_string(&report()).unwrap(), expected);
    }

    #[test]
    fn one_failed_check_fails_the_lab() {
        let mut report = report();
        report.add(Check::new("nothing-left", &["a rule".into()], ""));
        assert!(!report.ok);
        let text = report.to_string();
        assert!(text.contains("✓ same-port") && text.contains("✗ nothing-left"), "{text}");
        assert!(text.contains("10.77.0.101:5201"), "{text}");
    }
}
