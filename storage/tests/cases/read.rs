//! Reading: budgets, patterns, bounds, single messages, the list of topics.

use tailwire_core::{Store, log::Budget, store::Write};
use tailwire_model::{Position, Timestamp};
use tailwire_storage::testing::Writes as _;

use crate::common::{
    Harness, START, UNBOUNDED, all, append_at, draft, filter, group, positions, publish, topic,
};

pub(crate) fn a_budget_of_messages<H: Harness>() {
    let h = H::new();
    publish(h.log(), &[("a", "1"), ("b", "2"), ("a", "3"), ("b", "4"), ("a", "5")]);
    let read = |terms: &[&str], after, messages| {
        let budget = Budget { messages, ..UNBOUNDED };
        let page = h.log().read(&filter(terms), Position(after), Position::MAX, budget).unwrap();
        (positions(&page.messages), page.scanned.0)
    };
    assert_eq!(read(&["a"], 0, 2), (vec![1, 3], 4));
    assert_eq!(read(&["a"], 4, 2), (vec![5], 5));
    assert_eq!(read(&["a"], 0, 3), (vec![1, 3, 5], 5));
    assert_eq!(read(&["a", "b"], 1, 1), (vec![2], 2));
    assert_eq!(read(&["**"], 0, 0), (vec![1], 1));
}

pub(crate) fn a_budget_of_bytes_gives_one_at_least<H: Harness>() {
    let h = H::new();
    let large = "x".repeat(30_000);
    publish(h.log(), &[("a", &large), ("a", "2"), ("a", &large), ("a", "4")]);
    let read = |after, bytes| {
        let budget = Budget { bytes, ..UNBOUNDED };
        let page = h.log().read(&filter(&["a"]), Position(after), Position::MAX, budget).unwrap();
        (positions(&page.messages), page.scanned.0)
    };
    assert_eq!(read(0, 1), (vec![1], 1));
    assert_eq!(read(1, 10_000), (vec![2], 2));
    assert_eq!(read(1, 40_000), (vec![2, 3, 4], 4));
    assert_eq!(read(0, 40_000), (vec![1, 2], 2));
}

pub(crate) fn a_budget_of_the_scan<H: Harness>() {
    let h = H::new();
    let body = "x".repeat(1000);
    let names: Vec<String> = (0..600).map(|n| format!("t/{n}/x")).collect();
    let messages: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), body.as_str())).collect();
    publish(h.log(), &messages);
    let budget = Budget { scan_bytes: 20_000, ..UNBOUNDED };
    let (mut after, mut turns, mut found) = (Position::ZERO, 0, Vec::new());
    while after < h.log().newest() {
        let page = h.log().read(&filter(&["*/599/x"]), after, Position::MAX, budget).unwrap();
        assert!(page.scanned > after);
        (after, turns) = (page.scanned, turns + 1);
        found.extend(positions(&page.messages));
    }
    assert_eq!(found, [600]);
    assert!(turns > 10, "{turns}");
}

pub(crate) fn upto_is_honoured<H: Harness>() {
    let h = H::new();
    publish(h.log(), &[("a", "1"), ("a", "2"), ("a", "3")]);
    let read = |after, upto| {
        let page = h.log().read(&filter(&["a"]), Position(after), Position(upto), UNBOUNDED).unwrap();
        (positions(&page.messages), page.scanned.0)
    };
    assert_eq!(read(0, 2), (vec![1, 2], 2));
    assert_eq!(read(2, 2), (vec![], 2));
    assert_eq!(read(3, 9), (vec![], 3));
    assert_eq!(read(2, 1), (vec![], 2));
}

pub(crate) fn patterns_match<H: Harness>() {
    let h = H::new();
    publish(h.log(), &[("a", "1"), ("a/b", "2"), ("a/c", "3"), ("a/b/c", "4"), ("$sys/x", "5"), ("ab", "6")]);
    assert_eq!(all(h.log(), &["a/*"]), [2, 3]);
    assert_eq!(all(h.log(), &["a/**"]), [2, 3, 4]);
    assert_eq!(all(h.log(), &["*"]), [1, 6]);
    assert_eq!(all(h.log(), &["**"]), [1, 2, 3, 4, 6]);
    assert_eq!(all(h.log(), &["$sys/x", "a", "*/b"]), [1, 2, 5]);
    assert_eq!(all(h.log(), &["a/*", "a/b", "a/**"]), [2, 3, 4]);
}

pub(crate) fn many_topics_are_merged<H: Harness>() {
    let h = H::new();
    let names: Vec<String> = (0..400).map(|n| format!("t/{}/{}", n % 300, n % 2)).collect();
    let messages: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
    publish(h.log(), &messages);
    let even: Vec<u64> = (0..400).filter(|n| n % 2 == 0).map(|n| n + 1).collect();
    assert_eq!(all(h.log(), &["t/*/0"]), even);
    assert_eq!(all(h.log(), &["t/7/*", "t/9/1"]), [8, 10, 308, 310]);
    let page = h.log().read(&filter(&["*/*/0"]), Position::ZERO, Position(201), UNBOUNDED).unwrap();
    assert_eq!((positions(&page.messages), page.scanned), (even[..=100].to_vec(), Position(201)));
    // From every place, also from within what is stored together.
    for after in 0..400 {
        let budget = Budget { messages: 2, ..UNBOUNDED };
        let page = h.log().read(&filter(&["*/*/0"]), Position(after), Position::MAX, budget).unwrap();
        let wanted: Vec<u64> = even.iter().copied().filter(|&position| position > after).take(2).collect();
        assert_eq!(positions(&page.messages), wanted);
    }
}

pub(crate) fn bounds_of_filters<H: Harness>() {
    let h = H::new();
    append_at(h.log(), group(&[("a/x", "1")]), START);
    append_at(h.log(), group(&[("a/y", "2"), ("b", "3")]), START + 5);
    let bounds = |terms: &[&str]| {
        let bounds = h.log().bounds(&filter(terms));
        (bounds.head.map(|head| head.0), bounds.tail.0, bounds.tail_time.map(|time| time.0 - START))
    };
    assert_eq!(bounds(&["a/x"]), (Some(1), 1, Some(0)));
    assert_eq!(bounds(&["a/*"]), (Some(1), 2, Some(5)));
    assert_eq!(bounds(&["**"]), (Some(1), 3, Some(5)));
    assert_eq!(bounds(&["c", "d/*"]), (None, 0, None));
}

pub(crate) fn the_interval_of_a_topic<H: Harness>() {
    let h = H::new();
    append_at(h.log(), group(&[("a", "1")]), START);
    assert_eq!(h.log().bounds(&filter(&["a"])).interval_ms, None);
    for n in 1..20 {
        append_at(h.log(), group(&[("a", "1")]), START + n * 1000);
    }
    assert_eq!(h.log().bounds(&filter(&["a"])).interval_ms, Some(1000));
    assert_eq!(h.log().bounds(&filter(&["*"])).interval_ms, None);
}

pub(crate) fn before_last_counts_backwards<H: Harness>() {
    let h = H::new();
    publish(h.log(), &[("a", "1"), ("b", "2"), ("a", "3"), ("c", "4"), ("a", "5"), ("b", "6")]);
    let last = |terms: &[&str], count| h.log().before_newest(&filter(terms), count).unwrap().0;
    assert_eq!(last(&["a"], 1), 4);
    assert_eq!(last(&["a"], 2), 2);
    assert_eq!(last(&["b"], 9), 1);
    assert_eq!(last(&["a", "b"], 3), 2);
    assert_eq!(last(&["*"], 4), 2);
    assert_eq!(last(&["d"], 1), 6);
    assert_eq!(last(&["a"], 0), 6);
}

pub(crate) fn a_window_ends_where_it_is_told<H: Harness>() {
    let h = H::new();
    publish(h.log(), &[("a", "1"), ("b", "2"), ("a", "3"), ("c", "4"), ("a", "5"), ("b", "6")]);
    let window = |terms: &[&str], upto, messages, bytes| {
        let budget = Budget { messages, bytes, scan_bytes: usize::MAX };
        let window = h.log().before_last(&filter(terms), Position(upto), budget).unwrap();
        (window.after.0, window.is_full)
    };
    assert_eq!(window(&["a"], 4, 1, usize::MAX), (2, true));
    assert_eq!(window(&["a"], 4, 2, usize::MAX), (0, false));
    assert_eq!(window(&["a"], 4, 9, usize::MAX), (0, false));
    assert_eq!(window(&["a", "b"], 5, 2, usize::MAX), (2, true));
    assert_eq!(window(&["*"], 3, 9, usize::MAX), (0, false));
    assert_eq!(window(&["d"], 3, 9, usize::MAX), (3, false));
    assert_eq!(window(&["a"], 0, 9, usize::MAX), (0, false));
    // The first is given whatever its size.
    assert_eq!(window(&["*"], 4, 9, 1), (3, true));
    assert_eq!(window(&["*"], 4, 9, 2 * draft("a", "1").cost()), (2, true));
}

pub(crate) fn a_time_is_a_place<H: Harness>() {
    let mut h = H::new();
    assert_eq!(h.log().before_time(Timestamp(START)), Ok(Position(0)));
    let publish_at = |h: &H, at: u64| {
        append_at(h.log(), group(&[("a", "1"), ("b", "2")]), START + at);
    };
    // The fourth comes when the clock is an hour ahead, and the fifth when it is right again.
    [0, 10, 20, 3_600_000, 40, 50].iter().for_each(|&at| publish_at(&h, at));
    let check = |h: &H| {
        let place = |at: u64| h.log().before_time(Timestamp(START + at)).unwrap().0;
        assert_eq!([0, 1, 10, 20].map(place), [0, 2, 2, 4]);
        // So all is given that may be meant.
        assert_eq!([21, 40, 50, 60, 3_600_000].map(place), [6; 5]);
        assert_eq!(place(3_600_001), 12);
        assert_eq!(h.log().before_time(Timestamp(0)), Ok(Position(0)));
        assert_eq!(h.log().before_time(Timestamp(u64::MAX)), Ok(Position(12)));
    };
    check(&h);
    h.reopen(false, START + 100);
    check(&h);
    // What is gone lies after the place, where it was of that time or later.
    h.log()
        .write(
            vec![Write::Retain(topic("a"), Position(3)), Write::Retain(topic("b"), Position(4))],
            Timestamp(START),
        )
        .unwrap();
    h.log().tidy_all(Timestamp(START));
    for (at, most) in [(0, 0), (10, 2), (20, 4)] {
        let place = h.log().before_time(Timestamp(START + at)).unwrap().0;
        assert!(place <= most, "{at}: {place}");
    }
    assert_eq!(h.log().before_time(Timestamp(START + 20)), Ok(Position(4)));
    h.reopen(true, START + 100);
    publish_at(&h, 3_600_002);
    assert_eq!(h.log().before_time(Timestamp(START + 3_600_002)), Ok(Position(12)));
}

pub(crate) fn get_finds_one_message<H: Harness>() {
    let h = H::new();
    let large = "x".repeat(100_000);
    publish(h.log(), &[("a", "1"), ("b", &large), ("a", "3")]);
    let body = |position| h.log().get(Position(position)).unwrap().map(|message| message.draft.body);
    assert_eq!(body(1).as_deref(), Some(&b"1"[..]));
    assert_eq!(body(2).as_deref(), Some(large.as_bytes()));
    assert_eq!((body(0), body(4)), (None, None));
    assert_eq!(h.log().get(Position(3)).unwrap().unwrap().topic(), &topic("a"));
}

pub(crate) fn topics_are_paged<H: Harness>() {
    let h = H::new();
    publish(h.log(), &[("b/1", "1"), ("a", "2"), ("b/2", "3"), ("b/2", "4"), ("c", "5"), ("b", "6")]);
    let list = |prefix, from, limit| {
        let topics = h.log().topics(prefix, from, limit);
        topics.iter().map(|info| info.topic.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(list("", None, 10), ["a", "b", "b/1", "b/2", "c"]);
    assert_eq!(list("b", None, 2), ["b", "b/1"]);
    assert_eq!(list("b", Some("b/1"), 2), ["b/2"]);
    assert_eq!(list("b/", Some("a"), 9), ["b/1", "b/2"]);
    assert_eq!(list("", Some("c"), 9), [""; 0]);
    let info = &h.log().topics("b/2", None, 1)[0];
    assert_eq!((info.head, info.tail, info.messages), (Some(Position(3)), Position(4), 2));
    assert_eq!(info.tail_time, Timestamp(START));
}
