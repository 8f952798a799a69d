//! A program that asks about names and addresses, by every function there is.
//!
//! `WHAT ARGUMENTS`: the answer is one line. Addresses of one list have a space between
//! them, lists of several adapters `; `.

mod lists;
mod threads;

use hook::windows::wide;
use std::ffi::{CStr, CString, c_void};
use std::net::{IpAddr, SocketAddr};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU32, Ordering};
use windows_sys::Win32::Foundation::WAIT_OBJECT_0;
use windows_sys::Win32::Networking::WinSock::{
    ADDRINFOA, ADDRINFOEXW, ADDRINFOW, AF_INET, AF_INET6, AF_UNSPEC, AI_CANONNAME, FreeAddrInfoExW,
    FreeAddrInfoW, GetAddrInfoExOverlappedResult, GetAddrInfoExW, GetAddrInfoW, GetNameInfoW,
    HOSTENT, NS_ALL, NS_DNS, NS_WINS, SOCKADDR, SOCKADDR_IN, SOCKADDR_IN6, WSA_IO_PENDING,
    WSAGetLastError, freeaddrinfo, getaddrinfo, gethostbyaddr, gethostbyname, getnameinfo,
};
use windows_sys::Win32::System::IO::OVERLAPPED;
use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleW, GetProcAddress, LoadLibraryW};
use windows_sys::Win32::System::Memory::{
    GetProcessHeap, HeapLock, HeapUnlock, HeapValidate, HeapWalk, MEM_COMMIT, MEM_RESERVE,
    PAGE_READWRITE, PROCESS_HEAP_ENTRY, VirtualAlloc,
};
use windows_sys::Win32::System::SystemInformation::{
    ComputerNamePhysicalDnsFullyQualified, GetComputerNameExW,
};
use windows_sys::Win32::System::Threading::{CreateEventW, WaitForSingleObject};
use windows_sys::core::GUID;

/// What is asked, and the answer.
pub(crate) fn ask(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    match words[..] {
        ["called"] => called(),
        ["code", module, function] => code(module, function),
        ["load", module] => format!("{}", !library(module).is_null()),
        ["name", how, family, name] => resolve(how, family, name),
        ["after-an-end", name] => threads::after_an_end(name),
        ["canonical", name] => canonical(name),
        ["host", name] => host(name),
        ["host-of", address] => host_of(address),
        ["name-of", how, address, flags, room] => {
            name_of(how, address, flags.parse().unwrap(), room.parse().unwrap())
        }
        ["adapters", family] => lists::adapters(family),
        ["infos"] => lists::infos(),
        ["ip-table", sorted] => lists::ip_table(sorted == "sorted"),
        ["unicast", family] => lists::unicast(family),
        ["addresses", family] => lists::addresses(family),
        ["interfaces"] => lists::interfaces(),
        ["leaves", to] => lists::leaves(to),
        ["often", name, times] => often(name, times.parse().unwrap()),
        _ => panic!("no question: {text}"),
    }
}

fn family(text: &str) -> u16 {
    match text {
        "4" => AF_INET,
        "6" => AF_INET6,
        _ => AF_UNSPEC,
    }
}

/// The name that is none.
fn name(text: &str) -> &str {
    if text == "-" { "" } else { text }
}

fn called() -> String {
    let mut text = [0_u16; 512];
    let mut length = text.len() as u32;
    // SAFETY: it writes at most as many units as there is room for.
    #[expect(unsafe_code, reason = "a call of the system")]
    unsafe {
        GetComputerNameExW(
            ComputerNamePhysicalDnsFullyQualified,
            text.as_mut_ptr(),
            &raw mut length,
        );
    }
    String::from_utf16(&text[..length as usize]).unwrap()
}

/// The first bytes of a function.
#[expect(unsafe_code, reason = "code is read")]
fn code(module: &str, function: &str) -> String {
    let function = CString::new(function).unwrap();
    // SAFETY: both names end in a zero, and a function has bytes.
    let bytes = unsafe {
        let module = GetModuleHandleW(wide(module).as_ptr());
        let function = GetProcAddress(module, function.as_ptr().cast()).unwrap();
        (function as *const [u8; 8]).read()
    };
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[expect(unsafe_code, reason = "a call of the system")]
fn library(module: &str) -> *mut c_void {
    // SAFETY: the name ends in a zero.
    unsafe { LoadLibraryW(wide(module).as_ptr()) }
}

/// # Safety
/// There is an address, as long as said.
#[expect(unsafe_code, reason = "the system's structs overlay each other")]
unsafe fn text(at: *const SOCKADDR) -> String {
    // SAFETY: by the caller's word.
    unsafe {
        match at.cast::<u16>().read_unaligned() {
            AF_INET => {
                let name = at.cast::<SOCKADDR_IN>().read_unaligned();
                IpAddr::from(name.sin_addr.S_un.S_addr.to_ne_bytes()).to_string()
            }
            AF_INET6 => {
                let name = at.cast::<SOCKADDR_IN6>().read_unaligned();
                IpAddr::from(name.sin6_addr.u.Byte).to_string()
            }
            other => format!("family {other}"),
        }
    }
}

fn to_system(address: SocketAddr) -> (SOCKADDR_IN6, i32) {
    let mut name = SOCKADDR_IN6::default();
    match address {
        SocketAddr::V4(address) => {
            let ipv4 = (&raw mut name).cast::<SOCKADDR_IN>();
            // SAFETY: the larger struct has room for the smaller one.
            #[expect(unsafe_code, reason = "the system's structs overlay each other")]
            unsafe {
                (*ipv4).sin_family = AF_INET;
                (*ipv4).sin_port = address.port().to_be();
                (*ipv4).sin_addr.S_un.S_addr = u32::from_ne_bytes(address.ip().octets());
            }
            (name, 16)
        }
        SocketAddr::V6(address) => {
            name.sin6_family = AF_INET6;
            name.sin6_port = address.port().to_be();
            name.sin6_addr.u.Byte = address.ip().octets();
            (name, 28)
        }
    }
}

/// By getaddrinfo (`a`; `edge`: with a name where memory ends), GetAddrInfoW (`w`),
/// GetAddrInfoExW (`x`), or that with an event (`later`, and `later-…` with another namespace or provider) or a completion routine
/// (`routine`).
#[expect(unsafe_code, reason = "calls of the system")]
fn resolve(how: &str, family_of: &str, asked: &str) -> String {
    let asked = name(asked);
    let (narrow, broad) = (CString::new(asked).unwrap(), wide(asked));
    let family = i32::from(family(family_of));
    let mut found = Vec::new();
    // SAFETY: names end in a zero, each list is the system's, read to its end and freed
    // once; what is for later lives until it is there.
    unsafe {
        match how {
            "a" | "edge" => {
                let node = if how == "edge" { at_the_edge(&narrow) } else { narrow.as_ptr() };
                let hints = ADDRINFOA { ai_family: family, ai_socktype: 1, ..Default::default() };
                let mut list = null_mut();
                let answer = getaddrinfo(node.cast(), null(), &raw const hints, &raw mut list);
                if answer != 0 {
                    return format!("error {answer} {} {list:?}", WSAGetLastError());
                }
                let mut node: *const ADDRINFOA = list;
                while !node.is_null() {
                    let info = node.read_unaligned();
                    found.push(text(info.ai_addr));
                    node = info.ai_next;
                }
                freeaddrinfo(list);
            }
            "w" => {
                let hints = ADDRINFOW { ai_family: family, ai_socktype: 1, ..Default::default() };
                let mut list = null_mut();
                let answer = GetAddrInfoW(broad.as_ptr(), null(), &raw const hints, &raw mut list);
                if answer != 0 {
                    return format!("error {answer} {} {list:?}", WSAGetLastError());
                }
                let mut node: *const ADDRINFOW = list;
                while !node.is_null() {
                    let info = node.read_unaligned();
                    found.push(text(info.ai_addr));
                    node = info.ai_next;
                }
                FreeAddrInfoW(list);
            }
            _ => {
                let hints = ADDRINFOEXW { ai_family: family, ai_socktype: 1, ..Default::default() };
                let mut list = null_mut();
                let mut overlapped = OVERLAPPED::default();
                let is_later = how == "routine" || how.starts_with("later");
                let namespace = match how {
                    "later-all" => NS_ALL,
                    "later-wins" => NS_WINS,
                    _ => NS_DNS,
                };
                let provider = if how == "later-chosen" { &raw const CHOSEN } else { null() };
                if how.starts_with("later") {
                    overlapped.hEvent = CreateEventW(null(), 1, 0, null());
                }
                let answer = GetAddrInfoExW(
                    broad.as_ptr(),
                    null(),
                    namespace,
                    provider,
                    &raw const hints,
                    &raw mut list,
                    null(),
                    if is_later { &raw const overlapped } else { null() },
                    if how == "routine" { Some(completed) } else { None },
                    null_mut(),
                );
                if is_later {
                    found.push(if answer == 0 { "at once" } else { "later" }.to_owned());
                    assert!([0, WSA_IO_PENDING].contains(&answer), "{answer}");
                    if how.starts_with("later") {
                        assert_eq!(WaitForSingleObject(overlapped.hEvent, 20_000), WAIT_OBJECT_0);
                    } else if answer == 0 {
                        // Who is answered at once is not called, too.
                        std::thread::sleep(std::time::Duration::from_millis(200));
                        assert_eq!(COMPLETED.load(Ordering::Acquire), 0);
                    } else {
                        while COMPLETED.load(Ordering::Acquire) == 0 {
                            std::thread::yield_now();
                        }
                        COMPLETED.store(0, Ordering::Release);
                    }
                    assert_eq!(GetAddrInfoExOverlappedResult(&raw const overlapped), 0);
                    assert_eq!(overlapped.Anonymous.Pointer, (&raw mut list).cast());
                } else if answer != 0 {
                    return format!("error {answer} {} {list:?}", WSAGetLastError());
                }
                let mut node: *const ADDRINFOEXW = list;
                while !node.is_null() {
                    let info = node.read_unaligned();
                    found.push(text(info.ai_addr));
                    node = info.ai_next;
                }
                FreeAddrInfoExW(list);
            }
        }
    }
    found.join(" ")
}

/// A provider that nobody has.
static CHOSEN: GUID = GUID::from_u128(0x5e55_1011_4711_4711_8000_0000_0000_0001);

static COMPLETED: AtomicU32 = AtomicU32::new(0);

#[expect(unsafe_code, reason = "the system calls it")]
unsafe extern "system" fn completed(error: u32, _: u32, _: *const OVERLAPPED) {
    assert_eq!(error, 0);
    COMPLETED.fetch_add(1, Ordering::AcqRel);
}

/// A copy after which there is no memory.
#[expect(unsafe_code, reason = "calls of the system")]
fn at_the_edge(text: &CStr) -> *const i8 {
    const PAGE: usize = 4096;
    let bytes = text.to_bytes_with_nul();
    // SAFETY: two pages are reserved, and the text fits into the first, which alone is
    // there.
    unsafe {
        let pages = VirtualAlloc(null(), 2 * PAGE, MEM_RESERVE, PAGE_READWRITE);
        VirtualAlloc(pages, PAGE, MEM_COMMIT, PAGE_READWRITE);
        let place = pages.byte_add(PAGE - bytes.len()).cast::<u8>();
        place.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        place.cast()
    }
}

/// What it is called in full, and for which kinds of sockets it has which address.
#[expect(unsafe_code, reason = "calls of the system")]
fn canonical(asked: &str) -> String {
    let asked = CString::new(asked).unwrap();
    let hints = ADDRINFOA { ai_flags: AI_CANONNAME as i32, ..Default::default() };
    let mut list = null_mut();
    // SAFETY: the name ends in a zero; the list is read to its end and freed once.
    unsafe {
        let answer = getaddrinfo(asked.as_ptr().cast(), null(), &raw const hints, &raw mut list);
        assert_eq!(answer, 0);
        let name = list.read_unaligned().ai_canonname.cast();
        let name = CStr::from_ptr(name).to_str().unwrap().to_owned();
        let mut found = vec![name];
        let mut node: *const ADDRINFOA = list;
        while !node.is_null() {
            let info = node.read_unaligned();
            found.push(format!("{}/{}", text(info.ai_addr), info.ai_socktype));
            node = info.ai_next;
        }
        freeaddrinfo(list);
        found.join(" ")
    }
}

/// # Safety
/// The system has just answered with it.
#[expect(unsafe_code, reason = "the system's structs")]
unsafe fn entry(entry: *const HOSTENT) -> String {
    // SAFETY: by the caller's word.
    unsafe {
        if entry.is_null() {
            return format!("error {}", WSAGetLastError());
        }
        let name = CStr::from_ptr((*entry).h_name.cast()).to_str().unwrap().to_owned();
        let mut found = vec![name];
        for at in 0.. {
            let address = *(*entry).h_addr_list.add(at);
            if address.is_null() {
                break;
            }
            found.push(match (*entry).h_length {
                4 => IpAddr::from(address.cast::<[u8; 4]>().read_unaligned()).to_string(),
                _ => IpAddr::from(address.cast::<[u8; 16]>().read_unaligned()).to_string(),
            });
        }
        if !(*entry).h_aliases.is_null() {
            for at in 0.. {
                let alias = *(*entry).h_aliases.add(at);
                if alias.is_null() {
                    break;
                }
                found.push(format!("also {}", CStr::from_ptr(alias.cast()).to_str().unwrap()));
            }
        }
        found.join(" ")
    }
}

#[expect(unsafe_code, reason = "a call of the system")]
fn host(asked: &str) -> String {
    let text = CString::new(asked).unwrap();
    let asked = if asked == "-" { null() } else { text.as_ptr() };
    // SAFETY: the name ends in a zero, or is none.
    unsafe { entry(gethostbyname(asked.cast())) }
}

#[expect(unsafe_code, reason = "a call of the system")]
fn host_of(address: &str) -> String {
    // SAFETY: the address is as long as said.
    unsafe {
        match address.parse().unwrap() {
            IpAddr::V4(ip) => entry(gethostbyaddr(ip.octets().as_ptr(), 4, i32::from(AF_INET))),
            IpAddr::V6(ip) => entry(gethostbyaddr(ip.octets().as_ptr(), 16, i32::from(AF_INET6))),
        }
    }
}

/// Of port 7.
#[expect(unsafe_code, reason = "calls of the system")]
fn name_of(how: &str, address: &str, flags: i32, room: u32) -> String {
    let (name, length) = to_system(SocketAddr::new(address.parse().unwrap(), 7));
    let name = (&raw const name).cast();
    if how == "a" {
        let (mut node, mut service) = ([0xaa_u8; 1025], [0_u8; 32]);
        // SAFETY: there is at least as much room as said.
        let answer = unsafe {
            getnameinfo(name, length, node.as_mut_ptr(), room, service.as_mut_ptr(), 32, flags)
        };
        assert!(node[room as usize..].iter().all(|byte| *byte == 0xaa), "beyond its room");
        let text = |bytes: &[u8]| match CStr::from_bytes_until_nul(bytes) {
            Ok(text) => text.to_str().unwrap().to_owned(),
            Err(_) => "nothing".to_owned(),
        };
        if answer == 0 {
            format!("{} {}", text(&node), text(&service))
        } else {
            format!("error {answer}")
        }
    } else {
        let (mut node, mut service) = ([0xaaaa_u16; 1025], [0_u16; 32]);
        // SAFETY: there is at least as much room as said.
        let answer = unsafe {
            GetNameInfoW(name, length, node.as_mut_ptr(), room, service.as_mut_ptr(), 32, flags)
        };
        assert!(node[room as usize..].iter().all(|unit| *unit == 0xaaaa), "beyond its room");
        let text = |units: &[u16]| match units.iter().position(|unit| *unit == 0) {
            Some(end) => String::from_utf16(&units[..end]).unwrap(),
            None => "nothing".to_owned(),
        };
        if answer == 0 {
            format!("{} {}", text(&node), text(&service))
        } else {
            format!("error {answer}")
        }
    }
}

/// Asks and frees, by all functions: how many bytes more of the heap are held then?
fn often(name: &str, times: u32) -> String {
    let ask = |times| {
        for _ in 0..times {
            for how in ["a", "w", "x"] {
                resolve(how, "0", name);
            }
        }
    };
    // What is made once is there afterwards.
    ask(3);
    let before = in_use();
    ask(times);
    let more = in_use().saturating_sub(before);
    more.to_string()
}

/// The bytes of the process's heap that somebody holds, if it is sound.
#[expect(unsafe_code, reason = "calls of the system")]
fn in_use() -> usize {
    let mut entry = PROCESS_HEAP_ENTRY::default();
    let mut bytes = 0;
    // SAFETY: the heap is this process's own, and locked while it is gone through.
    unsafe {
        let heap = GetProcessHeap();
        assert_ne!(HeapValidate(heap, 0, null()), 0, "the heap is broken");
        HeapLock(heap);
        while HeapWalk(heap, &raw mut entry) != 0 {
            if entry.wFlags & 4 != 0 {
                bytes += entry.cbData as usize; // PROCESS_HEAP_ENTRY_BUSY
            }
        }
        HeapUnlock(heap);
    }
    bytes
}
