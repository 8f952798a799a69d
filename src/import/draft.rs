//! How is it said in our configuration?

use super::keys::{Found, Place};
use super::reg::{Entry, Value};
use super::{Import, Note};
use crate::config::ProgramPattern;
use std::fmt::Write as _;

/// The configuration while it is written, section by section.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pool: Vec<String>,
    virtual_ip: Vec<String>,
    loopback: Vec<String>,
    notes: Vec<Note>,
}

impl Draft {
    pub(super) fn note(&mut self, note: Note) {
        self.notes.push(note);
    }

    fn fill_in(&mut self, what: &str) {
        self.note(Note::FillIn(what.into()));
    }

    fn check(&mut self, what: impl Into<String>) {
        self.note(Note::Check(what.into()));
    }

    fn lost(&mut self, what: impl Into<String>) {
        self.note(Note::NotCarriedOver(what.into()));
    }

    /// The ranges, which no key has.
    pub(super) fn ranges(&mut self, found: &Found<'_>, ranges: &[String]) {
        let mut about = "The addresses to give. No key of the registry has them: reserve them in \
                         the subnet of this host, outside DHCP, one for each session."
            .to_owned();
        if let Some(Value::Text(network)) = found.microsoft("VIPAdapter") {
            let _ = write!(about, " The policy named the network {}.", shown(network));
        }
        comment(&mut self.pool, &about);
        self.pool.push(format!("ranges = {}", list(ranges)));
        if ranges.is_empty() {
            self.fill_in("pool.ranges, such as [\"10.77.0.101-10.77.0.199\"], or give --range");
        }
        if let Some(Value::Text(card)) = found.microsoft("AdapterAddress") {
            let card = shown(card);
            comment(
                &mut self.pool,
                &format!(
                    "AdapterAddress was {card}. Network cards have names here, and \"auto\" is \
                     the one whose subnet holds the ranges."
                ),
            );
            self.pool.push("adapter = \"auto\"".into());
            self.check(format!(
                "pool.adapter: the network card was {card}, and is now the one whose subnet holds \
                 the ranges"
            ));
        }
    }

    pub(super) fn virtual_ip(&mut self, found: &Found<'_>) {
        if found.has(Place::Policy) || found.has(Place::Server) {
            self.microsoft(found);
        } else {
            let about = "XenApp kept its list in the farm's data store, which no key has. Programs \
                         that preferred loopback were on it.";
            comment(&mut self.virtual_ip, about);
            self.virtual_ip.push("enabled = true".into());
            let programs = self.preferring(found);
            self.virtual_ip.push(format!("programs = {}", list(&programs)));
            self.fill_in(
                "virtual-ip.programs, those that had a virtual IP address (\"*\" for all), or \
                 virtual-ip.enabled = false",
            );
        }
    }

    fn microsoft(&mut self, found: &Found<'_>) {
        let enabled = self.number(found, "EnableVirtualIP");
        let about = match enabled {
            Some(number) => format!("EnableVirtualIP = {number}."),
            None => "Without EnableVirtualIP, RD IP Virtualization was off.".into(),
        };
        comment(&mut self.virtual_ip, &about);
        self.virtual_ip.push(format!("enabled = {}", enabled.is_some_and(|number| number != 0)));

        let mode = self.number(found, "VirtualMode");
        let about = match mode {
            Some(0) => "VirtualMode = 0, per session: all programs.".into(),
            Some(number) => format!("VirtualMode = {number}, per program: those of PerApp."),
            None => "Without VirtualMode it was per program: those of PerApp.".to_owned(),
        };
        comment(&mut self.virtual_ip, &about);
        let programs = self.microsoft_programs(found, mode);
        self.virtual_ip.push(format!("programs = {}", list(&programs)));
        if programs.is_empty() {
            self.fill_in("virtual-ip.programs: it was per program, and no PerApp names one");
        }
        if self.number(found, "PromptOnIPLeaseFail") == Some(1) {
            let about = "PromptOnIPLeaseFail = 1: where there was no virtual address, the server's \
                         was not used.";
            comment(&mut self.virtual_ip, about);
            self.virtual_ip.push("when-exhausted = \"block\"".into());
            self.check(
                "virtual-ip.when-exhausted = \"block\": listed programs stay off the network",
            );
        }
    }

    fn microsoft_programs(&mut self, found: &Found<'_>, mode: Option<u64>) -> Vec<String> {
        match (mode, found.microsoft("PerApp")) {
            (Some(0), _) => vec!["*".into()],
            (_, Some(value)) => self.programs("PerApp", &[value]),
            (_, None) => Vec::new(),
        }
    }

    /// Both systems had a virtual loopback, each with a mapping of its own.
    pub(super) fn loopback(&mut self, found: &Found<'_>) {
        let prefer_all = found.citrix("PreferLoopback").any(|it| *it == Value::Number(1));
        let preferring = if prefer_all { vec!["*".into()] } else { self.preferring(found) };
        let on = |name| found.microsoft(name).is_some_and(|it| matches!(it, Value::Number(1..)));
        let microsoft = on("EnableVirtualIP") && on("VirtualizeLoopbackAdresses");
        if !microsoft && preferring.is_empty() {
            return;
        }
        let mut programs = match microsoft {
            true => {
                let mode = self.quiet_number(found, "VirtualMode");
                let before = self.notes.len();
                let programs = self.microsoft_programs(found, mode);
                self.notes.truncate(before);
                comment(
                    &mut self.loopback,
                    "VirtualizeLoopbackAdresses: for the programs of virtual-ip.",
                );
                programs
            }
            false => Vec::new(),
        };
        self.loopback.push("enabled = true".into());
        if !preferring.is_empty() {
            let about = "Whether virtual loopback was on, and for whom, stood in Citrix's policy \
                         \"Virtual IP virtual loopback programs list\", which no key has. Programs \
                         that preferred it were on that list.";
            comment(&mut self.loopback, about);
            programs.extend(preferring.iter().filter(|it| *it != "*").cloned());
            self.fill_in("loopback.programs, from Citrix's virtual loopback programs list");
        }
        self.loopback.push(format!("programs = {}", list(&unique(programs))));
        if !preferring.is_empty() {
            comment(
                &mut self.loopback,
                if prefer_all { "PreferLoopback = 1: all." } else { "PreferLoopbackProcesses." },
            );
            self.loopback.push(format!("prefer = {}", list(&preferring)));
        }
        if microsoft {
            comment(&mut self.loopback, "From session 255 on, its addresses differ from Citrix's.");
            self.loopback.push("mapping = \"microsoft\"".into());
        }
    }

    fn preferring(&mut self, found: &Found<'_>) -> Vec<String> {
        let values: Vec<_> = found.citrix("PreferLoopbackProcesses").collect();
        let before = self.notes.len();
        let programs = self.programs("PreferLoopbackProcesses", &values);
        // It is asked more than once.
        let mut new = self.notes.split_off(before);
        new.retain(|note| !self.notes.contains(note));
        self.notes.append(&mut new);
        programs
    }

    /// The programs of some values that a configuration can have, each once.
    fn programs(&mut self, name: &str, values: &[&Value]) -> Vec<String> {
        let mut programs = Vec::new();
        for value in values {
            let texts = match value {
                Value::List(texts) => texts.clone(),
                Value::Text(text) => vec![text.clone()],
                Value::Number(_) | Value::Other => {
                    self.lost(format!("{name}: it is no list of programs"));
                    Vec::new()
                }
            };
            for text in texts {
                match text.trim().parse::<ProgramPattern>() {
                    Ok(_) if text.trim().contains(char::is_control) => {
                        self.lost(format!("the program {} of {name}", shown(&text)));
                    }
                    Ok(_) => programs.push(text.trim().to_owned()),
                    Err(refused) => self.lost(format!(
                        "the program {} of {name}: {}; {}",
                        shown(&text),
                        shown(&refused.message),
                        refused.help
                    )),
                }
            }
        }
        unique(programs)
    }

    fn number(&mut self, found: &Found<'_>, name: &str) -> Option<u64> {
        if found.microsoft(name).is_some_and(|value| !matches!(value, Value::Number(_))) {
            self.lost(format!("{name}: it is no number"));
        }
        self.quiet_number(found, name)
    }

    fn quiet_number(&self, found: &Found<'_>, name: &str) -> Option<u64> {
        match found.microsoft(name) {
            Some(Value::Number(number)) => Some(*number),
            Some(Value::Text(_) | Value::List(_) | Value::Other) | None => None,
        }
    }

    /// What was there and has no counterpart.
    pub(super) fn left_over(&mut self, found: &Found<'_>) {
        for (place, key, entry) in found.all() {
            let Some(why) = why_left(place, entry) else { continue };
            let Entry { name, value } = entry;
            let name = if name.is_empty() { "the default value" } else { &*shown(name) };
            self.lost(format!("{name}{} of {}: {why}", with(value), shown(key)));
        }
    }

    pub(super) fn finish(self, source: &str) -> Import {
        let mut head = Vec::new();
        comment(
            &mut head,
            &format!(
                "Made by sessionip import of {}. Read it, fill in what is missing, and let \
                 `sessionip check-config FILE` say what is wrong with it.",
                shown(source)
            ),
        );
        for note in &self.notes {
            head.push("#".into());
            let note = note.to_string();
            let (first, rest) = note.split_at(note.chars().next().map_or(0, char::len_utf8));
            comment(&mut head, &format!("{}{rest}.", first.to_uppercase()));
        }
        let mut toml = head.join("\n") + "\n";
        for (title, lines) in [
            ("[pool]", &self.pool),
            ("[virtual-ip]", &self.virtual_ip),
            ("[loopback]", &self.loopback),
        ] {
            if !lines.is_empty() {
                let _ = write!(toml, "\n{title}\n{}\n", lines.join("\n"));
            }
        }
        Import { toml, notes: self.notes }
    }
}

/// Why is it not carried over? `None`: it is, or it says nothing.
fn why_left(place: Place, entry: &Entry) -> Option<&'static str> {
    let off = entry.value == Value::Number(0);
    let name = entry.name.to_ascii_lowercase();
    Some(match (place, &*name) {
        (Place::Citrix, "preferloopback" | "preferloopbackprocesses") => return None,
        (Place::Citrix, "useclientip") if off => return None,
        (Place::Citrix, "useclientip" | "hookprocessesclientip") => {
            "the client's own address for programs that only identify is not in this version"
        }
        (Place::Policy | Place::Server, name) => match name {
            "enablevirtualip"
            | "virtualmode"
            | "perapp"
            | "virtualizeloopbackadresses"
            | "promptonipleasefail"
            | "adapteraddress"
            | "vipadapter" => return None,
            "ippool" => "its library gave the addresses, which come from pool.ranges here",
            "forcelogoffonipleasefail" if off => return None,
            "forcelogoffonipleasefail" => "nobody is logged off for want of an address here",
            "maxcacheip" | "acquireipattempts" | "acquireipretrysleeptime" => {
                "it is about DHCP, and addresses come from pool.ranges here"
            }
            "allowpersessioninmultinic" => "with several network cards pool.adapter names one here",
            "rpcuuid" | "ipfilterbitmaps" => "it is an inner matter of RD IP Virtualization",
            _ => "it is not known",
        },
        (Place::Citrix | Place::Below, _) => "it is not known",
    })
}

fn with(value: &Value) -> String {
    match value {
        Value::Number(number) => format!(" = {number}"),
        Value::Text(text) => format!(" = {}", shown(text)),
        Value::List(texts) => {
            format!(" = {}", texts.iter().map(|text| shown(text)).collect::<Vec<_>>().join(", "))
        }
        Value::Other => String::new(),
    }
}

/// Fit for a comment and for a terminal.
fn shown(text: &str) -> String {
    text.chars().map(|it| if it.is_control() { char::REPLACEMENT_CHARACTER } else { it }).collect()
}

/// File names are one in any case.
fn unique(mut texts: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::BTreeSet::new();
    texts.retain(|text| seen.insert(text.to_lowercase()));
    texts
}

fn list(texts: &[String]) -> String {
    let quoted: Vec<_> = texts.iter().map(|text| toml::Value::from(&**text).to_string()).collect();
    format!("[{}]", quoted.join(", "))
}

/// Adds a comment, in lines of 80 columns.
fn comment(lines: &mut Vec<String>, text: &str) {
    let mut line = "#".to_owned();
    for word in text.split_whitespace() {
        if line.len() > 1 && line.chars().count() + 1 + word.chars().count() > 80 {
            lines.push(std::mem::replace(&mut line, "#".to_owned()));
        }
        line.push(' ');
        line.push_str(word);
    }
    lines.push(line);
}
