//! Which of the host's addresses did the far side's wire see?

use super::LabError;
use super::network::{self, Namespace};
use std::process::Command;

/// Counts what reaches the far side's address for sessions, whatever the
/// protocol; ends with the namespace.
#[derive(Debug)]
pub struct Tally<'a>(&'a Namespace);

/// Packets that reached [`network::FAR`], by source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// From the host address.
    pub from_host: u64,
    /// From the pool.
    pub from_pool: u64,
}

impl<'a> Tally<'a> {
    /// Begins to count.
    ///
    /// # Errors
    /// iptables, or its iprange match, is missing.
    pub fn start(client: &'a Namespace, pool_size: u32) -> Result<Self, LabError> {
        let pool = format!("{}-{}", network::FIRST_OF_POOL, network::last_of_pool(pool_size));
        // The order is what `counts` reads by.
        for source in [
            ["-s", &network::HOST.to_string()].as_slice(),
            ["-m", "iprange", "--src-range", &pool].as_slice(),
        ] {
            let mut command = Command::new("iptables");
            command.args(["-w", "-t", "raw", "-A", "PREROUTING"]);
            command.args(["-d", &network::FAR.to_string()]).args(source);
            client.output(&mut command)?;
        }
        Ok(Self(client))
    }

    /// What has arrived since.
    ///
    /// # Errors
    /// iptables does not say.
    pub fn counts(&self) -> Result<Counts, LabError> {
        let saved = self.0.output(Command::new("iptables-save").args(["-c", "-t", "raw"]))?;
        let mut rules = saved.lines().filter_map(packets);
        match (rules.next(), rules.next()) {
            (Some(from_host), Some(from_pool)) => Ok(Counts { from_host, from_pool }),
            _ => Err(LabError::Failed {
                command: "iptables-save".into(),
                status: "ended".into(),
                said: "it does not show the lab's rules".into(),
            }),
        }
    }
}

/// `[12:3456] -A PREROUTING ...`: twelve packets.
fn packets(line: &str) -> Option<u64> {
    let (packets, rest) = line.strip_prefix('[')?.split_once(':')?;
    rest.contains("-A PREROUTING").then(|| packets.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_line_says_how_many() {
        assert_eq!(packets("[12:3456] -A PREROUTING -s 10.77.0.1/32"), Some(12));
        assert_eq!(packets(":PREROUTING ACCEPT [0:0]"), None);
    }
}
