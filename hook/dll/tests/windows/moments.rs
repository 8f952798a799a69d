//! When is a question about the host's name answered, and to whom?

use crate::world::{Program, V, World, content, this_file};
use hook::decide::Flags;
use hook::section::Content;

/// A program that is hooked under `scope = "connect"`, one that is not, and the name.
fn world() -> (World, Program, Program, String) {
    let mut world = World::new();
    let base = content();
    world.publish(&Content { flags: Flags { connect: true, ..base.flags }, ..base });
    let (program, mut plain) = (world.hooked(), world.unhooked(&this_file()));
    let name = plain.does("ask called");
    (world, program, plain, name)
}

/// It may ask somebody, and take its time.
#[test]
fn a_provider_that_the_program_chose_answers_when_it_likes() {
    let (_world, mut program, mut plain, name) = world();
    for how in ["later-wins", "later-chosen"] {
        // What they are told is Wine's, which asks GetAddrInfoW in another thread.
        for program in [&mut plain, &mut program] {
            let answer = program.does(&format!("ask name {how} 4 {name}"));
            assert!(answer.starts_with("later "), "{how}: {answer}");
        }
    }
    let answer = program.does(&format!("ask name later-all 4 {name}"));
    assert_eq!(answer, format!("at once {V}"), "all namespaces");
}

/// A thread's number is another's once it has ended.
#[test]
fn a_thread_that_ends_amid_a_question_leaves_no_trace() {
    let (_world, mut program, _plain, name) = world();
    assert_eq!(program.does(&format!("ask after-an-end {name}")), V);
    assert_eq!(program.does(&format!("ask name a 4 {name}")), V);
}
