//! One way to print a table or JSON.

use super::Failure;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use std::io::{self, Write};
use std::process::ExitCode;

/// Prints `rows` as one JSON line, or as a table with a header.
pub(super) fn print<T: Serialize, const N: usize>(
    rows: &[T],
    json: bool,
    header: [&str; N],
    cells: impl Fn(&T) -> [String; N],
) -> Result<ExitCode, Failure> {
    if json {
        return print_json(&rows);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    for row in rows {
        table.add_row(cells(row));
    }
    print_text(&table.trim_fmt())
}

/// Prints a value as one JSON line.
pub(super) fn print_json(value: &impl Serialize) -> Result<ExitCode, Failure> {
    print_text(&serde_json::to_string(value)?)
}

/// Prints lines; a reader that has gone (`| head`) is no failure.
pub(super) fn print_text(text: &str) -> Result<ExitCode, Failure> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// `-` where there is nothing to say.
pub(super) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".into(), |v| v.to_string())
}
