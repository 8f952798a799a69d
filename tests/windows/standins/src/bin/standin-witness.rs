//! What does a program see that meets the stand-ins? Asks what sessionip asks,
//! and prints the answers for the tests.

#[cfg(windows)]
#[path = "../witness/mod.rs"]
mod witness;

#[cfg(windows)]
fn main() -> std::process::ExitCode {
    witness::main()
}

#[cfg(not(windows))]
#[expect(clippy::print_stderr, reason = "says what went wrong to whoever started it")]
fn main() -> std::process::ExitCode {
    eprintln!("standin-witness: runs on Windows only");
    std::process::ExitCode::from(125)
}
