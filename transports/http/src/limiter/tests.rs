#![allow(clippy::unwrap_used)]

use std::num::NonZeroU32;

use tailwire_model::{Credential, Grants, Identity, MediaType, Rate, Timestamp, client_network};

use super::*;

const CLOCK: Clock = Clock { now: || Timestamp(0), steady: || 0, random: || 0 };

fn per_second(quota: u32) -> Option<Rate> {
    NonZeroU32::new(quota).map(Rate::per_second)
}

fn limiter(limits: Limits) -> Limiter {
    Limiter::new(limits, CLOCK, Refusals::default())
}

fn address(text: &str) -> Counting<'static> {
    Counting { address: Some(client_network(text.parse().unwrap())), principal: None, in_total: true }
}

fn user(name: &str) -> Principal {
    let identity = Identity::Key { id: name.into(), revision: 0 };
    Principal::new(Credential { identity, expiry: None, claims: Vec::new(), grants: Grants::NONE })
}

/// How many of a hundred requests pass.
fn passed(limiter: &Limiter, whom: Counting<'_>) -> usize {
    (0..100).filter(|_| limiter.take(whom, &[(Flow::Requests, 1)]).is_ok()).count()
}

fn policy(problem: &Problem) -> QuotaPolicy {
    problem.members.as_ref().and_then(|members| members.policy).unwrap()
}

fn open(limiter: &Limiter, whom: Counting<'_>) -> Result<Hold, String> {
    limiter.hold(whom, HeldKind::Connections).map_err(|problem| policy(&problem).name())
}

#[test]
fn without_limits_everything_passes_and_nothing_is_remembered() {
    let limiter = limiter(Limits::default());
    assert!(limiter.0.is_none());
    assert_eq!(passed(&limiter, address("10.0.0.1")), 100);
    assert!(!open(&limiter, address("10.0.0.1")).unwrap().is_counted());
}

#[test]
fn each_address_has_its_own_and_a_network_of_ipv6_counts_as_one() {
    // A window so long that the test is over before any of it is there again.
    let requests = NonZeroU32::new(7).map(Rate::per_minute);
    let limiter = limiter(Limits {
        address: ClientBounds { requests, ..ClientBounds::default() },
        ..Limits::default()
    });
    for text in ["10.0.0.1", "10.0.0.2", "2001:db8:0:1::1", "2001:db8:0:2::1", "::1"] {
        assert_eq!(passed(&limiter, address(text)), 7, "{text}");
    }
    assert_eq!(passed(&limiter, address("2001:db8:0:1:ffff::9")), 0);
    assert_eq!(passed(&limiter, address("::ffff:10.0.0.1")), 0, "the same address");
    assert_eq!(passed(&limiter, Counting { address: None, ..address("10.0.0.1") }), 100, "a Unix socket");
}

#[test]
fn a_refused_client_uses_up_nothing_of_what_others_share() {
    let requests = |quota| ClientBounds {
        requests: NonZeroU32::new(quota).map(Rate::per_minute),
        ..ClientBounds::default()
    };
    let limits = Limits { address: requests(20), principal: requests(7), total: requests(10) };
    let limiter = limiter(limits);
    let (alice, bob) = (user("alice"), user("bob"));
    let of = |principal| Counting { principal: Some(principal), ..address("10.0.0.1") };
    // Both come from one address. What alice is refused leaves all of bob's.
    assert_eq!((passed(&limiter, of(&alice)), passed(&limiter, of(&bob))), (7, 3));
    let problem = limiter.take(address("10.0.0.2"), &[(Flow::Requests, 1)]).unwrap_err();
    assert_eq!(policy(&problem).name(), "total-requests");
    // An anonymous one is nobody in particular.
    let anonymous =
        Counting { principal: Some(&Principal::ANONYMOUS), in_total: false, ..address("10.0.0.1") };
    assert_eq!(passed(&limiter, anonymous), 10);
}

#[test]
fn a_refusal_names_the_policy_and_the_time() {
    let limits = Limits {
        address: ClientBounds { requests: per_second(10), ..ClientBounds::default() },
        ..Limits::default()
    };
    let limiter = limiter(limits);
    while limiter.take(address("::1"), &[(Flow::Requests, 1)]).is_ok() {}
    let problem = limiter.take(address("::1"), &[(Flow::Requests, 1000)]).unwrap_err();
    let QuotaPolicy { limit, kind, quota, window_s } = policy(&problem);
    assert_eq!((limit, kind, quota, window_s), ("address", "requests", 10, Some(1)));
    assert_eq!((problem.code, problem.status()), (Code::RateLimited, 429));
    assert!((1..=100).contains(&problem.retry_after_ms().unwrap()));
    assert_eq!(problem.detail.as_deref(), Some("At most 10 requests of one address are taken a second."));
    let label = LimitLabel { limit: "address", kind: "requests" };
    assert_eq!(limiter.0.unwrap().refusals.get_or_create(&label).get(), 2);
}

#[test]
fn a_publish_counts_by_messages_bytes_and_new_topics_or_not_at_all() {
    let drafts = |topics: &[&str], bytes: usize| -> Vec<Draft> {
        let draft =
            |topic: &&str| Draft::new(Topic::parse(topic).unwrap(), MediaType::NONE, vec![0; bytes].into());
        topics.iter().map(draft).collect()
    };
    let minute = |quota| NonZeroU32::new(quota).map(Rate::per_minute);
    let bounds = ClientBounds {
        publishes: minute(4),
        bytes: minute(1000),
        new_topics: minute(2),
        ..ClientBounds::default()
    };
    let limiter = limiter(Limits { address: bounds, ..Limits::default() });
    let publish = |whom, topics: &[&str], bytes| {
        let published = limiter.publish(address(whom), &drafts(topics, bytes), |_| false);
        published.map_err(|problem| policy(&problem).name())
    };
    // More than a minute's bytes, all of which begin within them.
    assert_eq!(publish("10.0.0.1", &["a"], 5000), Ok(()));
    assert_eq!(publish("10.0.0.1", &["a"], 0), Err("address-bytes".to_owned()));
    // Ten beginnings of one topic are one, and what was refused was none.
    assert_eq!(publish("10.0.0.2", &["b"; 3], 0), Ok(()));
    assert_eq!(publish("10.0.0.2", &["b"], 0), Ok(()));
    assert_eq!(publish("10.0.0.2", &["b"], 0), Err("address-publishes".to_owned()));
    assert_eq!(publish("10.0.0.3", &["c", "d", "e"], 0), Ok(()));
    assert_eq!(publish("10.0.0.3", &["f"], 0), Err("address-new-topics".to_owned()));
    assert_eq!(publish("10.0.0.3", &["c"], 0), Ok(()));
}

#[test]
fn an_open_thing_counts_until_it_is_dropped() {
    let connections = |bound| ClientBounds { connections: NonZeroU32::new(bound), ..ClientBounds::default() };
    let limits = Limits { address: connections(2), principal: connections(1), total: connections(3) };
    let limiter = limiter(limits);
    let (one, two) = (address("10.0.0.1"), address("10.0.0.2"));
    let (first, second) = (open(&limiter, one).unwrap(), open(&limiter, one).unwrap());
    assert_eq!(open(&limiter, one).err().unwrap(), "address-connections");
    let third = open(&limiter, two).unwrap();
    assert_eq!(open(&limiter, two).err().unwrap(), "total-connections");
    let copy = first.clone();
    drop(first);
    assert!(open(&limiter, two).is_err(), "a copy counts on");
    drop(copy);
    drop(open(&limiter, two).unwrap());
    let again = open(&limiter, one).unwrap();
    let alice = user("alice");
    let own = open(&limiter, Counting { principal: Some(&alice), ..Counting::default() }).unwrap();
    let of_alice = Counting { principal: Some(&alice), ..address("10.0.0.9") };
    assert_eq!(open(&limiter, of_alice).err().unwrap(), "principal-connections");
    let problem = limiter.hold(of_alice, HeldKind::Connections).err().unwrap();
    assert_eq!((policy(&problem).window_s, problem.retry_after_ms()), (None, Some(LIMITED_RETRY_MS * 3 / 4)));
    drop((second, third, again, own));
    for _ in 0..1000 {
        drop((open(&limiter, of_alice).unwrap(), open(&limiter, one).unwrap(), open(&limiter, two).unwrap()));
    }
}
