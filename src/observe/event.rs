//! What is an administrator to find in the system's own log, under one number
//! for ever?
//!
//! An event is told beside a line of the log: the line is for whoever looks into
//! sessionip, the event for whoever looks after the host and filters by id. A
//! platform supplies `record`; the journal, which has the lines, takes no events.
//! On Windows the sentences stand in the executable (`windows/messages.mc`), and a
//! test holds both texts together.
//!
//! | id | event |
//! |---|---|
//! | 1, 2, 3 | the daemon runs, has stopped, has failed |
//! | 4 | the log file cannot be written |
//! | 10, 11 | the configuration was read again, was refused |
//! | 20 | a session has no virtual address |
//! | 21 | a program was not virtualized |
//! | 22 | another machine uses an address of the pool |
//! | 23 | this machine uses an address of the pool itself |
//! | 30 | packets cannot be diverted |

use super::platform;
use crate::lease::Refused;
use crate::session::SessionId;
use std::fmt;
use std::net::IpAddr;

/// Something that an administrator may want to be told of. What it holds is put
/// into its sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each names what its sentence says")]
pub enum Event<'a> {
    /// Sessions have their addresses from here on.
    Started { version: &'a str },
    /// Everything was taken back.
    Stopped,
    /// The daemon ended, or did not start.
    Failed { why: &'a str },
    /// Lines of the log go nowhere.
    NoLog { why: &'a str },
    /// New flows go by what the file says now.
    Reloaded,
    /// The daemon goes on by what it read before, or did not start.
    ConfigRefused { why: &'a str },
    /// The pool is empty, or the user has his share. Told once for each session.
    NoAddress { session: SessionId, user: &'a str },
    /// The hook does not reach this program.
    NotVirtualized { program: &'a str, session: SessionId, user: &'a str },
    /// Another machine answers for it, and so no session gets it.
    AddressConflict { address: IpAddr },
    /// The host has it otherwise, and so no session gets it.
    AddressOfThisHost { address: IpAddr },
    /// The driver is missing, or does not load.
    NotDiverted { why: &'a str },
}

/// How grave an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of every log")]
pub enum Severity {
    Information,
    Warning,
    Error,
}

impl Event<'_> {
    /// Its number: never another's, whatever the version.
    pub const fn id(&self) -> u16 {
        match self {
            Self::Started { .. } => 1,
            Self::Stopped => 2,
            Self::Failed { .. } => 3,
            Self::NoLog { .. } => 4,
            Self::Reloaded => 10,
            Self::ConfigRefused { .. } => 11,
            Self::NoAddress { .. } => 20,
            Self::NotVirtualized { .. } => 21,
            Self::AddressConflict { .. } => 22,
            Self::AddressOfThisHost { .. } => 23,
            Self::NotDiverted { .. } => 30,
        }
    }

    /// How grave it is: an error leaves sessions without the product.
    pub const fn severity(&self) -> Severity {
        match self {
            Self::Started { .. } | Self::Stopped | Self::Reloaded => Severity::Information,
            Self::NoLog { .. }
            | Self::ConfigRefused { .. }
            | Self::NoAddress { .. }
            | Self::NotVirtualized { .. }
            | Self::AddressConflict { .. }
            | Self::AddressOfThisHost { .. } => Severity::Warning,
            Self::Failed { .. } | Self::NotDiverted { .. } => Severity::Error,
        }
    }

    /// What is put into its sentence, in this order.
    pub fn insertions(&self) -> Vec<String> {
        match self {
            Self::Stopped | Self::Reloaded => Vec::new(),
            Self::Started { version: text }
            | Self::Failed { why: text }
            | Self::NoLog { why: text }
            | Self::ConfigRefused { why: text }
            | Self::NotDiverted { why: text } => vec![(*text).to_owned()],
            Self::NoAddress { session, user } => vec![session.to_string(), (*user).to_owned()],
            Self::NotVirtualized { program, session, user } => {
                vec![(*program).to_owned(), session.to_string(), (*user).to_owned()]
            }
            Self::AddressConflict { address } | Self::AddressOfThisHost { address } => {
                vec![address.to_string()]
            }
        }
    }

    /// Puts it into the system's log. It never fails: what cannot be told there is
    /// a line of ours still.
    pub fn record(&self) {
        platform::record(self);
    }
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { version } => {
                write!(f, "sessionip {version} is ready: sessions have addresses of their own.")
            }
            Self::Stopped => {
                f.write_str("sessionip has stopped: sessions use the address of the host.")
            }
            Self::Failed { why } => write!(f, "sessionip has failed: {why}"),
            Self::NoLog { why } => write!(f, "sessionip cannot write its log file: {why}"),
            Self::Reloaded => f.write_str("The configuration was read again."),
            Self::ConfigRefused { why } => write!(f, "The configuration was refused: {why}"),
            Self::NoAddress { session, user } => {
                write!(f, "{}\n\nSession: {session}\nUser: {user}", Refused::Exhausted)
            }
            Self::NotVirtualized { program, session, user } => {
                write!(f, "sessionip did not virtualize {program} in session {session} of {user}.")
            }
            Self::AddressConflict { address } => write!(
                f,
                "Another machine uses {address}, an address of the pool: no session gets it. \
                 Take it out of pool.ranges."
            ),
            Self::AddressOfThisHost { address } => write!(
                f,
                "This machine uses {address}, an address of the pool, itself: no session gets it. \
                 Take it out of pool.ranges."
            ),
            Self::NotDiverted { why } => {
                write!(f, "Packets cannot be diverted, and sessions get no addresses: {why}")
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// One of each, with texts that nothing else holds.
    pub(in crate::observe) fn all() -> Vec<Event<'static>> {
        let (session, address) = (SessionId(7), IpAddr::from([10, 77, 0, 101]));
        vec![
            Event::Started { version: "1.2.3" },
            Event::Stopped,
            Event::Failed { why: "w-3" },
            Event::NoLog { why: "w-4" },
            Event::Reloaded,
            Event::ConfigRefused { why: "w-11" },
            Event::NoAddress { session, user: r"CORP\ana" },
            Event::NotVirtualized { program: "crm.exe", session, user: r"CORP\ana" },
            Event::AddressConflict { address },
            Event::AddressOfThisHost { address },
            Event::NotDiverted { why: "w-30" },
        ]
    }

    /// The messages as the message compiler reads them, by id: severity, text.
    fn messages() -> BTreeMap<u16, (String, String)> {
        let mut messages = BTreeMap::new();
        for entry in include_str!("windows/messages.mc").split("MessageId=").skip(1) {
            let (head, text) = entry.split_once("Language=English").unwrap();
            let (id, severity) = head.trim().split_once("Severity=").unwrap();
            let severity = severity.split_whitespace().next().unwrap();
            // A line that is a dot ends the text.
            let text = text.trim_start().split("\n.\n").next().unwrap();
            let earlier =
                messages.insert(id.trim().parse().unwrap(), (severity.to_owned(), text.to_owned()));
            assert_eq!(earlier, None, "two messages with one id");
        }
        messages
    }

    #[test]
    fn the_sentences_in_the_executable_are_these() {
        let messages = messages();
        assert_eq!(messages.len(), all().len());
        for event in all() {
            let (severity, text) = &messages[&event.id()];
            assert_eq!(*severity, format!("{:?}", event.severity()), "{event:?}");
            let mut text = text.clone();
            for (number, insertion) in event.insertions().iter().enumerate() {
                let place = format!("%{}", number + 1);
                assert!(text.contains(&place), "{event:?}");
                text = text.replace(&place, insertion);
            }
            assert!(!text.contains('%'), "{text}");
            assert_eq!(text, event.to_string());
        }
    }

    #[test]
    fn the_sentence_about_an_empty_pool_is_the_one_that_is_known() {
        let event = Event::NoAddress { session: SessionId(7), user: r"CORP\ana" };
        assert!(event.to_string().starts_with(
            "No virtual IP address is available for this session, please contact your \
             administrator.\n"
        ));
    }
}
