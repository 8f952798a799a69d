//! `sessionip import`: a configuration from what another system left behind.

use super::{Failure, complain};
use crate::config::reading;
use crate::import::{Import, import};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The longest file that is read: many times the keys that are looked for, and room
/// for those who exported more of the registry.
const LARGEST: u64 = 256 << 20;

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The keys of Citrix virtual IP or RD IP Virtualization, as `reg export`
    /// or regedit wrote them; may be given more than once.
    #[arg(long, value_name = "FILE.reg", required = true)]
    registry: Vec<PathBuf>,
    /// The addresses to give, which no key has; may be given more than once.
    #[arg(long, value_name = "FIRST-LAST")]
    range: Vec<String>,
    /// Where to write the configuration, a file that is not there yet [default:
    /// stdout].
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let read = |file: &PathBuf| {
        let bytes = reading::whole(file, LARGEST).map_err(|error| failure("read", file, &error))?;
        // In the result, where it was read does not matter.
        let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
        Ok::<_, Failure>((name, bytes))
    };
    let files = options.registry.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let Import { toml, notes } = import(&files, &options.range)?;
    match &options.output {
        Some(output) => File::create_new(output)
            .and_then(|mut file| file.write_all(toml.as_bytes()))
            .map_err(|error| failure("write", output, &error))?,
        None => match io::stdout().lock().write_all(toml.as_bytes()) {
            // A reader that has gone (`| head`) is no failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            written => written?,
        },
    }
    for note in notes {
        complain(&note.to_string());
    }
    Ok(ExitCode::SUCCESS)
}

fn failure(doing: &str, file: &Path, error: &io::Error) -> Failure {
    Failure { sentence: format!("cannot {doing} {}: {error}", file.display()), status: 1 }
}
