//! Where do packets leave? Nobody asks: the hook chooses no sources here.

use super::{Addresses, ListError};
use crate::address::Leading;
use std::io;
use std::net::IpAddr;

/// Hears of changes of the routes: nobody here has to.
#[derive(Debug)]
pub struct RouteNews(());

impl RouteNews {
    /// # Errors
    /// None.
    pub fn listen() -> io::Result<Self> {
        Ok(Self(()))
    }

    /// Has something changed since this was asked last? Nothing that matters.
    pub fn any(&mut self) -> bool {
        false
    }

    /// What was to follow from the last answer has failed.
    pub fn ask_again(&mut self) {}
}

impl Addresses {
    /// What the hook need not be told.
    ///
    /// # Errors
    /// None.
    pub fn leading(
        &mut self,
        _interface: u32,
        _pool: &[(IpAddr, IpAddr)],
    ) -> Result<Option<Vec<Leading>>, ListError> {
        Ok(Some(Vec::new()))
    }
}
