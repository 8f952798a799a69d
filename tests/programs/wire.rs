//! What did the far side's wire see?

use super::lab::Lab;
use sessionip::lab::network::{FAR, FAR_IPV6, HOST, HOST_IPV6};
use sessionip::lab::process::{self, Running};
use sessionip::lab::wait;
use std::path::PathBuf;
use std::time::Duration;

/// A capture at the far side.
pub(crate) struct Capture<'a> {
    lab: &'a Lab,
    file: PathBuf,
    tcpdump: Running,
}

impl<'a> Capture<'a> {
    pub(crate) fn start(lab: &'a Lab) -> Self {
        let file = lab.file("wire.pcap");
        let mut command = process::command(&["tcpdump", "-ni", "any", "-Q", "in", "-s", "128"]);
        command.args(["-B", "16384", "-Z", "root", "--immediate-mode", "-w"]).arg(&file);
        let tcpdump = lab.network.client.start("tcpdump", &mut command).unwrap();
        wait::until("tcpdump", Duration::from_secs(20), || {
            Ok(tcpdump.complained().contains("listening on").then_some(()))
        })
        .unwrap();
        Self { lab, file, tcpdump }
    }

    /// Ends it; what it saw can be asked for then.
    pub(crate) fn end(mut self) -> Seen {
        assert!(self.tcpdump.end());
        let account = self.tcpdump.complained();
        assert!(account.contains("\n0 packets dropped by kernel"), "{account}");
        // Where others may read: tcpdump gives up what it does not need.
        let file = self.lab.shared().join("wire.pcap");
        std::fs::rename(&self.file, &file).unwrap();
        Seen { file }
    }
}

/// What a capture saw.
pub(crate) struct Seen {
    file: PathBuf,
}

impl Seen {
    /// The packets that pass a filter of pcap-filter(7), as tcpdump prints them.
    pub(crate) fn packets(&self, filter: &str) -> Vec<String> {
        let mut command = process::command(&["tcpdump", "-nn", "-tt", "-r"]);
        command.arg(&self.file).arg(filter);
        let printed = process::output(&mut command, Duration::from_secs(60)).unwrap();
        printed.lines().map(str::to_owned).collect()
    }

    /// Those that have the host address, as if no session had sent them. sshd,
    /// at port 2222, is excepted.
    pub(crate) fn with_host_address(&self, and: &str) -> Vec<String> {
        self.packets(&format!(
            "ip and src host {HOST} and dst host {FAR} and not src port 2222{and}"
        ))
    }

    /// The same by IPv6, neighbour discovery (RFC 4861) excepted.
    pub(crate) fn with_host_ipv6_address(&self, and: &str) -> Vec<String> {
        let neighbours = "icmp6 and ip6[40] >= 133 and ip6[40] <= 137";
        let ends = format!("src host {HOST_IPV6} and dst host {FAR_IPV6}");
        self.packets(&format!("ip6 and {ends} and not ({neighbours}){and}"))
    }
}
