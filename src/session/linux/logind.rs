//! What does logind say of one of its sessions?
//!
//! `/run/systemd/sessions/ID` is a file of `KEY=value` lines, written whole by
//! systemd-logind (src/login/logind-session.c, `session_save`). It is private to
//! systemd, so what is missing or new in it counts as a user's session.

use jiff::Timestamp;
use std::fs;
use std::path::Path;

/// The part of a session's file that matters here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Description {
    class: Option<String>,
    /// When the user logged on.
    pub(super) since: Option<Timestamp>,
}

impl Description {
    /// Reads the file of session `name`; empty where there is none.
    pub(super) fn read(state: &Path, name: &str) -> Self {
        fs::read_to_string(state.join(name)).map(|text| Self::parse(&text)).unwrap_or_default()
    }

    fn parse(text: &str) -> Self {
        let mut description = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            match key {
                "CLASS" => description.class = Some(value.to_owned()),
                "REALTIME" => {
                    let microseconds = value.parse().ok();
                    description.since =
                        microseconds.and_then(|since| Timestamp::from_microsecond(since).ok());
                }
                _ => {}
            }
        }
        description
    }

    /// Is a user logged on by it? Not by a greeter, a lock screen, a manager or
    /// a job of cron (`background`); `user-incomplete` waits for its home.
    pub(super) fn is_a_users(&self) -> bool {
        match self.class.as_deref() {
            None => true,
            Some(class) => {
                matches!(class, "user" | "user-early" | "user-light" | "user-early-light")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_users_are_logged_on() {
        for (text, expected) in [
            ("", true),
            ("UID=1000\nCLASS=user\nREALTIME=1795302669000000\n", true),
            ("CLASS=user-early\n", true),
            ("CLASS=user-incomplete\n", false),
            ("CLASS=greeter\n", false),
            ("CLASS=lock-screen\n", false),
            ("CLASS=manager\n", false),
            ("CLASS=background\n", false),
        ] {
            assert_eq!(Description::parse(text).is_a_users(), expected, "{text:?}");
        }
    }

    #[test]
    fn the_time_of_logon_is_logind_s() {
        let since = Description::parse("CLASS=user\nREALTIME=1795302669000001\n").since;
        assert_eq!(since, Some("2026-11-21T23:11:09.000001Z".parse().unwrap()));
        assert_eq!(Description::parse("REALTIME=soon\nnonsense\n").since, None);
    }
}
