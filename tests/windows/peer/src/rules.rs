//! Which packets does the kernel queue?
//!
//! Two chains in `mangle`, for IPv4 and IPv6, laid and removed as a whole.
//! `--queue-bypass`: packets pass while nobody owns the queues.

use std::io::{self, Write};
use std::process::{Command, Stdio};

/// The queue of packets that leave.
pub(crate) const OUTBOUND: u16 = 7790;
/// The queue of packets that arrive.
pub(crate) const INBOUND: u16 = 7791;
/// What is sent by the raw sockets of [`crate::inject`] is not queued again.
pub(crate) const INJECTED: u32 = 0x0040_0000;

/// Rules that are there for as long as this is.
#[derive(Debug)]
pub(crate) struct Rules(());

impl Rules {
    /// Lays them; `port` is that of the connection to the driver.
    pub(crate) fn lay(port: u16) -> io::Result<Self> {
        clear();
        let out = format!(
            "-A SESSIONIP-RIG-OUT -m mark --mark {INJECTED:#x}/{INJECTED:#x} -j RETURN\n\
             -A SESSIONIP-RIG-OUT -o lo -p tcp --dport {port} -j RETURN\n\
             -A SESSIONIP-RIG-OUT -o lo -p tcp --sport {port} -j RETURN\n\
             -A SESSIONIP-RIG-OUT -j NFQUEUE --queue-num {OUTBOUND} --queue-bypass\n"
        );
        let script = format!(
            "*mangle\n:SESSIONIP-RIG-OUT - [0:0]\n:SESSIONIP-RIG-IN - [0:0]\n{out}\
             -A SESSIONIP-RIG-IN -j NFQUEUE --queue-num {INBOUND} --queue-bypass\n\
             -A OUTPUT -j SESSIONIP-RIG-OUT\n-A INPUT ! -i lo -j SESSIONIP-RIG-IN\nCOMMIT\n"
        );
        let rules = Self(());
        restore("iptables-restore", &script)?;
        restore("ip6tables-restore", &script)?;
        Ok(rules)
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        clear();
    }
}

/// Removes what is there. What is not there is no failure: a peer that was
/// killed may have left any part of it.
fn clear() {
    for program in ["iptables", "ip6tables"] {
        for words in [
            "-D OUTPUT -j SESSIONIP-RIG-OUT",
            "-D INPUT ! -i lo -j SESSIONIP-RIG-IN",
            "-F SESSIONIP-RIG-OUT",
            "-F SESSIONIP-RIG-IN",
            "-X SESSIONIP-RIG-OUT",
            "-X SESSIONIP-RIG-IN",
        ] {
            let _ = Command::new(program)
                .args(["-w", "5", "-t", "mangle"])
                .args(words.split(' '))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
    }
}

fn restore(program: &str, script: &str) -> io::Result<()> {
    let failed = |why: &dyn std::fmt::Display| io::Error::other(format!("{program}: {why}"));
    let mut child = Command::new(program)
        .args(["--noflush", "-w", "5"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&error))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(script.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(&String::from_utf8_lossy(&output.stderr)))
}
