//! Which file does a command line of Windows name? There a program is handed one
//! text, and takes it apart itself.

use super::host::host_of;
use super::{rule_of, script_of};

/// The file that the interpreter of that file name runs, as the command line
/// names it. `None`: it is no interpreter, or runs none.
pub fn script_in(program: &str, line: &str) -> Option<String> {
    if let Some(host) = host_of(program) {
        return host.script_in(line);
    }
    let words = words(line);
    script_of(rule_of(program)?, words.iter().skip(1).map(String::as_str)).map(str::to_owned)
}

/// May a program of that file name run a script at all?
pub fn is_interpreter(program: &str) -> bool {
    host_of(program).is_some() || rule_of(program).is_some()
}

/// The words of a command line, as `CommandLineToArgvW` parts them; the first one
/// is the program's own name.
pub fn words(line: &str) -> Vec<String> {
    let (first, rest) = first(line);
    let mut words = vec![first.to_owned()];
    let mut letters = rest.chars().peekable();
    loop {
        while letters.next_if(|letter| is_blank(*letter)).is_some() {}
        if letters.peek().is_none() {
            return words;
        }
        words.push(word(&mut letters));
    }
}

/// The program's own name, and what follows: it ends with the quote that it begins
/// with, or with a blank. Backslashes mean nothing here.
pub(super) fn first(line: &str) -> (&str, &str) {
    match line.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
        None => line.split_at(line.find(is_blank).unwrap_or(line.len())),
    }
}

/// One word. Backslashes are themselves, but for those before a quote: two stand
/// for one, and one takes the quote's meaning. Three quotes in a row, the opening
/// one counted, are one that is meant.
fn word(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> String {
    let mut word = String::new();
    let (mut backslashes, mut quotes) = (0_usize, 0_u8);
    while let Some(letter) = letters.next_if(|letter| quotes != 0 || !is_blank(*letter)) {
        match letter {
            '\\' => backslashes += 1,
            '"' => {
                word.extend(std::iter::repeat_n('\\', backslashes / 2));
                if backslashes.is_multiple_of(2) {
                    quotes += 1;
                } else {
                    word.push('"');
                }
                backslashes = 0;
                while letters.next_if_eq(&'"').is_some() {
                    quotes += 1;
                    if quotes == 3 {
                        word.push('"');
                        quotes = 0;
                    }
                }
                quotes %= 2;
            }
            letter => {
                word.extend(std::iter::repeat_n('\\', std::mem::take(&mut backslashes)));
                word.push(letter);
            }
        }
    }
    word.extend(std::iter::repeat_n('\\', backslashes));
    word
}

pub(super) fn is_blank(letter: char) -> bool {
    matches!(letter, ' ' | '\t')
}
