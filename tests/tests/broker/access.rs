//! A policy that hides things: what readers, lists and changes are given under it, and what becomes of open readers when
//! a credential ends or the policy's answers change.

use std::{sync::Arc, task::Poll};

use tailwire_core::{Interest, Page, PageWait, Reader, ReaderError, Slice, Start, Until, View};
use tailwire_model::{Principal, Timestamp};
use tailwire_storage::MemoryStore;
use tokio::time::{Duration, Instant};

use crate::{
    cases::Polled,
    granting::{Granting, principal},
    rig::{Rig, START, Task, advance, filter, paused, topic, wait},
};

fn rig(policy: &Granting) -> Rig {
    policy.grant(&Principal::ANONYMOUS, &["subscribe **", "publish **", "manage **"]);
    Rig::permitting(Arc::new(policy.clone()), MemoryStore::default(), START)
}

fn open(rig: &Rig, principal: &Principal, terms: &[&str], start: Start) -> Result<Reader, ReaderError> {
    let interest = Interest { filter: filter(terms), start, known: None, view: View::whole(0) };
    wait(rig.broker.open(principal, interest))
}

fn live(rig: &Rig, principal: &Principal, terms: &[&str]) -> Polled {
    let mut reader = open(rig, principal, terms, Start::Latest).expect("permitted");
    reader.follow(0);
    let mut polled = Polled::new(reader);
    assert_eq!(polled.all().len(), 2, "an opening, and caught up");
    polled
}

fn listed(rig: &Rig, principal: &Principal, prefix: &str, from: Option<&str>, limit: usize) -> Vec<String> {
    let topics = wait(rig.broker.topics(principal, prefix, from, limit)).expect("the broker runs");
    topics.into_iter().map(|info| info.topic.as_str().to_owned()).collect()
}

#[test]
fn a_pattern_is_narrowed_and_a_named_topic_refused() {
    let runtime = paused();
    let _entered = runtime.enter();
    let (policy, ann) = (Granting::default(), principal("ann", None));
    policy.grant(&ann, &["subscribe a/**"]);
    let mut rig = rig(&policy);
    rig.publish_now(&["a/x", "b/x", "a/y"]);
    let mut all = Polled::new(open(&rig, &ann, &["**"], Start::Earliest).expect("narrowed"));
    assert_eq!(all.all_read(&rig).concat(), "-01,3@3");
    for refused in [&["b/x"][..], &["a/x", "b/x"], &["b/**"]] {
        assert!(matches!(open(&rig, &ann, refused, Start::Earliest), Err(ReaderError::Forbidden(_))));
    }
}

#[test]
fn a_hidden_topic_does_not_end_the_list() {
    let runtime = paused();
    let _entered = runtime.enter();
    let (policy, ann) = (Granting::default(), principal("ann", None));
    policy.grant(&ann, &["subscribe a/*", "subscribe c", "subscribe cd/**", "subscribe m/*/x"]);
    let mut rig = rig(&policy);
    let hidden: Vec<String> = (0..3000).map(|number| format!("b/{number}")).collect();
    rig.publish_now(&hidden.iter().map(String::as_str).collect::<Vec<_>>());
    rig.publish_now(&["a/1", "a/2", "a/2/3", "c", "cc", "cd", "cd/1", "m/1/x", "m/1/y", "m/2/x", "z"]);
    let all = ["a/1", "a/2", "c", "cd/1", "m/1/x", "m/2/x"];
    assert_eq!(listed(&rig, &ann, "", None, 100), all);
    for limit in 1..=all.len() {
        assert_eq!(listed(&rig, &ann, "", None, limit), all[..limit], "the first {limit}");
        assert_eq!(listed(&rig, &ann, "", Some(all[limit - 1]), 100), all[limit..], "after {limit}");
    }
    assert_eq!(listed(&rig, &ann, "m/", None, 100), ["m/1/x", "m/2/x"]);
    assert_eq!(listed(&rig, &ann, "c", None, 100), ["c", "cd/1"]);
    assert_eq!(listed(&rig, &ann, "cd", None, 100), ["cd/1"]);
    assert_eq!(listed(&rig, &ann, "b", None, 100), [""; 0]);
    assert_eq!(listed(&rig, &principal("bob", None), "", None, 100), [""; 0]);
}

#[test]
fn a_reader_ends_with_its_credential() {
    let runtime = paused();
    let _entered = runtime.enter();
    let (policy, ann) = (Granting::default(), principal("ann", Some(Timestamp(START + 20_000))));
    policy.grant(&ann, &["subscribe a/**"]);
    let mut rig = rig(&policy);
    let mut waits = live(&rig, &ann, &["a/x"]);
    let mut reads = live(&rig, &ann, &["a/x"]);
    advance(&runtime, 15_001);
    assert_eq!(waits.all(), ["-0"], "a heartbeat");
    rig.publish_now(&["a/x"]);
    assert_eq!((waits.all(), reads.all()), (vec!["1".to_owned()], vec!["1".to_owned()]));
    advance(&runtime, 4_900);
    assert_eq!(waits.all(), [""; 0]);
    waits.flag.take();
    advance(&runtime, 200);
    assert!(waits.flag.is_set(), "its timer wakes it, long before the heartbeat");
    assert!(waits.all().concat().starts_with("bye Expired "));
    rig.publish_now(&["a/x"]);
    assert!(reads.all().concat().starts_with("bye Expired "), "and gives nothing that came since");
    assert_eq!((waits.all(), reads.all()), (vec![], vec![]));
}

#[test]
fn a_review_ends_narrows_and_widens_what_is_open() {
    let runtime = paused();
    let _entered = runtime.enter();
    let (policy, ann, bob) = (Granting::default(), principal("ann", None), principal("bob", None));
    policy.grant(&ann, &["subscribe a/**", "subscribe b/**"]);
    policy.grant(&bob, &["subscribe a/**"]);
    let mut rig = rig(&policy);
    let mut pattern = live(&rig, &ann, &["**"]);
    let mut named = live(&rig, &ann, &["a/x", "b/x"]);
    let mut other = live(&rig, &bob, &["a/x"]);
    policy.grant(&ann, &["subscribe b/**", "subscribe c/**"]);
    policy.grant(&bob, &[]);
    rig.broker.review(|principal| *principal == ann);
    assert!(pattern.flag.is_set() && named.flag.is_set() && !other.flag.is_set(), "who is concerned");
    rig.publish_now(&["a/x", "b/x", "c/x"]);
    assert_eq!(pattern.all_read(&rig).concat(), "2,3", "of what it asked, what it may have now");
    assert!(named.all().concat().starts_with("bye Revoked "), "named topics are all or nothing");
    assert_eq!(other.all(), ["1"], "nobody was asked for it");
    rig.broker.review(|_| true);
    assert!(other.all().concat().starts_with("bye Revoked "));
    rig.publish_now(&["a/x", "b/x"]);
    assert_eq!((pattern.all(), other.all()), (vec!["5".to_owned()], vec![]));
}

#[test]
fn a_review_between_opening_and_following_is_not_missed() {
    let runtime = paused();
    let _entered = runtime.enter();
    let (policy, ann) = (Granting::default(), principal("ann", None));
    policy.grant(&ann, &["subscribe a/**"]);
    let rig = rig(&policy);
    let mut reader = open(&rig, &ann, &["a/x"], Start::Latest).expect("permitted");
    policy.grant(&ann, &[]);
    rig.broker.review(|_| true);
    reader.follow(0);
    assert!(Polled::new(reader).all().concat().starts_with("bye Revoked "));
}

#[test]
fn a_page_that_waits_ends_with_its_permission() {
    let runtime = paused();
    let _entered = runtime.enter();
    let policy = Granting::default();
    let (ann, bob) = (principal("ann", Some(Timestamp(START + 5_000))), principal("bob", None));
    policy.grant(&ann, &["subscribe a"]);
    policy.grant(&bob, &["subscribe a"]);
    let mut rig = rig(&policy);
    let mut waiting = [&ann, &bob].map(|principal| {
        let mut reader = open(&rig, principal, &["a"], Start::Latest).expect("permitted");
        let until = Until::Deadline(Instant::now() + Duration::from_secs(50));
        let mut task = Task::new(async move { reader.page(10, Some(PageWait { until, shard: 0 })).await });
        assert!(task.poll().is_pending());
        task
    });
    policy.grant(&bob, &[]);
    rig.broker.review(|principal| *principal == bob);
    rig.publish_now(&["a"]);
    let messages = |polled| match polled {
        Poll::Ready(Ok(Page::Messages { slices, .. })) => Some(slices.iter().map(Slice::len).sum::<usize>()),
        _ => None,
    };
    assert_eq!(messages(waiting[1].poll()), Some(0), "it says nothing of what came after");
    assert_eq!(messages(waiting[0].poll()), Some(1));
    let mut reader = open(&rig, &ann, &["a"], Start::Latest).expect("permitted");
    let until = Until::Deadline(Instant::now() + Duration::from_secs(50));
    let mut task = Task::new(async move { reader.page(10, Some(PageWait { until, shard: 0 })).await });
    assert!(task.poll().is_pending());
    advance(&runtime, 5_001);
    assert_eq!(messages(task.poll()), Some(0));
}

#[test]
fn options_and_deletes_take_a_grant_of_their_own() {
    let runtime = paused();
    let _entered = runtime.enter();
    let (policy, ann) = (Granting::default(), principal("ann", None));
    policy.grant(&ann, &["publish a", "subscribe a"]);
    let rig = rig(&policy);
    let broker = rig.broker.clone();
    let refused = wait(broker.delete(&ann, topic("a")));
    assert_eq!(refused.expect_err("forbidden").to_string(), "not permitted to manage a");
    assert!(broker.options(&ann, &filter(&["a"]).terms()[0]).is_err());
    policy.grant(&ann, &["manage a"]);
    assert!(broker.options(&ann, &filter(&["a"]).terms()[0]).is_ok());
}
