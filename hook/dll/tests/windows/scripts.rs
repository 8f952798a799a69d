//! Is a script known by the process that runs it?

use crate::victim::commanded;
use crate::world::{Program, World, content, pattern};
use hook::decide::{Exclusion, Flags, TCP};
use hook::section::{Content, Pattern};
use std::path::{Path, PathBuf};

const MOVED: &str = "127.0.0.2:9130";
const LEFT: &str = "0.0.0.0:9130";
const BINDS: &str = "bind tcp 0.0.0.0:9130";

/// Nobody is listed but these.
fn only(programs: Vec<Pattern>) -> Content {
    Content { all_listed: false, programs, ..content() }
}

fn listed(text: &str) -> Pattern {
    Pattern { listed: true, ..pattern(text, 31) }
}

/// A folder with a script, as programs write it.
fn script(world: &World) -> (PathBuf, String) {
    let folder = world.folder("a folder of a long name");
    let script = folder.join("crm.py");
    std::fs::write(&script, "").unwrap();
    let text = script.to_str().unwrap().to_owned();
    (folder, text)
}

/// An interpreter with that on its command line, and the hook in it.
fn python(world: &World, first: &str, folder: &Path) -> Program {
    let program = Program::of(commanded(&world.copy("python.exe"), first).current_dir(folder));
    program.inject().expect("it takes the hook");
    program
}

#[test]
fn a_listed_script_is_known_however_its_command_spells_it() {
    let mut world = World::new();
    let (folder, script) = script(&world);
    let above = folder.parent().unwrap();
    let slashes = script.replace('\\', "/");
    for (first, from, is_it) in [
        (format!("\"{script}\""), above, true),
        (format!("\"{}\"", script.to_uppercase()), above, true),
        (format!("\"{slashes}\""), above, true),
        (format!(r#""\\?\{script}""#), above, true),
        ("crm.py".to_owned(), &folder, true),
        (r"..\x\..\CRM.py".to_owned(), &folder, false),
        (r#""a folder of a long name\crm.py" crm2.py"#.to_owned(), above, true),
        ("crm.py".to_owned(), above, false),
        (format!("crm2.py \"{script}\""), &folder, false),
    ] {
        let mut program = python(&world, &first, from);
        for (entry, wanted) in [(script.as_str(), is_it), ("Crm.PY", !first.contains("crm2.py \""))]
        {
            world.publish(&only(vec![listed(entry)]));
            let given = program.does(BINDS);
            assert_eq!(given, if wanted { MOVED } else { LEFT }, "{entry} by {first}");
        }
        world.publish(&content());
    }
}

#[test]
fn where_it_goes_later_does_not_count() {
    let mut world = World::new();
    let (folder, script) = script(&world);
    let above = folder.parent().unwrap();
    world.publish(&only(vec![listed(&script)]));
    let mut program = python(&world, "crm.py", &folder);
    assert_eq!(program.does(&format!("go {}", above.display())), "gone there");
    assert_eq!(program.does(BINDS), MOVED);
    let mut other = python(&world, "crm.py", above);
    assert_eq!(other.does(&format!("go {}", folder.display())), "gone there");
    assert_eq!(other.does(BINDS), LEFT);
}

#[test]
fn every_list_may_name_a_script() {
    let mut world = World::new();
    let (folder, script) = script(&world);
    let mut program = python(&world, "crm.py", &folder);
    let except = Pattern { excepted: true, ..pattern(&script, 31) };
    world.publish(&Content { programs: vec![except], ..content() });
    assert_eq!(program.does(BINDS), LEFT, "excepted");
    let excluded = vec![Exclusion { program: 31, port: 9130, protocol: TCP }];
    let left = Content { excluded, programs: vec![pattern("crm.py", 31)], ..content() };
    world.publish(&left);
    assert_eq!(program.does(BINDS), LEFT, "excluded");
    assert_eq!(program.does("bind udp 0.0.0.0:9130"), MOVED);
    let interpreter = vec![listed(&world.copy("python.exe"))];
    world.publish(&only(interpreter));
    assert_eq!(program.does(BINDS), MOVED, "by its interpreter");
}

#[test]
fn what_a_listed_script_starts_descends_from_it() {
    let mut world = World::new();
    let (folder, script) = script(&world);
    let flags = Flags { enabled: true, sources: true, children: true, ..Flags::default() };
    world.publish(&Content { flags, ..only(vec![listed(&script)]) });
    let child = world.copy("child.exe");
    let mut launcher = python(&world, "crm.py", &folder);
    assert_eq!(launcher.does(&format!("start {child}")), "ready");
    assert_eq!(launcher.does("child bind tcp 0.0.0.0:9130"), MOVED);
    assert_eq!(launcher.does(&format!("child start {child}")), "ready");
    assert_eq!(launcher.does("child child bind tcp 0.0.0.0:9130"), MOVED, "a grandchild");
    launcher.end();
    let mut other = python(&world, "crm2.py", &folder);
    assert_eq!(other.does(&format!("start {child}")), "ready");
    assert_eq!(other.does("child bind tcp 0.0.0.0:9130"), LEFT);
    other.end();
}

#[test]
fn an_excepted_script_that_is_started_is_not_touched() {
    let mut world = World::new();
    let (folder, script) = script(&world);
    let python = world.copy("python.exe");
    let mut program = world.hooked();
    assert_eq!(program.does(&format!("go {}", folder.display())), "gone there");
    let except = Pattern { excepted: true, ..pattern(&script, 31) };
    for (first, given) in [("crm.py", LEFT), ("crm2.py", MOVED)] {
        world.publish(&Content { programs: vec![except.clone()], ..content() });
        assert_eq!(program.does(&format!("start {python} runs {first}")), "ready");
        // Were the DLL in it, it would be moved under this policy.
        world.publish(&content());
        assert_eq!(program.does("child bind tcp 0.0.0.0:9130"), given, "{first}");
    }
    program.end();
}
