//! Who may ask what?

use super::Request;
use crate::session::UserId;

/// Who is at the other end of a control connection, as the system says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The user when it connected.
    pub user: UserId,
    /// He runs the host: root, or an elevated administrator.
    pub administrator: bool,
    /// The process that connected.
    pub pid: u32,
}

impl Peer {
    /// Administrators see and do everything.
    pub fn is_administrator(&self) -> bool {
        self.administrator
    }

    /// A user sees his own sessions, an administrator all.
    pub fn may_see(&self, owner: &UserId) -> bool {
        self.is_administrator() || self.user == *owner
    }

    /// Checks that this peer may make this request at all; what it gets to see
    /// is filtered by [`may_see`](Self::may_see).
    ///
    /// # Errors
    /// A sentence for the caller.
    pub fn permit(&self, request: &Request) -> Result<(), String> {
        let command = match request {
            Request::Status {}
            | Request::Sessions {}
            | Request::Flows { .. }
            | Request::Sockets {} => return Ok(()),
            Request::Reload {} => "reload",
            Request::OpenSession { .. } | Request::Start(_) => "exec",
        };
        if self.is_administrator() {
            return Ok(());
        }
        Err(format!("`{command}` is for administrators"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A user of either platform.
    fn id(number: u16) -> UserId {
        number.to_string().parse().unwrap()
    }

    #[test]
    fn users_look_and_administrators_act() {
        let user = Peer { user: id(1000), administrator: false, pid: 7 };
        let root = Peer { user: id(0), administrator: true, pid: 7 };
        assert!(user.permit(&Request::Flows { from: 0 }).is_ok());
        assert!(user.permit(&Request::Reload {}).is_err());
        assert!(root.permit(&Request::Reload {}).is_ok());
        assert!(user.may_see(&id(1000)));
        assert!(!user.may_see(&id(1001)));
        assert!(root.may_see(&id(1001)));
    }
}
