//! Appending: order, visibility, groups, conditions and keys.

use std::sync::Arc;

use tailwire_core::log::{Appended, Log};
use tailwire_model::{Condition, Opening, Position, Timestamp, TrimReason, limits::IDEMPOTENCY_WINDOW_MS};

use crate::common::{
    Harness, Recorder, START, UNBOUNDED, all, append, append_at, bodies, filter, given, group, keyed,
    positions, publish, stored, tidy_all, topic,
};

pub(crate) fn a_new_log_is_empty<H: Harness>() {
    let h = H::new();
    assert_eq!(h.log().committed(), Position::ZERO);
    assert_eq!(h.log().epochs().current().opening, Opening::Created);
    assert_eq!(h.log().epochs().current().first, Position(1));
    assert_eq!(all(h.log(), &["**"]), [0; 0]);
    assert_eq!(h.log().get(Position(1)), Ok(None));
    assert_eq!((h.log().stats().topics, h.log().stats().messages), (0, 0));
}

pub(crate) fn messages_come_in_order_as_published<H: Harness>() {
    let h = H::new();
    publish(h.log(), &[("a", "1"), ("b", "2"), ("a", "3")]);
    publish(h.log(), &[("b", "4")]);
    assert_eq!(bodies(h.log(), &["a", "b"]), ["1", "2", "3", "4"]);
    assert_eq!(bodies(h.log(), &["a"]), ["1", "3"]);
    let page = h.log().read(&filter(&["**"]), Position::ZERO, Position::MAX, UNBOUNDED).unwrap();
    assert_eq!(positions(&page.messages), [1, 2, 3, 4]);
    assert_eq!(page.scanned, Position(4));
    let epoch = h.log().epochs().current().epoch;
    assert!(
        page.messages.iter().all(|message| message.cursor.epoch == epoch && message.time == Timestamp(START))
    );
    assert_eq!(h.log().stats().messages, 4);
}

pub(crate) fn nothing_shows_before_commit<H: Harness>() {
    let h = H::new();
    let feed = Arc::new(Recorder::default());
    h.log().follow(feed.clone());
    assert_eq!(stored(append(h.log(), group(&[("a", "1")]))).first.position, Position(1));
    assert_eq!(all(h.log(), &["a"]), [0; 0]);
    assert_eq!(h.log().committed(), Position::ZERO);
    assert_eq!(h.log().get(Position(1)), Ok(None));
    assert_eq!(h.log().bounds(&filter(&["a"])).tail, Position::ZERO);
    assert!(h.log().topics("", None, 10).is_empty());
    assert!(feed.0.lock().is_empty());
    assert_eq!(h.log().commit(), Ok(Position(1)));
    assert_eq!(all(h.log(), &["a"]), [1]);
    assert_eq!(feed.0.lock().len(), 1);
}

pub(crate) fn an_empty_commit_does_nothing<H: Harness>() {
    let h = H::new();
    let feed = Arc::new(Recorder::default());
    h.log().follow(feed.clone());
    assert_eq!(h.log().commit(), Ok(Position::ZERO));
    h.log().trim(&topic("a"), TrimReason::Deleted).unwrap();
    assert_eq!(h.log().commit(), Ok(Position::ZERO));
    assert!(feed.0.lock().is_empty());
}

pub(crate) fn groups_are_contiguous<H: Harness>() {
    let h = H::new();
    let groups = vec![group(&[("a", "1"), ("b", "2"), ("a", "3")]), group(&[("b", "4")])];
    let appended = h.log().append(groups, Timestamp(START)).unwrap();
    let places: Vec<_> = appended.into_iter().map(stored).map(|s| (s.first.position.0, s.count)).collect();
    assert_eq!(places, [(1, 3), (4, 1)]);
    h.log().commit().unwrap();
    assert_eq!(all(h.log(), &["b"]), [2, 4]);
}

pub(crate) fn times_are_the_clocks<H: Harness>() {
    let mut h = H::new();
    let publish_at = |h: &H, now| {
        let stored = stored(append_at(h.log(), group(&[("a", "1")]), now));
        h.log().commit().unwrap();
        stored.time
    };
    for now in [START + 500, START, START + 900_000, START - 86_400_000] {
        assert_eq!(publish_at(&h, now), Timestamp(now));
    }
    h.reopen(true, START + 100);
    assert_eq!(publish_at(&h, START + 100), Timestamp(START + 100));
    let page = h.log().read(&filter(&["a"]), Position::ZERO, Position::MAX, UNBOUNDED).unwrap();
    let times: Vec<u64> = page.messages.iter().map(|message| message.time.0).collect();
    assert_eq!(times, [START + 500, START, START + 900_000, START - 86_400_000, START + 100]);
}

pub(crate) fn a_condition_holds_or_not<H: Harness>() {
    let h = H::new();
    let first = stored(append(h.log(), given(group(&[("a", "1")]), Condition::NeverWritten))).first;
    h.log().commit().unwrap();
    let refused = append(h.log(), given(group(&[("a", "2")]), Condition::NeverWritten));
    assert_eq!(refused, Appended::ConditionFailed(first));
    let second = stored(append(h.log(), given(group(&[("a", "2")]), Condition::NothingAfter(first)))).first;
    h.log().commit().unwrap();
    let refused = append(h.log(), given(group(&[("a", "3")]), Condition::NothingAfter(first)));
    assert_eq!(refused, Appended::ConditionFailed(second));
    // What was deleted was written all the same.
    h.log().trim(&topic("a"), TrimReason::Deleted).unwrap();
    h.log().commit().unwrap();
    let refused = append(h.log(), given(group(&[("a", "3")]), Condition::NeverWritten));
    assert_eq!(refused, Appended::ConditionFailed(second));
    assert_eq!(h.log().commit(), Ok(Position(2)));
}

pub(crate) fn a_condition_sees_earlier_groups<H: Harness>() {
    let h = H::new();
    let fresh = |body| given(group(&[("a", body)]), Condition::NeverWritten);
    let appended = h.log().append(vec![fresh("1"), fresh("2")], Timestamp(START)).unwrap();
    let first = stored(appended[0]).first;
    assert_eq!(appended[1], Appended::ConditionFailed(first));
    assert_eq!(append(h.log(), fresh("3")), Appended::ConditionFailed(first));
}

pub(crate) fn a_key_replays<H: Harness>() {
    let h = H::new();
    let publish = || append_at(h.log(), keyed(group(&[("a", "1"), ("a", "2")]), "k", 1), START + 7);
    let first = stored(publish());
    assert_eq!(publish(), Appended::Replayed(first));
    h.log().commit().unwrap();
    assert_eq!(publish(), Appended::Replayed(first));
    assert_eq!(all(h.log(), &["a"]), [1, 2]);
}

pub(crate) fn a_key_of_another_request_is_refused<H: Harness>() {
    let h = H::new();
    append(h.log(), keyed(group(&[("a", "1")]), "k", 1));
    h.log().commit().unwrap();
    assert_eq!(append(h.log(), keyed(group(&[("a", "2")]), "k", 2)), Appended::KeyReused);
    stored(append(h.log(), keyed(group(&[("a", "2")]), "l", 2)));
}

pub(crate) fn a_key_works_within_one_call<H: Harness>() {
    let h = H::new();
    let same = || keyed(group(&[("a", "1")]), "k", 1);
    let appended = h.log().append(vec![same(), same(), keyed(same(), "k", 2)], Timestamp(START)).unwrap();
    let first = stored(appended[0]);
    assert_eq!(appended[1..], [Appended::Replayed(first), Appended::KeyReused]);
}

pub(crate) fn a_key_expires<H: Harness>() {
    let h = H::new();
    let publish = |now| append_at(h.log(), keyed(group(&[("a", "1")]), "k", 1), now);
    let first = stored(publish(START));
    h.log().commit().unwrap();
    assert_eq!(publish(START + IDEMPOTENCY_WINDOW_MS - 1), Appended::Replayed(first));
    let second = stored(publish(START + IDEMPOTENCY_WINDOW_MS));
    h.log().commit().unwrap();
    tidy_all(h.log());
    assert_eq!(publish(START + IDEMPOTENCY_WINDOW_MS + 1), Appended::Replayed(second));
}

pub(crate) fn a_key_survives_reopening_only_with_its_messages<H: Harness>() {
    let mut h = H::new();
    let kept = stored(append(h.log(), keyed(group(&[("a", "1")]), "kept", 1)));
    h.log().commit().unwrap();
    append(h.log(), keyed(group(&[("a", "2")]), "lost", 1));
    h.reopen(false, START + 1000);
    assert_eq!(append(h.log(), keyed(group(&[("a", "1")]), "kept", 1)), Appended::Replayed(kept));
    stored(append(h.log(), keyed(group(&[("a", "2")]), "lost", 1)));
}

pub(crate) fn a_key_comes_before_a_condition<H: Harness>() {
    let h = H::new();
    let publish = || append(h.log(), given(keyed(group(&[("a", "1")]), "k", 1), Condition::NeverWritten));
    let first = stored(publish());
    assert_eq!(publish(), Appended::Replayed(first));
}
