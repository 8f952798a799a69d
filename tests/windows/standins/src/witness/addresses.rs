//! Do addresses come and go?

#![expect(unsafe_code, reason = "asks Windows")]

use core::{ffi::c_void, ptr, slice};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    sync::mpsc::{self, SyncSender},
    time::Duration,
};

use windows_sys::Win32::{
    NetworkManagement::IpHelper::{
        CancelMibChangeNotify2, CreateUnicastIpAddressEntry, DeleteUnicastIpAddressEntry,
        FreeMibTable, GetAdaptersAddresses, GetUnicastIpAddressEntry, GetUnicastIpAddressTable,
        IP_ADAPTER_ADDRESSES_LH, InitializeUnicastIpAddressEntry, MIB_NOTIFICATION_TYPE,
        MIB_UNICASTIPADDRESS_ROW, NotifyUnicastIpAddressChange, SendARP,
    },
    Networking::WinSock::{AF_INET, AF_INET6, AF_UNSPEC, SOCKADDR_INET},
};

use super::Answer;

/// Puts one on; answers with the code.
pub(super) fn add(interface: &str, address: &str, length: &str) -> Answer {
    let mut row = row(interface, address)?;
    row.OnLinkPrefixLength = length.parse()?;
    row.SkipAsSource = true;
    // SAFETY: the row is whole.
    Ok(unsafe { CreateUnicastIpAddressEntry(&raw const row) }.to_string())
}

/// Takes one off; answers with the code.
pub(super) fn delete(interface: &str, address: &str) -> Answer {
    let row = row(interface, address)?;
    // SAFETY: the row is whole.
    Ok(unsafe { DeleteUnicastIpAddressEntry(&raw const row) }.to_string())
}

/// The code, and of an address that is there its state, length and flag.
pub(super) fn state(interface: &str, address: &str) -> Answer {
    let mut row = row(interface, address)?;
    // SAFETY: the row says which, and is ours to write to.
    let code = unsafe { GetUnicastIpAddressEntry(&raw mut row) };
    Ok(match code {
        0 => format!("0 {} {} {}", row.DadState, row.OnLinkPrefixLength, row.SkipAsSource),
        code => code.to_string(),
    })
}

/// All addresses of an interface with their states.
pub(super) fn table(interface: &str) -> Answer {
    let index: u32 = interface.parse()?;
    let mut table = ptr::null_mut();
    // SAFETY: ours to write to.
    let code = unsafe { GetUnicastIpAddressTable(AF_UNSPEC, &raw mut table) };
    if code != 0 {
        return Ok(code.to_string());
    }
    // SAFETY: the call gave a table of that many rows, until it is freed below.
    let rows = unsafe {
        let first = (&raw const (*table).Table).cast::<MIB_UNICASTIPADDRESS_ROW>();
        slice::from_raw_parts(first, (*table).NumEntries as usize)
    };
    let mut lines: Vec<String> = rows
        .iter()
        .filter(|row| row.InterfaceIndex == index)
        .map(|row| format!("{} {} {}", ip(&row.Address), row.DadState, row.SkipAsSource))
        .collect();
    // SAFETY: given by the call above, and not used again.
    unsafe { FreeMibTable(table.cast()) };
    lines.sort();
    Ok(lines.join("\n"))
}

/// Puts one on, and says what notification came of it, and whether the list of
/// adapters has it.
pub(super) fn watch(interface: &str, address: &str) -> Answer {
    let (told, heard) = mpsc::sync_channel::<(IpAddr, i32)>(64);
    let told = Box::into_raw(Box::new(told));
    let mut handle = ptr::null_mut();
    // SAFETY: the context lives until the notification is cancelled below.
    let code = unsafe {
        let context = told.cast_const().cast();
        NotifyUnicastIpAddressChange(AF_UNSPEC, Some(changed), context, false, &raw mut handle)
    };
    if code != 0 {
        return Err(format!("code {code}").into());
    }
    let wanted: IpAddr = address.parse()?;
    let code = add(interface, address, "24")?;
    let mut came = None;
    for _ in 0..64 {
        match heard.recv_timeout(Duration::from_secs(5)) {
            Ok((address, kind)) if address == wanted => {
                came = Some(kind);
                break;
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    let listed = adapters()?.contains(&wanted);
    // SAFETY: the handle is ours; after this nobody has the context.
    unsafe {
        CancelMibChangeNotify2(handle);
        drop(Box::from_raw(told));
    }
    Ok(format!("{code} {came:?} {listed}"))
}

unsafe extern "system" fn changed(
    context: *const c_void,
    row: *const MIB_UNICASTIPADDRESS_ROW,
    kind: MIB_NOTIFICATION_TYPE,
) {
    // SAFETY: as it was given with this function; there is a row.
    let (told, row) = unsafe { (&*context.cast::<SyncSender<(IpAddr, i32)>>(), row.as_ref()) };
    if let Some(row) = row {
        let _ = told.try_send((ip(&row.Address), kind));
    }
}

/// All addresses of all adapters.
fn adapters() -> Result<Vec<IpAddr>, Box<dyn std::error::Error>> {
    // As many as Microsoft advises to begin with, aligned for what comes there.
    let mut room = vec![0_u64; 8 * 1024];
    let mut size = u32::try_from(size_of_val(room.as_slice()))?;
    let first = room.as_mut_ptr().cast::<IP_ADAPTER_ADDRESSES_LH>();
    // SAFETY: the room is of the size that is said.
    let code =
        unsafe { GetAdaptersAddresses(u32::from(AF_UNSPEC), 0, ptr::null(), first, &raw mut size) };
    if code != 0 {
        return Err(format!("code {code}").into());
    }
    let mut found = Vec::new();
    // SAFETY: lists in the room, each with its end.
    unsafe {
        let mut adapter = first.cast_const();
        while let Some(one) = adapter.as_ref() {
            let mut address = one.FirstUnicastAddress.cast_const();
            while let Some(unicast) = address.as_ref() {
                found.push(ip(&*unicast.Address.lpSockaddr.cast::<SOCKADDR_INET>()));
                address = unicast.Next;
            }
            adapter = one.Next;
        }
    }
    Ok(found)
}

/// Whether a socket can have it.
pub(super) fn bind(address: &str) -> Answer {
    Ok(match UdpSocket::bind((address, 0)) {
        Ok(socket) => socket.local_addr()?.ip().to_string(),
        Err(error) => format!("{:?}", error.raw_os_error()),
    })
}

/// The code, and who has it.
pub(super) fn arp(address: &str) -> Answer {
    let to = u32::from_ne_bytes(address.parse::<Ipv4Addr>()?.octets());
    let mut mac = [0_u8; 8];
    let mut length = 8;
    // SAFETY: eight bytes are ours to write to, as is said.
    let code = unsafe { SendARP(to, 0, mac.as_mut_ptr().cast(), &raw mut length) };
    Ok(format!("{code} {length} {:02x?}", mac.get(..6).unwrap_or_default()))
}

fn row(
    interface: &str,
    address: &str,
) -> Result<MIB_UNICASTIPADDRESS_ROW, Box<dyn std::error::Error>> {
    let mut row = MIB_UNICASTIPADDRESS_ROW::default();
    // SAFETY: ours to write to.
    unsafe { InitializeUnicastIpAddressEntry(&raw mut row) };
    row.InterfaceIndex = interface.parse()?;
    match address.parse()? {
        IpAddr::V4(address) => {
            row.Address.Ipv4.sin_family = AF_INET;
            row.Address.Ipv4.sin_addr.S_un.S_addr = u32::from_ne_bytes(address.octets());
        }
        IpAddr::V6(address) => {
            row.Address.Ipv6.sin6_family = AF_INET6;
            row.Address.Ipv6.sin6_addr.u.Byte = address.octets();
        }
    }
    Ok(row)
}

fn ip(address: &SOCKADDR_INET) -> IpAddr {
    // SAFETY: the family says which of the two it is.
    unsafe {
        match address.si_family {
            AF_INET6 => Ipv6Addr::from(address.Ipv6.sin6_addr.u.Byte).into(),
            _ => Ipv4Addr::from(address.Ipv4.sin_addr.S_un.S_addr.to_ne_bytes()).into(),
        }
    }
}
