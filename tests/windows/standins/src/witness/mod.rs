//! One question for each word on the command line, one answer for each line.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "prints what it sees")]

mod addresses;
mod pipe;
mod service;
mod sessions;

use std::process::ExitCode;

/// Answers the question on the command line.
pub(crate) fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let answer = match words.as_slice() {
        ["sessions"] => sessions::all(),
        ["users"] => sessions::users(),
        ["session-of", id] => sessions::of(id),
        ["process", name] => sessions::process(name),
        ["own-session"] => return sessions::own(),
        ["family"] => sessions::family(),
        ["run-as", session] => sessions::run_as(session),
        ["pipe", session] => pipe::client_session(session),
        ["connect", name] => pipe::connect(name),
        ["service", "install", name] => service::install(name),
        ["service", "run", name] => service::run(name),
        ["service", "start", name] => service::start(name),
        ["service", "stop", name] => service::stop(name),
        ["add", interface, address, length] => addresses::add(interface, address, length),
        ["delete", interface, address] => addresses::delete(interface, address),
        ["state", interface, address] => addresses::state(interface, address),
        ["table", interface] => addresses::table(interface),
        ["watch", interface, address] => addresses::watch(interface, address),
        ["bind", address] => addresses::bind(address),
        ["arp", address] => addresses::arp(address),
        _ => Err("what is asked is not known".into()),
    };
    match answer {
        Ok(answer) => {
            println!("{answer}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("standin-witness {words:?}: {problem} ({problem:?})");
            ExitCode::FAILURE
        }
    }
}

/// An answer, or why there is none.
type Answer = Result<String, Box<dyn std::error::Error>>;
