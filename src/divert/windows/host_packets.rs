//! How many packets has this host had?

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use windows_sys::Win32::Foundation::NO_ERROR;
use windows_sys::Win32::NetworkManagement::IpHelper::{GetIpStatisticsEx, MIB_IPSTATS_LH};
use windows_sys::Win32::Networking::WinSock::AF_INET;

/// The IPv4 packets of all cards, in and out. The system counts with 32 bits, which
/// a busy host fills in hours: it is to be asked more often than that.
#[derive(Debug, Default)]
pub(super) struct HostPackets {
    /// The system's two counts in one number, as they were last; 0: never asked.
    before: AtomicU64,
    packets: AtomicU64,
}

impl HostPackets {
    /// Since the first call, or [`count_anew`](Self::count_anew).
    ///
    /// # Errors
    /// The system does not count.
    pub(super) fn packets(&self) -> io::Result<u64> {
        let (received, sent) = counts()?;
        let before = self.before.swap(joined(received, sent), Ordering::Relaxed);
        if before != 0 {
            let (was_received, was_sent) = ((before >> 32) as u32, before as u32);
            let more = u64::from(received.wrapping_sub(was_received))
                + u64::from(sent.wrapping_sub(was_sent));
            self.packets.fetch_add(more, Ordering::Relaxed);
        }
        Ok(self.packets.load(Ordering::Relaxed))
    }

    /// Forgets what was so far.
    pub(super) fn count_anew(&self) {
        if let Ok((received, sent)) = counts() {
            self.before.store(joined(received, sent), Ordering::Relaxed);
        }
        self.packets.store(0, Ordering::Relaxed);
    }
}

fn joined(received: u32, sent: u32) -> u64 {
    u64::from(received) << 32 | u64::from(sent)
}

fn counts() -> io::Result<(u32, u32)> {
    let mut statistics = MIB_IPSTATS_LH::default();
    #[expect(unsafe_code, reason = "a call into iphlpapi")]
    // SAFETY: it writes one structure of this type.
    let status = unsafe { GetIpStatisticsEx(&raw mut statistics, u32::from(AF_INET)) };
    if status == NO_ERROR {
        Ok((statistics.dwInReceives, statistics.dwOutRequests))
    } else {
        Err(io::Error::from_raw_os_error(status.cast_signed()))
    }
}
