//! What do the host's own name, and its lists of addresses, say in a program of a
//! session? The session's addresses, where `scope = "connect"`.
//!
//! On Windows the DLL asks the system, and edits the answer: which rows stay, and
//! with which address, is decided here. On Linux a module of libc's name functions
//! answers by itself (`names/`), to the same effect.

mod called;
mod cuts;
mod rows;

pub use called::Called;
pub use cuts::{Cut, Cuts};
pub use rows::{Kept, List, Row, keep, of_host, of_name};

use crate::decide::{Caller, Flags, Session};

/// The session whose addresses stand for the host's in this program. `None`: the
/// host's own do.
pub fn stand_in(caller: &Caller, flags: Flags) -> Option<Session> {
    let session = caller.session?;
    let virtualised = flags.enabled && flags.connect && caller.program.is_virtualised(flags);
    (virtualised && (session.ipv4.is_some() || session.ipv6.is_some())).then_some(session)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::Program;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn only_a_virtualised_program_of_a_session_with_a_lease_is_answered_otherwise() {
        let on = Flags { enabled: true, connect: true, ..Flags::default() };
        let leased =
            Session { id: 3, ipv4: Some(Ipv4Addr::new(10, 77, 0, 101)), ..Session::default() };
        let six = Session { ipv4: None, ipv6: Some(Ipv6Addr::LOCALHOST), ..leased };
        let listed = Program { listed: true, ..Program::default() };
        let excepted = Program { excepted: true, ..listed };
        let descends = Program { descends: true, ..Program::default() };
        for (what, flags, session, program, stands) in [
            ("listed", on, Some(leased), listed, true),
            ("IPv6 alone", on, Some(six), listed, true),
            ("no session", on, None, listed, false),
            ("no lease", on, Some(Session { ipv4: None, ..leased }), listed, false),
            ("unlisted", on, Some(leased), Program::default(), false),
            ("excepted", on, Some(leased), excepted, false),
            ("a child", on, Some(leased), descends, false),
            ("a child that counts", Flags { children: true, ..on }, Some(leased), descends, true),
            ("by default", Flags { connect: false, ..on }, Some(leased), listed, false),
            ("turned off", Flags { enabled: false, ..on }, Some(leased), listed, false),
        ] {
            let caller = Caller { session, program, privileged: false };
            assert_eq!(stand_in(&caller, flags), session.filter(|_| stands), "{what}");
        }
    }
}
