//! Saving what is left of a damaged log: a new store with every message that can be read, at its position and with its
//! cursor. Positions are not given again, and how far messages may be missing is written down for every topic, so that
//! readers that have not seen them get a gap. Where the repaired log goes is not decided here.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io,
    path::Path,
};

use tailwire_core::{Store as _, StoreError};
use tailwire_model::{Epoch, EpochStart, Message, Opening, Position, Timestamp, Trim};
use uuid::Uuid;

use super::{Survey, Walked, engine::entries};
use crate::ages::Ages;
use crate::sled_store::{
    LogSettings, OpenError, SledStore,
    durability::{
        tree::StoreTree,
        watermark::{CommitMark, Watermark},
    },
    failure::{failed, guarded},
    layout::{
        FORMAT,
        chunk::{PackedEntry, pack},
        values::{
            EVERY_TOPIC, FORGOTTEN_TOPICS, TrimState, epoch_key, fragment_key, put_epoch, put_floor,
            put_lost, put_options, put_removed, put_trim, removed_key, take_key, take_latest,
        },
    },
    opening::engine::open_db,
    store::{META_CLEAN, META_FORMAT, META_ID, SledTrees},
};

/// Messages that are packed at once; memory that a repair takes.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_MESSAGES: usize = 1000;

/// The result of a repair.
#[derive(Debug)]
pub struct Repaired {
    /// The findings, and what was saved.
    pub walked: Walked,
    /// Messages that the repaired log has.
    pub messages: u64,
}

/// Why there is no repaired log.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The folder can't be made or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The disk has no room for it.
    #[error(
        "the new log may take {needed} bytes, and the disk has {available}; build it on another one, with --into"
    )]
    NoRoom {
        /// The bytes that it may take.
        needed: u64,
        /// The available bytes.
        available: u64,
    },
    /// The log is a replica, whose order has all of it.
    #[error(
        "it is a replica of a shared log, which fills an empty folder again: move this one away, and start"
    )]
    Replica,
    /// The new store can't be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It can't be opened.
    #[error("the repaired log can't be opened: {0}")]
    Open(#[from] OpenError),
    /// It has less than was put into it.
    #[error("the repaired log has {found} of the {wanted} messages that it was given")]
    Short {
        /// How many it has.
        found: u64,
        /// How many it should have.
        wanted: u64,
    },
}

/// Builds a sound log in the folder `into`, which is made, of what a survey can read; opens it, and closes it again.
///
/// # Errors
/// A [`RepairError`]; the log that was surveyed is as it was.
pub fn repair(survey: &Survey, into: &Path, now: Timestamp) -> Result<Repaired, RepairError> {
    if survey.ledger.is_shared {
        return Err(RepairError::Replica);
    }
    fs::create_dir(into)?;
    let (needed, available) = (survey.file_bytes, fs2::available_space(into)?);
    if available < needed {
        fs::remove_dir(into)?;
        return Err(RepairError::NoRoom { needed, available });
    }
    let db = open_db(into)?;
    let file = OpenOptions::new().read(true).write(true).open(into.join("db"))?;
    let store = guarded(|| SledTrees::new(db, Box::new(file), into).map_err(failed))?;
    let built = guarded(|| build(survey, &store, now));
    if built.is_err() {
        // When the engine is dropped it syncs, and panics if it can't.
        std::mem::forget(store.db.clone());
    }
    let walked = built?;
    drop(store);
    let wanted = walked.figures.messages;
    let log = SledStore::open(into, &LogSettings::default())?;
    let found = log.stats().messages;
    log.close()?;
    if found != wanted {
        return Err(RepairError::Short { found, wanted });
    }
    Ok(Repaired { walked, messages: found })
}

fn build(survey: &Survey, store: &SledTrees, now: Timestamp) -> Result<Walked, StoreError> {
    let mut packer =
        RepairPacker { store, messages: Vec::new(), bytes: 0, last: Position::ZERO, latest: Timestamp(0) };
    let walked = survey.walk(|message| packer.push(message))?;
    packer.flush()?;
    let stored = packer.last.max(survey.ledger.farthest_trim());
    let newest = survey.newest(stored).max(walked.lost_upto.unwrap_or_default());

    let last = store.last_chunks().next().transpose()?.map_or(Position::ZERO, |last| last.last);
    write_ledger(survey, store, newest, now).map_err(failed)?;
    if let Some(upto) = walked.lost_upto {
        let upto = upto.max(survey.ledger.lost_everywhere);
        store.volatile.insert(EVERY_TOPIC, put_lost(EVERY_TOPIC, upto)).map_err(failed)?;
    }
    let commits = survey.ledger.commits.max(survey.mark.map_or(0, |mark| mark.commits)) + 1;
    let id = survey.ledger.id.unwrap_or_else(Uuid::new_v4);
    store.meta.insert(META_ID, id.as_bytes()).map_err(failed)?;
    // As after a close in good order: the next epoch begins after every position that was ever given. Where that is not
    // known, it is an unclean one, and cursors beyond its end get a gap.
    if survey.mark.is_some() {
        store.write_clean(last, newest, commits).map_err(failed)?;
    } else {
        store.meta.remove(META_CLEAN).map_err(failed)?;
        store.write_commits(commits, Some(last), &[]).map_err(failed)?;
    }
    store.sync().map_err(failed)?;
    let mark = CommitMark { id, commits, newest: last, is_dirty: false };
    Watermark::begin(&store.dir, &mark).map_err(|error| StoreError::Failed(error.to_string()))?;
    Ok(walked)
}

/// Writes what is known besides the messages.
fn write_ledger(survey: &Survey, store: &SledTrees, newest: Position, now: Timestamp) -> sled::Result<()> {
    let ledger = &survey.ledger;
    store.meta.insert(META_FORMAT, FORMAT.to_le_bytes())?;
    let (draw, _) = Uuid::new_v4().as_u64_pair();
    let known = survey.epochs.as_ref().map(|epochs| epochs.starts().to_vec());
    let first = |epoch| EpochStart { epoch, first: newest.next(), opening: Opening::Created };
    for start in known.unwrap_or_else(|| Epoch::opening(now.0, None, draw).map(first).into_iter().collect()) {
        store.epochs.insert(epoch_key(start.epoch), put_epoch(&start))?;
    }
    for (topic, (trim, time)) in &ledger.trims {
        // What it had before it was forgotten is left out, too.
        let forgotten = ledger.forgotten.get(topic).copied().unwrap_or_default();
        let trim = Trim { upto: trim.upto.max(forgotten), ..*trim };
        let topic = topic.as_str().as_bytes();
        store.trims.insert(topic, put_trim(topic, trim, *time, TrimState::Known))?;
    }
    // Of what is forgotten nothing gets into the new log.
    if ledger.floor.upto > Position::ZERO {
        store.trims.insert(FORGOTTEN_TOPICS, put_floor(ledger.floor))?;
    }
    // The farthest of each topic: the bytes of all of them stay behind.
    let farthest: BTreeMap<_, _> = ledger.removed.values().map(|own| (&own.topic, own)).collect();
    for (topic, own) in farthest {
        let key = removed_key(topic, own.trim.upto);
        let value = put_removed(&key, own.trim.reason, own.time, true);
        store.removed.insert(&key, value)?;
    }
    for (topic, upto) in &ledger.lost {
        let topic = topic.as_str().as_bytes();
        store.volatile.insert(topic, put_lost(topic, *upto))?;
    }
    if ledger.lost_everywhere > Position::ZERO {
        store.volatile.insert(EVERY_TOPIC, put_lost(EVERY_TOPIC, ledger.lost_everywhere))?;
    }
    for (term, options) in &ledger.options {
        let term = term.as_str().as_bytes();
        store.options.insert(term, put_options(term, options))?;
    }
    let Some(engine) = &survey.engine else { return Ok(()) };
    copy(&engine.store().keys, &store.keys, |key, value| take_key(key, value).is_ok())?;
    copy(&engine.store().latest, &store.latest, |key, value| take_latest(key, value).is_ok())
}

/// Copies the entries that can be read.
fn copy(from: &StoreTree, to: &StoreTree, is_legible: impl Fn(&[u8], &[u8]) -> bool) -> sled::Result<()> {
    for (key, value) in entries(from).map_while(Result::ok) {
        if is_legible(&key, &value) {
            to.insert(key, value)?;
        }
    }
    Ok(())
}

/// Packs messages of one epoch into chunks, and stores them.
struct RepairPacker<'a> {
    store: &'a SledTrees,
    messages: Vec<Message>,
    bytes: usize,
    last: Position,
    latest: Timestamp,
}

impl RepairPacker<'_> {
    fn push(&mut self, message: Message) -> Result<(), StoreError> {
        let is_of_another_epoch =
            self.messages.last().is_some_and(|last| last.cursor.epoch != message.cursor.epoch);
        if is_of_another_epoch || self.bytes > BATCH_BYTES || self.messages.len() == BATCH_MESSAGES {
            self.flush()?;
        }
        self.bytes += message.draft.cost();
        self.last = message.position();
        self.messages.push(message);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        // Nothing is known of clocks but the times.
        self.store.put_lifetimes(&self.messages, &Ages::default()).map_err(failed)?;
        // They are there, independent of their group.
        let groups: Vec<_> = (0..self.messages.len()).map(|at| at..at + 1).collect();
        for entry in pack(&self.messages, &groups, &mut self.latest) {
            let inserted = match entry {
                PackedEntry::Fragment(position, number, value) => {
                    self.store.fragments.insert(fragment_key(position, number), value).map(drop)
                }
                PackedEntry::Chunk(first, value) => self.store.put_chunk(first, value),
            };
            inserted.map_err(failed)?;
        }
        self.messages.clear();
        self.bytes = 0;
        Ok(())
    }
}
