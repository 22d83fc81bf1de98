//! Figures of the log that is open, at no cost for a request: what nobody else keeps in memory is counted here as the
//! log is written, and never by going through it. `tailwire log stats` counts the same of a log that is closed.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tailwire_core::{StoreError, log::LogStats};
use tailwire_model::Position;

use crate::sled_store::{
    SledStore,
    durability::watermark::CommitMark,
    failure::{corrupt, guarded},
    inspect::bytes_below,
    layout::FORMAT,
    layout::record::Record,
};

/// Chunks that one look for the oldest message goes through at most.
const HEAD_CHUNKS: usize = 64;

/// Counters that only the figures need.
#[derive(Debug)]
pub(crate) struct Counts {
    /// The number of the last commit that was written.
    commits: AtomicU64,
    /// The last one that was synced, and so may have been acknowledged.
    synced: Mutex<CommitMark>,
    /// Before this no stored message is retained.
    head_from: Mutex<Position>,
}

impl Counts {
    /// Of a log that was just opened.
    pub(crate) fn new(mark: CommitMark) -> Self {
        Self { commits: mark.commits.into(), synced: mark.into(), head_from: Mutex::default() }
    }

    pub(crate) fn written(&self, mark: &CommitMark) {
        self.commits.store(mark.commits, Ordering::Relaxed);
    }

    pub(crate) fn synced(&self, mark: &CommitMark) {
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
