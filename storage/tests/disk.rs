//! Cases of a log on disk: its files, damaged or cut off, at the next opening.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::{
    fs, panic,
    path::Path,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use common::{
    Harness, OnDisk, START, UNBOUNDED, all, append, bodies, copy_files, filter, group, keyed, publish,
    stored, tidy_all, topic, with_tree,
};
use tailwire_core::{
    Store,
    log::{Appended, Group},
};
use tailwire_model::{
    Bound, Durability, Keep, Opening, Options, Position, Term, Timestamp, Trim, TrimReason,
    limits::{IDEMPOTENCY_WINDOW_MS, MESSAGE_BYTES_MAX},
    message::Extras,
};
use tailwire_storage::{
    LogSettings, OpenError, SledStore,
    testing::{self, Writes as _},
};

/// Whether any value of a tree holds these bytes.
fn holds(dir: &Path, name: &str, text: &str) -> bool {
    with_tree(dir, name, |tree| {
        tree.iter()
            .values()
            .any(|value| value.unwrap().windows(text.len()).any(|part| part == text.as_bytes()))
    })
}

#[test]
fn a_second_opener_is_told_so() {
    let h = OnDisk::new();
    let error = SledStore::open(h.dir(), &LogSettings::default()).err().unwrap();
    assert_eq!(error, OpenError::Locked);
    assert!(error.to_string().starts_with("another process has this log open"));
}

#[test]
fn of_two_that_make_a_log_at_once_one_is_told_so() {
    let above = tempfile::tempdir().unwrap();
    for number in 0..8 {
        let dir = above.path().join(number.to_string());
        let open = || SledStore::open(&dir, &LogSettings::default());
        let opened = thread::scope(|scope| {
            let openers = [scope.spawn(open), scope.spawn(open)];
            openers.map(|opener| opener.join().unwrap())
        });
        let errors: Vec<OpenError> =
            opened.iter().filter_map(|opened| opened.as_ref().err().cloned()).collect();
        assert_eq!(errors, [OpenError::Locked]);
    }
}

/// The time, and the epoch of a log that is opened then.
fn epoch_of(dir: &Path) -> (u64, u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let log = testing::open(dir, Timestamp(now), &LogSettings::default()).unwrap();
    publish(&log, &[("a", "1")]);
    (now, log.epochs().current().epoch.number())
}

#[test]
fn a_log_that_is_wiped_and_made_anew_begins_another_epoch() {
    let above = tempfile::tempdir().unwrap();
    let dir = above.path().join("data");
    let (_, first) = epoch_of(&dir);
    fs::remove_dir_all(&dir).unwrap();
    let (_, second) = epoch_of(&dir);
    assert!(first < second, "the folder was removed: {first}, {second}");
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
    let (_, third) = epoch_of(&dir);
    assert!(second < third, "the folder was emptied: {second}, {third}");
}

#[test]
fn a_directory_that_is_a_file_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = SledStore::open(&path, &LogSettings::default()).err().unwrap();
        assert!(matches!(error, OpenError::NotWritable(..)), "{error:?}");
    }
}

#[test]
fn another_format_is_told_so() {
    let mut h = OnDisk::new();
    h.crash(|dir| {
        with_tree(dir, "meta", |meta| meta.insert("format", &99u32.to_le_bytes()).unwrap());
    });
    assert_eq!(h.open(START).err(), Some(OpenError::Version(99)));
}

#[test]
fn the_id_stays() {
    let mut h = OnDisk::new();
    let id = h.log().id();
    h.reopen(true, START);
    assert_eq!(h.log().id(), id);
}

#[test]
fn large_messages_come_back_whole() {
    let mut h = OnDisk::new();
    let body: String = (0..MESSAGE_BYTES_MAX).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
    publish(h.log(), &[("a", "1"), ("a", &body), ("b", &body[..5000]), ("a", "4")]);
    h.reopen(false, START);
    assert_eq!(bodies(h.log(), &["a"]), ["1", &body, "4"]);
    assert_eq!(bodies(h.log(), &["**"]), ["1", &body, &body[..5000], "4"]);
    let blobs = fs::read_dir(h.dir().join("blobs")).unwrap().count();
    assert_eq!(blobs, 0, "the engine never syncs its blobs");
}

#[test]
fn many_entries_never_become_blobs() {
    let h = OnDisk::new();
    let body = "x".repeat(3500);
    for _ in 0..4 {
        publish(h.log(), &vec![("a", body.as_str()); 40]);
    }
    assert_eq!(fs::read_dir(h.dir().join("blobs")).unwrap().count(), 0);
}

/// The files of an open log, as a crash would leave them.
fn crashed(h: &OnDisk) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_files(h.dir(), copy.path());
    copy
}

#[test]
fn what_the_engine_has_not_written_is_in_the_journal() {
    let h = OnDisk::new();
    let request = || keyed(group(&[("keyed", "once")]), "k", 1);
    let first = stored(append(h.log(), request()));
    let options = Options { keep: Some(Keep::Last), ..Options::default() };
    h.log().set_options(&Term::parse("last").unwrap(), options).unwrap();
    for n in 0..20 {
        publish(h.log(), &[("a", &n.to_string()), ("last", &n.to_string()), ("b", &"x".repeat(5000))]);
        if n == 10 {
            h.log().trim(&topic("a"), TrimReason::Deleted).unwrap();
        }
        tidy_all(h.log());
    }
    let copy = crashed(&h);
    let log = SledStore::open(copy.path(), &LogSettings::default()).unwrap();
    // Obsolete messages may be back until then.
    tidy_all(&log);
    for terms in [&["a"][..], &["last"], &["**"]] {
        assert_eq!(bodies(&log, terms), bodies(h.log(), terms));
    }
    assert_eq!(bodies(&log, &["a"])[0], "11");
    assert_eq!(
        log.trimmed(&filter(&["a"]), Position::ZERO),
        h.log().trimmed(&filter(&["a"]), Position::ZERO)
    );
    assert_eq!(log.rules().of(&topic("last")).keep, Keep::Last);
    assert_eq!(append(&log, request()), Appended::Replayed(first));

    let copy = crashed(&h);
    fs::remove_file(copy.path().join("journal")).unwrap();
    let error = SledStore::open(copy.path(), &LogSettings::default()).err().unwrap();
    assert!(matches!(error, OpenError::Short(_)), "without it there is less: {error:?}");
}

#[test]
fn an_unknown_format_is_not_written_to() {
    let h = OnDisk::new();
    (0..9).for_each(|n| publish(h.log(), &[("a", &n.to_string())]));
    let copy = crashed(&h);
    let journal = fs::read(copy.path().join("journal")).unwrap();
    let count = with_tree(copy.path(), "chunks", |chunks| {
        let count = chunks.len();
        assert!(count < 9, "the engine has all of them, and the journal nothing to do");
        count
    });
    with_tree(copy.path(), "meta", |meta| meta.insert("format", &9u32.to_le_bytes()).unwrap());
    fs::write(copy.path().join("journal"), journal).unwrap();
    let error = SledStore::open(copy.path(), &LogSettings::default()).err();
    assert_eq!(error, Some(OpenError::Version(9)));
    assert_eq!(with_tree(copy.path(), "chunks", sled::Tree::len), count);
}

#[test]
fn without_its_settings_the_engine_is_not_asked() {
    let mut h = OnDisk::new();
    publish(h.log(), &[("a", "1")]);
    h.crash(|dir| fs::remove_file(dir.join("conf")).unwrap());
    assert!(matches!(h.open(START).err(), Some(OpenError::Corrupt(_))));
}

#[test]
fn a_spoiled_journal_is_told() {
    let h = OnDisk::new();
    (0..9).for_each(|n| publish(h.log(), &[("a", &n.to_string())]));
    let whole = crashed(&h);
    let journal = fs::read(whole.path().join("journal")).unwrap();
    // The header, and each of the records; not what is left of a sector.
    for at in (0..10).map(|sector| sector * 512 + 20) {
        let copy = tempfile::tempdir().unwrap();
        copy_files(whole.path(), copy.path());
        let mut spoiled = journal.clone();
        spoiled[at] ^= 1;
        fs::write(copy.path().join("journal"), spoiled).unwrap();
        let error = SledStore::open(copy.path(), &LogSettings::default()).err();
        assert!(matches!(error, Some(OpenError::Short(_))), "{at}: {error:?}");
    }
}

#[test]
fn an_unfinished_group_is_dropped() {
    let mut h = OnDisk::new();
    publish(h.log(), &[("a", "1"), ("b", "2")]);
    // So that the engine has all of it, and not the journal.
    h.reopen(true, START);
    let large = "x".repeat(9000);
    let cut = group(&[("a", &"y".repeat(3000)), ("b", &"z".repeat(3000)), ("a", &large)]);
    // The power goes before the commit is written to its end: its number and the watermark are those before.
    let watermark = fs::read(h.dir().join("watermark")).unwrap();
    let before = tempfile::tempdir().unwrap();
    copy_files(h.dir(), before.path());
    let lost = stored(append(h.log(), keyed(cut.clone(), "k", 1)));
    assert_eq!(lost.first.position, Position(3));
    let commits = with_tree(before.path(), "meta", |meta| meta.get("commits").unwrap().unwrap());
    h.crash(|dir| {
        with_tree(dir, "chunks", |chunks| drop(chunks.pop_max().unwrap().unwrap()));
        with_tree(dir, "meta", |meta| meta.insert("commits", commits).unwrap());
        fs::write(dir.join("watermark"), watermark).unwrap();
    });
    h.open(START + 1).unwrap();
    assert_eq!(bodies(h.log(), &["**"]), ["1", "2"]);
    assert_eq!((h.log().newest(), h.log().stats().messages), (Position(2), 2));
    assert_eq!(h.log().epochs().current().first, Position(3));
    assert_eq!(h.log().epochs().current().opening, Opening::Unclean);
    // Its key died with it, and its place goes to another.
    stored(append(h.log(), group(&[("a", "3")])));
    let again = stored(append(h.log(), keyed(cut, "k", 1)));
    assert_eq!(again.first.position, Position(4));
    assert_eq!(bodies(h.log(), &["a"]), ["1", "3", &"y".repeat(3000), &large]);
    h.crash(|_| {});
    assert_eq!(with_tree(h.dir(), "fragments", sled::Tree::len), 2);
}

#[test]
fn what_a_trim_proves_is_not_dropped() {
    let mut h = OnDisk::new();
    let (early, late) = ("y".repeat(3000), "z".repeat(3000));
    append(h.log(), group(&[("a", &early), ("b", &late)]));
    h.log().trim(&topic("b"), TrimReason::Deleted).unwrap();
    tidy_all(h.log());
    // The group's last chunk, which ends it, was all dead and is gone.
    h.reopen(false, START + 1);
    assert_eq!(bodies(h.log(), &["**"]), [early]);
    assert_eq!(h.log().newest(), Position(2));
}

#[test]
fn a_delete_removes_the_bytes() {
    let mut h = OnDisk::new();
    let large = "large secret ".repeat(1000);
    for _ in 0..3 {
        publish(h.log(), &[("a", "small secret"), ("b", "kept"), ("a", &large)]);
        publish(h.log(), &[("a", "small secret")]);
    }
    h.log().trim(&topic("a"), TrimReason::Deleted).unwrap();
    // Tidying may as well happen after the next opening.
    h.reopen(true, START);
    tidy_all(h.log());
    h.crash(|dir| {
        assert!(!holds(dir, "chunks", "small secret"));
        assert!(!holds(dir, "fragments", "large secret"));
        assert!(holds(dir, "chunks", "kept"));
        // The last one stands there without messages, until there is another.
        assert_eq!(with_tree(dir, "chunks", sled::Tree::len), 4);
    });
}

#[test]
fn expired_keys_are_removed() {
    let mut h = OnDisk::new();
    for n in 0..600 {
        append(h.log(), keyed(group(&[("a", "1")]), &format!("key {n}"), 1));
    }
    h.log().append(vec![group(&[("a", "2")])], Timestamp(START + 3 * IDEMPOTENCY_WINDOW_MS)).unwrap();
    assert_eq!(h.log().tidy_at(Timestamp(START)), Ok(Some(0)));
    tidy_all(h.log());
    h.crash(|dir| assert_eq!(with_tree(dir, "keys", sled::Tree::len), 0));
}

#[test]
fn a_key_survives_a_crash() {
    let mut h = OnDisk::new();
    let first = stored(append(h.log(), keyed(group(&[("a", "1")]), "k", 1)));
    for close in [false, true] {
        h.reopen(close, START + 1);
        assert_eq!(append(h.log(), keyed(group(&[("a", "1")]), "k", 1)), Appended::Replayed(first));
    }
}

#[test]
fn a_flipped_bit_in_a_chunk_is_told() {
    for at in [0, 5, 21, 60] {
        let mut h = OnDisk::new();
        publish(h.log(), &[("a", "one"), ("a", "two"), ("a", "three"), ("b", "four")]);
        h.crash(|dir| {
            with_tree(dir, "chunks", |chunks| {
                let (key, value) = chunks.first().unwrap().unwrap();
                let mut value = value.to_vec();
                value[at] ^= 4;
                chunks.insert(key, value).unwrap();
            });
        });
        assert!(matches!(h.open(START), Err(OpenError::Corrupt(_))));
    }
}

#[test]
fn a_flipped_bit_in_the_file_is_never_delivered() {
    for part in [10, 1500, 2990] {
        let mut h = OnDisk::new();
        let body = "0123456789".repeat(300);
        publish(h.log(), &[("a", &body), ("b", &body)]);
        h.crash(|dir| {
            // Waits for the engine to let go of the file.
            with_tree(dir, "chunks", |_| ());
            let path = dir.join("db");
            let mut file = fs::read(&path).unwrap();
            let starts: Vec<usize> = file
                .windows(body.len())
                .enumerate()
                .filter(|(_, w)| *w == body.as_bytes())
                .map(|(at, _)| at)
                .collect();
            assert!(!starts.is_empty());
            starts.iter().for_each(|start| file[start + part] ^= 1);
            fs::write(&path, file).unwrap();
        });
        let opened = panic::catch_unwind(panic::AssertUnwindSafe(|| h.open(START).is_ok()));
        if opened.unwrap()
            && let Ok(page) = h.log().read(&filter(&["**"]), Position::ZERO, Position::MAX, UNBOUNDED)
        {
            assert!(page.messages.iter().all(|message| message.draft.body == body.as_bytes()));
        }
    }
}

#[test]
fn positions_go_on_after_everything_was_deleted() {
    let mut h = OnDisk::new();
    publish(h.log(), &[("a", "1"), ("a", "2")]);
    h.log().trim(&topic("a"), TrimReason::Retention).unwrap();
    tidy_all(h.log());
    h.reopen(true, START + 1);
    assert_eq!(h.log().epochs().current().opening, Opening::Clean);
    assert_eq!(stored(append(h.log(), group(&[("a", "3")]))).first.position, Position(3));
    assert_eq!(all(h.log(), &["a"]), [3]);
    assert!(h.log().stats().file_bytes > 0);
}

#[test]
fn a_log_that_lost_what_was_acknowledged_is_refused_until_that_is_accepted() {
    let mut h = OnDisk::new();
    let old = tempfile::tempdir().unwrap();
    publish(h.log(), &[("a", "1")]);
    h.crash(|dir| {
        with_tree(dir, "chunks", |_| ());
        copy_files(dir, old.path());
    });
    h.open(START + 1).unwrap();
    publish(h.log(), &[("a", "2")]);
    h.log().trim(&topic("b"), TrimReason::Deleted).unwrap();
    // The store is an older one; the watermark knows better.
    h.crash(|dir| {
        with_tree(dir, "chunks", |_| ());
        let watermark = fs::read(dir.join("watermark")).unwrap();
        fs::remove_dir_all(dir).unwrap();
        copy_files(old.path(), dir);
        fs::write(dir.join("watermark"), watermark).unwrap();
    });
    let error = h.open(START + 2).err().unwrap();
    assert!(matches!(error, OpenError::Short(_)), "{error}");
    h.open_accepting_loss(START + 2).unwrap();
    assert_eq!(bodies(h.log(), &["a"]), ["1"]);
    assert_eq!(h.log().epochs().current().opening, Opening::Unclean);
    // Also who had seen all that is left has missed something, and is told so.
    let told = Trim { upto: Position(2), reason: TrimReason::Lost };
    let trimmed = |after| h.log().trimmed(&filter(&["a"]), Position(after));
    assert_eq!((trimmed(1), trimmed(2), h.log().newest()), (Some(told), None, Position(2)));
    h.crash(|_| {});
    // Once accepted, it is what there is.
    h.open(START + 3).unwrap();
    assert_eq!(bodies(h.log(), &["a"]), ["1"]);
}

/// Publishes each message in a commit of its own, and so in a chunk.
fn publish_apart(log: &SledStore, messages: &[(&str, &str)]) {
    messages.iter().for_each(|message| publish(log, &[*message]));
}

fn lose_chunk(dir: &Path, first: u64) {
    with_tree(dir, "chunks", |chunks| chunks.remove(first.to_be_bytes()).unwrap().unwrap());
}

#[test]
fn a_log_that_lost_a_part_of_its_middle_is_refused_until_that_is_accepted() {
    // Where no index was written yet; beyond what is written; and where it was written, and can't be used.
    for (closes, spoils, lost) in [(false, false, 2), (true, false, 5), (true, true, 2)] {
        let mut h = OnDisk::new();
        publish_apart(h.log(), &[("a", "1"), ("b", "2"), ("a", "3")]);
        h.reopen(closes, START + 1);
        publish_apart(h.log(), &[("a", "4"), ("b", "5"), ("a", "6")]);
        h.crash(|dir| {
            lose_chunk(dir, lost);
            if spoils {
                with_tree(dir, "topics", |topics| topics.insert(0u32.to_be_bytes(), b"rubbish").unwrap());
            }
        });
        for _ in 0..2 {
            let error = h.open(START + 2).err().unwrap();
            let said = format!("1 message that was stored is missing, from among positions {lost} to {lost}");
            assert_eq!(error, OpenError::Short(said));
        }
        h.open_accepting_loss(START + 3).unwrap();
        assert_eq!(bodies(h.log(), &["a"]), ["1", "3", "4", "6"]);
        // Nobody knows whose it was, so everybody is told, unless they had seen all.
        let told = Trim { upto: Position(6), reason: TrimReason::Lost };
        let trimmed = |name, after| h.log().trimmed(&filter(&[name]), Position(after));
        assert_eq!((trimmed("a", 1), trimmed("b", 1), trimmed("a", 6)), (Some(told), Some(told), None));
        for closes in [false, true] {
            h.reopen(closes, START + 4);
            assert_eq!(all(h.log(), &["**"]).len(), 5, "once accepted, it is what there is");
        }
    }
}

#[test]
fn a_delete_that_is_undone_is_refused_until_that_is_accepted() {
    for closes in [false, true] {
        let mut h = OnDisk::new();
        publish_apart(h.log(), &[("a", "1"), ("b", "2")]);
        h.log().trim(&topic("a"), TrimReason::Deleted).unwrap();
        publish(h.log(), &[("b", "3")]);
        if closes {
            h.log().close().unwrap();
        }
        h.crash(|dir| drop(with_tree(dir, "trims", |trims| trims.remove("a").unwrap().unwrap())));
        for _ in 0..2 {
            assert!(matches!(h.open(START + 1).err(), Some(OpenError::Short(_))));
        }
        h.open_accepting_loss(START + 1).unwrap();
        let told = Trim { upto: Position(3), reason: TrimReason::Lost };
        assert_eq!(h.log().trimmed(&filter(&["a"]), Position(1)), Some(told));
        h.reopen(closes, START + 2);
    }
}

#[test]
fn a_delete_of_the_last_commit_is_made_again_if_a_crash_undid_it() {
    let mut h = OnDisk::new();
    publish_apart(h.log(), &[("a", "1"), ("b", "2")]);
    h.log().trim(&topic("a"), TrimReason::Deleted).unwrap();
    h.crash(|dir| drop(with_tree(dir, "trims", |trims| trims.remove("a").unwrap().unwrap())));
    h.open(START + 1).unwrap();
    assert_eq!(bodies(h.log(), &["**"]), ["2"]);
}

#[test]
fn what_is_trimmed_compacted_and_cut_off_is_not_missed() {
    let mut h = OnDisk::new();
    let compact = Options { keep: Some(Keep::Last), ..Options::default() };
    h.log().set_options(&Term::parse("last").unwrap(), compact).unwrap();
    for turn in 0..6 {
        publish(h.log(), &[("a", "1"), ("last", "2"), ("b", "3"), ("last", "4")]);
        append(h.log(), group(&[("a", "5"), ("b", "6"), ("last", "7"), ("last", "8")]));
        h.log().trim(&topic(if turn % 2 == 0 { "a" } else { "b" }), TrimReason::Deleted).unwrap();
        if turn > 1 {
            tidy_all(h.log());
        }
        h.reopen(turn % 3 == 0, START + turn);
    }
    assert_eq!(bodies(h.log(), &["last"]), ["8"]);
}

#[test]
fn an_emptied_store_is_refused() {
    let mut h = OnDisk::new();
    publish(h.log(), &[("a", "1")]);
    h.crash(|dir| {
        with_tree(dir, "chunks", |_| ());
        fs::remove_file(dir.join("db")).unwrap();
    });
    assert!(matches!(h.open(START + 1).err(), Some(OpenError::Short(_) | OpenError::Corrupt(_))));
}

#[test]
fn a_log_without_its_own_watermark_is_refused() {
    let other = OnDisk::new();
    publish(other.log(), &[("a", "1"), ("a", "2")]);
    for replace in [None, Some(fs::read(other.dir().join("watermark")).unwrap()), Some(b"rubbish".to_vec())] {
        let mut h = OnDisk::new();
        publish(h.log(), &[("a", "1")]);
        h.crash(|dir| match replace {
            Some(bytes) => fs::write(dir.join("watermark"), bytes).unwrap(),
            None => fs::remove_file(dir.join("watermark")).unwrap(),
        });
        let error = h.open(START + 1).err().unwrap();
        assert!(matches!(error, OpenError::Short(_) | OpenError::Corrupt(_)), "{error}");
    }
}

#[test]
fn positions_that_were_never_stored_are_not_given_again_after_a_kill() {
    let mut h = OnDisk::new();
    publish(h.log(), &[("a", "1")]);
    let memory = Options { durability: Some(Durability::Memory), ..Options::default() };
    h.log().set_options(&Term::parse("memory").unwrap(), memory).unwrap();
    publish(h.log(), &[("memory", "2"), ("memory", "3")]);
    h.reopen(true, START + 1_000);
    // Killed before anything was stored.
    h.reopen(false, START + 2_000);
    assert_eq!((h.log().newest(), h.log().epochs().current().first), (Position(3), Position(4)));
    assert_eq!(stored(append(h.log(), group(&[("a", "4")]))).first.position, Position(4));
}

/// Commits without a pause, as under load, where the log is tidied only as often as it owes that.
fn saturate(log: &SledStore, commits: u64, mut messages: impl FnMut(u64) -> Group) {
    let mut untidied = 0;
    for commit in 0..commits {
        append(log, messages(commit));
        untidied += 1;
        if log.needs_tidying() || untidied == 64 {
            log.tidy_at(Timestamp(START)).unwrap();
            untidied = 0;
        }
    }
}

fn assert_in_bounds(log: &SledStore, messages_max: u64) {
    let stats = log.stats();
    assert!(stats.messages <= messages_max, "{} messages", stats.messages);
    // Beside the messages: the ballast, the journal, and what the engine's file may take before it is cleaned.
    let file_max = stats.bytes * 5 / 2 + (18 << 20);
    assert!(stats.file_bytes <= file_max, "{} bytes for {} of messages", stats.file_bytes, stats.bytes);
}

#[test]
fn under_load_retention_keeps_up() {
    let h = OnDisk::new();
    let options = Options { max_messages: Some(Bound(400)), ..Options::default() };
    h.log().set_options(&Term::parse("**").unwrap(), options).unwrap();
    let body = "x".repeat(900);
    let topics = ["a", "b", "c", "d"];
    saturate(h.log(), 200, |commit| group(&vec![(topics[commit as usize % 4], body.as_str()); 300]));
    // A step behind, each may have what came before the next.
    assert_in_bounds(h.log(), 4 * 400 + 2 * 600);
}

#[test]
fn under_load_compaction_keeps_up() {
    let h = OnDisk::new();
    let options = Options { keep: Some(Keep::Compact), ..Options::default() };
    h.log().set_options(&Term::parse("**").unwrap(), options).unwrap();
    let body = "x".repeat(900);
    saturate(h.log(), 150, |commit| {
        let mut all = group(&vec![("a", body.as_str()); 300]);
        for (n, draft) in (0..).zip(&mut all.drafts) {
            let key = (commit * 7919 + n * 104_729) % 2000;
            draft.extras = Some(Box::new(Extras { key: Some(key.to_string()), ..Extras::default() }));
        }
        all
    });
    assert_in_bounds(h.log(), 2000);
}

#[test]
fn a_log_in_which_nothing_dies_owes_nothing() {
    let h = OnDisk::new();
    let body = "x".repeat(900);
    for _ in 0..20 {
        append(h.log(), group(&vec![("a", body.as_str()); 300]));
        assert!(!h.log().needs_tidying());
    }
}
