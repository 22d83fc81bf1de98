//! Forgotten topics after a crash at each step, and after an index that is built anew.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use bytes::Bytes;
use tailwire_core::{
    Store,
    log::{Budget, Group},
    store::{Entry, Place, Token, Write},
};
use tailwire_model::{
    Condition, Draft, Durability, Epoch, Filter, Keep, MediaType, Opening, Options, Position, Term,
    Timestamp, Topic, TrimReason, message::Extras,
};

use crate::sled_store::{
    LogSettings, SledStore,
    durability::journal,
    inspect::{Survey, repair},
    layout::{
        table,
        values::{TrimState, take_trim},
    },
};
use crate::{digest, testing::Writes as _};

fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

fn draft(name: &str, body: &str) -> Draft {
    Draft::new(topic(name), MediaType::NONE, Bytes::copy_from_slice(body.as_bytes()))
}

/// One group, so mostly one chunk.
fn together(names: &[&str]) -> Write {
    let drafts = names.iter().map(|name| draft(name, "x")).collect();
    Write::Publish(Group { drafts, key: None, condition: Condition::None })
}

fn with_key(name: &str, key: &str) -> Write {
    let mut draft = draft(name, "x");
    draft.extras = Some(Box::new(Extras { key: Some(key.into()), ..Extras::default() }));
    Write::Publish(Group { drafts: vec![draft], key: None, condition: Condition::None })
}

fn entry(number: u8, writes: Vec<Write>) -> Entry {
    let time = Timestamp(u64::from(number));
    let token = Token(Bytes::copy_from_slice(&[number]));
    let first = Position(u64::from(number) << 10);
    Entry { place: Place { first, time, steady: time, token, topics_max: u64::MAX }, writes }
}

fn copy_of(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
    }
    copy
}

fn open(dir: &Path) -> SledStore {
    SledStore::open(dir, &LogSettings::default()).unwrap()
}

fn positions(log: &SledStore, terms: &str) -> Vec<u64> {
    let budget = Budget { messages: usize::MAX, bytes: usize::MAX, scan_bytes: usize::MAX };
    let filter = Filter::from(Term::parse(terms).unwrap());
    let page = log.read(&filter, Position::ZERO, Position::MAX, budget).unwrap();
    page.messages.iter().map(|message| message.position().0).collect()
}

fn names(log: &SledStore) -> Vec<String> {
    log.topics("", None, 99).into_iter().map(|info| info.topic.as_str().to_owned()).collect()
}

fn state_of(log: &SledStore, name: &str) -> Option<TrimState> {
    let value = log.store.trims.get(name).unwrap()?;
    Some(take_trim(name.as_bytes(), &value).unwrap().2)
}

/// Topics of every kind, which an entry then forgets: `left` leaves its messages in a chunk.
fn base(dir: &Path) {
    let log = open(dir);
    let first = Epoch::opening(1_700_000_000_000, None, 0).unwrap();
    let set = |term: &str, options| Write::Options(Term::parse(term).unwrap(), options);
    let begin = vec![
        Write::Opening(first, Opening::Created),
        set("kept", Options { keep: Some(Keep::Compact), ..Options::default() }),
        set("memory", Options { durability: Some(Durability::Memory), ..Options::default() }),
        together(&["left", "stays", "stays", "stays", "stays", "left", "stays", "stays"]),
        with_key("kept", "k"),
        with_key("kept", "k"),
        with_key("kept", "j"),
        together(&["memory", "taken", "taken", "large"]),
        Write::Publish(Group {
            drafts: vec![draft("large", &"y".repeat(20_000))],
            key: None,
            condition: Condition::None,
        }),
    ];
    let many = (0..5).map(|n| together(&[&format!("many/{n}")[..], "stays"]));
    log.apply(vec![entry(1, begin.into_iter().chain(many).collect())], true).unwrap();
    let cursor = |position| log.epochs().cursor_at(Position(position));
    let taken =
        positions(&log, "taken").into_iter().map(cursor).map(|own| Write::Remove(own, TrimReason::Deleted));
    log.apply(vec![entry(2, taken.collect())], true).unwrap();
    log.tidy_all(Timestamp(2));
    log.close().unwrap();
    drop(log);
    // Half of it is tidied, and the other half not.
    let log = open(dir);
    let retain = |name: &str| Write::Retain(topic(name), Position::MAX);
    let trims = ["left", "kept", "memory", "taken"].map(retain).into_iter();
    log.apply(vec![entry(3, trims.collect())], true).unwrap();
    log.tidy_all(Timestamp(3));
    let many = (0..5).map(|n| Write::Delete(topic(&format!("many/{n}"))));
    log.apply(vec![entry(4, many.chain([Write::Delete(topic("large"))]).collect())], true).unwrap();
    log.close().unwrap();
}

fn forget_all() -> Vec<Write> {
    let named = ["left", "kept", "memory", "taken", "large", "stays"].map(str::to_owned).into_iter();
    let all = named.chain((0..5).map(|n| format!("many/{n}")));
    let forgets = all.map(|name| Write::Forget(topic(&name), Position(5 << 10)));
    let options =
        ["kept", "memory"].map(|term| Write::Options(Term::parse(term).unwrap(), Options::default()));
    options.into_iter().chain(forgets).chain([together(&["stays"])]).collect()
}

#[test]
fn a_crash_anywhere_leaves_all_of_a_forgetting_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    base(dir.path());
    let whole = copy_of(dir.path());
    let log = open(whole.path());
    let before = names(&log);
    let (run, commits) = (log.store.run().unwrap(), log.writer.lock().mark.commits);
    log.apply(vec![entry(5, forget_all())], true).unwrap();
    let wanted = digest(&log).unwrap();
    assert_eq!((before.len(), names(&log)), (11, vec!["stays".to_owned()]));
    let kept =
        ["left", "kept", "memory", "taken", "large", "many/3", "stays"].map(|name| state_of(&log, name));
    let forgotten = Some(TrimState::Forgotten);
    assert_eq!(kept, [forgotten, forgotten, None, None, None, None, None]);
    assert!(log.store.removed.is_empty() && log.store.volatile.is_empty());
    let records = journal::records_after(whole.path(), log.id(), run, commits).unwrap();
    let changes: Vec<_> = records.iter().flat_map(|record| record.changes().map(Result::unwrap)).collect();
    assert!(changes.len() > 20, "{}", changes.len());

    for count in 0..=changes.len() {
        let crashed = copy_of(dir.path());
        let log = open(crashed.path());
        for change in &changes[..count] {
            let tree = log.store.trees()[usize::from(change.tree)];
            tree.change_unnoted(change.key, change.value).unwrap();
        }
        log.store.db.flush().unwrap();
        drop(log);
        let log = open(crashed.path());
        let is_done = log.token() != Token(Bytes::from_static(&[4]));
        assert_eq!(names(&log).len(), if is_done { 1 } else { 11 }, "after {count} of {}", changes.len());
        if !is_done {
            log.apply(vec![entry(5, forget_all())], true).unwrap();
        }
        assert_eq!(digest(&log).unwrap(), wanted, "after {count} of {}", changes.len());
        assert!(!log.behind.lock().wrong);
        log.tidy_all(Timestamp(5));
        assert_eq!(digest(&log).unwrap(), wanted, "after {count} of {}, tidied", changes.len());
        assert!(log.store.latest.is_empty(), "keys of what is forgotten go");
    }
}

#[test]
fn what_is_forgotten_does_not_come_back_with_the_index_or_a_repair() {
    let dir = tempfile::tempdir().unwrap();
    let begin = |writes: Vec<Write>, log: &SledStore| log.write(writes, Timestamp(1)).map(drop).unwrap();
    let log = crate::testing::open(dir.path(), Timestamp(0), &LogSettings::default()).unwrap();
    begin(vec![together(&["left", "stays", "stays", "stays", "left", "stays", "gone"])], &log);
    begin(vec![together(&["back", "stays", "stays", "stays"])], &log);
    for name in ["left", "back", "gone"] {
        begin(vec![Write::Retain(topic(name), Position::MAX)], &log);
    }
    log.tidy_all(Timestamp(1));
    assert!(log.store.chunks.len() == 2, "too little is dead for a chunk to be written anew");
    begin(["left", "back", "gone"].map(|name| Write::Forget(topic(name), Position(11))).into(), &log);
    // One comes back, loses that too, is forgotten again, and comes back again.
    begin(vec![together(&["back", "stays", "stays"])], &log);
    begin(vec![Write::Delete(topic("back"))], &log);
    log.tidy_all(Timestamp(1));
    assert_eq!(state_of(&log, "back"), Some(TrimState::KnownAgain));
    begin(vec![Write::Forget(topic("back"), Position(12))], &log);
    assert_eq!(state_of(&log, "back"), Some(TrimState::Forgotten));
    begin(vec![together(&["back"])], &log);
    let check = |log: &SledStore| {
        assert_eq!(
            (names(log), positions(log, "back")),
            (vec!["back".to_owned(), "stays".to_owned()], vec![15])
        );
        assert_eq!(positions(log, "**"), [2, 3, 4, 6, 9, 10, 11, 13, 14, 15]);
        assert_eq!((log.stats().messages, log.stats().topics), (10, 2));
        assert_eq!(log.bounds(&Filter::from(topic("left"))).trimmed.unwrap().upto, Position(12));
        assert_eq!(log.bounds(&Filter::from(topic("back"))).trimmed.unwrap().upto, Position(12));
    };
    check(&log);
    drop(log);
    for is_built_anew in [false, true] {
        let log = crate::testing::open(dir.path(), Timestamp(2), &LogSettings::default()).unwrap();
        check(&log);
        log.tidy_all(Timestamp(2));
        check(&log);
        log.close().unwrap();
        if is_built_anew {
            table::forget(&log.store).unwrap();
            log.store.db.flush().unwrap();
        }
    }
    let log = crate::testing::open(dir.path(), Timestamp(3), &LogSettings::default()).unwrap();
    assert_eq!(log.behind.lock().mark.position, Position::ZERO, "it was built anew");
    check(&log);
    log.close().unwrap();
    drop(log);

    let survey = Survey::open(dir.path(), None).unwrap();
    let walked = survey.walk(|_| Ok::<_, tailwire_core::StoreError>(())).unwrap();
    assert_eq!((walked.findings.damages(), walked.figures.messages, walked.figures.topics), (0, 10, 2));
    let repaired = dir.path().join("repaired");
    repair(&survey, &repaired, Timestamp(4)).unwrap();
    drop(survey);
    let log = crate::testing::open(&repaired, Timestamp(5), &LogSettings::default()).unwrap();
    assert_eq!(log.bounds(&Filter::from(topic("left"))).trimmed.unwrap().upto, Position(12));
    assert_eq!((names(&log), positions(&log, "**").len()), (vec!["back".to_owned(), "stays".to_owned()], 10));
    assert_eq!([state_of(&log, "left"), state_of(&log, "back")], [None, None]);
}

#[test]
fn trims_of_forgotten_topics_go_with_the_messages_before_them() {
    let dir = tempfile::tempdir().unwrap();
    let log = crate::testing::open(dir.path(), Timestamp(0), &LogSettings::default()).unwrap();
    let write = |writes: Vec<Write>, now| log.write(writes, Timestamp(now)).map(drop).unwrap();
    write(vec![together(&["left", "stays", "stays", "stays", "stays"])], 1);
    write(vec![Write::Retain(topic("left"), Position::MAX)], 1);
    log.tidy_all(Timestamp(1));
    write(vec![Write::Forget(topic("left"), Position(1))], 1);
    log.tidy_all(Timestamp(1));
    assert_eq!(state_of(&log, "left"), Some(TrimState::Forgotten));
    write(vec![together(&["stays"]), Write::Retain(topic("stays"), Position(5))], 2);
    log.tidy_all(Timestamp(2));
    assert_eq!(state_of(&log, "left"), Some(TrimState::Forgotten), "they are looked through once an hour");
    write(vec![together(&["stays"])], 3_700_000);
    log.tidy_all(Timestamp(3_700_000));
    assert_eq!(state_of(&log, "left"), None);
    drop(log);
    let log = crate::testing::open(dir.path(), Timestamp(4_000_000), &LogSettings::default()).unwrap();
    assert_eq!((names(&log), positions(&log, "**")), (vec!["stays".to_owned()], vec![6, 7]));
    assert_eq!(log.bounds(&Filter::from(topic("left"))).trimmed.unwrap().upto, Position(1));
}
