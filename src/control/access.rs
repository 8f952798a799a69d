//! Who may ask what?

use super::Request;
use nix::unistd::Uid;

/// Who is at the other end of a control connection, as the kernel says
/// (`SO_PEERCRED`, unix(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The effective user when it connected.
    pub uid: Uid,
}

impl Peer {
    /// Administrators see and do everything.
    pub fn is_administrator(self) -> bool {
        self.uid.is_root()
    }

    /// A user sees his own sessions, an administrator all.
    pub fn may_see(self, owner: Uid) -> bool {
        self.is_administrator() || self.uid == owner
    }

    /// Checks that this peer may make this request at all; what it gets to see
    /// is filtered by [`may_see`](Self::may_see).
    ///
    /// # Errors
    /// A sentence for the caller.
    pub fn permit(self, request: &Request) -> Result<(), String> {
        let command = match request {
            Request::Status {}
            | Request::Sessions {}
            | Request::Flows { .. }
            | Request::Sockets {} => return Ok(()),
            Request::Reload {} => "reload",
            Request::OpenSession { .. } => "exec",
        };
        if self.is_administrator() {
            return Ok(());
        }
        Err(format!("`{command}` is for administrators: run it as root"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SessionId;

    #[test]
    fn users_look_and_administrators_act() {
        let user = Peer { uid: Uid::from_raw(1000) };
        let root = Peer { uid: Uid::from_raw(0) };
        let open = Request::OpenSession { session: SessionId(1), uid: 1000 };
        assert!(user.permit(&Request::Flows { from: 0 }).is_ok());
        assert!(user.permit(&open).is_err());
        assert!(user.permit(&Request::Reload {}).is_err());
        assert!(root.permit(&open).is_ok());
        assert!(user.may_see(Uid::from_raw(1000)));
        assert!(!user.may_see(Uid::from_raw(1001)));
        assert!(root.may_see(Uid::from_raw(1001)));
    }
}
