//! What lists of the host's addresses say, by every function that gives one.

use super::{family, library, text, to_system};
use std::ffi::{CStr, c_void};
use std::net::{IpAddr, SocketAddr};
use std::ptr::{null, null_mut};
use windows_sys::Win32::Foundation::WIN32_ERROR;
use windows_sys::Win32::NetworkManagement::IpHelper::{
    IP_ADAPTER_ADDRESSES_LH, IP_ADAPTER_INFO, MIB_IPADDRROW_XP, MIB_UNICASTIPADDRESS_TABLE,
};
use windows_sys::Win32::Networking::WinSock::{
    AF_INET, AF_INET6, INTERFACE_INFO, SIO_ADDRESS_LIST_QUERY, SIO_ROUTING_INTERFACE_QUERY,
    SOCK_DGRAM, SOCKADDR_INET, SOCKET_ADDRESS, SOCKET_ADDRESS_LIST, WSAGetLastError, WSAIoctl,
    closesocket, socket,
};
use windows_sys::Win32::System::LibraryLoader::GetProcAddress;

/// A function, whatever it takes.
type Any = unsafe extern "system" fn() -> isize;

/// A function of iphlpapi, which this program does not load before it is asked.
#[expect(unsafe_code, reason = "a function is looked up")]
fn helper(function: &CStr) -> Any {
    let module = library("iphlpapi.dll");
    // SAFETY: the name ends in a zero.
    unsafe { GetProcAddress(module, function.as_ptr().cast()) }.unwrap()
}

/// By GetAdaptersAddresses.
#[expect(unsafe_code, reason = "calls of the system")]
pub(super) fn adapters(family_of: &str) -> String {
    type Ask = unsafe extern "system" fn(
        u32,
        u32,
        *const c_void,
        *mut IP_ADAPTER_ADDRESSES_LH,
        *mut u32,
    ) -> u32;
    // SAFETY: the function has that signature; the buffer is as long as said, and the
    // list lies in it.
    unsafe {
        let function = std::mem::transmute::<Any, Ask>(helper(c"GetAdaptersAddresses"));
        // Without what is not looked at here, nor the prefixes, which Wine does not
        // know with every table of routes.
        const WHAT: u32 = 0x2 | 0x4 | 0x8;
        let family = u32::from(family(family_of));
        let mut size = 0;
        let answer = function(family, WHAT, null(), null_mut(), &raw mut size);
        assert_eq!(answer, 111, "ERROR_BUFFER_OVERFLOW");
        let mut buffer = vec![0_u64; size as usize / 8 + 1];
        let first = buffer.as_mut_ptr().cast::<IP_ADAPTER_ADDRESSES_LH>();
        assert_eq!(function(family, WHAT, null(), first, &raw mut size), 0);
        let (mut found, mut adapter) = (Vec::new(), first.cast_const());
        while !adapter.is_null() {
            let mut words = Vec::new();
            let mut address = (*adapter).FirstUnicastAddress;
            while !address.is_null() {
                words.push(text((*address).Address.lpSockaddr));
                address = (*address).Next;
            }
            found.push(words.join(" "));
            adapter = (*adapter).Next;
        }
        found.join("; ")
    }
}

#[expect(unsafe_code, reason = "calls of the system")]
pub(super) fn infos() -> String {
    type Ask = unsafe extern "system" fn(*mut IP_ADAPTER_INFO, *mut u32) -> u32;
    // SAFETY: as in adapters().
    unsafe {
        let function = std::mem::transmute::<Any, Ask>(helper(c"GetAdaptersInfo"));
        let mut size = 0;
        let answer = function(null_mut(), &raw mut size);
        if answer == 232 {
            return "none".to_owned(); // ERROR_NO_DATA
        }
        assert_eq!(answer, 111, "ERROR_BUFFER_OVERFLOW");
        let mut buffer = vec![0_u64; size as usize / 8 + 1];
        let first = buffer.as_mut_ptr().cast::<IP_ADAPTER_INFO>();
        assert_eq!(function(first, &raw mut size), 0);
        let (mut found, mut adapter) = (Vec::new(), first.cast_const());
        while !adapter.is_null() {
            let (mut words, mut node) = (Vec::new(), &raw const (*adapter).IpAddressList);
            while !node.is_null() {
                let address = &raw const (*node).IpAddress.String;
                words.push(CStr::from_ptr(address.cast()).to_str().unwrap().to_owned());
                node = (*node).Next;
            }
            found.push(words.join(" "));
            adapter = (*adapter).Next;
        }
        found.join("; ")
    }
}

#[expect(unsafe_code, reason = "calls of the system")]
pub(super) fn ip_table(sorted: bool) -> String {
    type Ask = unsafe extern "system" fn(*mut u8, *mut u32, i32) -> u32;
    // SAFETY: as in adapters(); the rows follow their number.
    unsafe {
        let function = std::mem::transmute::<Any, Ask>(helper(c"GetIpAddrTable"));
        let mut size = 0;
        assert_eq!(function(null_mut(), &raw mut size, 0), 122, "ERROR_INSUFFICIENT_BUFFER");
        let mut buffer = vec![0_u32; size as usize / 4 + 1];
        let table = buffer.as_mut_ptr().cast::<u8>();
        assert_eq!(function(table, &raw mut size, i32::from(sorted)), 0);
        let rows = table.add(4).cast::<MIB_IPADDRROW_XP>();
        let count = table.cast::<u32>().read() as usize;
        let address = |row| IpAddr::from(rows.add(row).read().dwAddr.to_ne_bytes()).to_string();
        (0..count).map(address).collect::<Vec<_>>().join(" ")
    }
}

#[expect(unsafe_code, reason = "calls of the system")]
pub(super) fn unicast(family_of: &str) -> String {
    type Ask = unsafe extern "system" fn(u16, *mut *mut MIB_UNICASTIPADDRESS_TABLE) -> WIN32_ERROR;
    type Free = unsafe extern "system" fn(*const c_void);
    // SAFETY: as in adapters(); the table is the system's and freed once.
    unsafe {
        let function = std::mem::transmute::<Any, Ask>(helper(c"GetUnicastIpAddressTable"));
        let free = std::mem::transmute::<Any, Free>(helper(c"FreeMibTable"));
        let mut table = null_mut();
        assert_eq!(function(family(family_of), &raw mut table), 0);
        let rows = (&raw const (*table).Table).cast::<SOCKADDR_INET>();
        let width = size_of_val(&(*table).Table);
        let row = |row: u32| text(rows.byte_add(row as usize * width).cast());
        let found: Vec<_> = (0..(*table).NumEntries).map(row).collect();
        free(table.cast());
        found.join(" ")
    }
}

/// Asks a socket of that family, of its own.
#[expect(unsafe_code, reason = "calls of the system")]
fn control(family: u16, code: u32, input: &[u8], output: &mut [u64]) -> Result<u32, String> {
    // SAFETY: both are as long as said; the socket is closed once.
    unsafe {
        let socket = socket(i32::from(family), SOCK_DGRAM, 0);
        let mut returned = 0;
        let answer = WSAIoctl(
            socket,
            code,
            input.as_ptr().cast(),
            input.len() as u32,
            output.as_mut_ptr().cast(),
            size_of_val(output) as u32,
            &raw mut returned,
            null_mut(),
            None,
        );
        let error = WSAGetLastError();
        closesocket(socket);
        if answer == 0 { Ok(returned) } else { Err(format!("error {error}")) }
    }
}

#[expect(unsafe_code, reason = "the system's structs")]
pub(super) fn addresses(family_of: &str) -> String {
    let mut output = [0_u64; 1024];
    let family = family(family_of);
    if let Err(error) = control(family, SIO_ADDRESS_LIST_QUERY, &[], &mut output) {
        return error;
    }
    let list = output.as_ptr().cast::<SOCKET_ADDRESS_LIST>();
    // SAFETY: the system has written it.
    unsafe {
        let rows = (&raw const (*list).Address).cast::<SOCKET_ADDRESS>();
        let row = |row: i32| text((*rows.add(row as usize)).lpSockaddr);
        (0..(*list).iAddressCount).map(row).collect::<Vec<_>>().join(" ")
    }
}

#[expect(unsafe_code, reason = "the system's structs")]
pub(super) fn interfaces() -> String {
    let mut output = [0_u64; 1024];
    match control(AF_INET, 0x4004_747f, &[], &mut output) {
        Ok(returned) => {
            let rows = output.as_ptr().cast::<INTERFACE_INFO>();
            let count = returned as usize / size_of::<INTERFACE_INFO>();
            // SAFETY: the system has written as many.
            let row = |row| unsafe { text((&raw const (*rows.add(row)).iiAddress).cast()) };
            (0..count).map(row).collect::<Vec<_>>().join(" ")
        }
        Err(error) => error,
    }
}

/// From which address packets would leave.
#[expect(unsafe_code, reason = "the system's structs")]
pub(super) fn leaves(to: &str) -> String {
    let to = SocketAddr::new(to.parse().unwrap(), 7);
    let family = if to.is_ipv4() { AF_INET } else { AF_INET6 };
    let (name, length) = to_system(to);
    // SAFETY: it is at least as long.
    let input = unsafe { std::slice::from_raw_parts((&raw const name).cast(), length as usize) };
    let mut output = [0_u64; 16];
    match control(family, SIO_ROUTING_INTERFACE_QUERY, input, &mut output) {
        // SAFETY: the system has written it.
        Ok(_) => unsafe { text(output.as_ptr().cast()) },
        Err(error) => error,
    }
}
