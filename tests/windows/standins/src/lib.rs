//! `wtsapi32.dll` for programs under Wine: a terminal server whose sessions are
//! lines of a text file.
//!
//! Wine knows one session, and every process is in it. A test writes
//! `C:\standin\sessions.txt` (see [`world`]); a program that loads this DLL
//! instead of Wine's own sees the sessions of that file, processes in the
//! sessions that `C:\standin\processes` has them in (`registry.rs`), and, if
//! it is a service, is told of logons, logoffs and wake-ups as the service
//! control manager tells them. The program itself is not changed and has no code
//! for tests.
//!
//! Whatever is wrong with those files is written to `C:\standin\complaints.txt`.

#[cfg(windows)]
pub mod answers;
pub mod world;

#[cfg(windows)]
mod block;
#[cfg(windows)]
mod detours;
#[cfg(windows)]
mod object_names;
#[cfg(windows)]
mod own_session;
#[cfg(windows)]
mod process;
#[cfg(windows)]
mod registry;
#[cfg(windows)]
mod service;
#[cfg(windows)]
mod tokens;

/// Called by Windows when the DLL comes and goes: the detours are made before
/// the program has run a single instruction of its own.
#[cfg(windows)]
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "exported by its C name")]
extern "system" fn DllMain(
    _module: windows_sys::Win32::Foundation::HMODULE,
    reason: u32,
    _reserved: *mut core::ffi::c_void,
) -> windows_sys::core::BOOL {
    if reason == windows_sys::Win32::System::SystemServices::DLL_PROCESS_ATTACH
        && let Err(problem) = detours::make()
    {
        world::complain(&problem);
        return 0;
    }
    1
}
