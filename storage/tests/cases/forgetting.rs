//! Forgetting topics that hold nothing.

use tailwire_core::{
    Store,
    log::Appended,
    store::{Outcome, Write},
};
use tailwire_model::{Bound, Condition, Keep, Options, Position, Term, Timestamp, Trim, TrimReason};
use tailwire_storage::testing::Writes as _;

use crate::common::{
    Harness, START, all, append, filter, given, group, publish, stored, tidy_all, topic, with_key,
};

fn forget(log: &impl Store, name: &str, upto: u64) {
    let outcomes = log.write(vec![Write::Forget(topic(name), Position(upto))], Timestamp(START)).unwrap();
    assert_eq!(outcomes, [Outcome::Done]);
}

fn names(log: &impl Store) -> Vec<String> {
    assert_eq!(log.stats().topics, log.topics("", None, 99).len() as u64);
    log.topics("", None, 99).into_iter().map(|info| info.topic.as_str().to_owned()).collect()
}

/// How far a reader from a place on is told that it has missed messages.
fn missed(log: &impl Store, terms: &[&str], after: u64) -> Option<u64> {
    let told = log.trimmed(&filter(terms), Position(after)).filter(|trim| trim.upto.0 > after);
    let page = log.read(&filter(terms), Position(after), Position::MAX, crate::common::UNBOUNDED).unwrap();
    assert_eq!(page.trimmed.filter(|trim| trim.upto.0 > after), told);
    told.map(|trim| trim.upto.0)
}

pub(crate) fn what_holds_nothing_is_forgotten<H: Harness>() {
    let mut h = H::new();
    publish(h.log(), &[("a/x", "1"), ("b", "2"), ("a/x", "3"), ("b", "4")]);
    h.log().trim(&topic("a/x"), TrimReason::Deleted).unwrap();
    forget(h.log(), "a/x", 3);
    for close in [true, false] {
        assert_eq!(names(h.log()), ["b"]);
        let bounds = h.log().bounds(&filter(&["a/x"]));
        let trim = Some(Trim { upto: Position(3), reason: TrimReason::Retention });
        assert_eq!((bounds.head, bounds.tail, bounds.trimmed), (None, Position(0), trim));
        assert_eq!((all(h.log(), &["**"]), all(h.log(), &["a/x"])), (vec![2, 4], vec![]));
        assert_eq!(h.log().get(Position(1)), Ok(None));
        // What nobody knows any more, and any pattern; and not what is known.
        for terms in [&["a/x"][..], &["a/*"], &["**"], &["b", "a/x"], &["never"]] {
            assert_eq!(
                [0, 2, 3].map(|after| missed(h.log(), terms, after)),
                [Some(3), Some(3), None],
                "{terms:?}"
            );
        }
        assert_eq!(missed(h.log(), &["b"], 0), None);
        tidy_all(h.log());
        h.reopen(close, START + 1);
    }
}

pub(crate) fn what_holds_something_is_not_forgotten<H: Harness>() {
    let h = H::new();
    publish(h.log(), &[("kept", "1"), ("again", "2"), ("set", "3"), ("taken", "4"), ("now", "5")]);
    for name in ["again", "set", "now"] {
        h.log().trim(&topic(name), TrimReason::Deleted).unwrap();
    }
    publish(h.log(), &[("again", "6")]);
    h.log().trim(&topic("again"), TrimReason::Retention).unwrap();
    let options = Options { max_messages: Some(Bound(5)), ..Options::default() };
    h.log().set_options(&Term::parse("set").unwrap(), options).unwrap();
    let cursor = h.log().epochs().cursor_at(Position(4));
    h.log().write(vec![Write::Remove(cursor, TrimReason::Deleted)], Timestamp(START)).unwrap();
    forget(h.log(), "kept", 9);
    // Something came since that was decided.
    forget(h.log(), "again", 2);
    forget(h.log(), "set", 9);
    // It is not trimmed up to its newest.
    forget(h.log(), "taken", 9);
    forget(h.log(), "never", 9);
    assert_eq!(names(h.log()), ["again", "kept", "now", "set", "taken"]);
    // Options for a pattern don't matter, and taken back they don't, either.
    h.log()
        .set_options(&Term::parse("**").unwrap(), Options { keep: Some(Keep::Last), ..Options::default() })
        .unwrap();
    h.log().set_options(&Term::parse("set").unwrap(), Options::default()).unwrap();
    h.log().write(vec![Write::Retain(topic("taken"), Position(4))], Timestamp(START)).unwrap();
    for name in ["again", "set", "taken", "now"] {
        forget(h.log(), name, 9);
    }
    assert_eq!(names(h.log()), ["kept"]);
}

/// As one entry, which an order may take apart.
pub(crate) fn what_an_entry_is_about_it_does_not_forget<H: Harness>() {
    let h = H::new();
    publish(h.log(), &[("a", "1"), ("b", "2"), ("c", "3")]);
    for name in ["a", "b"] {
        h.log().trim(&topic(name), TrimReason::Deleted).unwrap();
    }
    let writes = vec![
        Write::Forget(topic("a"), Position(3)),
        Write::Publish(group(&[("a", "4")])),
        Write::Forget(topic("b"), Position(3)),
        Write::Delete(topic("c")),
        Write::Forget(topic("c"), Position(3)),
        Write::Publish(given(
            group(&[("b", "5")]),
            Condition::NothingAfter(h.log().epochs().cursor_at(Position(1))),
        )),
    ];
    let outcomes = h.log().write(writes, Timestamp(START)).unwrap();
    assert!(matches!(outcomes[5], Outcome::Published(Appended::ConditionFailed(_))));
    assert_eq!((names(h.log()), all(h.log(), &["**"])), (vec!["a".to_owned(), "c".to_owned()], vec![4]));
}

pub(crate) fn a_topic_that_comes_back_begins_anew<H: Harness>() {
    let mut h = H::new();
    publish(h.log(), &[("a", "1"), ("other", "2"), ("a", "3"), ("z", "4")]);
    let old = h.log().epochs().cursor_at(Position(1));
    for name in ["a", "z"] {
        h.log().trim(&topic(name), TrimReason::Deleted).unwrap();
        forget(h.log(), name, 4);
    }
    tidy_all(h.log());
    // Nothing is newer than what anybody expects, and it never had a message.
    let never = given(group(&[("a", "5")]), Condition::NeverWritten);
    assert_eq!(stored(append(h.log(), never)).first.position, Position(5));
    let expects = given(group(&[("z", "6")]), Condition::NothingAfter(old));
    assert_eq!(stored(append(h.log(), expects)).first.position, Position(6));
    let check = |log: &H::Store| {
        assert_eq!(names(log), ["a", "other", "z"]);
        assert_eq!((all(log, &["a"]), all(log, &["**"])), (vec![5], vec![2, 5, 6]));
        // Of what it had before somebody may have missed some; of what it has nothing is missing.
        assert_eq!([0, 3, 4, 5].map(|after| missed(log, &["a"], after)), [Some(4), Some(4), None, None]);
        assert_eq!([0, 4].map(|after| missed(log, &["*"], after)), [Some(4), None]);
        assert_eq!(missed(log, &["other"], 0), None);
        assert_eq!(log.bounds(&filter(&["a"])).head, Some(Position(5)));
    };
    for close in [true, false] {
        check(h.log());
        tidy_all(h.log());
        h.reopen(close, START + 1);
    }
    check(h.log());
    // Later ones of others raise nothing of it.
    publish(h.log(), &[("late", "7")]);
    h.log().trim(&topic("late"), TrimReason::Deleted).unwrap();
    forget(h.log(), "late", 7);
    assert_eq!((missed(h.log(), &["a"], 5), missed(h.log(), &["late"], 5)), (None, Some(7)));
    // And it is emptied and forgotten again.
    h.log().trim(&topic("a"), TrimReason::Retention).unwrap();
    assert_eq!(h.log().bounds(&filter(&["a"])).trimmed.unwrap().upto, Position(5));
    forget(h.log(), "a", 5);
    h.reopen(false, START + 2);
    assert_eq!(
        (names(h.log()), all(h.log(), &["**"])),
        (vec!["other".to_owned(), "z".to_owned()], vec![2, 6])
    );
}

pub(crate) fn keys_of_what_is_forgotten_take_nothing<H: Harness>() {
    let mut h = H::new();
    let compact = Options { keep: Some(Keep::Compact), ..Options::default() };
    h.log().set_options(&Term::parse("**").unwrap(), compact).unwrap();
    for n in ["1", "2", "3"] {
        append(h.log(), with_key(group(&[("a", n)]), "k"));
    }
    append(h.log(), with_key(group(&[("a", "4")]), "other"));
    h.log().trim(&topic("a"), TrimReason::Deleted).unwrap();
    forget(h.log(), "a", 4);
    append(h.log(), with_key(group(&[("a", "5")]), "k"));
    append(h.log(), with_key(group(&[("a", "6")]), "j"));
    for close in [true, false] {
        tidy_all(h.log());
        assert_eq!(all(h.log(), &["a"]), [5, 6]);
        let info = &h.log().topics("a", None, 1)[0];
        assert_eq!((info.messages, h.log().stats().messages), (2, 2));
        h.reopen(close, START + 1);
    }
    append(h.log(), with_key(group(&[("a", "7")]), "k"));
    tidy_all(h.log());
    assert_eq!((all(h.log(), &["a"]), h.log().stats().messages), (vec![6, 7], 2));
}

pub(crate) fn many_topics_come_and_go<H: Harness>() {
    let mut h = H::new();
    let large = "x".repeat(9_000);
    for round in 0..4 {
        let names: Vec<String> = (0..60).map(|n| format!("{}/{n}", round % 3)).collect();
        for chunk in names.chunks(7) {
            publish(h.log(), &chunk.iter().map(|name| (name.as_str(), "small")).collect::<Vec<_>>());
            publish(h.log(), &[("stays", "y"), (chunk[0].as_str(), &large)]);
        }
        // Enough to be sealed.
        publish(h.log(), &vec![(names[5].as_str(), "z"); 400]);
        tidy_all(h.log());
        for (n, name) in names.iter().enumerate() {
            let reason = if n % 2 == 0 { TrimReason::Deleted } else { TrimReason::Retention };
            h.log().trim(&topic(name), reason).unwrap();
        }
        if round % 2 == 0 {
            tidy_all(h.log());
        }
        let newest = h.log().newest().0;
        for name in &names {
            forget(h.log(), name, newest);
        }
        let stays = 9 * (round + 1);
        for close in [false, true] {
            assert_eq!(self::names(h.log()), ["stays"]);
            assert_eq!(all(h.log(), &["**"]).len(), stays);
            assert_eq!(h.log().topics("", None, 1)[0].messages, stays as u64);
            tidy_all(h.log());
            h.reopen(close, START + 1);
        }
    }
}
