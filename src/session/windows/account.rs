//! Whose session is that, by his security identifier?

use super::UserId;
use crate::guard::windows::identity::{user_named, user_of_session};

/// The SID of a session's user: its token's, which SYSTEM may ask for, else that
/// of the account's name. Where neither is to be had (a domain that does not
/// answer) the name stands for it: then only administrators see the session.
pub(super) fn user_id(session: u32, name: &str) -> UserId {
    user_of_session(session).or_else(|_| user_named(name)).unwrap_or_else(|error| {
        tracing::debug!(session, %error, "the user's security identifier is not known");
        name.to_owned()
    })
}
