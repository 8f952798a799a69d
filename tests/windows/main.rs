//! Does sessionip do on Windows what it promises? The built executable with the
//! official WinDivert.dll under Wine, programs in sessions, and a client and a
//! server on the far side of a wire. `driver-notes/test-rig.md` says what is real
//! about it. Needs root, and what `make windows-setup` and `make windows-build` make.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where it fails")]
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test waits in real time, listens in threads, and says what it saw"
)]

/// What do sockets say, with `scope = "connect"`?
mod connect;
/// What breaks, and what becomes of it.
mod faults;
/// IPv6 of sessions.
mod ipv6;
/// The service's life, and sessions that come and go.
mod life;
/// A localhost for each session.
mod loopback;
/// Names and adapters with `scope = "connect"`.
mod names;
/// The bundle's scripts.
mod scripts;
/// What an administrator sees of his own machine.
mod selftest;
/// Two sessions, one port.
mod sessions;
/// 32-bit programs.
mod width;
mod world;
