//! Which sessions are there, and what was a service told? Read from a text file.
//!
//! ```text
//! session ID STATE STATION DOMAIN\user [PROTOCOL] [logon=UNIX-SECONDS]
//! event TYPE ID
//! power [TYPE]
//! ```
//!
//! STATE is a word of `WTS_CONNECTSTATE_CLASS` without its `WTS` (`active`,
//! `disconnected`, `connected`, `listen` ..); the user is `-` before anyone has
//! logged on; PROTOCOL is `console`, `ica`, `rdp` or a number. What differs
//! between two readings is told to a service as the events that would have made
//! the difference; `event` and `power` lines that were added are told as they
//! are. TYPE is a number, or a word of `WTS_SESSION_*` or `PBT_APM*` in lower
//! case (`logon`, `lock`; `resume-automatic`, `suspend`).
//!
//! The file is to be replaced by renaming, never written in place: a session
//! that is missing from a half-written file has logged off.

use std::{fs, io::Write};

/// Where the stand-ins and the tests meet.
const FOLDER: &str = r"C:\standin";

const STATES: [&str; 10] = [
    "active",
    "connected",
    "connect-query",
    "shadow",
    "disconnected",
    "idle",
    "listen",
    "reset",
    "down",
    "init",
];
const ACTIVE: i32 = 0;
const PROTOCOLS: [&str; 3] = ["console", "ica", "rdp"];
/// `WTS_CONSOLE_CONNECT` is 1, and so on.
const EVENTS: [&str; 11] = [
    "console-connect",
    "console-disconnect",
    "remote-connect",
    "remote-disconnect",
    "logon",
    "logoff",
    "lock",
    "unlock",
    "remote-control",
    "create",
    "terminate",
];
const POWER: [(&str, u32); 4] =
    [("suspend", 0x4), ("resume-suspend", 0x7), ("status-change", 0xA), ("resume-automatic", 0x12)];

/// A login session as a terminal server knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its number.
    pub id: u32,
    /// `WTS_CONNECTSTATE_CLASS`.
    pub state: i32,
    /// The window station: `Console`, `RDP-Tcp#1`, `Services`.
    pub station: String,
    /// The domain or machine that knows the user.
    pub domain: String,
    /// Who logged on; empty before anyone has.
    pub user: String,
    /// `WTS_PROTOCOL_TYPE_*`.
    pub protocol: u16,
    /// When, as a `FILETIME`.
    pub logon: i64,
}

impl Session {
    /// Whether this is the session at the machine's own screen.
    pub fn is_console(&self) -> bool {
        self.station.eq_ignore_ascii_case("console")
    }
}

/// What a service is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// `SERVICE_CONTROL_SESSIONCHANGE`: the event and the session.
    Session(u32, u32),
    /// `SERVICE_CONTROL_POWEREVENT`: the event.
    Power(u32),
}

/// The file as it is now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    /// In the order of the file.
    pub sessions: Vec<Session>,
    /// All `event` and `power` lines, also those of long ago.
    pub told: Vec<Control>,
}

impl World {
    /// Reads the file. Without one nobody is there.
    pub fn now() -> Self {
        let text = fs::read_to_string(format!(r"{FOLDER}\sessions.txt")).unwrap_or_default();
        let (world, wrong) = Self::parse(&text);
        for line in wrong {
            complain(&format!("sessions.txt: cannot understand: {line}"));
        }
        world
    }

    /// Returns also the lines that make no sense.
    pub fn parse(text: &str) -> (Self, Vec<String>) {
        let mut world = Self::default();
        let mut wrong = Vec::new();
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            let understood = match words.as_slice() {
                ["session", rest @ ..] => session(rest).map(|s| world.sessions.push(s)),
                ["event", kind, id] => event(kind)
                    .zip(id.parse().ok())
                    .map(|(kind, id)| world.told.push(Control::Session(kind, id))),
                ["power"] => power("resume-automatic").map(|control| world.told.push(control)),
                ["power", kind] => power(kind).map(|control| world.told.push(control)),
                _ => None,
            };
            if understood.is_none() {
                wrong.push(line.to_owned());
            }
        }
        (world, wrong)
    }

    /// The session of that number.
    pub fn session(&self, id: u32) -> Option<&Session> {
        self.sessions.iter().find(|session| session.id == id)
    }

    /// What a service is told when `self` has become `after`.
    pub fn until(&self, after: &Self) -> Vec<Control> {
        let mut told = Vec::new();
        for old in &self.sessions {
            if after.session(old.id).is_none() {
                end(old, &mut told);
            }
        }
        for new in &after.sessions {
            match self.session(new.id) {
                None => begin(new, &mut told),
                Some(old) if old.logon != new.logon && !old.user.is_empty() => {
                    end(old, &mut told);
                    begin(new, &mut told);
                }
                Some(old) => change(old, new, &mut told),
            }
        }
        told.extend(after.told.get(self.told.len()..).unwrap_or_default());
        told
    }
}

/// Writes down what a test did wrong, where whoever looks into it will look.
pub fn complain(what: &str) {
    let path = format!(r"{FOLDER}\complaints.txt");
    if let Ok(mut file) = fs::OpenOptions::new().create(true).append(true).open(path) {
        let _ = writeln!(file, "{}: {what}", std::process::id());
    }
}

fn begin(new: &Session, told: &mut Vec<Control>) {
    told.push(Control::Session(number("create"), new.id));
    if new.state == ACTIVE {
        told.push(connected(new, true));
    }
    if !new.user.is_empty() {
        told.push(Control::Session(number("logon"), new.id));
    }
}

fn end(old: &Session, told: &mut Vec<Control>) {
    if old.state == ACTIVE {
        told.push(connected(old, false));
    }
    if !old.user.is_empty() {
        told.push(Control::Session(number("logoff"), old.id));
    }
    told.push(Control::Session(number("terminate"), old.id));
}

fn change(old: &Session, new: &Session, told: &mut Vec<Control>) {
    if old.state != new.state && (old.state == ACTIVE || new.state == ACTIVE) {
        told.push(connected(new, new.state == ACTIVE));
    }
    match (old.user.is_empty(), new.user.is_empty()) {
        (true, false) => told.push(Control::Session(number("logon"), new.id)),
        (false, true) => told.push(Control::Session(number("logoff"), new.id)),
        _ => {}
    }
}

fn connected(session: &Session, connected: bool) -> Control {
    let kind = match (session.is_console(), connected) {
        (true, true) => "console-connect",
        (true, false) => "console-disconnect",
        (false, true) => "remote-connect",
        (false, false) => "remote-disconnect",
    };
    Control::Session(number(kind), session.id)
}

fn session(words: &[&str]) -> Option<Session> {
    let [id, state, station, who, options @ ..] = words else { return None };
    let id = id.parse().ok()?;
    let (domain, user) = match *who {
        "-" => ("", ""),
        who => who.split_once('\\')?,
    };
    let local = ["console", "services"].iter().any(|own| station.eq_ignore_ascii_case(own));
    let mut session = Session {
        id,
        state: i32::try_from(place(&STATES, state)?).ok()?,
        station: (*station).to_owned(),
        domain: domain.to_owned(),
        user: user.to_owned(),
        protocol: if local { 0 } else { 2 },
        // Any moment will do that the next reading says again.
        logon: filetime(1_700_000_000 + i64::from(id))?,
    };
    for option in options {
        match option.strip_prefix("logon=") {
            Some(seconds) => session.logon = filetime(seconds.parse().ok()?)?,
            None => {
                session.protocol = match place(&PROTOCOLS, option) {
                    Some(at) => u16::try_from(at).ok()?,
                    None => option.parse().ok()?,
                }
            }
        }
    }
    Some(session)
}

fn event(word: &str) -> Option<u32> {
    match place(&EVENTS, word) {
        Some(at) => u32::try_from(at + 1).ok(),
        None => word.parse().ok(),
    }
}

fn power(word: &str) -> Option<Control> {
    match POWER.iter().find(|(name, _)| *name == word) {
        Some((_, kind)) => Some(Control::Power(*kind)),
        None => word.parse().ok().map(Control::Power),
    }
}

fn number(word: &str) -> u32 {
    event(word).unwrap_or_default()
}

fn place(words: &[&str], word: &str) -> Option<usize> {
    words.iter().position(|known| *known == word)
}

/// MS-DTYP 2.3.3: units of 100 ns since 1601.
fn filetime(unix_seconds: i64) -> Option<i64> {
    unix_seconds.checked_add(11_644_473_600)?.checked_mul(10_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(text: &str) -> World {
        let (world, wrong) = World::parse(text);
        assert_eq!(wrong, Vec::<String>::new());
        world
    }

    #[test]
    fn a_file_is_read_as_it_is_meant() {
        let world = world(
            "# a host\nsession 0 disconnected Services -\n\
             session 1 connected Console -\n\
             session 2 active RDP-Tcp#1 EXAMPLE\\anna rdp logon=0\n\
             power\nevent lock 2\nevent 6 2\n",
        );
        assert_eq!(world.sessions.len(), 3);
        assert!(world.sessions[1].is_console());
        let anna = world.session(2).map(|s| (&*s.domain, &*s.user, s.protocol, s.logon));
        assert_eq!(anna, Some(("EXAMPLE", "anna", 2, 116_444_736_000_000_000)));
        let told = [Control::Power(0x12), Control::Session(7, 2), Control::Session(6, 2)];
        assert_eq!(world.told, told);
    }

    #[test]
    fn nonsense_is_given_back() {
        let (world, wrong) =
            World::parse("session x active A B\\c\nsession 1 busy A B\\c\nhello\nevent logon\n");
        assert_eq!(world, World::default());
        assert_eq!(wrong.len(), 4);
    }

    #[test]
    fn what_changed_is_told_in_order() {
        let nobody = world("session 1 connected Console -\n");
        let anna = world(
            "session 1 connected Console -\nsession 2 active RDP-Tcp#1 E\\anna\nevent lock 2\n",
        );
        let away = world(
            "session 1 connected Console -\nsession 2 disconnected RDP-Tcp#1 E\\anna\nevent lock 2\n",
        );
        let session = |kind, id| Control::Session(kind, id);
        let arrival = vec![session(10, 2), session(3, 2), session(5, 2), session(7, 2)];
        assert_eq!(nobody.until(&anna), arrival);
        assert_eq!(anna.until(&anna), vec![]);
        assert_eq!(anna.until(&away), vec![session(4, 2)]);
        assert_eq!(away.until(&nobody), vec![session(6, 2), session(11, 2)]);
    }

    #[test]
    fn a_number_that_is_taken_again_is_another_logon() {
        let first = world("session 2 active RDP-Tcp#1 E\\anna logon=1\n");
        let second = world("session 2 active RDP-Tcp#4 E\\ben logon=9\n");
        let kinds: Vec<Control> = first.until(&second);
        let expected = [4, 6, 11, 10, 3, 5].map(|kind| Control::Session(kind, 2));
        assert_eq!(kinds, expected);
    }
}
