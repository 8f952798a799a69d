//! What does WinDivert.dll offer, and where is it?
//!
//! It is loaded at run time and not linked: a program that is linked to a DLL
//! which is missing ends before its first line, with a dialog or a number. Types
//! are those of the crates windivert and windivert-sys. Nothing of them is used
//! that is compiled there (functions that are not inlined): it would bring the
//! functions of the DLL along, as imports. An unoptimized build has the imports
//! all the same: there rustc shares between crates what is generic.

use super::OpenError;
use super::facts::Address;
use std::ffi::{CStr, c_char, c_void};
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use windivert::prelude::{WinDivertFlags, WinDivertLayer, WinDivertParam, WinDivertShutdownMode};
use windows_sys::Win32::Foundation::{HANDLE, HMODULE};
use windows_sys::Win32::System::IO::OVERLAPPED;
use windows_sys::Win32::System::LibraryLoader::{
    GetProcAddress, LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR, LOAD_LIBRARY_SEARCH_SYSTEM32, LoadLibraryExW,
};
use windows_sys::core::BOOL;

/// Its name.
const NAME: &str = "WinDivert.dll";

type Open = unsafe extern "C" fn(*const c_char, WinDivertLayer, i16, WinDivertFlags) -> HANDLE;
type Receive = unsafe extern "C" fn(
    HANDLE,
    *mut c_void,
    u32,
    *mut u32,
    u64,
    *mut Address,
    *mut u32,
    *mut OVERLAPPED,
) -> BOOL;
type Send = unsafe extern "C" fn(
    HANDLE,
    *const c_void,
    u32,
    *mut u32,
    u64,
    *const Address,
    u32,
    *mut OVERLAPPED,
) -> BOOL;
type Shutdown = unsafe extern "C" fn(HANDLE, WinDivertShutdownMode) -> BOOL;
type Close = unsafe extern "C" fn(HANDLE) -> BOOL;
type Set = unsafe extern "C" fn(HANDLE, WinDivertParam, u64) -> BOOL;
type ValueOf = unsafe extern "C" fn(HANDLE, WinDivertParam, *mut u64) -> BOOL;
type Compile = unsafe extern "C" fn(
    *const c_char,
    WinDivertLayer,
    *mut c_char,
    u32,
    *mut *const c_char,
    *mut u32,
) -> BOOL;

/// Its functions, as far as they are used here. It stays loaded until the program
/// ends: it keeps an event for each thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dll {
    pub(super) open: Open,
    pub(super) receive: Receive,
    pub(super) send: Send,
    pub(super) shutdown: Shutdown,
    pub(super) close: Close,
    pub(super) set: Set,
    pub(super) value_of: ValueOf,
    compile: Compile,
}

impl Dll {
    /// The one in the folder of the running program.
    pub(crate) fn beside_program() -> Result<Self, OpenError> {
        let program = std::env::current_exe().map_err(OpenError::System)?;
        Self::load(&program.with_file_name(NAME))
    }

    /// The one of this path. Of the DLLs that it needs itself only those beside it
    /// and those of the system are taken: no folder that others write to.
    pub(crate) fn load(path: &Path) -> Result<Self, OpenError> {
        let module = load(path)?;
        let function = |name| function(module, path, name);
        #[expect(unsafe_code, reason = "an address says nothing of the function's type")]
        // SAFETY: the names are those of WinDivert's functions, and the types are
        // theirs by windivert.h, version 2.2, with `Address` for the 80 bytes of
        // WINDIVERT_ADDRESS.
        unsafe {
            Ok(Self {
                open: std::mem::transmute::<*const c_void, Open>(function(c"WinDivertOpen")?),
                receive: std::mem::transmute::<*const c_void, Receive>(function(
                    c"WinDivertRecvEx",
                )?),
                send: std::mem::transmute::<*const c_void, Send>(function(c"WinDivertSendEx")?),
                shutdown: std::mem::transmute::<*const c_void, Shutdown>(function(
                    c"WinDivertShutdown",
                )?),
                close: std::mem::transmute::<*const c_void, Close>(function(c"WinDivertClose")?),
                set: std::mem::transmute::<*const c_void, Set>(function(c"WinDivertSetParam")?),
                value_of: std::mem::transmute::<*const c_void, ValueOf>(function(
                    c"WinDivertGetParam",
                )?),
                compile: std::mem::transmute::<*const c_void, Compile>(function(
                    c"WinDivertHelperCompileFilter",
                )?),
            })
        }
    }

    /// What is wrong with a filter, and at which of its characters.
    pub(crate) fn check(&self, filter: &CStr, layer: WinDivertLayer) -> Result<(), Flaw> {
        let (mut text, mut at) = (std::ptr::null(), 0);
        let object = std::ptr::null_mut();
        #[expect(unsafe_code, reason = "a function of the DLL")]
        // SAFETY: `filter` ends with a zero, the compiler may not want to say what it
        // made (`object`, of no bytes), and both places to answer in are ours. What
        // it says is a constant of the DLL, which stays loaded.
        unsafe {
            if (self.compile)(filter.as_ptr(), layer, object, 0, &raw mut text, &raw mut at) != 0 {
                return Ok(());
            }
            let text = if text.is_null() { c"no reason given" } else { CStr::from_ptr(text) };
            Err(Flaw { text: text.to_string_lossy().into_owned(), at })
        }
    }
}

/// What the compiler finds wrong with a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text} at character {at}")]
pub(crate) struct Flaw {
    text: String,
    at: u32,
}

fn load(path: &Path) -> Result<HMODULE, OpenError> {
    let wide: Vec<u16> = path.as_os_str().encode_wide().chain([0]).collect();
    let from = LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR | LOAD_LIBRARY_SEARCH_SYSTEM32;
    #[expect(unsafe_code, reason = "nothing safe loads a DLL")]
    // SAFETY: `wide` ends with a zero. The DLL's entry point runs, which is what is
    // asked for.
    let module = unsafe { LoadLibraryExW(wide.as_ptr(), std::ptr::null_mut(), from) };
    if module.is_null() {
        let source = io::Error::last_os_error();
        return Err(OpenError::of_dll(path, source));
    }
    Ok(module)
}

fn function(module: HMODULE, path: &Path, name: &'static CStr) -> Result<*const c_void, OpenError> {
    #[expect(unsafe_code, reason = "nothing safe looks a function up")]
    // SAFETY: the module is loaded for good, and `name` ends with a zero.
    let found = unsafe { GetProcAddress(module, name.as_ptr().cast()) };
    found.map(|function| function as *const c_void).ok_or_else(|| OpenError::OtherDll {
        path: PathBuf::from(path),
        function: name.to_str().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::divert::filter::tests::samples;
    use crate::divert::filter::{Filters, MOST_TESTS};
    use std::ffi::CString;
    use windivert_sys::address::WINDIVERT_ADDRESS;

    /// The official DLL, which compiles and evaluates filters without a driver.
    fn official() -> (tempfile::TempDir, Dll, Evaluate) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(NAME);
        let bytes = include_bytes!(concat!(env!("WINDIVERT_PATH"), "/WinDivert.dll"));
        std::fs::write(&path, bytes).expect("the DLL");
        let dll = Dll::load(&path).expect("it loads");
        let module = load(&path).expect("it loads again");
        let evaluate = function(module, &path, c"WinDivertHelperEvalFilter").expect("it is there");
        #[expect(unsafe_code, reason = "an address says nothing of the function's type")]
        // SAFETY: the type is that of windivert.h.
        let evaluate = unsafe { std::mem::transmute::<*const c_void, Evaluate>(evaluate) };
        (folder, dll, evaluate)
    }

    type Evaluate =
        unsafe extern "C" fn(*const c_char, *const c_void, u32, *const WINDIVERT_ADDRESS) -> BOOL;

    fn filters_of(selection: &crate::divert::Selection) -> Vec<String> {
        let Filters { main, loopback, foreign, .. } = Filters::of(selection);
        main.into_iter().chain(loopback).chain(foreign).collect()
    }

    #[test]
    fn the_official_compiler_takes_every_filter() {
        let (_folder, dll, _) = official();
        for filter in samples().iter().flat_map(filters_of) {
            let text = CString::new(filter.clone()).expect("no zero");
            let checked = dll.check(&text, WinDivertLayer::Network);
            assert_eq!(checked, Ok(()), "{filter}");
        }
        let flaw = dll.check(c"ip.Source == 1", WinDivertLayer::Network);
        assert!(flaw.expect_err("no such field").to_string().contains("at character 0"));
        let many = |count| CString::new(vec!["tcp"; count].join(" or ")).expect("no zero");
        assert_eq!(dll.check(&many(MOST_TESTS), WinDivertLayer::Network), Ok(()));
        assert!(dll.check(&many(MOST_TESTS + 2), WinDivertLayer::Network).is_err());
    }

    #[test]
    fn filters_lead_here_what_they_should() {
        const HOST: [u8; 4] = [10, 77, 0, 1];
        const OWN: [u8; 4] = [10, 77, 0, 101];
        const PEER: [u8; 4] = [10, 77, 0, 2];
        const HOME: [u8; 4] = [127, 0, 0, 1];
        let (_folder, _, evaluate) = official();
        let small = samples().remove(0);
        let Filters { main, loopback, foreign, .. } = Filters::of(&small);
        let texts = [main, loopback, foreign.into_iter().next()];
        let texts = texts.map(|text| CString::new(text.expect("a filter")).expect("no zero"));
        let ways = [("out", true, false), ("in", false, false), ("within", true, true)];
        let led = |way, protocol, source: ([u8; 4], u16), destination: ([u8; 4], u16)| {
            let (_, outbound, loopback) = ways.into_iter().find(|(name, ..)| *name == way)?;
            let mut packet = [0_u8; 60];
            packet[..4].copy_from_slice(&[0x45, 0, 0, 60]);
            (packet[8], packet[9], packet[32]) = (64, protocol, 0x50);
            packet[12..16].copy_from_slice(&source.0);
            packet[16..20].copy_from_slice(&destination.0);
            let (first, second) = (source.1.to_be_bytes(), destination.1.to_be_bytes());
            packet[20..24].copy_from_slice([first, second].as_flattened());
            let mut address = WINDIVERT_ADDRESS::default();
            address.set_outbound(outbound);
            address.set_loopback(loopback);
            let led = texts.iter().map(|text| {
                #[expect(unsafe_code, reason = "a function of the DLL")]
                // SAFETY: the filter ends with a zero, and the packet is as long as is said.
                unsafe {
                    evaluate(text.as_ptr(), packet.as_ptr().cast(), 60, &raw const address) != 0
                }
            });
            Some(led.collect::<Vec<_>>())
        };
        let [none, main, loopback, both, foreign] = [
            vec![false, false, false],
            vec![true, false, false],
            vec![false, true, false],
            vec![true, true, false],
            vec![true, false, true],
        ];
        let icmp = |kind: u8| u16::from(kind) << 8;
        let cases = [
            ("out", 6, (HOST, 40000), (PEER, 80), &main),
            ("out", 17, (HOST, 40000), (PEER, 53), &main),
            ("out", 6, (OWN, 9000), (PEER, 80), &none), // bound: needs no rewriting
            ("out", 6, (HOST, 3389), (PEER, 40000), &none), // excluded
            ("out", 17, (HOST, 68), (PEER, 67), &none), // DHCP
            ("out", 17, (HOST, 40000), ([224, 0, 0, 251], 5353), &none),
            ("out", 17, (HOST, 40000), ([255; 4], 9), &none),
            ("out", 17, (HOST, 40000), ([10, 77, 0, 255], 137), &none),
            ("out", 1, (HOST, icmp(3)), (PEER, 0), &main), // port unreachable
            ("out", 1, (HOST, icmp(8)), (PEER, 0), &none), // ping
            ("in", 6, (PEER, 80), (OWN, 40000), &main),
            ("in", 6, (PEER, 80), (HOST, 40000), &none),
            ("in", 6, (PEER, 80), (OWN, 3389), &none),
            ("in", 1, (PEER, icmp(11)), (OWN, 0), &main),
            ("in", 17, (PEER, 53), ([10, 77, 0, 200], 9), &none), // behind the pool
            ("within", 6, (HOST, 40000), (OWN, 80), &main),
            ("within", 6, (OWN, 80), (HOST, 40000), &main),
            ("within", 6, (HOST, 40000), (OWN, 3389), &main), // its answer has to come, too
            ("within", 6, (OWN, 3389), (HOST, 40000), &main),
            ("within", 6, (HOST, 40000), (HOST, 80), &none),
            ("within", 6, (HOME, 40000), (HOME, 80), &none),
            ("within", 6, (HOME, 40000), (HOME, 9000), &loopback),
            ("within", 17, (HOME, 40000), (HOME, 9000), &none),
            ("within", 6, (HOST, 40000), (HOST, 9000), &loopback),
            ("within", 6, (OWN, 9000), (OWN, 40000), &both),
            ("in", 6, (PEER, 40000), ([10, 77, 0, 102], 8000), &foreign),
        ];
        for (way, protocol, source, destination, expected) in cases {
            let led = led(way, protocol, source, destination).expect("a way");
            assert_eq!(&led, expected, "{way} {protocol} {source:?} {destination:?}");
        }
    }

    #[test]
    fn what_is_no_windivert_is_named() {
        let missing = Dll::load(Path::new("C:\\none\\WinDivert.dll"));
        assert!(matches!(missing, Err(OpenError::NoDll { .. })), "{missing:?}");
        let folder = tempfile::tempdir().expect("a folder");
        let text = folder.path().join(NAME);
        std::fs::write(&text, "no DLL").expect("a file");
        let bad = Dll::load(&text);
        assert!(matches!(bad, Err(OpenError::BadDll { .. })), "{bad:?}");
        let system = std::env::var_os("SystemRoot").map(PathBuf::from);
        let system = system.expect("a system").join("system32").join("kernel32.dll");
        let other = Dll::load(&system);
        assert!(matches!(other, Err(OpenError::OtherDll { .. })), "{other:?}");
    }
}
