//! Names of sockets: read from a program's pointers, written for the system.

use crate::identity::this;
use std::ffi::c_void;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::windows::io::AsRawHandle;
use std::ptr::null_mut;
use windows_sys::Win32::Networking::WinSock::{
    AF_INET, AF_INET6, SOCKADDR, SOCKADDR_IN, SOCKADDR_IN6,
};
use windows_sys::Win32::System::Diagnostics::Debug::ReadProcessMemory;

/// A socket's name as the system's functions take it.
#[derive(Clone, Copy)]
pub(crate) enum Name {
    V4(SOCKADDR_IN),
    V6(SOCKADDR_IN6),
}

impl Name {
    /// Reads what the program passes. `None`: it is no IP address, is too short,
    /// or is not there at all, which the system will tell it.
    #[expect(unsafe_code, reason = "a program's pointer is followed")]
    pub(crate) fn read(name: *const SOCKADDR, length: i32) -> Option<Self> {
        let length = usize::try_from(length).ok()?;
        let mut family = 0_u16;
        // SAFETY: each is read into a struct of numbers of its own size.
        unsafe {
            copy(name.cast(), &raw mut family)?;
            match family {
                AF_INET if length >= size_of::<SOCKADDR_IN>() => {
                    let mut ipv4 = SOCKADDR_IN::default();
                    copy(name.cast(), &raw mut ipv4)?;
                    Some(Self::V4(ipv4))
                }
                AF_INET6 if length >= size_of::<SOCKADDR_IN6>() => {
                    let mut ipv6 = SOCKADDR_IN6::default();
                    copy(name.cast(), &raw mut ipv6)?;
                    Some(Self::V6(ipv6))
                }
                _ => None,
            }
        }
    }

    #[expect(unsafe_code, reason = "the system's structs have unions")]
    pub(crate) fn address(&self) -> (Ipv6Addr, u16) {
        // SAFETY: every view of these unions is made of numbers.
        unsafe {
            match self {
                Self::V4(name) => {
                    let address = Ipv4Addr::from(name.sin_addr.S_un.S_addr.to_ne_bytes());
                    (address.to_ipv6_mapped(), u16::from_be(name.sin_port))
                }
                Self::V6(name) => {
                    (Ipv6Addr::from(name.sin6_addr.u.Byte), u16::from_be(name.sin6_port))
                }
            }
        }
    }

    pub(crate) fn is_wildcard(&self) -> bool {
        let (address, _) = self.address();
        address.to_ipv4_mapped().map_or(address.is_unspecified(), |ipv4| ipv4.is_unspecified())
    }

    /// The same with another address. `None`: the family has no such address.
    pub(crate) fn with(mut self, address: Ipv6Addr) -> Option<Self> {
        match &mut self {
            Self::V4(name) => {
                let ipv4 = address.to_ipv4_mapped()?;
                name.sin_addr.S_un.S_addr = u32::from_ne_bytes(ipv4.octets());
            }
            Self::V6(name) => name.sin6_addr.u.Byte = address.octets(),
        }
        Some(self)
    }

    /// The same family's, at this address, with a port of the system's choice.
    pub(crate) fn to_choose(self, address: Ipv6Addr) -> Option<Self> {
        self.to_choose_all().with(address)
    }

    /// The same family's wildcard, with a port of the system's choice.
    pub(crate) fn to_choose_all(self) -> Self {
        match self {
            Self::V4(_) => Self::V4(SOCKADDR_IN { sin_family: AF_INET, ..Default::default() }),
            Self::V6(_) => Self::V6(SOCKADDR_IN6 { sin6_family: AF_INET6, ..Default::default() }),
        }
    }

    pub(crate) fn pointer(&self) -> *const SOCKADDR {
        match self {
            Self::V4(name) => (&raw const *name).cast(),
            Self::V6(name) => (&raw const *name).cast(),
        }
    }

    pub(crate) fn length(&self) -> i32 {
        match self {
            Self::V4(name) => size_of_val(name) as i32,
            Self::V6(name) => size_of_val(name) as i32,
        }
    }
}

/// Copies what lies at a program's own pointer. `None`: it points to nothing,
/// which would be our crash and not the error that `bind` has for it.
///
/// # Safety
/// All bits are a value of `T`.
#[expect(unsafe_code, reason = "a program's pointer is followed")]
unsafe fn copy<T>(from: *const c_void, to: *mut T) -> Option<()> {
    // SAFETY: `to` is a place for a T, and the caller's word for its bits; the
    // system checks `from`.
    let read = unsafe {
        ReadProcessMemory(this().as_raw_handle(), from, to.cast(), size_of::<T>(), null_mut())
    };
    (read != 0).then_some(())
}
