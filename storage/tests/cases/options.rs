//! Options: what each durability keeps over a restart, what retention takes, what compaction leaves.

use std::sync::Arc;

use tailwire_core::{Store, log::Appended};
use tailwire_model::{
    Bound, Condition, Durability, Keep, Options, Position, Term, Timestamp, Trim, TrimReason,
    limits::RELAXED_FLUSH_MS,
};
use tailwire_storage::testing::Writes as _;

use crate::common::{
    Harness, Recorder, START, UNBOUNDED, all, append, append_at, bodies, filter, given, group, positions,
    publish, stored, tidy_all, tidy_all_at, topic, with_key,
};

fn set(log: &impl Store, name: &str, options: Options) {
    log.set_options(&Term::parse(name).unwrap(), options).unwrap();
}

fn keep(keep: Keep) -> Options {
    Options { keep: Some(keep), ..Options::default() }
}

fn durability(durability: Durability) -> Options {
    Options { durability: Some(durability), ..Options::default() }
}

fn trimmed(log: &impl Store, name: &str) -> Option<Trim> {
    log.bounds(&filter(&[name])).trimmed
}

pub(crate) fn options_take_effect_and_survive<H: Harness>() {
    let mut h = H::new();
    let options =
        Options { max_messages: Some(Bound(3)), max_age_ms: Some(Bound::NONE), ..keep(Keep::Compact) };
    let term = Term::parse("a/**").unwrap();
    h.log().set_options(&term, options.clone()).unwrap();
    for close in [true, false] {
        assert_eq!(h.log().rules().own(&term), options);
        assert_eq!(h.log().rules().of(&topic("a/b")).max_messages, Some(3));
        h.reopen(close, START);
    }
    set(h.log(), "a/**", Options::default());
    h.reopen(false, START);
    assert!(h.log().rules().is_empty());
}

pub(crate) fn the_oldest_beyond_a_count_go<H: Harness>() {
    let mut h = H::new();
    set(h.log(), "a", Options { max_messages: Some(Bound(2)), ..Options::default() });
    publish(h.log(), &[("a", "1"), ("b", "2"), ("a", "3"), ("a", "4"), ("b", "5"), ("a", "6")]);
    tidy_all(h.log());
    assert_eq!((all(h.log(), &["a"]), all(h.log(), &["b"])), (vec![4, 6], vec![2, 5]));
    assert_eq!(trimmed(h.log(), "a"), Some(Trim { upto: Position(3), reason: TrimReason::Retention }));
    h.reopen(true, START);
    publish(h.log(), &[("a", "7")]);
    tidy_all(h.log());
    assert_eq!(all(h.log(), &["**"]), [2, 5, 6, 7]);
    // Stored messages are looked at when the rule changes.
    set(h.log(), "**", Options { max_messages: Some(Bound(1)), ..Options::default() });
    set(h.log(), "a", Options::default());
    tidy_all(h.log());
    assert_eq!(all(h.log(), &["**"]), [5, 7]);
}

pub(crate) fn the_oldest_beyond_a_size_go<H: Harness>() {
    let h = H::new();
    let body = "x".repeat(100);
    let cost = 64 + 1 + body.len() as u64;
    set(h.log(), "a", Options { max_bytes: Some(Bound(3 * cost)), ..Options::default() });
    publish(h.log(), &[("a", body.as_str()); 7]);
    publish(h.log(), &[("b", body.as_str()); 7]);
    tidy_all(h.log());
    assert_eq!((all(h.log(), &["a"]), all(h.log(), &["b"]).len()), (vec![5, 6, 7], 7));
    assert_eq!(h.log().stats().bytes, 10 * cost);
    let large = "y".repeat(20_000);
    publish(h.log(), &[("a", &large)]);
    tidy_all(h.log());
    assert_eq!(all(h.log(), &["a"]), [15], "the newest stays, however large");
    h.log().trim(&topic("a"), TrimReason::Deleted).unwrap();
    append(h.log(), group(&[("a", &body)]));
    tidy_all(h.log());
    assert_eq!(h.log().stats().bytes, 8 * cost);
}

pub(crate) fn the_old_go<H: Harness>() {
    let mut h = H::new();
    let aged = |ms| Options { max_age_ms: Some(Bound(ms)), ..Options::default() };
    set(h.log(), "*", aged(10_000));
    set(h.log(), "b", aged(20_000));
    for (at, name) in ["a", "b", "a", "b", "a"].into_iter().enumerate() {
        append_at(h.log(), group(&[(name, "1")]), START + 2_000 * at as u64);
    }
    tidy_all_at(h.log(), START + 9_000);
    assert_eq!(all(h.log(), &["**"]), [1, 2, 3, 4, 5]);
    tidy_all_at(h.log(), START + 11_000);
    assert_eq!(all(h.log(), &["**"]), [2, 3, 4, 5]);
    h.reopen(false, START + 11_000);
    tidy_all_at(h.log(), START + 19_000);
    assert_eq!(all(h.log(), &["**"]), [2, 4]);
    assert_eq!(trimmed(h.log(), "a"), Some(Trim { upto: Position(5), reason: TrimReason::Retention }));
    tidy_all_at(h.log(), START + 23_000);
    assert_eq!(all(h.log(), &["**"]), [4]);
    assert!(
        h.log().tidy_at(Timestamp(START + 23_000)).unwrap().is_some_and(|ms| ms > 0),
        "it asks to be called again"
    );
}

pub(crate) fn the_newest_of_a_key_stays<H: Harness>() {
    let mut h = H::new();
    set(h.log(), "a", keep(Keep::Compact));
    let put = |log: &H::Store, key, body| append(log, with_key(group(&[("a", body)]), key));
    put(h.log(), "k", "1");
    put(h.log(), "l", "2");
    put(h.log(), "k", "3");
    put(h.log(), "k", "4");
    append(h.log(), group(&[("a", "keyless")]));
    append(h.log(), with_key(group(&[("b", "other")]), "k"));
    for close in [true, false] {
        assert_eq!(bodies(h.log(), &["a"]), ["2", "4", "keyless"]);
        assert_eq!(all(h.log(), &["**"]), [2, 4, 5, 6]);
        assert_eq!(h.log().get(Position(3)), Ok(None));
        assert_eq!(trimmed(h.log(), "a"), None, "compaction is no gap");
        assert_eq!(h.log().topics("a", None, 1)[0].messages, 3);
        tidy_all(h.log());
        h.reopen(close, START);
        tidy_all(h.log());
    }
    put(h.log(), "l", "7");
    assert_eq!(bodies(h.log(), &["a"]), ["4", "keyless", "7"]);
}

pub(crate) fn what_is_stored_is_compacted_later<H: Harness>() {
    let mut h = H::new();
    for round in 0..3 {
        for key in ["k", "l"] {
            append(h.log(), with_key(group(&[("a", &format!("{key}{round}"))]), key));
        }
    }
    set(h.log(), "a", keep(Keep::Compact));
    append(h.log(), with_key(group(&[("a", "k3")]), "k"));
    tidy_all(h.log());
    assert_eq!(bodies(h.log(), &["a"]), ["l2", "k3"]);
    set(h.log(), "a", keep(Keep::Last));
    tidy_all(h.log());
    assert_eq!(bodies(h.log(), &["a"]), ["k3"]);
    publish(h.log(), &[("a", "8"), ("a", "9")]);
    assert_eq!(bodies(h.log(), &["a"]), ["9"]);
    h.reopen(false, START);
    tidy_all(h.log());
    assert_eq!(bodies(h.log(), &["**"]), ["9"]);
    assert_eq!(all(h.log(), &["a"]), [9]);
}

pub(crate) fn relaxed_messages_ask_to_be_flushed<H: Harness>() {
    let mut h = H::new();
    let feed = Arc::new(Recorder::default());
    h.log().follow(feed.clone());
    set(h.log(), "a", durability(Durability::Relaxed));
    publish(h.log(), &[("a", "1")]);
    assert_eq!((feed.0.lock().len(), all(h.log(), &["a"])), (2, vec![1]));
    let again = h.log().tidy_at(Timestamp(START)).unwrap();
    assert!(again.is_none_or(|ms| ms <= RELAXED_FLUSH_MS), "{again:?}");
    tidy_all_at(h.log(), START + RELAXED_FLUSH_MS);
    h.reopen(false, START);
    assert_eq!(bodies(h.log(), &["a"]), ["1"]);
}

pub(crate) fn memory_is_read_like_the_rest<H: Harness>() {
    let h = H::new();
    set(h.log(), "m/*", durability(Durability::Memory));
    publish(h.log(), &[("m/a", "1"), ("d", "2"), ("m/b", "3")]);
    let first = stored(append(h.log(), group(&[("d", "4"), ("m/a", "5"), ("m/a", "6")]))).first;
    assert_eq!(first.position, Position(4));
    assert_eq!(bodies(h.log(), &["**"]), ["1", "2", "3", "4", "5", "6"]);
    assert_eq!((all(h.log(), &["m/a"]), all(h.log(), &["m/*"])), (vec![1, 5, 6], vec![1, 3, 5, 6]));
    let page = h.log().read(&filter(&["**"]), Position(2), Position(5), UNBOUNDED).unwrap();
    assert_eq!(positions(&page.messages), [3, 4, 5]);
    for (count, before) in [(1, 5), (2, 4), (3, 3), (9, 0)] {
        assert_eq!(h.log().before_newest(&filter(&["**"]), count), Ok(Position(before)));
    }
    assert_eq!(h.log().get(Position(5)).unwrap().unwrap().topic(), &topic("m/a"));
    let bounds = h.log().bounds(&filter(&["m/a"]));
    assert_eq!((bounds.head, bounds.tail), (Some(Position(1)), Position(6)));
    assert_eq!(h.log().topics("m", None, 9).iter().map(|info| info.messages).collect::<Vec<_>>(), [3, 1]);
    let never = given(group(&[("m/a", "7")]), Condition::NeverWritten);
    assert!(matches!(append(h.log(), never), Appended::ConditionFailed(_)));
    h.log().trim(&topic("m/a"), TrimReason::Deleted).unwrap();
    assert_eq!(all(h.log(), &["**"]), [2, 3, 4]);
}
