//! The functions that glibc calls (its manual, "NSS Module Internals").

use crate::answer::{self, AddressTuple, Buffer};
use crate::own;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// `enum nss_status` of nss.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Status {
    /// The buffer is too small.
    TryAgain = -2,
    /// The next service answers.
    NotFound = 0,
    /// It is in the buffer.
    Success = 1,
}

/// `NETDB_INTERNAL` and `HOST_NOT_FOUND` of netdb.h.
const SEE_ERRNO: c_int = -1;
const HOST_NOT_FOUND: c_int = 1;

/// Why there is no answer.
enum Miss {
    NotFound,
    TooSmall,
}

/// Where glibc wants the reasons.
struct Errors {
    errno: *mut c_int,
    host: *mut c_int,
}

impl Errors {
    /// Asks, and writes down how it ended. A panic finds nothing.
    #[expect(unsafe_code, reason = "glibc's variables")]
    fn of(&self, ask: impl FnOnce() -> Result<(), Miss>) -> Status {
        let asked = catch_unwind(AssertUnwindSafe(ask)).unwrap_or(Err(Miss::NotFound));
        let (status, errno, host) = match asked {
            Ok(()) => return Status::Success,
            Err(Miss::NotFound) => (Status::NotFound, libc::ENOENT, HOST_NOT_FOUND),
            Err(Miss::TooSmall) => (Status::TryAgain, libc::ERANGE, SEE_ERRNO),
        };
        // SAFETY: glibc passes pointers to variables of its own.
        unsafe {
            self.errno.write(errno);
            self.host.write(host);
        }
        status
    }
}

/// The addresses for a name, if it is this machine's.
fn addresses_of(name: *const c_char) -> Option<(String, Vec<IpAddr>)> {
    let own_name = own::name()?;
    let asked = text(name)?;
    let addresses = own::is_called(&own_name, asked).then(own::addresses)?;
    (!addresses.is_empty()).then_some((own_name, addresses))
}

#[expect(unsafe_code, reason = "a string of glibc's")]
fn text<'a>(name: *const c_char) -> Option<&'a str> {
    // SAFETY: glibc passes a string that ends, and stays for the call.
    unsafe { CStr::from_ptr(name) }.to_str().ok()
}

#[expect(unsafe_code, reason = "glibc's variable")]
fn give<T>(value: T, to: *mut T) {
    // SAFETY: glibc passes a place for the result.
    unsafe { to.write(value) }
}

/// getaddrinfo without a family.
#[expect(unsafe_code, reason = "glibc looks for this name")]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn _nss_sessionip_gethostbyname4_r(
    name: *const c_char,
    result: *mut *mut AddressTuple,
    buffer: *mut c_char,
    length: usize,
    errno: *mut c_int,
    host_errno: *mut c_int,
    _ttl: *mut i32,
) -> Status {
    Errors { errno, host: host_errno }.of(|| {
        let (name, addresses) = addresses_of(name).ok_or(Miss::NotFound)?;
        let mut buffer = Buffer::new(buffer, length);
        let tuples = answer::tuples(&name, &addresses, &mut buffer).ok_or(Miss::TooSmall)?;
        give(tuples, result);
        Ok(())
    })
}

/// gethostbyname2, and getaddrinfo for one family.
#[expect(unsafe_code, reason = "glibc looks for this name")]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn _nss_sessionip_gethostbyname2_r(
    name: *const c_char,
    family: c_int,
    result: *mut libc::hostent,
    buffer: *mut c_char,
    length: usize,
    errno: *mut c_int,
    host_errno: *mut c_int,
) -> Status {
    Errors { errno, host: host_errno }.of(|| {
        let (name, mut addresses) = addresses_of(name).ok_or(Miss::NotFound)?;
        addresses.retain(|address| match address {
            IpAddr::V4(_) => family == libc::AF_INET,
            IpAddr::V6(_) => family == libc::AF_INET6,
        });
        host(&name, &addresses, result, Buffer::new(buffer, length))
    })
}

/// gethostbyname.
#[expect(unsafe_code, reason = "glibc looks for this name")]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn _nss_sessionip_gethostbyname_r(
    name: *const c_char,
    result: *mut libc::hostent,
    buffer: *mut c_char,
    length: usize,
    errno: *mut c_int,
    host_errno: *mut c_int,
) -> Status {
    let family = libc::AF_INET;
    _nss_sessionip_gethostbyname2_r(name, family, result, buffer, length, errno, host_errno)
}

/// gethostbyaddr and getnameinfo.
#[expect(unsafe_code, reason = "glibc looks for this name")]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn _nss_sessionip_gethostbyaddr_r(
    address: *const c_void,
    size: libc::socklen_t,
    family: c_int,
    result: *mut libc::hostent,
    buffer: *mut c_char,
    length: usize,
    errno: *mut c_int,
    host_errno: *mut c_int,
) -> Status {
    Errors { errno, host: host_errno }.of(|| {
        let asked = address_at(address, size, family).ok_or(Miss::NotFound)?;
        let name = own::name().ok_or(Miss::NotFound)?;
        if !own::addresses().contains(&asked) {
            return Err(Miss::NotFound);
        }
        host(&name, &[asked], result, Buffer::new(buffer, length))
    })
}

fn address_at(at: *const c_void, size: libc::socklen_t, family: c_int) -> Option<IpAddr> {
    match (family, size) {
        (libc::AF_INET, 4..) => Some(octets::<4>(at).into()),
        (libc::AF_INET6, 16..) => Some(octets::<16>(at).into()),
        _ => None,
    }
}

#[expect(unsafe_code, reason = "an address of glibc's")]
fn octets<const LENGTH: usize>(at: *const c_void) -> [u8; LENGTH] {
    // SAFETY: glibc said that there are at least as many bytes.
    unsafe { at.cast::<[u8; LENGTH]>().read_unaligned() }
}

fn host(
    name: &str,
    addresses: &[IpAddr],
    result: *mut libc::hostent,
    mut buffer: Buffer,
) -> Result<(), Miss> {
    if addresses.is_empty() {
        return Err(Miss::NotFound);
    }
    give(answer::host(name, addresses, &mut buffer).ok_or(Miss::TooSmall)?, result);
    Ok(())
}
