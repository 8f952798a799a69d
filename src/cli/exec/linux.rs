//! The command takes the place of this process, inside the session's cgroup.

use super::{Failure, Options, daemon};
use crate::control::{OpenedSession, Request};
use crate::session::SessionId;
use crate::session::linux::enter_scope;
use nix::unistd::{self, User};
use std::ffi::CString;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

/// Replaces this process by the command, inside the session: its exit status is
/// the command's, and the session ends with its last process.
pub(crate) fn exec(config: &Path, options: &Options) -> Result<ExitCode, Failure> {
    let user = wanted_user(options.user.as_deref())?;
    let session = SessionId(options.session);
    enter(config, session, &user)?;
    let Some((program, arguments)) = options.command.split_first() else {
        return Err(Failure { sentence: "there is no command to run".into(), status: 2 });
    };
    let mut command = Command::new(program);
    command.args(arguments).env("XDG_SESSION_ID", session.to_string());
    if unistd::getuid() != user.uid {
        command.env("HOME", &user.dir).env("SHELL", &user.shell);
        command.env("USER", &user.name).env("LOGNAME", &user.name);
        become_user(&user)?;
    }
    let error = command.exec();
    let sentence = format!("cannot run {}: {error}", program.display());
    // As shells do: 127 not found, 126 found but not run.
    let status = if error.kind() == ErrorKind::NotFound { 127 } else { 126 };
    Err(Failure { sentence, status })
}

/// Enters the session, opened if there is none. One that ended just before is
/// opened once more.
fn enter(config: &Path, session: SessionId, user: &User) -> Result<(), Failure> {
    let open = || -> Result<OpenedSession, Failure> {
        Ok(daemon(config)?.ask(&Request::OpenSession { session, user: user.uid.as_raw() })?)
    };
    match enter_scope(&open()?.scope) {
        Err(error) if error.is_gone() => Ok(enter_scope(&open()?.scope)?),
        entered => Ok(entered?),
    }
}

fn wanted_user(name: Option<&str>) -> Result<User, Failure> {
    let (found, wanted) = match name {
        Some(name) => (User::from_name(name)?, name.to_owned()),
        None => (User::from_uid(unistd::getuid())?, unistd::getuid().to_string()),
    };
    found.ok_or_else(|| Failure {
        sentence: format!("there is no user {wanted} on this host"),
        status: 2,
    })
}

/// Drops to the user, with his groups, for good.
fn become_user(user: &User) -> Result<(), Failure> {
    let name = CString::new(user.name.as_str())?;
    unistd::initgroups(&name, user.gid)?;
    unistd::setgid(user.gid)?;
    unistd::setuid(user.uid)?;
    Ok(())
}
