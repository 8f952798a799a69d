//! The detours of `scope = "connect"`. With the default scope there are none of them.

use crate::{connect, datagram, detour, ioctl, names, published, socket, told};
use hook::decide::Tables as _;
use hook::guard::guarded;
use std::sync::Once;

static ONCE: Once = Once::new();

/// Has them ready if the daemon asks for it. It may do so later: then the next bind
/// puts them in place ([`install`]).
pub(crate) fn prepare_if_asked() {
    if published::look(|tables| tables.flags().connect) == Some(true) {
        ONCE.call_once(prepare);
    }
}

/// Puts them in place, once. Where one cannot be, the packet engine does its work.
pub(crate) fn install() {
    ONCE.call_once(|| {
        prepare();
        guarded(false, detour::put_in_place);
    });
    names::look();
}

fn prepare() {
    guarded((), || {
        // Before what asks it.
        socket::install();
        told::install();
        connect::install();
        datagram::install();
        ioctl::install();
        names::install();
    });
}
