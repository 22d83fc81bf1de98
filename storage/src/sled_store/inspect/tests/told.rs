//! The promise of a repair: of what was ever acknowledged a reader gets every message that it has not seen, or a gap that
//! reaches as far. Held against a log of two epochs with deleted, forgotten and large messages, which is damaged at each of
//! its values.

use std::{collections::HashSet, fs, path::Path};

use tailwire_core::store::Write;
use tailwire_model::{
    Cursor, Epochs,
    epochs::CursorValidity,
    gap::{Extent, GapReason, Resume},
};

use super::*;

/// What was acknowledged, in the order of cursors.
type Acknowledged = Vec<(Cursor, Topic)>;

/// Values that are damaged at most: each by a cut of the file in it, and by a bit of it.
const DAMAGED_MAX: usize = 12;

fn forget(log: &SledStore, name: &str) {
    log.trim(&topic(name), TrimReason::Deleted).unwrap();
    log.tidy_all(Timestamp(START));
    let tail = log.bounds(&filter(name)).tail;
    log.write(vec![Write::Forget(topic(name), tail)], Timestamp(START)).unwrap();
    assert!(log.topics(name, None, 1).is_empty(), "{name} is forgotten");
}

/// A log that ends in good order or not, and what it had.
fn two_epochs(bench: &Bench, closes: bool) -> Acknowledged {
    let mut acknowledged = Acknowledged::new();
    for run in 0..2 {
        let log = bench.open(START + run * 5_000);
        let mut publish = |messages: &[(&str, &str)]| {
            let after = log.newest();
            publish(&log, messages);
            let page = log.read(&filter("**"), after, Position::MAX, UNBOUNDED).unwrap();
            acknowledged.extend(page.messages.iter().map(|own| (own.cursor, own.topic().clone())));
        };
        publish(&five());
        publish(&[("gone", "x"), ("old/1", "x"), ("old/2", "x"), ("a", &"large body ".repeat(2_000))]);
        log.trim(&topic("gone"), TrimReason::Deleted).unwrap();
        forget(&log, "old/1");
        publish(&[("old/1", "again"), ("b", "y"), ("gone", "again")]);
        forget(&log, "old/2");
        // In one chunk with others: too little of it is dead for it to be written anew.
        let after = log.newest();
        let many = ["a", "b", "old/3", "a", "b", "c", "a", "b"].map(|name| (name, "together"));
        log.append(vec![group(&many)], Timestamp(START)).unwrap();
        let page = log.read(&filter("**"), after, Position::MAX, UNBOUNDED).unwrap();
        acknowledged.extend(page.messages.iter().map(|own| (own.cursor, own.topic().clone())));
        forget(&log, "old/3");
        if closes {
            log.close().unwrap();
        }
        bench.end(log);
    }
    assert!(acknowledged.is_sorted_by_key(|(cursor, _)| *cursor));
    acknowledged
}

fn resumed(log: &SledStore, epochs: &Epochs, filter: &Filter, cursor: Cursor) -> Resume {
    let committed = log.newest();
    let extent = match epochs.validity(cursor, committed) {
        CursorValidity::Good => {
            Extent { committed, head: None, trimmed: log.trimmed(filter, cursor.position) }
        }
        _ => log.bounds(filter).extent(committed),
    };
    resume(epochs, &extent, cursor, None)
}

/// A reader, and a message that it neither gets nor is told of.
fn untold(log: &SledStore, acknowledged: &Acknowledged) -> Option<String> {
    let there: HashSet<Cursor> = all(log).iter().map(|message| message.cursor).collect();
    let epochs = log.epochs();
    for (at, (seen, _)) in acknowledged.iter().enumerate() {
        for (cursor, topic) in &acknowledged[at + 1..] {
            let resumed = resumed(log, &epochs, &Filter::from(topic.clone()), *seen);
            let is_read = there.contains(cursor) && cursor.position > resumed.after;
            let is_told = resumed.gap.is_some_and(|gap| gap.to >= *cursor || gap.reason == GapReason::Epoch);
            if !is_read && !is_told {
                return Some(format!("{cursor} of {topic} after {seen}: {resumed:?} of {epochs:?}"));
            }
        }
    }
    None
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn every_loss_is_told(closes: bool) {
    let whole = Bench::new();
    let acknowledged = two_epochs(&whole, closes);
    let db = fs::read(whole.data().join("db")).unwrap();
    let values: Vec<usize> = memchr::memmem::find_iter(&db, b"\xF5tw").collect();
    assert!(values.len() > DAMAGED_MAX, "{} values", values.len());
    let mut lost = 0;
    for at in values.iter().step_by(values.len().div_ceil(DAMAGED_MAX)) {
        for cuts in [true, false] {
            let bench = Bench::new();
            copy(&whole.data(), &bench.data());
            let path = bench.data().join("db");
            if cuts {
                fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(*at as u64 + 16).unwrap();
            } else {
                flip(&path, at + 16);
            }
            let log = bench.repair(START + 60_000);
            lost += usize::from(log.stats().messages < 20);
            let missed = untold(&log, &acknowledged);
            assert_eq!(missed, None, "closed: {closes}, {} at {at}", if cuts { "cut" } else { "a bit" });
            // Nothing comes at a place that was given.
            publish(&log, &[("a", "newer")]);
            assert!(all(&log).pop().unwrap().cursor > acknowledged.last().unwrap().0);
        }
    }
    // The journal of an unclean end has most of it.
    assert!(lost > if closes { 3 } else { 0 }, "damage that loses much: {lost}");
}

#[test]
fn a_repaired_log_tells_of_every_loss_after_a_clean_end() {
    every_loss_is_told(true);
}

#[test]
fn a_repaired_log_tells_of_every_loss_after_an_unclean_end() {
    every_loss_is_told(false);
}

#[test]
fn a_log_without_damage_tells_of_every_loss() {
    let bench = Bench::new();
    let acknowledged = two_epochs(&bench, true);
    let log = bench.open(START + 60_000);
    assert_eq!(untold(&log, &acknowledged), None);
}

/// The engine's files are older than the watermark, and know nothing of the last epoch.
#[test]
fn a_log_that_ends_too_early_tells_of_its_end() {
    for accepts_loss in [true, false] {
        let bench = Bench::new();
        let log = bench.open(START);
        publish(&log, &five()[..2]);
        bench.end(log);
        let older = bench.0.path().join("older");
        copy(&bench.data(), &older);
        let log = bench.open(START + 5_000);
        publish(&log, &five());
        let acknowledged = all(&log).iter().map(|own| (own.cursor, own.topic().clone())).collect();
        bench.end(log);
        fs::copy(bench.data().join("watermark"), older.join("watermark")).unwrap();
        fs::remove_dir_all(bench.data()).unwrap();
        fs::rename(&older, bench.data()).unwrap();
        let settings = LogSettings { accepts_loss, ..LogSettings::default() };
        let log = if accepts_loss {
            crate::testing::open(&bench.data(), Timestamp(START + 10_000), &settings).unwrap()
        } else {
            bench.repair(START + 10_000)
        };
        assert_eq!(untold(&log, &acknowledged), None, "accepted: {accepts_loss}");
        assert_eq!(all(&log).len(), 2);
    }
}
