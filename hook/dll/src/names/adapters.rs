//! The detours of iphlpapi: which addresses has this host?

use super::edit_hosts;
use super::inside::Inside;
use crate::detour::{LastError, Original};
use hook::guard::guarded;
use hook::windows::names::{adapter_infos, adapters, ip_addresses, unicast_addresses};
use std::ffi::c_void;
use windows_sys::Win32::Foundation::NO_ERROR;
use windows_sys::Win32::NetworkManagement::IpHelper::{
    IP_ADAPTER_ADDRESSES_LH, IP_ADAPTER_INFO, MIB_IPADDRTABLE, MIB_UNICASTIPADDRESS_TABLE,
};
use windows_sys::core::BOOL;

type Addresses = unsafe extern "system" fn(
    u32,
    u32,
    *const c_void,
    *mut IP_ADAPTER_ADDRESSES_LH,
    *mut u32,
) -> u32;
type Infos = unsafe extern "system" fn(*mut IP_ADAPTER_INFO, *mut u32) -> u32;
type Table = unsafe extern "system" fn(*mut MIB_IPADDRTABLE, *mut u32, BOOL) -> u32;
type Unicast = unsafe extern "system" fn(u16, *mut *mut MIB_UNICASTIPADDRESS_TABLE) -> u32;

static ADDRESSES: Original = Original::new();
static INFOS: Original = Original::new();
static TABLE: Original = Original::new();
static UNICAST: Original = Original::new();

/// Where they are.
pub(super) const MODULE: &str = "iphlpapi.dll";

/// Has the detours ready. The module is there.
#[expect(unsafe_code, reason = "code in memory is changed")]
pub(super) fn install() {
    // SAFETY: each detour has the signature of its function.
    unsafe {
        ADDRESSES.install(MODULE, c"GetAdaptersAddresses", addresses as *mut c_void);
        INFOS.install(MODULE, c"GetAdaptersInfo", infos as *mut c_void);
        TABLE.install(MODULE, c"GetIpAddrTable", table as *mut c_void);
        UNICAST.install(MODULE, c"GetUnicastIpAddressTable", unicast as *mut c_void);
    }
}

/// Edits what the system has answered, if the program has asked.
fn after(answer: u32, inside: Option<&Inside>, is_there: bool, edit: impl FnOnce()) -> u32 {
    if answer == NO_ERROR && inside.is_some() && is_there {
        let _kept = LastError::keep();
        guarded((), edit);
    }
    answer
}

#[expect(unsafe_code, reason = "it stands in for a function of the system")]
unsafe extern "system" fn addresses(
    family: u32,
    flags: u32,
    reserved: *const c_void,
    first: *mut IP_ADAPTER_ADDRESSES_LH,
    size: *mut u32,
) -> u32 {
    let inside = Inside::enter();
    // SAFETY: it is called through the detour, which install() made after it stored
    // where the function goes on; the arguments are the caller's own.
    let answer = unsafe {
        let original = std::mem::transmute::<*mut c_void, Addresses>(ADDRESSES.pointer());
        original(family, flags, reserved, first, size)
    };
    after(answer, inside.as_ref(), !first.is_null(), || {
        // SAFETY: the system has just written it.
        edit_hosts(&mut unsafe { adapters(first) });
    })
}

#[expect(unsafe_code, reason = "it stands in for a function of the system")]
unsafe extern "system" fn infos(first: *mut IP_ADAPTER_INFO, size: *mut u32) -> u32 {
    let inside = Inside::enter();
    // SAFETY: as in addresses().
    let answer = unsafe { std::mem::transmute::<*mut c_void, Infos>(INFOS.pointer())(first, size) };
    after(answer, inside.as_ref(), !first.is_null(), || {
        // SAFETY: the system has just written it.
        edit_hosts(&mut unsafe { adapter_infos(first) });
    })
}

#[expect(unsafe_code, reason = "it stands in for a function of the system")]
unsafe extern "system" fn table(rows: *mut MIB_IPADDRTABLE, size: *mut u32, sorted: BOOL) -> u32 {
    let inside = Inside::enter();
    // SAFETY: as in addresses().
    let answer =
        unsafe { std::mem::transmute::<*mut c_void, Table>(TABLE.pointer())(rows, size, sorted) };
    after(answer, inside.as_ref(), !rows.is_null(), || {
        // SAFETY: the system has just written it.
        let mut lists = [unsafe { ip_addresses(rows) }];
        if edit_hosts(&mut lists) && sorted != 0 {
            lists.iter_mut().for_each(hook::windows::names::Table::sort);
        }
    })
}

#[expect(unsafe_code, reason = "it stands in for a function of the system")]
unsafe extern "system" fn unicast(family: u16, rows: *mut *mut MIB_UNICASTIPADDRESS_TABLE) -> u32 {
    let inside = Inside::enter();
    // SAFETY: as in addresses().
    let answer =
        unsafe { std::mem::transmute::<*mut c_void, Unicast>(UNICAST.pointer())(family, rows) };
    // SAFETY: where the call succeeded it has written a pointer there.
    let made = || unsafe { *rows };
    after(answer, inside.as_ref(), !rows.is_null(), || {
        if !made().is_null() {
            // SAFETY: the system has just made it.
            edit_hosts(&mut [unsafe { unicast_addresses(made()) }]);
        }
    })
}
