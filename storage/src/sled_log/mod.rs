//! The log on disk, on sled. The committer's thread appends into a batch in memory; a commit packs it into chunks,
//! writes and syncs them, and only then lets the index and the watermark show them. What is stored and where stands
//! in `store`, the layouts in `chunk`, `record` and `values`.

mod durability;
pub mod inspect;
mod layout;
mod maintenance;
mod opening;
mod read;
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
use tailwire_core::log::{Appended, Bounds, Budget, Feed, Group, Log, LogError, LogStats, Page, TopicInfo};
use tailwire_model::{
    Draft, Epochs, Filter, Message, Opening, Options, Position, Rules, Term, Timestamp, Topic, Trim,
    TrimReason, admission::KeyRecord,
};
use uuid::Uuid;

use self::{
    durability::commit::{Debt, State, Writer},
    maintenance::{ballast::Ballast, behind::Behind, figures::Counts, places::Places},
    opening::open::Opened,
    store::{Store, guarded},
};
pub use self::{
    maintenance::ballast::NoRoom,
    opening::open::{LogSettings, OpenError},
};
use crate::{
    ages::{Ages, Steady},
    batch::{Batch, Holder, Memory, Place},
    index::Index,
    retention::Retention,
    ring::Ring,
};

/// A log in a directory of its own.
pub struct SledLog {
    store: Store,
    ballast: Ballast,
    places: Places,
    id: Uuid,
    epochs: Arc<Epochs>,
    writer: Mutex<Writer>,
    /// What is committed. Locked for writing only between a sync and the next append, never during one.
    index: RwLock<Index>,
    /// What is committed and not stored. Locked after `index`, where both are.
    ring: RwLock<Ring>,
    rules: RwLock<Arc<Rules>>,
    retention: Mutex<Retention>,
    /// Changes only while `index` is locked for writing.
    committed: AtomicU64,
    followers: Mutex<Vec<Arc<dyn Feed>>>,
    /// How the index is written behind.
    behind: Mutex<Behind>,
    /// Up to where superseded messages were last buried; then it begins again.
    buried_upto: Mutex<Position>,
    /// The span of time before which no idempotency key is left.
    expired_upto: Mutex<u32>,
    counts: Counts,
}

impl SledLog {
    /// Opens the log in `dir`, or makes a new one there, and begins an epoch.
    ///
    /// # Errors
    /// An [`OpenError`]; then no epoch was begun, unless it is [`OpenError::Io`], where that is unknown.
    pub fn open(dir: &Path, now: Timestamp, settings: &LogSettings) -> Result<Self, OpenError> {
        let opened = opening::open::open(dir, now, settings)?;
        let Opened {
            store,
            ballast,
            places,
            watermark,
            mark,
            epochs,
            mut index,
            rules,
            indexed,
            lost,
            newest,
        } = opened;
        let ages = Ages::new(now, newest.next());
        index.set_ages(ages.clone());
        let writer = Writer {
            batch: Batch::new(newest, ages, Steady::new(now, settings.steady), rules.clone()),
            state: State::Open,
            watermark,
            mark,
            unsynced: None,
            uncleaned: 0,
            grown: 0,
            owed: Debt::default(),
            complaint: None,
            volatile: HashSet::new(),
        };
        let clean = epochs.current().opening != Opening::Unclean;
        let retention = Retention::new(&rules, settings.max_bytes, clean);
        Ok(Self {
            store,
            ballast,
            places,
            id: mark.id,
            epochs: Arc::new(epochs),
            writer: Mutex::new(writer),
            index: RwLock::new(index),
            ring: RwLock::new(Ring::new(lost)),
            retention: Mutex::new(retention),
            rules: RwLock::new(rules),
            committed: AtomicU64::new(newest.0),
            followers: Mutex::default(),
            behind: Mutex::new(Behind::new(indexed, newest)),
            buried_upto: Mutex::default(),
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

impl Drop for SledLog {
    fn drop(&mut self) {
        // When the engine is dropped it syncs, and panics if it can't: after a failure there is nothing left to sync.
        if matches!(self.writer.get_mut().state, State::Failed(_)) {
            std::mem::forget(self.store.db.clone());
        }
    }
}

impl Log for SledLog {
    fn epochs(&self) -> Arc<Epochs> {
        self.epochs.clone()
    }

    fn committed(&self) -> Position {
        self.newest_committed()
    }

    fn append(&self, groups: Vec<Group>, now: Timestamp) -> Result<Vec<Appended>, LogError> {
        let mut writer = self.writer.lock();
        writer.check()?;
        let bytes: usize = groups.iter().flat_map(|group| &group.drafts).map(Draft::cost).sum();
        let batch = &mut writer.batch;
        if !self.store.has_room(batch.changes().bytes + bytes) {
            return Err(LogError::Full);
        }
        guarded(|| batch.append(groups, now, &self.epochs, &self.index.read(), self))
    }

    fn trim(&self, topic: &Topic, reason: TrimReason) -> Result<(), LogError> {
        let mut writer = self.writer.lock();
        writer.check()?;
        if !self.store.has_room_to_tidy() {
            return Err(LogError::Full);
        }
        writer.batch.trim(topic, reason, &self.index.read());
        Ok(())
    }

    fn rules(&self) -> Arc<Rules> {
        self.rules.read().clone()
    }

    fn set_options(&self, term: &Term, options: Options) -> Result<(), LogError> {
        let mut writer = self.writer.lock();
        writer.check()?;
        if !self.store.has_room_to_tidy() {
            return Err(LogError::Full);
        }
        writer.batch.set_options(term, options)
    }

    fn commit(&self) -> Result<Position, LogError> {
        self.commit_batch(&mut self.writer.lock())
    }

    fn follow(&self, feed: Arc<dyn Feed>) {
        self.followers.lock().push(feed);
    }

    fn read(
        &self,
        filter: &Filter,
        after: Position,
        upto: Position,
        budget: Budget,
    ) -> Result<Page, LogError> {
        guarded(|| self.read_page(filter, after, upto, budget))
    }

    fn before_last(&self, filter: &Filter, count: usize) -> Result<Position, LogError> {
        guarded(|| self.find_before_last(filter, count))
    }

    fn get(&self, position: Position) -> Result<Option<Message>, LogError> {
        guarded(|| self.read_one(position))
    }

    fn bounds(&self, filter: &Filter) -> Bounds {
        let index = self.index.read();
        let mut bounds = index.bounds(filter);
        let ring = self.ring.read();
        if !ring.is_unused() {
            bounds.head = bounds.head.into_iter().chain(ring.head(filter)).min();
            bounds.trimmed = Trim::farther(bounds.trimmed, ring.lost(filter, Position::ZERO));
        }
        bounds
    }

    fn trimmed(&self, filter: &Filter, after: Position) -> Option<Trim> {
        let index = self.index.read();
        Trim::farther(index.trimmed_after(filter, after), self.ring.read().lost(filter, after))
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

    fn stats(&self) -> LogStats {
        self.figures()
    }

    fn is_full(&self) -> bool {
        !self.store.has_room(0)
    }

    fn tidy(&self, now: Timestamp) -> Result<Option<u64>, LogError> {
        guarded(|| self.tidy_step(now))
    }

    fn owes_tidying(&self) -> bool {
        self.writer.lock().owed.is_due()
    }

    fn close(&self) -> Result<(), LogError> {
        let mut writer = self.writer.lock();
        match writer.check() {
            Ok(()) => self.finish(&mut writer),
            Err(LogError::Closed) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Memory for SledLog {
    fn key(&self, scoped: &str, time: Timestamp) -> Result<Option<KeyRecord>, LogError> {
        self.store.key(scoped, time, &self.epochs)
    }

    fn holder(&self, place: &Place) -> Result<Option<Holder>, LogError> {
        self.store.holder(place, &self.epochs)
    }
}
