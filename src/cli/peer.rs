//! `sessionip peer`: what `selftest` speaks to on another machine.

use super::{Failure, complain};
use crate::peer::{PORT, Peer};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Where to listen, for TCP and UDP.
    #[arg(long, value_name = "ADDRESS:PORT", default_value_t = (Ipv4Addr::UNSPECIFIED, PORT).into())]
    listen: SocketAddr,
}

pub(super) fn peer(options: &Options) -> Result<ExitCode, Failure> {
    let peer = Peer::bind(options.listen).map_err(|error| Failure {
        sentence: format!("cannot listen at {}: {error}", options.listen),
        status: 1,
    })?;
    complain(&format!(
        "listening at {}, until Ctrl-C; it connects back only to who asks",
        peer.address()?
    ));
    peer.serve()?;
    Ok(ExitCode::SUCCESS)
}
