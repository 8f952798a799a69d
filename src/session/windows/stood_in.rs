//! The watcher among sessions that come and go: stand-ins for them are what these
//! tests take (`tests/windows`), which read `C:\standin\sessions.txt`.

use super::{Scope, Watcher, poke};
use crate::session::{Event, SessionId};
use std::time::{Duration, Instant};

const NOBODY: &str = "session 0 disconnected Services -\nsession 1 active Console VM\\root\n";

/// Replaces the sessions, whole.
fn there_are(lines: &str) {
    let folder = std::path::Path::new(r"C:\standin");
    std::fs::write(folder.join("whole"), format!("{NOBODY}{lines}")).unwrap();
    std::fs::rename(folder.join("whole"), folder.join("sessions.txt")).unwrap();
}

/// What is told within five seconds.
#[expect(clippy::disallowed_methods, reason = "sessions live in real time")]
fn told(watcher: &mut Watcher) -> Vec<Event> {
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        let events = watcher.next(Duration::from_millis(250));
        if !events.is_empty() {
            return events;
        }
    }
    Vec::new()
}

#[test]
#[ignore = "takes the stand-ins for sessions"]
fn sessions_are_told_of_from_logon_to_logoff() {
    there_are("session 2 active RDP-Tcp#1 EXAMPLE\\anna rdp logon=1700000000\n");
    let (mut watcher, sessions) = Watcher::open().unwrap();
    let events = told(&mut watcher);
    let [Event::Started(session)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((session.id, &*session.user.name), (SessionId(2), r"EXAMPLE\anna"));
    assert!(session.user.id.starts_with("S-1-5-"), "{:?}", session.user);
    assert_eq!(session.since.to_string(), "2023-11-14T22:13:20Z");
    assert_eq!(session.scope, Scope { logon: 133_444_736_000_000_000 });
    assert!(sessions.is_login(2) && !sessions.is_login(1) && !sessions.is_login(0));

    // A session that somebody is about to log on to is none yet; one that is left
    // goes on.
    there_are(
        "session 2 disconnected RDP-Tcp#1 EXAMPLE\\anna rdp logon=1700000000\n\
         session 3 connected RDP-Tcp#2 -\n",
    );
    poke();
    assert_eq!(watcher.next(Duration::ZERO), []);
    assert!(!sessions.is_login(3));

    there_are(
        "session 2 active RDP-Tcp#1 EXAMPLE\\anna rdp logon=1700000000\n\
         session 3 active RDP-Tcp#2 EXAMPLE\\ben rdp logon=1700000001\n",
    );
    // Whoever has a socket of it asks first.
    poke();
    let events = watcher.next(Duration::from_secs(5));
    assert!(matches!(&events[..], [Event::Started(it)] if it.id == SessionId(3)), "{events:?}");
    assert!(sessions.is_login(3));

    // The number is used again, without a look between.
    there_are("session 2 active RDP-Tcp#1 EXAMPLE\\ben rdp logon=1700000009\n");
    let events = told(&mut watcher);
    assert!(
        matches!(
            &events[..],
            [Event::Ended(SessionId(2)), Event::Ended(SessionId(3)), Event::Started(it)]
                if it.user.name == r"EXAMPLE\ben" && it.id == SessionId(2)
        ),
        "{events:?}"
    );
    there_are("");
    assert_eq!(told(&mut watcher), [Event::Ended(SessionId(2))]);
    assert!(!sessions.is_login(2));
}
