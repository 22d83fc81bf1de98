//! Logs that are looked at and repaired: sound ones, damaged ones, and what of them comes back.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, convert::Infallible, fs, path::Path};

use crate::testing::Writes as _;
use tailwire_core::{
    Store,
    log::{Appended, Budget, Group},
};
use tailwire_model::{
    Condition, Draft, Epoch, Filter, Fingerprint, IdempotencyKey, MediaType, Message, Position, Term,
    Timestamp, Topic, Trim, TrimReason, gap::resume,
};
use tempfile::TempDir;

mod told;

use super::{InspectError, Survey, Walked, repair};
use crate::sled_store::{
    LogSettings, SledStore,
    layout::{
        chunk::{PackedEntry, pack},
        values::put_epoch,
    },
};

/// 2026-11-21, in milliseconds.
const START: u64 = 1_795_000_000_000;
const UNBOUNDED: Budget = Budget { messages: usize::MAX, bytes: usize::MAX, scan_bytes: usize::MAX };

/// A folder with a log in `data`.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn data(&self) -> std::path::PathBuf {
        self.0.path().join("data")
    }

    fn open(&self, now: u64) -> SledStore {
        crate::testing::open(&self.data(), Timestamp(now), &LogSettings::default()).unwrap()
    }

    /// Ends a log, also without closing it, and waits for the engine to let go of the files.
    fn end(&self, log: SledStore) {
        drop(log);
        drop(super::Lock::take(&self.data().join("db")).unwrap());
    }

    fn survey(&self) -> Survey {
        Survey::open(&self.data(), None).unwrap()
    }

    /// The legible messages, and the findings about the rest.
    fn walk(&self) -> (Vec<Message>, Walked) {
        let mut messages = Vec::new();
        let walked = self.survey().walk(|message| {
            messages.push(message);
            Ok::<_, Infallible>(())
        });
        (messages, walked.unwrap())
    }

    fn repair(&self, now: u64) -> SledStore {
        let into = self.0.path().join("repaired");
        repair(&self.survey(), &into, Timestamp(now)).unwrap();
        crate::testing::open(&into, Timestamp(now), &LogSettings::default()).unwrap()
    }
}

fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

fn filter(term: &str) -> Filter {
    Filter::from(Term::parse(term).unwrap())
}

fn group(messages: &[(&str, &str)]) -> Group {
    let draft =
        |(name, body): &(&str, &str)| Draft::new(topic(name), MediaType::NONE, (*body).to_owned().into());
    Group { drafts: messages.iter().map(draft).collect(), key: None, condition: Condition::None }
}

/// Commits each message by itself, so that each has its chunk.
fn publish(log: &SledStore, messages: &[(&str, &str)]) {
    for message in messages {
        log.append(vec![group(&[*message])], Timestamp(START)).unwrap();
    }
}

fn body(message: &Message) -> &str {
    std::str::from_utf8(&message.draft.body).unwrap()
}

fn bodies(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(body).collect()
}

fn all(log: &SledStore) -> Vec<Message> {
    log.read(&filter("**"), Position::ZERO, Position::MAX, UNBOUNDED).unwrap().messages
}

/// Changes a bit wherever a text stands in the engine's file, as a medium does that goes bad there.
fn spoil(data: &Path, text: &str) {
    let path = data.join("db");
    let mut file = fs::read(&path).unwrap();
    let offsets: Vec<usize> = memchr::memmem::find_iter(&file, text.as_bytes()).collect();
    assert!(!offsets.is_empty(), "{text} does not stand in the file");
    for at in offsets {
        file[at] ^= 1;
    }
    fs::write(&path, file).unwrap();
}

/// Changes a bit of a file.
fn flip(path: &Path, at: usize) {
    let mut file = fs::read(path).unwrap();
    file[at] ^= 1;
    fs::write(path, file).unwrap();
}

/// Every file below a folder, with its bytes.
fn files(dir: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

/// Stores the five messages in a log that is closed again.
fn five_stored(bench: &Bench) -> Vec<Message> {
    let log = bench.open(START);
    publish(&log, &five());
    let before = all(&log);
    log.close().unwrap();
    bench.end(log);
    before
}

fn five() -> [(&'static str, &'static str); 5] {
    [("a", "body one"), ("b", "body two"), ("a", "body three"), ("c", "body four"), ("a", "body five")]
}

#[test]
fn a_sound_log_is_sound_and_stays_as_it_is() {
    for closes in [true, false] {
        let bench = Bench::new();
        let log = bench.open(START);
        let large = "large body ".repeat(2000);
        publish(&log, &five());
        log.append(vec![group(&[("a", &large), ("b", "body six")])], Timestamp(START)).unwrap();
        log.trim(&topic("c"), TrimReason::Deleted).unwrap();
        let expect = all(&log);
        if closes {
            log.close().unwrap();
        }
        bench.end(log);
        let before = files(bench.0.path());
        let (messages, walked) = bench.walk();
        assert_eq!(messages, expect);
        assert!(walked.findings.is_sound(), "{:?}", walked.findings);
        let figures = walked.figures;
        assert_eq!((figures.messages, figures.topics, figures.trims, figures.epochs), (6, 3, 1, 1));
        assert_eq!((figures.head, figures.tail), (Some(Position(1)), Position(7)));
        assert!(walked.lost_upto.is_none());
        assert_eq!(files(bench.0.path()), before);
    }
}

#[test]
fn a_log_that_is_open_and_one_that_is_not_there() {
    let bench = Bench::new();
    assert!(matches!(Survey::open(&bench.data(), None), Err(InspectError::Missing(_))));
    let _log = bench.open(START);
    assert!(matches!(Survey::open(&bench.data(), None), Err(InspectError::Locked)));
}

#[test]
fn what_is_spoiled_is_left_out_and_nothing_else() {
    for lost in 0..5 {
        let bench = Bench::new();
        five_stored(&bench);
        spoil(&bench.data(), five()[lost].1);
        let (messages, walked) = bench.walk();
        let mut expect: Vec<_> = five().iter().map(|(_, body)| *body).collect();
        expect.remove(lost);
        assert_eq!(bodies(&messages), expect);
        assert!(!walked.findings.is_sound());
    }
}

#[test]
fn readers_of_a_repaired_log_are_told_what_is_lost() {
    let bench = Bench::new();
    let before = five_stored(&bench);
    spoil(&bench.data(), "body three");

    let log = bench.repair(START + 5_000);
    let after = all(&log);
    assert_eq!(bodies(&after), ["body one", "body two", "body four", "body five"]);
    assert_eq!(after[3], before[4], "positions, cursors and times are what they were");
    for term in ["a", "c", "never/seen", "**"] {
        let filter = filter(term);
        for (index, message) in before.iter().enumerate() {
            let extent = log.bounds(&filter).extent(log.newest());
            let resumed = resume(&log.epochs(), &extent, message.cursor, None);
            // A reader that has seen the last one has missed nothing.
            assert_eq!(resumed.gap.is_some(), index < 4, "{term} after {index}");
            assert_eq!(resumed.after, message.position(), "reading goes on where it was");
            let told = Trim { upto: Position(5), reason: TrimReason::Lost };
            assert_eq!(log.trimmed(&filter, message.position()), (index < 4).then_some(told));
        }
    }
    publish(&log, &[("a", "body six")]);
    let newest = all(&log).pop().unwrap();
    assert_eq!(newest.position(), Position(6));
    assert!(log.trimmed(&filter("a"), Position(5)).is_none());
}

#[test]
fn where_no_position_is_missing_nothing_is_lost() {
    let bench = Bench::new();
    let before = five_stored(&bench);
    // The engine takes no file without its first segment's header, which holds no message.
    flip(&bench.data().join("db"), 4);
    let (messages, walked) = bench.walk();
    assert_eq!((messages, walked.findings.is_sound()), (before.clone(), false));
    assert_eq!(walked.lost_upto, None);
    let log = bench.repair(START + 5_000);
    assert_eq!((all(&log), log.trimmed(&filter("**"), Position::ZERO)), (before, None));
}

#[test]
fn without_a_mark_what_the_engine_gives_is_not_all() {
    let bench = Bench::new();
    let log = bench.open(START);
    publish(&log, &five());
    let before = all(&log);
    bench.end(log);
    fs::remove_file(bench.data().join("watermark")).unwrap();
    // The changes of an unclean end stand in the journal; without its first record the engine has nothing of it.
    flip(&bench.data().join("journal"), 512);
    let (messages, walked) = bench.walk();
    assert_eq!((messages, walked.findings.is_sound()), (before.clone(), false));
    assert_eq!(walked.lost_upto, Some(before.last().unwrap().position()), "there may have been more");
    assert_eq!(walked.figures.acknowledged, None);
    assert_eq!(all(&bench.repair(START + 5_000)), before);
}

#[test]
fn a_log_that_lost_its_end_gives_no_position_again() {
    let bench = Bench::new();
    let log = bench.open(START);
    publish(&log, &five()[..2]);
    bench.end(log);
    let older = files(&bench.data());
    let log = bench.open(START + 5_000);
    publish(&log, &five()[2..]);
    let seen = all(&log).pop().unwrap().cursor;
    bench.end(log);
    let watermark = fs::read(bench.data().join("watermark")).unwrap();
    fs::remove_dir_all(bench.data()).unwrap();
    fs::create_dir(bench.data()).unwrap();
    for (path, bytes) in older {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    fs::write(bench.data().join("watermark"), watermark).unwrap();

    let (messages, walked) = bench.walk();
    assert_eq!(bodies(&messages), ["body one", "body two"]);
    assert!(!walked.findings.is_sound());
    let log = bench.repair(START + 10_000);
    let told = Some(Trim { upto: Position(5), reason: TrimReason::Lost });
    assert_eq!(log.trimmed(&filter("a"), Position(2)), told);
    publish(&log, &[("a", "body six")]);
    let newest = all(&log).pop().unwrap();
    assert!(newest.cursor > seen && newest.position() == Position(6));
}

#[test]
fn an_epoch_is_known_by_its_chunks_too() {
    let bench = Bench::new();
    let log = bench.open(START);
    publish(&log, &five()[..2]);
    log.close().unwrap();
    drop(log);
    let log = bench.open(START + 5_000);
    publish(&log, &five()[2..]);
    let before = all(&log);
    let newest = log.epochs().current();
    drop(log);
    let db = bench.data().join("db");
    drop(super::Lock::take(&db).unwrap());
    // Every copy of the epoch's own record is spoiled.
    let mut file = fs::read(&db).unwrap();
    let record = put_epoch(&newest);
    let offsets: Vec<usize> = memchr::memmem::find_iter(&file, &record).collect();
    assert!(!offsets.is_empty());
    for at in offsets {
        file[at + record.len() - 1] ^= 1;
    }
    fs::write(&db, file).unwrap();
    let (messages, walked) = bench.walk();
    assert_eq!((messages, walked.figures.epoch), (before, Some(newest.epoch)));
    assert!(!walked.findings.is_sound());
}

#[test]
fn what_was_deleted_stays_deleted() {
    let bench = Bench::new();
    let log = bench.open(START);
    publish(&log, &five());
    log.trim(&topic("a"), TrimReason::Deleted).unwrap();
    while log.tidy_at(Timestamp(START)).unwrap() == Some(0) {}
    log.close().unwrap();
    bench.end(log);
    spoil(&bench.data(), "body two");
    let (messages, _) = bench.walk();
    assert_eq!(bodies(&messages), ["body four"]);
    let log = bench.repair(START + 5_000);
    let told = log.trimmed(&filter("a"), Position(2)).unwrap();
    assert_eq!((log.stats().messages, told.upto), (1, Position(5)));
}

#[test]
fn of_two_messages_at_one_position_the_later_epochs_counts() {
    let bench = Bench::new();
    let log = bench.open(START);
    publish(&log, &[("a", "kept")]);
    let watermark = fs::read(bench.data().join("watermark")).unwrap();
    let commits = log.store.meta.get("commits").unwrap().unwrap();
    let early = "x".repeat(3000);
    log.append(vec![group(&[("a", "dropped"), ("a", &early), ("a", &early)])], Timestamp(START)).unwrap();
    // The group's last chunk does not get to the disk, and nor does what comes after it.
    log.store.chunks.pop_max().unwrap().unwrap();
    log.store.meta.insert("commits", commits).unwrap();
    log.store.sync().unwrap();
    bench.end(log);
    fs::write(bench.data().join("watermark"), watermark).unwrap();
    fs::remove_file(bench.data().join("journal")).unwrap();
    let log = bench.open(START + 5_000);
    publish(&log, &[("a", "second"), ("a", "third")]);
    log.close().unwrap();
    bench.end(log);
    spoil(&bench.data(), "kept");
    let (messages, _) = bench.walk();
    assert_eq!(bodies(&messages), ["second", "third"]);
}

#[test]
fn a_part_that_is_gone_is_found_where_a_trim_could_explain_it() {
    for closes in [false, true] {
        let bench = Bench::new();
        let log = bench.open(START);
        publish(&log, &five());
        log.trim(&topic("c"), TrimReason::Deleted).unwrap();
        while log.tidy_at(Timestamp(START)).unwrap() == Some(0) {}
        if closes {
            log.close().unwrap();
        }
        log.store.chunks.remove(2u64.to_be_bytes()).unwrap().unwrap();
        log.store.sync().unwrap();
        bench.end(log);
        let (_, walked) = bench.walk();
        let what = "1 message that was stored is missing";
        let found = walked.findings.iter().find(|finding| finding.what == what);
        let found = found.unwrap_or_else(|| panic!("{:?}", walked.findings));
        assert_eq!(found.positions, Some((Position(2), Position(4))));
        // The file has it still, outside of what the engine gives.
        let log = bench.repair(START + 5_000);
        assert_eq!(bodies(&all(&log)), ["body one", "body two", "body three", "body five"]);
    }
}

#[test]
fn a_chunk_in_a_body_is_no_chunk() {
    let forged = Draft::new(topic("admin"), MediaType::NONE, "forged".into());
    let forged = forged.into_message(Epoch::MAX, Position(1), Timestamp(START));
    let group = 0..1;
    let Some(PackedEntry::Chunk(_, chunk)) =
        pack(&[forged], std::slice::from_ref(&group), &mut Timestamp(0)).pop()
    else {
        unreachable!()
    };
    let bench = Bench::new();
    let log = bench.open(START);
    for spoiled in ["this is spoiled", "this is not"] {
        let body = [spoiled.as_bytes(), &chunk].concat();
        let draft = Draft::new(topic("a"), MediaType::new("application/octet-stream"), body.into());
        let group = Group { drafts: vec![draft], key: None, condition: Condition::None };
        log.append(vec![group], Timestamp(START)).unwrap();
    }
    log.close().unwrap();
    bench.end(log);
    spoil(&bench.data(), "this is spoiled");
    let (messages, _) = bench.walk();
    let topics: Vec<_> = messages.iter().map(|message| message.topic().as_str()).collect();
    assert_eq!(topics, ["a"]);
}

#[test]
fn a_file_that_is_cut_gives_what_is_left() {
    let bench = Bench::new();
    let log = bench.open(START);
    let large = "large body ".repeat(3000);
    for n in 0..60 {
        publish(&log, &[("a", &format!("{n} {large}"))]);
    }
    log.close().unwrap();
    drop(log);
    let db = bench.data().join("db");
    drop(super::Lock::take(&db).unwrap());
    let file = fs::OpenOptions::new().write(true).open(&db).unwrap();
    file.set_len(fs::metadata(&db).unwrap().len() / 2).unwrap();
    let (messages, walked) = bench.walk();
    assert!(!walked.findings.is_sound());
    assert!((10..60).contains(&messages.len()), "{}", messages.len());
    for message in &messages {
        assert_eq!(body(message), format!("{} {large}", message.position().0 - 1));
    }
    let log = bench.repair(START + 5_000);
    assert_eq!(all(&log), messages);
    assert_eq!(log.trimmed(&filter("**"), Position::ZERO).map(|trim| trim.upto), Some(Position(60)));
}

#[test]
fn the_watermark_of_another_log_says_nothing() {
    let (bench, other) = (Bench::new(), Bench::new());
    publish(&bench.open(START), &five());
    let log = other.open(START);
    (0..9).for_each(|_| publish(&log, &five()));
    let foreign = fs::read(other.data().join("watermark")).unwrap();
    fs::write(bench.data().join("watermark"), foreign).unwrap();
    let (messages, walked) = bench.walk();
    assert_eq!((messages.len(), walked.findings.damages(), walked.figures.tail), (5, 1, Position(5)));
    let log = bench.repair(START + 5_000);
    assert_eq!((log.stats().messages, log.newest()), (5, Position(5)));
}

#[test]
fn idempotency_keys_survive_a_repair() {
    let bench = Bench::new();
    let log = bench.open(START);
    let keyed = || Group {
        key: Some(IdempotencyKey { scoped: "k".into(), request: Fingerprint([1; 16]) }),
        ..group(&[("a", "body one")])
    };
    let Appended::Stored(first) = log.append(vec![keyed()], Timestamp(START)).unwrap()[0] else {
        unreachable!()
    };
    publish(&log, &five());
    log.close().unwrap();
    bench.end(log);
    fs::remove_file(bench.data().join("watermark")).unwrap();
    let log = bench.repair(START + 5_000);
    assert_eq!(log.append(vec![keyed()], Timestamp(START)).unwrap(), [Appended::Replayed(first)]);
    assert_eq!(log.stats().messages, 6);
}
