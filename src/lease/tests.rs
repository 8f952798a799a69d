//! What leases promise, against any order of logons and logoffs.

use super::*;
use proptest::prelude::*;
use std::net::Ipv4Addr;
use std::time::Duration;

fn pool(ranges: &[(&str, &str)]) -> Pool {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    Pool {
        ranges: ranges.iter().map(|(first, last)| address(first)..=address(last)).collect(),
        adapter: None,
        per_user: 8,
        sticky: true,
        quarantine: Duration::from_secs(240),
    }
}

fn small() -> Pool {
    pool(&[("10.77.0.101", "10.77.0.102"), ("10.77.0.200", "10.77.0.200")])
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_795_302_669 + seconds).unwrap()
}

fn given(leases: &mut Leases, seconds: i64, session: u32, user: &str) -> Result<u8, Refused> {
    given_of(Family::Ipv4, leases, seconds, session, user)
}

fn given_of(
    family: Family,
    leases: &mut Leases,
    seconds: i64,
    session: u32,
    user: &str,
) -> Result<u8, Refused> {
    let lease = leases.grant(at(seconds), SessionId(session), user, family)?;
    assert_eq!(Family::of(lease.address), family);
    match lease.address {
        IpAddr::V4(address) => Ok(address.octets()[3]),
        IpAddr::V6(address) => Ok(address.octets()[15]),
    }
}

#[test]
fn the_refusal_is_the_promised_sentence() {
    assert_eq!(
        Refused::Exhausted.to_string(),
        "No virtual IP address is available for this session, please contact your administrator."
    );
}

#[test]
fn ranges_are_used_in_order_until_they_are_empty() {
    let mut leases = Leases::new(&small(), []);
    assert_eq!(given(&mut leases, 0, 1, "ana"), Ok(101));
    assert_eq!(given(&mut leases, 0, 2, "ana"), Ok(102));
    assert_eq!(given(&mut leases, 0, 3, "bo"), Ok(200));
    assert_eq!(given(&mut leases, 0, 4, "cy"), Err(Refused::Exhausted));
    assert_eq!(given(&mut leases, 9, 2, "ana"), Ok(102));
    assert_eq!(leases.holder_of("10.77.0.200".parse().unwrap()), Some(SessionId(3)));
    assert_eq!(leases.usage(at(0)), Usage { used: 3, free: 0, resting: 0 });
}

#[test]
fn what_is_given_next_is_known_before() {
    let mut leases = Leases::new(&small(), []);
    let upcoming = |leases: &Leases, seconds| -> Vec<String> {
        leases.upcoming(at(seconds), 2).iter().map(ToString::to_string).collect()
    };
    assert_eq!(upcoming(&leases, 0), ["10.77.0.101", "10.77.0.102"]);
    leases.avoid("10.77.0.101".parse().unwrap(), "another machine answers for it");
    assert_eq!(upcoming(&leases, 0), ["10.77.0.102", "10.77.0.200"]);
    assert_eq!(given(&mut leases, 0, 1, "ana"), Ok(102));
    leases.give_back(at(0), SessionId(1));
    assert_eq!(upcoming(&leases, 1), ["10.77.0.200"], "102 rests");
    assert_eq!(upcoming(&leases, 241), ["10.77.0.200", "10.77.0.102"]);
}

fn of_both() -> Pool {
    pool(&[("10.77.0.101", "10.77.0.103"), ("fd77::1", "fd77::2")])
}

#[test]
fn a_session_has_an_address_of_each_family_and_each_is_empty_for_itself() {
    let (four, six) = (Family::Ipv4, Family::Ipv6);
    let mut leases = Leases::new(&of_both(), []);
    assert_eq!(given_of(six, &mut leases, 0, 1, "ana"), Ok(1));
    assert_eq!(given_of(four, &mut leases, 0, 1, "ana"), Ok(101));
    assert_eq!(given_of(four, &mut leases, 0, 2, "bo"), Ok(102));
    assert_eq!(given_of(six, &mut leases, 0, 2, "bo"), Ok(2));
    assert_eq!(given_of(six, &mut leases, 0, 3, "cy"), Err(Refused::Exhausted));
    assert_eq!(given_of(four, &mut leases, 0, 3, "cy"), Ok(103));
    assert_eq!(given_of(six, &mut leases, 0, 1, "ana"), Ok(1), "the same again");
    // The scarcer one is told of.
    assert_eq!(leases.usage(at(0)), Usage { used: 3, free: 0, resting: 0 });
    let gone = leases.give_back(at(10), SessionId(2));
    assert_eq!(gone.len(), 2);
    assert_eq!(leases.holder_of("fd77::2".parse().unwrap()), None);
    assert_eq!(given_of(six, &mut leases, 11, 3, "cy"), Err(Refused::Exhausted), "it rests");
    assert_eq!(given_of(six, &mut leases, 11, 4, "bo"), Ok(2));
    assert_eq!(given_of(four, &mut leases, 11, 4, "bo"), Ok(102));
    assert_eq!(leases.give_back_one(at(12), SessionId(4), six).map(|it| it.session.0), Some(4));
    assert_eq!(given_of(four, &mut leases, 12, 4, "bo"), Ok(102), "the other one stays");
}

#[test]
fn a_pool_of_one_family_has_nothing_of_the_other() {
    let mut leases = Leases::new(&pool(&[("fd77::1", "fd77::9")]), []);
    assert_eq!(given(&mut leases, 0, 1, "ana"), Err(Refused::Exhausted));
    assert_eq!(given_of(Family::Ipv6, &mut leases, 0, 1, "ana"), Ok(1));
    assert_eq!(leases.usage(at(0)), Usage { used: 1, free: 8, resting: 0 });
}

#[test]
fn each_family_has_its_own_next_ones_and_its_own_share() {
    let mut leases = Leases::new(&Pool { per_user: 1, ..of_both() }, []);
    let upcoming = |leases: &Leases| -> Vec<String> {
        leases.upcoming(at(0), 2).iter().map(ToString::to_string).collect()
    };
    assert_eq!(upcoming(&leases), ["10.77.0.101", "10.77.0.102", "fd77::1", "fd77::2"]);
    for family in Family::ALL {
        given_of(family, &mut leases, 0, 1, "ana").unwrap();
        let refused = given_of(family, &mut leases, 0, 2, "ana");
        assert_eq!(refused, Err(Refused::PerUser { limit: 1 }));
    }
    assert_eq!(upcoming(&leases), ["10.77.0.102", "10.77.0.103", "fd77::2"]);
}

#[test]
fn leases_of_both_families_outlive_a_restart() {
    let mut before = Leases::new(&of_both(), []);
    for family in Family::ALL {
        given_of(family, &mut before, 0, 1, "ana").unwrap();
    }
    let text = serde_json::to_string(&before.saved()).unwrap();
    let saved = serde_json::from_str(&text).unwrap();
    let mut after = Leases::restore(at(60), &of_both(), [], saved);
    assert_eq!(after.saved(), before.saved());
    assert_eq!(given_of(Family::Ipv6, &mut after, 60, 1, "ana"), Ok(1));
    assert_eq!(given(&mut after, 60, 1, "ana"), Ok(101));
    // One of both counts as one session, and ends with it.
    assert_eq!(after.give_back_all_but(at(60), &BTreeSet::new()).len(), 2);
}

#[test]
fn one_user_cannot_have_them_all() {
    let mut leases = Leases::new(&Pool { per_user: 1, ..small() }, []);
    assert_eq!(given(&mut leases, 0, 1, "ana"), Ok(101));
    assert_eq!(given(&mut leases, 0, 2, "ana"), Err(Refused::PerUser { limit: 1 }));
    assert_eq!(given(&mut leases, 0, 3, "bo"), Ok(102));
}

#[test]
fn an_address_rests_for_all_but_its_user() {
    let mut leases = Leases::new(&pool(&[("10.77.0.101", "10.77.0.101")]), []);
    assert_eq!(given(&mut leases, 0, 1, "ana"), Ok(101));
    leases.give_back(at(10), SessionId(1));
    assert_eq!(leases.usage(at(10)), Usage { used: 0, free: 0, resting: 1 });
    assert_eq!(given(&mut leases, 249, 2, "bo"), Err(Refused::Exhausted));
    assert_eq!(given(&mut leases, 11, 3, "ana"), Ok(101));
    leases.give_back(at(20), SessionId(3));
    assert_eq!(leases.usage(at(260)), Usage { used: 0, free: 1, resting: 0 });
    assert_eq!(given(&mut leases, 260, 2, "bo"), Ok(101));
}

#[test]
fn a_user_comes_back_to_his_address_and_others_take_the_longest_unused() {
    let mut leases = Leases::new(&small(), []);
    for (session, user) in [(1, "ana"), (2, "bo"), (3, "cy")] {
        given(&mut leases, 0, session, user).unwrap();
    }
    for (seconds, session) in [(30, 1), (10, 2), (20, 3)] {
        leases.give_back(at(seconds), SessionId(session));
    }
    assert_eq!(given(&mut leases, 400, 4, "dee"), Ok(102));
    assert_eq!(given(&mut leases, 400, 5, "ana"), Ok(101));
    assert_eq!(given(&mut leases, 400, 6, "bo"), Ok(200));
}

#[test]
fn without_sticky_a_user_gets_his_address_only_when_nothing_else_is_left() {
    let mut leases = Leases::new(&Pool { sticky: false, ..small() }, []);
    assert_eq!(given(&mut leases, 0, 1, "ana"), Ok(101));
    leases.give_back(at(1), SessionId(1));
    assert_eq!(given(&mut leases, 2, 2, "ana"), Ok(102));
    assert_eq!(given(&mut leases, 2, 3, "ana"), Ok(200));
    assert_eq!(given(&mut leases, 2, 4, "bo"), Err(Refused::Exhausted));
    assert_eq!(given(&mut leases, 2, 5, "ana"), Ok(101));
}

#[test]
fn what_is_reserved_or_answered_for_by_others_is_never_given() {
    let mut leases = Leases::new(&small(), ["10.77.0.101".parse().unwrap()]);
    leases.avoid("10.77.0.102".parse().unwrap(), "02:00:00:00:00:01 answers for it");
    assert_eq!(leases.usage(at(0)), Usage { used: 0, free: 1, resting: 0 });
    assert_eq!(given(&mut leases, 0, 1, "ana"), Ok(200));
    assert_eq!(given(&mut leases, 0, 2, "bo"), Err(Refused::Exhausted));
    assert_eq!(leases.avoided().count(), 1);
    leases.set_pool(&small(), []);
    assert_eq!(given(&mut leases, 0, 2, "bo"), Ok(101));
}

#[test]
fn a_lease_outside_a_new_pool_stays_until_its_session_ends() {
    let mut leases = Leases::new(&small(), []);
    given(&mut leases, 0, 1, "ana").unwrap();
    leases.set_pool(&pool(&[("10.77.0.150", "10.77.0.151")]), []);
    assert_eq!(given(&mut leases, 1, 1, "ana"), Ok(101));
    assert_eq!(leases.usage(at(1)), Usage { used: 1, free: 2, resting: 0 });
    leases.give_back(at(2), SessionId(1));
    assert_eq!(given(&mut leases, 3, 2, "ana"), Ok(150));
    assert_eq!(leases.usage(at(3)), Usage { used: 1, free: 1, resting: 0 });
}

#[test]
fn after_a_restart_the_living_keep_their_addresses_and_the_others_rest() {
    let mut before = Leases::new(&small(), []);
    given(&mut before, 0, 1, "ana").unwrap();
    given(&mut before, 0, 2, "bo").unwrap();
    let mut after = Leases::restore(at(60), &small(), [], before.saved());
    let live = BTreeSet::from([SessionId(2), SessionId(3)]);
    let over = after.give_back_all_but(at(60), &live);
    assert_eq!(over.iter().map(|lease| lease.session.0).collect::<Vec<_>>(), [1]);
    assert_eq!(given(&mut after, 61, 2, "bo"), Ok(102));
    assert_eq!(given(&mut after, 61, 3, "cy"), Ok(200));
    assert_eq!(given(&mut after, 61, 4, "dee"), Err(Refused::Exhausted));
    assert_eq!(given(&mut after, 61, 5, "ana"), Ok(101));
}

#[test]
fn a_number_that_another_user_has_now_inherits_nothing() {
    let mut before = Leases::new(&small(), []);
    given(&mut before, 0, 1, "ana").unwrap();
    let mut after = Leases::restore(at(60), &small(), [], before.saved());
    assert_eq!(given(&mut after, 60, 1, "bo"), Ok(102));
    assert_eq!(given(&mut after, 60, 2, "ana"), Ok(101));
}

#[test]
fn a_clock_that_was_set_back_makes_nothing_rest_for_years() {
    let address = "10.77.0.101".parse().unwrap();
    let past = Returned { address, user: "ana".into(), at: at(1_000_000_000) };
    let saved = Saved { leases: vec![], returned: vec![past] };
    let mut after = Leases::restore(at(0), &pool(&[("10.77.0.101", "10.77.0.101")]), [], saved);
    assert_eq!(given(&mut after, 240, 1, "bo"), Ok(101));
}

#[test]
fn a_large_pool_of_either_family_is_given_in_order() {
    let mut leases = Leases::new(&pool(&[("10.0.0.1", "10.0.255.254")]), []);
    for session in 1..=65_534 {
        let user = session.to_string();
        let address = leases.grant(at(0), SessionId(session), &user, Family::Ipv4).unwrap().address;
        assert_eq!(address, IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + session)));
    }
    assert_eq!(given(&mut leases, 0, 70_000, "last"), Err(Refused::Exhausted));
    let mut leases = Leases::new(&pool(&[("fd77::", "fd77::ffff:ffff:ffff:ffff")]), []);
    assert_eq!(given_of(Family::Ipv6, &mut leases, 0, 1, "ana"), Ok(0));
    assert_eq!(given_of(Family::Ipv6, &mut leases, 0, 2, "ana"), Ok(1));
    assert_eq!(leases.usage(at(0)).free, u64::MAX - 1);
}

#[derive(Clone, Debug)]
enum Step {
    Logon { session: u32, user: u8 },
    Logoff { session: u32 },
    Restart,
    Avoid { last: u8 },
    Reload { last: u8 },
}

fn steps() -> impl Strategy<Value = Vec<(u16, Step)>> {
    let step = prop_oneof![
        6 => (0..12_u32, 0..5_u8).prop_map(|(session, user)| Step::Logon { session, user }),
        5 => (0..12_u32).prop_map(|session| Step::Logoff { session }),
        1 => Just(Step::Restart),
        1 => (101..110_u8).prop_map(|last| Step::Avoid { last }),
        1 => (104..110_u8).prop_map(|last| Step::Reload { last }),
    ];
    prop::collection::vec((0..200_u16, step), 1..120)
}

fn pool_to(last: u8) -> Pool {
    Pool { per_user: 4, ..pool(&[("10.77.0.101", &format!("10.77.0.{last}"))]) }
}

proptest! {
    /// Against a model that only remembers: who holds what, who had it last, and
    /// when he gave it back.
    #[test]
    fn an_address_is_never_given_twice_nor_too_early(steps in steps()) {
        let mut now = 0;
        let mut pool = pool_to(107);
        let mut leases = Leases::new(&pool, []);
        let mut held: BTreeMap<u32, (String, IpAddr)> = BTreeMap::new();
        let mut last: BTreeMap<IpAddr, (String, i64)> = BTreeMap::new();
        let mut avoided = BTreeSet::new();
        for (wait, step) in steps {
            now += i64::from(wait);
            match step {
                Step::Logon { session, user } => {
                    let user = format!("user{user}");
                    if held.get(&session).is_some_and(|(whose, _)| *whose != user) {
                        let (whose, address) = held.remove(&session).unwrap();
                        last.insert(address, (whose, now));
                    }
                    let had = held.get(&session).map(|(_, address)| *address);
                    let got = leases.grant(at(now), SessionId(session), &user, Family::Ipv4);
                    if let Some(had) = had {
                        prop_assert_eq!(got.unwrap().address, had);
                        continue;
                    }
                    let in_pool = |address: &IpAddr| pool.ranges[0].contains(address);
                    let is_free = |address: &IpAddr| {
                        in_pool(address)
                            && !avoided.contains(address)
                            && held.values().all(|(_, taken)| taken != address)
                    };
                    let own = last.iter().filter(|(address, (whose, _))| {
                        *whose == user && is_free(address)
                    });
                    let own: BTreeSet<IpAddr> = own.map(|(address, _)| *address).collect();
                    let rested = |address: &IpAddr| last.get(address).is_none_or(|(whose, back)| {
                        *whose == user || back + 240 <= now
                    });
                    match got {
                        Ok(lease) => {
                            prop_assert!(is_free(&lease.address), "{lease:?} is held or avoided");
                            prop_assert!(rested(&lease.address), "{lease:?} has not rested");
                            prop_assert!(own.is_empty() || own.contains(&lease.address));
                            held.insert(session, (user, lease.address));
                        }
                        Err(Refused::PerUser { limit }) => {
                            let held = held.values().filter(|(whose, _)| *whose == user).count();
                            prop_assert_eq!(held, limit);
                        }
                        Err(Refused::Exhausted) => {
                            let could = addresses(pool.ranges[0].clone())
                                .find(|address| is_free(address) && rested(address));
                            prop_assert_eq!(could, None);
                        }
                    }
                }
                Step::Logoff { session } => {
                    let gone = leases.give_back(at(now), SessionId(session));
                    let expected = held.remove(&session);
                    let gone = gone.into_iter().map(|lease| (lease.user, lease.address));
                    prop_assert_eq!(gone.collect::<Vec<_>>(), Vec::from_iter(expected.clone()));
                    if let Some((user, address)) = expected {
                        last.insert(address, (user, now));
                    }
                }
                Step::Restart => {
                    let text = serde_json::to_string(&leases.saved()).unwrap();
                    let saved: Saved = serde_json::from_str(&text).unwrap();
                    avoided.clear();
                    let restored = Leases::restore(at(now), &pool, [], saved);
                    prop_assert_eq!(restored.saved(), leases.saved());
                    leases = restored;
                }
                Step::Avoid { last } => {
                    let address = IpAddr::V4(Ipv4Addr::new(10, 77, 0, last));
                    leases.avoid(address, "somebody else answers for it");
                    avoided.insert(address);
                }
                Step::Reload { last: end } => {
                    pool = pool_to(end);
                    leases.set_pool(&pool, []);
                    avoided.clear();
                    last.retain(|address, _| pool.ranges[0].contains(address));
                }
            }
            last.retain(|address, _| pool.ranges[0].contains(address));
            let usage = leases.usage(at(now));
            prop_assert_eq!(usage.used as usize, held.len());
            let resting = last.iter().filter(|(address, (_, back))| {
                back + 240 > now
                    && !avoided.contains(*address)
                    && held.values().all(|(_, taken)| taken != *address)
            });
            prop_assert_eq!(usage.resting as usize, resting.count());
            let free = addresses(pool.ranges[0].clone()).filter(|address| {
                !avoided.contains(address)
                    && held.values().all(|(_, taken)| taken != address)
                    && last.get(address).is_none_or(|(_, back)| back + 240 <= now)
            });
            prop_assert_eq!(usage.free as usize, free.count());
        }
    }
}

#[test]
fn only_so_much_is_remembered_but_everything_that_rests() {
    let remembered = |last_return| {
        let mut leases = Leases::new(&pool(&[("10.0.0.1", "10.0.255.254")]), []);
        for session in 0..5000 {
            leases.grant(at(0), SessionId(session), &session.to_string(), Family::Ipv4).unwrap();
        }
        for session in 0..5000 {
            let back = if session < 2000 { 0 } else { last_return };
            leases.give_back(at(back), SessionId(session));
        }
        leases.saved().returned.len()
    };
    assert_eq!(remembered(239), 5000);
    assert_eq!(remembered(240), 4096);
}
