//! Appending: order, visibility, groups, conditions and keys.

use std::sync::Arc;

use bytes::Bytes;
use tailwire_core::{
    Store, StoreError,
    log::Appended,
    order::local_entry,
    store::{Entry, Outcome, Place, Token, Write},
};
use tailwire_model::{
    Condition, Cursor, Epoch, Opening, Position, Timestamp, TrimReason, limits::IDEMPOTENCY_WINDOW_MS,
};
use tailwire_storage::testing::Writes as _;

use crate::common::{
    Harness, Recorder, START, UNBOUNDED, all, append, append_at, bodies, filter, given, group, keyed,
    positions, publish, stored, tidy_all, topic,
};

pub(crate) fn a_new_log_is_empty<H: Harness>() {
    let h = H::new();
    assert_eq!(h.log().newest(), Position::ZERO);
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

pub(crate) fn writes_that_change_nothing_are_no_commit<H: Harness>() {
    let h = H::new();
    let feed = Arc::new(Recorder::default());
    assert_eq!(h.log().follow(feed.clone()), Position::ZERO);
    h.log().trim(&topic("a"), TrimReason::Deleted).unwrap();
    let failing = given(
        group(&[("a", "1")]),
        Condition::NothingAfter(Cursor { epoch: Epoch::MAX, position: Position(9) }),
    );
    assert!(matches!(append(h.log(), failing), Appended::ConditionFailed(_)));
    assert!(feed.0.lock().is_empty());
    assert_eq!(h.log().newest(), Position::ZERO);
    assert!(h.log().topics("", None, 10).is_empty());
}

pub(crate) fn what_fails_changes_nothing<H: Harness>() {
    let h = H::new();
    publish(h.log(), &[("a", "1")]);
    let mut entry =
        local_entry(h.log(), Timestamp(START), Timestamp(START), vec![Write::Publish(group(&[("a", "2")]))]);
    entry.place.first = Position(1);
    assert!(
        matches!(h.log().apply(vec![entry.clone()], true), Err(StoreError::Failed(_))),
        "it was there before"
    );
    assert_eq!(all(h.log(), &["a"]), [1]);
    let mut later = entry.clone();
    (entry.place.first, later.place.first) = (Position(2), Position(2));
    assert!(matches!(h.log().apply(vec![entry, later], true), Err(StoreError::Failed(_))), "all or none");
    assert_eq!((all(h.log(), &["a"]), h.log().newest()), (vec![1], Position(1)));
    stored(append(h.log(), group(&[("a", "2")])));
}

pub(crate) fn positions_are_as_the_order_gives_them<H: Harness>() {
    let mut h = H::new();
    let entry = |first, token: &'static [u8], messages| Entry {
        place: Place {
            first: Position(first),
            time: Timestamp(START),
            steady: Timestamp(START),
            token: Token(Bytes::from_static(token)),
            topics_max: u64::MAX,
        },
        writes: vec![Write::Publish(group(messages)), Write::Publish(group(&[("b", "x")]))],
    };
    let entries =
        vec![entry(1 << 14, b"one", &[("a", "1"), ("a", "2")]), entry(5 << 14, b"two", &[("a", "3")])];
    h.log().apply(entries, true).unwrap();
    h.log().apply(vec![entry(7 << 14, b"three", &[("a", "4")])], false).unwrap();
    let at = |sequence: u64, number| (sequence << 14) + number;
    for close in [true, false] {
        assert_eq!(all(h.log(), &["a"]), [at(1, 0), at(1, 1), at(5, 0), at(7, 0)]);
        assert_eq!(all(h.log(), &["b"]), [at(1, 2), at(5, 1), at(7, 1)]);
        assert_eq!(h.log().newest(), Position(at(7, 1)));
        assert_eq!(h.log().token(), Token(Bytes::from_static(b"three")));
        assert_eq!(h.log().before_newest(&filter(&["a"]), 2), Ok(Position(at(5, 0) - 1)));
        assert_eq!(h.log().get(Position(at(3, 0))), Ok(None));
        assert_eq!(h.log().stats().messages, 7);
        let restarted = h.restart(close);
        assert_eq!(h.log().found(), restarted);
    }
    tidy_all(h.log());
    assert_eq!(all(h.log(), &["a"]).len(), 4);
}

pub(crate) fn a_group_that_begins_too_many_topics_is_refused_whole<H: Harness>() {
    let mut h = H::new();
    let apply = |h: &H, groups: &[&[(&str, &str)]]| -> Vec<Outcome> {
        let writes = groups.iter().map(|messages| Write::Publish(group(messages))).collect();
        let mut entry = local_entry(h.log(), Timestamp(START), Timestamp(START), writes);
        entry.place.topics_max = 3;
        h.log().apply(vec![entry], true).unwrap()
    };
    let is_refused = |outcomes: Vec<Outcome>| -> Vec<bool> {
        outcomes.into_iter().map(|outcome| outcome == Outcome::TooManyTopics).collect()
    };
    assert_eq!(is_refused(apply(&h, &[&[("a", "1")]])), [false]);
    // Within one entry the groups before count; those of which one topic is too many leave nothing.
    let groups: [&[(&str, &str)]; 5] = [
        &[("a", "2"), ("b", "3"), ("b", "4")],
        &[("c", "no"), ("d", "no")],
        &[("a", "5"), ("c", "6")],
        &[("a", "no"), ("d", "no")],
        &[("c", "8"), ("b", "9"), ("a", "10")],
    ];
    assert_eq!(is_refused(apply(&h, &groups)), [false, true, false, true, false]);
    assert_eq!(bodies(h.log(), &["**"]), ["1", "2", "3", "4", "5", "6", "8", "9", "10"]);
    for close in [true, false] {
        h.restart(close);
        assert_eq!(is_refused(apply(&h, &[&[("e", "no")], &[("b", "yes")]])), [true, false]);
        assert_eq!(h.log().stats().topics, 3);
    }
    // The broker's own have bounds of their own, and their number counts.
    assert_eq!(is_refused(apply(&h, &[&[("$access/keys/k", "1")]])), [false]);
    assert_eq!(h.log().stats().topics, 4);
}

pub(crate) fn a_token_is_stored_also_where_nothing_else_is<H: Harness>() {
    let mut h = H::new();
    let place = Place {
        first: Position(9),
        time: Timestamp(START),
        steady: Timestamp(START),
        token: Token(Bytes::from_static(b"t")),
        topics_max: u64::MAX,
    };
    h.log().apply(vec![Entry { place, writes: Vec::new() }], true).unwrap();
    assert_eq!((h.log().token().0.as_ref(), h.log().newest()), (&b"t"[..], Position::ZERO));
    h.restart(true);
    assert_eq!(h.log().token().0.as_ref(), b"t");
    publish(h.log(), &[("a", "1")]);
    assert_eq!(h.log().token().0.as_ref(), b"t");
    h.reopen(true, START);
    assert_eq!(h.log().token(), Token::default(), "what another order writes is beyond that token");
}

pub(crate) fn groups_are_contiguous<H: Harness>() {
    let h = H::new();
    let groups = vec![group(&[("a", "1"), ("b", "2"), ("a", "3")]), group(&[("b", "4")])];
    let appended = h.log().append(groups, Timestamp(START)).unwrap();
    let places: Vec<_> = appended.into_iter().map(stored).map(|s| (s.first.position.0, s.count)).collect();
    assert_eq!(places, [(1, 3), (4, 1)]);
    assert_eq!(all(h.log(), &["b"]), [2, 4]);
}

pub(crate) fn times_are_the_clocks<H: Harness>() {
    let mut h = H::new();
    let publish_at = |h: &H, now| {
        let stored = stored(append_at(h.log(), group(&[("a", "1")]), now));
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
    let refused = append(h.log(), given(group(&[("a", "2")]), Condition::NeverWritten));
    assert_eq!(refused, Appended::ConditionFailed(first));
    let second = stored(append(h.log(), given(group(&[("a", "2")]), Condition::NothingAfter(first)))).first;
    let refused = append(h.log(), given(group(&[("a", "3")]), Condition::NothingAfter(first)));
    assert_eq!(refused, Appended::ConditionFailed(second));
    // Deleted messages were written all the same.
    h.log().trim(&topic("a"), TrimReason::Deleted).unwrap();
    let refused = append(h.log(), given(group(&[("a", "3")]), Condition::NeverWritten));
    assert_eq!(refused, Appended::ConditionFailed(second));
    assert_eq!(h.log().newest(), Position(2));
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
    assert_eq!(publish(), Appended::Replayed(first));
    assert_eq!(all(h.log(), &["a"]), [1, 2]);
}

pub(crate) fn a_key_of_another_request_is_refused<H: Harness>() {
    let h = H::new();
    append(h.log(), keyed(group(&[("a", "1")]), "k", 1));
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
    assert_eq!(publish(START + IDEMPOTENCY_WINDOW_MS - 1), Appended::Replayed(first));
    let second = stored(publish(START + IDEMPOTENCY_WINDOW_MS));
    tidy_all(h.log());
    assert_eq!(publish(START + IDEMPOTENCY_WINDOW_MS + 1), Appended::Replayed(second));
}

pub(crate) fn a_key_survives_reopening<H: Harness>() {
    let mut h = H::new();
    let kept = stored(append(h.log(), keyed(group(&[("a", "1")]), "kept", 1)));
    h.reopen(false, START + 1000);
    assert_eq!(append(h.log(), keyed(group(&[("a", "1")]), "kept", 1)), Appended::Replayed(kept));
}

pub(crate) fn a_key_comes_before_a_condition<H: Harness>() {
    let h = H::new();
    let publish = || append(h.log(), given(keyed(group(&[("a", "1")]), "k", 1), Condition::NeverWritten));
    let first = stored(publish());
    assert_eq!(publish(), Appended::Replayed(first));
}
