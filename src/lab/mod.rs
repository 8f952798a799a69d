//! What does the product do on a network of its own?
//!
//! Two namespaces, the host's and the far side's; a daemon with a real
//! configuration; sessions opened with `exec`, each with an unmodified
//! `iperf3 -s` on the same port; and unhooked iperf3 clients in the sessions.
//! The product is used as an administrator uses it: through its commands.
//!
//! | file | answers |
//! |---|---|
//! | network | which namespaces, which addresses? |
//! | process, wait | what became of a program, and who waits how long? |
//! | product | configuration, `run`, `exec`, and what commands print |
//! | sessions, listeners, marker | who listens where, and who answers? |
//! | iperf, traffic, bench, wire | how fast, and what did the far side see? |
//! | checks, leftovers | does everything hold, and is anything left? |
//! | report | the table and the JSON |

pub mod bench;
pub mod checks;
pub mod iperf;
pub mod leftovers;
pub mod listeners;
pub mod marker;
pub mod network;
pub mod process;
pub mod product;
pub mod report;
pub mod sessions;
pub mod traffic;
pub mod wait;
pub mod wire;

use crate::packet::Protocol;
use checks::Check;
use clap::{Args, Subcommand};
use leftovers::{Surroundings, Trace};
use network::Network;
use product::Product;
use report::Report;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tempfile::TempDir;

/// `sessionip lab`.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    /// How many sessions to open.
    #[arg(long, default_value_t = 2, value_name = "N",
          value_parser = clap::value_parser!(u32).range(2..=64))]
    sessions: u32,
    /// How many seconds each iperf3 run takes.
    #[arg(long, default_value_t = 3, value_name = "SECONDS",
          value_parser = clap::value_parser!(u32).range(1..=3600))]
    duration: u32,
    /// The datapath that the configuration asks for.
    #[arg(long, default_value = "auto", value_parser = ["auto", "packet", "offload"])]
    datapath: String,
    /// Leave the network, the daemon and the sessions, and say how to look at them.
    #[arg(long)]
    keep: bool,
    /// As JSON, for programs.
    #[arg(long)]
    json: bool,
    /// Also compare the first session with the undiverted link, in so many pairs
    /// of runs per direction.
    #[arg(long, value_name = "PAIRS", num_args = 0..=1, default_missing_value = "10",
          value_parser = clap::value_parser!(u32).range(10..=1000))]
    bench: Option<u32>,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What the lab runs inside and outside sessions: ordinary unhooked programs.
#[derive(Clone, Debug, Subcommand)]
enum Part {
    /// Listen, answer each word with a name, and print the words.
    #[command(hide = true)]
    Listen { address: SocketAddr, name: String },
    /// Send a word, and print the name that is answered.
    #[command(hide = true)]
    Ask { address: SocketAddr, word: String },
}

/// Why the lab could not do its work. A check that fails is no error.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Namespaces, rules and eBPF are root's.
    #[error("the lab makes network namespaces and loads eBPF, so it must run as root: use sudo")]
    NotRoot,
    /// A program that the lab uses is not installed.
    #[error("the lab needs {program}, which is not installed: apt install {package}")]
    Missing {
        /// Its name.
        program: &'static str,
        /// Debian's package that has it.
        package: &'static str,
    },
    /// Nobody to open sessions for.
    #[error("no ordinary user for the sessions: there is not even nobody")]
    NoUser,
    /// Ctrl-C, or the like.
    #[error("interrupted; everything the lab made has been removed")]
    Interrupted,
    /// Something took too long.
    #[error("{what} took longer than {limit:?}")]
    Slow {
        /// What was waited for.
        what: String,
        /// For how long.
        limit: Duration,
    },
    /// A program failed.
    #[error("{command} failed ({status}): {said}")]
    Failed {
        /// Which.
        command: String,
        /// How it ended.
        status: String,
        /// What it complained of.
        said: String,
    },
    /// A program printed something else than expected.
    #[error("{command} printed something unexpected: {source}")]
    Answer {
        /// Which.
        command: String,
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// The system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

impl LabError {
    pub(crate) fn io(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io { what: what.into(), source: source.into() }
    }
}

/// Does what the command line says; success only if every check held.
///
/// # Errors
/// [`LabError`]; what was made is removed.
pub fn main(options: &Options) -> Result<ExitCode, LabError> {
    let printing = |source| LabError::io("standard output", source);
    let mut out = io::stdout();
    match &options.part {
        Some(Part::Listen { address, name }) => marker::listen(*address, name, &mut out)
            .map_err(|source| LabError::io(format!("listening at {address}"), source))?,
        Some(Part::Ask { address, word }) => {
            let name = marker::ask(*address, word)
                .map_err(|source| LabError::io(address.to_string(), source))?;
            writeln!(out, "{name}").map_err(printing)?;
        }
        None => {
            let report = run(options)?;
            if options.json {
                let line = serde_json::to_string(&report);
                writeln!(out, "{}", line.map_err(|e| printing(e.into()))?).map_err(printing)?;
            } else {
                writeln!(out, "{report}").map_err(printing)?;
            }
            if !report.ok {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The lab from its beginning to its end.
///
/// # Errors
/// [`LabError`]; what was made is removed.
pub fn run(options: &Options) -> Result<Report, LabError> {
    preconditions()?;
    let _interruptible = wait::Interruptible::new()?;
    let surroundings = Surroundings::look()?;
    let name = format!("sessionip-lab-{}", std::process::id());
    let directory = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir();
    let directory = directory.map_err(|source| LabError::io("a temporary directory", source))?;
    let network = Network::new(&name)?;
    let mut trace = Trace::begin(&network, directory.path())?;
    let program = std::env::current_exe().map_err(|source| LabError::io("this program", source))?;
    let mut product = Product::start(
        &program,
        &network.host,
        directory.path(),
        options.sessions,
        &options.datapath,
    )?;
    trace.watch(product.pid())?;

    let sessions = sessions::open(&product, &network, options.sessions)?;
    let listening = listeners::listeners(&network.host, Protocol::Tcp, iperf::PORT)?;
    let tally = wire::Tally::start(&network.client, options.sessions)?;
    let traffic = traffic::traffic(&product, &network, &sessions, options.duration)?;
    let mut checks = vec![
        checks::same_port(&product, &network, &sessions)?,
        checks::peer_saw_session(&sessions, &traffic),
        checks::marker(&network, &sessions)?,
        checks::localhost(&product, &network, &sessions)?,
    ];
    // Before the next check: there the far side talks to the host address.
    let counts = tally.counts()?;
    checks.extend([
        checks::outside_unchanged(&product, &network, &traffic)?,
        checks::bytes_accounted(&traffic),
        checks::no_host_address_on_wire(counts, &sessions),
    ]);
    let bench = match (options.bench, sessions.first()) {
        (Some(pairs), Some(first)) => {
            Some(bench::bench(&product, &network, first, (pairs, options.duration))?)
        }
        _ => None,
    };
    let datapath = product.status()?.datapath;
    let mut report = Report::new(datapath, (&sessions, &listening), &traffic, bench, checks);

    if options.keep {
        report.kept = Some(keep(network, product, sessions, directory));
        return Ok(report);
    }
    drop(sessions);
    let well = product.stop()?;
    let mut left = trace.left(&network)?;
    if !well {
        left.push("the daemon did not end by itself, and well".to_owned());
    }
    drop(product);
    drop(network);
    let path = directory.path().to_owned();
    drop(directory);
    left.extend(surroundings.changed(&name, &path)?);
    let (programs, links) = trace.bpf();
    let detail = format!(
        "rules, routes, addresses, namespaces, cgroups, processes and files are as before; \
         {programs} eBPF programs and {links} links are gone"
    );
    report.add(Check::new("nothing-left", &left, detail));
    Ok(report)
}

/// Root, and the programs that the lab uses.
fn preconditions() -> Result<(), LabError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(LabError::NotRoot);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    for (program, package) in [("ip", "iproute2"), ("iptables", "iptables"), ("iperf3", "iperf3")] {
        if !std::env::split_paths(&path).any(|folder| folder.join(program).is_file()) {
            return Err(LabError::Missing { program, package });
        }
    }
    Ok(())
}

/// Leaves everything as it is, and says how to look at it and to remove it.
fn keep(
    network: Network,
    product: Product,
    sessions: Vec<sessions::Opened>,
    directory: TempDir,
) -> String {
    let (host, client) = (network.host.name().to_owned(), network.client.name().to_owned());
    let (program, config) = (product.program().to_owned(), product.config().to_owned());
    let daemon = product.pid();
    for session in sessions {
        session.leave();
    }
    product.leave();
    network.leave();
    instructions(&program, &config, [&host, &client], daemon, &directory.keep())
}

fn instructions(
    program: &Path,
    config: &Path,
    [host, client]: [&str; 2],
    daemon: u32,
    directory: &Path,
) -> String {
    let (program, config) = (program.display(), config.display());
    format!(
        "\
Kept. To look: {program} sessions --config {config}
               {program} flows --config {config}
               nsenter --net=/run/netns/{host} ss -tln
               nsenter --net=/run/netns/{client} iperf3 -c {first}
To remove:     kill $(ip netns pids {host} | grep -vx {daemon}); kill {daemon}; sleep 2
               ip netns delete {host}; ip netns delete {client}; rm -r {directory}",
        first = network::FIRST_OF_POOL,
        directory = directory.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(line: &str) -> Result<Options, clap::Error> {
        Line::try_parse_from(line.split(' ')).map(|line| line.options)
    }

    #[test]
    fn defaults_and_limits_are_the_contract_s() {
        let plain = options("lab").unwrap();
        assert_eq!((plain.sessions, plain.duration, plain.datapath.as_str()), (2, 3, "auto"));
        assert!(!plain.keep && !plain.json && plain.bench.is_none() && plain.part.is_none());
        assert_eq!(options("lab --bench").unwrap().bench, Some(10));
        assert_eq!(options("lab --bench 20 --json").unwrap().bench, Some(20));
        for wrong in ["--sessions 1", "--sessions 65", "--bench 3", "--duration 0", "--datapath x"]
        {
            assert!(options(&format!("lab {wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn its_parts_are_ordinary_programs() {
        let part = options("lab listen 0.0.0.0:9000 session-1").unwrap().part;
        assert!(matches!(part, Some(Part::Listen { .. })));
        let part = options("lab ask 127.0.0.1:9000 hello").unwrap().part;
        assert!(matches!(part, Some(Part::Ask { .. })));
    }

    #[test]
    fn what_is_missing_is_named_with_its_package() {
        let missing = LabError::Missing { program: "iperf3", package: "iperf3" };
        let sentence = "the lab needs iperf3, which is not installed: apt install iperf3";
        assert_eq!(missing.to_string(), sentence);
    }
}
