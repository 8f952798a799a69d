//! Who runs first where programs and the divert want the same processor?

use nix::errno::Errno;

/// Ahead of ordinary programs, and behind what has to be on time.
const NICE: libc::c_int = -10;

/// Lets the calling thread, and no other, run ahead of ordinary programs. For
/// the one that takes turns: a packet that it is interrupted over has left the
/// cache when it goes on, and a connection's throughput is this thread's.
/// With one stream on two processors it left 0.69 (out) and 0.76 (in) of the
/// undiverted throughput instead of 0.58 and 0.61.
///
/// # Errors
/// Without root.
#[expect(unsafe_code, reason = "nix has no setpriority")]
pub fn run_ahead() -> Result<(), Errno> {
    // SAFETY: takes and returns plain numbers. On Linux a process id of 0 is
    // the calling thread (setpriority(2), "C library/kernel differences").
    Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) }).map(drop)
}
