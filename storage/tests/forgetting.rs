//! Topics that have held nothing for a while are forgotten: which they are, and when.

#![allow(clippy::unwrap_used)]

mod common;

use common::{START, all, group, publish, topic};
use tailwire_core::{
    Store,
    order::begin_epoch,
    store::{Entry, Outcome, Place, Write},
};
use tailwire_model::{Bound, Durability, Options, Position, Term, Timestamp, TrimReason};
use tailwire_storage::{
    LogSettings, MemoryStore,
    testing::{self, Writes as _},
};

const AFTER_MS: u64 = 5_000;

fn names(log: &dyn Store) -> Vec<String> {
    log.topics("", None, 999).into_iter().map(|info| info.topic.as_str().to_owned()).collect()
}

fn set(log: &impl Store, term: &str, options: Options) {
    log.set_options(&Term::parse(term).unwrap(), options).unwrap();
}

/// What is due at a time, and what that leaves to do a moment later.
fn tidy_at(log: &impl Store, now: u64) {
    log.tidy_all(Timestamp(now));
    log.tidy_all(Timestamp(now + 1_000));
}

fn what_holds_nothing_goes(log: &impl Store) {
    publish(
        log,
        &[("holds", "1"), ("deleted", "2"), ("trimmed", "3"), ("taken", "4"), ("set", "5"), ("later", "6")],
    );
    for name in ["deleted", "set", "later"] {
        log.trim(&topic(name), TrimReason::Deleted).unwrap();
    }
    log.trim(&topic("trimmed"), TrimReason::Retention).unwrap();
    let taken = log.epochs().cursor_at(Position(4));
    log.write(vec![Write::Remove(taken, TrimReason::Deleted)], Timestamp(START)).unwrap();
    set(log, "set", Options { max_messages: Some(Bound(9)), ..Options::default() });
    set(log, "*", Options { max_messages: Some(Bound(9)), ..Options::default() });
    set(log, "memory", Options { durability: Some(Durability::Memory), ..Options::default() });
    let own = group(&[("$sys/own", "7"), ("memory", "8")]);
    log.append(vec![own], Timestamp(START)).unwrap();
    set(log, "memory", Options::default());
    log.trim(&topic("$sys/own"), TrimReason::Deleted).unwrap();

    tidy_at(log, START + 3_000);
    assert_eq!(names(log).len(), 8);
    log.append(vec![group(&[("later", "9")])], Timestamp(START + 16_500)).unwrap();
    log.trim(&topic("later"), TrimReason::Deleted).unwrap();
    tidy_at(log, START + 20_000);
    assert_eq!(names(log), ["$sys/own", "holds", "later", "memory", "set"]);
    assert_eq!(log.stats().topics, 5);
    tidy_at(log, START + 30_000);
    assert_eq!(names(log), ["$sys/own", "holds", "memory", "set"]);
    set(log, "set", Options::default());
    log.trim(&topic("memory"), TrimReason::Deleted).unwrap();
    // What is dead is purged first, and the next round finds nothing of it.
    log.tidy_all(Timestamp(START + 31_000));
    tidy_at(log, START + 40_000);
    assert_eq!((names(log), all(log, &["**"])), (vec!["$sys/own".to_owned(), "holds".to_owned()], vec![1]));
    assert_eq!(log.stats().trims, 1);
}

#[test]
fn what_holds_nothing_goes_from_memory() {
    let log = MemoryStore::forgetting_after(AFTER_MS);
    begin_epoch(&log, Timestamp(START), 0).unwrap();
    what_holds_nothing_goes(&log);
}

fn settings() -> LogSettings {
    LogSettings { forget_after_ms: Some(AFTER_MS), ..LogSettings::default() }
}

#[test]
fn what_holds_nothing_goes_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    let log = testing::open(dir.path(), Timestamp(START), &settings()).unwrap();
    what_holds_nothing_goes(&log);
    drop(log);
    let log = testing::open(dir.path(), Timestamp(START + 100_000), &settings()).unwrap();
    assert_eq!(names(&log), ["$sys/own", "holds"]);
}

#[test]
fn many_go_step_by_step_and_make_room_for_others() {
    let dir = tempfile::tempdir().unwrap();
    let log = testing::open(dir.path(), Timestamp(START), &settings()).unwrap();
    let publish = |messages: &[(&str, &str)], now| {
        let (first, time) = (log.newest().next(), Timestamp(now));
        let place = Place { first, time, steady: time, token: log.token(), topics_max: 3_000 };
        log.apply(vec![Entry { place, writes: vec![Write::Publish(group(messages))] }], true).unwrap()[0]
    };
    for round in 0..3_u64 {
        let now = START + round * 20_000;
        let names: Vec<String> = (0..3_000).map(|n| format!("{round}/{n}")).collect();
        for part in names.chunks(1_000) {
            let messages: Vec<(&str, &str)> = part.iter().map(|name| (name.as_str(), "x")).collect();
            assert!(matches!(publish(&messages, now), Outcome::Published(_)));
            log.write(part.iter().map(|name| Write::Delete(topic(name))).collect(), Timestamp(now)).unwrap();
        }
        assert_eq!(publish(&[("one more", "x")], now), Outcome::TooManyTopics);
        log.tidy_all(Timestamp(now));
        let (mut most, mut is_due) = (0, true);
        let now = now + 2 * AFTER_MS;
        while is_due {
            let (writes, again) = log.due(Timestamp(now)).unwrap();
            most = most.max(writes.len());
            if !writes.is_empty() {
                log.write(writes, Timestamp(now)).unwrap();
            }
            is_due = again == Some(0) || log.tidy().unwrap() == Some(0);
        }
        assert!((1..=128).contains(&most), "{most} at once");
        assert_eq!(log.stats().topics, 0);
    }
}
