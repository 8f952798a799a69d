//! How is a WinDivert handle opened, used and closed?

use super::dll::Dll;
use super::error::OpenError;
use super::facts::Address;
use std::ffi::CStr;
use std::io;
use windivert::prelude::{WinDivertFlags, WinDivertLayer, WinDivertParam, WinDivertShutdownMode};
use windows_sys::Win32::Foundation::{HANDLE, INVALID_HANDLE_VALUE};
use windows_sys::Win32::System::IO::OVERLAPPED;
use windows_sys::core::BOOL;

/// The oldest version of the driver with all that is used here.
const OLDEST: (u64, u64) = (2, 2);

/// A handle of WinDivert, closed when it is dropped.
#[derive(Debug)]
pub(crate) struct Handle {
    raw: HANDLE,
    dll: Dll,
}

#[expect(unsafe_code, reason = "raw handles are not Send by themselves")]
// SAFETY: a handle is a number of the process, and WinDivert's functions may be
// called from any thread.
unsafe impl Send for Handle {}

impl Handle {
    pub(crate) fn open(
        dll: Dll,
        filter: &CStr,
        layer: WinDivertLayer,
        priority: i16,
        flags: WinDivertFlags,
    ) -> io::Result<Self> {
        #[expect(unsafe_code, reason = "a function of the DLL")]
        // SAFETY: `filter` ends with a zero; the rest are numbers, and the DLL
        // refuses those it does not know.
        let raw = unsafe { (dll.open)(filter.as_ptr(), layer, priority, flags) };
        // Out of memory it returns FALSE instead.
        if raw == INVALID_HANDLE_VALUE || raw.is_null() {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { raw, dll })
    }

    pub(crate) fn set(&self, parameter: WinDivertParam, value: u64) -> io::Result<()> {
        #[expect(unsafe_code, reason = "a function of the DLL")]
        // SAFETY: the handle is open, the rest are numbers.
        success(unsafe { (self.dll.set)(self.raw, parameter, value) })
    }

    fn value_of(&self, parameter: WinDivertParam) -> io::Result<u64> {
        let mut value = 0;
        #[expect(unsafe_code, reason = "a function of the DLL")]
        // SAFETY: the handle is open, and the place for the answer is ours.
        success(unsafe { (self.dll.value_of)(self.raw, parameter, &raw mut value) })?;
        Ok(value)
    }

    /// Major and minor of the driver's version.
    pub(super) fn version(&self) -> io::Result<(u64, u64)> {
        let major = self.value_of(WinDivertParam::VersionMajor)?;
        Ok((major, self.value_of(WinDivertParam::VersionMinor)?))
    }

    /// Another program may have loaded the driver before: the DLL looks at its
    /// major version only.
    pub(super) fn check_version(&self) -> Result<(), OpenError> {
        match self.version() {
            Ok((major, minor)) if (major, minor) < OLDEST => {
                return Err(OpenError::OldDriver { major, minor });
            }
            Ok((major, minor)) => tracing::debug!(major, minor, "the WinDivert driver is there"),
            Err(error) => tracing::debug!(%error, "the WinDivert driver has no version"),
        }
        Ok(())
    }

    /// Stops what `how` says; packets that wait already can still be received.
    pub(crate) fn shutdown(&self, how: WinDivertShutdownMode) -> io::Result<()> {
        #[expect(unsafe_code, reason = "a function of the DLL")]
        // SAFETY: the handle is open.
        success(unsafe { (self.dll.shutdown)(self.raw, how) })
    }

    /// Sends packets that lie one behind the other, and waits until the driver has
    /// its copies.
    pub(super) fn send(&self, packets: &[u8], addresses: &[Address]) -> io::Result<()> {
        let length = packets.len() as u32;
        let addresses_length = size_of_val(addresses) as u32;
        #[expect(unsafe_code, reason = "a function of the DLL")]
        // SAFETY: both slices are as long as is said, are only read, and are not
        // needed any more when the call is back: it waits where it is not told how
        // else to report (`lpOverlapped` is null).
        success(unsafe {
            (self.dll.send)(
                self.raw,
                packets.as_ptr().cast(),
                length,
                std::ptr::null_mut(),
                0,
                addresses.as_ptr(),
                addresses_length,
                std::ptr::null_mut(),
            )
        })
    }

    /// Asks for packets, to be written when there are any.
    ///
    /// # Safety
    /// `packets` (of `length` bytes), `addresses` (of `*addresses_length` bytes),
    /// `addresses_length` and `overlapped` are valid, and nobody uses them until
    /// the event of `overlapped` says that the call has ended.
    #[expect(unsafe_code, reason = "a function of the DLL")]
    pub(crate) unsafe fn receive(
        &self,
        packets: *mut u8,
        length: u32,
        addresses: *mut Address,
        addresses_length: *mut u32,
        overlapped: *mut OVERLAPPED,
    ) -> io::Result<()> {
        // SAFETY: the handle is open; the rest is the caller's promise.
        success(unsafe {
            (self.dll.receive)(
                self.raw,
                packets.cast(),
                length,
                std::ptr::null_mut(),
                0,
                addresses,
                addresses_length,
                overlapped,
            )
        })
    }

    pub(crate) const fn raw(&self) -> HANDLE {
        self.raw
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "a function of the DLL")]
        // SAFETY: the handle is open, and nobody has it after this.
        if let Err(error) = success(unsafe { (self.dll.close)(self.raw) }) {
            tracing::debug!(%error, "a WinDivert handle did not close");
        }
    }
}

fn success(returned: BOOL) -> io::Result<()> {
    if returned == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
