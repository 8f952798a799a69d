//! Puts the sentences of the event log into the Windows executable: the message
//! compiler makes a resource of `messages.mc`, the resource compiler an object.

use std::env;
use std::path::Path;
use std::process::Command;

const MESSAGES: &str = "src/observe/windows/messages.mc";

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed={MESSAGES}");
    println!("cargo::rerun-if-changed=build.rs");
    let is = |variable: &str, value: &str| env::var(variable).is_ok_and(|it| it == value);
    if !is("CARGO_CFG_TARGET_OS", "windows") {
        return Ok(());
    }
    if !is("CARGO_CFG_TARGET_ENV", "gnu") {
        println!("cargo::warning=the event log has no sentences: they are built by mingw's windmc");
        return Ok(());
    }
    let out = env::var("OUT_DIR").map_err(|error| error.to_string())?;
    let out = Path::new(&out);
    let arch = env::var("CARGO_CFG_TARGET_ARCH").map_err(|error| error.to_string())?;
    run(Command::new(format!("{arch}-w64-mingw32-windmc"))
        .args(["-h".as_ref(), out.as_os_str(), "-r".as_ref(), out.as_os_str()])
        .arg(MESSAGES))?;
    let object = out.join("messages.o");
    run(Command::new(format!("{arch}-w64-mingw32-windres"))
        .args(["--include-dir".as_ref(), out.as_os_str()])
        .arg(out.join("messages.rc"))
        .arg(&object))?;
    println!("cargo::rustc-link-arg={}", object.display());
    Ok(())
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let advice = "it is in the package binutils-mingw-w64-x86-64";
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{program}: {status}")),
        Err(error) => Err(format!("{program}: {error} ({advice})")),
    }
}
