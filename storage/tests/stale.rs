//! Cases in which the index knows too little or too much: single cases that the model found, each small enough to be read.

#![allow(clippy::unwrap_used)]

mod common;

use common::{
    Harness, Memory, OnDisk, START, all, append, bodies, filter, group, publish, tidy_all, topic, with_key,
};
use tailwire_core::{Store, log::Budget};
use tailwire_model::{Durability, Keep, Options, Position, Term, TrimReason};
use tailwire_storage::testing::Writes as _;

fn set(log: &impl Store, name: &str, options: Options) {
    log.set_options(&Term::parse(name).unwrap(), options).unwrap();
}

fn keep(keep: Keep) -> Options {
    Options { keep: Some(keep), ..Options::default() }
}

fn a_single_message_makes_way<H: Harness>() {
    let h = H::new();
    publish(h.log(), &[("a", "1")]);
    set(h.log(), "a", keep(Keep::Last));
    tidy_all(h.log());
    publish(h.log(), &[("a", "2")]);
    tidy_all(h.log());
    assert_eq!(all(h.log(), &["a"]), [2]);
}

#[test]
fn a_single_message_makes_way_in_memory() {
    a_single_message_makes_way::<Memory>();
}

#[test]
fn a_single_message_makes_way_on_disk() {
    a_single_message_makes_way::<OnDisk>();
}

#[test]
fn what_was_superseded_before_a_close_is_gone_after_it() {
    let mut h = OnDisk::new();
    set(h.log(), "a", keep(Keep::Last));
    publish(h.log(), &[("a", "1"), ("a", "2")]);
    h.reopen(true, START + 1);
    assert_eq!((h.log().get(Position(1)), all(h.log(), &["a"])), (Ok(None), vec![2]));
}

#[test]
fn postings_of_messages_that_are_gone_hide_none() {
    let mut h = OnDisk::new();
    let put = |log: &_, key: &str, body: &str| append(log, with_key(group(&[("a", body)]), key));
    for n in 0..6 {
        put(h.log(), "k", &n.to_string());
    }
    // The index is written with all of them.
    h.reopen(true, START);
    set(h.log(), "a", keep(Keep::Compact));
    for n in 6..12 {
        put(h.log(), &format!("l{n}"), &n.to_string());
    }
    tidy_all(h.log());
    let left = ["5", "6", "7", "8", "9", "10", "11"];
    assert_eq!(bodies(h.log(), &["a"]), left);
    h.reopen(false, START + 1);
    for messages in 1..9 {
        let budget = Budget { messages, bytes: usize::MAX, scan_bytes: usize::MAX };
        let (mut after, mut read) = (Position::ZERO, Vec::new());
        while after < h.log().newest() {
            let page = h.log().read(&filter(&["a"]), after, Position::MAX, budget).unwrap();
            assert!(page.messages.len() <= messages);
            read.extend(
                page.messages.iter().map(|message| String::from_utf8_lossy(&message.draft.body).into_owned()),
            );
            after = page.scanned;
        }
        assert_eq!(read, left, "pages of {messages}");
    }
}

#[test]
fn a_topic_that_lost_messages_hides_no_others_newest() {
    let mut h = OnDisk::new();
    publish(h.log(), &[("m", "1")]);
    set(h.log(), "m", Options { durability: Some(Durability::Memory), ..Options::default() });
    publish(h.log(), &[("m", "2"), ("b", "3"), ("a", "4")]);
    h.reopen(true, START + 1);
    assert_eq!(all(h.log(), &["**"]), [1, 3, 4]);
    for (count, before) in [(1, 3), (2, 2), (3, 0)] {
        assert_eq!(h.log().before_newest(&filter(&["**"]), count), Ok(Position(before)), "{count}");
    }
    assert_eq!(h.log().topics("m", None, 1)[0].topic, topic("m"));
}

#[test]
fn blocks_of_an_earlier_numbering_are_not_taken_for_another_topics() {
    let mut h = OnDisk::new();
    publish(h.log(), &[("gone", "1")]);
    // One block of each.
    for _ in 0..300 {
        append(h.log(), group(&[("a", "x"), ("b", "x")]));
    }
    h.log().trim(&topic("gone"), TrimReason::Deleted).unwrap();
    tidy_all(h.log());
    let before = all(h.log(), &["a", "b"]);
    // Without "gone" the others have other numbers.
    h.reopen(false, START + 1);
    tidy_all(h.log());
    let budget = Budget { messages: 100, bytes: usize::MAX, scan_bytes: usize::MAX };
    let page = h.log().read(&filter(&["a", "b"]), Position::ZERO, Position::MAX, budget).unwrap();
    assert_eq!(common::positions(&page.messages), before[..100]);
}
