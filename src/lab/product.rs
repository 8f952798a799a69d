//! The product as an administrator uses it: a configuration file, `run`, `exec`
//! and what its commands print.

use super::network::{self, Namespace};
use super::process::{self, Running};
use super::{LabError, wait};
use nix::mount::{MntFlags, umount2};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long the daemon may take to start.
const START: Duration = Duration::from_secs(30);

/// A daemon in the lab's host namespace; ended when dropped.
#[derive(Debug)]
pub struct Product {
    /// The executable, where the users of sessions can reach it.
    program: PathBuf,
    config: PathBuf,
    daemon: Running,
    kept: bool,
}

/// What the lab reads of a row of `sessions --json`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Session {
    /// Its number.
    pub id: u32,
    /// Whose it is.
    pub user: String,
    /// Its virtual address.
    pub virtual_ip: Option<Ipv4Addr>,
    /// Its virtual IPv6 address.
    pub virtual_ipv6: Option<Ipv6Addr>,
}

/// What the lab reads of a row of `flows --json`; each pair is local, remote.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Flow {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// As the program's socket has it.
    pub inside: [String; 2],
    /// As the wire has it.
    pub outside: [String; 2],
    /// Bytes of its packets.
    pub bytes: u64,
}

/// What the lab reads of a row of `sockets --json`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Socket {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// What the program asked to be bound to.
    pub asked: String,
    /// What it was bound to.
    pub bound: String,
    /// Whose it is.
    pub session: u32,
}

/// What the lab reads of `status --json`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Status {
    /// `packet` or `offload`.
    pub datapath: String,
    /// How many packets met each reason.
    #[serde(default)]
    pub reasons: BTreeMap<String, u64>,
}

impl Product {
    /// Starts the daemon with the lab's own configuration.
    ///
    /// # Errors
    /// As [`Product::start_with`].
    pub fn start(
        program: &Path,
        host: &Namespace,
        directory: &Path,
        pool_size: u32,
        datapath: &str,
    ) -> Result<Self, LabError> {
        let configuration = configuration(directory, pool_size, datapath);
        Self::start_with(program, host, directory, &configuration)
    }

    /// Writes a configuration into `directory`, starts the daemon with it, and
    /// waits until it answers. It has its control socket in the folder `control`
    /// there.
    ///
    /// # Errors
    /// The daemon does not start; what it complained of is in the error.
    pub fn start_with(
        program: &Path,
        host: &Namespace,
        directory: &Path,
        configuration: &str,
    ) -> Result<Self, LabError> {
        let io = |source| LabError::io(directory.display().to_string(), source);
        // Sessions are those of ordinary users, who must get at the executable.
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).map_err(io)?;
        let shared = directory.join("sessionip");
        fs::copy(program, &shared).map_err(io)?;
        let config = directory.join("sessionip.toml");
        fs::write(&config, configuration).map_err(io)?;

        let mut run = process::command(&[shared.as_os_str(), "run".as_ref(), "--config".as_ref()]);
        let daemon = host.start("sessionip run", run.arg(&config))?;
        let mut product = Self { program: shared, config, daemon, kept: false };
        wait::until("the daemon's start", START, || {
            if product.daemon.ended()?.is_some() {
                return Err(product.daemon.failure());
            }
            Ok(product.status().ok())
        })?;
        Ok(product)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Where its configuration is.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The executable, where the users of sessions can reach it.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// `exec`: `words` as a command of a session of `user`.
    pub fn in_session(&self, session: u32, user: &str, words: &[impl AsRef<OsStr>]) -> Command {
        let mut command = self.command("exec");
        command.args(["--session", &session.to_string(), "--user", user, "--"]).args(words);
        command
    }

    /// `sessions --json`.
    ///
    /// # Errors
    /// The daemon does not answer, or not in the shape of `sessions --json`.
    pub fn sessions(&self) -> Result<Vec<Session>, LabError> {
        self.ask("sessions")
    }

    /// `flows --json`.
    ///
    /// # Errors
    /// As [`Product::sessions`].
    pub fn flows(&self) -> Result<Vec<Flow>, LabError> {
        self.ask("flows")
    }

    /// `sockets --json`.
    ///
    /// # Errors
    /// As [`Product::sessions`].
    pub fn sockets(&self) -> Result<Vec<Socket>, LabError> {
        self.ask("sockets")
    }

    /// `status --json`.
    ///
    /// # Errors
    /// As [`Product::sessions`].
    pub fn status(&self) -> Result<Status, LabError> {
        self.ask("status")
    }

    /// Stops the daemon; whether it ended by itself, and well.
    ///
    /// # Errors
    /// The system does not say how it ended.
    pub fn stop(&mut self) -> Result<bool, LabError> {
        let by_itself = self.daemon.end();
        let well = self.daemon.ended()?.is_some_and(|status| status.success());
        Ok(by_itself && well)
    }

    /// Lets the daemon run on after the lab.
    pub fn leave(mut self) {
        self.kept = true;
    }

    fn command(&self, name: &str) -> Command {
        let program = self.program.as_os_str();
        let mut command = process::command(&[program, name.as_ref(), "--config".as_ref()]);
        command.arg(&self.config);
        command
    }

    fn ask<T: DeserializeOwned>(&self, name: &str) -> Result<T, LabError> {
        let mut command = self.command(name);
        let asking = Running::start(format!("sessionip {name}"), command.arg("--json"))?;
        let answer = asking.finish(Duration::from_secs(20))?;
        serde_json::from_str(&answer)
            .map_err(|source| LabError::Answer { command: format!("sessionip {name}"), source })
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        if self.kept {
            self.daemon.disown();
            return;
        }
        self.daemon.end();
        // A daemon that was killed leaves its hook pinned, for the next one to
        // take over; here there will be none. Not mounted: nothing to do.
        let pins = self.config.with_file_name("control").join("bpf");
        let _ = umount2(&pins, MntFlags::MNT_DETACH);
    }
}

/// The configuration of the lab: everything that need not be different is left
/// at its default.
fn configuration(directory: &Path, pool_size: u32, datapath: &str) -> String {
    let directory = directory.display();
    let (first, last) = (network::FIRST_OF_POOL, network::last_of_pool(pool_size));
    format!(
        "\
state-dir = '{directory}/state'
control = '{directory}/control/control.sock'

[pool]
ranges = ['{first}-{last}']
per-user = {pool_size}

[divert]
datapath = '{datapath}'

[metrics]
listen = ''
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_toml_with_a_pool_of_the_size() {
        let text = configuration(Path::new("/tmp/x"), 32, "auto");
        let parsed: toml::Table = text.parse().unwrap();
        assert_eq!(parsed["pool"]["ranges"][0].as_str(), Some("10.77.0.101-10.77.0.132"));
        assert_eq!(parsed["control"].as_str(), Some("/tmp/x/control/control.sock"));
    }

    #[test]
    fn rows_are_read_in_the_contract_s_shape() {
        let rows = r#"[{"protocol":"tcp","session":1,"program":"/usr/bin/iperf3","pid":4711,
            "inside":["10.77.0.1:40000","10.77.0.2:5201"],
            "outside":["10.77.0.101:40000","10.77.0.2:5201"],
            "reason":"session-source","packets":12,"bytes":3456}]"#;
        let flows: Vec<Flow> = serde_json::from_str(rows).unwrap();
        assert_eq!(flows[0].bytes, 3456);
        let rows = r#"[{"id":1,"user":"ana","virtual_ip":null,"virtual_ipv6":null,
            "loopback":"127.0.0.2","since":"2026-11-21T20:58:00Z","state":"exhausted"}]"#;
        let sessions: Vec<Session> = serde_json::from_str(rows).unwrap();
        assert_eq!((sessions[0].virtual_ip, sessions[0].virtual_ipv6), (None, None));
    }
}
