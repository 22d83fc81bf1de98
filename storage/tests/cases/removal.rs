//! Messages that are taken one by one: by a client, or by their own lifetime.

use tailwire_core::{
    Store,
    store::{Outcome, Write},
};
use tailwire_model::{
    Cursor, Durability, Keep, Options, Position, Term, Timestamp, Trim, TrimReason,
    limits::RETENTION_EVERY_MS,
};
use tailwire_storage::testing::Writes as _;

use crate::common::{
    Harness, START, all, append, append_at, bodies, filter, group, publish, tidy_all, tidy_all_at, topic,
    with_key,
};

fn remove(log: &impl Store, position: u64) -> Outcome {
    let cursor = log.epochs().cursor_at(Position(position));
    log.write(vec![Write::Remove(cursor, TrimReason::Deleted)], Timestamp(START)).unwrap()[0]
}

fn lost(log: &impl Store, terms: &[&str]) -> Option<(u64, TrimReason)> {
    log.bounds(&filter(terms)).trimmed.map(|Trim { upto, reason }| (upto.0, reason))
}

fn set(log: &impl Store, name: &str, options: Options) {
    log.set_options(&Term::parse(name).unwrap(), options).unwrap();
}

pub(crate) fn exactly_one_message_is_taken<H: Harness>() {
    let mut h = H::new();
    let large = "x".repeat(20_000);
    publish(h.log(), &[("a", "1"), ("b", "2"), ("a", &large), ("a", "4"), ("b", "5")]);
    assert_eq!(remove(h.log(), 3), Outcome::Done);
    let check = |h: &H| {
        assert_eq!(all(h.log(), &["**"]), [1, 2, 4, 5]);
        assert_eq!(bodies(h.log(), &["a"]), ["1", "4"]);
        assert_eq!(h.log().get(Position(3)), Ok(None));
        assert_eq!(lost(h.log(), &["a"]), Some((3, TrimReason::Deleted)));
        assert_eq!(lost(h.log(), &["*"]), Some((3, TrimReason::Deleted)));
        assert_eq!(lost(h.log(), &["b"]), None);
        let beyond =
            h.log().trimmed(&filter(&["b", "a"]), Position(3)).filter(|trim| trim.upto > Position(3));
        assert_eq!(beyond, None);
        assert_eq!(h.log().topics("a", None, 1)[0].messages, 2);
        assert_eq!(h.log().stats().messages, 4);
        assert_eq!(h.log().before_newest(&filter(&["a"]), 2), Ok(Position(0)));
        assert_eq!(remove(h.log(), 3), Outcome::NoMessage);
    };
    check(&h);
    h.reopen(false, START);
    check(&h);
    tidy_all(h.log());
    check(&h);
    for close in [false, true] {
        h.reopen(close, START);
        tidy_all(h.log());
        check(&h);
    }
    publish(h.log(), &[("a", "6")]);
    assert_eq!(all(h.log(), &["a"]), [1, 4, 6]);
}

pub(crate) fn the_farthest_that_was_taken_is_told<H: Harness>() {
    let mut h = H::new();
    publish(h.log(), &[("a", "1"), ("a", "2"), ("a", "3"), ("a", "4")]);
    for position in [3, 1] {
        assert_eq!(remove(h.log(), position), Outcome::Done);
        tidy_all(h.log());
        assert_eq!(lost(h.log(), &["a"]), Some((3, TrimReason::Deleted)));
    }
    h.reopen(true, START);
    assert_eq!(lost(h.log(), &["a"]), Some((3, TrimReason::Deleted)));
    assert_eq!(all(h.log(), &["a"]), [2, 4]);
    // What takes all of them says more.
    h.log().trim(&topic("a"), TrimReason::Retention).unwrap();
    assert_eq!(lost(h.log(), &["a"]), Some((4, TrimReason::Retention)));
    assert_eq!(h.log().topics("a", None, 1)[0].messages, 0);
    tidy_all(h.log());
    h.reopen(false, START);
    assert_eq!(lost(h.log(), &["a"]), Some((4, TrimReason::Retention)));
}

pub(crate) fn what_is_not_there_is_not_taken<H: Harness>() {
    let mut h = H::new();
    publish(h.log(), &[("a", "1"), ("b", "2"), ("a", "3")]);
    h.log().trim(&topic("a"), TrimReason::Deleted).unwrap();
    let cursor = h.log().epochs().cursor_at(Position(2));
    h.reopen(true, START + 1000);
    publish(h.log(), &[("a", "4")]);
    let other = Cursor { epoch: h.log().epochs().current().epoch, ..cursor };
    let outcomes = h.log().write(vec![Write::Remove(other, TrimReason::Deleted)], Timestamp(START)).unwrap();
    assert_eq!(outcomes, [Outcome::NoMessage]);
    assert_eq!([0, 1, 3, 5, 99].map(|position| remove(h.log(), position)), [Outcome::NoMessage; 5]);
    assert_eq!(all(h.log(), &["**"]), [2, 4]);
}

pub(crate) fn it_is_decided_in_the_order_of_writes<H: Harness>() {
    let h = H::new();
    publish(h.log(), &[("a", "1"), ("b", "2")]);
    let at = |position| h.log().epochs().cursor_at(Position(position));
    let remove = |position| Write::Remove(at(position), TrimReason::Deleted);
    let writes = vec![
        remove(1),
        remove(1),
        Write::Publish(group(&[("a", "3"), ("a", "4")])),
        remove(3),
        remove(5),
        Write::Delete(topic("b")),
        remove(2),
    ];
    let outcomes = h.log().write(writes, Timestamp(START)).unwrap();
    let taken: Vec<bool> = outcomes.iter().map(|outcome| *outcome == Outcome::Done).collect();
    assert_eq!(taken, [true, false, false, true, false, true, false]);
    assert_eq!(all(h.log(), &["**"]), [4]);
    tidy_all(h.log());
    assert_eq!(all(h.log(), &["**"]), [4]);
    assert_eq!(lost(h.log(), &["a"]), Some((3, TrimReason::Deleted)));
}

pub(crate) fn many_of_a_long_topic_are_taken<H: Harness>() {
    let mut h = H::new();
    for _ in 0..20 {
        append(h.log(), group(&[("a", "some text"); 50]));
    }
    let mut left: Vec<u64> = (1..=1000).collect();
    for position in (1..=1000).step_by(7) {
        assert_eq!(remove(h.log(), position), Outcome::Done);
        left.retain(|own| *own != position);
    }
    let check = |h: &H, left: &[u64]| {
        assert_eq!(all(h.log(), &["a"]), left);
        assert_eq!(h.log().topics("a", None, 1)[0].messages, left.len() as u64);
        assert_eq!(h.log().before_newest(&filter(&["a"]), 3), Ok(Position(left[left.len() - 3] - 1)));
    };
    check(&h, &left);
    tidy_all(h.log());
    check(&h, &left);
    // A trim that ends in the middle of what was sealed counts none of them twice.
    h.log().write(vec![Write::Retain(topic("a"), Position(300))], Timestamp(START)).unwrap();
    left.retain(|position| *position > 300);
    check(&h, &left);
    for close in [false, true] {
        h.reopen(close, START);
        tidy_all(h.log());
        check(&h, &left);
    }
}

pub(crate) fn the_newest_of_a_key_can_be_taken<H: Harness>() {
    let h = H::new();
    set(h.log(), "a", Options { keep: Some(Keep::Compact), ..Options::default() });
    append(h.log(), with_key(group(&[("a", "1")]), "k"));
    append(h.log(), with_key(group(&[("a", "2")]), "k"));
    assert_eq!(remove(h.log(), 2), Outcome::Done);
    assert_eq!(all(h.log(), &["a"]), [0; 0]);
    append(h.log(), with_key(group(&[("a", "3")]), "k"));
    tidy_all(h.log());
    assert_eq!(all(h.log(), &["a"]), [3]);
}

pub(crate) fn a_message_in_memory_can_be_taken<H: Harness>() {
    let h = H::new();
    set(h.log(), "a", Options { durability: Some(Durability::Memory), ..Options::default() });
    publish(h.log(), &[("a", "1"), ("b", "2"), ("a", "3")]);
    assert_eq!(remove(h.log(), 1), Outcome::Done);
    assert_eq!(all(h.log(), &["**"]), [2, 3]);
    assert_eq!(lost(h.log(), &["a"]), Some((1, TrimReason::Deleted)));
}

/// Publishes a message that lives for a time of its own.
fn publish_for(log: &impl Store, name: &str, max_age_ms: u64, now: u64) {
    let mut group = group(&[(name, "x")]);
    for draft in &mut group.drafts {
        draft.extras.get_or_insert_default().max_age_ms = Some(max_age_ms);
    }
    append_at(log, group, now);
}

pub(crate) fn a_message_goes_when_its_own_time_is_over<H: Harness>() {
    let mut h = H::new();
    publish(h.log(), &[("a", "1")]);
    publish_for(h.log(), "a", 5_000, START);
    publish_for(h.log(), "b", 1_000, START);
    publish_for(h.log(), "b", 2_000, START);
    publish_for(h.log(), "a", 60_000, START + 10);
    let at = |h: &H, after: u64| {
        tidy_all_at(h.log(), START + after);
        all(h.log(), &["**"])
    };
    assert_eq!(at(&h, 999), [1, 2, 3, 4, 5]);
    assert_eq!(at(&h, 1_000), [1, 2, 4, 5]);
    assert_eq!(lost(h.log(), &["b"]), Some((3, TrimReason::Retention)));
    assert_eq!(at(&h, 4_999), [1, 2, 5]);
    h.reopen(false, START + 4_999);
    assert_eq!(at(&h, 4_999), [1, 2, 5]);
    assert_eq!(at(&h, 5_000), [1, 5]);
    assert_eq!(lost(h.log(), &["a"]), Some((2, TrimReason::Retention)));
    h.reopen(true, START + 5_000);
    assert_eq!(at(&h, 60_009), [1, 5]);
    assert_eq!(at(&h, 60_010), [1]);
    assert_eq!(h.log().tidy_at(Timestamp(START + 70_000)).map(|again| again == Some(0)), Ok(false));
}

pub(crate) fn a_lifetime_in_memory_ends_also_without_options<H: Harness>() {
    let h = H::new();
    set(h.log(), "a", Options { durability: Some(Durability::Memory), ..Options::default() });
    publish_for(h.log(), "a", 1_000, START);
    set(h.log(), "a", Options::default());
    tidy_all_at(h.log(), START + 999);
    assert_eq!(all(h.log(), &["a"]), [1]);
    tidy_all_at(h.log(), START + 999 + RETENTION_EVERY_MS);
    assert_eq!(all(h.log(), &["a"]), [0; 0]);
    assert_eq!(lost(h.log(), &["a"]), Some((1, TrimReason::Retention)));
}

pub(crate) fn a_lifetime_follows_no_clock_that_is_set<H: Harness>() {
    let mut h = H::new();
    let hour = 3_600_000;
    // The wall clock is an hour ahead, while the steady one goes on.
    let place = |h: &H, time: u64, steady: u64| {
        let mut group = group(&[("a", "x")]);
        group.drafts[0].extras.get_or_insert_default().max_age_ms = Some(5_000);
        let place = tailwire_core::store::Place {
            topics_max: u64::MAX,
            first: h.log().newest().next(),
            time: Timestamp(time),
            steady: Timestamp(steady),
            token: h.log().token(),
        };
        let entry = tailwire_core::store::Entry { place, writes: vec![Write::Publish(group)] };
        h.log().apply(vec![entry], true).unwrap();
    };
    place(&h, START + hour, START);
    place(&h, START + 1_000, START + 1_000);
    tidy_all_at(h.log(), START + 5_000);
    assert_eq!(all(h.log(), &["a"]), [2]);
    tidy_all_at(h.log(), START + 6_000);
    assert_eq!(all(h.log(), &["a"]), [0; 0]);
    // Another process had a clock that was an hour ahead: no message is younger than the opening.
    place(&h, START + hour, START + hour);
    h.reopen(true, START + 10_000);
    tidy_all_at(h.log(), START + 14_999);
    assert_eq!(all(h.log(), &["a"]), [3]);
    tidy_all_at(h.log(), START + 15_000);
    assert_eq!(all(h.log(), &["a"]), [0; 0]);
}

pub(crate) fn many_lifetimes_end_in_steps<H: Harness>() {
    let h = H::new();
    for at in 0..30 {
        for _ in 0..50 {
            publish_for(h.log(), if at % 3 == 0 { "b" } else { "a" }, 1_000 + at, START);
        }
        append(h.log(), group(&[("a", "stays")]));
    }
    tidy_all_at(h.log(), START + 2_000);
    assert_eq!(all(h.log(), &["**"]).len(), 30);
    assert_eq!(h.log().stats().messages, 30);
    assert_eq!(h.log().topics("b", None, 1)[0].messages, 0);
}
