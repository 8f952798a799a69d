//! How much of a link's throughput is left when every packet is rewritten here?
//!
//! One iperf3 stream between two namespaces, undiverted and diverted in turn, in
//! both directions of data. `cargo bench --bench divert [-- PAIRS SECONDS]`, as
//! root, on an idle machine.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a measurement that cannot be taken ends with what it expected"
)]
#![expect(dead_code, reason = "the tests, whose network this is, use more of it")]

#[path = "../tests/divert/daemon.rs"]
mod daemon;
#[path = "../tests/divert/network.rs"]
mod network;

use daemon::{Daemon, rules};
use network::{PEER, Wire, run};
use sessionip::divert::linux::rules as chains;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        return; // `cargo test` runs benches to see that they compile
    }
    let mut numbers = arguments.iter().filter_map(|argument| argument.parse().ok());
    let pairs: usize = numbers.next().unwrap_or(5);
    let seconds = numbers.next().map_or(3, |seconds| seconds as u32);

    let wire = Wire::new();
    let mut server = wire.peer(serve);
    let daemon = Daemon::start(&wire, daemon::translate);
    let rules = rules(&wire);
    for (direction, option) in [("out", ""), ("in", " -R")] {
        let measure = || gbits(&format!("iperf3 -J -c {PEER} -t {seconds}{option}"));
        let (mut raw, mut diverted, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        let (mut spent, mut gigabytes) = (Duration::ZERO, 0.0);
        let before = (daemon.counters.received(), daemon.counters.batches());
        for _ in 0..pairs {
            raw.push(wire.host(measure));
            wire.host(|| chains::install(&rules)).expect("rules");
            let start = cpu_time_of("daemon");
            diverted.push(wire.session(measure));
            spent += cpu_time_of("daemon") - start;
            gigabytes += diverted.last().unwrap_or(&0.0) / 8.0 * f64::from(seconds);
            wire.host(chains::remove).expect("no rules");
            ratios.extend(diverted.last().zip(raw.last()).map(|(diverted, raw)| diverted / raw));
        }
        let packets = daemon.counters.received() - before.0;
        let batches = daemon.counters.batches() - before.1;
        println!(
            "{direction:>3}: raw {:5.1} Gbit/s, diverted {:5.1} Gbit/s, ratio {:.2} \
             (of {ratios:.2?}); {:.1} packets a batch, {:.0} ms of CPU a gigabyte",
            median(&mut raw),
            median(&mut diverted),
            median(&mut ratios.clone()),
            packets as f64 / batches as f64,
            spent.as_secs_f64() * 1e3 / gigabytes,
        );
    }
    println!("refused {}, lost {:?}", daemon.counters.refused(), daemon.counters.losses());
    server.kill().and_then(|()| server.wait()).expect("the server to end");
}

fn serve() -> Child {
    let mut command = Command::new("iperf3");
    let server = command.arg("-s").stdout(Stdio::null()).spawn().expect("iperf3: apt install it");
    std::thread::sleep(Duration::from_millis(300));
    server
}

fn gbits(command: &str) -> f64 {
    let report: serde_json::Value = serde_json::from_str(&run(command)).expect("a report");
    let rate = report.pointer("/end/sum_received/bits_per_second");
    rate.and_then(serde_json::Value::as_f64).expect("a rate") / 1e9
}

/// What a thread of this process has used, by its name: it tells more than
/// throughput does where the machine is not idle.
fn cpu_time_of(name: &str) -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").expect("threads");
    let paths = threads.map(|thread| thread.expect("a thread").path());
    let named = |path: &PathBuf| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    let stat = paths.filter(named).map(|path| std::fs::read_to_string(path.join("schedstat")));
    let nanoseconds = stat.flatten().filter_map(|stat| stat.split(' ').next()?.parse::<u64>().ok());
    Duration::from_nanos(nanoseconds.sum())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
