//! What do processes say of how they were started, and does Windows itself read
//! lines and paths as we do?

use crate::lines::Lines;
use sessionip_hook::script::{absolute, words};
use sessionip_hook::windows::command::{Command, command_of};
use sessionip_hook::windows::{process, runs, wide};
use std::os::windows::io::{AsHandle, AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};
#[cfg(target_pointer_width = "64")]
use windows_sys::Wdk::System::Threading::{NtQueryInformationProcess, ProcessWow64Information};
use windows_sys::Win32::Foundation::LocalFree;
use windows_sys::Win32::Storage::FileSystem::GetFullPathNameW;
#[cfg(target_pointer_width = "64")]
use windows_sys::Win32::System::Diagnostics::Debug::WriteProcessMemory;
use windows_sys::Win32::System::Threading::{
    CREATE_SUSPENDED, CreateProcessW, PROCESS_INFORMATION, STARTUPINFOW, TerminateProcess,
};
use windows_sys::Win32::UI::Shell::CommandLineToArgvW;

/// A process that has not begun, and never will.
struct Still(OwnedHandle);

impl Still {
    fn of(program: &Path, line: &str, folder: &Path) -> Self {
        let text = |path: &Path| wide(path.to_str().unwrap());
        let (program, mut line, folder) = (text(program), wide(line), text(folder));
        let startup =
            STARTUPINFOW { cb: size_of::<STARTUPINFOW>() as u32, ..STARTUPINFOW::default() };
        let mut information = PROCESS_INFORMATION::default();
        // SAFETY: all texts end in a zero and live through the call; both handles
        // written are new and ours alone.
        #[expect(unsafe_code, reason = "a call of the system")]
        unsafe {
            let made = CreateProcessW(
                program.as_ptr(),
                line.as_mut_ptr(),
                null(),
                null(),
                0,
                CREATE_SUSPENDED,
                null(),
                folder.as_ptr(),
                &raw const startup,
                &raw mut information,
            );
            assert_ne!(made, 0, "{}", std::io::Error::last_os_error());
            drop(OwnedHandle::from_raw_handle(information.hThread));
            Self(OwnedHandle::from_raw_handle(information.hProcess))
        }
    }

    fn pid(&self) -> u32 {
        process::number_of(self.0.as_handle())
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        // SAFETY: the handle is open.
        #[expect(unsafe_code, reason = "a call of the system")]
        unsafe {
            TerminateProcess(self.0.as_raw_handle(), 1);
        }
    }
}

/// A folder that goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path.canonicalize().unwrap())
    }

    /// Without the prefix of paths that are not looked at again.
    fn plain(&self) -> PathBuf {
        self.0.to_str().unwrap().trim_start_matches(r"\\?\").into()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn system(folder: &str) -> PathBuf {
    let windows = PathBuf::from(std::env::var_os("SystemRoot").unwrap());
    windows.join(folder).join("cmd.exe")
}

#[test]
fn a_process_tells_the_line_that_it_was_given_before_it_has_begun() {
    let folder = Folder::new("lines");
    let (folder, cmd) = (folder.plain(), system("system32"));
    for case in &Lines::read().case {
        let still = Still::of(&cmd, &case.line, &folder);
        let Some(told) = command_of(still.0.as_handle()) else { panic!("{case:?}: nothing") };
        // An empty line stands for the program's name.
        if !case.line.is_empty() {
            assert_eq!(told.line, case.line);
        }
        assert_eq!(Path::new(told.folder.trim_end_matches('\\')), folder);
        let program = format!(r"C:\bin\{}", case.program());
        let command = Command { line: case.line.clone(), ..told.clone() };
        let script = runs::script_by(&program, &command);
        let full = case.file.as_ref().map(|file| absolute(&told.folder, file).unwrap());
        assert_eq!(script, full, "{case:?}");
        assert_eq!(runs::command(still.pid(), r"C:\x\CMD.EXE"), Some(told), "{case:?}");
        assert_eq!(runs::command(still.pid(), r"C:\x\notepad.exe"), None);
    }
}

/// A 64-bit program sees those of 32 bits, and each sees its own kind.
#[test]
fn programs_of_both_widths_are_asked() {
    let folder = Folder::new("widths");
    let folder = folder.plain();
    let (own, other) = if cfg!(target_pointer_width = "64") {
        ("system32", "syswow64")
    } else {
        ("system32", "sysnative")
    };
    for (at, is_other) in [(own, false), (other, true)] {
        let still = Still::of(&system(at), "cmd /c x.cmd", &folder);
        let is_32_bit = process::is_32_bit(still.0.as_handle());
        assert_eq!(is_32_bit, is_other == cfg!(target_pointer_width = "64"), "{at}");
        let told = command_of(still.0.as_handle());
        if is_other && cfg!(target_pointer_width = "32") {
            assert_eq!(told, None, "its memory is out of reach");
            continue;
        }
        let told = told.expect("it may be read");
        assert_eq!(told.line, "cmd /c x.cmd", "{at}");
        assert_eq!(Path::new(told.folder.trim_end_matches('\\')), folder);
    }
}

/// Windows fills the 32-bit block as the program begins; what is said of it before
/// that stands in the other.
#[test]
#[cfg(target_pointer_width = "64")]
fn a_32_bit_program_is_asked_before_its_own_block_is_filled() {
    let folder = Folder::new("early");
    let folder = folder.plain();
    let still = Still::of(&system("syswow64"), "cmd /c x.cmd", &folder);
    let process = still.0.as_raw_handle();
    let (mut block, empty) = (0_usize, [0_u8; 4]);
    // SAFETY: one word is written here, and four bytes into the block of a process
    // that never begins.
    #[expect(unsafe_code, reason = "calls of the system")]
    unsafe {
        let size = size_of_val(&block) as u32;
        let (question, to) = (ProcessWow64Information, (&raw mut block).cast());
        assert_eq!(NtQueryInformationProcess(process, question, to, size, null_mut()), 0);
        assert_ne!(block, 0);
        let at = std::ptr::without_provenance(block + 0x10);
        let (from, mut done) = (empty.as_ptr().cast(), 0);
        let written = WriteProcessMemory(process, at, from, empty.len(), &raw mut done);
        assert_ne!(written, 0, "{}", std::io::Error::last_os_error());
    }
    let told = command_of(still.0.as_handle()).expect("the other block is there");
    assert_eq!(told.line, "cmd /c x.cmd");
    assert_eq!(Path::new(told.folder.trim_end_matches('\\')), folder);
}

#[test]
fn this_process_is_asked_where_it_is_now() {
    let told = command_of(process::this()).unwrap();
    let own: Vec<String> = std::env::args().collect();
    assert_eq!(words(&told.line), own);
    let folder = Path::new(told.folder.trim_end_matches('\\')).canonicalize().unwrap();
    assert_eq!(folder, std::env::current_dir().unwrap().canonicalize().unwrap());
}

#[test]
fn lines_are_parted_as_windows_parts_them() {
    let mut seed = 3_u64;
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize % below
    };
    let letters = ['"', '"', '\\', '\\', ' ', '\t', 'a', 'ß'];
    let mut lines: Vec<String> = Lines::read().case.into_iter().map(|case| case.line).collect();
    lines
        .extend((0..20_000).map(|_| (0..next(16)).map(|_| letters[next(letters.len())]).collect()));
    // Of no line at all Windows makes the caller's own name.
    for line in lines.iter().filter(|line| !line.is_empty()) {
        assert_eq!(words(line), windows_words(line), "{line:?}");
    }
}

#[expect(unsafe_code, reason = "calls of the system")]
fn windows_words(line: &str) -> Vec<String> {
    let line = wide(line);
    let mut count = 0;
    // SAFETY: the line ends in a zero; as many pointers are given as is said, each
    // to a text that ends in a zero, all in one piece of memory, freed once.
    unsafe {
        let words = CommandLineToArgvW(line.as_ptr(), &raw mut count);
        let text = |at: *const u16| {
            let length = (0..).find(|n| *at.add(*n) == 0).unwrap();
            String::from_utf16(std::slice::from_raw_parts(at, length)).unwrap()
        };
        let found = (0..count as usize).map(|n| text(*words.add(n))).collect();
        LocalFree(words.cast());
        found
    }
}

#[test]
fn paths_are_made_full_as_windows_makes_them() {
    let folder = command_of(process::this()).unwrap().folder;
    for path in [
        "x.py",
        r".\a/..\x.py",
        r"..\..\..\..\..\..\..\x.py",
        r"\a\.\x.py",
        r"C:\a\\b\x.py",
        "C:/a/../../x.py",
        r"\\server\share\a\..\..\..\x.py",
        "//server/share/x.py",
        "x.py. .",
        "Größe.py",
        "a b.py",
    ] {
        assert_eq!(absolute(&folder, path).unwrap(), windows_full(path), "{path}");
    }
}

fn windows_full(path: &str) -> String {
    let path = wide(path);
    filled(|room, length| {
        // SAFETY: the path ends in a zero; it writes at most as much as there is
        // room for.
        #[expect(unsafe_code, reason = "a call of the system")]
        unsafe {
            GetFullPathNameW(path.as_ptr(), length, room, null_mut())
        }
    })
}

fn filled(fill: impl Fn(*mut u16, u32) -> u32) -> String {
    let mut room = [0_u16; 1024];
    let length = fill(room.as_mut_ptr(), room.len() as u32) as usize;
    assert!(0 < length && length < room.len());
    String::from_utf16(&room[..length]).unwrap()
}
