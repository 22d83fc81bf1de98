//! The log on disk, on sled. Entries are applied into a batch in memory; a commit packs it into chunks, writes them, syncs
//! them where that is asked for, and only then lets the index and the watermark show them. What is stored and where stands
//! in `store`, the layouts in `chunk`, `record` and `values`.

mod dump;
mod durability;
mod failure;
mod forgotten;
pub mod inspect;
mod layout;
mod lifetimes;
mod maintenance;
mod opening;
mod pager;
mod read;
mod remembered;
mod removed;
mod seek;
mod store;

#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use tailwire_core::{
    StoreError,
    log::{Bounds, Budget, Feed, LogStats, StorePage, TopicInfo, Window},
    store::{Entry, Outcome, Token, Write},
};
use tailwire_model::{
    Epochs, Filter, Message, Opening, Pattern, Position, Rules, Timestamp, Topic, Trim, Usage,
    admission::KeyRecord,
};
use uuid::Uuid;

use self::{
    durability::commit::{CommitWriter, Debt, WriterState},
    failure::guarded,
    forgotten::ForgottenRemains,
    maintenance::{
        ballast::Ballast, behind::Behind, figures::Counts, folder_watch::FolderWatch, recount::Recount,
    },
    opening::open::Opened,
    store::SledTrees,
};
pub use self::{
    maintenance::ballast::NoRoom,
    opening::{error::OpenError, open::LogSettings},
};
use crate::{
    batch::{CompactionKey, Latest, Memory, Retained},
    forgetting::Forgetting,
    index::{FilterWalk, Index},
    retention::Retention,
    ring::Ring,
};

/// A log in a directory of its own.
pub struct SledStore {
    store: SledTrees,
    ballast: Ballast,
    folder_watch: FolderWatch,
    id: Uuid,
    found: Opening,
    writer: Mutex<CommitWriter>,
    /// The committed messages. Locked for writing only between a sync and the next append, never during one.
    index: RwLock<Index>,
    /// Messages that are committed and not stored. Locked after `index`, where both are.
    ring: RwLock<Ring>,
    rules: RwLock<Arc<Rules>>,
    epochs: RwLock<Arc<Epochs>>,
    retention: Mutex<Retention>,
    forgetting: Mutex<Forgetting>,
    /// What is left of forgotten topics.
    remains: Mutex<ForgottenRemains>,
    /// Compacted topics whose messages are to be counted again.
    recount: Mutex<Recount>,
    /// Changes only while `index` is locked for writing.
    committed: AtomicU64,
    /// How the index is written behind.
    behind: Mutex<Behind>,
    /// Up to where obsolete messages were last purged; then it begins again.
    purged_upto: Mutex<Position>,
    /// The span of time before which no idempotency key is left.
    expired_upto: Mutex<u32>,
    counts: Counts,
}

impl SledStore {
    /// Opens the store in `dir`, or makes a new one there.
    ///
    /// # Errors
    /// An [`OpenError`].
    pub fn open(dir: &Path, settings: &LogSettings) -> Result<Self, OpenError> {
        let Opened {
            store,
            ballast,
            folder_watch,
            watermark,
            mark,
            found,
            head,
            mut index,
            indexed,
            lost,
            compacted,
            remains,
        } = opening::open::open(dir, settings)?;
        let recount = if found == Opening::Unclean {
            // The index may have been written without messages that are taken, and are stored still.
            compacted.iter().for_each(|topic| index.leave(topic.as_str()));
            Recount::of(compacted)
        } else {
            Recount::default()
        };
        let writer = CommitWriter {
            head: head.clone(),
            state: WriterState::Open,
            followers: Vec::new(),
            applied: head.newest.0.saturating_sub(indexed.position.0),
            watermark,
            mark,
            unsynced: None,
            uncleaned: 0,
            grown: 0,
            debt: Debt::default(),
            complaint: None,
            volatile: HashSet::new(),
        };
        Ok(Self {
            store,
            ballast,
            folder_watch,
            id: mark.id,
            found,
            writer: Mutex::new(writer),
            index: RwLock::new(index),
            ring: RwLock::new(Ring::new(lost)),
            retention: Mutex::new(Retention::new(&head.rules, settings.max_bytes)),
            forgetting: Mutex::new(Forgetting::new(settings.forget_after_ms)),
            remains: Mutex::new(remains),
            recount: Mutex::new(recount),
            rules: RwLock::new(head.rules),
            epochs: RwLock::new(head.epochs),
            committed: AtomicU64::new(head.newest.0),
            behind: Mutex::new(Behind::new(indexed)),
            purged_upto: Mutex::default(),
            expired_upto: Mutex::default(),
            counts: Counts::new(mark),
        })
    }

    /// The log's own name, given when it was made.
    pub fn id(&self) -> Uuid {
        self.id
    }

    fn newest_committed(&self) -> Position {
        Position(self.committed.load(Ordering::Acquire))
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        // When the engine is dropped it syncs, and panics if it can't: after a failure there is nothing left to sync.
        if matches!(self.writer.get_mut().state, WriterState::Failed(_)) {
            std::mem::forget(self.store.db.clone());
        }
    }
}

impl tailwire_core::Store for SledStore {
    fn found(&self) -> Opening {
        self.found
    }

    fn token(&self) -> Token {
        self.writer.lock().head.token.clone()
    }

    fn newest(&self) -> Position {
        self.newest_committed()
    }

    fn epochs(&self) -> Arc<Epochs> {
        self.epochs.read().clone()
    }

    fn rules(&self) -> Arc<Rules> {
        self.rules.read().clone()
    }

    fn apply(&self, entries: Vec<Entry>, sync: bool) -> Result<Vec<Outcome>, StoreError> {
        self.apply_entries(entries, sync)
    }

    fn due(&self, now: Timestamp) -> Result<(Vec<Write>, Option<u64>), StoreError> {
        self.due_step(now)
    }

    fn tidy(&self) -> Result<Option<u64>, StoreError> {
        guarded(|| self.tidy_step())
    }

    fn needs_tidying(&self) -> bool {
        self.writer.lock().debt.is_due()
    }

    fn follow(&self, feed: Arc<dyn Feed>) -> Position {
        let mut writer = self.writer.lock();
        writer.followers.push(feed);
        self.newest_committed()
    }

    fn read(
        &self,
        filter: &Filter,
        after: Position,
        upto: Position,
        budget: Budget,
    ) -> Result<StorePage, StoreError> {
        guarded(|| self.read_page(filter, after, upto, budget))
    }

    fn before_last(&self, filter: &Filter, upto: Position, budget: Budget) -> Result<Window, StoreError> {
        guarded(|| self.find_before_last(filter, upto, budget))
    }

    fn before_time(&self, time: Timestamp) -> Result<Position, StoreError> {
        guarded(|| self.find_before_time(time))
    }

    fn get(&self, position: Position) -> Result<Option<Message>, StoreError> {
        guarded(|| self.read_one(position))
    }

    fn bounds(&self, filter: &Filter) -> Bounds {
        let (mut walk, mut bounds) = (FilterWalk::default(), Bounds::default());
        while self.index.read().add_bounds(filter, &mut walk, &mut bounds) {}
        let ring = self.ring.read();
        if !ring.is_unused() {
            bounds.head = bounds.head.into_iter().chain(ring.head(filter)).min();
            let lost = ring.lost(filter, Position::ZERO);
            bounds.trimmed = Trim::farther(bounds.trimmed, lost);
            bounds.cleared = Trim::farther(bounds.cleared, lost);
        }
        bounds
    }

    fn trimmed(&self, filter: &Filter, after: Position) -> Option<Trim> {
        self.trimmed_beyond(filter, after)
    }

    fn topics(&self, prefix: &str, from: Option<&str>, limit: usize) -> Vec<TopicInfo> {
        let index = self.index.read();
        let mut infos = index.list(prefix, from, limit);
        let ring = self.ring.read();
        if !ring.is_unused() {
            ring.count(&mut infos);
        }
        infos
    }

    fn sum_by(&self, patterns: &[Pattern]) {
        self.index.write().set_patterns(patterns);
    }

    fn sum(&self, number: usize) -> Usage {
        self.index.read().sum(number)
    }

    fn stats(&self) -> LogStats {
        self.figures()
    }

    fn keys(&self, visit: &mut dyn FnMut(&str, &KeyRecord)) -> Result<(), StoreError> {
        let (head, time) = (self.writer.lock().head.clone(), self.index.read().newest_time());
        let mut visit_kept = |name: &str, record: &KeyRecord| {
            if head.keeps(record, time) {
                visit(name, record);
            }
        };
        guarded(|| self.store.visit_keys(self.newest_committed(), &self.epochs.read(), &mut visit_kept))
    }

    fn has_key(&self, scoped: &str) -> Result<bool, StoreError> {
        let (head, time) = (self.writer.lock().head.clone(), self.index.read().newest_time());
        let record = guarded(|| self.key(scoped, time))?;
        Ok(record.is_some_and(|record| head.keeps(&record, time)))
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.store.room.suffices(bytes)
    }

    fn has_room_to_tidy(&self) -> bool {
        self.store.room.suffices_to_tidy()
    }

    fn close(&self) -> Result<(), StoreError> {
        let mut writer = self.writer.lock();
        match writer.check() {
            Ok(()) => self.finish(&mut writer),
            Err(StoreError::Closed) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Memory for SledStore {
    fn key(&self, scoped: &str, time: Timestamp) -> Result<Option<KeyRecord>, StoreError> {
        self.store.key(scoped, time, self.newest_committed(), &self.epochs.read())
    }

    fn latest(&self, key: &CompactionKey) -> Result<Option<Latest>, StoreError> {
        let latest = self.store.latest(key, self.newest_committed(), &self.epochs.read())?;
        let is_forgotten =
            |latest: &Latest| self.index.read().is_forgotten(key.topic.as_str(), latest.position);
        Ok(latest.filter(|latest| !is_forgotten(latest)))
    }

    fn retained(&self, position: Position) -> Result<Option<Retained>, StoreError> {
        self.find_retained(position)
    }

    fn was_removed(&self, topic: &Topic, position: Position) -> Result<bool, StoreError> {
        // Most topics have lost none, and are not looked for in the store.
        let may_be = self.index.read().may_have_removed(topic.as_str(), position);
        Ok(may_be && self.find_retained(position)?.is_none())
    }

    fn span(&self, topic: &Topic, after: Position, upto: Position) -> Result<Vec<Message>, StoreError> {
        let all = Budget { messages: usize::MAX, bytes: usize::MAX, scan_bytes: usize::MAX };
        let filter = Filter::from(topic.clone());
        let (mut messages, mut reached) = (Vec::new(), after);
        let upto = upto.min(self.newest_committed());
        // A page may come short of what there is.
        while reached < upto {
            let page = self.read_stored(&filter, reached, upto, all)?;
            reached = page.scanned;
            messages.extend(page.messages);
        }
        Ok(messages)
    }
}
