//! Figures of the log that is open, at no cost to whoever asks: what nobody else keeps in memory is counted here as the
//! log is written, and never by going through it. `tailwire log stats` counts the same of a log that is closed.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use sled::Tree;
use tailwire_core::{StoreError, log::LogStats};
use tailwire_model::Position;

use crate::sled_store::{
    SledStore,
    durability::watermark::Mark,
    inspect::bytes_below,
    layout::record::Record,
    opening::open::FORMAT,
    store::{corrupt, failed, guarded},
};

/// Chunks that one look for the oldest message goes through at most.
const HEAD_CHUNKS: usize = 64;
/// Keys of an earlier process that one step counts.
const STEP_KEYS: usize = 512;

/// What is counted for the figures alone.
#[derive(Debug)]
pub(crate) struct Counts {
    /// The number of the last commit that was written.
    commits: AtomicU64,
    /// The last one that was synced, and so may have been acknowledged.
    synced: Mutex<Mark>,
    /// Before this no stored message is retained.
    head_from: Mutex<Position>,
}

impl Counts {
    /// Of a log that was just opened.
    pub(crate) fn new(mark: Mark) -> Self {
        Self { commits: mark.commits.into(), synced: mark.into(), head_from: Mutex::default() }
    }

    pub(crate) fn written(&self, mark: &Mark) {
        self.commits.store(mark.commits, Ordering::Relaxed);
    }

    pub(crate) fn synced(&self, mark: &Mark) {
        self.written(mark);
        *self.synced.lock() = *mark;
    }
}

impl SledStore {
    pub(crate) fn figures(&self) -> LogStats {
        let stored_head = guarded(|| self.find_head()).unwrap_or_default();
        let file_bytes = bytes_below(&self.store.dir).or_else(|_| self.store.db.size_on_disk());
        let synced = *self.counts.synced.lock();
        let index = self.index.read();
        let ring = self.ring.read();
        let (topics, messages) = index.totals();
        let (volatile, volatile_bytes) = ring.size();
        LogStats {
            id: Some(self.id.to_string().into()),
            format: Some(FORMAT),
            topics,
            messages: messages + volatile,
            bytes: index.bytes() + volatile_bytes,
            file_bytes: file_bytes.unwrap_or(0),
            head: stored_head.into_iter().chain(ring.oldest()).min(),
            commits: self.counts.commits.load(Ordering::Relaxed),
            acknowledged: Some((synced.commits, synced.newest)),
            trims: index.trim_count() as u64,
            keys: self.store.key_count.get(),
            options: self.rules.read().set_count() as u64,
        }
    }

    /// The oldest stored message that is retained. It only ever moves on, so the look begins where the last one ended; one
    /// that meets too much that is dead and has yet to be removed ends there, before the oldest.
    fn find_head(&self) -> Result<Option<Position>, StoreError> {
        let mut from = self.counts.head_from.lock();
        let committed = self.newest_committed();
        for chunk in self.store.chunks_after(*from).take(HEAD_CHUNKS) {
            let chunk = chunk?;
            for record in chunk.records() {
                let Record { position, topic, .. } =
                    record.map_err(|damage| corrupt("chunk", chunk.first, damage))?;
                if position > committed {
                    return Ok(None);
                }
                if position > *from && !self.index.read().is_dead(topic, position) {
                    *from = position.previous();
                    return Ok(Some(position));
                }
            }
            *from = chunk.last.max(*from);
        }
        Ok((*from < committed && self.index.read().totals().1 > 0).then(|| from.next()))
    }
}

/// How many idempotency keys are stored. Those that an earlier process left are counted in steps, as there may be many,
/// in the order of the tree; what comes and goes meanwhile counts if it stands before the place that was reached.
#[derive(Debug, Default)]
pub(crate) struct KeyCount(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    keys: u64,
    /// Keys before this are counted.
    reached: Vec<u8>,
    /// All are.
    all: bool,
}

impl Counted {
    fn has(&self, key: &[u8]) -> bool {
        self.all || *key < *self.reached
    }
}

impl KeyCount {
    pub(crate) fn get(&self) -> u64 {
        self.0.lock().keys
    }

    /// A key was stored that was not there.
    pub(crate) fn added(&self, key: &[u8]) {
        let mut counted = self.0.lock();
        counted.keys += u64::from(counted.has(key));
    }

    /// A key was removed.
    pub(crate) fn removed(&self, key: &[u8]) {
        let mut counted = self.0.lock();
        counted.keys -= u64::from(counted.has(key));
    }

    /// Counts some of those that an earlier process left; answers whether more are left. Nothing is stored or removed
    /// meanwhile.
    pub(crate) fn step(&self, tree: &Tree) -> Result<bool, StoreError> {
        let mut counted = self.0.lock();
        if counted.all {
            return Ok(false);
        }
        let mut rest = tree.range(counted.reached.clone()..).keys();
        let some = rest.by_ref().take(STEP_KEYS).try_fold(0, |sum, key| key.map(|_| sum + 1));
        counted.keys += some.map_err(failed)?;
        match rest.next() {
            Some(next) => counted.reached = next.map_err(failed)?.to_vec(),
            None => counted.all = true,
        }
        Ok(!counted.all)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn keys_that_come_and_go_while_others_are_counted_count_once() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let key = |n: usize| (n as u32).to_be_bytes();
        for n in 0..2 * STEP_KEYS {
            db.insert(key(n), b"").unwrap();
        }
        let count = KeyCount::default();
        assert!(count.step(&db).unwrap());
        assert_eq!(count.get(), STEP_KEYS as u64);
        for n in [0, 2 * STEP_KEYS - 1] {
            db.remove(key(n)).unwrap();
            count.removed(&key(n));
        }
        db.insert(key(3 * STEP_KEYS), b"").unwrap();
        count.added(&key(3 * STEP_KEYS));
        while count.step(&db).unwrap() {}
        assert_eq!(count.get(), db.len() as u64);
        db.insert(key(4 * STEP_KEYS), b"").unwrap();
        count.added(&key(4 * STEP_KEYS));
        assert_eq!(count.get(), db.len() as u64);
    }
}
