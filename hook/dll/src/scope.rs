//! The detours of `scope = "connect"`. With the default scope there are none of them.

use crate::{connect, datagram, ioctl, names, published, socket, told};
use hook::decide::Tables as _;
use hook::guard::guarded;
use std::sync::Once;

static ONCE: Once = Once::new();

/// Puts them in place if the daemon asks for it. It may do so later: then the next
/// bind does it ([`install`]).
pub(crate) fn install_if_asked() {
    if published::look(|tables| tables.flags().connect) == Some(true) {
        install();
    }
}

/// Puts them in place, once. Where one cannot be, the packet engine does its work.
pub(crate) fn install() {
    ONCE.call_once(|| {
        guarded((), || {
            // Before what asks it.
            socket::install();
            told::install();
            connect::install();
            datagram::install();
            ioctl::install();
            names::install();
        });
    });
}
