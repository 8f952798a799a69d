//! Which file do the hosts of scripts run that Windows itself has: cmd, PowerShell,
//! the Script Host?

use super::line::{first, is_blank, words};
use super::rules::Meaning::{self, File, NoFile, Rest, Value};

/// A program of Windows that reads its command line in a way of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Host {
    Cmd,
    /// Windows PowerShell: what is no option is a command.
    PowerShell,
    /// PowerShell 6 and newer: what is no option is a file.
    Pwsh,
    /// The Script Host.
    Wsh,
}

/// The host of that file name.
pub(super) fn host_of(program: &str) -> Option<Host> {
    let lower = program.to_ascii_lowercase();
    match lower.strip_suffix(".exe").unwrap_or(&lower) {
        "cmd" => Some(Host::Cmd),
        "powershell" => Some(Host::PowerShell),
        "pwsh" => Some(Host::Pwsh),
        "wscript" | "cscript" => Some(Host::Wsh),
        _ => None,
    }
}

impl Host {
    pub(super) fn script_in(self, line: &str) -> Option<String> {
        match self {
            Self::Cmd => batch_file(first(line).1).map(str::to_owned),
            Self::PowerShell | Self::Pwsh => self.powershell_script(line),
            // Its own options begin with two slashes, and one is taken as well.
            Self::Wsh => words(line)
                .into_iter()
                .skip(1)
                .find(|word| !word.starts_with('/'))
                .filter(|word| !word.is_empty()),
        }
    }

    fn powershell_script(self, line: &str) -> Option<String> {
        let words = words(line);
        let mut rest = words.get(1..)?;
        while let [word, after @ ..] = rest {
            let option = word.strip_prefix(['-', '/', '\u{2013}', '\u{2014}', '\u{2015}']);
            let Some(option) = option.filter(|option| !option.is_empty()) else {
                return match self {
                    Self::Pwsh => Some(word.clone()).filter(|word| word != "-"),
                    Self::Cmd | Self::PowerShell | Self::Wsh => command_script(rest),
                };
            };
            let option = option.strip_prefix('-').unwrap_or(option).to_lowercase();
            rest = match parameter(&option) {
                Some(Value) => after.get(1..)?,
                Some(File) => return after.first().filter(|word| *word != "-").cloned(),
                Some(NoFile) if option.starts_with('c') => return command_script(after),
                Some(NoFile) => return None,
                Some(Rest | Meaning::Jar) | None => after,
            };
        }
        None
    }
}

/// The parameters of PowerShell that matter here, and how far each may be cut.
const PARAMETERS: [(&str, &str, Meaning); 25] = [
    ("configurationfile", "configurationf", Value),
    ("configurationname", "config", Value),
    ("custompipename", "cus", Value),
    ("commandwithargs", "commandw", NoFile),
    ("cwa", "cwa", NoFile),
    ("command", "c", NoFile),
    ("windowstyle", "w", Value),
    ("workingdirectory", "wo", Value),
    ("wd", "wd", Value),
    ("file", "f", File),
    ("outputformat", "o", Value),
    ("of", "of", Value),
    ("inputformat", "in", Value),
    ("if", "if", Value),
    ("executionpolicy", "ex", Value),
    ("ep", "ep", Value),
    ("encodedarguments", "encodeda", Value),
    ("ea", "ea", Value),
    ("encodedcommand", "e", NoFile),
    ("ec", "ec", NoFile),
    ("settingsfile", "settings", Value),
    ("psconsolefile", "psc", Value),
    ("servermode", "s", NoFile),
    ("socketservermode", "so", NoFile),
    ("version", "v", Value),
];

/// `None`: it has no value, or nobody knows it.
fn parameter(option: &str) -> Option<Meaning> {
    let is_it =
        |name: &str, shortest: &str| name.starts_with(option) && option.starts_with(shortest);
    let known = PARAMETERS.iter().find(|(name, shortest, _)| is_it(name, shortest));
    known.map(|(.., meaning)| *meaning)
}

/// A command that is no more than the call of a script: `x.ps1`, `& 'x y.ps1' -z`.
fn command_script(words: &[String]) -> Option<String> {
    let command = words.join(" ");
    let command = command.trim_start();
    let called = command.strip_prefix(['&', '.']).filter(|rest| rest.starts_with([' ', '\'', '"']));
    let command = called.unwrap_or(command).trim_start();
    let word = match command.chars().next()? {
        quote @ ('\'' | '"') => command.get(1..)?.split(quote).next()?,
        _ => command.split([' ', '\t', ';', '|']).next()?,
    };
    has_extension(word, &[".ps1"]).then(|| word.to_owned())
}

/// The batch file that `cmd` is to run, as what follows its own name says.
fn batch_file(mut rest: &str) -> Option<&str> {
    let mut strips = false;
    loop {
        rest = rest.trim_start_matches(is_blank);
        let switch = rest.strip_prefix('/')?;
        let letter = switch.chars().next()?;
        let after = switch.get(letter.len_utf8()..)?;
        match letter.to_ascii_lowercase() {
            'c' | 'k' | 'r' => return first_command(after.trim_start_matches(is_blank), strips),
            's' => strips = true,
            _ => {}
        }
        // `/e:on`, `/q/c`.
        rest = after.trim_start_matches(|letter| letter != '/' && !is_blank(letter));
    }
}

/// What `cmd /?` says of quotes. Whether the text between the only two is the name
/// of a file is told by its end, for nobody looks.
fn first_command(command: &str, strips: bool) -> Option<&str> {
    let Some(inside) = command.strip_prefix('"') else { return batch_word(command) };
    let Some((inside, _)) = inside.rsplit_once('"') else { return batch_word(inside) };
    let is_name = !strips
        && !inside.contains(['"', '&', '<', '>', '(', ')', '@', '^', '|'])
        && has_extension(inside, &BATCH);
    if is_name {
        return Some(inside);
    }
    // Both quotes go, and what follows the last one stays.
    batch_word(inside)
}

const BATCH: [&str; 2] = [".cmd", ".bat"];

fn batch_word(command: &str) -> Option<&str> {
    let command = command.trim_start_matches(|letter| is_blank(letter) || letter == '@');
    let word = match command.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next()?,
        None => command.split([' ', '\t', ',', ';', '=', '&', '|', '<', '>', '"']).next()?,
    };
    if word.eq_ignore_ascii_case("call") {
        return batch_word(command.get(word.len()..)?);
    }
    has_extension(word, &BATCH).then_some(word)
}

fn has_extension(word: &str, extensions: &[&str]) -> bool {
    let end = |extension: &&str| {
        let from = word.len().checked_sub(extension.len());
        from.and_then(|from| word.get(from..)).is_some_and(|it| it.eq_ignore_ascii_case(extension))
    };
    extensions.iter().any(end)
}
