//! Which file does an interpreter run? From its name and its arguments, on every
//! platform alike.
//!
//! The eBPF side (`bpf/script.h`) goes by the same [`RULES`], which the daemon
//! puts into its maps, and is tested with the same table of cases
//! (`hook/scripts.toml`). Windows has a few interpreters more, and hands programs
//! one line of text instead of arguments: [`script_in`].

mod host;
mod line;
mod place;
mod rules;

pub use line::{is_interpreter, script_in, words};
pub use place::absolute;
pub use rules::{Meaning, RULES, Rule};

use rules::Meaning::{File, Jar, NoFile, Rest, Value};

/// As many letters of one word are read, and as many arguments, longer ones
/// counted by 4 KiB.
const LETTERS: usize = 16;
const ARGUMENTS: usize = 64;

/// How the interpreter of that file name reads its arguments. `python3.11` is
/// `python`: a name counts up to its first digit.
pub fn rule_of(program: &str) -> Option<&'static Rule> {
    let lower = program.to_ascii_lowercase();
    let name = lower.strip_suffix(".exe").unwrap_or(&lower);
    let end = name.find(|letter: char| letter.is_ascii_digit()).unwrap_or(name.len());
    let name = name.get(..end)?;
    RULES.iter().find(|rule| rule.names.contains(&name))
}

/// The file that an interpreter runs, as its command names it: `arguments` begins
/// with the first one after the program's own name. `None`: it runs none.
pub fn script_of<'a>(rule: &Rule, arguments: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (mut skip, mut next_is_file, mut plain, mut jar) = (false, false, false, false);
    for argument in arguments.into_iter().take(ARGUMENTS) {
        if std::mem::take(&mut skip) {
            continue;
        }
        if next_is_file {
            return Some(argument).filter(|argument| !argument.is_empty());
        }
        let is_option = argument.starts_with('-') || rule.plus && argument.starts_with('+');
        if plain || !is_option {
            let is_file = !argument.is_empty() && (jar || !rule.only_jar);
            return is_file.then_some(argument);
        }
        match argument {
            // The standard input.
            "-" | "+" => return None,
            "--" => plain = true,
            _ => match meaning(rule, argument) {
                None | Some((Rest, _)) => {}
                Some((Value, is_whole)) => skip = is_whole,
                Some((File, true)) => next_is_file = true,
                Some((NoFile, _) | (File, false)) => return None,
                Some((Jar, _)) => jar = true,
            },
        }
    }
    None
}

/// What an option means, and whether it ends with the letter that does: its value
/// is the next argument then.
fn meaning(rule: &Rule, option: &str) -> Option<(Meaning, bool)> {
    if let Some((_, meaning)) = rule.words.iter().find(|(word, _)| *word == option) {
        return Some((*meaning, true));
    }
    if !rule.clusters || option.starts_with("--") {
        return None;
    }
    let mut letters = option.char_indices().skip(1).take(LETTERS);
    letters.find_map(|(at, letter)| {
        let (_, meaning) = rule.letters.iter().find(|(known, _)| *known == letter)?;
        Some((*meaning, at + letter.len_utf8() == option.len()))
    })
}
