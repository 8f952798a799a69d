use super::layout::{half, head};
use super::*;
use crate::decide::{Asked, Caller, Decision, Exclusion, Flags, Session, TCP, Tables as _, decide};
use std::net::Ipv6Addr;
use std::sync::atomic::AtomicBool;

fn block() -> Vec<AtomicU32> {
    (0..BYTES / 4).map(|_| AtomicU32::new(0)).collect()
}

fn utf16(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

fn mapped(text: &str) -> Ipv6Addr {
    match text.parse().unwrap() {
        std::net::IpAddr::V4(address) => address.to_ipv6_mapped(),
        std::net::IpAddr::V6(address) => address,
    }
}

fn pattern(text: &str, id: u32, listed: bool, excepted: bool) -> Pattern {
    let (text, is_path) = (utf16(text), text.contains('\\'));
    Pattern { text, is_path, id, listed, excepted, on_loopback: listed, preferred: excepted }
}

fn leading(to: &str, length: u8, over: bool) -> Leading {
    Leading { to: mapped(to), length, over }
}

fn session(id: u32) -> Session {
    Session {
        id,
        ipv4: Some(std::net::Ipv4Addr::from_bits(0x0a4d_0000 + id)),
        ipv6: id.is_multiple_of(2).then(|| Ipv6Addr::from_bits((0xfd77 << 112) + u128::from(id))),
        private_ipv6: Some(Ipv6Addr::from_bits((0xfd73_6970 << 96) + u128::from(id))),
        loopback: Some(std::net::Ipv4Addr::from_bits(0x7f00_0001 + id)),
    }
}

fn content() -> Content {
    Content {
        flags: Flags { enabled: true, sources: true, ..Flags::default() },
        lists: 0x0123_4567_89ab_cdef,
        sessions: (1..=1500).rev().map(session).collect(),
        host: vec![(mapped("10.77.0.1"), true), (mapped("10.88.0.1"), false)],
        pool: vec![
            mapped("10.77.0.0")..=mapped("10.77.15.255"),
            mapped("fd77::")..=mapped("fd77::ffff"),
        ],
        programs: vec![
            pattern(r"C:\Program Files\Ärger\crm.exe", 7, true, false),
            pattern("odd.exe", 8, false, false),
            pattern("rdpclip.exe", 9, true, true),
        ],
        excluded: vec![
            Exclusion { program: 0, port: 5353, protocol: 17 },
            Exclusion { program: 8, port: 68, protocol: 17 },
        ],
        routes: vec![
            leading("0.0.0.0", 96, true),
            leading("10.88.0.0", 96 + 16, false),
            leading("10.88.7.1", 128, true),
            leading("2001:db8::", 32, true),
        ],
        ..Content::default()
    }
}

#[test]
fn what_is_published_is_read() {
    let block = block();
    assert!(View::new(&block).is_none(), "nobody has written it yet");
    let mut writer = Writer::new(&block, 7).unwrap();
    let view = View::new(&block).unwrap();
    assert_eq!(view.look(|_| ()), None, "nothing is published yet");
    let content = content();
    for _ in 0..5 {
        writer.publish(&content).unwrap();
        let read = view.look(|tables| {
            for wanted in &content.sessions {
                assert_eq!(tables.session(wanted.id), Some(*wanted));
            }
            assert_eq!(tables.session(0), None);
            assert_eq!(tables.session(1501), None);
            assert_eq!(tables.flags(), content.flags);
            assert_eq!(tables.lists(), content.lists);
            assert_eq!(tables.holder(mapped("10.77.0.9")), Some(9));
            assert_eq!(tables.holder(mapped("fd73:6970::9")), Some(9));
            assert_eq!(tables.holder(mapped("fd77::9")), None);
            assert!(
                tables.in_pool(mapped("10.77.15.255")) && !tables.in_pool(mapped("10.77.16.0"))
            );
            assert!(tables.in_pool(mapped("fd77::1")) && !tables.in_pool(mapped("fd78::")));
            for (to, over) in [
                ("8.8.8.8", true),
                ("10.88.0.9", false),
                ("10.88.7.1", true),
                ("10.88.7.9", false),
                ("2001:db8::1", true),
                ("2001:db9::1", false),
                ("::", false),
            ] {
                assert_eq!(tables.leads_over_pool_nic(mapped(to)), over, "{to}");
            }
            assert!(tables.on_host(mapped("10.77.0.1")) && tables.on_host(mapped("10.88.0.1")));
            assert!(!tables.on_host(mapped("10.77.0.2")));
            assert!(tables.on_pool_nic(mapped("10.77.0.1")));
            assert!(!tables.on_pool_nic(mapped("10.88.0.1")));
        });
        assert_eq!(read, Some(()));
    }
}

#[test]
fn programs_are_known_whatever_their_case() {
    let block = block();
    Writer::new(&block, 7).unwrap().publish(&content()).unwrap();
    let view = View::new(&block).unwrap();
    let program = |path: &str| view.look(|tables| tables.program(&fold(&utf16(path)))).unwrap();
    let crm = program(r"\\?\c:/program files/äRGER/CRM.EXE");
    assert_eq!((crm.listed, crm.excepted, crm.known_as), (true, false, [7, 0, 0, 0]));
    assert!(!program(r"D:\Program Files\Ärger\crm.exe").listed);
    assert_eq!(program(r"C:\a\ODD.exe").known_as, [0, 8, 0, 0]);
    assert!(!program(r"C:\a\odd.exe").listed, "an exclusion lists nothing");
    let clip = program(r"C:\Windows\System32\rdpclip.exe");
    assert!(clip.listed && clip.excepted);
    assert_eq!(program(r"C:\a\odd.exe.exe"), Default::default());
    assert_eq!(program(""), Default::default());
}

#[test]
fn a_process_is_known_by_all_that_it_runs() {
    let block = block();
    let programs = vec![
        pattern(r"C:\CRM\crm.py", 21, true, false),
        pattern("crm.py", 22, false, false),
        pattern(r"C:\CRM\python.exe", 23, false, false),
        pattern(r"C:\CRM\other.py", 24, false, true),
    ];
    let content = Content { programs, ..content() };
    Writer::new(&block, 7).unwrap().publish(&content).unwrap();
    let view = View::new(&block).unwrap();
    let running = |program: &str, script: Option<&str>| {
        let folded = |path: &str| fold(&utf16(path));
        let runs = Runs { program: folded(program), script: script.map(folded) };
        view.look(|tables| tables.running(&runs)).unwrap()
    };
    let found = running(r"C:\CRM\Python.exe", Some(r"C:\crm\CRM.py"));
    assert!(found.listed && !found.excepted);
    assert_eq!(found.known_as, [23, 0, 21, 22]);
    let other = running(r"D:\python.exe", Some(r"C:\crm\other.py"));
    assert!(!other.listed && other.excepted);
    let none = running(r"D:\python.exe", None);
    assert!(!none.listed && !none.excepted && none.known_as == [0; 4]);
    assert_eq!(running("", None), none);
}

#[test]
fn letters_that_become_two_stay() {
    assert_eq!(fold(&utf16(r"\\?\unc\server/share\crm.exe")), utf16(r"\\SERVER\SHARE\CRM.EXE"));
    assert_eq!(fold(&utf16("straße")), utf16("STRAßE"));
    assert_eq!(fold(&utf16("dırı")), utf16("DıRı"));
    assert_eq!(fold(&[0xd83d, 0xde00, 0xd83d]), [0xd83d, 0xde00, 0xd83d]);
    assert_eq!(file_name(&utf16(r"C:\a\b.exe")), utf16("b.exe"));
    assert_eq!(file_name(&utf16("b.exe")), utf16("b.exe"));
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let block = block();
    let mut writer = Writer::new(&block, 7).unwrap();
    writer.publish(&content()).unwrap();
    let too_many = Content { sessions: (0..2049).map(session).collect(), ..content() };
    let full = writer.publish(&too_many).unwrap_err();
    assert_eq!(full.to_string(), "2049 sessions, and the hook's table has room for 2048");
    let long = pattern(&"x".repeat(300_000), 1, true, false);
    let full = writer.publish(&Content { programs: vec![long], ..content() }).unwrap_err();
    assert_eq!((full.wanted, full.capacity), (150_000, 131_072));
    let view = View::new(&block).unwrap();
    assert_eq!(view.look(|tables| tables.session(3)), Some(Some(session(3))));
}

#[test]
fn another_version_is_not_read() {
    let block = block();
    Writer::new(&block, 7).unwrap().publish(&content()).unwrap();
    assert!(View::new(&block).is_some());
    assert!(View::new(&block[..block.len() - 1]).is_none(), "it is cut short");
    assert!(View::new(&[]).is_none());
    for at in [head::MAGIC, head::VERSION, head::WORDS] {
        let was = block[at].swap(99, Ordering::Relaxed);
        assert!(View::new(&block).is_none(), "word {at}");
        block[at].store(was, Ordering::Relaxed);
    }
}

/// A generator of numbers that nobody can guess from the code (xorshift64*).
fn next(state: &mut u64) -> u32 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
}

#[test]
fn garbage_is_read_without_harm() {
    let block = block();
    let mut state = 0x5e55_1071_u64;
    for round in 0..60 {
        Writer::new(&block, 7).unwrap().publish(&content()).unwrap();
        let half = if block[head::GENERATION].load(Ordering::Relaxed) & 1 == 0 { 0 } else { 1 };
        let from = head::LENGTH + half * half::LENGTH;
        // The counts and the programs are what could lead astray.
        for at in (1..half::HEAD).chain(half::PROGRAMS.from..half::EXCLUDED.from) {
            if round == 0 || next(&mut state).is_multiple_of(3) {
                let value = if round == 0 { u32::MAX } else { next(&mut state) };
                block[from + at].store(value, Ordering::Relaxed);
            }
        }
        let view = View::new(&block).unwrap();
        let decision = view.look(|tables| {
            let session = tables.session(next(&mut state.clone()));
            let program = tables.program(&utf16(r"C:\CRM.EXE"));
            let caller = Caller { session, program, privileged: false };
            let asked =
                Asked { address: mapped("10.9.9.9"), port: 9000, protocol: TCP, v6only: false };
            decide(&asked, &caller, &tables)
        });
        assert!(decision.is_some(), "it ends, and whatever it says is an address of the block");
    }
    for word in &block {
        word.store(next(&mut state), Ordering::Relaxed);
    }
    assert!(View::new(&block).is_none(), "garbage has no head");
}

#[test]
fn no_reader_sees_a_torn_table() {
    let block = block();
    let mut writer = Writer::new(&block, 7).unwrap();
    // All that a generation says comes from one number.
    let of = |number: u32| Content {
        lists: u64::from(number) << 32 | u64::from(number),
        sessions: (1..=200).map(|id| Session { id, ..session(number) }).collect(),
        ..Content::default()
    };
    writer.publish(&of(1)).unwrap();
    let done = AtomicBool::new(false);
    let looks = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let view = View::new(&block).unwrap();
            let (mut looks, mut newest) = (0_u64, 0);
            while !done.load(Ordering::Relaxed) {
                let found = view.look(|tables| {
                    let first = tables.lists() as u32;
                    let all = (1..=200)
                        .all(|id| tables.session(id) == Some(Session { id, ..session(first) }));
                    (first, all && tables.lists() >> 32 == u64::from(first))
                });
                if let Some((number, whole)) = found {
                    assert!(whole, "generation {number} is torn");
                    assert!(number >= newest, "what holds is the newest");
                    newest = number;
                    looks += 1;
                }
            }
            looks
        });
        for number in 2..3000 {
            writer.publish(&of(number)).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(looks > 0, "the reader saw something");
    let view = View::new(&block).unwrap();
    assert_eq!(view.look(|tables| tables.lists() as u32), Some(2999));
}

#[test]
fn a_writer_goes_on_where_another_was_killed() {
    let block = block();
    Writer::new(&block, 7).unwrap().publish(&content()).unwrap();
    let view = View::new(&block).unwrap();
    let mut second = Writer::new(&block, 8).unwrap();
    assert_eq!(view.stamp(), 7, "it is still the same block");
    assert!(view.look(|tables| tables.session(1)).unwrap().is_some(), "it holds on meanwhile");
    second.publish(&Content::default()).unwrap();
    assert_eq!(view.look(|tables| tables.session(1)), Some(None));
    let asked = Asked { address: mapped("0.0.0.0"), port: 9000, protocol: TCP, v6only: false };
    let decision = view.look(|tables| decide(&asked, &Caller::default(), &tables));
    assert_eq!(decision, Some(Decision::Leave), "an empty table moves nothing");
}
