//! Does the kernel side read commands as `script_of()` does? Stand-ins for
//! interpreters are given what the table of cases, `hook/scripts.toml`, says.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says so")]

use crate::lists::{Case, Trial};
use crate::world::World;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

#[path = "../../hook/tests/scripts/table.rs"]
mod table;

#[test]
fn the_kernel_reads_commands_as_the_table_says() {
    let mut world = World::new();
    let mut wrong = Vec::new();
    for case in table::Table::read().case {
        let arguments = case.arguments();
        let is_file = |text: &&String| text.contains('.') && !text.starts_with("-M");
        let files: Vec<_> = arguments.iter().filter(is_file).collect();
        let (mut is, mut others): (Vec<_>, Vec<_>) =
            files.iter().partition(|file| Some(file.as_str()) == case.file.as_deref());
        for (listed, wanted) in [(&mut is, true), (&mut others, false)] {
            if listed.is_empty() {
                continue;
            }
            let program = format!("bin/{}", case.program);
            let stand_in = std::iter::once(format!("stand-in {program}"));
            let trial = Case {
                name: format!("{case:?}"),
                files: stand_in.chain(files.iter().map(|it| format!("file {it}"))).collect(),
                listed: listed
                    .iter()
                    .map(|it: &&String| format!("/{}", it.trim_start_matches("./")))
                    .collect(),
                words: std::iter::once(program).chain(arguments.iter().cloned()).collect(),
                ..Case::default()
            };
            let (moved, said) = Trial::new(&mut world, &trial).run();
            if (moved, said.as_str()) != (wanted, if wanted { "listed" } else { "not-listed" }) {
                wrong.push(format!("{}, with {listed:?}: moved: {moved}, {said}", trial.name));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// The stand-in, compiled once.
pub(crate) fn stand_in() -> PathBuf {
    static PROGRAM: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = PROGRAM.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("interpreter");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/owner/interpreter.c");
        let made = Command::new("cc").args([source, "-O", "-o"]).arg(&path).status();
        assert!(made.expect("these tests need a C compiler").success());
        (folder, path)
    });
    path.clone()
}
