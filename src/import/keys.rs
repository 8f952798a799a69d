//! Which keys and values do the systems before us have?
//!
//! Only what a source tells of is taken; all else is reported by its name.
//!
//! **Citrix**, below `HKLM\SOFTWARE\Wow6432Node\Citrix\VIP` (on a 32-bit Windows
//! `HKLM\SOFTWARE\Citrix\VIP`):
//!
//! | value | type | source |
//! |---|---|---|
//! | `PreferLoopback` | `DWORD`, 1: on | Citrix's manual of virtual loopback (F35 of the feature list) |
//! | `PreferLoopbackProcesses` | `MULTI_SZ` | the same |
//! | `UseClientIP`, `HookProcessesClientIP` | | named by XenApp administrators; no manual at hand tells their types, so they are only reported (F5) |
//!
//! Whether virtual loopback is on, its program list and its excluded ports are
//! settings of a Citrix policy (docs.citrix.com, "Virtual IP policy settings"); the
//! ranges and the program list of XenApp's virtual IP stand in the farm's data
//! store. None of them is in these keys.
//!
//! **Microsoft**, below `HKLM\SYSTEM\CurrentControlSet\Control\Terminal
//! Server\TSAppSrv\VirtualIP` (the class `Win32_TSVirtualIP` on learn.microsoft.com
//! names the key) and, for the group policy, which wins value by value, below
//! `HKLM\SOFTWARE\Policies\Microsoft\Windows NT\Terminal Services\TSAppSrv\VirtualIP`:
//!
//! | value | type | source |
//! |---|---|---|
//! | `EnableVirtualIP` | `DWORD`, not 0: on | what the Windows service reads (`RegReadConfigSettings`, `LoadTSVIPConfig`: published analyses of it), as all below that have no other source |
//! | `VirtualMode` | `DWORD`, 0: per session, else (and by default) per program | the same; `SetVirtualIPMode` on learn.microsoft.com |
//! | `PerApp` | `MULTI_SZ`: the programs | published scripts that set the policy |
//! | `VirtualizeLoopbackAdresses` (so spelt) | `DWORD`, not 0: on, with `EnableVirtualIP` | the same; `SetVirtualizeLoopbackAddressesEnabled` on learn.microsoft.com |
//! | `PromptOnIPLeaseFail` | `DWORD`, 1: the server's address is not used where there is no virtual one | the same; the policy's text |
//! | `AdapterAddress` | text, a MAC address | the same; `SelectNetworkAdapter` on learn.microsoft.com |
//! | `VIPAdapter` | text, address/length | the same; the policy's text |
//! | `IPPool` | text, the path of a library that gives addresses | the same |
//! | `ForceLogoffOnIPLeaseFail`, `MaxCacheIP`, `AcquireIpAttempts`, `AcquireIpRetrySleepTime`, `AllowPerSessionInMultiNIC`, `RpcUUID` | | the same |
//! | `IPFilterBitmaps` | `DWORD` | guides to RD IP Virtualization |

use super::reg::{Entry, Export, Value};

/// Where keys lie, as messages say it.
pub(super) const PLACES: [&str; 4] = [
    r"HKLM\SOFTWARE\Wow6432Node\Citrix\VIP",
    r"HKLM\SOFTWARE\Citrix\VIP",
    r"HKLM\SYSTEM\CurrentControlSet\Control\Terminal Server\TSAppSrv\VirtualIP",
    r"HKLM\SOFTWARE\Policies\Microsoft\Windows NT\Terminal Services\TSAppSrv\VirtualIP",
];

/// Whose key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Citrix,
    /// The group policy's.
    Policy,
    /// The server's own.
    Server,
    /// Below one of the above.
    Below,
}

/// Whose key is this, which is in lower case?
pub(super) fn place(key: &str) -> Option<Place> {
    let below = key.strip_prefix(r"hkey_local_machine\").or_else(|| key.strip_prefix(r"hklm\"))?;
    let below = control_set(below);
    let citrix =
        |key: &str| key == r"software\wow6432node\citrix\vip" || key == r"software\citrix\vip";
    let policy = r"software\policies\microsoft\windows nt\terminal services\tsappsrv\virtualip";
    let server = r"control\terminal server\tsappsrv\virtualip";
    let of = |key: &str| {
        [
            (citrix(key), Place::Citrix),
            (key == policy, Place::Policy),
            (key == server, Place::Server),
        ]
        .into_iter()
        .find_map(|(is, place)| is.then_some(place))
    };
    let parents = below.match_indices('\\').filter_map(|(at, _)| below.get(..at));
    of(below).or_else(|| parents.filter_map(of).next().map(|_| Place::Below))
}

/// Without the control set: exports of a whole hive have `ControlSet001` where
/// others have the current one.
fn control_set(key: &str) -> &str {
    let is_set = |set: &str| {
        let number = set.strip_prefix("controlset").unwrap_or_default();
        set == "currentcontrolset"
            || number.len() == 3 && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    let own = key.strip_prefix(r"system\").and_then(|own| own.split_once('\\'));
    own.filter(|(set, _)| is_set(set)).map_or(key, |(_, below)| below)
}

/// What is there of ours.
#[derive(Debug)]
pub(super) struct Found<'e> {
    values: Vec<(Place, &'e str, &'e Entry)>,
}

impl<'e> Found<'e> {
    /// `None`: nothing.
    pub(super) fn among(export: &'e Export) -> Option<Self> {
        let mut values = Vec::new();
        for (folded, key, entries) in export.keys() {
            let place = place(folded)?;
            values.extend(entries.map(|entry| (place, key, entry)));
        }
        (!values.is_empty()).then_some(Self { values })
    }

    /// Is there anything of that place?
    pub(super) fn has(&self, place: Place) -> bool {
        self.values.iter().any(|(of, ..)| *of == place)
    }

    /// Microsoft's value of that name: the policy's, else the server's.
    pub(super) fn microsoft(&self, name: &str) -> Option<&'e Value> {
        let of = |place| self.of(place, name).next();
        of(Place::Policy).or_else(|| of(Place::Server))
    }

    /// Citrix's values of that name: a server may have both keys.
    pub(super) fn citrix(&self, name: &str) -> impl Iterator<Item = &'e Value> {
        self.of(Place::Citrix, name)
    }

    fn of(&self, place: Place, name: &str) -> impl Iterator<Item = &'e Value> {
        self.values
            .iter()
            .filter(move |(of, _, entry)| *of == place && entry.name.eq_ignore_ascii_case(name))
            .map(|(_, _, entry)| &entry.value)
    }

    /// All of it: the place, the key as it was written, and the value.
    pub(super) fn all(&self) -> impl Iterator<Item = (Place, &'e str, &'e Entry)> {
        self.values.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart() {
        for (name, expected) in
            PLACES.iter().zip([Place::Citrix, Place::Citrix, Place::Server, Place::Policy])
        {
            let key = name.to_lowercase();
            assert_eq!(place(&key), Some(expected), "{name}");
            let long = key.replacen("hklm", "hkey_local_machine", 1);
            assert_eq!(place(&long), Some(expected), "{name}");
            assert_eq!(place(&format!("{key}\\sub\\key")), Some(Place::Below), "{name}");
            assert_eq!(place(&format!("{key}x")), None, "{name}");
            assert_eq!(place(&key.replacen("hklm", "hkey_users", 1)), None, "{name}");
        }
    }

    #[test]
    fn a_numbered_control_set_is_one() {
        let key = |set| format!(r"hklm\system\{set}\control\terminal server\tsappsrv\virtualip");
        assert_eq!(place(&key("controlset001")), Some(Place::Server));
        for other in ["controlset1", "controlset00a", "set", "controlset0001"] {
            assert_eq!(place(&key(other)), None, "{other}");
        }
    }
}
