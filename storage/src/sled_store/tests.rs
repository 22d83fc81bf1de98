//! A disk that fails: what can't be shown from outside.

#![allow(clippy::unwrap_used)]

use std::{
    collections::HashSet,
    fs, io,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use bytes::Bytes;
use tailwire_core::{
    Store, StoreError,
    log::{Budget, Group},
    store::{Entry, Place, Token, Write},
};
use tailwire_model::{
    Condition, Draft, Epoch, Filter, Fingerprint, IdempotencyKey, Keep, MediaType, Opening, Options,
    Position, Term, Timestamp, Topic, TrimReason, message::Extras,
};

use super::{
    LogSettings, SledStore,
    durability::{checkpoint::Disk, journal, watermark::Watermark},
    inspect::{RepairError, Survey, repair},
};
use crate::{digest::digest, testing::Writes as _};

mod taken;

struct BrokenDisk;

impl Disk for BrokenDisk {
    fn sync(&self) -> io::Result<()> {
        Err(io::Error::other("broken"))
    }
}

fn group(topic: &Topic, body: &'static str) -> Group {
    let draft = Draft::new(topic.clone(), MediaType::NONE, Bytes::from_static(body.as_bytes()));
    Group { drafts: vec![draft], key: None, condition: Condition::None }
}

/// A log of one message, and its topic.
fn with_one_message() -> (tempfile::TempDir, SledStore, Topic) {
    let dir = tempfile::tempdir().unwrap();
    let log = crate::testing::open(dir.path(), Timestamp(0), &LogSettings::default()).unwrap();
    let topic = Topic::parse("a").unwrap();
    log.append(vec![group(&topic, "1")], Timestamp(1)).unwrap();
    (dir, log, topic)
}

/// A disk that fails once, and then says that all is well.
#[derive(Default)]
struct FailsOnce(AtomicBool);

impl Disk for FailsOnce {
    fn sync(&self) -> io::Result<()> {
        if self.0.swap(true, Ordering::SeqCst) { Ok(()) } else { Err(io::Error::other("broken")) }
    }
}

#[test]
fn a_sync_that_failed_between_commits_is_not_forgotten() {
    let (dir, log, topic) = with_one_message();
    *log.store.checkpoints.disk.lock() = Box::<FailsOnce>::default();
    log.store.checkpoints.wrote_pages(2 << 20).unwrap_err();
    let is_dirty = || Watermark::find(dir.path()).unwrap().unwrap().map(|mark| mark.is_dirty);
    assert_eq!(is_dirty(), Some(true), "also if the process ends here");
    assert!(matches!(log.tidy_at(Timestamp(0)), Err(StoreError::Unknown(_))));
    assert!(matches!(log.append(vec![group(&topic, "2")], Timestamp(1)), Err(StoreError::Failed(_))));
    drop(log);
    assert_eq!(is_dirty(), Some(true));
}

#[test]
fn after_a_failed_sync_the_log_reads_and_refuses() {
    let (_dir, log, topic) = with_one_message();
    log.store.journal.set_disk(Box::new(BrokenDisk));
    assert!(matches!(log.append(vec![group(&topic, "2")], Timestamp(1)), Err(StoreError::Unknown(_))));
    assert!(matches!(log.append(vec![group(&topic, "3")], Timestamp(1)), Err(StoreError::Failed(_))));
    assert!(matches!(log.trim(&topic, TrimReason::Deleted), Err(StoreError::Failed(_))));
    assert_eq!(log.tidy_at(Timestamp(0)), Ok(None), "a log that failed is left as it is");
    assert!(matches!(log.close(), Err(StoreError::Failed(_))));
    assert_eq!(log.newest(), Position(1));
    let budget = Budget { messages: 9, bytes: 999, scan_bytes: 9999 };
    let page = log.read(&Filter::from(topic), Position::ZERO, Position::MAX, budget).unwrap();
    assert_eq!(page.messages.len(), 1);
}

#[test]
fn a_crash_while_a_message_is_taken_out_of_a_chunk_loses_nothing() {
    let topic = Topic::parse("a").unwrap();
    for (count, is_done) in [(0, false), (0, true), (1, false), (1, true)] {
        let dir = tempfile::tempdir().unwrap();
        let log = crate::testing::open(dir.path(), Timestamp(0), &LogSettings::default()).unwrap();
        log.append(vec![group(&topic, "1"), group(&topic, "2")], Timestamp(1)).unwrap();
        log.append(vec![group(&topic, "3")], Timestamp(1)).unwrap();
        let chunk = log.store.chunk_at(Position(1)).unwrap().unwrap();
        let (rest, _) = chunk.retain(|record| record.position == Position(2)).unwrap();
        log.store.shrink(&chunk, (count > 0).then_some(rest), count).unwrap();
        if !is_done {
            let (whole, _) = chunk.retain(|_| true).unwrap();
            log.store.chunks.insert(chunk.first.0.to_be_bytes(), whole).unwrap();
        }
        log.store.db.flush().unwrap();
        drop(log);
        let log = crate::testing::open(dir.path(), Timestamp(2), &LogSettings::default()).unwrap();
        let left = if is_done { usize::from(count) + 1 } else { 3 };
        assert_eq!(positions(&log, "a").len(), left);
        drop(log);
        crate::testing::open(dir.path(), Timestamp(3), &LogSettings::default()).unwrap();
    }
}

/// A token of an order, by which a store knows what it has applied.
fn token(number: u8) -> Token {
    Token(Bytes::copy_from_slice(&[number]))
}

/// An entry of another order than the local one: what a crash has cut off is applied again.
fn entry(number: u8, writes: Vec<Write>) -> Entry {
    let time = Timestamp(u64::from(number));
    let place = Place {
        first: Position(u64::from(number) << 10),
        time,
        steady: time,
        token: token(number),
        topics_max: u64::MAX,
    };
    Entry { place, writes }
}

/// What may stand in one entry, and how what comes first depends on what comes last if that is there already.
fn intricate() -> Vec<Write> {
    let topic = |name| Topic::parse(name).unwrap();
    let last = Options { keep: Some(Keep::Last), ..Options::default() };
    let large = Group { drafts: vec![draft("b", &"x".repeat(9000))], key: None, condition: Condition::None };
    let key = IdempotencyKey { scoped: "k".into(), request: Fingerprint([1; 16]) };
    vec![
        Write::Publish(many("a", 2)),
        Write::Publish(Group { condition: Condition::NeverWritten, ..many("c", 1) }),
        Write::Publish(Group { key: Some(key), ..many("a", 1) }),
        Write::Publish(large),
        Write::Options(Term::Topic(topic("a")), last),
        Write::Options(Term::Topic(topic("kept")), Options::default()),
        Write::Publish(many("a", 1)),
        Write::Delete(topic("c")),
        Write::Delete(topic("b")),
        Write::Opening(Epoch::opening(1_800_000_000_000, None, 0).unwrap(), Opening::Unclean),
    ]
}

#[test]
fn a_crash_anywhere_in_a_commit_leaves_all_of_it_or_what_is_applied_again() {
    let base = tempfile::tempdir().unwrap();
    let log = SledStore::open(base.path(), &LogSettings::default()).unwrap();
    let first = Epoch::opening(1_700_000_000_000, None, 0).unwrap();
    let compact = Options { keep: Some(Keep::Compact), ..Options::default() };
    let kept = Term::parse("kept").unwrap();
    let begin = vec![
        Write::Opening(first, Opening::Created),
        Write::Options(kept, compact),
        Write::Publish(keyed(&Topic::parse("kept").unwrap(), 0..3)),
        Write::Publish(many("b", 2)),
    ];
    log.apply(vec![entry(1, begin)], true).unwrap();
    log.close().unwrap();
    drop(log);

    // The whole of it, and each of the engine's writes on the way.
    let whole = copy_of(base.path());
    let log = SledStore::open(whole.path(), &LogSettings::default()).unwrap();
    let (run, commits) = (log.store.run().unwrap(), log.writer.lock().mark.commits);
    log.apply(vec![entry(2, intricate())], true).unwrap();
    let wanted = digest(&log).unwrap();
    let records = journal::records_after(whole.path(), log.id(), run, commits).unwrap();
    let changes: Vec<_> = records[0].changes().map(Result::unwrap).collect();
    assert!(changes.len() > 10, "{}", changes.len());

    for count in 0..=changes.len() {
        let dir = copy_of(base.path());
        let log = SledStore::open(dir.path(), &LogSettings::default()).unwrap();
        for change in &changes[..count] {
            let tree = log.store.trees()[usize::from(change.tree)];
            tree.change_unnoted(change.key, change.value).unwrap();
        }
        log.store.db.flush().unwrap();
        drop(log);
        let log = SledStore::open(dir.path(), &LogSettings::default()).unwrap();
        if log.token() == token(1) {
            log.apply(vec![entry(2, intricate())], true).unwrap();
        }
        assert_eq!(digest(&log).unwrap(), wanted, "after {count} of {}", changes.len());
    }
}

/// The engine's file is made durable in the middle of commits, too; the journal has them whole, and those that follow.
#[test]
fn a_crash_anywhere_in_a_commit_that_the_journal_has_loses_nothing_of_it() {
    let base = tempfile::tempdir().unwrap();
    let log = SledStore::open(base.path(), &LogSettings::default()).unwrap();
    let first = Epoch::opening(1_700_000_000_000, None, 0).unwrap();
    let begin = vec![Write::Opening(first, Opening::Created), Write::Publish(many("b", 2))];
    log.apply(vec![entry(1, begin)], true).unwrap();
    log.close().unwrap();
    drop(log);

    let options = Options { keep: Some(Keep::Last), ..Options::default() };
    let followers = [
        Write::Publish(many("a", 1)),
        // Written down in fewer parts than what the commit before it changes.
        Write::Options(Term::parse("d").unwrap(), options),
    ];
    for follower in followers {
        let whole = copy_of(base.path());
        let log = SledStore::open(whole.path(), &LogSettings::default()).unwrap();
        let (run, commits) = (log.store.run().unwrap(), log.writer.lock().mark.commits);
        let (two, three) =
            (entry(2, vec![Write::Delete(Topic::parse("b").unwrap())]), entry(3, vec![follower]));
        log.apply(vec![two], true).unwrap();
        log.apply(vec![three], true).unwrap();
        let wanted = digest(&log).unwrap();
        let records = journal::records_after(whole.path(), log.id(), run, commits).unwrap();
        assert_eq!(records.len(), 2);
        let changes: Vec<_> =
            records.iter().flat_map(|record| record.changes().map(Result::unwrap)).collect();
        for count in 0..=changes.len() {
            let dir = copy_of(base.path());
            let log = SledStore::open(dir.path(), &LogSettings::default()).unwrap();
            for change in &changes[..count] {
                let tree = log.store.trees()[usize::from(change.tree)];
                tree.change_unnoted(change.key, change.value).unwrap();
            }
            log.store.db.flush().unwrap();
            drop(log);
            for file in ["journal", "watermark"] {
                fs::copy(whole.path().join(file), dir.path().join(file)).unwrap();
            }
            let log = SledStore::open(dir.path(), &LogSettings::default());
            let log = log.unwrap_or_else(|error| panic!("after {count} of {}: {error}", changes.len()));
            assert_eq!(digest(&log).unwrap(), wanted, "after {count} of {}", changes.len());
        }
    }
}

/// A copy of a log that is not open.
fn copy_of(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
    }
    copy
}

fn draft(topic: &str, body: &str) -> Draft {
    Draft::new(Topic::parse(topic).unwrap(), MediaType::NONE, Bytes::copy_from_slice(body.as_bytes()))
}

fn many(topic: &str, count: usize) -> Group {
    Group { drafts: vec![draft(topic, "x"); count], key: None, condition: Condition::None }
}

fn positions(log: &SledStore, topic: &str) -> Vec<u64> {
    let budget = Budget { messages: usize::MAX, bytes: usize::MAX, scan_bytes: usize::MAX };
    let filter = Filter::from(Topic::parse(topic).unwrap());
    let page = log.read(&filter, Position::ZERO, Position::MAX, budget).unwrap();
    page.messages.iter().map(|message| message.position().0).collect()
}

/// Writes so many index pages, beginning a round if none runs.
fn write_index_pages(log: &SledStore, pages: usize) {
    log.write_pages_step(&log.writer.lock(), &mut log.behind.lock(), pages).unwrap();
}

#[test]
fn a_crash_at_any_point_of_a_round_loses_nothing() {
    let names: Vec<String> = (0..60).map(|n| format!("t/{:02}", n * 7 % 60)).collect();
    // Index pages that the second round gets written, of eight.
    for written in 0..=9 {
        let dir = tempfile::tempdir().unwrap();
        let log = crate::testing::open(dir.path(), Timestamp(0), &LogSettings::default()).unwrap();
        let publish = |names: &[String], count| {
            log.append(names.iter().map(|name| many(name, count)).collect(), Timestamp(1)).unwrap();
        };
        publish(&names[..20], 3);
        write_index_pages(&log, usize::MAX);
        publish(&names[10..], 300);
        log.tidy_at(Timestamp(1)).unwrap();
        write_index_pages(&log, written);
        publish(&names[5..], 2);
        log.trim(&Topic::parse(&names[30]).unwrap(), TrimReason::Deleted).unwrap();
        log.trim(&Topic::parse(&names[3]).unwrap(), TrimReason::Deleted).unwrap();
        while log.tidy_at(Timestamp(1)).unwrap() == Some(0) {}

        let wanted: Vec<Vec<u64>> = names.iter().map(|name| positions(&log, name)).collect();
        let (topics, messages) = (log.topics("", None, 99), log.stats().messages);
        log.store.db.flush().unwrap();
        drop(log);
        let log = crate::testing::open(dir.path(), Timestamp(2), &LogSettings::default()).unwrap();
        assert!(log.behind.lock().mark.position > Position::ZERO, "what was written is used");
        // New topics take numbers that the crash took back.
        log.append(vec![many("u/1", 400), many("u/2", 400), many(&names[0], 1)], Timestamp(2)).unwrap();
        while log.tidy_at(Timestamp(1)).unwrap() == Some(0) {}
        for (name, wanted) in names.iter().zip(&wanted).skip(1) {
            assert_eq!(&positions(&log, name), wanted, "{name} after {written} index pages");
        }
        assert_eq!((positions(&log, "u/1").len(), positions(&log, "u/2").len()), (400, 400));
        assert_eq!(log.topics("t/", None, 99)[1..], topics[1..]);
        assert_eq!(log.stats().messages, messages + 801);
    }
}

/// Messages of one topic, each with a key of its own.
fn keyed(topic: &Topic, keys: impl Iterator<Item = usize>) -> Group {
    let keyed = |key: usize| {
        let mut draft = Draft::new(topic.clone(), MediaType::NONE, Bytes::from_static(b"x"));
        draft.extras = Some(Box::new(Extras { key: Some(key.to_string()), ..Extras::default() }));
        draft
    };
    Group { drafts: keys.map(keyed).collect(), key: None, condition: Condition::None }
}

#[test]
fn readers_find_the_index_whole_while_compaction_changes_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = crate::testing::open(dir.path(), Timestamp(0), &LogSettings::default()).unwrap();
    let topic = Topic::parse("a").unwrap();
    let options = Options { keep: Some(Keep::Compact), ..Options::default() };
    log.set_options(&Term::Topic(topic.clone()), options).unwrap();
    let keys = |round: usize| (0..200).map(move |n| (round * 7919 + n * 104_729) % 2000);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    positions(&log, "a");
                }
            });
        }
        for round in 0..50 {
            log.append(vec![keyed(&topic, keys(round))], Timestamp(1)).unwrap();
            log.tidy_at(Timestamp(1)).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(!log.behind.lock().wrong);
    let known: HashSet<usize> = (0..50).flat_map(keys).collect();
    assert_eq!(positions(&log, "a").len(), known.len());
}

#[test]
fn a_replica_is_sound_with_holes_among_its_positions_and_is_not_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let log = SledStore::open(dir.path(), &LogSettings::default()).unwrap();
    let first = Epoch::opening(1_700_000_000_000, None, 0).unwrap();
    let begin = vec![Write::Opening(first, Opening::Created), Write::Publish(many("a", 2))];
    log.apply(vec![entry(1, begin), entry(7, vec![Write::Publish(many("b", 1))])], true).unwrap();
    log.close().unwrap();
    drop(log);
    let survey = Survey::open(dir.path(), None).unwrap();
    let walked = survey.walk(|_| Ok::<_, StoreError>(())).unwrap();
    assert_eq!((walked.findings.damages(), walked.figures.messages, walked.lost_upto), (0, 3, None));
    let refused = repair(&survey, &dir.path().join("repaired"), Timestamp(0));
    assert!(matches!(refused, Err(RepairError::Replica)));
}

#[test]
fn what_was_to_be_sealed_and_is_gone_is_not_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let log = crate::testing::open(dir.path(), Timestamp(0), &LogSettings::default()).unwrap();
    // Few enough to be purged in one step, and large enough that their postings are a block.
    let drafts = vec![draft("a", &"x".repeat(100)); 200];
    let group = Group { drafts, key: None, condition: Condition::None };
    log.append(vec![group, many("b", 400)], Timestamp(1)).unwrap();
    log.trim(&Topic::parse("a").unwrap(), TrimReason::Deleted).unwrap();
    log.tidy_all(Timestamp(1));
    assert_eq!(log.writer.lock().complaint, None);
    assert!(log.index.read().sealable().is_none(), "others are");
    log.append(vec![many("a", 500)], Timestamp(1)).unwrap();
    log.tidy_all(Timestamp(1));
    assert_eq!((positions(&log, "a").len(), positions(&log, "b").len()), (500, 400));
}
