//! Trimming and tidying.

use tailwire_core::Store;
use tailwire_model::{Position, Timestamp, Trim, TrimReason};
use tailwire_storage::testing::Writes as _;

use crate::common::{
    Harness, START, UNBOUNDED, all, append, bodies, filter, group, positions, publish, tidy_all, topic,
};

pub(crate) fn a_trim_takes_what_is_there<H: Harness>() {
    let h = H::new();
    publish(h.log(), &[("a", "1"), ("b", "2"), ("a", "3")]);
    h.log().trim(&topic("a"), TrimReason::Deleted).unwrap();
    let trim = Some(Trim { upto: Position(3), reason: TrimReason::Deleted });
    let page = h.log().read(&filter(&["a"]), Position::ZERO, Position::MAX, UNBOUNDED).unwrap();
    assert_eq!((positions(&page.messages), page.trimmed), (vec![], trim));
    assert_eq!(all(h.log(), &["**"]), [2]);
    assert_eq!(h.log().get(Position(1)), Ok(None));
    assert_eq!(h.log().newest(), Position(3));
    let bounds = h.log().bounds(&filter(&["a"]));
    assert_eq!((bounds.head, bounds.tail, bounds.trimmed), (None, Position(3), trim));
    assert_eq!(bounds.tail_time, Some(Timestamp(START)));
}

pub(crate) fn a_trim_spares_what_is_newer<H: Harness>() {
    let h = H::new();
    append(h.log(), group(&[("a", "1")]));
    h.log().trim(&topic("a"), TrimReason::Retention).unwrap();
    append(h.log(), group(&[("a", "2")]));
    assert_eq!(all(h.log(), &["a"]), [2]);
    let trimmed = h.log().bounds(&filter(&["a"])).trimmed;
    assert_eq!(trimmed, Some(Trim { upto: Position(1), reason: TrimReason::Retention }));
}

pub(crate) fn a_trim_of_nothing_is_nothing<H: Harness>() {
    let h = H::new();
    publish(h.log(), &[("a", "1")]);
    h.log().trim(&topic("a"), TrimReason::Retention).unwrap();
    h.log().trim(&topic("b"), TrimReason::Deleted).unwrap();
    h.log().trim(&topic("a"), TrimReason::Deleted).unwrap();
    let trimmed = h.log().bounds(&filter(&["a"])).trimmed;
    assert_eq!(trimmed, Some(Trim { upto: Position(1), reason: TrimReason::Retention }));
    assert_eq!(h.log().topics("", None, 9).len(), 1);
}

pub(crate) fn the_farthest_trim_of_a_filter<H: Harness>() {
    let h = H::new();
    publish(h.log(), &[("a/x", "1"), ("a/y", "2"), ("b", "3"), ("a/x", "4")]);
    for name in ["a/y", "b"] {
        h.log().trim(&topic(name), TrimReason::Deleted).unwrap();
    }
    let trimmed = |terms: &[&str], after| {
        let page = h.log().read(&filter(terms), Position(after), Position::MAX, UNBOUNDED).unwrap();
        page.trimmed.map(|trim| trim.upto.0).filter(|&upto| upto > after)
    };
    assert_eq!(trimmed(&["a/*"], 0), Some(2));
    assert_eq!(trimmed(&["a/*"], 2), None);
    assert_eq!(trimmed(&["a/x", "b"], 0), Some(3));
    assert_eq!(trimmed(&["**"], 0), Some(3));
    assert_eq!(trimmed(&["a/x"], 0), None);
}

pub(crate) fn tidying_changes_nothing_that_is_read<H: Harness>() {
    let mut h = H::new();
    let large = "x".repeat(20_000);
    publish(h.log(), &[("a", "1"), ("b", "2"), ("a", &large), ("b", &large), ("a", "5")]);
    h.log().trim(&topic("a"), TrimReason::Deleted).unwrap();
    tidy_all(h.log());
    for close in [true, false] {
        assert_eq!(all(h.log(), &["**"]), [2, 4]);
        assert_eq!(bodies(h.log(), &["b"]), ["2", &large]);
        assert_eq!(h.log().newest(), Position(5));
        assert_eq!(h.log().bounds(&filter(&["a"])).tail, Position(5));
        assert_eq!(h.log().topics("a", None, 9)[0].messages, 0);
        h.reopen(close, START + 1);
    }
    publish(h.log(), &[("a", "6")]);
    assert_eq!(all(h.log(), &["a"]), [6]);
}
