//! Which programs run without the hook, and why?

use crate::session::SessionId;
use sessionip_hook::refusal::Refusal;
use std::fmt;

/// A listed program of a session that runs without the hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unhooked {
    /// Where it runs.
    pub session: SessionId,
    /// Its process.
    pub pid: u32,
    /// Its path; upper and lower case are as they are compared.
    pub program: String,
    /// Why.
    pub refusal: Refusal,
}

impl Unhooked {
    /// Not worth a word to an administrator by itself: the system has protected
    /// processes of its own in every session, and none of them is anybody's program.
    pub fn is_usual(&self) -> bool {
        matches!(self.refusal, Refusal::Protected | Refusal::Gone)
    }
}

impl fmt::Display for Unhooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { session, pid, program, refusal } = self;
        write!(f, "{program} (process {pid}) in session {session} runs without the hook: {refusal}")
    }
}
