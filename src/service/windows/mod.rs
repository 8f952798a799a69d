//! The service control manager, or a console.
//!
//! [`host`] finds out who started the process: the manager takes the connection
//! that it waits for, and refuses one that it does not (error 1063). So `sessionip
//! run` is the service's command line as well as the one for a console, and
//! nothing has to be said twice.
//!
//! In a service the daemon runs on the thread that the manager made for it, and
//! its state is the service's: starting until [`State::Ready`] is told, stopping
//! from the first order to stop on, stopped when all is taken back. A daemon that
//! fails ends with an exit code, which the manager takes as reason to start it
//! again (`install`).

mod console;
mod error;
mod hosted;
pub mod install;
mod pending;

pub use error::{ServiceError, say};
pub use hosted::{host, is_hosted, tell};
pub use install::{install, start, stop, uninstall};

use super::{Order, State};
use std::io;
use std::time::Duration;

/// The service's name, and that of its events' source.
pub const NAME: &str = "sessionip";

/// What the manager, or somebody at the console, asks for.
#[derive(Debug)]
pub struct Orders(());

impl Orders {
    /// Begins to listen: in a console to Ctrl-C, Ctrl-Break and its closing; in a
    /// service the manager is listened to already.
    ///
    /// # Errors
    /// The console takes no handler.
    pub fn catch() -> io::Result<Self> {
        if !is_hosted() {
            console::listen()?;
        }
        Ok(Self(()))
    }

    /// The next order, waited for up to `wait`. Orders of one kind that nobody has
    /// taken yet are one; to stop comes first.
    ///
    /// # Errors
    /// None here.
    pub fn next(&mut self, wait: Duration) -> io::Result<Option<Order>> {
        Ok(pending::take(wait))
    }
}
