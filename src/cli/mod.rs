//! What can be typed?

pub mod check_config;
mod exec;
mod import;
#[cfg(target_os = "linux")]
mod linux;
mod look;
mod peer;
mod reload;
mod run;
#[cfg(windows)]
mod selftest;
#[cfg(windows)]
mod service;
mod table;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
use linux as platform;
#[cfg(windows)]
use windows as platform;

use clap::{Parser, Subcommand};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::Config;
use crate::control::client::Client;
use crate::places;

/// Gives every login session of this host an IP address of its own.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Arguments {
    /// The configuration file; also says where the daemon is to be found.
    #[arg(long, global = true, value_name = "FILE", default_value_os_t = places::config_file())]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(about = platform::RUN)]
    Run,
    #[command(flatten)]
    Platform(platform::Command),
    /// Run a command in a session, which is opened if there is none.
    Exec(exec::Options),
    /// How is the daemon?
    Status(look::Options),
    /// Who is logged on, with which address?
    Sessions(look::Options),
    /// Which conversations are there, and what do they look like outside?
    Flows(look::Options),
    /// Who listens where, and what did he ask for?
    Sockets(look::Options),
    /// Check a configuration file and say all that is wrong with it.
    CheckConfig(CheckConfig),
    /// Make a configuration of the registry keys of Citrix virtual IP or RD IP
    /// Virtualization.
    Import(import::Options),
    /// Make the daemon read its configuration again.
    Reload,
    /// Tell the selftest of a Windows server how it looks from here, until Ctrl-C.
    Peer(peer::Options),
}

#[derive(Debug, clap::Args)]
struct CheckConfig {
    /// The file to check.
    file: PathBuf,
    /// As JSON, for programs.
    #[arg(long)]
    json: bool,
}

/// Why a command failed: a sentence for the user, and the exit status.
#[derive(Debug)]
struct Failure {
    sentence: String,
    status: u8,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { sentence: in_full(&error), status: 1 }
    }
}

/// An error with its causes, as one sentence.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Many errors repeat their cause in their own words.
        if !sentence.contains(&text) {
            sentence = format!("{sentence}: {text}");
        }
        cause = error.source();
    }
    sentence
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match dispatch(&arguments) {
        Ok(code) => code,
        Err(failure) => {
            complain(&failure.sentence);
            ExitCode::from(failure.status)
        }
    }
}

fn dispatch(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let config = &arguments.config;
    match &arguments.command {
        Command::Run => run::run(config),
        Command::Platform(command) => platform::dispatch(config, command),
        Command::Exec(options) => exec::exec(config, options),
        Command::Status(options) => look::status(config, options),
        Command::Sessions(options) => look::sessions(config, options),
        Command::Flows(options) => look::flows(config, options),
        Command::Sockets(options) => look::sockets(config, options),
        Command::CheckConfig(CheckConfig { file, json }) => {
            match check_config::check_config(file, *json, &mut std::io::stdout().lock()) {
                // A reader that has gone (`| head`) is no failure.
                Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::FAILURE),
                checked => Ok(checked?),
            }
        }
        Command::Import(options) => import::run(options),
        Command::Reload => reload::reload(config),
        Command::Peer(options) => peer::peer(options),
    }
}

/// The daemon that this configuration belongs to.
fn daemon(config: &std::path::Path) -> Result<Client, Failure> {
    Ok(Client::connect(&Config::control_of(config)?)?)
}

/// A line for the user, on stderr; if nobody reads it, nobody misses it.
fn complain(sentence: &str) {
    writeln!(std::io::stderr(), "sessionip: {sentence}").ok();
}
