//! Which packets of this network namespace does the stand-in driver see?
//!
//! All that leave it and all that arrive in it, but not those that arrive from
//! `lo` (Windows shows local traffic once, outbound) and not the connection to
//! the driver. While no driver is connected, everything passes unmodified, as
//! on Windows without WinDivert.
//!
//! `sessionip-test-peer FOLDER` lays its rules, writes its port to
//! `FOLDER/port`, says `ready` on standard output and works until it gets
//! SIGTERM or SIGINT, or standard input, if that is a pipe, ends. Then its rules
//! and the port file are gone.

#[cfg(target_os = "linux")]
mod driver;
#[cfg(target_os = "linux")]
mod host;
#[cfg(target_os = "linux")]
mod inject;
#[cfg(target_os = "linux")]
#[expect(dead_code, reason = "the product's own file; the peer marks no packets")]
#[path = "../../../../src/divert/linux/netlink.rs"]
mod netlink;
#[cfg(target_os = "linux")]
mod peer;
#[cfg(target_os = "linux")]
mod queues;
#[cfg(target_os = "linux")]
mod rules;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(folder), None) = (arguments.next(), arguments.next()) else {
        say("usage: sessionip-test-peer FOLDER");
        return std::process::ExitCode::from(2);
    };
    match peer::run(std::path::Path::new(&folder)) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("sessionip-test-peer: {error}"));
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {}

/// For whoever runs the test.
#[cfg(target_os = "linux")]
#[expect(clippy::print_stderr, reason = "a test program talks to whoever runs it")]
fn say(text: &str) {
    eprintln!("{text}");
}
