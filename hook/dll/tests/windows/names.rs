//! What do the host's own name, its addresses and its adapters say in a program that
//! knows nothing of sessions?

use crate::world::{Program, World, content, mapped, pattern, this_file};
use hook::decide::{Flags, Session};
use hook::section::{Content, Pattern};
use std::net::IpAddr;

/// The session's addresses. Nobody has to have them: nothing is bound to them here.
const V: &str = "10.77.0.103";
const V6: &str = "fd77::103";

fn ask(program: &mut Program, question: &str) -> String {
    program.does(&format!("ask {question}"))
}

/// What the host says of itself.
struct Host {
    /// Its full name.
    name: String,
    /// Its addresses, which shall be those of the pool's NIC: those of its cards, or of
    /// loopback where it has no card.
    own: Vec<IpAddr>,
    /// Those that are not.
    rest: Vec<IpAddr>,
}

impl Host {
    fn new(plain: &mut Program) -> Self {
        let all: Vec<IpAddr> =
            ask(plain, "unicast 0").split(' ').map(|word| word.parse().unwrap()).collect();
        let is_cards = |address: &IpAddr| match address {
            IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
            IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
        };
        let has_card = |ipv4| all.iter().any(|it| it.is_ipv4() == ipv4 && is_cards(it));
        let (four, six) = (has_card(true), has_card(false));
        let (own, rest) = all.iter().partition(|address| match address {
            IpAddr::V4(_) => is_cards(address) || !four,
            IpAddr::V6(_) => is_cards(address) || !six,
        });
        Self { name: ask(plain, "called"), own, rest }
    }

    /// What is published: the session has V and V6, another one `others`.
    fn content(&self, others: &[IpAddr]) -> Content {
        let base = content();
        let id = base.sessions[0].id;
        let session = Session { ipv4: V.parse().ok(), ipv6: V6.parse().ok(), ..base.sessions[0] };
        let other = |(number, address): (usize, &IpAddr)| Session {
            id: id + 1 + number as u32,
            ipv4: if let IpAddr::V4(address) = address { Some(*address) } else { None },
            ipv6: if let IpAddr::V6(address) = address { Some(*address) } else { None },
            ..Session::default()
        };
        let host = self.own.iter().chain(&self.rest).filter(|it| !others.contains(it));
        Content {
            flags: Flags { connect: true, ..base.flags },
            sessions: [session].into_iter().chain(others.iter().enumerate().map(other)).collect(),
            host: host
                .map(|address| (mapped(&address.to_string()), self.own.contains(address)))
                .collect(),
            pool: vec![mapped("10.77.0.101")..=mapped("10.77.0.199")],
            ..base
        }
    }

    /// Has it an address of that very family?
    fn has(&self, family: &str) -> bool {
        let is_it = |address: &IpAddr| family == if address.is_ipv4() { "4" } else { "6" };
        self.own.iter().chain(&self.rest).any(is_it)
    }

    /// What becomes of a list: the first address of each family that is on the pool's
    /// NIC becomes the session's, and there is no other such, nor one of `gone`.
    fn edited(&self, list: &str, gone: &[IpAddr]) -> String {
        let mut given = Vec::new();
        let words = list.split(' ').filter_map(|word| {
            let Ok(address) = word.parse::<IpAddr>() else { return Some(word) };
            let own = if address.is_ipv4() { V } else { V6 };
            if gone.contains(&address) || self.own.contains(&address) && given.contains(&own) {
                None
            } else if self.own.contains(&address) {
                given.push(own);
                Some(own)
            } else {
                Some(word)
            }
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// The same of each part.
    fn all_edited(&self, lists: &str, between: &str, gone: &[IpAddr]) -> String {
        let lists = lists.split(between).map(|list| self.edited(list, gone));
        lists.collect::<Vec<_>>().join(between).trim_end().to_owned()
    }
}

/// Is there an address in it, and not an error?
fn says_one(answer: &str) -> bool {
    answer.split(' ').any(|word| word.parse::<IpAddr>().is_ok())
}

/// A host, a program on it that is hooked under `scope = "connect"`, and one that is not.
fn world() -> (World, Host, Program, Program) {
    let mut world = World::new();
    let mut plain = world.unhooked(&this_file());
    let host = Host::new(&mut plain);
    world.publish(&host.content(&[]));
    let program = world.hooked();
    (world, host, program, plain)
}

#[test]
fn the_hosts_name_stands_for_the_sessions_addresses() {
    let (_world, host, mut program, mut plain) = world();
    let alone = host.name.split('.').next().unwrap().to_owned();
    let shout = host.name.to_ascii_uppercase();
    for name in [host.name.as_str(), &alone, &shout, "-"] {
        for how in ["a", "edge", "w", "x"] {
            let answer = ask(&mut program, &format!("name {how} 4 {name}"));
            assert_eq!(answer, V, "{how} {name}");
            let both = ask(&mut plain, &format!("name {how} 0 {name}"));
            let expected: Vec<_> = [(V6, both.contains(':')), (V, both.contains('.'))]
                .into_iter()
                .filter_map(|(own, is_there)| is_there.then_some(own))
                .collect();
            let answer = ask(&mut program, &format!("name {how} 0 {name}"));
            let mut said: Vec<_> = answer.split(' ').collect();
            said.sort_by_key(|word| !word.contains(':'));
            assert_eq!(said, expected, "{how} {name}, of {both}");
        }
        let answer = ask(&mut program, &format!("host {name}"));
        assert_eq!(answer.split_once(' ').unwrap().1, V, "gethostbyname {name}");
    }
    let (kinds, was) =
        (format!("canonical {}", host.name), ask(&mut plain, &format!("canonical {}", host.name)));
    let said = ask(&mut program, &kinds);
    assert_eq!(said.split(' ').next(), was.split(' ').next(), "what it is called in full");
    let mut addresses: Vec<_> = said.split(' ').skip(1).collect();
    assert!(addresses.iter().all(|it| it.starts_with(V) || it.starts_with(V6)), "{said}");
    let count = addresses.len();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), count, "each once for each kind of socket: {said}");
}

#[test]
fn an_answer_that_would_come_later_comes_at_once() {
    let (_world, host, mut program, mut plain) = world();
    for how in ["later", "routine"] {
        let question = format!("name {how} 4 {}", host.name);
        assert!(ask(&mut plain, &question).starts_with("later "));
        assert_eq!(ask(&mut program, &question), format!("at once {V}"));
        let others = format!("name {how} 4 localhost");
        let answer = ask(&mut program, &others);
        assert_eq!(answer, ask(&mut plain, &others), "other names come later");
    }
}

#[test]
fn other_names_are_the_systems_own() {
    let (mut world, host, mut program, mut plain) = world();
    let number = host.own.iter().find(|address| address.is_ipv4()).unwrap();
    // 127.0.0.1 is another session's address here.
    world.publish(&host.content(&host.rest));
    for name in ["localhost", &number.to_string(), "127.0.0.1"] {
        for question in [
            format!("name a 4 {name}"),
            format!("name w 0 {name}"),
            format!("name x 6 {name}"),
            format!("host {name}"),
        ] {
            assert_eq!(ask(&mut program, &question), ask(&mut plain, &question), "{question}");
        }
    }
    let question = "name a 6 127.0.0.1";
    let error = ask(&mut program, question);
    assert!(error.starts_with("error ") && error == ask(&mut plain, question), "{error}");
    for address in ["127.0.0.1", "::1", &number.to_string()] {
        for question in [
            format!("name-of a {address} 0 1025"),
            format!("name-of w {address} 4 1025"),
            format!("host-of {address}"),
        ] {
            assert_eq!(ask(&mut program, &question), ask(&mut plain, &question), "{question}");
        }
    }
}

#[test]
fn the_sessions_address_has_the_hosts_name() {
    let (_world, host, mut program, mut plain) = world();
    let alone = host.name.split('.').next().unwrap();
    for address in [V, V6] {
        assert_eq!(
            ask(&mut program, &format!("host-of {address}")),
            format!("{} {address}", host.name)
        );
        for how in ["a", "w"] {
            let said = |program: &mut Program, flags, room: usize| {
                ask(program, &format!("name-of {how} {address} {flags} {room}"))
            };
            let service = ask(&mut plain, &format!("name-of {how} {address} 2 1025"));
            let service = service.split_once(' ').unwrap().1;
            for (flags, name) in [(0, host.name.as_str()), (1, alone), (4, &host.name)] {
                assert_eq!(said(&mut program, flags, 1025), format!("{name} {service}"), "{flags}");
            }
            let exact = host.name.len().max(address.len()) + 1;
            assert_eq!(said(&mut program, 0, exact), format!("{} {service}", host.name));
            // As a number, and with too little room, it is for the system.
            assert_eq!(said(&mut program, 2, 1025), format!("{address} {service}"));
            for room in [0, 1, host.name.len().min(address.len())] {
                assert_eq!(said(&mut program, 0, room), said(&mut plain, 0, room), "{room}");
            }
        }
    }
}

#[test]
fn the_hosts_addresses_are_the_sessions() {
    let (mut world, host, mut program, mut plain) = world();
    for (what, gone) in [("as it is", vec![]), ("with others'", host.rest.clone())] {
        world.publish(&host.content(&gone));
        for family in ["0", "4", "6"] {
            let question = format!("adapters {family}");
            let before = ask(&mut plain, &question);
            let expected = host.all_edited(&before, "; ", &gone);
            assert_eq!(ask(&mut program, &question), expected, "{what}: {question} of {before}");
            let question = format!("unicast {family}");
            let before = ask(&mut plain, &question);
            let expected = host.edited(&before, &gone);
            assert_eq!(ask(&mut program, &question), expected, "{what}: {question} of {before}");
            let question = format!("addresses {family}");
            let before = ask(&mut plain, &question);
            assert!(!host.has(family) || says_one(&before), "{question}: {before}");
            let expected = host.edited(&before, &gone);
            assert_eq!(ask(&mut program, &question), expected, "{what}: {question} of {before}");
        }
        let before = ask(&mut plain, "infos");
        let expected = host.all_edited(&before, "; ", &gone);
        assert_eq!(ask(&mut program, "infos"), expected, "{what}: of {before}");
        for question in ["ip-table as-it-is", "interfaces"] {
            let before = ask(&mut plain, question);
            assert!(says_one(&before), "{question}: {before}");
            let expected = host.edited(&before, &gone);
            assert_eq!(ask(&mut program, question), expected, "{what}: {question} of {before}");
        }
        let question = "ip-table sorted";
        let before = host.edited(&ask(&mut plain, question), &gone);
        let mut expected: Vec<std::net::Ipv4Addr> =
            before.split(' ').map(|word| word.parse().unwrap()).collect();
        expected.sort();
        let expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
        assert_eq!(ask(&mut program, question), expected.join(" "), "{what}");
    }
}

#[test]
fn where_packets_would_leave_is_the_sessions_address() {
    let (_world, host, mut program, mut plain) = world();
    let to = host.own.iter().find(|address| address.is_ipv4()).unwrap();
    let question = format!("leaves {to}");
    let before = ask(&mut plain, &question);
    assert!(says_one(&before), "{before}");
    assert_eq!(ask(&mut program, &question), host.edited(&before, &[]), "of {before}");
}

/// More than one session's address may stand for the name, and more than one card's.
#[test]
fn what_is_hidden_is_freed_with_the_rest() {
    let (mut world, host, mut program, mut plain) = world();
    let question = format!("name a 0 {}", host.name);
    let all = ask(&mut plain, &question);
    assert!(all.contains(' '), "there is something to hide: {all}");
    let on = host.content(&[]);
    let times = 400;
    let question = format!("often {} {times}", host.name);
    let held = |program: &mut Program| ask(program, &question).parse::<usize>().unwrap();
    // What the heap itself sets aside is there once, however often.
    let kept = held(&mut plain);
    // Of which families the name has addresses is the host's to say.
    let both: Vec<_> = [(V, all.contains('.')), (V6, all.contains(':'))]
        .into_iter()
        .filter_map(|(own, is_there)| is_there.then_some(own))
        .collect();
    for (session, answer) in
        [(Session { ipv6: None, ..on.sessions[0] }, vec![V]), (on.sessions[0], both)]
    {
        world.publish(&Content { sessions: vec![session], ..on.clone() });
        for how in ["a", "w", "x"] {
            let said = ask(&mut program, &format!("name {how} 0 {}", host.name));
            let mut said: Vec<_> = said.split(' ').collect();
            said.sort_unstable();
            assert_eq!(said, answer, "{how}, of {all}");
        }
        let bytes = held(&mut program);
        assert!(bytes < kept + 64 * times, "less than a node each time: {bytes}, not {kept}");
    }
}

/// The name stands for others' addresses alone: for nothing then.
#[test]
fn another_sessions_address_is_no_answer() {
    let (mut world, host, mut program, mut plain) = world();
    let number = ask(&mut plain, &format!("name a 4 {}", host.name));
    let numbers: Vec<IpAddr> = number.split(' ').map(|word| word.parse().unwrap()).collect();
    let entry = ask(&mut plain, &format!("host {}", host.name));
    let more = entry.split(' ').skip(1).map(|word| word.parse().unwrap());
    let others: Vec<IpAddr> = numbers.into_iter().chain(more).collect();
    let mut content = host.content(&others);
    content.sessions[0].ipv4 = None;
    world.publish(&content);
    for how in ["a", "w", "x"] {
        let answer = ask(&mut program, &format!("name {how} 4 {}", host.name));
        assert_eq!(answer, "error 11004 11004 0x0", "{how}: WSANO_DATA, and no list");
    }
    assert_eq!(ask(&mut program, &format!("host {}", host.name)), "error 11004");
    assert!(ask(&mut program, "often localhost 20").parse::<usize>().is_ok(), "it lives");
}

#[test]
fn who_is_not_virtualised_gets_the_hosts_answers() {
    let (mut world, host, mut program, mut plain) = world();
    let file = std::env::current_exe().unwrap();
    let file = file.file_name().unwrap().to_str().unwrap().to_owned();
    let on = host.content(&[]);
    let questions = [
        format!("name a 0 {}", host.name),
        format!("name w 0 {}", host.name),
        format!("name later 4 {}", host.name),
        format!("host {}", host.name),
        format!("name-of a {V} 0 1025"),
        "adapters 0".to_owned(),
        "infos".to_owned(),
        "unicast 0".to_owned(),
        "ip-table as-it-is".to_owned(),
        "interfaces".to_owned(),
    ];
    let excepted = vec![Pattern { excepted: true, ..pattern(&file, 6) }];
    let unleased = Session { ipv4: None, ipv6: None, ..on.sessions[0] };
    for (what, content) in [
        ("an exception", Content { programs: excepted, ..on.clone() }),
        ("unlisted", Content { all_listed: false, ..on.clone() }),
        ("without a session", Content { sessions: vec![], ..on.clone() }),
        ("without a lease", Content { sessions: vec![unleased], ..on.clone() }),
        ("by default", Content { flags: Flags { connect: false, ..on.flags }, ..on.clone() }),
        ("stopped", Content::default()),
    ] {
        world.publish(&content);
        for question in &questions {
            assert_eq!(
                ask(&mut program, question),
                ask(&mut plain, question),
                "{what}: {question}"
            );
        }
    }
    world.publish(&on);
    assert_eq!(ask(&mut program, &format!("name a 4 {}", host.name)), V, "and on again");
}

#[test]
fn by_default_nothing_more_is_detoured() {
    let mut world = World::new();
    let mut plain = world.unhooked(&this_file());
    let host = Host::new(&mut plain);
    let mut default = world.hooked();
    world.publish(&host.content(&[]));
    let mut connect = world.hooked();
    for program in [&mut default, &mut connect] {
        assert_eq!(ask(program, "load iphlpapi.dll"), "true");
    }
    for (module, functions) in [
        (
            "ws2_32.dll",
            [
                "getaddrinfo",
                "GetAddrInfoW",
                "GetAddrInfoExW",
                "freeaddrinfo",
                "FreeAddrInfoW",
                "FreeAddrInfoExW",
                "gethostbyname",
                "gethostbyaddr",
                "getnameinfo",
                "GetNameInfoW",
                "WSAIoctl",
            ]
            .as_slice(),
        ),
        (
            "iphlpapi.dll",
            &[
                "GetAdaptersAddresses",
                "GetAdaptersInfo",
                "GetIpAddrTable",
                "GetUnicastIpAddressTable",
            ],
        ),
    ] {
        for function in functions {
            let question = format!("code {module} {function}");
            let original = ask(&mut plain, &question);
            assert_eq!(ask(&mut default, &question), original, "{function}, by default");
            assert_ne!(ask(&mut connect, &question), original, "{function}, with connect");
        }
    }
    assert_eq!(
        ask(&mut default, &format!("name a 4 {}", host.name)),
        ask(&mut plain, &format!("name a 4 {}", host.name))
    );
}

#[test]
fn iphlpapi_may_come_before_the_hook_or_after_it() {
    let mut world = World::new();
    let mut plain = world.unhooked(&this_file());
    let host = Host::new(&mut plain);
    world.publish(&host.content(&[]));
    let expected = host.all_edited(&ask(&mut plain, "infos"), "; ", &[]);
    for is_early in [true, false] {
        let mut program = world.unhooked(&this_file());
        if is_early {
            assert_eq!(ask(&mut program, "load iphlpapi.dll"), "true");
        }
        program.inject().unwrap();
        assert_eq!(ask(&mut program, "infos"), expected, "early: {is_early}");
    }
}
