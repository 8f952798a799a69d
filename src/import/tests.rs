//! What becomes of the keys; every result is one that check-config accepts, once
//! its ranges are filled in.

use super::*;
use crate::config::{Mapping, WhenExhausted};
use proptest::prelude::*;

const CITRIX: &str = r"HKEY_LOCAL_MACHINE\SOFTWARE\Wow6432Node\Citrix\VIP";
const CITRIX_32: &str = r"HKEY_LOCAL_MACHINE\SOFTWARE\Citrix\VIP";
const SERVER: &str =
    r"HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet\Control\Terminal Server\TSAppSrv\VirtualIP";
const POLICY: &str = r"HKEY_LOCAL_MACHINE\SOFTWARE\Policies\Microsoft\Windows NT\Terminal Services\TSAppSrv\VirtualIP";

/// An export of keys and the lines below each.
fn export(keys: &[(&str, &str)]) -> Vec<u8> {
    let keys: String = keys.iter().map(|(key, lines)| format!("[{key}]\n{lines}\n")).collect();
    format!("Windows Registry Editor Version 5.00\n\n{keys}").into_bytes()
}

fn multi(texts: &[&str]) -> String {
    let joined: String = texts.iter().map(|text| format!("{text}\0")).collect::<String>() + "\0";
    let bytes = joined.encode_utf16().flat_map(u16::to_le_bytes);
    format!("hex(7):{}", bytes.map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(","))
}

fn file(keys: &[(&str, &str)]) -> [(String, Vec<u8>); 1] {
    [("host.reg".to_owned(), export(keys))]
}

fn ranges() -> [String; 1] {
    ["10.77.0.101-10.77.0.199".to_owned()]
}

fn imported(keys: &[(&str, &str)]) -> Import {
    import(&file(keys), &ranges()).unwrap()
}

fn config(import: &Import) -> Config {
    Config::parse("imported", &import.toml).unwrap_or_else(|it| panic!("{it:?}\n{}", import.toml)).0
}

fn patterns(texts: &[&str]) -> Vec<crate::config::ProgramPattern> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn lost(import: &Import) -> Vec<&str> {
    let lost = |note: &'_ Note| matches!(note, Note::NotCarriedOver(_));
    import
        .notes
        .iter()
        .filter(|note| lost(note))
        .map(|note| match note {
            Note::NotCarriedOver(what) | Note::FillIn(what) | Note::Check(what) => &**what,
        })
        .collect()
}

#[test]
fn per_session_is_every_program() {
    let import = imported(&[(SERVER, "\"EnableVirtualIP\"=dword:1\n\"VirtualMode\"=dword:0")]);
    let virtual_ip = config(&import).virtual_ip;
    assert!(virtual_ip.enabled);
    assert_eq!(virtual_ip.programs, patterns(&["*"]));
    assert_eq!(virtual_ip.when_exhausted, WhenExhausted::HostAddress);
    assert_eq!(import.notes, []);
}

#[test]
fn per_program_is_the_list_each_once_in_any_case() {
    let list = multi(&["crm.exe", r"C:\Program Files\Contoso\dial.exe", "CRM.EXE"]);
    let lines = format!("\"EnableVirtualIP\"=dword:1\n\"PerApp\"={list}");
    // Per program is what counts without a mode.
    for mode in ["", "\n\"VirtualMode\"=dword:1"] {
        let import = imported(&[(SERVER, &format!("{lines}{mode}"))]);
        let expected = patterns(&["crm.exe", r"C:\Program Files\Contoso\dial.exe"]);
        assert_eq!(config(&import).virtual_ip.programs, expected);
        assert_eq!(import.notes, []);
    }
}

#[test]
fn the_policy_wins_value_by_value() {
    let import = imported(&[
        (POLICY, "\"EnableVirtualIP\"=dword:0"),
        (SERVER, "\"EnableVirtualIP\"=dword:1\n\"VirtualMode\"=dword:0"),
    ]);
    let virtual_ip = config(&import).virtual_ip;
    assert!(!virtual_ip.enabled);
    assert_eq!(virtual_ip.programs, patterns(&["*"]));
}

#[test]
fn a_program_that_gets_no_address_stays_off_the_network_as_before() {
    let import = imported(&[(
        POLICY,
        "\"EnableVirtualIP\"=dword:1\n\"VirtualMode\"=dword:0\n\"PromptOnIPLeaseFail\"=dword:1",
    )]);
    assert_eq!(config(&import).virtual_ip.when_exhausted, WhenExhausted::Block);
    assert!(matches!(&*import.notes, [Note::Check(what)] if what.contains("when-exhausted")));
}

#[test]
fn ranges_are_given_or_left_to_be_filled_in() {
    let keys = [(SERVER, "\"EnableVirtualIP\"=dword:1\n\"VirtualMode\"=dword:0")];
    let without = import(&file(&keys), &[]).unwrap();
    assert!(matches!(&*without.notes, [Note::FillIn(what)] if what.starts_with("pool.ranges")));
    let findings = Config::parse("imported", &without.toml).unwrap_err();
    let [finding] = &*findings else { panic!("{findings:?}") };
    assert_eq!(finding.key, "pool.ranges");
    assert!(finding.help.contains("addresses of your own"), "{finding}");

    let wrong = import(&file(&keys), &["10.77.0.9-10.77.0.1".into()]).unwrap_err();
    assert!(wrong.to_string().contains("10.77.0.9 comes after 10.77.0.1"), "{wrong}");
}

#[test]
fn network_cards_are_told_of() {
    let import = imported(&[
        (POLICY, "\"VIPAdapter\"=\"192.0.2.96/24\""),
        (SERVER, "\"AdapterAddress\"=\"52-54-00-00-90-01\""),
    ]);
    assert!(import.toml.contains("192.0.2.96/24") && import.toml.contains("52-54-00-00-90-01"));
    assert!(!config(&import).virtual_ip.enabled, "it was off");
    assert!(import.notes.iter().any(|note| matches!(note, Note::Check(it) if it.contains("card"))));
}

#[test]
fn preferred_loopback_keeps_its_programs_from_both_keys() {
    let lines = |texts| format!("\"PreferLoopbackProcesses\"={}", multi(texts));
    let import = imported(&[
        (CITRIX, &lines(&["a.exe", "b.exe"])),
        (CITRIX_32, &lines(&["B.exe", "c.exe"])),
    ]);
    let programs = config(&import).virtual_ip.programs;
    // The native key comes first; which is whose does not matter.
    assert_eq!(programs, patterns(&["B.exe", "c.exe", "a.exe"]));
    let loopback = config(&import).loopback;
    assert!(loopback.enabled);
    assert_eq!(loopback.programs, programs);
    assert_eq!(loopback.prefer, programs);
    assert_eq!(loopback.mapping, Mapping::SessionPlusOne);
    let fill_in = |key: &str| {
        import.notes.iter().any(|note| matches!(note, Note::FillIn(it) if it.starts_with(key)))
    };
    assert!(fill_in("virtual-ip.programs") && fill_in("loopback.programs"));
}

#[test]
fn preferred_loopback_for_all_is_a_star() {
    let import = imported(&[(CITRIX, "\"PreferLoopback\"=dword:1")]);
    assert_eq!(config(&import).loopback.prefer, patterns(&["*"]));
    let off = imported(&[(CITRIX, "\"PreferLoopback\"=dword:0")]);
    assert!(!off.toml.contains("[loopback]"), "{}", off.toml);
}

#[test]
fn microsofts_loopback_has_its_own_mapping_and_needs_virtual_ip() {
    let lines = "\"VirtualMode\"=dword:0\n\"VirtualizeLoopbackAdresses\"=dword:1\n";
    let import = imported(&[(SERVER, &format!("{lines}\"EnableVirtualIP\"=dword:1"))]);
    let loopback = config(&import).loopback;
    assert!(loopback.enabled && loopback.mapping == Mapping::Microsoft);
    assert_eq!(loopback.programs, patterns(&["*"]));
    let off = imported(&[(SERVER, lines)]);
    assert!(!off.toml.contains("[loopback]"), "{}", off.toml);
}

#[test]
fn what_is_lost_is_named_once() {
    let citrix = format!(
        "\"UseClientIP\"=dword:1\n\"HookProcessesClientIP\"={}\n\"New\"=hex:00\n@=\"x\"",
        multi(&["a.exe"])
    );
    let server = format!(
        "\"EnableVirtualIP\"=\"yes\"\n\"IPPool\"=hex(2):25,00,00,00\n\"MaxCacheIP\"=dword:5\n\
         \"ForceLogoffOnIPLeaseFail\"=dword:1\n\"PerApp\"={}\nrubbish",
        multi(&[r"bin\a.exe", "*.exe", "%ProgramFiles%\\b.exe"]),
    );
    let below = format!(r"{CITRIX}\Sub");
    let import = imported(&[(CITRIX, &citrix), (SERVER, &server), (&below, "\"x\"=dword:1")]);
    config(&import);
    let lost = lost(&import);
    for what in [
        "UseClientIP = 1 of",
        "HookProcessesClientIP = a.exe of",
        "New of",
        "the default value = x of",
        "EnableVirtualIP: it is no number",
        "IPPool = % of",
        "MaxCacheIP = 5 of",
        "ForceLogoffOnIPLeaseFail = 1 of",
        r"the program bin\a.exe of PerApp",
        "the program *.exe of PerApp",
        r"the program %ProgramFiles%\b.exe of PerApp",
        "x = 1 of",
        "line ",
    ] {
        let count = lost.iter().filter(|it| it.starts_with(what)).count();
        assert_eq!(count, 1, "{what}: {lost:#?}");
    }
    assert_eq!(lost.len(), 13, "{lost:#?}");
    for note in &lost {
        let first = note.split(' ').next().unwrap();
        assert!(import.toml.contains(first), "the file does not say: {note}");
    }
}

#[test]
fn a_file_without_our_keys_is_refused_with_the_keys_to_export() {
    let other = import(&file(&[(r"HKEY_LOCAL_MACHINE\SOFTWARE\X", "\"a\"=dword:1")]), &[]);
    let empty = import(&file(&[(SERVER, "")]), &[]);
    for refused in [other, empty] {
        let text = refused.unwrap_err().to_string();
        assert!(text.contains(r"Wow6432Node\Citrix\VIP") && text.contains(r"TSAppSrv\VirtualIP"));
    }
    let other = import(&[("x".into(), b"[pool]".to_vec())], &[]);
    assert!(matches!(other, Err(ImportError::NoExport { file, .. }) if file == "x"));
}

#[test]
fn several_files_are_one_registry_and_the_last_word_counts() {
    let [a] = file(&[(SERVER, "\"EnableVirtualIP\"=dword:0\n\"VirtualMode\"=dword:0")]);
    let [b] =
        file(&[(SERVER, "\"ENABLEVIRTUALIP\"=dword:1"), (CITRIX, "\"PreferLoopback\"=dword:1")]);
    let import = import(&[a, ("other.reg".into(), b.1)], &ranges()).unwrap();
    let virtual_ip = config(&import).virtual_ip;
    assert!(virtual_ip.enabled && virtual_ip.programs == patterns(&["*"]));
    assert!(import.toml.contains("host.reg and other.reg"));
    assert_eq!(config(&import).loopback.prefer, patterns(&["*"]));
}

proptest! {
    /// Whatever stands in the values, the result is a configuration, and no value
    /// breaks out of its comment or its quotes.
    #[test]
    fn the_result_is_always_accepted(
        numbers in proptest::collection::vec(any::<u32>(), 4),
        texts in proptest::collection::vec("[^\0]{1,30}|[a-z]{1,8}\\.exe|C:\\\\[a-z' ]{1,9}", 1..5),
        name in "[^\0]{0,20}",
        card in "\\PC{0,20}",
    ) {
        let escape = |text: &str| text.replace('\\', r"\\").replace('"', "\\\"");
        let list: Vec<_> = texts.iter().map(|text| &**text).collect();
        let lines = format!(
            "\"PerApp\"={list}\n\"PreferLoopbackProcesses\"={list}\n\"EnableVirtualIP\"=dword:{:x}\n\
             \"VirtualMode\"=dword:{:x}\n\"PreferLoopback\"=dword:{:x}\n\
             \"VirtualizeLoopbackAdresses\"=dword:{:x}\n\"AdapterAddress\"=\"{card}\"\n\
             \"VIPAdapter\"=\"{card}\"\n\"{name}\"=\"{card}\"",
            numbers[0], numbers[1] % 2, numbers[2] % 2, numbers[3] % 2,
            list = multi(&list), card = escape(&card), name = escape(&name),
        );
        let files = [(format!("{name}.reg"), export(&[(CITRIX, &lines), (SERVER, &lines)]))];
        let import = import(&files, &ranges()).unwrap();
        let read = Config::parse("imported", &import.toml);
        prop_assert!(read.is_ok(), "{:?}\n{}", read, import.toml);
    }
}
