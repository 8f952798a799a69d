//! Which Windows is this, and what does it let into its kernel?

use super::{Bench, Why};
use crate::guard::windows::{narrow, wide};
use std::ffi::OsStr;
use std::ptr;
use windows_sys::Win32::System::Registry::{
    HKEY_LOCAL_MACHINE, RRF_RT_REG_DWORD, RRF_RT_REG_SZ, RegGetValueW,
};

const WINDOWS: &str = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion";
const SECURE_BOOT: &str = r"SYSTEM\CurrentControlSet\Control\SecureBoot\State";
const INTEGRITY: &str =
    r"SYSTEM\CurrentControlSet\Control\DeviceGuard\Scenarios\HypervisorEnforcedCodeIntegrity";

/// Windows Server 2016 and Windows 10, version 1607.
const OLDEST: u32 = 14_393;

/// Windows is new enough; what may keep the driver out is said.
pub(super) fn platform(_: &mut Bench) -> Result<String, Why> {
    let name = text(WINDOWS, "ProductName").unwrap_or_else(|| "Windows".into());
    let build = text(WINDOWS, "CurrentBuildNumber").and_then(|build| build.parse().ok());
    let update = number(WINDOWS, "UBR").map(|update| format!(".{update}")).unwrap_or_default();
    let switch = |key, value| match number(key, value) {
        Some(0) => "off",
        Some(_) => "on",
        None => "unknown",
    };
    judge(
        &name,
        build,
        &update,
        switch(SECURE_BOOT, "UEFISecureBootEnabled"),
        switch(INTEGRITY, "Enabled"),
    )
}

fn judge(
    name: &str,
    build: Option<u32>,
    update: &str,
    secure_boot: &str,
    integrity: &str,
) -> Result<String, Why> {
    let Some(build) = build else {
        return Err(Why::failed("the registry does not say which Windows this is", ""));
    };
    let sentence = format!(
        "{name}, build {build}{update}; Secure Boot {secure_boot}, memory integrity (HVCI) \
         {integrity}"
    );
    if build < OLDEST {
        return Err(Why::failed(sentence, "Windows Server 2016 or later is needed"));
    }
    Ok(sentence)
}

fn text(key: &str, name: &str) -> Option<String> {
    let mut buffer = [0_u16; 256];
    let size = value(key, name, RRF_RT_REG_SZ, &mut buffer)?;
    let units = buffer.get(..size / size_of::<u16>())?;
    let units = units.split(|unit| *unit == 0).next()?;
    Some(narrow(units)).filter(|text| !text.is_empty())
}

fn number(key: &str, name: &str) -> Option<u32> {
    let mut number = [0_u32];
    value(key, name, RRF_RT_REG_DWORD, &mut number)?;
    let [number] = number;
    Some(number)
}

/// Has a value written to `place`; says how many bytes of it.
fn value<T: Numbers>(key: &str, name: &str, kind: u32, place: &mut T) -> Option<usize> {
    let (key, name) = (wide(OsStr::new(key)), wide(OsStr::new(name)));
    let mut size = u32::try_from(size_of_val(place)).ok()?;
    #[expect(unsafe_code, reason = "a call into advapi32")]
    // SAFETY: both names end with a zero. The place is numbers, so that any bytes are
    // a value, and as long as is said.
    let status = unsafe {
        let (key, name, place) = (key.as_ptr(), name.as_ptr(), (&raw mut *place).cast());
        RegGetValueW(HKEY_LOCAL_MACHINE, key, name, kind, ptr::null_mut(), place, &raw mut size)
    };
    (status == 0).then_some(size as usize)
}

/// Of which any bytes are a value.
trait Numbers {}
impl Numbers for [u16; 256] {}
impl Numbers for [u32; 1] {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_build_and_no_nonsense() {
        let build = text(WINDOWS, "CurrentBuildNumber").unwrap();
        assert!(build.parse::<u32>().unwrap() > 1000, "{build}");
        assert_eq!(text(WINDOWS, "no such value"), None);
        assert_eq!(number(r"SOFTWARE\no such key", "Enabled"), None);
    }

    #[test]
    fn a_windows_that_is_too_old_is_refused() {
        let judge = |build| judge("Windows Server", build, ".1", "on", "off");
        assert_eq!(
            judge(Some(20348)).unwrap(),
            "Windows Server, build 20348.1; Secure Boot on, memory integrity (HVCI) off"
        );
        assert!(matches!(judge(Some(9600)), Err(Why::Failed { .. })));
        assert!(judge(None).is_err());
    }
}
