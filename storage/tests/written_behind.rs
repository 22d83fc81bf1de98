//! The index as it is written behind: whatever of it is missing, damaged or out of date at an opening, the log answers the
//! same as before.

#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, path::Path};

use common::{
    Harness, OnDisk, START, UNBOUNDED, all, append, copy_files, filter, group, publish, tidy_all, topic,
    with_tree,
};
use tailwire_core::{
    Store, StoreError,
    log::{Group, TopicInfo},
};
use tailwire_model::{Position, TrimReason};
use tailwire_storage::testing::Writes as _;
use tailwire_storage::{OpenError, SledStore};
use tempfile::TempDir;

type Spoil = fn(&sled::Tree);

/// Messages of one topic that are certainly sealed in part.
const MANY: usize = 1000;

/// Everything that a client can ask about where messages are.
#[derive(Debug, PartialEq)]
struct Answers {
    topics: Vec<TopicInfo>,
    positions: Vec<Vec<u64>>,
    last: Vec<Position>,
    heads: Vec<Option<Position>>,
    messages: u64,
}

fn answers(log: &SledStore) -> Answers {
    let filters: [&[&str]; 5] = [&["many"], &["few/1"], &["few/*"], &["**"], &["late"]];
    let last = |terms: &&[&str]| [1, 150, 700].map(|count| log.before_newest(&filter(terms), count).unwrap());
    Answers {
        topics: log.topics("", None, 99),
        positions: filters.iter().map(|terms| all(log, terms)).collect(),
        last: filters.iter().flat_map(last).collect(),
        heads: filters.iter().map(|terms| log.bounds(&filter(terms)).head).collect(),
        messages: log.stats().messages,
    }
}

fn many(topic: &str, count: usize) -> Group {
    group(&vec![(topic, "x"); count])
}

/// A log with sealed postings, a trimmed topic, and all of its index written.
fn written() -> OnDisk {
    let h = OnDisk::new();
    for round in 0..4 {
        append(h.log(), many("many", MANY / 4));
        publish(h.log(), &[("few/1", "a"), ("few/2", "b"), ("few/1", "c"), ("gone", "d")]);
        if round == 2 {
            h.log().trim(&topic("gone"), TrimReason::Deleted).unwrap();
        }
        tidy_all(h.log());
    }
    h.log().close().unwrap();
    h
}

/// The answers of a log after something was done to its files.
fn after(h: &mut OnDisk, change: impl FnOnce(&Path)) -> Answers {
    h.crash(change);
    answers(h.open(START + 1).unwrap())
}

fn is_marked(dir: &Path) -> bool {
    with_tree(dir, "meta", |meta| meta.contains_key("indexed").unwrap())
}

fn flip(tree: &sled::Tree, key: impl AsRef<[u8]>) {
    let mut value = tree.get(&key).unwrap().unwrap().to_vec();
    value[3] ^= 1;
    tree.insert(key, value).unwrap();
}

/// The files of a log, to be put back later.
fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    with_tree(from, "meta", |_| ());
    copy_files(from, to.path());
    to
}

#[test]
fn a_written_index_answers_like_the_one_before() {
    let mut h = written();
    let before = answers(h.log());
    assert_eq!(before.messages, MANY as u64 + 13);
    for _ in 0..2 {
        assert_eq!(after(&mut h, |dir| assert!(is_marked(dir))), before);
    }
    // And without any of it.
    let bare = |dir: &Path| {
        with_tree(dir, "meta", |meta| drop(meta.remove("indexed").unwrap()));
        for name in ["topics", "postings"] {
            with_tree(dir, name, |tree| tree.clear().unwrap());
        }
    };
    assert_eq!(after(&mut h, bare), before);
}

#[test]
fn whatever_is_wrong_with_it_no_message_is_lost() {
    let wrongs: [(&str, Spoil); 6] = [
        ("topics", |tree| flip(tree, [0; 4])),
        ("topics", |tree| drop(tree.remove([0; 4]).unwrap())),
        ("topics", |tree| tree.clear().unwrap()),
        ("meta", |tree| flip(tree, "indexed")),
        ("meta", |tree| drop(tree.remove("indexed").unwrap())),
        ("postings", |tree| flip(tree, tree.iter().keys().nth(2).unwrap().unwrap())),
    ];
    let mut h = written();
    let before = answers(h.log());
    h.crash(|_| {});
    let files = copy(h.dir());
    for (name, spoil) in wrongs {
        let found = after(&mut h, |dir| {
            with_tree(dir, "meta", |_| ());
            fs::remove_dir_all(dir).unwrap();
            copy_files(files.path(), dir);
            with_tree(dir, name, spoil);
        });
        assert_eq!(found, before, "{name}");
        // Damage that was noticed only while reading is mended by the opening after it.
        assert_eq!(after(&mut h, |_| {}), before, "{name}");
    }
}

#[test]
fn shelves_that_are_out_of_date_are_noticed() {
    let mut h = written();
    let mut old = Vec::new();
    h.crash(|dir| old = with_tree(dir, "topics", |tree| tree.iter().map(Result::unwrap).collect()));
    h.open(START + 1).unwrap();
    publish(h.log(), &[("many", "late"), ("late", "late")]);
    h.log().close().unwrap();
    let before = answers(h.log());
    let found = after(&mut h, |dir| {
        with_tree(dir, "topics", |tree| {
            for (key, value) in &old {
                tree.insert(key, value).unwrap();
            }
        });
    });
    assert_eq!(found, before);
}

#[test]
fn messages_that_the_store_lost_are_lost_to_the_index_too() {
    let mut h = written();
    let before = answers(h.log());
    let mut lost = 0;
    h.crash(|dir| {
        let (first, _) = with_tree(dir, "chunks", |chunks| chunks.pop_max().unwrap().unwrap());
        lost = u64::from_be_bytes(first.as_ref().try_into().unwrap());
    });
    let found = answers(h.open_accepting_loss(START + 1).unwrap());
    assert!(found.messages < before.messages);
    for (found, before) in found.positions.iter().zip(&before.positions) {
        assert!(found.iter().eq(before.iter().filter(|&&position| position < lost)));
    }
}

#[test]
fn a_message_that_the_store_lost_is_told() {
    let lose = |dir: &Path| with_tree(dir, "chunks", |chunks| drop(chunks.pop_min().unwrap().unwrap()));
    let mut h = written();
    h.crash(lose);
    let refused = h.open(START + 1).err();
    assert!(
        matches!(refused, Some(OpenError::Short(what)) if what.contains("missing")),
        "what came since an opening is counted"
    );
    // And what was there before it is noticed where it is read.
    let mut h = written();
    h.crash(|_| {});
    h.open(START + 1).unwrap().close().unwrap();
    h.crash(lose);
    let log = h.open(START + 2).unwrap();
    let page = log.read(&filter(&["many"]), Position::ZERO, Position::MAX, UNBOUNDED);
    assert!(matches!(page, Err(StoreError::Corrupt(what)) if what.contains("missing")));
}
