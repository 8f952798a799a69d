//! Compiles the eBPF side of the hook, and digests the layout it shares.

#[path = "src/digest.rs"]
#[expect(unreachable_pub, reason = "it is a module of the library")]
mod digest;

use digest::fnv_1a;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

fn main() -> ExitCode {
    if variable("CARGO_CFG_TARGET_OS") != "linux" {
        return ExitCode::SUCCESS;
    }
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    match compile().and_then(|()| digest_layout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            println!("cargo::error={problem}");
            ExitCode::FAILURE
        }
    }
}

fn compile() -> Result<(), String> {
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let object = out("hook.bpf.o");
    let status = Command::new(&clang)
        .args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Werror"])
        .arg("-fno-stack-protector")
        // The same bytes wherever the source lies.
        .args(["-ffile-prefix-map=bpf=.", "-fdebug-compilation-dir=."])
        // Where Debian keeps asm/types.h.
        .arg(format!("-I/usr/include/{}-linux-gnu", variable("CARGO_CFG_TARGET_ARCH")))
        .args(["-c", "bpf/hook.bpf.c", "-o"])
        .arg(&object)
        .status()
        .map_err(|error| {
            format!("the companion hook needs {clang} ({error}): apt install clang linux-libc-dev")
        })?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{clang} could not compile the companion hook, see above ({status})"))
    }
}

/// Over bpf/layout.h: maps of another layout must not be taken over.
fn digest_layout() -> Result<(), String> {
    let source = Path::new("bpf/layout.h");
    let text = fs::read(source).map_err(|error| format!("{}: {error}", source.display()))?;
    let digest = fnv_1a(text.into_iter().map(u64::from));
    println!("cargo::rustc-env=SESSIONIP_HOOK_LAYOUT={digest:016x}");
    Ok(())
}

fn out(file: &str) -> PathBuf {
    Path::new(&variable("OUT_DIR")).join(file)
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}
